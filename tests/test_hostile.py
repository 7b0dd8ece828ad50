"""Laws of foreign, impossible and hostile streams: refused in words, in little time and memory."""

import io
import itertools
import struct
import time
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from bitstream_cases import (
    Pipe,
    end_bytes,
    keep_going,
    make_header,
    write_groups,
    write_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.audio import AudioReader, AudioWriter, RawFormat
from audiocodec.bitstream import Group, Reader, drop, info, layout, verify
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.reader import MAX_DAMAGE_RECORDS, MAX_LOST_SECONDS
from audiocodec.bitstream.records import clock
from audiocodec.bitstream.writer import pack_end, pack_group
from audiocodec.codec import Codec
from audiocodec.decoding import Decoding, decode_to
from audiocodec.encoding import encode_stream
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


RUNS = st.builds(
    lambda n_groups, group_bytes: layout.pack(
        layout.TABLE_RUN, {"n_groups": n_groups, "group_bytes": group_bytes}
    ),
    st.sampled_from([0, 1, 2, 2**35 - 1]) | st.integers(0, 2**35 - 1),
    st.sampled_from([0, GROUP_BYTES, 2**35 - 1]) | st.integers(0, 2**35 - 1),
)
ENDS = st.builds(
    pack_end,
    st.lists(RUNS, max_size=4).map(b"".join) | st.binary(max_size=9),
    st.integers(0, 9000) | st.integers(0, 2**64 - 1),
)
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
        ENDS,
    ),
    max_size=12,
)


@given(ITEMS, st.just(b"") | ENDS, st.integers(0, 2**40))
@settings(max_examples=300, deadline=None)
def test_no_items_make_a_reader_crash_or_hang(items: list[bytes], end: bytes, frame: int) -> None:
    data = pack_header(HEADER) + b"".join(items) + end
    for file in (io.BytesIO(data), Pipe(data)):
        reader = Reader(file, keep_going=True)
        most = MAX_LOST_SECONDS * 75 // 8 + len(data) // GROUP_BYTES + 40
        assert len(list(itertools.islice(reader, most + 1))) <= most
    for read in (
        lambda: list(Reader(io.BytesIO(data))),
        lambda: sought(data, frame),
        lambda: info(io.BytesIO(data)),
        lambda: info(io.BytesIO(data), keep_going=True),
        lambda: drop(io.BytesIO(data), io.BytesIO(), 1),
    ):
        with suppress(FormatError):
            read()


def sought(data: bytes, frame: int) -> list[Group]:
    """The groups from a frame on."""
    reader = Reader(io.BytesIO(data))
    reader.seek_frame(frame)
    return list(reader)


def with_end(table: bytes, n_samples: int, n_frames: int = 20) -> bytes:
    """Good groups with this end."""
    data = write_stream(HEADER, n_frames)
    return data[: -end_bytes(data)] + pack_end(table, n_samples)


@pytest.mark.parametrize("run", [(1, GROUP_BYTES + 1), (2**35 - 1, 2**35 - 1), (2**35 - 1, 1)], ids=str)
def test_a_seek_table_that_leads_beyond_the_groups_is_none(run: tuple[int, int]) -> None:
    n_groups, group_bytes = run
    data = with_end(
        layout.pack(layout.TABLE_RUN, {"n_groups": n_groups, "group_bytes": group_bytes}) * 9, 5440
    )
    end = Reader(io.BytesIO(data)).end()
    assert end is not None
    assert end.table == b""
    assert Reader(io.BytesIO(data), keep_going=True).end() is None
    for frame in (0, 9, 2**70):
        with pytest.raises(FormatError, match="seek table names other groups"):
            sought(data, frame)
    with pytest.raises(FormatError, match="seek table names other groups"):
        info(io.BytesIO(data))


@pytest.mark.parametrize("n_samples", [10, 2**30, 2**62, 2**64 - 1])
@pytest.mark.parametrize("with_table", [True, False])
def test_a_length_that_the_groups_cannot_have_is_not_believed(
    tiny_codec: Codec, n_samples: int, with_table: bool
) -> None:
    """An end mark that says so much, or so little, behind three seconds of groups."""
    file = io.BytesIO()
    with AudioReader(io.BytesIO(bytes(6 * 24000)), raw=RawFormat(24000, 1)) as reader:
        encode_stream(tiny_codec, reader, file, n_q=1)
    whole = file.getvalue()
    tail_bytes = end_bytes(whole)
    table = whole[-tail_bytes + 4 : -16] if with_table else b""
    data = whole[:-tail_bytes] + pack_end(table, n_samples)
    assert "the groups hold at" in verify(io.BytesIO(data))[0]
    if with_table:
        assert Decoding(io.BytesIO(data), tiny_codec).n_samples is None
    for duration_seconds in (None, 9.0):
        decoding = Decoding(io.BytesIO(data), tiny_codec, duration_seconds=duration_seconds)
        with pytest.raises(FormatError, match=f"says {n_samples} samples, the groups hold at"):
            list(decoding.blocks())
        decoding = Decoding(
            io.BytesIO(data), tiny_codec, keep_going=True, start_seconds=1, duration_seconds=duration_seconds
        )
        assert decoding.n_samples is None
        output = io.BytesIO()
        with AudioWriter(output, 24000, 1, n_samples=decoding.n_samples) as writer:
            decode_to(decoding, writer)
        assert writer.n_samples == 228 * 320 - 960 - 24000
        assert [str(damage).split(" samples")[0] for damage in decoding.damage] == [
            f"the end mark says {n_samples}"
        ]


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
