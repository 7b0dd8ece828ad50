"""Reconstruction losses: log-mel spectra, and compressed spectra with and without phase, at several windows each."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
MEL_BANDS = (8, 16, 32, 64, 80, 128)
COMPLEX_WINDOWS = (256, 512, 1024, 2048)
MEL_FLOOR = 1e-5
WindowTerms = Callable[[Tensor, Tensor, Tensor | None, bool, str], dict[str, Tensor]]


@lru_cache
def hann_window(length: int, device: torch.device) -> Tensor:
    """Hann window scaled so that white noise of variance 1 has unit power in every bin."""
    window = torch.hann_window(length, device=device)
    return window / window.square().sum().sqrt()


@lru_cache
def mel_filters(n_bands: int, window_length: int, sample_rate: int, device: torch.device) -> Tensor:
    """Triangular filters [bins, bands], peak 1, evenly spaced on the HTK mel scale from 0 to half the rate.

    Windows too short to resolve the lowest bands leave some of them empty; those are left out.
    """

    def hz(mel: Tensor) -> Tensor:
        return 700 * (10 ** (mel / 2595) - 1)

    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = hz(torch.linspace(0, top, n_bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate / 2, window_length // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    return filters[:, filters.sum(0) > 0].float().to(device)


def spectrum(audio: Tensor, window_length: int) -> Tensor:
    """audio [B, T] -> short-time spectra [B, frames, bins, 2] (real, imaginary) with a hop of a quarter window."""
    frames = audio.unfold(-1, window_length, window_length // 4)
    return torch.view_as_real(torch.fft.rfft(frames * hann_window(window_length, audio.device)))


def power(x: Tensor) -> Tensor:
    """Squared magnitude of a spectrum [..., 2]; written out, for a sum over two numbers is slow."""
    return x[..., 0].square() + x[..., 1].square()


def mean_distance(ours: Tensor, theirs: Tensor, distance: str) -> Tensor:
    """Mean |a - b|, or for "l2" mean (a - b)^2."""
    difference = ours - theirs
    return difference.square().mean() if distance == "l2" else difference.abs().mean()


def compressed_distances(ours: Tensor, theirs: Tensor, distance: str = "l1") -> tuple[Tensor, Tensor]:
    """Distances of two spectra [..., 2] with the square roots of their magnitudes: complex, and of magnitudes alone.

    Mean |X |X|^-.5 - Y |Y|^-.5| over both parts, and mean ||X|^.5 - |Y|^.5|; squared for "l2". The root lets quiet bins
    count, and loud ones not rule.
    """
    magnitudes = [
        (power(x) + 1e-8).sqrt().sqrt() for x in (ours, theirs)
    ]  # two roots are faster than a power
    scaled = [x / m.unsqueeze(-1) for x, m in zip((ours, theirs), magnitudes, strict=True)]
    return mean_distance(scaled[0], scaled[1], distance), mean_distance(
        magnitudes[0], magnitudes[1], distance
    )


def mel_distance(ours: Tensor, theirs: Tensor, filters: Tensor, distance: str = "l1") -> Tensor:
    """Mean |log10 of mel magnitudes| difference of two spectra [..., bins, 2]; filters [bins, bands]."""
    mels = [(power(x) + 1e-12).sqrt() @ filters for x in (ours, theirs)]
    return mean_distance(mels[0].clamp(min=MEL_FLOOR).log10(), mels[1].clamp(min=MEL_FLOOR).log10(), distance)


def window_terms(
    ours: Tensor, theirs: Tensor, filters: Tensor | None, with_phase: bool, distance: str
) -> dict[str, Tensor]:
    """Loss terms of one window's spectra [..., bins, 2]: "mel" by `filters`, "complex" and "magnitude" if asked."""
    terms = {}
    if filters is not None:
        terms["mel"] = mel_distance(ours, theirs, filters, distance)
    if with_phase:
        terms["complex"], terms["magnitude"] = compressed_distances(ours, theirs, distance)
    return terms


def reconstruction_losses(
    decoded: Tensor,
    audio: Tensor,
    sample_rate: int,
    distance: str = "l1",
    *,
    terms: WindowTerms = window_terms,
) -> dict[str, Tensor]:
    """Distances of decoded and original audio [B, T] (aligned), means over windows: "mel", "complex", "magnitude".

    distance: "l1", or "l2" for squared differences. terms: `window_terms`, or a compiled one.
    """
    found: dict[str, list[Tensor]] = {"mel": [], "complex": [], "magnitude": []}
    for window_length in sorted({*MEL_WINDOWS, *COMPLEX_WINDOWS}):
        ours, theirs = spectrum(decoded, window_length), spectrum(audio, window_length)
        filters = None
        if window_length in MEL_WINDOWS:
            n_bands = MEL_BANDS[MEL_WINDOWS.index(window_length)]
            filters = mel_filters(n_bands, window_length, sample_rate, audio.device)
        for name, value in terms(ours, theirs, filters, window_length in COMPLEX_WINDOWS, distance).items():
            found[name].append(value)
    return {name: torch.stack(values).mean() for name, values in found.items()}
