"""The bottleneck: a residual quantizer, one independent codebook per level.

With z the latents and C_n the codebook of level n (docs/MODEL.md):

    r_0 = z;   q_n = nearest entry of C_n to r_(n-1);   r_n = r_(n-1) - q_n;   decoder input = sum of q_n
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.model.config import QuantizerConfig


def nearest(residual: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry of `codebook` for every frame.

    residual [B, D, F], codebook [K, D] -> codes [B, F] (int64, 0..K-1). Ties go to the lowest code.
    Distances are float32 whatever autocast says. Source: van den Oord et al. 2017, eq. 1.

    >>> nearest(torch.tensor([[[0.9, -2.0]]]), torch.tensor([[-1.0], [1.0]]))
    tensor([[1, 0]])
    """
    with torch.autocast(residual.device.type, enabled=False):
        frames = residual.float().transpose(1, 2)
        # |r - e|^2 without |r|^2, which is the same for every entry
        distances = codebook.float().square().sum(1) - 2 * frames @ codebook.float().T
        return distances.argmin(dim=-1)


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


class VectorQuantizer(nn.Module):
    """One level: a codebook [K, D], looked up once every `frames_per_code` frames."""

    def __init__(self, codebook_size: int, dim: int, frames_per_code: int) -> None:
        super().__init__()
        self.frames_per_code = frames_per_code
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))

    def pool(self, residual: Tensor) -> Tensor:
        """residual [B, D, F] -> [B, D, F / frames_per_code]: the mean over the frames that share a code."""
        return F.avg_pool1d(residual, self.frames_per_code) if self.frames_per_code > 1 else residual

    def encode(self, residual: Tensor) -> Tensor:
        """residual [B, D, F] -> codes [B, F]; frames that share a code repeat it."""
        return nearest(self.pool(residual), self.codebook).repeat_interleave(self.frames_per_code, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, F] -> entries [B, D, F]."""
        return F.embedding(codes, self.codebook).transpose(1, 2)


class Quantized(NamedTuple):
    """What the quantizer makes of latents [B, D, F] in training.

    quantized [B, D, F]: straight-through sum of the levels that each item uses, or latents with noise in its place.
    codes [B, n_q, F]; residuals [B, n_q, D, F]: what each level was given, detached.
    codebook_loss, commitment_loss: mean squared distances, mean over the levels.
    """

    quantized: Tensor
    codes: Tensor
    residuals: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class ResidualQuantizer(nn.Module):
    """Levels one after another, each coding what those before it left. Source: Zeghidour et al. 2021, alg. 1."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        shapes = zip(config.codebook_sizes, config.frames_per_code, strict=True)
        levels = [VectorQuantizer(size, dim, frames) for size, frames in shapes]
        self.levels = cast(list[VectorQuantizer], nn.ModuleList(levels))

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """latents [B, D, F] -> codes [B, n_q, F] (int64); F is a multiple of the coarsest level's frames_per_code."""
        residual, codes = latents, []
        for level in self.levels[:n_q]:
            codes.append(level.encode(residual))
            residual = residual - level.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, n_q, F], of the first n_q levels -> quantized [B, D, F], the sum of their entries."""
        levels = zip(self.levels, codes.unbind(1), strict=False)
        return torch.stack([level.decode(level_codes) for level, level_codes in levels]).sum(0)

    def forward(self, latents: Tensor, n_q: Tensor, noisy: Tensor | None = None) -> Quantized:
        """Training pass. latents [B, D, F], n_q [B]: levels that each item's decoder input sums up.

        noisy [B], of booleans: items whose decoder input is `substitute_noise` of their latents (none by default).
        Items that use fewer levels still run through all of them: masking the residual path
        would teach the higher levels wrong residuals.
        Loss terms: van den Oord et al. 2017, eq. 3, one pair per level.
        """
        residual, total = latents, torch.zeros_like(latents)
        codes, residuals, codebook_losses, commitment_losses = [], [], [], []
        for n, level in enumerate(self.levels):
            codes.append(level.encode(residual.detach()))
            residuals.append(residual.detach())
            entry = level.decode(codes[-1])
            codebook_losses.append(F.mse_loss(entry, residual.detach()))
            commitment_losses.append(F.mse_loss(residual, entry.detach()))
            residual = residual - entry.detach()
            total = total + entry.detach() * (n_q > n).to(entry.dtype)[:, None, None]
        decoder_input = latents + (total - latents).detach()
        if noisy is not None:
            decoder_input = torch.where(noisy[:, None, None], substitute_noise(latents, total), decoder_input)
        return Quantized(
            decoder_input,
            torch.stack(codes, dim=1),
            torch.stack(residuals, dim=1),
            torch.stack(codebook_losses).mean(),
            torch.stack(commitment_losses).mean(),
        )
