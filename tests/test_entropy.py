"""Laws of the entropy coder: it equals its slow twin, loses nothing, and gives the same bytes on every machine."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from entropy_cases import (
    golden_sections,
    pack_all,
    random_codes,
    random_counts,
    real_arrays,
    slow_power,
    slow_sections,
    tiny_arrays,
    tiny_tables,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.bitstream.ans import TOTAL, Decoder, encode
from audiocodec.bitstream.counts import pack_counts, rise_ends, unpack_counts
from audiocodec.bitstream.entropy import EntropyTables, load_tables, save_tables
from audiocodec.bitstream.network import POWERS
from audiocodec.errors import FormatError, ModelError

GOLDEN = Path(__file__).parent / "golden" / "entropy-sections.json"
CASES = Path(__file__).parent / "entropy_cases.py"
SIZES = (16, 9, 300)
SEEDS = st.integers(0, 20)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.integers(1, 12), SEEDS, st.booleans())
def test_coding_equals_its_slow_twin(sizes: list[int], n_frames: int, seed: int, variable: bool) -> None:
    arrays = tiny_arrays(tuple(sizes), seed)
    codes = random_codes(tuple(sizes), n_frames, seed)
    counts = random_counts(len(sizes), n_frames, seed) if variable else None
    slow_counts = [len(sizes)] * n_frames if counts is None else counts.tolist()
    assert pack_all(EntropyTables(arrays), codes, counts) == slow_sections(
        arrays, codes.tolist(), slow_counts
    )


@pytest.mark.parametrize("limit", ["random", "largest"])
def test_coding_at_the_real_size_equals_its_slow_twin(limit: str) -> None:
    arrays = real_arrays(2)
    if limit == "largest":  # all weights as large as they get, and sums just below 2**24
        for name in ("embedding_0", "context_0", "hidden_0", "output_0", "context_1", "hidden_1", "output_1"):
            arrays[name] = np.where(arrays[name] < 0, -127, 127).astype(np.int8)
        for name in ("output_bias_0", "output_bias_1"):
            arrays[name] = (arrays[name] + ((1 << 24) - 96 * 127 * 127 - 5000)).astype(np.int32)
    codes = random_codes((1024, 1024), 5)
    assert pack_all(EntropyTables(arrays), codes) == slow_sections(arrays, codes.tolist(), [2] * 5)


def test_powers_are_rounded_without_error() -> None:
    assert POWERS.tolist() == [slow_power(step) for step in range(256)]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), SEEDS, st.booleans())
def test_decoding_gives_back_the_codes(n_frames: int, seed: int, variable: bool) -> None:
    tables, codes = tiny_tables(SIZES, seed), random_codes(SIZES, n_frames, seed)
    counts = random_counts(len(SIZES), n_frames, seed) if variable else None
    if counts is not None:
        codes[np.arange(len(SIZES))[:, None] >= counts] = 0
    for level, section in enumerate(pack_all(tables, codes, counts)):
        decoded = tables.unpack(section, codes[:level], counts)
        assert decoded.dtype == np.int16
        assert decoded.tolist() == codes[level].tolist()


def test_the_real_size_decodes_its_largest_group() -> None:
    tables = EntropyTables(real_arrays(2))
    codes = random_codes(tables.codebook_sizes, 8192)
    sections = pack_all(tables, codes)
    for level, section in enumerate(sections):
        tracemalloc.start()
        assert (tables.unpack(section, codes[:level]) == codes[level]).all()
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()


@given(SEEDS)
def test_codes_that_a_frame_lacks_change_nothing(seed: int) -> None:
    tables, counts = tiny_tables(SIZES), random_counts(len(SIZES), 20, seed)
    codes = random_codes(SIZES, 20, seed)
    zeroed = np.where(np.arange(len(SIZES))[:, None] < counts, codes, 0).astype(np.int16)
    assert pack_all(tables, codes, counts) == pack_all(tables, zeroed, counts)
    everywhere = np.full(20, len(SIZES), np.uint8)
    assert pack_all(tables, codes, everywhere) == pack_all(tables, codes)


@given(SEEDS)
def test_fewer_levels_have_the_first_sections(seed: int) -> None:
    tables, counts = tiny_tables(SIZES), random_counts(len(SIZES), 20, seed)
    codes = random_codes(SIZES, 20, seed)
    fewer = pack_all(tables, codes[:2], np.minimum(counts, 2))
    assert fewer == pack_all(tables, codes, counts)[:2]


def test_the_cost_in_bits_is_that_of_the_sections() -> None:
    tables, counts = tiny_tables(SIZES), np.stack([random_counts(3, 200, seed) for seed in (1, 2)])
    lanes = np.stack([random_codes(SIZES, 200, seed) for seed in (1, 2)])
    for chosen in (None, counts):
        bits = tables.bits(list(lanes.transpose(1, 0, 2)), chosen)
        assert bits.dtype == np.float32
        assert bits.shape == (3, 2, 200)
        for lane in range(2):
            sections = pack_all(tables, lanes[lane], None if chosen is None else chosen[lane])
            for level, section in enumerate(sections):
                # The number starts at 0: its first symbol may cost 16 bits, and whole bytes up to 7.
                assert bits[level, lane].sum() == pytest.approx(8 * len(section), abs=23)
        if chosen is not None:
            assert not bits[np.arange(3)[:, None, None] >= chosen].any()


def test_a_section_without_codes_has_no_bytes() -> None:
    tables, none = tiny_tables(SIZES), np.zeros(5, np.uint8)
    codes = random_codes(SIZES, 5)
    assert pack_all(tables, codes, none) == [b"", b"", b""]
    assert tables.unpack(b"", codes[:1], none).tolist() == [0] * 5
    with pytest.raises(FormatError, match="1 bytes cannot hold 0 coded symbols"):
        tables.unpack(b"\0", codes[:1], none)
    with pytest.raises(FormatError, match="0 bytes cannot hold 5 coded symbols"):
        tables.unpack(b"", codes[:1])


@pytest.mark.parametrize("counts", [None, random_counts(3, 24)])
def test_every_flipped_bit_and_truncation_gives_an_error_or_codes(counts: np.ndarray | None) -> None:
    tables, codes = tiny_tables(SIZES), random_codes(SIZES, 24)
    for level, section in enumerate(pack_all(tables, codes, counts)):
        number = int.from_bytes(section, "little")
        flipped = [(number ^ 1 << bit).to_bytes(len(section), "little") for bit in range(8 * len(section))]
        for damaged in flipped + [section[:end] for end in range(len(section))]:
            assert_error_or_codes(
                lambda data=damaged, n=level: tables.unpack(data, codes[:n], counts), SIZES[level]
            )


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2), st.integers(1, 30), SEEDS, st.booleans())
def test_any_bytes_give_an_error_or_codes(
    data: bytes, level: int, n_frames: int, seed: int, variable: bool
) -> None:
    tables, below = tiny_tables(SIZES), random_codes(SIZES, n_frames, seed)[:level]
    counts = random_counts(3, n_frames, seed) if variable else None
    assert_error_or_codes(lambda: tables.unpack(data, below, counts), SIZES[level])


def assert_error_or_codes(unpack: Callable[[], np.ndarray], size: int) -> None:
    """Nothing but FormatError, or values below `size`."""
    try:
        values = unpack()
    except FormatError:
        return
    assert ((values >= 0) & (values < size)).all()


def test_what_cannot_be_a_section_is_refused() -> None:
    tables, none = tiny_tables(SIZES), random_codes(SIZES, 3)[:0]
    for section, said in [
        (bytes(6) + b"\1", "7 bytes cannot hold 3"),
        (bytes(1 << 20), "1048576 bytes cannot hold 3"),
        (b"\1\0", "shortest form"),
        (b"\xff" * 6, "more than its symbols"),
    ]:
        with pytest.raises(FormatError, match=said):
            tables.unpack(section, none)


def test_codes_outside_the_codebook_are_refused() -> None:
    tables, codes = tiny_tables(SIZES), random_codes(SIZES, 3)
    for bad in (-1, 16):
        codes[0, 1] = bad
        with pytest.raises(ValueError, match=r"level 0: codes .* expected 0 to 15"):
            tables.pack(codes)
        with pytest.raises(ValueError, match="level 0: codes"):
            tables.unpack(b"\1", codes[:1])
        with pytest.raises(ValueError, match="level 0: codes"):
            tables.bits([level[None] for level in codes])
    with pytest.raises(ValueError, match="4 levels: the tables know 3"):
        tables.pack(np.zeros((4, 3), np.int16))
    with pytest.raises(ValueError, match="4 levels: the tables know 3"):
        tables.unpack(b"\1", np.zeros((3, 3), np.int16))
    with pytest.raises(ValueError, match="expected one per frame"):
        tables.pack(np.zeros((1, 3), np.int16), np.zeros(4, np.uint8))


@given(st.lists(st.lists(st.integers(1, 50), min_size=2, max_size=5), max_size=40), st.data())
def test_symbols_come_out_as_they_went_in(weights: list[list[int]], data: st.DataObject) -> None:
    rows = [np.cumsum(row).tolist() for row in weights]
    rows = [[*row[:-1], TOTAL] for row in rows]
    symbols = [data.draw(st.integers(0, len(row) - 1)) for row in rows]
    starts = [row[symbol - 1] if symbol else 0 for row, symbol in zip(rows, symbols, strict=True)]
    section = encode(starts, [row[symbol] for row, symbol in zip(rows, symbols, strict=True)])
    decoder = Decoder(section, len(symbols))
    assert [decoder.take(row) for row in rows] == symbols
    decoder.finish()


@given(st.integers(1, 64), st.integers(1, 2), st.integers(1, 60), SEEDS)
def test_counts_come_back(n_q: int, n_lanes: int, n_frames: int, seed: int) -> None:
    counts = np.stack([random_counts(n_q, n_frames, seed + lane) for lane in range(n_lanes)])
    decoded = unpack_counts(pack_counts(counts, n_q), n_lanes, n_frames, n_q)
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == counts.tolist()


@pytest.mark.parametrize("n_q", [1, 4, 8, 64])
def test_counts_that_stay_take_few_bytes(n_q: int) -> None:
    assert len(pack_counts(np.zeros((1, 150), np.uint8), n_q)) <= 3
    assert len(pack_counts(np.full((2, 150), n_q, np.uint8), n_q)) <= 6
    for before, row in enumerate(rise_ends(n_q)):
        shares = np.roll(np.diff([0, *row]), before)  # by count
        assert row[-1] == TOTAL
        assert shares[before] == pytest.approx(TOTAL * 15 / 16, rel=0.002)
        for near, far in [*pairwise(shares[before::-1]), *pairwise(shares[before:])]:
            assert near >= far - 1 > -1


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(1, 64), st.integers(0, 2), st.integers(0, 20))
def test_any_bytes_give_an_error_or_counts(data: bytes, n_q: int, n_lanes: int, n_frames: int) -> None:
    assert_error_or_codes(lambda: unpack_counts(data, n_lanes, n_frames, n_q), n_q + 1)


def test_counts_above_the_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="a frame with 5 levels: expected 0 to 4"):
        pack_counts(np.array([[5]], np.uint8), 4)


def test_golden_sections_are_made_and_read() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden_sections() == golden
    tables, codes, counts = tiny_tables(SIZES), random_codes(SIZES, 40), random_counts(3, 40)
    present = np.arange(3)[:, None] < counts
    for level, (whole, some) in enumerate(zip(golden["all_levels"], golden["some_levels"], strict=True)):
        assert (tables.unpack(bytes.fromhex(whole), codes[:level]) == codes[level]).all()
        decoded = tables.unpack(bytes.fromhex(some), codes[:level], counts)
        assert (decoded == codes[level] * present[level]).all()
    assert (unpack_counts(bytes.fromhex(golden["counts"]), 1, 40, 3) == counts).all()


SIMD = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
MACHINES = {
    "one thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "an old processor": {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": " ".join(SIMD)},
}
if {"AVX2", "X86_V3"} & set(SIMD):
    MACHINES["a processor of 2013"] = {"OPENBLAS_CORETYPE": "Haswell"}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_makes_the_same_bytes(machine: str) -> None:
    assert sections_in_another_process(MACHINES[machine]) == json.loads(GOLDEN.read_text())


def test_the_bytes_are_the_same_beside_torch() -> None:
    assert sections_in_another_process({}, "import torch") == json.loads(GOLDEN.read_text())


def sections_in_another_process(variables: dict[str, str], before: str = "pass") -> object:
    """What `golden_sections` gives where these environment variables are set, and `before` has run."""
    code = f"{before}; import runpy; runpy.run_path({str(CASES)!r}, run_name='__main__')"
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_tables_survive_saving(tmp_path: Path) -> None:
    arrays = tiny_arrays(SIZES)
    for name in ("a.npz", "b.npz"):
        save_tables(tmp_path / name, arrays)
    tables = load_tables(tmp_path / "a.npz")
    codes = random_codes(SIZES, 9)
    assert (tables.id, tables.codebook_sizes) == (EntropyTables(arrays).id, SIZES)
    assert pack_all(tables, codes) == pack_all(EntropyTables(arrays), codes)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_every_array_counts_for_the_id() -> None:
    arrays = tiny_arrays(SIZES)
    changed = [{**arrays, name: array ^ 1} for name, array in arrays.items() if array.shape]
    ids = {EntropyTables(one).id for one in [arrays, *changed]}
    assert len(ids) == 1 + len(changed) == len(arrays) - 1  # past and future change with the shapes
    assert {len(one) for one in ids} == {8}


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("hidden_1", np.zeros((6, 6), np.float32), r"hidden_1 is float32 \[6, 6\]: expected int8 \[6, 6\]"),
        ("hidden_1", np.zeros((6, 5), np.int8), r"hidden_1 is int8 \[6, 5\]: expected int8 \[6, 6\]"),
        ("context_0", np.zeros((6, 3, 4), np.int8), r"context_0 is .*: expected int8 \[6, 2, 4\]"),
        ("context_1", np.zeros((6, 3, 4), np.int8), "context_1 is"),
        ("embedding_0", np.zeros(4, np.int8), "embedding_0 is"),
        ("embedding_0", np.array(4, np.int8), "embedding_0 is"),
        ("embedding_2", np.zeros((300, 5), np.int8), "embedding_2 is"),
        ("output_bias_0", np.zeros(15, np.int32), "output_bias_0 is"),
        ("output_bias_0", np.zeros(16, np.int64), "output_bias_0 is int64"),
        (
            "output_bias_1",
            np.full(9, 1 << 24, np.int32),
            "sums of output can reach .* exact on every machine",
        ),
        ("output_bias_1", np.full(9, -(1 << 31), np.int32), "sums of output can reach"),
        ("past", np.array(0), "past is int64 0: expected a whole number, 1 to 64"),
        ("future", np.array(0.5), "future is float64 0.5"),
        ("future", np.array([1, 2]), "future is int64"),
        ("weights", np.zeros(3), "missing or unknown: .'weights'"),
        ("embedding_3", np.zeros((4, 4), np.int8), "arrays for 4 levels"),
    ],
)
def test_other_tables_are_refused(name: str, array: np.ndarray, said: str, tmp_path: Path) -> None:
    arrays = {**tiny_arrays(SIZES), name: array}
    with pytest.raises(ValueError, match=said):
        save_tables(tmp_path / "tables.npz", arrays)
    np.savez(tmp_path / "tables.npz", **arrays)
    with pytest.raises(ModelError, match=said):
        load_tables(tmp_path / "tables.npz")


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.npz"
    with pytest.raises(ModelError, match="no tables of the entropy coder"):
        load_tables(path)
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    for data in (b"", b"junk", single.getvalue()):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="no tables of the entropy coder"):
            load_tables(path)
    np.savez(path)
    with pytest.raises(ModelError, match="arrays for 0 levels"):
        load_tables(path)


def test_damaged_tables_are_refused_or_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tables.npz"
    save_tables(path, tiny_arrays((5, 3)))
    data, tables = path.read_bytes(), tiny_tables((5, 3))
    random = np.random.default_rng(0)
    for at in random.integers(0, len(data), 100).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        for damaged in (flipped, data[:at]):
            path.write_bytes(damaged)
            try:
                assert load_tables(path).id == tables.id
            except ModelError:
                continue
