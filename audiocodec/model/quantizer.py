"""The bottleneck: a residual quantizer, one independent codebook per level.

With z the latents and C_n the codebook of level n (docs/MODEL.md):

    r_0 = z;   q_n = nearest entry of C_n to r_(n-1);   r_n = r_(n-1) - q_n;   decoder input = sum of q_n

That is how it learns; to code, it searches some levels ahead (search.py). `ResidualConfig` can bring residuals to one
scale before they are looked up, multiply entries by a gate, and hand them to the decoder side by side. Codes mean what
they mean by the codebooks and those few numbers.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.model.config import ModelConfig, QuantizerConfig, ResidualConfig
from audiocodec.model.search import search
from audiocodec.model.vector_quantizer import VectorQuantizer

PLAIN = ResidualConfig()


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, with its gradient handed to the latents (and none to the codebooks).

    Written as q + (z - sg(z)) it would have the same value, and the codebooks would get the gradient as well.
    """
    return latents + (quantized - latents).detach()


def substitute_noise(latents: Tensor, quantized: Tensor) -> Tensor:
    """Latents with random noise that is, frame by frame, as large as their quantization error.

    latents [B, D, F], quantized [B, D, F] (a constant) -> [B, D, F]. Unlike the straight-through estimate, its gradient
    tells the encoder what the error costs: to enlarge what matters, and to put latents where entries are.
    Source: Vali and Bäckström 2022, "NSVQ", eq. 4.
    """
    direction = F.normalize(torch.randn_like(latents), dim=1)
    # the floor keeps the gradient of the norm finite where a latent is an entry
    error_norm = (latents - quantized.detach()).square().sum(1, keepdim=True).clamp(min=1e-9).sqrt()
    return latents + error_norm * direction


class Quantized(NamedTuple):
    """What the quantizer makes of latents [B, D, F] in training.

    quantized [B, decoder_channels, F]: straight-through entries of the levels that each item uses, or latents with
    noise in their place.
    codes [B, n, F]; residuals [B, n, D, F]: what each of the n trained levels was given, detached.
    codebook_loss, commitment_loss: mean squared distances, mean over the levels.
    """

    quantized: Tensor
    codes: Tensor
    residuals: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Levels one after another, each coding what those before it left. Source: Zeghidour et al. 2021, alg. 1."""

    def __init__(self, config: QuantizerConfig, dim: int, residual: ResidualConfig = PLAIN) -> None:
        super().__init__()
        shapes = zip(config.codebook_sizes, config.frames_per_code, strict=True)
        flags = {"normalised": residual.normalised, "gated": residual.gated}
        levels = [VectorQuantizer(size, dim, frames, **flags) for size, frames in shapes]
        self.levels = cast(list[VectorQuantizer], nn.ModuleList(levels))
        self.combine = residual.combine

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def tensors(self) -> list[Tensor]:
        """What the codes' meaning depends on: each level's codebook, then its statistics and gate if it has them."""
        return [tensor for level in self.levels for tensor in level.state_dict().values()]

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """latents [B, D, F] -> codes [B, n_q, F] (int64); F is a multiple of the coarsest level's frames_per_code.

        They are the first of those at more levels. Levels that all have one code per frame are searched together
        (`search`), others one after another.
        """
        if all(level.frames_per_code == 1 for level in self.levels):
            return search(self.levels, latents, n_q)
        residual, below, codes = latents, torch.zeros_like(latents), []
        for level in self.levels[:n_q]:
            codes.append(level.encode(residual, below))
            entry = level.decode(codes[-1], below)
            residual, below = residual - entry, below + entry
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor, counts: Tensor | None = None) -> Tensor:
        """codes [B, n_q, F], of the first n_q levels -> quantized [B, decoder_channels, F]: what the decoder gets.

        counts [B, F]: of how many levels, frame by frame; all by default.
        """
        batch_size, _, n_frames = codes.shape
        below = self.levels[0].codebook.new_zeros(batch_size, self.levels[0].codebook.shape[1], n_frames)
        entries = []
        for level, level_codes in zip(self.levels, codes.unbind(1), strict=False):
            entries.append(level.decode(level_codes, below))
            below = below + entries[-1]
        if counts is not None:
            # an entry depends on the levels below it only, so it may be left out afterwards
            entries = [entry * (counts > n).unsqueeze(1) for n, entry in enumerate(entries)]
        return self.join(entries)

    def join(self, entries: list[Tensor]) -> Tensor:
        """Entries [B, D, F] of the first levels -> decoder input: their sum; or side by side, zeros for the others."""
        if self.combine == "sum":
            return torch.stack(entries).sum(0)
        missing = (self.n_q - len(entries)) * entries[0].shape[1]
        return F.pad(torch.cat(entries, dim=1), (0, 0, 0, missing))

    def forward(
        self,
        latents: Tensor,
        n_q: Tensor,
        noisy: Tensor | None = None,
        *,
        levels: int | None = None,
        temperature: float = 0.0,
        searched: bool = False,
    ) -> Quantized:
        """Training pass. latents [B, D, F], n_q [B] or [B, F]: levels that the decoder input is made of.

        noisy [B], of booleans: items whose decoder input is `substitute_noise` of their latents (none by default).
        levels: so many are trained (all by default). temperature: of soft assignment; 0 takes the nearest entry, or
        what `search` finds, if `searched`.
        Items that use fewer levels still run through all of them: masking the residual path
        would teach the higher levels wrong residuals.
        Loss terms: van den Oord et al. 2017, eq. 3, one pair per level.
        """
        residual, below = latents, torch.zeros_like(latents)
        codes, residuals, entries, codebook_losses, commitment_losses = [], [], [], [], []
        trained = self.levels[:levels]
        found = searched_codes(trained, latents) if searched else None
        counts = n_q[:, None] if n_q.ndim == 1 else n_q
        for n, level in enumerate(trained):
            given = residual.detach()
            codes.append(level.encode(given, below) if found is None else found[:, n])
            residuals.append(given)
            entry = level.blend(given, below, temperature) if temperature else level.decode(codes[-1], below)
            codebook_losses.append(F.mse_loss(entry, given))
            commitment_losses.append(F.mse_loss(residual, entry.detach()))
            residual, below = residual - entry.detach(), below + entry.detach()
            entries.append(entry * (counts > n).to(entry.dtype)[:, None])
        return Quantized(
            self.decoder_input(latents, entries, counts, noisy, keep_gradient=temperature > 0),
            torch.stack(codes, dim=1),
            torch.stack(residuals, dim=1),
            torch.stack(codebook_losses).mean(),
            torch.stack(commitment_losses).mean(),
        )

    def decoder_input(
        self,
        latents: Tensor,
        entries: list[Tensor],
        counts: Tensor,
        noisy: Tensor | None,
        *,
        keep_gradient: bool,
    ) -> Tensor:
        """What the decoder gets in training, from entries [B, D, F] of the levels (0 where one is left out).

        counts [B, 1] or [B, F]: of the levels that are used. The latents get its gradient straight through; the
        codebooks get it too if `keep_gradient`.
        """
        total = self.join(entries)
        if self.combine == "sum":
            quantized = straight_through(latents, total)
        else:  # each level's channels hand their gradient to the latents, where the item uses the level
            used = [latents * (counts > n).to(latents.dtype)[:, None] for n in range(len(entries))]
            quantized = straight_through(self.join(used), total)
        if keep_gradient:
            quantized = quantized + (total - total.detach())
        if noisy is not None:
            quantized = torch.where(noisy[:, None, None], substitute_noise(latents, total), quantized)
        return quantized

    def bypass(self, latents: Tensor) -> Tensor:
        """Latents [B, D, F] as decoder input [B, decoder_channels, F]: in place of the sum, or of the first level."""
        return latents if self.combine == "sum" or not self.levels else self.join([latents])


@torch.compiler.disable  # type: ignore[untyped-decorator]  # unrolled, it takes the compiler minutes for no gain
@torch.no_grad()
def searched_codes(levels: list[VectorQuantizer], latents: Tensor) -> Tensor:
    """Codes [B, n, F] of all the levels, as coding finds them in latents [B, D, F]; for training."""
    return search(levels, latents, len(levels))


def build_quantizer(config: ModelConfig) -> ResidualQuantizer:
    """The quantizer that `config` describes: one without levels where the bottleneck is of another kind."""
    quantizer = config.quantizer if config.has_codes else QuantizerConfig((), ())
    return ResidualQuantizer(quantizer, config.latent_dim, config.residual)
