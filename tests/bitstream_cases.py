"""Small `.rq` streams of random codes, and inputs that behave badly."""

import io
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from entropy_cases import tiny_tables
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiocodec.bitstream import EntropyTables, Group, Header, Reader, Writer
from audiocodec.codes import CodeSpace, Source

Levels = tuple[NDArray[np.int16], ...]
Counts = NDArray[np.uint8]
Groups = list[tuple[int, Levels, Counts | None]]


def make_header(
    codebook_sizes: tuple[int, ...] = (1024, 1024),
    frames_per_code: tuple[int, ...] | None = None,
    *,
    channels: int = 1,
    frames_per_group: int = 8,
    tags: dict[str, str] | None = None,
    tables: EntropyTables | None = None,
    variable: bool = False,
) -> Header:
    """A header in the default model's rates."""
    space = CodeSpace(
        id=bytes(range(16)),
        model="demo-24khz",
        sample_rate=24000,
        hop_length=320,
        delay=960,
        codebook_sizes=codebook_sizes,
        frames_per_code=frames_per_code or (1,) * len(codebook_sizes),
    )
    entropy_id = None if tables is None else tables.id
    return Header(space, Source(24000, channels), frames_per_group, tags or {}, entropy_id, variable=variable)


def random_groups(header: Header, n_frames: int, seed: int = 0) -> list[tuple[int, Levels]]:
    """Frames and random codes of each group of a stream of `n_frames` frames."""
    generator = np.random.default_rng(seed)
    groups = []
    for first in range(0, n_frames, header.frames_per_group):
        frames = min(header.frames_per_group, n_frames - first)
        shapes = [(header.n_lanes, n_codes) for n_codes in header.n_codes(frames)]
        sizes = header.space.codebook_sizes
        codes = [generator.integers(0, size, shape) for size, shape in zip(sizes, shapes, strict=True)]
        groups.append((frames, tuple(level.astype(np.int16) for level in codes)))
    return groups


def featured_groups(header: Header, tables: EntropyTables | None, n_frames: int, seed: int = 0) -> Groups:
    """Groups with counts where they vary, and with tables of codes that are mostly likely ones, so that both forms of
    sections come up.
    """
    generator = np.random.default_rng(seed)
    groups: Groups = []
    for frames, levels in random_groups(header, n_frames, seed):
        counts = None
        if header.variable:
            steps = generator.integers(-1, 2, (header.n_lanes, frames)).cumsum(axis=1)
            start = generator.integers(0, header.space.n_q + 1)
            counts = np.clip(start + steps, 0, header.space.n_q).astype(np.uint8)
        chosen: list[NDArray[np.int16]] = []
        for level, codes in enumerate(levels):
            present = 1 if counts is None else counts > level
            if tables is not None and generator.random() < 0.75:
                codes = likeliest(tables, chosen, codes, counts, generator)  # noqa: PLW2901
            chosen.append((codes * present).astype(np.int16))
        groups.append((frames, tuple(chosen), counts))
    return groups


def likeliest(
    tables: EntropyTables,
    below: list[NDArray[np.int16]],
    codes: NDArray[np.int16],
    counts: Counts | None,
    generator: np.random.Generator,
) -> NDArray[np.int16]:
    """Codes [lanes, F] of the level above `below` that cost few bits, or `codes` themselves."""
    size, shape = tables.codebook_sizes[len(below)], codes.shape
    best, least = codes, tables.bits([*below, codes], counts)[-1]
    for code in generator.permutation(size)[:12]:
        tried = np.full(shape, code, np.int16)
        bits = tables.bits([*below, tried], counts)[-1]
        if not below:  # codes of the first level stand in each other's contexts: all or none
            bits, least = (np.broadcast_to(b.sum(axis=1, keepdims=True), shape) for b in (bits, least))
        best = np.where(bits < least, tried, best)
        least = np.minimum(bits, least)
    return best


def first_levels(groups: Groups, n_q: int) -> Groups:
    """The same groups with their first levels only."""
    return [
        (frames, levels[:n_q], None if counts is None else np.minimum(counts, n_q).astype(np.uint8))
        for frames, levels, counts in groups
    ]


def write_groups(
    header: Header,
    groups: Iterable[tuple[int, Levels] | tuple[int, Levels, Counts | None]],
    n_samples: int | None = None,
    tables: EntropyTables | None = None,
) -> bytes:
    """The stream of these groups; without `n_samples`, of as many samples as their frames hold."""
    file = io.BytesIO()
    writer = Writer(file, header, tables)
    total = 0
    for n_frames, *content in groups:
        writer.write(n_frames, *content)
        total += n_frames
    whole = max(0, total * header.space.hop_length - header.space.delay)
    writer.finish(whole if n_samples is None else n_samples)
    return file.getvalue()


def write_stream(header: Header, n_frames: int, seed: int = 0) -> bytes:
    """A stream of `n_frames` frames of random codes."""
    return write_groups(header, random_groups(header, n_frames, seed))


def read_levels(data: bytes | BinaryIO) -> list[Levels | None]:
    """Codes of each group."""
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    return [group.levels for group in Reader(file)]


def same(left: Levels | None, right: Levels | None) -> bool:
    """Whether two groups have the same codes."""
    if left is None or right is None:
        return left is right
    return len(left) == len(right) and all(map(np.array_equal, left, right))


def end_bytes(data: bytes) -> int:
    """Length of a stream's end, as its end mark says."""
    return int.from_bytes(data[-8:-4], "little")


class Pipe(io.RawIOBase):
    """An input that cannot seek and gives at most `step` bytes a time; it counts what it was asked for."""

    def __init__(self, data: bytes, step: int = 1 << 30) -> None:
        self._file = io.BytesIO(data)
        self._step = step
        self.n_read = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(size, self._step) if size >= 0 else self._step)
        self.n_read += len(piece)
        return piece


def keep_going(data: bytes, *, pipe: bool = False) -> tuple[Reader, list[Group]]:
    """All groups that a reader gives that keeps going, and the reader."""
    reader = Reader(Pipe(data, 100) if pipe else io.BytesIO(data), keep_going=True)
    return reader, list(reader)


def featured_stream(
    *, entropy: bool, variable: bool, n_frames: int = 20, seed: int = 0, sizes: tuple[int, ...] = (16, 5, 64)
) -> tuple[bytes, Header, EntropyTables | None]:
    """A small stereo stream with features, its header and its tables."""
    tables = tiny_tables(sizes) if entropy else None
    header = make_header(sizes, channels=2, tags={"title": "x"}, tables=tables, variable=variable)
    groups = featured_groups(header, tables, n_frames, seed)
    return write_groups(header, groups, tables=tables), header, tables


@st.composite
def featured_headers(draw: st.DrawFn) -> tuple[Header, EntropyTables | None]:
    """Any small header with entropy coding, variable rate or both, and its tables."""
    sizes = tuple(draw(st.lists(st.sampled_from([2, 3, 64, 300]), min_size=1, max_size=4)))
    entropy, variable = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    tables = tiny_tables(sizes, draw(st.integers(0, 3))) if entropy else None
    header = make_header(
        sizes,
        channels=draw(st.integers(1, 2)),
        frames_per_group=draw(st.integers(1, 20)),
        tags=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)),
        tables=tables,
        variable=variable,
    )
    return header, tables


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Any small header: levels, codebook sizes, frames per code, lanes, group lengths, tags."""
    n_q = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.sampled_from([2, 3, 64, 1000, 1024, 32768]), min_size=n_q, max_size=n_q))
    frames = draw(st.lists(st.sampled_from([1, 2, 4]), min_size=n_q, max_size=n_q))
    return make_header(
        tuple(sizes),
        tuple(frames),
        channels=draw(st.integers(1, 2)),
        frames_per_group=4 * draw(st.integers(1, 5)),
        tags=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
    )
