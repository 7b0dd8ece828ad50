"""Codes: the waist of the house. Models make them, files carry them; neither knows the other."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

CODE_SPACE_ID_BYTES = 16
MAX_LEVELS = 64
MAX_CODEBOOK_SIZE = 1 << 15  # codes are int16


@dataclass(frozen=True, slots=True)
class CodeSpace:
    """What the codes of a model mean. Whoever has a model of the same code space can decode them.

    id: 16 bytes, a hash of the quantizer and of what else gives codes their meaning.
    model: name of the model that defined the space.
    sample_rate (Hz), hop_length (samples per frame) of the coded lanes.
    delay: samples by which decoded lanes lag behind: n samples take ceil((n + delay) / hop_length) frames.
    codebook_sizes, frames_per_code: one value per level, the coarsest level first.
    lane_channels: 1; or 2 where one lane is both channels of a recording, left and right.
    segment_overlap: samples that neighbouring segments share, a segment being what one code of the first level stands
    for; 0 where lanes are coded without segments.
    """

    id: bytes
    model: str
    sample_rate: int
    hop_length: int
    delay: int
    codebook_sizes: tuple[int, ...]
    frames_per_code: tuple[int, ...]
    lane_channels: int = 1
    segment_overlap: int = 0

    def __post_init__(self) -> None:
        if len(self.id) != CODE_SPACE_ID_BYTES:
            raise ValueError(f"a code space id has {CODE_SPACE_ID_BYTES} bytes, not {len(self.id)}")
        if len(self.codebook_sizes) != len(self.frames_per_code):
            raise ValueError("codebook_sizes and frames_per_code must have one value per level each")
        if not 1 <= self.n_q <= MAX_LEVELS:
            raise ValueError(f"{self.n_q} levels: expected 1 to {MAX_LEVELS}")
        if not all(2 <= size <= MAX_CODEBOOK_SIZE for size in self.codebook_sizes):
            raise ValueError(f"codebook sizes {self.codebook_sizes}: expected 2 to {MAX_CODEBOOK_SIZE} each")
        if self.lane_channels not in (1, 2):
            raise ValueError(f"{self.lane_channels} channels in a lane: expected 1 or 2")
        segment_samples = self.frames_per_code[0] * self.hop_length
        if not 0 <= self.segment_overlap <= segment_samples // 2:
            raise ValueError(
                f"segments overlap by {self.segment_overlap} samples: expected 0 to {segment_samples // 2}"
            )

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return len(self.codebook_sizes)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate * self.unit_frames / self.unit_samples

    @property
    def unit_frames(self) -> int:
        """The smallest number of frames that stand for a fixed number of samples: one, or those of a segment."""
        return self.frames_per_code[0] if self.segment_overlap else 1

    @property
    def unit_samples(self) -> int:
        """By how many samples a lane goes on in `unit_frames` frames."""
        return self.unit_frames * self.hop_length - self.segment_overlap

    def n_lanes(self, channels: int) -> int:
        """Lanes of a recording with so many channels."""
        return channels if self.lane_channels == 1 else 1

    @property
    def bits_per_code(self) -> tuple[int, ...]:
        """Bits of one raw code, per level: ceil(log2(codebook size))."""
        return tuple((size - 1).bit_length() for size in self.codebook_sizes)

    def kbps(self, n_q: int | None = None) -> float:
        """Rate of the raw codes of one lane at the first `n_q` levels, in kbit/s."""
        pairs = list(zip(self.bits_per_code, self.frames_per_code, strict=True))[:n_q]
        return self.frame_rate * sum(bits / frames for bits, frames in pairs) / 1000

    def first(self, n_q: int) -> "CodeSpace":
        """The same space with its first `n_q` levels only (the id stays: the codes mean the same)."""
        if not 1 <= n_q <= self.n_q:
            raise ValueError(f"{n_q} levels asked for, expected 1 to {self.n_q}")
        return replace(
            self, codebook_sizes=self.codebook_sizes[:n_q], frames_per_code=self.frames_per_code[:n_q]
        )

    def n_frames(self, n_samples: int) -> int:
        """Frames that a lane of `n_samples` samples is coded in; none for an empty lane."""
        if not n_samples:
            return 0
        n_units = -(-(n_samples + self.delay - self.segment_overlap) // self.unit_samples)
        return max(1, n_units) * self.unit_frames


@dataclass(frozen=True, slots=True)
class Source:
    """The recording that was coded: its rate in Hz and its channels (1, or 2 coded as mid and side)."""

    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of one recording, or of a stretch of it.

    space: what the codes mean; it may have more levels than are here.
    n_frames: F, frames at the frame rate.
    levels: one int16 array [lanes, ceil(F / frames_per_code)] per level, the coarsest first.
    n_samples: length of the recording at the source's rate; None while it is not known (a stream).
    counts: with variable bitrate, how many levels each frame has, uint8 [lanes, F]; the codes of the others are 0.
    None: all frames have all levels.

    >>> space = CodeSpace(bytes(16), "demo", 24000, 320, 960, (1024, 1024), (1, 1))
    >>> codes = Codes(space, Source(24000, 1), 75, tuple(np.zeros((2, 1, 75), np.int16)), n_samples=None)
    >>> codes.n_q, codes.n_frames, codes.values.shape
    (2, 75, (1, 2, 75))
    """

    space: CodeSpace
    source: Source
    n_frames: int
    levels: tuple[NDArray[np.int16], ...]
    n_samples: int | None
    counts: NDArray[np.uint8] | None = None

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.space.frame_rate

    @property
    def values(self) -> NDArray[np.int16]:
        """All levels as one array [lanes, n_q, F]. Raises ValueError where levels differ in frame rate."""
        if len({level.shape for level in self.levels}) > 1:
            raise ValueError("levels run at different frame rates: use .levels")
        return np.stack(self.levels, axis=1)
