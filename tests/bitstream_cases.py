"""Small `.rq` streams of random codes, and inputs that behave badly."""

import io
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiocodec.bitstream import Header, Reader, Writer
from audiocodec.codes import CodeSpace, Source

Levels = tuple[NDArray[np.int16], ...]


def make_header(
    codebook_sizes: tuple[int, ...] = (1024, 1024),
    frames_per_code: tuple[int, ...] | None = None,
    *,
    channels: int = 1,
    frames_per_group: int = 8,
    tags: dict[str, str] | None = None,
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
    return Header(space, Source(24000, channels), frames_per_group, tags or {})


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


def write_groups(header: Header, groups: Iterable[tuple[int, Levels]], n_samples: int | None = None) -> bytes:
    """The stream of these groups; without `n_samples`, of as many samples as their frames hold."""
    file = io.BytesIO()
    writer = Writer(file, header)
    total = 0
    for n_frames, levels in groups:
        writer.write(n_frames, levels)
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
