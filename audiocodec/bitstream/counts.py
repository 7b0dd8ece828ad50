"""How many levels each frame has, where that varies: coded with fixed tables that every reader has built in."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream.ans import TOTAL, Decoder, encode, ends_of

STAY = 15  # a count is the same as the one before it in 15 of 16 cases


def pack_counts(counts: NDArray[np.uint8], n_q: int) -> bytes:
    """Code counts [lanes, F], each from 0 to `n_q`, lane after lane. Raises ValueError if one is above `n_q`.

    >>> len(pack_counts(np.zeros((1, 150), np.uint8), 8))
    1
    """
    if counts.size and counts.max() > n_q:
        raise ValueError(f"a frame with {counts.max()} levels: expected 0 to {n_q}")
    starts, ends = [], []
    for lane in counts.tolist():
        for before, count in zip([0, *lane], lane, strict=False):
            rise, row = (count - before) % (n_q + 1), rise_ends(n_q)[before]
            starts.append(row[rise - 1] if rise else 0)
            ends.append(row[rise])
    return encode(starts, ends)


def unpack_counts(data: bytes, n_lanes: int, n_frames: int, n_q: int) -> NDArray[np.uint8]:
    """Read back what `pack_counts` wrote: uint8 [n_lanes, n_frames]. Raises FormatError where it cannot have.

    >>> unpack_counts(pack_counts(np.array([[0, 2, 4]], np.uint8), 4), 1, 3, 4)
    array([[0, 2, 4]], dtype=uint8)
    """
    decoder = Decoder(data, n_lanes * n_frames)
    table = rise_ends(n_q)
    counts = np.zeros((n_lanes, n_frames), np.uint8)
    for lane in range(n_lanes):
        count = 0
        for frame in range(n_frames):
            count = (count + decoder.take(table[count])) % (n_q + 1)
            counts[lane, frame] = count
    decoder.finish()
    return counts


@lru_cache
def rise_ends(n_q: int) -> list[list[int]]:
    """For each count before, 0 to `n_q`: where the range of each rise of it ends, out of 2**16.

    Rises are modulo n_q + 1: to stay is the first of them, so that the run of equal counts at the end is free.
    The first count of a lane rises from 0. The share of another count falls as 1 / distance.

    >>> rise_ends(2)
    [[61438, 64169, 65536], [61438, 63487, 65536], [61438, 62804, 65536]]
    """
    before = np.arange(n_q + 1, dtype=np.int64)[:, None]
    after = (before + before.T) % (n_q + 1)
    weights = TOTAL // np.maximum(np.abs(after - before), 1)
    weights[:, 0] = STAY * weights[:, 1:].sum(axis=1)
    rows: list[list[int]] = ends_of(weights.cumsum(axis=1, dtype=np.int64)).tolist()
    return rows
