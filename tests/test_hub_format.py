"""What `.rq` says about lanes of two channels and overlapping segments."""

import io
from dataclasses import replace

import numpy as np
import pytest

from audiocodec.bitstream import Header, Reader, Writer, drop, layout
from audiocodec.bitstream.header import PREFIX_BYTES, pack_header, unpack_header
from audiocodec.codes import CodeSpace, Source
from audiocodec.errors import FormatError

SPACE = CodeSpace(bytes(16), "demo", 48000, 320, 0, (32768, 1024, 1024), (150, 1, 1), 2, 480)
HEADER = Header(SPACE, Source(44100, 2), 300)
FEATURES_AT = PREFIX_BYTES


def test_the_header_comes_back() -> None:
    assert unpack_header(pack_header(HEADER)) == HEADER
    for channels in (1, 2):
        header = replace(HEADER, source=Source(44100, channels))
        assert unpack_header(pack_header(header)) == header and header.n_lanes == 1


def test_a_space_without_segments_says_nothing_of_them() -> None:
    plain = replace(HEADER, space=replace(SPACE, lane_channels=1, segment_overlap=0))
    assert pack_header(plain)[FEATURES_AT] == 0
    assert pack_header(HEADER)[FEATURES_AT] == 8
    assert len(pack_header(HEADER)) == len(pack_header(plain)) + 3


def with_fields(lane_channels: int, overlap: bytes) -> bytes:
    """The header with other fields of feature 3 than it can have."""
    end = len(
        layout.with_crc(layout.pack(layout.SEGMENT_FIELDS, {"lane_channels": 2, "segment_overlap": 480}))
    )
    data = pack_header(HEADER)[:-end] + bytes([lane_channels]) + overlap
    size = (len(data) - PREFIX_BYTES).to_bytes(2, "little")
    return layout.with_crc(data[: PREFIX_BYTES - 2] + size + data[PREFIX_BYTES:])


@pytest.mark.parametrize(
    ("lane_channels", "overlap", "message"),
    [
        (1, b"\x00", "one way"),  # then the feature must not be there
        (3, b"\x00", "3 channels in a lane"),
        (2, b"\xc1\xbb\x01", "overlap by 24001 samples: expected 0 to 24000"),
        (2, b"", "impossible header"),
        (2, b"\x00\x00", "one way"),
    ],
)
def test_impossible_fields_are_refused(lane_channels: int, overlap: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        unpack_header(with_fields(lane_channels, overlap))
    assert unpack_header(with_fields(2, b"\xe0\x03")) == HEADER


def coded(n_segments: int, header: Header = HEADER) -> bytes:
    """A stream of so many segments."""
    file, rng = io.BytesIO(), np.random.default_rng(0)
    writer = Writer(file, header)
    for first in range(0, 150 * n_segments, 300):
        n_frames = min(300, 150 * n_segments - first)
        writer.write(n_frames, [rng.integers(0, 1024, (1, n), np.int16) for n in header.n_codes(n_frames)])
    writer.finish(header.max_samples(150 * (n_segments - 1)))
    return file.getvalue()


def test_streams_are_read_cut_and_dropped() -> None:
    data = coded(5)
    reader = Reader(io.BytesIO(data))
    groups = list(reader)
    assert [group.n_frames for group in groups] == [300, 300, 150]
    assert [level.shape for level in groups[2].levels or ()] == [(1, 1), (1, 150), (1, 150)]
    few = io.BytesIO()
    drop(io.BytesIO(data), few, 2)
    assert Reader(io.BytesIO(few.getvalue())).header == HEADER.first(2)


def test_damage_is_told_in_the_recordings_time() -> None:
    data = bytearray(coded(6))
    data[len(data) // 2] ^= 1  # in the second of three groups
    reader = Reader(io.BytesIO(bytes(data)), keep_going=True)
    assert [group.levels is None for group in reader] == [False, True, False]
    (damage,) = reader.damage
    assert damage.start_seconds == pytest.approx(2 * 0.99)
    assert damage.end_seconds == pytest.approx(4 * 0.99)
