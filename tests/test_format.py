"""Laws of the format itself: what later versions may add, what docs/FORMAT.md says, files of earlier versions."""

import hashlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bitstream_cases import end_bytes, make_header, read_levels, same, write_groups, write_stream

from audiocodec.bitstream import Reader, drop, layout
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.table import TableBuilder
from audiocodec.bitstream.writer import pack_end
from audiocodec.errors import FormatError

FORMAT = Path(__file__).parent.parent / "docs" / "FORMAT.md"
GOLDEN = Path(__file__).parent / "golden" / "v1-codes.rq"
GOLDEN_SHA256 = "06df0b189dde73a89cc6cfb64bbf32ef44a356a35d5323e9031dc3c80d3a36c4"


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


@pytest.mark.parametrize(
    ("bit", "what"), [(0, "entropy-coded"), (1, "varies"), (2, "side values"), (7, "feature 7")]
)
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


def test_the_worked_example_is_what_the_writer_writes() -> None:
    block = FORMAT.read_text("utf-8").split("```hex\n")[1].split("```")[0]
    written = "".join(line.split("|")[0] for line in block.splitlines())
    assert bytes.fromhex(written) == example()


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


def test_the_golden_file_still_reads_to_the_same_codes() -> None:
    digest = hashlib.sha256()
    for group in Reader(io.BytesIO(GOLDEN.read_bytes())):
        for level in group.levels or ():
            digest.update(level.astype("<i2").tobytes())
    assert digest.hexdigest() == GOLDEN_SHA256


def test_the_golden_file_is_what_the_writer_writes() -> None:
    assert golden() == GOLDEN.read_bytes()
