"""Speed, start-up times, memory, latency and size of the codec, on one thread.

    python docs/results/speed.py [CLIP...] [--model NAME|DIR] [--hours H] [--out FILE]

The clips (samples/ by default) make the 60 s that are timed, and show on how many frames files and live use agree.
docs/results/README.md says what is measured how.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from machine import facts
from numpy.typing import NDArray

if TYPE_CHECKING:
    from audiocodec.codec import Codec

Floats = NDArray[np.float32]
Figures = dict[str, float]

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent.parent / "samples"
COMMAND = (sys.executable, "-m", "audiocodec")
RATE = 24000
TIMED_SECONDS, SHORT_SECONDS, MINUTE_SECONDS = 60, 5, 60
ROUNDS = 5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def mono(clip: Path, seconds: float) -> Floats:
    """The clip at the model's rate, channels averaged, repeated to `seconds`."""
    audio, rate = soundfile.read(clip, dtype="float32", always_2d=True)
    lane = soxr.resample(audio.mean(axis=1), rate, RATE)
    repeated: Floats = np.resize(lane, round(seconds * RATE)).astype(np.float32)
    return repeated


def start_up(clip: Path, model: str, folder: Path) -> Figures:
    """Median wall times in seconds of shell commands, with all threads."""
    short = folder / "short.wav"
    soundfile.write(short, mono(clip, SHORT_SECONDS), RATE)
    encode = ("encode", "-q", "-f", "-m", model, str(short), str(folder / "short.rq"))
    commands = {"encode_5_s": encode, "help": ("--help",), "info": ("info", str(folder / "short.rq"))}
    figures = {}
    for name, words in commands.items():
        times = [wall(words) for _ in range(ROUNDS)]
        figures[f"{name}_seconds"] = statistics.median(times)
    return figures


def wall(words: tuple[str, ...]) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run([*COMMAND, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def memory(clip: Path, model: str, folder: Path, hours: float) -> Figures:
    """Peak MB of processes that code a minute, and many hours, from a pipe and back into one."""
    second = (mono(clip, TIMED_SECONDS).clip(-1, 1) * 32767).astype("<i2").reshape(-1, RATE)
    figures = {}
    for name, n_seconds in (("1_min", MINUTE_SECONDS), (f"{hours:g}_h", round(3600 * hours))):
        coded = str(folder / f"{name}.rq")
        encode = ("encode", "-q", "-f", "-m", model, "--raw", "--rate", str(RATE), "-", coded)
        figures[f"encode_{name}_mb"] = peak_mb(encode, n_seconds, second)
        figures[f"decode_{name}_mb"] = peak_mb(("decode", "-q", "-m", model, coded, "-"), 0, second)
    return figures


def peak_mb(words: tuple[str, ...], n_seconds: int, seconds: NDArray[np.int16]) -> float:
    """Peak resident memory of a command that is fed `n_seconds` rows of samples, round and round.

    To be called before torch is loaded here: a child's peak begins at its parent's size.
    """
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | ONE_THREAD,
    )
    assert process.stdin is not None, "it is a pipe"
    with process.stdin as pipe:
        for n in range(n_seconds):
            pipe.write(seconds[n % len(seconds)].tobytes())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)}: exit {process.returncode}")
    return usage.ru_maxrss / 1024


def speed(codec: "Codec", clip: Path) -> Figures:
    """x real time of encode and decode by CPU time, at all levels: best and median of interleaved rounds."""
    audio = mono(clip, TIMED_SECONDS)
    codes = codec.encode(audio, RATE)  # also warms up
    codec.decode(codes)
    verbs: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(audio, RATE),
        "decode": lambda: codec.decode(codes),
    }
    times: dict[str, list[float]] = {name: [] for name in verbs}
    for _ in range(ROUNDS):
        for name, verb in verbs.items():
            begun = time.process_time()
            verb()
            times[name].append(time.process_time() - begun)
    return {
        f"{name}_{kind}_x": TIMED_SECONDS / value
        for name, taken in times.items()
        for kind, value in (("best", min(taken)), ("median", statistics.median(taken)))
    }


def agreement(codec: "Codec", clips: list[Path]) -> Figures:
    """Share of frames, of all lanes, with equal codes at all levels for the block lengths of files and of live use."""
    n_equal = n_frames = 0
    for clip in clips:
        audio, rate = soundfile.read(clip, dtype="float32", always_2d=True)
        whole = codec.encode(audio, rate)
        encoder = codec.stream_encoder(rate, channels=audio.shape[1], live=True)
        parts = [encoder.push(audio), encoder.finish()]
        pairs = zip(whole.levels, zip(*(part.levels for part in parts), strict=True), strict=True)
        same = np.ones((audio.shape[1], whole.n_frames), np.bool_)
        for (ours, theirs), span in zip(pairs, whole.space.frames_per_code, strict=True):
            equal = (ours == np.concatenate(theirs, axis=1)).repeat(span, axis=1)
            same &= equal[:, : whole.n_frames]
        n_equal += int(same.sum())
        n_frames += same.size
    return {
        "frames": n_frames,
        "frames_that_differ": n_frames - n_equal,
        "equal_percent": 100 * n_equal / n_frames,
    }


def size_and_latency(codec: "Codec", folder: Path) -> Figures:
    """Weights, bytes on disk, and algorithmic latency at blocks of one frame and of live use."""
    from audiocodec.stream import live_block_frames

    config, parts = codec.model.config, dict(codec.model.named_children())
    figures = {
        f"{name}_weights": float(sum(p.numel() for p in part.parameters())) for name, part in parts.items()
    }
    more_frames = live_block_frames(codec.space) - 1
    return figures | {
        "model_mb": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "latency_one_frame_ms": config.latency_ms,
        "latency_live_ms": config.latency_ms + 1000 * more_frames * config.hop_length / config.sample_rate,
    }


def markdown(result: dict[str, object]) -> str:
    """All figures as a table."""
    lines = ["| what | figure |", "|---|---|"]
    for part, figures in result.items():
        if part in ("speed", "start_up", "memory", "agreement", "model_facts") and isinstance(figures, dict):
            lines += [
                f"| {part.replace('_', ' ')}: {name.replace('_', ' ')} | {form(value)} |"
                for name, value in figures.items()
            ]
    return "\n".join(lines)


def form(value: float) -> str:
    """A number with as many digits as one reads."""
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, start-up, memory, latency, size.")
    parser.add_argument("clips", type=Path, nargs="*", metavar="CLIP", help="default: samples/*.flac")
    parser.add_argument("--model", help="name or folder (default: the shipped one)")
    parser.add_argument(
        "--hours", type=float, default=3.0, help="length of the long file of the memory test; 0: none"
    )
    parser.add_argument("--out", type=Path, default=HERE / "speed.json")
    options = parser.parse_args()
    clips = options.clips or sorted(SAMPLES.glob("*.flac"))

    result: dict[str, object] = dict(facts())
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or "general-24khz-1"
        result["model"] = Path(model).name
        if options.hours:
            result["memory"] = memory(clips[0], model, Path(folder), options.hours)
        result["start_up"] = start_up(clips[0], model, Path(folder))

    os.environ |= ONE_THREAD  # before torch is loaded
    import torch

    from audiocodec import load
    from audiocodec.model.catalogue import model_folder

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the command does
    codec = load(model, device="cpu")
    result["speed"] = speed(codec, clips[0])
    result["agreement"] = agreement(codec, clips)
    result["model_facts"] = size_and_latency(codec, model_folder(model))
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))
    print(f"\n{result['cpu']}, {result['date']}, commit {result['commit']}")


if __name__ == "__main__":
    main()
