"""One level: a codebook, how a residual is looked up in it, and what its entries stand for."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def distances(frames: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances of frames [..., D] from entries [K, D], less |frame|^2, which is the same for every entry.

    Float32 whatever autocast says: [..., K].
    """
    with torch.autocast(frames.device.type, enabled=False):
        return codebook.float().square().sum(1) - 2 * frames.float() @ codebook.float().T


def nearest(residual: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry of `codebook` for every frame.

    residual [B, D, F], codebook [K, D] -> codes [B, F] (int64, 0..K-1). Ties go to the lowest code.
    Source: van den Oord et al. 2017, eq. 1.

    >>> nearest(torch.tensor([[[0.9, -2.0]]]), torch.tensor([[-1.0], [1.0]]))
    tensor([[1, 0]])
    """
    return distances(residual.transpose(1, 2), codebook).argmin(dim=-1)


class VectorQuantizer(nn.Module):
    """One level: a codebook [K, D], looked up once every `frames_per_code` frames.

    An entry e stands for mean + deviation * gate * e: `mean` and `deviation` [D] are there if `normalised`, and the
    gate, a number from 0 to 2 for each code, if `gated`. `below` [B, D, F] is the sum of the levels before this one.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        frames_per_code: int,
        *,
        normalised: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.frames_per_code = frames_per_code
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))
        self.mean = nn.Parameter(torch.zeros(dim), requires_grad=False) if normalised else None
        self.deviation = nn.Parameter(torch.ones(dim), requires_grad=False) if normalised else None
        self.gate = nn.Linear(dim, 1) if gated else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def pool(self, residual: Tensor) -> Tensor:
        """residual [B, D, F] -> [B, D, F / frames_per_code]: the mean over the frames that share a code."""
        return F.avg_pool1d(residual, self.frames_per_code) if self.frames_per_code > 1 else residual

    def normalise(self, residual: Tensor) -> Tensor:
        """residual [B, D, F] -> the same at mean 0 and deviation 1, where the level is `normalised`."""
        if self.mean is None or self.deviation is None:
            return residual
        return (residual - self.mean[:, None]) / self.deviation[:, None]

    def gates(self, below: Tensor) -> Tensor | float:
        """Factors of the entries [B, 1, F]; 1 to begin with, and where the level is not `gated`."""
        if self.gate is None:
            return 1.0
        with torch.autocast(below.device.type, enabled=False):
            return 2 * torch.sigmoid(self.gate(below.float().transpose(1, 2))).transpose(1, 2)

    def units(self, residual: Tensor, below: Tensor) -> Tensor:
        """residual [B, D, F] -> what is looked up, [B, D, F / frames_per_code]."""
        pooled = self.normalise(self.pool(residual))
        return pooled if self.gate is None else pooled / self.gates(below)

    def encode(self, residual: Tensor, below: Tensor) -> Tensor:
        """residual [B, D, F] -> codes [B, F]; frames that share a code repeat it."""
        codes = nearest(self.units(residual, below), self.codebook)
        return codes.repeat_interleave(self.frames_per_code, dim=1)

    def decode(self, codes: Tensor, below: Tensor) -> Tensor:
        """codes [B, F] -> what their entries stand for, [B, D, F]."""
        return self.place(F.embedding(codes, self.codebook).transpose(1, 2), below)

    def blend(self, residual: Tensor, below: Tensor, temperature: float) -> Tensor:
        """Soft assignment: all entries, weighted by softmax(-|r - e|^2 / temperature). residual [B, D, F] -> [B, D, F].

        The nearest one as the temperature goes to 0. Source: Agustsson et al. 2017, eq. 3.
        """
        frames = self.units(residual, below).transpose(1, 2)
        weights = (-distances(frames, self.codebook) / temperature).softmax(dim=-1)
        with torch.autocast(residual.device.type, enabled=False):
            entries = (weights @ self.codebook).transpose(1, 2)
        return self.place(entries.repeat_interleave(self.frames_per_code, dim=-1), below)

    def place(self, entries: Tensor, below: Tensor) -> Tensor:
        """Entries [B, D, F] -> what they stand for: the opposite of `units`."""
        if self.gate is not None:
            entries = entries * self.gates(below)
        if self.mean is not None and self.deviation is not None:
            entries = entries * self.deviation[:, None] + self.mean[:, None]
        return entries
