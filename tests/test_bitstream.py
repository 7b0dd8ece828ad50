"""Laws of whole `.rq` streams: round trips, sizes, levels, seeking, memory, and refusing wrong use."""

import io
import math
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from bitstream_cases import (
    Pipe,
    headers,
    make_header,
    random_groups,
    read_levels,
    same,
    write_groups,
    write_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.bitstream import Header, Reader, Writer, drop, info, layout, verify
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.table import TableBuilder, runs
from audiocodec.errors import FormatError

# Round trips


@given(headers(), st.integers(0, 60), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_reading_gives_back_what_was_written(header: Header, n_frames: int, seed: int) -> None:
    groups = random_groups(header, n_frames, seed)
    data = write_groups(header, groups)
    reader = Reader(io.BytesIO(data))
    assert reader.header == header
    found = list(reader)
    assert [group.n_frames for group in found] == [n_frames for n_frames, _ in groups]
    assert [group.first_frame for group in found] == list(range(0, n_frames, header.frames_per_group))
    assert all(same(group.levels, levels) for group, (_, levels) in zip(found, groups, strict=True))
    assert reader.n_samples == max(0, n_frames * 320 - 960)
    assert reader.n_bytes == len(data)
    assert verify(io.BytesIO(data)) == []


@given(headers(), st.integers(0, 40), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_any_chunking_of_reads_gives_the_same_codes(header: Header, n_frames: int, step: int) -> None:
    data = write_stream(header, n_frames)
    whole, piecewise = read_levels(data), read_levels(Pipe(data, step))
    assert len(whole) == len(piecewise)
    assert all(map(same, whole, piecewise))


def test_a_file_that_takes_few_bytes_at_a_time_gets_them_all() -> None:
    class Slow(io.BytesIO):
        def write(self, data: bytes) -> int:
            return super().write(data[:3])

    header = make_header()
    slow, fast = Slow(), io.BytesIO()
    for file in (slow, fast):
        writer = Writer(file, header)
        for n_frames, levels in random_groups(header, 20):
            writer.write(n_frames, levels)
        writer.finish(3000)
    assert slow.getvalue() == fast.getvalue()


def test_a_live_group_can_be_read_before_the_next_is_written() -> None:
    header = make_header(frames_per_group=1)
    reading, writing = os.pipe()
    seen, go_on = threading.Event(), threading.Event()

    def speak() -> None:
        with os.fdopen(writing, "wb") as file:
            writer = Writer(file, header)
            for n_frames, levels in random_groups(header, 2):
                writer.write(n_frames, levels, flush=True)
                assert seen.wait(10)
            go_on.set()
            writer.finish(0)

    speaker = threading.Thread(target=speak)
    speaker.start()
    with os.fdopen(reading, "rb") as file:
        reader = iter(Reader(file))
        next(reader)
        assert not go_on.is_set()
        seen.set()
        assert len(list(reader)) == 1
    speaker.join()


def test_the_number_of_samples_stands_in_the_end_only() -> None:
    groups = random_groups(make_header(), 20)
    one, two = (write_groups(make_header(), groups, n_samples) for n_samples in (5000, 5001))
    assert one[:-16] == two[:-16]
    assert len(one) == len(two)


# Sizes


@given(headers(), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_each_raw_section_has_exactly_its_bits(header: Header, n_frames: int) -> None:
    n_frames = min(n_frames, header.frames_per_group)
    bits, frames = header.space.bits_per_code, header.space.frames_per_code
    expected = [math.ceil(math.ceil(n_frames / m) * b / 8) for b, m in zip(bits, frames, strict=True)]
    assert list(header.section_bytes(n_frames)) == expected
    empty = len(write_stream(header, 0))
    head_crcs_and_table = len(write_stream(header, n_frames)) - empty - header.n_lanes * sum(expected)
    assert head_crcs_and_table in range(8, 14)


@pytest.mark.parametrize(("seconds", "bound"), [(10, 1.08), (60, 1.05)])
def test_the_overhead_keeps_to_its_bound(seconds: int, bound: float) -> None:
    header = make_header(frames_per_group=150)
    n_frames = header.space.n_frames(seconds * 24000)
    size = len(write_stream(header, n_frames))
    assert size <= bound * n_frames * 20 / 8


def test_the_seek_table_does_not_grow_with_groups_of_one_length() -> None:
    header = make_header((2,), frames_per_group=1)
    lengths = [len(write_stream(header, n)) - 9 * n for n in (60, 120)]
    assert lengths[0] == lengths[1]


@given(st.lists(st.integers(9, 1000), max_size=60))
def test_the_seek_table_holds_groups_of_any_length(lengths: list[int]) -> None:
    builder = TableBuilder()
    for length in lengths:
        builder.add(length)
    assert [length for count, length in runs(builder.table()) for _ in range(count)] == lengths


def test_a_table_that_grows_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_TABLE_BYTES", 3)
    data = write_stream(make_header((1024,)), 20)  # two lengths of groups: a table of 4 bytes
    assert len(read_levels(data)) == 3
    reader = Reader(io.BytesIO(data))
    reader.seek_frame(9)
    assert [group.index for group in reader] == [1, 2]
    assert info(io.BytesIO(data)).n_frames == 20


# Levels


@given(headers(), st.integers(0, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_dropping_levels_gives_the_bytes_of_writing_fewer(
    header: Header, n_frames: int, data: st.DataObject
) -> None:
    n_q = data.draw(st.integers(1, header.space.n_q))
    groups = random_groups(header, n_frames)
    dropped = io.BytesIO()
    drop(Pipe(write_groups(header, groups), 100), dropped, n_q)
    assert dropped.getvalue() == write_groups(header.first(n_q), [(n, levels[:n_q]) for n, levels in groups])


def test_more_levels_than_there_are_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="3 levels asked for, expected 1 to 2"):
        drop(io.BytesIO(write_stream(make_header(), 9)), io.BytesIO(), 3)


def test_dropping_levels_refuses_a_damaged_file() -> None:
    data = bytearray(write_stream(make_header(), 20))
    data[len(pack_header(make_header())) + 8] ^= 1
    with pytest.raises(FormatError, match="checksum"):
        drop(io.BytesIO(bytes(data)), io.BytesIO(), 1)


# Seeking


@given(headers(), st.integers(0, 60), st.integers(0, 70), st.booleans())
@settings(max_examples=60, deadline=None)
def test_seeking_goes_to_the_group_that_holds_the_frame(
    header: Header, n: int, frame: int, pipe: bool
) -> None:
    data = write_stream(header, n)
    whole = list(Reader(io.BytesIO(data)))
    reader = Reader(Pipe(data) if pipe else io.BytesIO(data))
    reader.seek_frame(frame)
    found = list(reader)
    expected = [group for group in whole if group.first_frame + header.frames_per_group > frame]
    assert [group.index for group in found] == [group.index for group in expected]
    assert all(same(a.levels, b.levels) for a, b in zip(found, expected, strict=True))
    assert reader.n_samples == max(0, n * 320 - 960)


def test_a_file_can_go_back_and_a_pipe_cannot() -> None:
    data = write_stream(make_header(), 40)
    for file in (io.BytesIO(data), Pipe(data)):
        reader = Reader(file)
        next(iter(reader))
        reader.seek_frame(30)
        assert next(iter(reader)).first_frame == 24
        if isinstance(file, Pipe):
            with pytest.raises(ValueError, match="cannot seek"):
                reader.seek_frame(0)
        else:
            reader.seek_frame(0)
            assert next(iter(reader)).first_frame == 0


def test_seeking_does_without_a_table() -> None:
    data = write_stream(make_header(), 40)
    reader = Reader(io.BytesIO(data[:-1]), keep_going=True)
    reader.seek_frame(20)
    assert [group.index for group in reader] == [2, 3, 4]


def test_a_stream_may_stand_inside_a_larger_file() -> None:
    file = io.BytesIO(b"before" + write_stream(make_header(), 40))
    file.seek(6)
    reader = Reader(file)
    reader.seek_frame(17)
    assert next(iter(reader)).index == 2


def test_info_reads_little_of_a_file_and_all_of_a_pipe() -> None:
    header = make_header(frames_per_group=150, channels=2)
    data = write_stream(header, 1550)

    class Counting(io.BytesIO):
        n_read = 0

        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            self.n_read += len(piece)
            return piece

    file = Counting(data)
    seen = info(file)
    assert seen == info(Pipe(data))
    assert file.n_read < 600 < len(data)
    assert (seen.n_groups, seen.n_frames, seen.n_samples, seen.file_bytes) == (11, 1550, 495040, len(data))
    assert seen.duration_seconds == 495040 / 24000
    assert seen.kbps == pytest.approx(len(data) * 8 / 1000 / seen.duration_seconds)
    assert seen.codes_kbps == pytest.approx(3.0)


def test_a_stream_of_no_frames_is_whole() -> None:
    seen = info(io.BytesIO(write_stream(make_header(), 0)))
    assert (seen.n_groups, seen.n_frames, seen.n_samples, seen.kbps) == (0, 0, 0, 0.0)


# Memory


def test_memory_does_not_grow_with_length() -> None:
    header = make_header(frames_per_group=8)
    peaks = []
    for n_frames in (800, 8000):
        pipe = Pipe(write_stream(header, n_frames))
        tracemalloc.start()
        for _ in Reader(pipe):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4096


def test_the_bitstream_needs_no_torch() -> None:
    code = "import sys, audiocodec.bitstream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Wrong use


def test_wrong_codes_are_refused() -> None:
    header = make_header((1000,))
    writer = Writer(io.BytesIO(), header)
    good = np.zeros((1, 8), np.int16)
    for n_frames, levels, message in [
        (0, (good,), "1 to 8"),
        (9, (good,), "1 to 8"),
        (8, (good, good), "2 levels: the header promises 1"),
        (8, (good[:, :7],), r"expected int16 \[1, 8\]"),
        (8, (good.astype(np.int32),), "int32"),
        (8, (good + 1000,), "expected 0 to 999"),
        (8, (good - 1,), "expected 0 to 999"),
    ]:
        with pytest.raises(ValueError, match=message):
            writer.write(n_frames, levels)  # type: ignore[arg-type]


def test_only_the_last_group_may_be_shorter() -> None:
    header = make_header((2,))
    writer = Writer(io.BytesIO(), header)
    writer.write(3, (np.zeros((1, 3), np.int16),))
    with pytest.raises(ValueError, match="last group"):
        writer.write(8, (np.zeros((1, 8), np.int16),))


def test_a_stream_is_finished_once_with_a_possible_length() -> None:
    writer = Writer(io.BytesIO(), make_header())
    with pytest.raises(ValueError, match="1 samples: 0 frames"):
        writer.finish(1)
    writer.finish(0)
    with pytest.raises(ValueError, match="finished"):
        writer.finish(0)


@given(headers(), st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_the_length_that_frames_were_made_of_is_within_the_bounds(header: Header, n_samples: int) -> None:
    n_samples *= 500
    n_frames = header.n_frames(n_samples)
    filled = -(-n_frames // 32) * 32  # as a codec with a long attention window has it
    for n in (n_frames, filled):
        assert header.min_samples(n) <= n_samples <= header.max_samples(n) or not n_samples
    assert header.first(1).min_samples(filled) == header.min_samples(filled)  # levels can be dropped


def test_a_length_that_the_last_second_is_not_needed_for_is_refused() -> None:
    header = make_header()
    shortest = header.min_samples(228)
    assert shortest == 228 * 320 - 960 - 24000 - 320
    groups = random_groups(header, 228)
    assert verify(io.BytesIO(write_groups(header, groups, n_samples=shortest))) == []
    with pytest.raises(ValueError, match=f"10 samples: 228 frames are {shortest} to 73280 samples"):
        write_groups(header, groups, n_samples=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 3}, "3 channels"),
        ({"frames_per_group": 0}, "frames per group 0"),
        ({"frames_per_group": 9000}, "frames per group 9000"),
        ({"frames_per_code": (3, 1)}, "no multiple of 3"),
        ({"tags": {"title": "x" * 70000}}, "shorten the tags"),
    ],
)
def test_impossible_headers_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Writer(io.BytesIO(), make_header(**options))  # type: ignore[arg-type]
