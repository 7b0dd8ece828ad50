"""How codebooks learn: k-means to begin with, then exponential moving averages, and refill of idle entries."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from audiocodec.model.quantizer import Quantized, ResidualQuantizer, nearest

KMEANS_ROUNDS = 12


def kmeans(vectors: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Centres [K, D] of vectors [N, D] by Lloyd's rounds from random vectors; empty clusters restart at random."""
    centres = pick(vectors, n_clusters, generator)
    for _ in range(KMEANS_ROUNDS):
        counts, sums = assign(vectors, nearest(vectors.T.unsqueeze(0), centres)[0], n_clusters)
        means = sums / counts.clamp(min=1).unsqueeze(1)
        centres = torch.where(counts.unsqueeze(1) > 0, means, pick(vectors, n_clusters, generator))
    return centres


def pick(vectors: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n random rows of `vectors`, each at most once if there are enough."""
    if len(vectors) >= n:
        rows = torch.randperm(len(vectors), generator=generator)[:n]
    else:
        rows = torch.randint(len(vectors), (n,), generator=generator)
    return vectors[rows.to(vectors.device)]


def assign(vectors: Tensor, codes: Tensor, n_entries: int) -> tuple[Tensor, Tensor]:
    """Per entry, how many of vectors [N, D] chose it, and their sum: counts [K], sums [K, D]."""
    counts = torch.bincount(codes, minlength=n_entries).to(vectors.dtype)
    sums = vectors.new_zeros(n_entries, vectors.shape[1]).index_add_(0, codes, vectors)
    return counts, sums


@torch.no_grad()
def initialise(quantizer: ResidualQuantizer, latents: Tensor, generator: torch.Generator) -> None:
    """Sets each level's codebook by k-means of what the levels before it leave of latents [B, D, F]."""
    residual = latents
    for level in quantizer.levels:
        vectors = level.pool(residual).transpose(1, 2).flatten(0, 1)
        level.codebook.copy_(kmeans(vectors, len(level.codebook), generator))
        residual = residual - level.decode(level.encode(residual))


@dataclass
class MovingAverages:
    """EMA of each level's counts [K] and sums [K, D]: the state of codebooks that follow their data.

    N_k <- g N_k + (1 - g) count_k;  m_k <- g m_k + (1 - g) sum_k;  e_k = m_k / N_k, with N_k smoothed
    (Laplace) so that rare entries move, but never to infinity.
    Source: van den Oord et al. 2017, appendix A.1.
    """

    decay: float
    counts: list[Tensor]
    sums: list[Tensor]

    @classmethod
    def of(cls, quantizer: ResidualQuantizer, decay: float, codes_per_step: int) -> "MovingAverages":
        """Averages that stand where the codebooks are, as if each entry had had its even share of codes."""
        counts, sums = [], []
        for level in quantizer.levels:
            codebook = level.codebook.detach()
            share = codes_per_step / level.frames_per_code / len(codebook)
            counts.append(codebook.new_full((len(codebook),), share))
            sums.append(codebook * share)
        return cls(decay, counts, sums)

    @torch.no_grad()
    def update(
        self, quantizer: ResidualQuantizer, step: Quantized, refill_share: float, generator: torch.Generator
    ) -> None:
        """Moves the codebooks towards one step's residuals, summed over all processes.

        Entries whose average count is under `refill_share` of an even share restart at random residuals
        of this step.
        """
        for n, level in enumerate(quantizer.levels):
            vectors = level.pool(step.residuals[:, n]).transpose(1, 2).flatten(0, 1)
            codes = step.codes[:, n, :: level.frames_per_code].flatten()
            counts, sums = assign(vectors, codes, len(level.codebook))
            if dist.is_initialized():
                dist.all_reduce(counts)
                dist.all_reduce(sums)
            self.counts[n].lerp_(counts, 1 - self.decay)
            self.sums[n].lerp_(sums, 1 - self.decay)
            self._refill(n, vectors, refill_share, generator)
            total = self.counts[n].sum()
            smoothed = (self.counts[n] + 1e-5) * total / (total + 1e-5 * len(counts))
            level.codebook.copy_(self.sums[n] / smoothed.unsqueeze(1))

    def _refill(self, n: int, vectors: Tensor, refill_share: float, generator: torch.Generator) -> None:
        """Restarts idle entries of level n; the first process chooses for all."""
        even_share = self.counts[n].mean()
        idle = self.counts[n] < refill_share * even_share
        fresh = pick(vectors, len(idle), generator)
        if dist.is_initialized():
            dist.broadcast(fresh, src=0)
        self.counts[n] = torch.where(idle, even_share, self.counts[n])
        self.sums[n] = torch.where(idle.unsqueeze(1), fresh * even_share, self.sums[n])


@torch.no_grad()
def health(codes: Tensor, quantizer: ResidualQuantizer) -> list[dict[str, float]]:
    """Per level of codes [B, n_q, F]: perplexity exp(entropy) and share of the entries in use."""
    figures = []
    for level, level_codes in zip(quantizer.levels, codes.unbind(1), strict=False):
        counts = torch.bincount(level_codes.flatten(), minlength=len(level.codebook)).double()
        shares = counts / counts.sum()
        entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
        figures.append({"perplexity": float(entropy.exp()), "used": float((counts > 0).double().mean())})
    return figures
