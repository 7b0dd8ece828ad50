"""Laws of the format itself: what later versions may add, what docs/FORMAT.md says, files of earlier versions."""

import hashlib
import io
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bitstream_cases import (
    end_bytes,
    make_header,
    read_levels,
    same,
    write_groups,
    write_stream,
)
from entropy_cases import tiny_arrays, tiny_tables
from numpy.typing import NDArray
from slow_reader import slow_read

from audiocodec.bitstream import EntropyTables, Reader, drop, layout
from audiocodec.bitstream.ans import ends_of
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.network import POWERS
from audiocodec.bitstream.table import TableBuilder
from audiocodec.bitstream.writer import pack_end
from audiocodec.errors import FormatError

FORMAT = Path(__file__).parent.parent / "docs" / "FORMAT.md"
GOLDEN = Path(__file__).parent / "golden" / "v1-codes.rq"
GOLDEN_SHA256 = "06df0b189dde73a89cc6cfb64bbf32ef44a356a35d5323e9031dc3c80d3a36c4"
FEATURED_SHA256 = {
    False: "b685ea07a74d09eea4a5c33f5d072cb0e4e8b7f5c20029e0ed2252561978aff2",
    True: "163d3378a8548f6423ffa24ada972314028eb50f11e8c2ef76e6f6fd350b5b2d",
}


# What later versions may add


def insert_chunk(data: bytes, at: int, kind: bytes = b"XTRA", payload: bytes = b"some bytes") -> bytes:
    """The stream with an optional chunk in front of what stands at `at`."""
    head = layout.pack_head(layout.CHUNK, kind=kind, payload_bytes=len(payload))
    return data[:at] + layout.with_crc(head, payload) + data[at:]


def test_unknown_chunks_are_skipped_and_copied() -> None:
    header = make_header()
    data = write_stream(header, 6)
    with_chunk = insert_chunk(data, len(data) - end_bytes(data))  # the table says nothing about it
    assert same(read_levels(with_chunk)[0], read_levels(data)[0])
    copy = io.BytesIO()
    drop(io.BytesIO(with_chunk), copy, 2)
    assert copy.getvalue() == with_chunk


def test_the_seek_table_counts_chunks_with_the_group_behind_them() -> None:
    data = write_stream(make_header(), 16)
    first = len(pack_header(make_header()))
    with_chunk = insert_chunk(data, first)
    with pytest.raises(FormatError, match="seek table"):
        list(Reader(io.BytesIO(with_chunk)))
    builder = TableBuilder()
    for n_bytes in (28 + 22, 28):
        builder.add(n_bytes)
    whole = with_chunk[: -end_bytes(data)] + pack_end(builder.table(), 4160)
    reader = Reader(io.BytesIO(whole))
    reader.seek_frame(8)
    assert [group.index for group in reader] == [1]
    copy = io.BytesIO()
    drop(io.BytesIO(whole), copy, 2)
    assert copy.getvalue() == whole


@pytest.mark.parametrize(("bit", "what"), [(2, "side values"), (4, "feature 4"), (7, "feature 7")])
def test_features_of_later_versions_are_named_and_refused(bit: int, what: str) -> None:
    data = bytearray(write_stream(make_header(), 6))
    data[7] |= 1 << bit
    n_bytes = len(pack_header(make_header()))
    data[n_bytes - 4 : n_bytes] = struct.pack("<I", zlib.crc32(data[: n_bytes - 4]))
    with pytest.raises(FormatError, match=f"{what}.*newer version, upgrade audiocodec"):
        Reader(io.BytesIO(bytes(data)))


def test_a_later_version_is_refused() -> None:
    data = bytearray(write_stream(make_header(), 6))
    data[4] = 2
    with pytest.raises(FormatError, match=r"version 2, expected 1.*upgrade audiocodec"):
        Reader(io.BytesIO(bytes(data)))


# Documents and old files


def test_every_field_of_the_layout_is_documented() -> None:
    text = FORMAT.read_text("utf-8")
    for fields in layout.TABLES.values():
        assert layout.table_markdown(fields) in text


def test_every_limit_is_documented() -> None:
    text = FORMAT.read_text("utf-8")
    for name in (
        "FRAMES_PER_GROUP",
        "RATE_HZ",
        "HOP_LENGTH",
        "DELAY",
        "CHUNK_BYTES",
        "TABLE_BYTES",
        "VARINT_BYTES",
    ):
        assert re.search(rf"\b{getattr(layout, 'MAX_' + name)}\b", text), name


def example() -> bytes:
    """The stream that docs/FORMAT.md spells out."""
    header = make_header((1024, 8), (1, 2), frames_per_group=4, tags={"title": "Hi"})
    groups = [
        (4, (np.array([[1, 2, 3, 1023]], np.int16), np.array([[5, 6]], np.int16))),
        (1, (np.array([[512]], np.int16), np.array([[7]], np.int16))),
    ]
    return write_groups(header, groups, n_samples=640)


def documented_arrays() -> dict[str, NDArray[np.generic]]:
    """The arrays of the tables that docs/FORMAT.md spells out."""
    facts = json.loads(documented("json", 0))
    small = ("embedding", "context", "hidden", "output")
    return {
        name: np.array(value, np.int8 if name[:-2] in small else np.int32) for name, value in facts.items()
    }


def featured_example() -> tuple[bytes, EntropyTables]:
    """The stream with features 0 and 1 that docs/FORMAT.md spells out, and its tables."""
    tables = EntropyTables(documented_arrays())
    header = make_header((4, 4), frames_per_group=24, tables=tables, variable=True)
    first = [3, 3, 3, 3, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, *[0] * 9]
    second = [0, 3, 1, 2, 0, 2, 3, 1, 0, 2, *[0] * 14]
    levels = tuple(np.array([[first], [second]], np.int16))
    counts = np.array([[2] * 10 + [1] * 8 + [0] * 6], np.uint8)
    last = tuple(np.array([[[2, 1]], [[0, 0]]], np.int16))
    groups = [(24, levels, counts), (2, last, np.ones((1, 2), np.uint8))]
    return write_groups(header, groups, n_samples=7000, tables=tables), tables


@pytest.mark.parametrize("name", ["the example", "v1-entropy", "v1-variable", "v1-entropy-variable"])
def test_a_reader_written_from_the_document_reads_the_same(name: str) -> None:
    if name == "the example":
        arrays, data = documented_arrays(), featured_example()[0]
    else:
        arrays = tiny_arrays(GOLDEN_SIZES, seed=7)
        data = GOLDEN.with_name(f"{name}.rq").read_bytes()
    slow = slow_read(data, {key: array.tolist() for key, array in arrays.items()})
    groups = list(Reader(io.BytesIO(data), tables=EntropyTables(arrays)))
    for lanes, group in zip(slow, groups, strict=True):
        values = np.stack(group.levels or (), axis=1)
        assert np.array_equal(np.maximum(lanes, 0), values)
        if group.counts is not None:
            assert np.array_equal((np.array(lanes) >= 0).sum(axis=1), group.counts)


def documented(language: str, number: int) -> str:
    """A code block of docs/FORMAT.md."""
    return FORMAT.read_text("utf-8").split(f"```{language}\n")[number + 1].split("```")[0]


@pytest.mark.parametrize("number", [0, 1])
def test_the_worked_examples_are_what_the_writer_writes(number: int) -> None:
    written = "".join(line.split("|")[0] for line in documented("hex", number).splitlines())
    assert bytes.fromhex(written) == (featured_example()[0] if number else example())


def test_the_tables_and_numbers_of_the_example_are_true() -> None:
    data, tables = featured_example()
    text = " ".join(FORMAT.read_text("utf-8").split())
    assert f"whose id is `{tables.id.hex()}`" in text
    assert len(list(Reader(io.BytesIO(data), tables=tables))) == 2
    weights = POWERS[[93, 60, 32, 0]]
    ends = ends_of(weights.cumsum())
    assert f"w = {tuple(weights.tolist())}" in text
    assert f"f = {tuple(np.diff(ends, prepend=0).tolist())}" in text


def golden() -> bytes:
    """The golden file: 8 levels, two of them slower, stereo, 100 frames of seed 2024, a tag."""
    header = make_header(
        (1024, 1024, 1024, 1024, 1000, 256, 64, 2),
        (4, 2, 1, 1, 1, 1, 1, 1),
        channels=2,
        frames_per_group=40,
        tags={"title": "Gold", "artist": "Näïve"},
    )
    return write_stream(header, 100, seed=2024)


GOLDEN_SIZES = (64, 300, 16)
FEATURED = {"v1-entropy": (True, False), "v1-variable": (False, True), "v1-entropy-variable": (True, True)}


def featured_golden(name: str) -> bytes:
    """The golden files of features 0 and 1: three levels, stereo, 100 frames, a tag; all of the same codes."""
    entropy, variable = FEATURED[name]
    found = list(Reader(io.BytesIO(GOLDEN.with_name("v1-variable.rq").read_bytes())))
    tables = tiny_tables(GOLDEN_SIZES, seed=7) if entropy else None
    header = make_header(
        GOLDEN_SIZES,
        channels=2,
        frames_per_group=40,
        tags={"title": "Gold"},
        tables=tables,
        variable=variable,
    )
    groups = [(group.n_frames, group.levels, group.counts if variable else None) for group in found]
    return write_groups(header, groups, tables=tables)


def codes_digest(path: Path, tables: EntropyTables | None = None) -> str:
    """SHA-256 of all codes of a file, and of its numbers of levels."""
    digest = hashlib.sha256()
    for group in Reader(io.BytesIO(path.read_bytes()), tables=tables):
        for level in group.levels or ():
            digest.update(level.astype("<i2").tobytes())
        digest.update(b"" if group.counts is None else group.counts.tobytes())
    return digest.hexdigest()


def test_the_golden_file_still_reads_to_the_same_codes() -> None:
    assert codes_digest(GOLDEN) == GOLDEN_SHA256


def test_the_golden_file_is_what_the_writer_writes() -> None:
    assert golden() == GOLDEN.read_bytes()


@pytest.mark.parametrize("name", FEATURED)
def test_golden_files_with_features_read_and_write_the_same(name: str) -> None:
    path = GOLDEN.with_name(f"{name}.rq")
    assert codes_digest(path, tiny_tables(GOLDEN_SIZES, seed=7)) == FEATURED_SHA256[FEATURED[name][1]]
    assert featured_golden(name) == path.read_bytes()
