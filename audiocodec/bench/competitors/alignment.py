"""Rates, lengths and delays: what it takes to lay a decoded clip exactly over its original."""

from collections.abc import Sequence

import numpy as np
import soxr

from audiocodec.bench.results import Floats

MAX_LAG_SECONDS = 0.1


def coding_rate(sample_rate: int, rates: Sequence[int]) -> int:
    """The rate in Hz at which a codec gets a clip: the lowest of its own that loses nothing, else its highest.

    >>> coding_rate(11025, (8000, 16000, 24000)), coding_rate(44100, (8000, 16000, 24000))
    (16000, 24000)
    """
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates))


def resample(audio: Floats, from_rate: int, to_rate: int) -> Floats:
    """audio [T] at another rate in Hz: float32 [about T * to_rate / from_rate]."""
    if from_rate == to_rate:
        return audio
    return np.asarray(soxr.resample(audio, from_rate, to_rate), np.float32)


def fit(audio: Floats, delay: int, length: int) -> Floats:
    """audio [T] without its first `delay` samples, cut or continued with silence to [length], float32.

    A negative delay puts silence in front.
    """
    late = np.concatenate([np.zeros(max(0, -delay), np.float32), audio[max(0, delay) :]])[:length]
    return np.pad(late, (0, length - len(late))).astype(np.float32)


def lag(original: Floats, decoded: Floats, sample_rate: int) -> int:
    """How many samples `decoded` [T] comes late (negative: early), of at most 100 ms.

    The place of the highest cross-correlation of the two, by Fourier transform. It says something of codecs that
    keep the waveform; one that makes a new one of parameters (Codec2) has no peak to find. Silence gives 0.
    """
    reach = round(MAX_LAG_SECONDS * sample_rate)
    n = 1 << (len(original) + len(decoded) - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(original, n)) * np.fft.rfft(decoded, n)
    correlation = np.fft.irfft(spectrum, n)
    lags = np.arange(-min(reach, len(original) - 1), min(reach, len(decoded) - 1) + 1)
    if not correlation.any():
        return 0
    return int(lags[np.argmax(correlation[lags])])
