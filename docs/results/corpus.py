"""How fast a corpus becomes tokens, and how large they are: figures for docs/CORPUS.md.

    python docs/results/corpus.py CLIPS --hours 0.5 2 10

Each job is the shell command, on a manifest that lists the clips, round and round, until they are so many hours. It
runs with one process and with two; the largest with two only, and the second largest as Parquet and as .rq, too. Run it
on an idle machine.
Writes corpus.json beside this script, and prints Markdown.
"""

import argparse
import io
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import soundfile

from audiocodec.audio import OUTPUT_SUFFIXES
from audiocodec.corpus import iter_codes

HERE = Path(__file__).resolve().parent
SHARD_ITEMS = 128
PAPER_HOURS = 100


def write_manifest(clips: list[Path], hours: float, path: Path) -> float:
    """A manifest of about so many hours; the hours that it has."""
    seconds = [soundfile.info(clip).duration for clip in clips]
    total = 0.0
    with path.open("w") as file:
        for clip, length in itertools.cycle(zip(clips, seconds, strict=True)):
            if total >= 3600 * hours:
                return total / 3600
            file.write(json.dumps({"path": str(clip)}) + "\n")
            total += length
    raise AssertionError("a cycle has no end")


def job(manifest: Path, folder: Path, hours: float, n_jobs: int, kind: str = "tar") -> dict[str, Any]:
    """One run of the command: wall and processor time, the largest process, bytes written."""
    words = ["-m", "audiocodec", "tokenize", "-q", str(manifest), "-o", str(folder), "--jobs", str(n_jobs)]
    words += ["--format", kind, "--shard-items", str(SHARD_ITEMS)]
    begun = time.perf_counter()
    process = Popen([sys.executable, *words], env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)  # of the process and all that it started
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)}: exit {process.returncode}")
    n_bytes = sum(
        path.stat().st_size for path in folder.rglob("*") if "shard-" in str(path.relative_to(folder))
    )
    return {
        "hours": hours,
        "jobs": n_jobs,
        "format": kind,
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "hours_per_hour": 3600 * hours / wall,
        "peak_mb_of_one_process": usage.ru_maxrss / 1024,
        "bytes_per_hour": n_bytes / hours,
    }


def foreign_bytes(shards: Iterable[Path]) -> dict[str, float]:
    """Bytes per hour that the same codes take in the files of EnCodec and DAC, by their layouts."""
    n_bytes = {".ecdc (EnCodec)": 0, ".dac (DAC)": 0, "bits of the codes alone": 0.0}
    seconds = 0.0
    for item in iter_codes(shards):
        codes = item.codes
        n_samples, bits = codes.n_samples or 0, sum(codes.space.first(codes.n_q).bits_per_code)
        seconds += n_samples / codes.source.sample_rate
        n_bytes["bits of the codes alone"] += len(codes.levels[0]) * codes.n_frames * bits / 8
        n_bytes[".ecdc (EnCodec)"] += len(codes.levels[0]) * ecdc_bytes(
            n_samples, codes.n_q, codes.n_frames, bits
        )
        n_bytes[".dac (DAC)"] += dac_bytes(codes.values, n_samples, codes.source.sample_rate)
    return {name: 3600 * total / seconds for name, total in n_bytes.items()}


def ecdc_bytes(n_samples: int, n_q: int, n_frames: int, bits: int) -> int:
    """A fixed head of 9 bytes (magic, version, length), JSON, and the codes' bits (encodec/compress.py, no model)."""
    facts = {"m": "encodec_24khz", "al": n_samples, "nc": n_q, "lm": False}
    return 9 + len(json.dumps(facts)) + -(-n_frames * bits // 8)


def dac_bytes(values: np.ndarray, n_samples: int, sample_rate: int) -> int:
    """A pickled dict in a .npy, the codes as 16-bit numbers (dac/model/base.py)."""
    facts = {
        "input_db": np.zeros(1, np.float32),
        "original_length": n_samples,
        "sample_rate": sample_rate,
        "chunk_length": values.shape[2],
        "channels": len(values),
        "padding": False,
        "dac_version": "1.0.0",
    }
    file = io.BytesIO()
    np.save(file, np.array({"codes": values.astype(np.uint16), "metadata": facts}), allow_pickle=True)
    return len(file.getvalue())


def growth(jobs: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds = start + hours x cost, through the runs of one process count; and what that makes of 100 hours."""
    hours, seconds = ([one[key] for one in jobs] for key in ("hours", "wall_seconds"))
    cost, start = statistics.linear_regression(hours, seconds)
    return {
        "start_seconds": start,
        "seconds_per_hour": cost,
        f"seconds_for_{PAPER_HOURS}_hours_on_paper": start + PAPER_HOURS * cost,
    }


def markdown(result: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = [
        "| hours | processes | format | wall | hours per hour | peak of a process |",
        "|--:|--:|---|--:|--:|--:|",
    ]
    lines += [
        f"| {one['hours']:.2f} | {one['jobs']} | {one['format']} | {one['wall_seconds']:.0f} s | "
        f"{one['hours_per_hour']:.0f} | {one['peak_mb_of_one_process']:.0f} MB |"
        for one in result["jobs"]
    ]
    lines += ["", f"Two processes are {result['two_against_one']:.2f} times as fast as one.", ""]
    for n_jobs, figures in result["growth"].items():
        told = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in figures.items())
        lines.append(f"With {n_jobs}: {told}.")
    lines += ["", "| format | MB per hour |", "|---|--:|"]
    lines += [f"| {name} | {value / 1e6:.2f} |" for name, value in result["bytes_per_hour"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, growth and size of codec tokenize.")
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of audio")
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 2, 10], help="two or more")
    parser.add_argument("--out", type=Path, default=HERE / "corpus.json")
    options = parser.parse_args()
    clips = sorted(p.absolute() for p in options.clips.rglob("*") if p.suffix.lower() in OUTPUT_SUFFIXES)
    jobs = []
    with tempfile.TemporaryDirectory() as place:
        for hours in sorted(options.hours):
            manifest = Path(place) / f"{hours:g}.jsonl"
            true_hours = write_manifest(clips, hours, manifest)
            for n_jobs in (2,) if hours == max(options.hours) else (1, 2):
                jobs.append(job(manifest, Path(place) / f"{hours:g}-{n_jobs}", true_hours, n_jobs))
            if hours == sorted(options.hours)[-2]:
                for kind in ("parquet", "rq"):
                    jobs.append(job(manifest, Path(place) / kind, true_hours, 2, kind))
        shards = sorted((Path(place) / f"{min(options.hours):g}-2").glob("shard-*"))
        foreign = foreign_bytes(shards)
    tars = {n: [one for one in jobs if one["jobs"] == n and one["format"] == "tar"] for n in (1, 2)}
    ours = {one["format"]: one["bytes_per_hour"] for one in jobs if one["jobs"] == 2}
    result = {
        "versions": {name: version(name) for name in ("audiocodec", "torch", "numpy", "soundfile", "soxr")},
        "python": platform.python_version(),
        "clips": len(clips),
        "hours_of_the_clips": sum(soundfile.info(clip).duration for clip in clips) / 3600,
        "jobs": jobs,
        "two_against_one": tars[2][-2]["hours_per_hour"] / tars[1][-1]["hours_per_hour"],
        "growth": {f"{n} processes": growth(tars[n]) for n in tars if len(tars[n]) > 1},
        "bytes_per_hour": ours | foreign,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
