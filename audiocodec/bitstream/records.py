"""What a reader hands out: groups of codes, and places where there are none."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream.sections import Sections


@dataclass(frozen=True, slots=True)
class Group:
    """One group: `n_frames` frames from `first_frame` on.

    levels: per level int16 [lanes, ceil(n_frames / frames_per_code)]; None where the group was lost,
    or the reader does not unpack. payload: what stands between its head and its checksum; None where it was lost.
    counts: levels of each frame, uint8 [lanes, n_frames], whose other codes are 0; None where all have all levels.
    sections: the payload's parts, still packed.
    """

    index: int
    first_frame: int
    n_frames: int
    levels: tuple[NDArray[np.int16], ...] | None
    payload: bytes | None
    counts: NDArray[np.uint8] | None = None
    sections: Sections | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a stream is not whole.

    offset: byte; index: number of the first group that may be lost; n_groups: how many were lost (None: all
    that may have followed); start_seconds, end_seconds: what that is in time (None: open end).
    """

    offset: int
    index: int
    n_groups: int | None
    start_seconds: float
    end_seconds: float | None
    reason: str

    def __str__(self) -> str:
        end = "the end" if self.end_seconds is None else clock(self.end_seconds)
        return f"{self.reason} (byte {self.offset}, group {self.index}, {clock(self.start_seconds)} to {end})"


def clock(seconds: float) -> str:
    """A time as people write it.

    >>> clock(62.34)
    '1:02.3'
    """
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
