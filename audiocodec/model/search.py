"""The search for codes: level by level, with several candidates for each frame.

The nearest entry leaves the least to the next level, but another one may leave less to the levels behind that. So the
best few ways through the levels go on side by side, and a level's code is decided when some levels more have been
searched. It never depends on levels further ahead: the codes at fewer levels are the first of those at more.
Source: LeBlanc et al. 1993, "Efficient search and design procedures for robust multi-stage VQ" (M-L search).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audiocodec.model.vector_quantizer import VectorQuantizer, distances

WIDTH = 2  # ways that are kept for each frame
LOOKAHEAD = 2  # levels behind a level that are searched before it is decided


class Ways(NamedTuple):
    """W ways through the levels so far, for each frame of B items, the best first.

    residuals [B, W, D, F]: what they leave of the latents; codes [B, W, n, F].
    errors [B, W, F]: |residual|^2; infinite for a way that a decision has ended.
    """

    residuals: Tensor
    codes: Tensor
    errors: Tensor


def search(
    levels: Sequence[VectorQuantizer],
    latents: Tensor,
    n_q: int,
    *,
    width: int = WIDTH,
    lookahead: int = LOOKAHEAD,
) -> Tensor:
    """Codes of the first n_q levels, which leave little of the latents.

    latents [B, D, F] -> codes [B, n_q, F] (int64). All levels have one code per frame.
    With width 1 each level takes the nearest entry; with much width and lookahead no other codes leave less.

    >>> levels = [VectorQuantizer(codebook_size=2, dim=1, frames_per_code=1) for _ in range(2)]
    >>> levels[0].codebook.data = torch.tensor([[0.0], [1.6]])
    >>> levels[1].codebook.data = torch.tensor([[0.0], [0.9]])
    >>> search(levels, torch.tensor([[[0.85]]]), n_q=2, width=1).flatten()  # 1.6 + 0
    tensor([1, 0])
    >>> search(levels, torch.tensor([[[0.85]]]), n_q=2).flatten()  # 0 + .9
    tensor([0, 1])
    """
    batch_size, _, n_frames = latents.shape
    no_codes = latents.new_zeros((batch_size, 1, 0, n_frames), dtype=torch.int64)
    ways = Ways(latents[:, None], no_codes, latents.new_zeros(batch_size, 1, n_frames))
    for n, level in enumerate(levels[: n_q + lookahead]):
        ways = extend(ways, latents, level, width)
        if n >= lookahead:
            ways = decide(ways, n - lookahead)
    return ways.codes[:, 0, :n_q]


def extend(ways: Ways, latents: Tensor, level: VectorQuantizer, width: int) -> Ways:
    """Each way goes on with each of its `width` nearest entries; the best `width` of all these are kept."""
    batch_size, n_ways, dim, n_frames = ways.residuals.shape
    residuals = ways.residuals.flatten(0, 1)
    below = (latents[:, None] - ways.residuals).flatten(0, 1)
    units = level.units(residuals, below).transpose(1, 2)
    n_near = min(width, len(level.codebook))
    near = distances(units, level.codebook).topk(n_near, largest=False).indices  # [B * W, F, n_near]
    entries = torch.stack([level.decode(codes, below) for codes in near.unbind(-1)], dim=1)
    left = (residuals[:, None] - entries).view(batch_size, n_ways * n_near, dim, n_frames)
    codes = near.transpose(1, 2).reshape(batch_size, n_ways * n_near, n_frames)
    ended = ways.errors.isinf().repeat_interleave(n_near, dim=1)
    errors = left.square().sum(2).masked_fill(ended, torch.inf)  # [B, W * n_near, F]
    errors, chosen = errors.topk(min(width, n_ways * n_near), dim=1, largest=False)
    return Ways(
        take(left, chosen),
        torch.cat([take(ways.codes, chosen // n_near), codes.gather(1, chosen)[:, :, None]], dim=2),
        errors,
    )


def take(values: Tensor, index: Tensor) -> Tensor:
    """For each frame, of values [B, N, C, F] those at index [B, M, F]: [B, M, C, F]."""
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2], -1))


def decide(ways: Ways, level: int) -> Ways:
    """The best way's code of a level is taken: ways with another one end."""
    codes = ways.codes[:, :, level]
    return ways._replace(errors=ways.errors.masked_fill(codes != codes[:, :1], torch.inf))
