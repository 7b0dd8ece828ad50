"""How far a decoded clip is from its original: the list of metrics, and those that need no network or model.

The perceptual ones, which packages bring, are in `perceptual.py`. No single one hears; the report shows them all.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType

import numpy as np
import soxr
from numpy.typing import NDArray

from audiocodec.bench import perceptual
from audiocodec.bench.perceptual import check_audible, check_seconds, need
from audiocodec.bench.results import KINDS, Clip, Fetch, Floats, Metric, Unavailable

RATE = 24000  # of the distances between waveforms and spectra: what the codec works at
LOG_FLOOR = 1e-5  # of magnitudes, where a full-scale sine has a quarter of the window's length
MULTISCALE_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
MULTISCALE_MELS = (5, 10, 20, 40, 80, 160, 320)
STFT_WINDOWS = (2048, 512)
MEL_WINDOW, MEL_HOP, MEL_BANDS = 1024, 256, 80
MEL8_HZ = 7500
MAX_SI_SDR_DB = 100.0
BANDWIDTH_RATE, BANDWIDTH_WINDOW, BANDWIDTH_BAND_HZ = 48000, 2048, 250
AUDIBLE_DB, KEPT_DB = 60, 20


def measure(
    clip: Clip, original: Floats, decoded: Floats, sample_rate: int, metrics: Sequence[Metric]
) -> tuple[dict[str, float], dict[str, str]]:
    """The figures of a decoded clip by those metrics that are for its kind; and why others have none, by name.

    original, decoded [T] float32 at sample_rate Hz. What decoded has beyond full scale is clipped first, as every
    player and 16-bit file does. Raises ValueError where the two differ in length.
    """
    if original.shape != decoded.shape or original.ndim != 1:
        raise ValueError(
            f"shapes {original.shape} and {decoded.shape}: expected two signals of one length [T]"
        )
    chosen = [metric for metric in metrics if clip.kind in metric.kinds]
    try:
        check_audible(original, "the clip")
        if not np.isfinite(decoded).all():
            raise ValueError("the decoded clip holds samples that are not numbers")
    except ValueError as error:
        return {}, {metric.name: str(error) for metric in chosen}

    clipped = np.clip(decoded, -1, 1)

    @cache
    def fetch(rate: int) -> tuple[Floats, Floats]:
        return _resample(original, sample_rate, rate), _resample(clipped, sample_rate, rate)

    figures, missing = {}, {}
    for metric in chosen:
        try:
            figures[metric.name] = _finite(metric.measure(fetch))
        except (ValueError, Unavailable) as error:
            missing[metric.name] = str(error)
        except Exception as error:  # a package's own failure: it must not cost the other metrics' figures
            missing[metric.name] = f"{type(error).__name__}: {error}"
    return figures, missing


def _finite(figure: float) -> float:
    """The figure itself. Raises ValueError where it is none."""
    if not math.isfinite(figure):
        raise ValueError("the metric gives no finite figure for this clip")
    return float(figure)


def _resample(audio: Floats, from_rate: int, to_rate: int) -> Floats:
    """audio [T] at another rate, by soxr's very high quality."""
    if from_rate == to_rate:
        return audio
    resampled: Floats = soxr.resample(audio, from_rate, to_rate, quality="VHQ")
    return resampled


def spectrum(audio: Floats, window_length: int, hop: int) -> Floats:
    """Magnitudes [F, window_length / 2 + 1] of audio [T] under a Hann window, mirrored at both ends.

    Raises ValueError for a clip shorter than a window.
    """
    if len(audio) < window_length:
        raise ValueError(f"the clip is shorter than a window of {window_length} samples at {RATE} Hz")
    padded = np.pad(audio, window_length // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length)[::hop]
    magnitudes: Floats = np.abs(np.fft.rfft(frames * _hann(window_length)))
    return magnitudes


@cache
def _hann(length: int) -> Floats:
    """Periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@cache
def _mel_filters(window_length: int, n_bands: int) -> Floats:
    """Slaney's mel filters from 0 Hz to half the rate, transposed: [window_length / 2 + 1, n_bands]."""
    import warnings

    librosa = need("librosa")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")  # narrow bands of a short window; DAC has them too
        filters: Floats = librosa.filters.mel(sr=RATE, n_fft=window_length, n_mels=n_bands)
    return np.ascontiguousarray(filters.T)


def mel_multiscale(fetch: Fetch) -> float:
    """Sum over seven scales of the mean |log10 mel| difference, at 24 kHz.

    Windows of 32 to 2048 samples with 5 to 320 bands, hops of a quarter.
    Source: MelSpectrogramLoss as configured in descript-audio-codec's conf/base.yml (Kumar et al. 2023).
    """
    pair = fetch(RATE)
    distances = []
    for window, n_bands in zip(MULTISCALE_WINDOWS, MULTISCALE_MELS, strict=True):
        ours, theirs = (
            _log(spectrum(audio, window, window // 4) @ _mel_filters(window, n_bands)) for audio in pair
        )
        distances.append(np.mean(np.abs(ours - theirs)))
    return float(np.sum(distances))


def stft(fetch: Fetch) -> float:
    """Mean difference of magnitudes plus that of log10 powers, windows of 2048 and 512 samples, at 24 kHz.

    Source: MultiScaleSTFTLoss of descript-audio-codec (Kumar et al. 2023).
    """
    pair = fetch(RATE)
    distance = 0.0
    for window in STFT_WINDOWS:
        ours, theirs = (spectrum(audio, window, window // 4) for audio in pair)
        distance += float(np.mean(np.abs(ours - theirs)) + 2 * np.mean(np.abs(_log(ours) - _log(theirs))))
    return distance


def _log(magnitudes: Floats) -> Floats:
    """log10 with a floor."""
    logs: Floats = np.log10(np.maximum(magnitudes, LOG_FLOOR))
    return logs


def mel12(fetch: Fetch) -> float:
    """Mean |log10 mel| difference up to 12 kHz, the decoded clip brought to the original's RMS.

    At 24 kHz: window 1024, hop 256, 80 Slaney bands.
    """
    return float(_mel_difference(fetch).mean())


def mel8(fetch: Fetch) -> float:
    """`mel12` over the bands that end below 7.5 kHz: what wide-band codecs of 16 kHz can do anything about."""
    librosa = need("librosa")
    band_edges = librosa.mel_frequencies(MEL_BANDS + 2, fmin=0, fmax=RATE / 2)
    return float(_mel_difference(fetch)[:, band_edges[2:] < MEL8_HZ].mean())


def _mel_difference(fetch: Fetch) -> Floats:
    """|log10 mel| differences [F, 80] of a pair of equal RMS."""
    original, decoded = fetch(RATE)
    level = check_audible(original, "the clip") / check_audible(decoded, "the decoded clip")
    filters = _mel_filters(MEL_WINDOW, MEL_BANDS)
    ours, theirs = (
        _log(spectrum(audio, MEL_WINDOW, MEL_HOP) @ filters) for audio in (original, decoded * level)
    )
    differences: Floats = np.abs(ours - theirs)
    return differences


def si_sdr(fetch: Fetch) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, at 24 kHz, between -100 and 100 (equal but for level).

    Source: Le Roux et al. 2019, eq. 5.
    """
    original, decoded = fetch(RATE)
    x, y = (audio - audio.mean(dtype=np.float64) for audio in (original, decoded))
    check_audible(x, "the clip")
    check_audible(y, "the decoded clip")
    target = (x @ y) / (x @ x) * x
    signal, distortion = target @ target, np.sum((target - y) ** 2)
    smallest = 10 ** (-MAX_SI_SDR_DB / 10) * (y @ y)
    return float(10 * np.log10(max(signal, smallest) / max(distortion, smallest)))


def bandwidth(fetch: Fetch) -> float:
    """Share in percent of the original's bandwidth that is left: 100 is all of it.

    A signal's spectrum is its mean power in bands of 250 Hz up to 24 kHz. The original reaches to the last band
    within 60 dB of its strongest one; the decoded clip to the last of those in which it has at least a hundredth
    (-20 dB) of the original's power: what a codec adds above the original does not count, and treble that is
    dull but there is not taken for cut. A share, since in kHz the mean, and the worst clips even more, would tell
    of the originals' bandwidths and not of the codec.
    """
    original, decoded = fetch(BANDWIDTH_RATE)
    check_audible(decoded, "the decoded clip")
    ours, theirs = _band_powers(original), _band_powers(decoded)
    audible = ours > ours.max() * 10 ** (-AUDIBLE_DB / 10)
    kept = audible & (theirs >= ours * 10 ** (-KEPT_DB / 10))
    return 100 * _last(kept) / _last(audible)


def _last(bands: NDArray[np.bool_]) -> int:
    """How many bands there are up to the last true one."""
    return int(np.flatnonzero(bands)[-1]) + 1 if bands.any() else 0


def _band_powers(audio: Floats) -> NDArray[np.float64]:
    """Mean power in bands of 250 Hz."""
    check_seconds(audio, BANDWIDTH_RATE, BANDWIDTH_WINDOW / BANDWIDTH_RATE, "the bandwidth")
    frames = np.lib.stride_tricks.sliding_window_view(audio, BANDWIDTH_WINDOW)[:: BANDWIDTH_WINDOW // 2]
    powers = np.mean(np.abs(np.fft.rfft(frames * _hann(BANDWIDTH_WINDOW))) ** 2, axis=0, dtype=np.float64)
    hertz = np.fft.rfftfreq(BANDWIDTH_WINDOW, 1 / BANDWIDTH_RATE)
    bands = np.minimum(hertz // BANDWIDTH_BAND_HZ, BANDWIDTH_RATE // 2 // BANDWIDTH_BAND_HZ - 1).astype(int)
    return np.bincount(bands, powers) / np.bincount(bands)


SPEECH = ("speech",)
METRICS: tuple[Metric, ...] = (
    Metric("pesq_wb", "PESQ-WB", "", True, SPEECH, False, perceptual.pesq_wb),
    Metric("stoi", "STOI", "", True, SPEECH, False, perceptual.stoi),
    Metric("estoi", "ESTOI", "", True, SPEECH, False, perceptual.estoi),
    Metric("visqol_speech", "ViSQOL speech", "", True, SPEECH, False, perceptual.visqol_speech),
    Metric("dnsmos_p808", "DNSMOS P.808", "", True, SPEECH, False, perceptual.dnsmos_p808),
    Metric("visqol_audio", "ViSQOL audio", "", True, KINDS, True, perceptual.visqol_audio),
    Metric("zimtohrli", "Zimtohrli distance", "", False, KINDS, False, perceptual.zimtohrli),
    Metric("mel12", "mel distance to 12 kHz", "", False, KINDS, False, mel12),
    Metric("mel8", "mel distance to 7.5 kHz", "", False, KINDS, False, mel8),
    Metric("mel_multiscale", "multi-scale mel distance", "", False, KINDS, False, mel_multiscale),
    Metric("stft", "STFT distance", "", False, KINDS, False, stft),
    Metric("si_sdr", "SI-SDR", "dB", True, KINDS, False, si_sdr),
    Metric("bandwidth", "bandwidth kept", "%", True, KINDS, False, bandwidth),
)
BY_NAME: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in METRICS})

NEEDS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "pesq_wb": ("pesq",),
        "stoi": ("pystoi",),
        "estoi": ("pystoi",),
        "visqol_speech": ("visqol", "ai_edge_litert"),
        "dnsmos_p808": ("librosa", "onnxruntime", "speechmos"),
        "visqol_audio": ("visqol",),
        "zimtohrli": ("zimtohrli",),
        "mel12": ("librosa",),
        "mel8": ("librosa",),
        "mel_multiscale": ("librosa",),
    }
)


def available(metrics: Sequence[Metric]) -> tuple[list[Metric], list[str]]:
    """Those metrics whose packages are installed; and for each other one a line that says what to install."""
    lacking = {
        metric.name: absent
        for metric in metrics
        if (absent := [name for name in NEEDS.get(metric.name, ()) if find_spec(name) is None])
    }
    lines = [
        f"{BY_NAME[name].title}: without {' and '.join(absent)}; pip install 'audiocodec[bench]'"
        for name, absent in lacking.items()
    ]
    return [metric for metric in metrics if metric.name not in lacking], lines
