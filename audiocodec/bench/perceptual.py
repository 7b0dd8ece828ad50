"""Metrics that model a listener, each by its own package, which is imported when it is first used.

The packages were written for clips of some ten seconds with somebody speaking; some crash the whole process on
others. What they cannot judge is kept from them, and raises ValueError with the reason.
"""

import importlib
import importlib.util
import math
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiocodec.bench.results import Fetch, Floats, Unavailable

SPEECH_RATE, AUDIO_RATE = 16000, 48000
SILENT_RMS = 1e-4  # -80 dBFS
PESQ_SECONDS = 20  # its C code overruns its arrays at more than 50 utterances, for which 20 s leave no room
MIN_PESQ_SECONDS = 0.25
MIN_STOI_SECONDS = 0.5  # 30 frames of 12.8 ms, and what the windows overlap
MIN_VISQOL_SECONDS = 1.0
MIN_ZIMTOHRLI_SECONDS = 0.25  # its C++ code overruns its arrays below .1 s
DNSMOS_SECONDS = 9.01  # what its network looks at
DNSMOS_WINDOW, DNSMOS_HOP, DNSMOS_BANDS = 321, 160, 120


def need(package: str) -> Any:
    """The package. Raises Unavailable where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise Unavailable(f"{package} is not installed: pip install 'audiocodec[bench]'") from error


def check_audible(audio: NDArray[np.floating], what: str) -> float:
    """The RMS of audio [T]. Raises ValueError for silence."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    if rms < SILENT_RMS:
        raise ValueError(f"{what} is silent")
    return rms


def check_seconds(audio: Floats, rate: int, seconds: float, what: str) -> None:
    """Raises ValueError for a clip shorter than a metric needs."""
    if len(audio) < seconds * rate:
        raise ValueError(f"the clip is shorter than the {seconds:.2f} s that {what} needs")


def _speech(fetch: Fetch, seconds: float, what: str) -> tuple[Floats, Floats]:
    """The pair at 16 kHz, neither silent nor too short."""
    original, decoded = fetch(SPEECH_RATE)
    check_audible(decoded, "the decoded clip")
    check_seconds(original, SPEECH_RATE, seconds, what)
    return original, decoded


def pesq_wb(fetch: Fetch) -> float:
    """PESQ, wide band: 1.04 to 4.64. A clip beyond 20 s is cut into equal parts; the mean of those with speech.

    Source: ITU-T P.862.2.
    """
    pesq = need("pesq")
    pair = _speech(fetch, MIN_PESQ_SECONDS, "PESQ")
    n_parts = math.ceil(len(pair[0]) / (PESQ_SECONDS * SPEECH_RATE))
    scores = []
    for original, decoded in zip(*(np.array_split(audio, n_parts) for audio in pair), strict=True):
        if not original.any():
            continue
        check_audible(decoded, "a part of the decoded clip")  # PESQ divides by zero
        with suppress(pesq.NoUtterancesError):
            scores.append(pesq.pesq(SPEECH_RATE, original, decoded, "wb"))
    if not scores:
        raise ValueError("PESQ finds no utterance in the clip")
    return float(np.mean(scores))


def stoi(fetch: Fetch) -> float:
    """Short-time objective intelligibility, at 16 kHz: 1 is best. Source: Taal et al. 2011."""
    return _stoi(fetch, extended=False)


def estoi(fetch: Fetch) -> float:
    """Extended STOI, which hears modulated noise too, at 16 kHz: 1 is best. Source: Jensen and Taal 2016."""
    return _stoi(fetch, extended=True)


def _stoi(fetch: Fetch, *, extended: bool) -> float:
    """STOI or ESTOI."""
    pystoi = need("pystoi")
    original, decoded = _speech(fetch, MIN_STOI_SECONDS, "STOI")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # it warns of too few frames, and returns 1e-5
        try:
            return float(pystoi.stoi(original, decoded, SPEECH_RATE, extended=extended))
        except RuntimeWarning as warning:
            raise ValueError("STOI finds less than .4 s that is not silent in the clip") from warning


def visqol_speech(fetch: Fetch) -> float:
    """ViSQOL version 3 in speech mode, at 16 kHz: 1 to 5. Not 5 for an unchanged clip, but about 3.6 to 4.8."""
    original, decoded = _speech(fetch, MIN_VISQOL_SECONDS, "ViSQOL")
    return _visqol("speech", original, decoded, SPEECH_RATE)


def visqol_audio(fetch: Fetch) -> float:
    """ViSQOL version 3 in audio mode, at 48 kHz: 1 to 4.73. Source: Chinen et al. 2020."""
    original, decoded = fetch(AUDIO_RATE)
    check_audible(decoded, "the decoded clip")
    check_seconds(original, AUDIO_RATE, MIN_VISQOL_SECONDS, "ViSQOL")
    return _visqol("audio", original, decoded, AUDIO_RATE)


def _visqol(mode: str, original: Floats, decoded: Floats, rate: int) -> float:
    """ViSQOL's score."""
    try:
        return float(_visqol_judge(mode).measure_from_arrays(original, decoded, rate).moslqo)
    except IndexError as error:
        raise ValueError("ViSQOL finds no stretch with sound in the clip") from error


@cache
def _visqol_judge(mode: str) -> Any:
    """ViSQOL with its model loaded. Speech mode takes the lattice, as Google's own program does.

    Without ai-edge-litert it would fall back on another mapping, 1 to 2 points higher: that is refused.
    """
    judge = need("visqol").VisqolApi()
    if mode == "speech":
        need("ai_edge_litert.interpreter")
    judge.create(mode=mode, use_lattice_model=mode == "speech")
    return judge


def zimtohrli(fetch: Fetch) -> float:
    """Zimtohrli distance, at 48 kHz: 0 is no audible difference. Source: github.com/google/zimtohrli."""
    package = need("zimtohrli")
    original, decoded = fetch(AUDIO_RATE)
    check_seconds(original, AUDIO_RATE, MIN_ZIMTOHRLI_SECONDS, "Zimtohrli")
    return float(package.Pyohrli().distance(original, decoded))


def dnsmos_p808(fetch: Fetch) -> float:
    """DNSMOS P.808 of the decoded clip alone, at 16 kHz: how it sounds (1 to 5), not how near the original it is.

    Of a clip longer than 9 s the mean over stretches that start a second apart; a shorter one is repeated.
    Source: Reddy et al. 2021; network, features and stretches are those of the package speechmos.
    """
    _, decoded = _speech(fetch, DNSMOS_WINDOW / SPEECH_RATE, "DNSMOS")
    audio = np.clip(decoded, -1, 1)
    length = int(DNSMOS_SECONDS * SPEECH_RATE)
    while len(audio) < length:
        audio = np.append(audio, audio)
    n_stretches = max(1, len(audio) // SPEECH_RATE - int(DNSMOS_SECONDS))
    network = _dnsmos_network()
    scores = []
    for start in range(0, n_stretches * SPEECH_RATE, SPEECH_RATE):
        features = _dnsmos_features(audio[start : start + length - DNSMOS_HOP])
        scores.append(network.run(None, {"input_1": features[None]})[0])
    return float(np.mean(scores))


@cache
def _dnsmos_network() -> Any:
    """The network for P.808 that speechmos carries, on one thread: clips are measured side by side.

    The package itself is not imported, for it would run two more networks, whose scores nobody asked for.
    """
    runtime = need("onnxruntime")
    package = importlib.util.find_spec("speechmos")
    if package is None or package.origin is None:
        raise Unavailable("speechmos is not installed: pip install 'audiocodec[bench]'")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(package.origin).parent / "dnsmos_models" / "model_v8.onnx"
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _dnsmos_features(audio: Floats) -> Floats:
    """Mel powers [F, 120] in decibels below the loudest, scaled as the network learned them: (dB + 40) / 40."""
    librosa = need("librosa")
    mel = librosa.feature.melspectrogram(
        y=audio, sr=SPEECH_RATE, n_fft=DNSMOS_WINDOW, hop_length=DNSMOS_HOP, n_mels=DNSMOS_BANDS
    )
    features: Floats = ((librosa.power_to_db(mel, ref=np.max) + 40) / 40).T.astype(np.float32)
    return features
