"""Numbers of levels that change from frame to frame, as variable bitrate has them."""

import torch
from torch import Tensor

CHANGES = 0.1  # of the frames: where the number changes


def draw_runs(n_items: int, n_frames: int, fewest: int, most: int, generator: torch.Generator) -> Tensor:
    """Random numbers of levels, each of which stays for some frames: int64 [n_items, n_frames].

    >>> draw_runs(1, 10, 1, 16, torch.Generator().manual_seed(5))
    tensor([[ 4,  4, 16, 16, 16, 16, 16, 16,  9,  9]])
    """
    drawn = torch.randint(fewest, most + 1, (n_items, n_frames), generator=generator)
    changes = torch.rand(n_items, n_frames, generator=generator) < CHANGES
    changes[:, 0] = True
    latest = torch.where(changes, torch.arange(n_frames), 0).cummax(dim=1).values
    return drawn.gather(1, latest)
