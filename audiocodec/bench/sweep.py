"""The sweep: every clip through every codec at every setting, and every metric on what comes out.

Worker processes do one clip, codec and setting at a time. What they finish is kept in the benchmark's folder at once,
so an interrupted sweep goes on where it was; what becomes of it does not depend on their number.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from audiocodec.bench import store
from audiocodec.bench.clips import load
from audiocodec.bench.equipment import Equip, Equipment
from audiocodec.bench.jobs import Job, Recording, choose_listening, examine, in_turn, plan, thinned
from audiocodec.bench.metrics import measure
from audiocodec.bench.results import Clip, Competitor, Floats, Measurement, Metric
from audiocodec.bench.statistics import means
from audiocodec.errors import CodecError
from audiocodec.output import atomic_output
from audiocodec.pool import Death, Pool, settle

log = logging.getLogger(__name__)

LISTENING_RATE = 24000
LOG = "workers.log"  # what codecs and metrics say besides


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands. n_failed: measurements without any figure, so far. seconds_left: None at the beginning."""

    n_done: int
    n_jobs: int
    n_failed: int
    seconds_left: float | None


@dataclass(frozen=True)
class Sweep:
    """What a sweep found. settings: of each codec; measurements: by kind, clip, codec, setting; left_out: a line for
    each clip that is."""

    equipment: Equipment
    recordings: Sequence[Recording]
    listening: Sequence[str]
    settings: Mapping[str, Sequence[str]]
    measurements: Sequence[Measurement]
    left_out: Sequence[str]


def run(
    clips: Sequence[Clip],
    out: Path,
    equip: Equip,
    *,
    most_settings: int | None = None,
    n_workers: int = 1,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Sweep:
    """Measures all clips; adds to measurements.jsonl and audio/ in the folder `out`, which is there.

    most_settings: so many of each codec, evenly chosen. What stands in measurements.jsonl is not measured again, if
    it is of the same clip (its bytes), codec (its name and `about`), setting, metrics and versions of packages;
    failures are tried again. Raises AudioError where no clip can be measured on.
    """
    equipment = equip()
    settings = {one.name: thinned(one.settings, most_settings) for one in equipment.competitors}
    recordings, left_out = examine(clips)
    for line in (*equipment.skipped, *left_out):
        log.warning("%s", line)
    listening = choose_listening(recordings)
    keep_originals([one.clip for one in recordings if one.clip.name in listening], out / "audio")
    jobs = plan(recordings, equipment, settings, listening, out / "audio")
    with store.Journal(out) as journal:
        done = {job.key: journal.found[job.key] for job in jobs if _is_done(job, journal.found)}
        todo = in_turn([job for job in jobs if job.key not in done])
        watch = _Watch(len(jobs), todo, progress)
        with Pool(min(n_workers, len(todo)), partial(prepare, equip, out / LOG)) as pool:
            for job, result in pool.run(todo):
                measurement = (
                    failed(job, f"{result.reason}; see {LOG}") if isinstance(result, Death) else result
                )
                journal.add(job.key, measurement)
                done[job.key] = measurement
                watch.count(job, measurement)
    return Sweep(equipment, recordings, listening, settings, [done[job.key] for job in jobs], left_out)


def summary(sweep: Sweep) -> dict[str, Any]:
    """What results.json says about a sweep."""
    failures = {
        (one.codec, one.clip): f"{one.codec} left out {one.clip}: {one.missing['codec']}"
        for one in sweep.measurements
        if "codec" in one.missing
    }
    return {
        "clips": [
            {"name": one.clip.name, "kind": one.clip.kind, "seconds": one.seconds, "hash": one.hash}
            for one in sweep.recordings
        ],
        "listening": list(sweep.listening),
        "codecs": [
            {"name": one.name, "about": one.about, "kinds": list(one.kinds), "settings": list(settings)}
            for one in sweep.equipment.competitors
            for settings in [sweep.settings[one.name]]
        ],
        "skipped": [*sweep.equipment.skipped, *sweep.left_out, *failures.values()],
        "metrics": [
            {
                "name": one.name,
                "title": one.title,
                "unit": one.unit,
                "higher_is_better": one.higher_is_better,
                "kinds": list(one.kinds),
            }
            for one in sweep.equipment.metrics
        ],
        "means": [asdict(mean) for mean in means(sweep.measurements)],
        "measurements": [asdict(one) for one in sweep.measurements],
    }


class _Watch:
    """Counts what is done, and tells with it the time that is left: by seconds of audio, for clips differ."""

    def __init__(self, n_jobs: int, todo: Sequence[Job], progress: Callable[[Progress], None]) -> None:
        self._n_jobs, self._n_left, self._n_failed, self._progress = n_jobs, len(todo), 0, progress
        self._seconds_left, self._seconds_done = sum(job.seconds for job in todo), 0.0
        self._begun: float | None = None  # when the first one was done: workers take some seconds to start
        self._tell(None)

    def count(self, job: Job, measurement: Measurement) -> None:
        """One more is done."""
        self._n_left -= 1
        self._n_failed += measurement.kbps is None
        self._seconds_left -= job.seconds
        if self._begun is None:
            self._begun = time.monotonic()
            self._tell(None)
            return
        self._seconds_done += job.seconds
        self._tell(self._seconds_left * (time.monotonic() - self._begun) / self._seconds_done)

    def _tell(self, seconds_left: float | None) -> None:
        self._progress(Progress(self._n_jobs - self._n_left, self._n_jobs, self._n_failed, seconds_left))


def _is_done(job: Job, found: Mapping[str, Measurement]) -> bool:
    """Whether a job need not be done (again)."""
    measurement = found.get(job.key)
    if measurement is None or measurement.kbps is None:
        return False
    return job.audio is None or job.audio.exists()


def failed(job: Job, reason: str) -> Measurement:
    """The measurement of a job that gave nothing."""
    return Measurement(
        job.clip.name, job.clip.kind, job.seconds, job.codec, job.setting, missing={"codec": reason}
    )


def prepare(equip: Equip, log: Path) -> Callable[[Job], Measurement]:
    """What a worker begins with; returns the function that does a job."""
    settle(log)
    equipment = equip()
    return partial(do, {one.name: one for one in equipment.competitors}, equipment.metrics)


def do(competitors: Mapping[str, Competitor], metrics: Sequence[Metric], job: Job) -> Measurement:
    """Codes and measures. Whatever a codec or metric raises costs its figures, and no others."""
    try:
        audio, sample_rate = _load(job.clip)
        coded = competitors[job.codec].code(job.clip, audio, sample_rate, job.setting)
        if coded.audio.shape != audio.shape:
            raise CodecError(f"{len(audio)} samples came back as {coded.audio.shape}")
        if job.audio is not None:
            write_audio(job.audio, coded.audio, sample_rate)
    except Exception as error:
        return failed(job, reason_of(error))
    chosen = [metric for metric in metrics if job.clip.kind in metric.kinds]
    try:
        figures, missing = measure(job.clip, audio, coded.audio, sample_rate, chosen)
    except Exception as error:
        figures, missing = {}, {metric.name: reason_of(error) for metric in chosen}
    return Measurement(
        job.clip.name,
        job.clip.kind,
        job.seconds,
        job.codec,
        job.setting,
        coded.payload_bits / job.seconds / 1000,
        None if coded.file_bits is None else coded.file_bits / job.seconds / 1000,
        figures,
        missing,
    )


def keep_originals(clips: Sequence[Clip], folder: Path) -> None:
    """Writes the clips to listen to as they are, for the players."""
    for clip in clips:
        write_audio(folder / "original" / f"{clip.name.replace('/', '__')}.flac", *load(clip))


@lru_cache(maxsize=1)
def _load(clip: Clip) -> tuple[Floats, int]:
    """The clip that the last job had, too, most of the time."""
    return load(clip)


def reason_of(error: Exception) -> str:
    """An error in one line; with its kind, where it is not one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CodecError) and text else f"{type(error).__name__}: {text}"


def write_audio(path: Path, audio: Floats, sample_rate: int) -> None:
    """Writes audio [T] as FLAC for the players: 24 kHz, 16 bit."""
    samples = soxr.resample(audio, sample_rate, LISTENING_RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, overwrite=True) as temporary:
        soundfile.write(temporary, np.clip(samples, -1, 1), LISTENING_RATE, subtype="PCM_16", format="FLAC")
