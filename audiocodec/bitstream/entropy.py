"""The entropy coder: tables that say how likely each code is after those already known, and what comes of it.

The coder takes one section at a time, that is one level of one lane of a group. It knows the levels below
wholly, each of which may have been stored raw as well; of the first level it knows the frames before.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from audiocodec.bitstream.ans import BITS, Decoder, encode, ends_of, range_of
from audiocodec.bitstream.network import TOP, Arrays, Floats, Ints, build_networks
from audiocodec.errors import ModelError

ID_BYTES = 8
# Places that are weighed at a time, all their codes together: few enough to stay in the processor's cache.
SLAB_ROWS, SLAB_CELLS = 256, 1 << 16

Codes = NDArray[np.int16]
Counts = NDArray[np.uint8]


class EntropyTables:
    """What the coder has learned of a model's codes.

    id: 8 bytes, a hash of the tables; a file that needs them names it. codebook_sizes: of the levels they know;
    a file may have fewer levels.

    arrays: per level l `embedding_l` [K, D], `context_l` [H, taps, D], `hidden_l` [H, H], `output_l` [K, H] (int8),
    `context_bias_l` [H], `hidden_bias_l` [H], `output_bias_l` [K] (int32), and the integers `past` and `future`.
    The first level has `past` taps, the others past + 1 + future. Raises ValueError where they are not so.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._networks, self._past, self._future = build_networks(arrays)
        self.codebook_sizes = tuple(len(network.embedding) for network in self._networks)
        digest = hashlib.sha256()
        for name in sorted(arrays):
            array = arrays[name]
            digest.update(f"{name} {array.dtype.str} {list(array.shape)}\n".encode() + array.tobytes())
        self.id = digest.digest()[:ID_BYTES]

    def pack(self, codes: Codes, counts: Counts | None = None) -> bytes:
        """Code the last of the given levels of one lane; no bytes where it has no codes.

        codes: int16 [levels, F], this level and those below it.
        counts: uint8 [F], how many levels each frame has (variable bitrate); None: each has all.
        Raises ValueError for codes outside their codebook.
        """
        self._check(codes, counts, len(codes))
        _, starts, ends = self._ranges(codes, counts)
        return encode(starts.tolist(), ends.tolist())

    def unpack(self, section: bytes, below: Codes, counts: Counts | None = None) -> Codes:
        """Read back a level: its codes, int16 [F], 0 where a frame has none.

        section: what `pack` returned. below: int16 [levels, F], all levels below it, coded or raw;
        for the first level [0, F]. counts: as for `pack`.
        Raises FormatError where the section cannot be of such a level, ValueError for codes outside their codebook.
        """
        self._check(below, counts, len(below) + 1)
        level, n_frames = below.shape
        frames = _frames(level, n_frames, counts)
        decoder = Decoder(section, len(frames))
        codes = np.zeros(n_frames, np.int16)
        if level:
            for some, sums in self._sums(level, self._context(level, below, counts), frames):
                codes[some] = [decoder.take(row.data) for row in ends_of(sums)]
        else:
            self._unpack_first(decoder, codes, frames)
        decoder.finish()
        return codes

    def bits(self, levels: Sequence[Codes], counts: Counts | None = None) -> Floats:
        """What each code takes: float32 [n_q, lanes, F], in bits; 0 where a frame has none.

        levels: per level int16 [lanes, F]; counts: uint8 [lanes, F], None: each frame has all levels.
        Raises ValueError for codes outside their codebook.
        """
        bits = np.zeros((len(levels), *levels[0].shape), np.float32)
        for lane in range(bits.shape[1]):
            codes = np.stack([level[lane] for level in levels])
            present = None if counts is None else counts[lane]
            self._check(codes, present, len(codes))
            for level in range(len(levels)):
                frames, starts, ends = self._ranges(codes[: level + 1], present)
                bits[level, lane, frames] = BITS - np.log2(ends - starts)
        return bits

    def _check(self, codes: Codes, counts: Counts | None, n_levels: int) -> None:
        """Raise ValueError for codes [levels, F] that the tables do not know, or counts of another shape."""
        if not 1 <= n_levels <= len(self.codebook_sizes):
            raise ValueError(f"{n_levels} levels: the tables know {len(self.codebook_sizes)}")
        if counts is not None and counts.shape != codes.shape[1:]:
            raise ValueError(
                f"counts {list(counts.shape)} for codes {list(codes.shape)}: expected one per frame"
            )
        for level, (row, size) in enumerate(zip(codes, self.codebook_sizes, strict=False)):
            if row.size and not 0 <= row.min() <= row.max() < size:
                raise ValueError(f"level {level}: codes {row.min()} to {row.max()}, expected 0 to {size - 1}")

    def _ranges(self, codes: Codes, counts: Counts | None) -> tuple[Ints, Ints, Ints]:
        """The frames that have a code at the last of the levels, and where the range of each code starts and ends."""
        level, n_frames = len(codes) - 1, codes.shape[1]
        frames = _frames(level, n_frames, counts)
        ranges = np.zeros((2, n_frames), np.int64)
        for some, sums in self._sums(level, self._context(level, codes, counts), frames):
            ranges[:, some] = range_of(sums, codes[level, some].astype(np.int64))
        return frames, *ranges[:, frames]

    def _context(self, level: int, codes: Codes, counts: Counts | None) -> Floats:
        """What the coder sees from each frame: [F, taps * D], a view.

        That is the sum of the embedded codes below `level`, frame by frame; for the first level, of its own.
        """
        known = max(1, level)
        embedded = np.zeros((codes.shape[1], self._networks[0].embedding.shape[1]), np.float32)
        for index, (network, row) in enumerate(zip(self._networks[:known], codes, strict=False)):
            part = network.embedding[row]
            embedded += part if counts is None else part * (counts > index)[:, None]
        padded = np.pad(np.clip(embedded, -TOP, TOP), ((self._past, self._future), (0, 0)))
        dim, n_inputs = padded.shape[1], len(self._networks[level].context.weights)
        return sliding_window_view(padded.reshape(-1), n_inputs)[::dim][: codes.shape[1]]

    def _sums(self, level: int, context: Floats, frames: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Some of the frames at a time, and the running sums of the weights of their codes, [n, K]."""
        network = self._networks[level]
        n_rows = max(1, min(SLAB_ROWS, SLAB_CELLS // self.codebook_sizes[level]))
        for at in range(0, len(frames), n_rows):
            some = frames[at : at + n_rows]
            yield some, network.sums(network.context(context[some]))

    def _unpack_first(self, decoder: Decoder, codes: Codes, frames: Ints) -> None:
        """Decode the first level into `codes` [F]: each code adds to the contexts of the frames that follow it."""
        network = self._networks[0]
        context = np.tile(network.context.bias, (len(codes) + self._past, 1))
        for frame in frames.tolist():
            sums = network.sums(context[frame : frame + 1])
            code = decoder.take(ends_of(sums)[0].data)
            codes[frame] = code
            context[frame + 1 : frame + 1 + self._past] += self._echoes[code]

    @cached_property
    def _echoes(self) -> Floats:
        """Of the first level: what a code adds to the contexts of the frames after it."""
        return self._networks[0].echoes()


def load_tables(path: Path) -> EntropyTables:
    """Read tables. Raises ModelError if the file is missing, damaged, or holds no such tables."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return EntropyTables({name: file[name] for name in file.files})
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise ModelError(
            f"{path}: no tables of the entropy coder ({str(error) or type(error).__name__}); "
            "get another copy of the model"
        ) from error


def save_tables(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write tables as a `.npz` file. Raises ValueError if the arrays are no tables."""
    whole = {name: np.asarray(array) for name, array in arrays.items()}
    EntropyTables(whole)
    with path.open("wb") as file:
        np.savez(file, **whole)  # type: ignore[arg-type]  # numpy's stubs take the names for options


def _frames(level: int, n_frames: int, counts: Counts | None) -> Ints:
    """The frames that have a code at `level`."""
    return np.arange(n_frames, dtype=np.int64) if counts is None else np.flatnonzero(counts > level)
