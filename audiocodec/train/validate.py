"""Validation: what the decoded clips are like, in figures and as a picture."""

import logging
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.model.codec import CodecModel
from audiocodec.train.codebooks import health
from audiocodec.train.data import Clips
from audiocodec.train.losses import mel_distance, mel_filters, spectrum

log = logging.getLogger(__name__)

LEVELS = (1, 2, 4, 8, 16)
PESQ_RATE = 16000
MAX_CLIP_SECONDS = 10


@torch.no_grad()
def validate(model: CodecModel, clips: Clips, *, quantized: bool) -> dict[str, float]:
    """Means over the clips, per level count: mel distance, SI-SDR in dB, PESQ-WB and STOI of clips named speech.

    Also perplexity and use of each level's codebook. Without `quantized`, of the latents as they are ("_latents").
    """
    figures: dict[str, list[float]] = {}
    all_codes = []
    for index, name in enumerate(clips.names):
        audio = clips[index][: MAX_CLIP_SECONDS * model.config.sample_rate].to(clips.samples.device)
        decoded = decode_levels(model, audio) if quantized else {"latents": decode_latents(model, audio)}
        if quantized:
            all_codes.append(model.encode(audio[None, None]).audio_codes[0])
        for label, copy in decoded.items():
            for metric, value in measure(audio, copy, model.config.sample_rate, "speech" in name).items():
                figures.setdefault(f"{metric}_{label}", []).append(value)
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    if quantized:
        for n, level in enumerate(health(torch.cat(all_codes, dim=-1)[None], model.quantizer)):
            means |= {f"{name}_level{n}": value for name, value in level.items()}
    return means


def decode_levels(model: CodecModel, audio: Tensor) -> dict[str, Tensor]:
    """audio [T] coded and decoded at 1, 2, 4, 8 ... levels."""
    codes = model.encode(audio[None, None]).audio_codes
    counts = [n for n in LEVELS if n <= model.quantizer.n_q]
    return {str(n): model.decode(codes[:, :n], len(audio)).audio_values[0, 0] for n in counts}


def decode_latents(model: CodecModel, audio: Tensor) -> Tensor:
    """audio [T] through encoder and decoder with nothing between."""
    unit = model.config.hop_length * model.config.quantizer.frames_per_code[0]
    n_samples = -(-(len(audio) + model.config.delay) // unit) * unit
    padded = torch.nn.functional.pad(audio, (0, n_samples - len(audio)))[None, None]
    decoded: Tensor = model(padded, None).audio[0, 0, model.config.delay :]
    return decoded[: len(audio)]


def measure(audio: Tensor, decoded: Tensor, sample_rate: int, speech: bool) -> dict[str, float]:
    """Figures of one decoded clip [T]."""
    filters = mel_filters(80, 1024, sample_rate, audio.device)
    figures = {
        "mel": float(mel_distance(spectrum(decoded[None], 1024), spectrum(audio[None], 1024), filters)),
        "si_sdr": si_sdr(audio, decoded),
    }
    if speech:
        figures |= speech_figures(audio.cpu().numpy(), decoded.cpu().numpy(), sample_rate)
    return figures


def si_sdr(audio: Tensor, decoded: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB. Source: Le Roux et al. 2019, eq. 5."""
    target = (audio @ decoded) / (audio @ audio + 1e-9) * audio
    return float(10 * torch.log10((target @ target + 1e-9) / ((target - decoded).square().sum() + 1e-9)))


def speech_figures(
    audio: NDArray[np.float32], decoded: NDArray[np.float32], sample_rate: int
) -> dict[str, float]:
    """PESQ-WB and STOI, where their packages are installed; a clip that PESQ finds no speech in has none."""
    try:
        import pesq
        import pystoi
    except ImportError:
        log.warning("PESQ and STOI are left out: pip install 'audiocodec[train]'")
        return {}
    figures = {"stoi": float(pystoi.stoi(audio, decoded, sample_rate))}
    pair = [soxr.resample(x, sample_rate, PESQ_RATE) for x in (audio, decoded)]
    try:
        figures["pesq"] = float(pesq.pesq(PESQ_RATE, *pair, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError, ValueError) as error:
        log.warning("a clip is left out of PESQ: %s", error)
    return figures


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
