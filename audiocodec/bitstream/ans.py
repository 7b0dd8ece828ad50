"""Asymmetric numeral systems with Python's integers: a section is one number, as long as its symbols make it.

Symbols have frequencies f >= 1 that sum to 2**16; c is the sum of those before the symbol. The number x takes in
a symbol as (x // f) * 2**16 + x % f + c, the last symbol first, from 0 on; so they come out first to last.
Source: Duda 2013, arXiv:1311.2540, rANS without renormalisation.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiocodec.errors import FormatError

BITS = 16
TOTAL = 1 << BITS  # sum of all frequencies
_SCALE_BITS = 32


def encode(starts: Sequence[int], ends: Sequence[int]) -> bytes:
    """Code symbols, given for each c and c + f: a number, little-endian, at least one byte; none for no symbol.

    >>> encode([0, 256], [256, 65536]).hex()
    '000001'
    """
    number = 0
    for start, end in zip(reversed(starts), reversed(ends), strict=True):
        quotient, remainder = divmod(number, end - start)
        number = (quotient << BITS) + remainder + start
    return number.to_bytes(max(1, -(-number.bit_length() // 8)), "little") if starts else b""


class Decoder:
    """Takes the symbols out of what `encode` wrote.

    data: the bytes; n_symbols: how many there are, each at most 16 bits.
    Raises FormatError where so many symbols cannot have given these bytes.

    >>> decoder = Decoder(bytes.fromhex("000001"), 2)
    >>> decoder.take([256, 65536]), decoder.take([256, 65536])
    (0, 1)
    >>> decoder.finish()
    """

    def __init__(self, data: bytes, n_symbols: int) -> None:
        if not bool(n_symbols) <= len(data) <= n_symbols * BITS // 8:
            raise FormatError(f"a section of {len(data)} bytes cannot hold {n_symbols} coded symbols")
        if len(data) > 1 and not data[-1]:
            raise FormatError("a coded section is not in its shortest form: it ends with a byte of zero")
        self._number = int.from_bytes(data, "little")

    def take(self, ends: Sequence[int]) -> int:
        """The next symbol; ends: c + f of every symbol, the last is 2**16."""
        slot = self._number & TOTAL - 1
        symbol = bisect_right(ends, slot)
        start = ends[symbol - 1] if symbol else 0
        self._number = (ends[symbol] - start) * (self._number >> BITS) + slot - start
        return symbol

    def finish(self) -> None:
        """Check that all symbols are out. Raises FormatError where they are not: the bytes were damaged."""
        if self._number:
            raise FormatError("a coded section holds more than its symbols")


def ends_of(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make ranges out of weights: where the range of each symbol ends, out of 2**16.

    sums: [..., K], running sums of the weights of K symbols, below 2**32 -> int64 [..., K].

    >>> ends_of(np.cumsum([3, 0, 1])).tolist()
    [49150, 49151, 65536]
    """
    ends = sums * scale_of(sums)
    ends >>= _SCALE_BITS
    ends += np.arange(1, sums.shape[-1] + 1, dtype=np.int64)
    ends[..., -1] = TOTAL
    return ends


def range_of(
    sums: NDArray[np.int64], symbols: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of the range of one symbol per row, as `ends_of` would give them, but for less work.

    sums: [n, K]; symbols: [n] -> two of int64 [n].
    """
    rows = np.arange(len(symbols))
    scale = scale_of(sums)[:, 0]
    below = np.where(symbols > 0, sums[rows, symbols - 1], 0)
    starts = (below * scale >> _SCALE_BITS) + symbols
    ends = (sums[rows, symbols] * scale >> _SCALE_BITS) + symbols + 1
    return starts, np.where(symbols == sums.shape[1] - 1, TOTAL, ends)


def scale_of(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """What brings sums to their share of 2**16, less one for every symbol: [..., K] -> [..., 1], times 2**32."""
    scale: NDArray[np.int64] = (TOTAL - sums.shape[-1] << _SCALE_BITS) // sums[..., -1:]
    return scale
