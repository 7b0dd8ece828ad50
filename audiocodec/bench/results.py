"""What passes between the rooms of the benchmark: clips, competitors, metrics, measurements.

A benchmark is a list of `Measurement`s, one for each clip, codec and setting. All audio in it is mono: channels are
averaged before anything is coded, so that bits per second mean the same for all.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audiocodec.errors import CodecError

Floats = NDArray[np.float32]
Fetch = Callable[[int], tuple[Floats, Floats]]

KINDS = ("speech", "music", "sounds")


class Unavailable(CodecError):
    """A competitor or metric cannot run here; the message says what to install."""


@dataclass(frozen=True)
class Clip:
    """A recording to measure on: its name (unique, relative to the folder, no suffix), kind, and file."""

    name: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Coded:
    """What a codec made of a clip.

    audio [T] float32 at the clip's own rate, as long as the clip and in time with it (the codec's delay is
    taken out). payload_bits: of the packets alone; file_bits: of the whole file, None where there is none.
    encode_cpu_seconds: CPU time up to the packets; decode_cpu_seconds: from there on; None where it was not taken.
    """

    audio: Floats
    payload_bits: float
    file_bits: float | None
    encode_cpu_seconds: float | None = None
    decode_cpu_seconds: float | None = None


def cpu_seconds() -> float:
    """CPU time of this process and of those that it ran, which codecs that are commands do."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


class Competitor(Protocol):
    """A codec that takes part. Its settings are names of rates, lowest first, such as "6" for 6 kbps.

    name: as in `--against`; kinds: what it is made for; about: version and library, for the report.
    """

    name: str
    kinds: tuple[str, ...]
    settings: tuple[str, ...]
    about: str

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """Codes audio [T] of a clip and decodes it again. Raises CodecError where that fails."""
        ...


@dataclass(frozen=True)
class Metric:
    """A figure of how far a decoded clip is from its original.

    unit: "" for scores; higher_is_better: its direction; kinds: what it is meaningful for; slow: left out by
    --quick. measure(fetch) gets a function that gives (original, decoded), both [T] float32 and equally long,
    resampled to the rate in Hz that it is asked for; it returns the figure, or raises ValueError with the reason
    why this clip has none.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    kinds: tuple[str, ...]
    slow: bool
    measure: Callable[[Fetch], float]


@dataclass(frozen=True)
class Measurement:
    """One clip through one codec at one setting.

    seconds: the clip's length; kbps: payload; file_kbps: None where there is no file; metrics: by name;
    missing: why a metric ("codec" for all of them) has no figure.
    """

    clip: str
    kind: str
    seconds: float
    codec: str
    setting: str
    kbps: float | None = None
    file_kbps: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mean:
    """A metric over the clips of a kind, for one codec at one setting.

    low, high: 95 % bootstrap interval of the mean; worst: mean of the worst 5 % of clips (one at least).
    """

    kind: str
    codec: str
    setting: str
    metric: str
    n_clips: int
    kbps: float
    mean: float
    low: float
    high: float
    worst: float
