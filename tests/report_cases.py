"""A benchmark that was made up, for the tests of its report."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiocodec.bench.report.listening import audio_path
from audiocodec.bench.results import Mean, Measurement

RATE = 24000
TONE_SECONDS = 4.0  # longer than a busy machine needs between two clicks
CLIPS = {"speech/one": "speech", "music/two": "music"}
KBPS = {("ours", "3"): 3.0, ("ours", "6"): 6.0, ("opus", "6"): 5.6}
METRICS = (
    {"name": "pesq_wb", "title": "PESQ-WB", "unit": "", "higher_is_better": True, "kinds": ["speech"]},
    {"name": "mel12", "title": "mel distance", "unit": "", "higher_is_better": False, "kinds": list(CLIPS.values())},
    {"name": "si_sdr", "title": "SI-SDR", "unit": "dB", "higher_is_better": True, "kinds": ["speech"]},
)  # fmt: skip
FIGURES = {
    ("ours", "3"): {"pesq_wb": 2.1, "mel12": 0.30},
    ("ours", "6"): {"pesq_wb": 2.9, "mel12": 0.21},
    ("opus", "6"): {"pesq_wb": 2.3, "mel12": 0.40},
}


def made_up_results() -> dict[str, Any]:
    """Everything that results.json may hold; SI-SDR is a metric that has no figures."""
    means = []
    measurements = []
    for (codec, setting), kbps in KBPS.items():
        for clip, kind in CLIPS.items():
            figures = {n: v for n, v in FIGURES[codec, setting].items() if n == "mel12" or kind == "speech"}
            missing = {"si_sdr": "silence"} if kind == "speech" else {}
            measurements.append(
                Measurement(clip, kind, TONE_SECONDS, codec, setting, kbps, kbps + 0.2, figures, missing)
            )
            means += [
                Mean(kind, codec, setting, name, 4, kbps, v, v - 0.02, v + 0.02, v - 0.1)
                for name, v in figures.items()
            ]
    settings = {"ours": ["3", "6"], "opus": ["6"]}
    return {
        "format": 1,
        "date": "2026-01-02",
        "version": "0.1.0",
        "commit": "abc1234",
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "platform": "Linux"},
        "data": "clips",
        "command": "codec bench clips --against opus,evs",
        "clips": [{"name": name, "kind": kind, "seconds": TONE_SECONDS} for name, kind in CLIPS.items()],
        "listening": list(CLIPS),
        "codecs": [
            {
                "name": name,
                "about": f"about {name}",
                "kinds": list(CLIPS.values()),
                "settings": settings[name],
            }
            for name in settings
        ],
        "skipped": ["evs: not known"],
        "metrics": list(METRICS),
        "means": [asdict(mean) for mean in means],
        "measurements": [asdict(measurement) for measurement in measurements],
        "speed": {
            "ours": {"setting": "6", "encode_x_real_time": 20.0, "latency_ms": 53.3, "model_mb": 48.0},
            "opus": {"setting": "6", "encode_x_real_time": 200.0, "latency_ms": None, "model_mb": None},
        },
        "growth": [
            {"seconds": 60, "encode_cpu_seconds": 3.0, "decode_cpu_seconds": 1.5, "peak_mb": 400.0},
            {"seconds": 3600, "encode_cpu_seconds": 180.0, "decode_cpu_seconds": None, "peak_mb": 410.0},
        ],
        "correlations": {"pesq_wb": -0.1, "mel12": -0.64},
    }


def tone(hz: float) -> np.ndarray[Any, Any]:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(TONE_SECONDS * RATE)) / RATE)


def write(folder: Path, results: dict[str, Any]) -> Path:
    """The folder that a benchmark leaves: results.json, and a tone of another pitch for every codec and setting."""
    for clip in results["listening"]:
        paths = [folder / "audio" / "original" / f"{clip.replace('/', '__')}.flac"]
        for codec in results["codecs"]:
            paths += [audio_path(folder / "audio", codec["name"], s, clip) for s in codec["settings"]]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(500 + 500 * number), RATE, subtype="PCM_16")
    (folder / "results.json").write_text(json.dumps(results))
    return folder
