"""Laws of packing codes into bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiocodec.bitstream.packing import MAX_BITS, pack_codes, packed_bytes, unpack_codes

CODES = st.integers(1, MAX_BITS).flatmap(
    lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=50))
)


def slow_pack(codes: list[int], bits: int) -> bytes:
    """The slow twin: one string of all bits, highest first, filled up with zeros."""
    text = "".join(f"{code:0{bits}b}" for code in codes)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


@given(CODES)
def test_packing_equals_its_slow_twin(case: tuple[int, list[int]]) -> None:
    bits, codes = case
    assert pack_codes(np.array(codes, np.int16), bits) == slow_pack(codes, bits)


@given(CODES)
def test_unpacking_gives_back_what_was_packed(case: tuple[int, list[int]]) -> None:
    bits, codes = case
    data = pack_codes(np.array(codes, np.int16), bits)
    assert len(data) == packed_bytes(len(codes), bits) == -(-len(codes) * bits // 8)
    unpacked = unpack_codes(data, len(codes), bits)
    assert unpacked.dtype == np.int16
    assert unpacked.tolist() == codes


def test_the_lanes_of_an_array_pack_like_copies_of_them() -> None:
    codes = np.arange(40, dtype=np.int16).reshape(20, 2).T
    assert pack_codes(codes[1], 10) == pack_codes(codes[1].copy(), 10)


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bytes for 3 codes of 10 bits"):
        unpack_codes(bytes(5), 3, 10)


def test_bits_after_the_last_code_are_refused() -> None:
    with pytest.raises(ValueError, match="after the last code"):
        unpack_codes(bytes([0, 0, 0, 1]), 3, 10)
