"""Laws of foreign, impossible and hostile streams: refused in words, in little time and memory."""

import io
import itertools
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from bitstream_cases import (
    Pipe,
    keep_going,
    make_header,
    write_groups,
    write_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.bitstream import Reader, drop, info, layout, verify
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.reader import MAX_DAMAGE_RECORDS, MAX_LOST_SECONDS
from audiocodec.bitstream.records import clock
from audiocodec.bitstream.writer import pack_end, pack_group
from audiocodec.errors import FormatError

HEADER = make_header((1024, 16), frames_per_group=8)
GROUP_BYTES = HEADER.payload_bytes(8) + 8
FIRST = len(pack_header(HEADER))


# Words


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an .rq file: it has zero bytes"),
        (b"RIFF\x00\x00\x00\x00WAVE", r"not an .rq file: it starts with b'RIFF', expected b'RQAC'"),
        (b"RQ", "ends after 2 bytes, inside the header"),
        (b"RQAC\x01\x40\x00abc", "ends after 10 of the header's 75 bytes"),
        (b"RQAC\x02", "ends after 5 bytes"),
    ],
)
def test_foreign_files_are_refused_in_words(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Reader(io.BytesIO(data))
    assert verify(io.BytesIO(data))


def test_a_code_outside_its_codebook_is_an_error() -> None:
    wide, narrow = make_header((1024,)), make_header((1000,))
    codes = np.full((1, 8), 1023, np.int16)
    data = write_groups(wide, [(8, (codes,))]).replace(pack_header(wide), pack_header(narrow))
    with pytest.raises(FormatError, match="level 0 has code 1023, its codebook has 1000 entries"):
        list(Reader(io.BytesIO(data)))


def test_a_header_that_ends_early_is_refused_in_words() -> None:
    with pytest.raises(FormatError, match="impossible header: it ends inside a field"):
        Reader(io.BytesIO(sealed(bytes(20))))


def test_times_are_written_as_people_write_them() -> None:
    assert [clock(t) for t in (0, 59.96, 61, 3600)] == ["0:00.0", "1:00.0", "1:01.0", "60:00.0"]


# Hostile


def sealed(body: bytes) -> bytes:
    """A header of this body, with the right length and checksum."""
    return layout.with_crc(b"RQAC\x01" + struct.pack("<H", len(body)), body)


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_header_makes_a_reader_crash(body: bytes) -> None:
    with pytest.raises(FormatError):
        Reader(io.BytesIO(sealed(b"\x00" + body)))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_change_of_a_sealed_header_makes_a_reader_crash(data: st.DataObject) -> None:
    body = bytearray(pack_header(make_header(tags={"a": "b"}))[7:-4])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = Reader(io.BytesIO(sealed(bytes(body)))).header
    except FormatError:
        return
    assert pack_header(header) == sealed(bytes(body))


ITEMS = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda index, n_frames: pack_group(
                HEADER, index, n_frames, bytes(HEADER.payload_bytes(n_frames))
            ),
            st.integers(0, 2**33),
            st.integers(1, 8),
        ),
        st.builds(lambda n: layout.pack_head(layout.GROUP, index=n), st.integers(0, 9)),
        st.builds(lambda n: layout.pack_head(layout.SHORT_GROUP, index=0, n_frames=n), st.integers(0, 2**33)),
        st.builds(
            lambda n: layout.pack_head(layout.CHUNK, kind=b"ABCD", payload_bytes=n), st.integers(0, 2**33)
        ),
        st.builds(lambda n: layout.pack_head(layout.END, table_bytes=n), st.integers(0, 2**33)),
        st.builds(pack_end, st.binary(max_size=9), st.integers(0, 2**64 - 1)),
    ),
    max_size=12,
)


@given(ITEMS, st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_no_items_make_a_reader_crash_or_hang(items: list[bytes], frame: int) -> None:
    data = pack_header(HEADER) + b"".join(items)
    for file in (io.BytesIO(data), Pipe(data)):
        reader = Reader(file, keep_going=True)
        most = MAX_LOST_SECONDS * 75 // 8 + len(data) // GROUP_BYTES + 40
        assert len(list(itertools.islice(reader, most + 1))) <= most
        try:
            strict = Reader(io.BytesIO(data))
            strict.seek_frame(frame)
            list(strict)
            info(io.BytesIO(data))
            drop(io.BytesIO(data), io.BytesIO(), 1)
        except FormatError:
            pass


def test_false_heads_do_not_make_the_search_endless() -> None:
    header = make_header((32768,) * 64, channels=2, frames_per_group=layout.MAX_FRAMES_PER_GROUP)
    head = layout.pack_head(layout.GROUP, index=0)
    data = pack_header(header) + head * (6_000_000 // len(head))
    start = time.process_time()
    tracemalloc.start()
    reader, groups = keep_going(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert groups == []
    assert reader.n_samples is None
    assert time.process_time() - start < 20
    assert peak < 64e6


def test_the_record_of_damage_is_bounded() -> None:
    junk = b"\xff"
    groups = [
        pack_group(HEADER, n, 8, bytes(HEADER.payload_bytes(8))) for n in range(MAX_DAMAGE_RECORDS + 50)
    ]
    reader, found = keep_going(pack_header(HEADER) + junk + junk.join(groups))
    assert len(found) == len(groups)
    assert len(reader.damage) == MAX_DAMAGE_RECORDS


def test_an_end_mark_of_impossible_length_is_not_believed() -> None:
    data = pack_header(HEADER) + pack_end(b"", 2**64 - 1)
    with pytest.raises(FormatError, match="18446744073709551615 samples, the groups hold at most 0"):
        list(Reader(io.BytesIO(data)))
    reader, groups = keep_going(data)
    assert (reader.n_samples, groups) == (None, [])


def test_a_checksum_is_zlibs() -> None:
    data = write_stream(HEADER, 3)
    assert data[FIRST - 4 : FIRST] == struct.pack("<I", zlib.crc32(data[: FIRST - 4]))
