"""Laws of damaged and cut streams: all damage is noticed, and costs no more than it must."""

import io

import numpy as np
import pytest
from bitstream_cases import (
    Levels,
    end_bytes,
    featured_stream,
    headers,
    keep_going,
    make_header,
    random_groups,
    same,
    write_groups,
    write_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.bitstream import Group, Header, Reader, info, verify
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.writer import pack_group
from audiocodec.errors import FormatError

with_features = pytest.mark.parametrize(("entropy", "variable"), [(True, False), (False, True), (True, True)])

HEADER = make_header((1024, 16), frames_per_group=8)
GROUP_BYTES = HEADER.payload_bytes(8) + 8
FIRST = len(pack_header(HEADER))


def check_span(header: Header, groups: list[Group]) -> None:
    """Groups follow each other without holes or overlaps in index and time."""
    assert [group.index for group in groups] == list(range(len(groups)))
    assert [group.first_frame for group in groups] == [
        n * header.frames_per_group for n in range(len(groups))
    ]


def check_whole(groups: list[Group], written: list[tuple[int, Levels]], lost: set[int]) -> None:
    """Every group but the lost ones has the codes that were written."""
    assert len(groups) == len(written)
    for group, (n_frames, levels) in zip(groups, written, strict=True):
        assert group.n_frames == n_frames
        assert (group.levels is None) == (group.index in lost)
        assert group.index in lost or same(group.levels, levels)


# Every bit


def test_every_flipped_bit_is_noticed() -> None:
    header = make_header((1024, 5), tags={"title": "x"})
    data = write_stream(header, 20)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            list(Reader(io.BytesIO(bytes(damaged))))
        assert verify(io.BytesIO(bytes(damaged))), bit


def test_every_cut_is_noticed() -> None:
    data = write_stream(make_header((1024, 5)), 20)
    for length in range(len(data)):
        with pytest.raises(FormatError, match=r"ends|zero bytes"):
            list(Reader(io.BytesIO(data[:length])))
        assert verify(io.BytesIO(data[:length]))


@with_features
def test_every_flipped_bit_of_a_file_with_features_is_noticed(entropy: bool, variable: bool) -> None:
    data, _, tables = featured_stream(entropy=entropy, variable=variable)
    assert verify(io.BytesIO(data), lambda _: tables) == []
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            list(Reader(io.BytesIO(bytes(damaged)), tables=tables))
        assert verify(io.BytesIO(bytes(damaged)), lambda _: tables), bit
        assert verify(io.BytesIO(bytes(damaged))), bit


@given(headers(), st.integers(0, 40), st.binary(min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_bytes_after_the_end_mark_are_noticed(header: Header, n_frames: int, more: bytes) -> None:
    data = write_stream(header, n_frames)
    with pytest.raises(FormatError, match="more bytes follow"):
        list(Reader(io.BytesIO(data + more)))
    reader, groups = keep_going(data + more)
    assert len(reader.damage) == 1
    assert reader.n_samples is not None
    assert all(group.levels is not None for group in groups)


@given(st.integers(0, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_any_change_of_bytes_is_noticed(n_frames: int, data: st.DataObject) -> None:
    whole = write_stream(HEADER, n_frames)
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 60))
    damaged = whole[:at] + data.draw(st.binary(max_size=60)) + whole[at + gone :]
    if damaged != whole:
        with pytest.raises(FormatError):
            list(Reader(io.BytesIO(damaged)))


# Keep going


@given(st.integers(4, 60), st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_damaged_group_costs_its_own_time_span(n_frames: int, data: st.DataObject, pipe: bool) -> None:
    written = random_groups(HEADER, n_frames)
    damaged = bytearray(write_groups(HEADER, written))
    lost = data.draw(st.sets(st.integers(0, len(written) - 1), min_size=1, max_size=3))
    for index in lost:  # any byte: of the head, the codes, the checksum
        at = FIRST + index * GROUP_BYTES + data.draw(st.integers(0, 8))
        damaged[at] ^= data.draw(st.integers(1, 255))
    reader, groups = keep_going(bytes(damaged), pipe=pipe)
    check_span(HEADER, groups)
    check_whole(groups, written, lost)
    assert reader.n_samples == max(0, n_frames * 320 - 960)
    assert sum(damage.n_groups or 0 for damage in reader.damage) == len(lost)


@given(st.integers(4, 60), st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_lost_bytes_cost_only_the_groups_they_were_in(n_frames: int, data: st.DataObject, pipe: bool) -> None:
    written = random_groups(HEADER, n_frames)
    whole = write_groups(HEADER, written)
    end = len(whole) - end_bytes(whole)
    start = data.draw(st.integers(FIRST, end - 1))
    stop = data.draw(st.integers(start + 1, end))
    damaged = whole[:start] + whole[stop:]
    # a group counts as lost if its bytes are gone: two cut ones can happen to join to a whole one
    starts = [FIRST + n * GROUP_BYTES for n in range(len(written))]
    ends = [*starts[1:], end]
    lost = {n for n, (a, b) in enumerate(zip(starts, ends, strict=True)) if whole[a:b] not in damaged}
    reader, groups = keep_going(damaged, pipe=pipe)
    check_span(HEADER, groups)
    check_whole(groups, written, lost)
    assert reader.n_samples == max(0, n_frames * 320 - 960)


@given(st.integers(0, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_foreign_bytes_between_groups_cost_none(n_frames: int, data: st.DataObject) -> None:
    written = random_groups(HEADER, n_frames)
    whole = write_groups(HEADER, written)
    at = FIRST + GROUP_BYTES * data.draw(st.integers(0, n_frames // 8))
    more = data.draw(
        st.one_of(st.binary(min_size=1, max_size=99), st.just(whole[FIRST : FIRST + GROUP_BYTES]))
    )
    reader, groups = keep_going(whole[:at] + more + whole[at:])
    check_whole(groups, written, set())
    assert reader.n_samples is not None


@given(st.integers(0, 60), st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_cut_file_gives_all_its_whole_groups(n_frames: int, data: st.DataObject, pipe: bool) -> None:
    written = random_groups(HEADER, n_frames)
    whole = write_groups(HEADER, written)
    length = data.draw(st.integers(FIRST, len(whole) - 1))
    end = len(whole) - end_bytes(whole)
    n_whole = len(written) if length >= end else (length - FIRST) // GROUP_BYTES
    reader, groups = keep_going(whole[:length], pipe=pipe)
    check_whole(groups, written[:n_whole], set())
    assert reader.n_samples is None
    assert len(reader.damage) == 1
    assert reader.damage[0].n_groups is None


@with_features
def test_damage_in_a_file_with_features_costs_its_own_groups(entropy: bool, variable: bool) -> None:
    data, header, tables = featured_stream(entropy=entropy, variable=variable, n_frames=60)
    whole = list(Reader(io.BytesIO(data), tables=tables))
    first = len(pack_header(header))
    generator = np.random.default_rng(0)
    for _ in range(60):
        start = int(generator.integers(first, len(data) - end_bytes(data)))
        stop = start + int(generator.integers(1, 40))
        damaged = data[:start] + generator.bytes(int(generator.integers(0, 40))) + data[stop:]
        reader = Reader(io.BytesIO(damaged), keep_going=True, tables=tables)
        groups = list(reader)
        check_span(header, groups)
        same_ones = [same(a.levels, b.levels) for a, b in zip(groups, whole, strict=False)]
        assert all(good or group.levels is None for good, group in zip(same_ones, groups, strict=True))
        assert sum(not good for good in same_ones) <= 8  # 40 bytes of groups of 11 or more, and their ends
        assert reader.damage or damaged == data


@with_features
def test_a_group_of_impossible_codes_is_lost_alone(entropy: bool, variable: bool) -> None:
    data, header, tables = featured_stream(entropy=entropy, variable=variable, n_frames=30)
    whole = list(Reader(io.BytesIO(data), tables=tables))
    n_possible = 0
    for seed in range(40):
        payload = np.random.default_rng(seed).bytes(len(whole[1].payload or b""))
        wrong = pack_group(header, 1, 8, payload, with_lengths=entropy)
        right = pack_group(header, 1, 8, whole[1].payload or b"", with_lengths=entropy)
        reader = Reader(io.BytesIO(data.replace(right, wrong)), keep_going=True, tables=tables)
        groups = list(reader)
        n_possible += groups[1].levels is not None
        assert [group.levels is None for group in groups[2:]] == [False, False]
        assert len(reader.damage) == (groups[1].levels is None)
        if reader.damage:
            assert (reader.damage[0].index, reader.damage[0].n_groups) == (1, 1)
            start = len(pack_header(header)) + data[len(pack_header(header)) :].index(right)
            assert reader.damage[0].offset == start
            with pytest.raises(FormatError, match="group 1"):
                list(Reader(io.BytesIO(data.replace(right, wrong)), tables=tables))
    assert n_possible < 20


def test_damage_is_named_with_its_place_and_time() -> None:
    header = make_header(frames_per_group=150)
    data = bytearray(write_stream(header, 1000))
    start = len(pack_header(header)) + 3 * (376 + 8)
    data[start + 100] ^= 4
    place = rf"the checksum is wrong \(byte {start}, group 3, 0:06.0 to 0:08.0\)"
    with pytest.raises(FormatError, match=place + ".*--keep-going"):
        list(Reader(io.BytesIO(bytes(data))))
    problems = verify(io.BytesIO(bytes(data)))
    assert problems == [f"the checksum is wrong (byte {start}, group 3, 0:06.0 to 0:08.0)"]


def test_seeking_in_a_damaged_file_finds_the_right_time() -> None:
    data = write_stream(HEADER, 60)
    shorter = data[: FIRST + 2 * GROUP_BYTES + 5] + data[FIRST + 3 * GROUP_BYTES - 5 :]
    for frame in range(60):
        reader = Reader(io.BytesIO(shorter), keep_going=True)
        reader.seek_frame(frame)
        group = next(iter(reader))
        assert group.index == frame // 8
        assert (group.levels is None) == (group.index == 2)


def test_info_of_a_cut_file_says_what_is_there() -> None:
    data = write_stream(HEADER, 60)[: FIRST + 3 * GROUP_BYTES + 9]
    with pytest.raises(FormatError, match="ends inside a group"):
        info(io.BytesIO(data))
    seen = info(io.BytesIO(data), keep_going=True)
    assert (seen.n_groups, seen.n_frames, seen.n_samples) == (3, 24, None)
