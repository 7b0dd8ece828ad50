"""Clips to listen to, as HTML: for each the original and what each codec made of it, a player and a spectrogram."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiocodec.bench.report.plots import Series, symbol
from audiocodec.bench.results import Floats
from audiocodec.errors import AudioError

PLAYED_SECONDS = 6.0
MAX_BYTES = 24_000_000  # of the page for audio and pictures; the first clip of each kind comes in anyhow
PICTURE = (400, 120)  # pixels
TOP_HZ = 12000
WINDOW = 512
RANGE_DB = 80.0
N_COLOURS = 40  # that the eye cannot tell from 256, in half the bytes


@dataclass(frozen=True, slots=True)
class Track:
    """A clip as one codec at one setting left it; the original has neither number nor rate."""

    name: str
    path: Path
    look: Series | None
    kbps: float | None


def audio_path(folder: Path, codec: str, setting: str, clip: str) -> Path:
    """Where a decoded clip lies under `OUT/audio`; the original's is `original/CLIP.flac`."""
    # what no file name may hold on some system; a codec's name may be "ours:DIR"
    codec, setting = (re.sub(r'[<>:"/\\|?*]', "__", name) for name in (codec, setting))
    return folder / codec / setting / f"{clip.replace('/', '__')}.flac"


def listening(results: dict[str, Any], folder: Path, series: Sequence[Series]) -> tuple[list[str], list[str]]:
    """HTML of each clip, and names of the clips that would make the page too large.

    A second of a track is some 37 kB of page (24 kHz mono FLAC in base64, and its picture): six seconds of nine clips
    at ten settings are some 22 MB. Beyond MAX_BYTES only the first clip of each kind is taken in.
    """
    kinds = {clip["name"]: clip["kind"] for clip in results["clips"]}
    shown: list[str] = []
    left_out = []
    seen: set[str] = set()
    n_bytes = 0
    for clip in _in_turn(results["listening"], kinds):
        tracks = list(_tracks(results, folder, clip, series))
        if not tracks:
            continue
        html = _clip(clip, kinds[clip], len(shown), tracks)
        if n_bytes + len(html) > MAX_BYTES and kinds[clip] in seen:
            left_out.append(clip)
            continue
        seen.add(kinds[clip])
        shown.append(html)
        n_bytes += len(html)
    return shown, left_out


def _in_turn(clips: Sequence[str], kinds: dict[str, str]) -> Iterator[str]:
    """The first of each kind, the second of each kind, and so on."""
    by_kind: dict[str, list[str]] = {}
    for clip in clips:
        by_kind.setdefault(kinds[clip], []).append(clip)
    for turn in zip_longest(*by_kind.values()):
        yield from (clip for clip in turn if clip is not None)


def _tracks(results: dict[str, Any], folder: Path, clip: str, series: Sequence[Series]) -> Iterator[Track]:
    """The original, then every codec and setting whose file is there."""
    original = folder / "original" / f"{clip.replace('/', '__')}.flac"
    if not original.exists():
        return
    yield Track("original", original, None, None)
    rates = {(m["codec"], m["setting"]): m.get("kbps") for m in results["measurements"] if m["clip"] == clip}
    for look, codec in zip(series, results["codecs"], strict=True):
        for setting in codec["settings"]:
            path = audio_path(folder, codec["name"], setting, clip)
            if path.exists():
                name = f"{codec['name']} {setting}"
                yield Track(name, path, look, rates.get((codec["name"], setting)))


def _clip(clip: str, kind: str, number: int, tracks: Sequence[Track]) -> str:
    sounds = [_read(track.path) for track in tracks]
    full_scale = float(_decibels(*sounds[0]).max())  # of the original, for all pictures
    cards = [
        _card(clip, number, track, sound, full_scale) for track, sound in zip(tracks, sounds, strict=True)
    ]
    state = " open" if number == 0 else ""
    return (
        f'<details class="clip"{state}><summary><h3>{escape(clip)}</h3> <span class="quiet">{escape(kind)}, '
        f'{len(tracks) - 1} decoded</span></summary><ul class="tracks">{"".join(cards)}</ul></details>'
    )


def _read(path: Path) -> tuple[Floats, int]:
    """Samples [T] that are played, and their rate in Hz."""
    try:
        with soundfile.SoundFile(path) as file:
            audio = file.read(round(PLAYED_SECONDS * file.samplerate), dtype="float32", always_2d=True)
            return audio[:, 0], file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be read: {error}") from error


def _card(clip: str, number: int, track: Track, sound: tuple[Floats, int], full_scale: float) -> str:
    name = escape(track.name)
    picture = base64.b64encode(spectrogram(*sound, full_scale)).decode()
    file = io.BytesIO()
    soundfile.write(file, *sound, format="FLAC", subtype="PCM_16")
    audio = base64.b64encode(file.getvalue()).decode()
    dot = symbol(track.look) if track.look else ""
    ours = " ours" if track.look and track.look.is_ours else ""
    rate = "" if track.kbps is None else f"{track.kbps:.2f} kbps"
    alt = f"Spectrogram of {escape(clip)}, {name}: 0 to {TOP_HZ // 1000} kHz over {len(sound[0]) / sound[1]:.1f} s"
    return (
        f'<li class="track{ours}" data-clip="{number}" data-track="{name}"><div class="label">'
        f'<button type="button" class="play" aria-label="Play {name}" aria-pressed="false"></button>'
        f'<span class="name">{dot}{name}</span><span class="quiet">{rate}</span></div>'
        f'<audio controls preload="none" src="data:audio/flac;base64,{audio}"></audio>'
        f'<div class="spectrogram"><img alt="{alt}" width="{PICTURE[0]}" height="{PICTURE[1]}" '
        f'src="data:image/png;base64,{picture}"></div></li>'
    )


def _decibels(audio: Floats, sample_rate: int) -> NDArray[np.float64]:
    """Power spectrum in dB [bins up to TOP_HZ, PICTURE's width] of Hann windows evenly over the audio."""
    padded = np.pad(audio, WINDOW // 2)
    starts = np.linspace(0, len(padded) - WINDOW, PICTURE[0]).astype(int)
    windows = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    n_bins = min(WINDOW // 2, round(TOP_HZ * WINDOW / sample_rate))
    power = np.abs(np.fft.rfft(windows)[:, :n_bins]) ** 2
    decibels: NDArray[np.float64] = 10 * np.log10(power.T + 1e-10)
    return decibels


def spectrogram(audio: Floats, sample_rate: int, full_scale: float) -> bytes:
    """PNG of the audio [T], 0 to TOP_HZ upwards; the brightest colour is `full_scale` dB, the darkest 80 dB less."""
    from PIL import Image

    decibels = _decibels(audio, sample_rate)
    shade = np.clip((decibels - full_scale) / RANGE_DB + 1, 0, 1)
    image = Image.fromarray(np.round(shade[::-1] * (N_COLOURS - 1)).astype(np.uint8))
    image = image.resize(PICTURE, Image.Resampling.NEAREST)  # between palette entries nothing can be mixed
    image.putpalette(_palette())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


@cache
def _palette() -> bytes:
    """Red, green, blue of N_COLOURS from dark to bright."""
    import matplotlib

    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, N_COLOURS))[:, :3]
    return bytes(np.round(255 * colours).astype(np.uint8))
