"""How codebooks learn: their start, then exponential moving averages, and what becomes of idle entries."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from audiocodec.model.quantizer import Quantized, ResidualQuantizer
from audiocodec.model.vector_quantizer import VectorQuantizer, nearest

KMEANS_ROUNDS = 12
REFIT_ROUNDS = 3
REFIT_FEWEST = 10  # an entry that fewer choose stays: a mean of so few is no better
SLAB = 1024  # frames whose distances from all entries are held at a time: few enough for the cache
SMALLEST_DEVIATION = 1e-3  # a dimension that never varies is not divided by zero
SPLIT_DISTANCE = 0.1  # of the residuals' deviation: how far apart the halves of a split entry start


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
    return vectors[rows.to(vectors.device, non_blocking=True)]


def assign(vectors: Tensor, codes: Tensor, n_entries: int) -> tuple[Tensor, Tensor]:
    """Per entry, how many of vectors [N, D] chose it, and their sum: counts [K], sums [K, D]."""
    # no bincount: on a GPU it waits for the highest code
    counts = vectors.new_zeros(n_entries).index_add_(0, codes, vectors.new_ones(len(codes)))
    sums = vectors.new_zeros(n_entries, vectors.shape[1]).index_add_(0, codes, vectors)
    return counts, sums


def rows(vectors: Tensor) -> Tensor:
    """[B, D, F] -> [B * F, D]."""
    return vectors.transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def initialise(
    quantizer: ResidualQuantizer,
    latents: Tensor,
    generator: torch.Generator,
    levels: range | None = None,
    *,
    start: str = "kmeans",
) -> None:
    """Sets codebooks, and statistics, by what the levels before leave of latents [B, D, F].

    levels: those to set, all by default. start: "kmeans", or "random" for random residuals.
    """
    chosen = range(quantizer.n_q) if levels is None else levels
    first_entries = kmeans if start == "kmeans" else pick
    residual, below = latents, torch.zeros_like(latents)
    for n, level in enumerate(quantizer.levels[: chosen.stop]):
        if n in chosen:
            follow_statistics(level, residual, decay=0.0)
            vectors = rows(level.normalise(level.pool(residual)))
            level.codebook.copy_(first_entries(vectors, len(level.codebook), generator))
        entry = level.decode(level.encode(residual, below), below)
        residual, below = residual - entry, below + entry


@torch.no_grad()
def follow_statistics(level: VectorQuantizer, residual: Tensor, decay: float) -> None:
    """Moves mean and deviation of a `normalised` level towards those of residual [B, D, F], over all processes."""
    if level.mean is None or level.deviation is None:
        return
    vectors = rows(level.pool(residual))
    moments = torch.stack([vectors.mean(0), vectors.square().mean(0)])
    if dist.is_initialized():
        dist.all_reduce(moments)
        moments /= dist.get_world_size()
    mean, square = moments
    deviation = (square - mean.square()).clamp(min=SMALLEST_DEVIATION**2).sqrt()
    level.mean.lerp_(mean, 1 - decay)
    level.deviation.lerp_(deviation, 1 - decay)


@torch.no_grad()
def refit(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    """Moves each entry to the mean of what chooses it among latents [1, D, F], level after level.

    Lloyd's rounds from the codebooks as they are, so that a code goes on meaning about the same. Moving averages know
    the last few dozen residuals of an entry only, and are as far from its mean as that leaves them.
    """
    residual, below = latents, torch.zeros_like(latents)
    for level in quantizer.levels:
        for _ in range(REFIT_ROUNDS):
            codes = _codes_in_slabs(level, residual, below)[0, :: level.frames_per_code]
            counts, sums = assign(rows(level.units(residual, below)), codes, len(level.codebook))
            means = sums / counts.clamp(min=1).unsqueeze(1)
            level.codebook.copy_(torch.where(counts.unsqueeze(1) >= REFIT_FEWEST, means, level.codebook))
        entry = level.decode(_codes_in_slabs(level, residual, below), below)
        residual, below = residual - entry, below + entry


def _codes_in_slabs(level: VectorQuantizer, residual: Tensor, below: Tensor) -> Tensor:
    slabs = zip(torch.split(residual, SLAB, dim=2), torch.split(below, SLAB, dim=2), strict=True)
    return torch.cat([level.encode(*slab) for slab in slabs], dim=1)


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
        """Averages of all levels that stand where the codebooks are."""
        averages = cls(decay, [], [])
        averages.include(quantizer, range(quantizer.n_q), codes_per_step)
        return averages

    def include(self, quantizer: ResidualQuantizer, levels: range, codes_per_step: int) -> None:
        """The next levels join, as if each of their entries had had its even share of codes."""
        for n in levels:
            level = quantizer.levels[n]
            codebook = level.codebook.detach()
            share = codes_per_step / level.frames_per_code / len(codebook)
            self.counts.append(codebook.new_full((len(codebook),), share))
            self.sums.append(codebook * share)

    @torch.no_grad()
    def update(
        self,
        quantizer: ResidualQuantizer,
        step: Quantized,
        refill_share: float,
        generator: torch.Generator,
        *,
        split_share: float | None = None,
    ) -> None:
        """Moves the codebooks of the levels that were trained towards one step's residuals, over all processes.

        Entries whose average count is under `refill_share` of an even share restart at random residuals
        of this step; or, given `split_share`, halve the load of those that have more than so many even shares.
        """
        for n in range(step.codes.shape[1]):
            level = quantizer.levels[n]
            vectors = rows(level.normalise(level.pool(step.residuals[:, n])))
            codes = step.codes[:, n, :: level.frames_per_code].flatten()
            counts, sums = assign(vectors, codes, len(level.codebook))
            if dist.is_initialized():
                dist.all_reduce(counts)
                dist.all_reduce(sums)
            self.counts[n].lerp_(counts, 1 - self.decay)
            self.sums[n].lerp_(sums, 1 - self.decay)
            if split_share is None:
                self._refill(n, vectors, refill_share, generator)
            else:
                self._split(n, vectors, refill_share, split_share, generator)
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

    def _split(
        self, n: int, vectors: Tensor, idle_share: float, split_share: float, generator: torch.Generator
    ) -> None:
        """Idle entries of level n take half the load of crowded ones, the busiest first; the others stay idle."""
        counts, sums = self.counts[n], self.sums[n]
        even_share = counts.mean()
        idle = (counts < idle_share * even_share).nonzero().flatten()
        busiest = counts.argsort(descending=True)
        crowded = busiest[: int((counts > split_share * even_share).sum())]
        n_pairs = min(len(idle), len(crowded))
        idle, crowded = idle[:n_pairs], crowded[:n_pairs]
        shift = torch.randn(len(counts), vectors.shape[1], generator=generator)[:n_pairs].to(vectors.device)
        shift *= SPLIT_DISTANCE / 2 * vectors.std(0)
        if dist.is_initialized():
            dist.broadcast(shift, src=0)
        counts[crowded] /= 2
        sums[crowded] /= 2
        counts[idle] = counts[crowded]
        sums[idle] = sums[crowded] + shift * counts[crowded].unsqueeze(1)
        sums[crowded] -= shift * counts[crowded].unsqueeze(1)
