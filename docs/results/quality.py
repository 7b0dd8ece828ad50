"""Quality of the codec on a folder of clips: PESQ-WB, STOI, mel distance and SI-SDR by kind and level count.

    python docs/results/quality.py CLIPS_DIR [--model NAME|DIR] [--out FILE] [--readme] [--jobs N]

Every clip goes through real `.rq` files. docs/results/README.md says what the figures mean.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from machine import facts
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Row = dict[str, float | int | str | None]

KINDS = ("speech", "music", "sounds")
LEVELS = (1, 2, 4, 8)
MODEL_RATE, PESQ_RATE, STOI_RATE = 24000, 16000, 10000
METRICS = ("pesq_wb", "stoi", "mel12", "si_sdr_db")
HERE = Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
MARKERS = "<!-- results -->", "<!-- /results -->"
AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


@dataclass(frozen=True)
class Job:
    """One clip at one level count, decoded to a file."""

    kind: str
    clip: Path
    decoded: Path
    n_q: int
    file_bytes: int
    codes_bytes: float
    seconds: float


def find_clips(folder: Path) -> list[tuple[str, Path]]:
    """(kind, file) of every clip: the kind is the sub-folder's name or the beginning of the file's."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO):
        places = (*path.relative_to(folder).parts[:-1], path.name.partition("-")[0])
        found += [(kind, path) for kind in KINDS if kind in places][:1]
    if not found:
        sys.exit(f"{folder}: no clips in sub-folders or with names of {', '.join(KINDS)}")
    return found


def code(clips: list[tuple[str, Path]], model: str, workspace: Path) -> list[Job]:
    """Codes and decodes every clip at every level count; checks rate, channels and number of samples."""
    import audiocodec

    codec = audiocodec.load(model, device="cpu")
    jobs = []
    for index, (kind, clip) in enumerate(clips):
        original, rate = soundfile.read(clip, dtype="float32", always_2d=True)
        for n_q in (n for n in LEVELS if n <= codec.space.n_q):
            coded = workspace / f"{index}-{n_q}.rq"
            info = audiocodec.encode_file(clip, coded, n_q=n_q, model=codec)
            audio, decoded_rate = audiocodec.decode_file(coded, model=codec)
            if (audio.shape, decoded_rate) != (original.shape, rate):
                sys.exit(
                    f"{clip}: {original.shape} at {rate} Hz came back as {audio.shape} at {decoded_rate} Hz"
                )
            decoded = coded.with_suffix(".npy")
            np.save(decoded, audio)
            codes_bytes = info.codes_kbps * 1000 / 8 * info.n_frames / info.header.space.frame_rate
            jobs.append(Job(kind, clip, decoded, n_q, info.file_bytes, codes_bytes, info.duration_seconds))
        print(f"coded {index + 1}/{len(clips)} {clip.name}", file=sys.stderr)
    return jobs


def measure(job: Job) -> Row:
    """All figures of one decoded clip; None where a metric does not apply."""
    original, rate = soundfile.read(job.clip, dtype="float32", always_2d=True)
    decoded = np.load(job.decoded)
    pair = [audio.mean(axis=1) for audio in (original, decoded)]
    row: Row = {
        "kind": job.kind,
        "clip": job.clip.name,
        "levels": job.n_q,
        "file_bytes": job.file_bytes,
        "overhead_percent": 100 * (job.file_bytes / job.codes_bytes - 1),
        "kbps": job.file_bytes * 8 / 1000 / job.seconds,
    }
    row |= {
        "mel12": mel12(*resampled(pair, rate, MODEL_RATE)),
        "si_sdr_db": si_sdr(*resampled(pair, rate, MODEL_RATE)),
    }
    row |= {"stoi": None, "pesq_wb": None}
    if job.kind == "speech":
        row |= {
            "stoi": stoi(*resampled(pair, rate, STOI_RATE)),
            "pesq_wb": pesq_wb(*resampled(pair, rate, PESQ_RATE)),
        }
    return row


def resampled(pair: list[Floats], rate: int, to_rate: int) -> list[Floats]:
    """Both at another rate."""
    return [soxr.resample(audio, rate, to_rate, quality="HQ") for audio in pair]


def mel12(original: Floats, decoded: Floats) -> float:
    """Mean |log10 mel| difference at 24 kHz: window 1024, hop 256, 80 Slaney bands from 0 to 12 kHz, floor 1e-5.

    The decoded clip is brought to the original's RMS first.
    """
    import librosa

    level = np.sqrt(np.mean(original**2) / max(float(np.mean(decoded**2)), 1e-12))
    filters = librosa.filters.mel(sr=MODEL_RATE, n_fft=1024, n_mels=80, fmin=0, fmax=MODEL_RATE / 2)
    logs = []
    for audio in (original, decoded * level):
        magnitudes = np.abs(librosa.stft(audio, n_fft=1024, hop_length=256, window="hann"))
        logs.append(np.log10(np.maximum(filters @ magnitudes, 1e-5)))
    return float(np.mean(np.abs(logs[0] - logs[1])))


def si_sdr(original: Floats, decoded: Floats) -> float:
    """Scale-invariant signal-to-distortion ratio in dB. Source: Le Roux et al. 2019, eq. 5."""
    x, y = original.astype(np.float64), decoded.astype(np.float64)
    target = (x @ y) / (x @ x + 1e-12) * x
    return float(10 * np.log10((target @ target + 1e-12) / (np.sum((target - y) ** 2) + 1e-12)))


def stoi(original: Floats, decoded: Floats) -> float:
    """Short-time objective intelligibility."""
    import pystoi

    return float(pystoi.stoi(original, decoded, STOI_RATE))


def pesq_wb(original: Floats, decoded: Floats) -> float | None:
    """PESQ, wide band; None where it finds no speech."""
    import pesq

    try:
        return float(pesq.pesq(PESQ_RATE, original, decoded, "wb"))
    except pesq.PesqError:
        return None


def means(rows: list[Row]) -> list[Row]:
    """Means by kind and level count; `no_pesq` counts clips that PESQ left out."""
    table: list[Row] = []
    for kind in KINDS:
        for n_q in LEVELS:
            group = [row for row in rows if (row["kind"], row["levels"]) == (kind, n_q)]
            if not group:
                continue
            mean: Row = {"kind": kind, "levels": n_q, "n_clips": len(group)}
            for name in (*METRICS, "kbps", "overhead_percent"):
                values = [value for row in group if isinstance(value := row[name], float)]
                mean[name] = float(np.mean(values)) if values else None
            mean["bytes"] = sum(int(row["file_bytes"] or 0) for row in group)
            mean["no_pesq"] = sum(row["pesq_wb"] is None for row in group) if kind == "speech" else 0
            table.append(mean)
    return table


def markdown(table: list[Row]) -> str:
    """The means as a table."""
    lines = [
        "| kind | clips | levels | kbit/s | PESQ-WB | STOI | mel12 | SI-SDR dB | bytes in all | overhead % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    forms = {"kbps": ".2f", "pesq_wb": ".2f", "stoi": ".3f", "mel12": ".3f", "si_sdr_db": ".1f"}
    forms |= {"bytes": "d", "overhead_percent": ".1f"}
    for row in table:
        cells = [format(row[name], form) if row[name] is not None else "-" for name, form in forms.items()]
        lines.append(f"| {row['kind']} | {row['n_clips']} | {row['levels']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def caption(result: Mapping[str, object]) -> str:
    """Data, model, machine and commit in a line."""
    return (
        f"Means over the clips, model `{result['model']}`, measured {result['date']} at commit {result['commit']} "
        f"on {result['cpu']}, by `python docs/results/quality.py {result['data']}`."
    )


def update_readme(text: str) -> None:
    """Puts the text between the markers in README.md."""
    before, _, rest = README.read_text().partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    if not after:
        sys.exit(f"{README}: the markers {' and '.join(MARKERS)} are missing")
    README.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


def main() -> None:
    from audiocodec.model.catalogue import DEFAULT_MODEL

    parser = argparse.ArgumentParser(description="Quality by kind and level count.")
    parser.add_argument("clips", type=Path, metavar="CLIPS_DIR")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--out", type=Path, default=HERE / "quality.json")
    parser.add_argument("--readme", action="store_true", help="update the table in README.md")
    parser.add_argument(
        "--jobs", type=int, default=None, help="processes for the metrics (default: all cores)"
    )
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory() as workspace,
        # spawned, not forked: torch has threads by now
        ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        jobs = code(find_clips(options.clips), options.model, Path(workspace))
        rows = list(pool.map(measure, jobs))
    table = means(rows)
    model = Path(options.model).name
    result = {"data": options.clips.name, "model": model, **facts(), "means": table, "clips": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    text = f"{markdown(table)}\n\n{caption(result)}"
    print(text)
    if options.readme:
        update_readme(text)


if __name__ == "__main__":
    main()
