"""Speed and cost: x real time, start-up, memory, latency, size; and how cost grows with the input.

To be measured with nothing beside. CPU time, not wall time, wherever that can be: other processes distort it less.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from audiocodec.bench.clips import load
from audiocodec.bench.equipment import Equip
from audiocodec.bench.results import Clip, Competitor, Floats, cpu_seconds
from audiocodec.bench.sweep import LOG
from audiocodec.codec import Codec
from audiocodec.codec import load as load_codec
from audiocodec.errors import CodecError
from audiocodec.model.catalogue import model_folder
from audiocodec.pool import ONE_THREAD, Death, Pool, settle

Figures = dict[str, Any]  # numbers, None where there is none, and the setting's name

COMMAND = (sys.executable, "-m", "audiocodec")
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # all is measured on the CPU, as x real time is
START_UP_SECONDS, MEMORY_SECONDS = 5, 60
COSTS = ("start_up_seconds", "peak_mb", "latency_ms", "live_latency_ms", "model_mb")  # known of ours only


@dataclass(frozen=True)
class Effort:
    """How long to measure: so many seconds of audio in so many rounds; growth_seconds: the lengths of inputs."""

    timed_seconds: float
    rounds: int
    growth_seconds: Sequence[int]


QUICK = Effort(timed_seconds=10.0, rounds=3, growth_seconds=(10, 60))
THOROUGH = Effort(timed_seconds=30.0, rounds=5, growth_seconds=(10, 60, 600, 3600))


@dataclass(frozen=True)
class Subject:
    """What is measured. clip: repeated to any length; model: ours, by name or folder; settings: of each codec, ours
    first; out: the benchmark's folder."""

    clip: Clip
    model: str
    settings: Mapping[str, str]
    equip: Equip
    out: Path


@dataclass(frozen=True)
class Trial:
    """One codec's turn in one round."""

    codec: str
    setting: str
    turn: int


def measure(
    subject: Subject, effort: Effort, progress: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, Figures], list[Figures]]:
    """Speed and cost of each codec by name, and growth of ours: `speed` and `growth` of results.json.

    progress is told what is being measured. Figures that cannot be had are None.
    """
    progress("x real time of each codec")
    speeds = time_codecs(subject, effort)
    progress("start-up, latency")
    codec = load_codec(subject.model, device="cpu")
    audio = lane(subject.clip, codec.space.sample_rate, MEMORY_SECONDS)
    ours = cost(codec, audio, subject.model, effort.rounds)
    growth = []
    for seconds in effort.growth_seconds:
        progress(f"{seconds} s of audio through the command")
        growth.append(grow(codec, audio, subject.model, seconds))
        if seconds == MEMORY_SECONDS:
            ours["peak_mb"] = growth[-1]["peak_mb"]
    name = next(iter(subject.settings))
    nothing: Figures = dict.fromkeys(COSTS)
    return {one: speeds[one] | nothing | (ours if one == name else {}) for one in speeds}, growth


# x real time


def time_codecs(subject: Subject, effort: Effort) -> dict[str, Figures]:
    """x real time on one thread, by CPU time: medians over rounds in which every codec has its turn.

    The first round warms up, and does not count.
    """
    turns = range(effort.rounds + 1)
    trials = [Trial(codec, setting, turn) for turn in turns for codec, setting in subject.settings.items()]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in subject.settings}
    with Pool(1, partial(prepare, subject, effort.timed_seconds)) as pool:
        for trial, result in pool.run(trials):
            if trial.turn and result and not isinstance(result, Death):
                taken[trial.codec].append(result)
    figures: dict[str, Figures] = {}
    for name, setting in subject.settings.items():
        figures[name] = {"setting": setting}
        for part in ("encode", "decode"):
            seconds = [one[part] for one in taken[name] if part in one]
            speed = effort.timed_seconds / statistics.median(seconds) if seconds else None
            figures[name][f"{part}_x_real_time"] = speed
    return figures


def prepare(subject: Subject, seconds: float) -> Callable[[Trial], dict[str, float]]:
    """What the timing process begins with; returns the function that gives a trial's CPU seconds, by part."""
    settle(subject.out / LOG)
    codec = load_codec(subject.model, device="cpu")
    competitors = {one.name: one for one in subject.equip().competitors}
    ours = next(iter(subject.settings))

    def do(trial: Trial) -> dict[str, float]:
        competitor = competitors[trial.codec]
        if trial.codec != ours:
            return time_other(competitor, subject.clip, trial, seconds)
        n_q = codec.levels_for(float(trial.setting), channels=1)
        return time_ours(codec, lane(subject.clip, codec.space.sample_rate, seconds), n_q)

    return do


def time_ours(codec: Codec, audio: Floats, n_q: int) -> dict[str, float]:
    """CPU seconds of encoding and decoding audio [T] at the model's rate."""
    begun = cpu_seconds()
    codes = codec.encode(audio, codec.space.sample_rate, n_q)
    encoded = cpu_seconds()
    codec.decode(codes)
    decoded = cpu_seconds()
    return {"encode": encoded - begun, "decode": decoded - encoded}


def time_other(competitor: Competitor, clip: Clip, trial: Trial, seconds: float) -> dict[str, float]:
    """CPU seconds of encoding and decoding; nothing for a codec that fails on the clip."""
    _, sample_rate = load(clip)
    audio = np.roll(lane(clip, sample_rate, seconds), trial.turn)  # new every time: results may be kept
    try:
        coded = competitor.code(clip, audio, sample_rate, trial.setting)
    except CodecError:
        return {}
    taken = {"encode": coded.encode_cpu_seconds, "decode": coded.decode_cpu_seconds}
    return {part: seconds for part, seconds in taken.items() if seconds is not None}


def lane(clip: Clip, to_rate: int, seconds: float) -> Floats:
    """The clip [T] at another rate, repeated to so many seconds."""
    audio, sample_rate = load(clip)
    repeated: Floats = np.resize(soxr.resample(audio, sample_rate, to_rate), round(seconds * to_rate))
    return repeated


# Cost of ours


def cost(codec: Codec, audio: Floats, model: str, rounds: int) -> Figures:
    """Start-up, latency and size of ours; audio [T] at the model's rate, START_UP_SECONDS or more of it."""
    sample_rate = codec.space.sample_rate
    short = audio[: START_UP_SECONDS * sample_rate]
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "short.wav", Path(folder) / "short.rq"
        soundfile.write(source, short, sample_rate)
        for _ in range(rounds):
            begun = time.perf_counter()
            words = ("encode", "-q", "-f", "-m", model, str(source), str(target))
            environment = os.environ | NO_GPU
            subprocess.run([*COMMAND, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
            walls.append(time.perf_counter() - begun)
    files = [path for path in model_folder(model).iterdir() if path.is_file()]
    with one_thread():
        latencies = {"latency_ms": latency_ms(codec, short), "live_latency_ms": live_latency_ms(codec)}
    return {
        "start_up_seconds": statistics.median(walls),
        **latencies,
        "model_mb": sum(path.stat().st_size for path in files) / 1e6,
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """torch with one thread: several wait for each other at every frame, ten times as long as they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def grow(codec: Codec, audio: Floats, model: str, seconds: int) -> Figures:
    """CPU seconds and the higher peak memory of `codec encode` and `decode` on so many seconds of audio, from a pipe.

    audio [T] at the model's rate is repeated. Start-up is a part of it.
    """
    rate = codec.space.sample_rate
    samples = (audio.clip(-1, 1) * 32767).astype("<i2")
    with tempfile.TemporaryDirectory() as folder:
        coded = str(Path(folder) / "long.rq")
        pipe = ("encode", "-q", "-m", model, "--raw", "--rate", str(rate), "-", coded)
        encoding = metered(pipe, samples, seconds * rate)
        decoding = metered(("decode", "-q", "-m", model, coded, "-"), samples, 0)
    return {
        "seconds": seconds,
        "encode_cpu_seconds": encoding.get("cpu_seconds"),
        "decode_cpu_seconds": decoding.get("cpu_seconds"),
        "peak_mb": max(encoding["peak_mb"], decoding["peak_mb"]) if encoding and decoding else None,
    }


def metered(words: Sequence[str], samples: "np.ndarray[Any, np.dtype[np.int16]]", n_samples: int) -> Figures:
    """CPU seconds and peak MB of a command on one thread that is fed n_samples, round and round.

    Nothing on Windows, which does not tell. Raises CodecError where the command fails.
    """
    if sys.platform == "win32":
        return {}
    process = subprocess.Popen(
        [sys.executable, "-m", "audiocodec.bench.metered", *COMMAND, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ONE_THREAD | NO_GPU,
    )
    assert process.stdin is not None and process.stdout is not None, "they are pipes"
    with process:
        with (
            suppress(BrokenPipeError),
            process.stdin as pipe,
        ):  # a command that fails says so by its exit code
            for begin in range(0, n_samples, len(samples)):
                pipe.write(samples[: n_samples - begin].tobytes())
        said = process.stdout.read()
    if process.returncode:
        raise CodecError(f"codec {' '.join(words)}: exit code {process.returncode}")
    figures: Figures = json.loads(said)
    return figures


# Latency


def latency_ms(codec: Codec, audio: Floats) -> float:
    """How late a sound comes out at best: fed frame by frame, the first sample of a frame waits for the rest of it,
    and for the lag of what is decoded.

    The lag is the place of the highest correlation of what comes out with what went in, audio [T] at the model's rate.
    An impulse alone would not do: what a trained model makes of one is faint, and spread over some frames.
    """
    import torch

    model, hop = codec.model, codec.space.hop_length * codec.space.frames_per_code[0]
    encoding, decoding = model.encoder_state(1), model.decoder_state(1)
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(audio) - hop + 1, hop):
            block = torch.from_numpy(audio[None, None, begin : begin + hop])
            codes, encoding = model.encode_block(block, encoding, codec.space.n_q)
            decoded, decoding = model.decode_block(codes, decoding)
            parts.append(decoded[0, 0].numpy())
    late = np.concatenate(parts)
    n = 2 * len(audio)
    correlation = np.fft.irfft(np.fft.rfft(late, n) * np.conj(np.fft.rfft(audio, n)), n)
    lag = int(np.argmax(correlation[: len(audio)]))
    return 1000 * (hop + lag) / codec.space.sample_rate


def live_latency_ms(codec: Codec) -> float:
    """How late a sample comes out of live streams at worst: an impulse's, at every place in a second.

    Decoded audio is in time with its original, so the impulse at sample n is out when sample n is.
    """
    rate, hop = codec.space.sample_rate, codec.space.hop_length
    encoder = codec.stream_encoder(rate, live=True)
    decoder = codec.stream_decoder(rate, live=True)
    worst = n_out = 0
    for n_in in range(hop, rate + 1, hop):
        n_new = len(decoder.push(encoder.push(np.zeros(hop, np.float32))))
        if n_new:
            worst = max(worst, n_in - n_out)
        n_out += n_new
    return 1000 * worst / rate
