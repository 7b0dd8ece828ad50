"""Codes of ceil(log2 K) bits each, one after the other, the highest bit first."""

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 15  # codes are int16


def packed_bytes(n_codes: int, bits: int) -> int:
    """Bytes that `n_codes` codes of `bits` bits take: ceil(n_codes * bits / 8).

    >>> packed_bytes(150, 10)
    188
    """
    return -(-n_codes * bits // 8)


def pack_codes(codes: NDArray[np.int16], bits: int) -> bytes:
    """Pack codes [n] (int16, each from 0 to 2**bits - 1) into bytes; zero bits fill the last byte.

    >>> pack_codes(np.array([1, 2, 3], np.int16), 10).hex(" ")
    '00 40 20 0c'
    """
    rows = np.unpackbits(codes.astype(">u2").view(np.uint8)).reshape(-1, 16)
    return np.packbits(rows[:, 16 - bits :]).tobytes()


def unpack_codes(data: bytes, n_codes: int, bits: int) -> NDArray[np.int16]:
    """Read back `n_codes` codes of `bits` bits: int16 [n_codes].

    Raises ValueError if the length is not `packed_bytes(n_codes, bits)`, or a bit is set after the last code.

    >>> unpack_codes(bytes.fromhex("0040200c"), 3, 10)
    array([1, 2, 3], dtype=int16)
    """
    if len(data) != packed_bytes(n_codes, bits):
        raise ValueError(f"{len(data)} bytes for {n_codes} codes of {bits} bits")
    stream = np.unpackbits(np.frombuffer(data, np.uint8))
    if stream[n_codes * bits :].any():
        raise ValueError("bits are set after the last code")
    rows = np.zeros((n_codes, 16), np.uint8)
    rows[:, 16 - bits :] = stream[: n_codes * bits].reshape(n_codes, bits)
    return np.packbits(rows).view(">i2").astype(np.int16)
