"""What a sweep has to do: which clips, which of them to listen to, and each measurement to be made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from audiocodec.bench import machine, store
from audiocodec.bench.clips import choose, load
from audiocodec.bench.equipment import Equipment
from audiocodec.bench.perceptual import check_audible
from audiocodec.bench.report.listening import audio_path
from audiocodec.bench.results import KINDS, Clip
from audiocodec.errors import AudioError, CodecError

MIN_CLIP_SECONDS = 0.1  # a few frames; less is no sound that a codec or metric could tell from another
LISTENING_CLIPS = {"speech": 2, "music": 1, "sounds": 1}


@dataclass(frozen=True)
class Recording:
    """A clip that can be measured on, its length, and a hash of its file."""

    clip: Clip
    seconds: float
    hash: str


@dataclass(frozen=True)
class Job:
    """One measurement to be made. audio: where to write what comes out, for the clips to listen to."""

    key: str
    clip: Clip
    seconds: float
    codec: str
    setting: str
    audio: Path | None


def thinned(settings: Sequence[str], most: int | None) -> Sequence[str]:
    """At most so many settings, evenly chosen, with the lowest and the highest.

    >>> thinned("abcdefgh", 3)
    ['a', 'e', 'h']
    """
    if most is None or len(settings) <= most:
        return settings
    return [settings[place] for place in np.linspace(0, len(settings) - 1, most).round().astype(int)]


def examine(clips: Sequence[Clip]) -> tuple[list[Recording], list[str]]:
    """The clips that can be measured on, and for each other one a line that says why not.

    Raises AudioError if none is left.
    """
    recordings, left_out = [], []
    for clip in clips:
        try:
            audio, sample_rate = load(clip)
            check_audible(audio, "the clip")
            seconds = len(audio) / sample_rate
            if seconds < MIN_CLIP_SECONDS:
                raise ValueError(f"the clip has {seconds:.3f} s, expected {MIN_CLIP_SECONDS:g} or more")
            recordings.append(Recording(clip, seconds, store.file_hash(clip.path)))
        except (CodecError, ValueError) as error:
            left_out.append(f"clip {clip.name} left out: {error}")
    if not recordings:
        raise AudioError(f"no clip can be measured on; {left_out[0] if left_out else 'there is none'}")
    return recordings, left_out


def choose_listening(recordings: Sequence[Recording]) -> list[str]:
    """Names of the clips whose decoded audio is kept: the same every time, speech first."""
    clips = [recording.clip for recording in recordings]
    return [
        clip.name
        for kind, n_clips in LISTENING_CLIPS.items()
        for clip in choose([clip for clip in clips if clip.kind == kind], n_clips)
    ]


def plan(
    recordings: Sequence[Recording],
    equipment: Equipment,
    settings: Mapping[str, Sequence[str]],
    listening: Sequence[str],
    audio: Path,
) -> list[Job]:
    """All jobs, by kind, clip, codec, setting: each clip with the codecs that are made for its kind."""
    versions = machine.versions()
    jobs = []
    for recording in sorted(recordings, key=lambda one: (KINDS.index(one.clip.kind), one.clip.name)):
        clip = recording.clip
        metrics = [metric.name for metric in equipment.metrics if clip.kind in metric.kinds]
        for codec in equipment.competitors:
            if clip.kind not in codec.kinds:
                continue
            for setting in settings[codec.name]:
                heard = clip.name in listening
                key = store.key(
                    codec=[codec.name, codec.about, equipment.stamps.get(codec.name)],
                    setting=setting,
                    clip=[clip.name, clip.kind, recording.hash],
                    metrics=metrics,
                    versions=versions,
                )
                path = audio_path(audio, codec.name, setting, clip.name) if heard else None
                jobs.append(Job(key, clip, recording.seconds, codec.name, setting, path))
    return jobs


def in_turn(jobs: Sequence[Job]) -> list[Job]:
    """The jobs clip by clip, kinds by turns: so that the time left can be told, and early results are of all kinds."""
    by_clip: dict[Clip, list[Job]] = {}
    for job in jobs:
        by_clip.setdefault(job.clip, []).append(job)
    kinds = [[clip for clip in by_clip if clip.kind == kind] for kind in KINDS]
    return [job for turn in zip_longest(*kinds) for clip in turn if clip for job in by_clip[clip]]
