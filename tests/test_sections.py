"""Laws of entropy-coded files and of those whose number of levels varies (features 0 and 1)."""

import io
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import (
    Pipe,
    featured_groups,
    featured_headers,
    featured_stream,
    first_levels,
    likeliest,
    make_header,
    random_groups,
    same,
    write_groups,
)
from entropy_cases import tiny_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.bitstream import EntropyTables, Header, Reader, Writer, drop, info, verify
from audiocodec.bitstream.header import pack_header
from audiocodec.errors import FormatError, ModelError

Featured = tuple[Header, EntropyTables | None]

# Round trips


@given(featured_headers(), st.integers(0, 45), st.integers(0, 9), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_reading_gives_back_what_was_written(case: Featured, n_frames: int, seed: int, step: int) -> None:
    header, tables = case
    groups = featured_groups(header, tables, n_frames, seed)
    data = write_groups(header, groups, tables=tables)
    for file in (io.BytesIO(data), Pipe(data, step)):
        reader = Reader(file, tables=tables)
        found = list(reader)
        assert reader.header == header
        assert reader.n_samples == max(0, n_frames * 320 - 960)
        assert len(found) == len(groups)
        for group, (frames, levels, counts) in zip(found, groups, strict=True):
            assert group.n_frames == frames
            assert same(group.levels, levels)
            assert (group.counts is None) == (counts is None)
            assert counts is None or np.array_equal(group.counts, counts)
    assert verify(io.BytesIO(data), lambda _: tables) == []
    assert verify(io.BytesIO(data)) == []


def test_the_cases_have_sections_of_both_forms() -> None:
    data, _, _ = featured_stream(entropy=True, variable=False, n_frames=60)
    groups = list(Reader(io.BytesIO(data), unpack=False))
    forms = {section.coded for group in groups for level in group.sections.levels for section in level}
    assert forms == {True, False}


@given(featured_headers(), st.integers(0, 45), st.data())
@settings(max_examples=60, deadline=None)
def test_dropping_levels_gives_the_bytes_of_writing_fewer(
    case: Featured, n_frames: int, data: st.DataObject
) -> None:
    header, tables = case
    n_q = data.draw(st.integers(1, header.space.n_q))
    groups = featured_groups(header, tables, n_frames)
    dropped = io.BytesIO()
    drop(Pipe(write_groups(header, groups, tables=tables), 100), dropped, n_q)
    assert dropped.getvalue() == write_groups(header.first(n_q), first_levels(groups, n_q), tables=tables)


@given(featured_headers(), st.integers(0, 60), st.integers(0, 70), st.booleans())
@settings(max_examples=30, deadline=None)
def test_seeking_goes_to_the_group_that_holds_the_frame(
    case: Featured, n: int, frame: int, pipe: bool
) -> None:
    header, tables = case
    data = write_groups(header, featured_groups(header, tables, n), tables=tables)
    whole = list(Reader(io.BytesIO(data), tables=tables))
    reader = Reader(Pipe(data) if pipe else io.BytesIO(data), tables=tables)
    reader.seek_frame(frame)
    found = list(reader)
    expected = [group for group in whole if group.first_frame + header.frames_per_group > frame]
    assert [group.index for group in found] == [group.index for group in expected]
    assert all(same(a.levels, b.levels) for a, b in zip(found, expected, strict=True))


# Sizes


@pytest.mark.parametrize("n_q", [1, 2, 8])
@pytest.mark.parametrize("channels", [1, 2])
def test_entropy_coding_never_costs_more_than_a_hundredth(n_q: int, channels: int) -> None:
    tables = tiny_tables((1024,) * 8)
    raw = make_header((1024,) * n_q, channels=channels, frames_per_group=150)
    coded = replace(raw, entropy_id=tables.id)
    generator = np.random.default_rng(0)
    for seed in range(3):
        groups = random_groups(raw, 750, seed)
        if seed == 2:  # one section of each group can be coded, all others pay for it
            for n, (frames, levels) in enumerate(groups):
                last = likeliest(tables, list(levels[:-1]), levels[-1], None, generator)
                last[1:] = levels[-1][1:]
                groups[n] = (frames, (*levels[:-1], last))
        size, raw_size = len(write_groups(coded, groups, tables=tables)), len(write_groups(raw, groups))
        assert size <= 1.01 * raw_size + 20
        any_coded = any(
            group.sections.any_coded
            for group in Reader(io.BytesIO(write_groups(coded, groups, tables=tables)), unpack=False)
        )
        assert any_coded == (seed == 2 and n_q > 1)
        assert any_coded or size == raw_size + 8 + len(groups)  # the id, and a length of zero for each group


def test_likely_codes_take_fewer_bytes() -> None:
    tables = tiny_tables((64,) * 4)
    header = make_header((64,) * 4, frames_per_group=75, tables=tables)
    groups = featured_groups(header, tables, 250)
    raw = write_groups(replace(header, entropy_id=None), groups)
    assert len(write_groups(header, groups, tables=tables)) < 0.95 * len(raw)


def test_silence_takes_next_to_nothing() -> None:
    header = make_header((1024,) * 8, frames_per_group=150, variable=True)
    nothing = tuple(np.zeros((8, 1, 150), np.int16))
    data = write_groups(header, [(150, nothing, np.zeros((1, 150), np.uint8))] * 30)
    assert len(data) * 8 / 60 < 100  # bits a second


@pytest.mark.parametrize("variable", [False, True])
def test_raw_sections_of_varying_levels_have_exactly_their_bits(variable: bool) -> None:
    header = make_header((1024, 8), variable=variable)
    levels = (np.array([[1, 2, 3, 0]], np.int16), np.array([[5, 0, 0, 0]], np.int16))
    counts = np.array([[2, 1, 1, 0]], np.uint8)
    data = write_groups(header, [(4, levels, counts if variable else None)])
    group = next(iter(Reader(io.BytesIO(data))))
    sizes = [[len(section.data) for section in level] for level in group.sections.levels]
    assert sizes == ([[4], [1]] if variable else [[5], [2]])


# Tables


def test_coded_files_can_be_looked_at_without_tables() -> None:
    data, _, _ = featured_stream(entropy=True, variable=True)
    assert info(io.BytesIO(data)).n_frames == 20
    assert verify(io.BytesIO(data)) == []
    drop(io.BytesIO(data), io.BytesIO(), 2)
    assert [group.levels for group in Reader(io.BytesIO(data), unpack=False)] == [None] * 3


def test_coded_files_cannot_be_unpacked_without_their_tables() -> None:
    data, _, tables = featured_stream(entropy=True, variable=False)
    for keep_going in (False, True):
        with pytest.raises(
            ModelError, match=rf"tables {tables.id.hex()} of model 'demo-24khz', which are not here"
        ):
            list(Reader(io.BytesIO(data), keep_going=keep_going))
        with pytest.raises(ModelError, match="these are"):
            list(Reader(io.BytesIO(data), keep_going=keep_going, tables=tiny_tables((16, 5, 64), seed=9)))
    assert list(Reader(io.BytesIO(data), tables=lambda header: tables))
    assert verify(io.BytesIO(data), lambda _: tiny_tables((16, 5, 64), seed=9)) == []


def test_a_file_with_other_codebooks_than_its_tables_is_refused() -> None:
    tables = tiny_tables((16, 5, 64))
    data, header, _ = featured_stream(entropy=True, variable=False)
    space = replace(header.space, codebook_sizes=(16, 7, 64))
    other = data.replace(pack_header(header), pack_header(replace(header, space=space)))
    with pytest.raises(FormatError, match="codebooks are not those of its entropy tables"):
        list(Reader(io.BytesIO(other), tables=tables))


# Wrong use


def test_wrong_counts_are_refused() -> None:
    header = make_header((64, 64), variable=True)
    writer = Writer(io.BytesIO(), header)
    codes = (np.ones((1, 4), np.int16), np.zeros((1, 4), np.int16))
    counts = np.ones((1, 4), np.uint8)
    for levels, numbers, message in [
        (codes, None, "numbers of levels go with"),
        (codes, counts[:, :3], r"expected uint8 \[1, 4\]"),
        (codes, counts.astype(np.int16), "int16"),
        (codes, counts * 3, "3 levels: expected 0 to 2"),
        (codes, counts * 0, "level 0: codes in frames that have no such level"),
    ]:
        with pytest.raises(ValueError, match=message):
            writer.write(4, levels, numbers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="numbers of levels go with"):
        Writer(io.BytesIO(), make_header((64, 64))).write(4, codes, counts)


def test_headers_and_tables_that_do_not_go_together_are_refused() -> None:
    tables = tiny_tables((64, 64))
    with pytest.raises(ValueError, match="more than one frame per code"):
        make_header((64, 64), (2, 1), tables=tables)
    with pytest.raises(ValueError, match="more than one frame per code"):
        make_header((64, 64), (2, 1), variable=True)
    with pytest.raises(ValueError, match="8 bytes, not 3"):
        replace(make_header(), entropy_id=b"abc")
    with pytest.raises(ValueError, match="other entropy tables"):
        Writer(io.BytesIO(), make_header((64, 64)), tables)
    with pytest.raises(ValueError, match="other entropy tables"):
        Writer(io.BytesIO(), make_header((64, 64), tables=tables))
    with pytest.raises(ValueError, match="expected the header's"):
        Writer(io.BytesIO(), make_header((64, 32), tables=tables), tables)


# What info says


def test_info_says_what_is_saved_and_the_rate_over_time() -> None:
    tables = tiny_tables((64,) * 4)
    header = make_header((64,) * 4, frames_per_group=75, tables=tables)
    groups = featured_groups(header, tables, 250)
    data = write_groups(header, groups, tables=tables)
    seen = info(io.BytesIO(data))
    assert seen == info(Pipe(data))
    payloads = [len(group.payload) for group in Reader(io.BytesIO(data), unpack=False)]
    lengths = [n_bytes + 9 + (n_bytes > 127) for n_bytes in payloads]
    lengths[-1] += 1  # its number of frames
    assert seen.saving == pytest.approx(1 - sum(lengths) / (3 * 4 * 57 + 4 * 19 + 4 * 8))
    rates = list(seen.rates())
    assert sum(seconds for seconds, _ in rates) == pytest.approx(250 / 75)
    assert sum(seconds * kbps for seconds, kbps in rates) * 125 == pytest.approx(sum(lengths))
    assert list(replace(seen, table=b"").rates()) == []
    assert replace(seen, table=b"").saving is None
