"""Validation: what the decoded clips are like, in the benchmark's figures and as a picture."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiocodec.bench.clips import kind_of
from audiocodec.bench.metrics import BY_NAME, available, measure
from audiocodec.bench.results import Clip
from audiocodec.model.codec import CodecModel
from audiocodec.train.data import Clips
from audiocodec.train.health import health
from audiocodec.train.losses import spectrum

log = logging.getLogger(__name__)

LEVELS = (1, 2, 4, 8, 16)
METRICS = tuple(BY_NAME[name] for name in ("mel12", "si_sdr", "stoi", "pesq_wb"))
MAX_CLIP_SECONDS = 10


@torch.no_grad()
def validate(model: CodecModel, clips: Clips, *, quantized: bool) -> dict[str, float]:
    """Means over the clips, per level count: mel12, SI-SDR in dB, PESQ-WB and STOI of speech (as folder or name tell).

    Metrics whose package is missing are left out, and so are those that a clip has no figure of; a warning names them.
    Also the health of each level's codebook. Without `quantized`, of the latents as they are ("_latents").
    """
    metrics, lacking = available(METRICS)
    for line in lacking:
        log.warning(line)
    figures: dict[str, list[float]] = {}
    excerpts = [
        clips[index][: MAX_CLIP_SECONDS * model.config.sample_rate].to(clips.samples.device)
        for index in range(len(clips))
    ]
    for name, audio in zip(clips.names, excerpts, strict=True):
        decoded = decode_levels(model, audio) if quantized else {"latents": decode_latents(model, audio)}
        clip = Clip(name, kind_of(Path(name)) or "sounds", Path(name))
        for label, copy in decoded.items():
            pair = audio.cpu().numpy(), copy.cpu().numpy()
            found, missing = measure(clip, *pair, model.config.sample_rate, metrics)
            for metric, value in found.items():
                figures.setdefault(f"{metric}_{label}", []).append(value)
            for metric, reason in missing.items():
                log.warning("%s has no %s: %s", name, metric, reason)
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    if quantized:
        for n, level in enumerate(health(model, excerpts)):
            means |= {f"{name}_level{n}": value for name, value in level.figures().items()}
    return means


def decode_levels(model: CodecModel, audio: Tensor) -> dict[str, Tensor]:
    """audio [T] coded and decoded at 1, 2, 4, 8 ... levels, and at all."""
    codes = model.encode(audio[None, None]).audio_codes
    counts = sorted({n for n in LEVELS if n < model.quantizer.n_q} | {model.quantizer.n_q})
    return {str(n): model.decode(codes[:, :n], len(audio)).audio_values[0, 0] for n in counts}


def decode_latents(model: CodecModel, audio: Tensor) -> Tensor:
    """audio [T] through encoder and decoder with nothing between."""
    unit = model.config.hop_length * model.config.quantizer.frames_per_code[0]
    n_samples = -(-(len(audio) + model.config.delay) // unit) * unit
    padded = torch.nn.functional.pad(audio, (0, n_samples - len(audio)))[None, None]
    decoded: Tensor = model(padded, None).audio[0, 0, model.config.delay :]
    return decoded[: len(audio)]


@torch.no_grad()
def save_spectrograms(model: CodecModel, clips: Clips, path: Path, *, quantized: bool) -> None:
    """A picture: each of three clips, and under it what the model makes of it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no pictures: pip install 'audiocodec[train]'")
        return
    chosen = np.linspace(0, len(clips) - 1, min(3, len(clips))).astype(int)
    figure = Figure(figsize=(6 * len(chosen), 10), layout="constrained")
    rows: list[list[tuple[str, Tensor]]] = []
    for index in chosen:
        audio = clips[int(index)][: 5 * model.config.sample_rate].to(clips.samples.device)
        decoded = decode_levels(model, audio) if quantized else {"latents": decode_latents(model, audio)}
        shown = list(decoded.items())[-3:]
        rows.append([(clips.names[index].rsplit("/", 1)[-1], audio), *((f"{n} levels", x) for n, x in shown)])
    axes = figure.subplots(max(map(len, rows)), len(chosen), squeeze=False)
    for column, row in enumerate(rows):
        for axis, (title, audio) in zip(axes[:, column], row, strict=True):
            power = spectrum(audio[None], 1024)[0].square().sum(-1).T.cpu()
            decibels = (10 * torch.log10(power + 1e-10)).numpy()
            axis.imshow(decibels, origin="lower", aspect="auto", vmin=-90, vmax=10, cmap="magma")
            axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=70)
