"""A few seconds of fuzzing; `python tests/fuzz_bitstream.py --minutes 10` is the long way."""

import io
import itertools
import time
import tracemalloc
from dataclasses import replace

import pytest
from bitstream_cases import make_header
from fuzz_bitstream import FINDS, FORMS, check, inputs, seeds, split

from audiocodec.bitstream import Group, Reader, layout
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.reader import MAX_LOST_FRAMES
from audiocodec.bitstream.writer import pack_group


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_makes_a_reader_crash_or_hang(seed: int) -> None:
    for data in itertools.islice(inputs(seed), 150):
        check(data)


@pytest.mark.parametrize("name", FINDS)
def test_what_once_made_trouble_makes_none(name: str) -> None:
    check(bytes.fromhex(FINDS[name]))


def test_good_streams_pass() -> None:
    for data in seeds():
        check(data)
        assert b"".join(split(data)) == data


@pytest.mark.parametrize(("entropy", "variable"), FORMS)
def test_false_heads_take_little_time_and_memory(entropy: bool, variable: bool) -> None:
    """Heads that each claim the largest group there can be."""
    header = make_header(
        (32768,) * 64, channels=2, frames_per_group=layout.MAX_FRAMES_PER_GROUP, variable=variable
    )
    header = replace(header, entropy_id=bytes(8) if entropy else None)
    most = header.most_payload_bytes(header.frames_per_group)
    values = {"payload_bytes": most} if header.sized else {}
    head = layout.pack_head(layout.GROUP, sized=header.sized, index=0, **values)
    data = pack_header(header) + head * (3_000_000 // len(head))
    assert spent(data) == []


def test_the_largest_groups_take_little_memory() -> None:
    """Whole groups of as many frames and levels as there can be, in few bytes."""
    header = make_header(
        (32768,) * 64, channels=2, frames_per_group=layout.MAX_FRAMES_PER_GROUP, variable=True
    )
    data = pack_header(header) + b"".join(
        pack_group(header, n, header.frames_per_group, b"\x01\x00") for n in range(20)
    )
    assert [group.counts.max() for group in spent(data, n_kept=3)] == [0, 0, 0]


def spent(data: bytes, n_kept: int = 0) -> list[Group]:
    """The first groups that a reader gives, after it was made sure that it takes little time and memory."""
    begun = time.process_time()
    tracemalloc.start()
    groups = Reader(io.BytesIO(data), keep_going=True)
    kept = [group for n, group in enumerate(groups) if n < n_kept]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - begun < 20
    assert peak < 64e6
    return kept


def test_no_more_lost_groups_are_made_up_than_an_hour_can_have() -> None:
    header = make_header((2,), frames_per_group=1)
    header = replace(
        header, space=replace(header.space, sample_rate=layout.MAX_RATE_HZ, hop_length=1, delay=0)
    )
    data = pack_header(header) + pack_group(header, 1 << 34, 1, b"\0")
    assert spent(data) == []
    data = pack_header(header) + pack_group(header, MAX_LOST_FRAMES, 1, b"\0")
    reader = Reader(io.BytesIO(data), keep_going=True)
    assert sum(1 for _ in reader) == MAX_LOST_FRAMES + 1
