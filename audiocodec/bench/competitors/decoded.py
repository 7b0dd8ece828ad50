"""Any codec at all, as a folder of files that it has already decoded."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audiocodec.bench.competitors.alignment import fit, resample
from audiocodec.bench.competitors.foreign import EVERYTHING
from audiocodec.bench.results import Clip, Coded, Floats
from audiocodec.errors import CodecError

_NUMBER = r"\d+(?:\.\d+)?"
_FORM = re.compile(rf"(?P<folder>.+?)@(?P<kbps>{_NUMBER})(?:@(?P<late_ms>-?{_NUMBER}))?")
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


@dataclass
class Decoded:
    """A Competitor that answers with the files of a folder, by the clips' names; its one setting is the rate.

    late_ms: how much later than their originals the files are.
    """

    name: str
    settings: tuple[str, ...]
    about: str
    files: dict[str, Path]
    late_ms: float = 0.0
    kinds: tuple[str, ...] = EVERYTHING

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """The folder's file for the clip, [T] as audio [T]. Raises CodecError where it lacks one.

        The stated rate counts as payload; no file was coded here.
        """
        path = self.files.get(clip.name) or self.files.get(clip.name.rpartition("/")[2])
        if path is None:
            raise CodecError(f"{self.name}: the folder has no file named {clip.name} (suffix aside)")
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise CodecError(f"{path}: cannot be read: {error}") from error
        decoded = resample(samples.mean(axis=1, dtype=np.float32), rate, sample_rate)
        delay = round(self.late_ms / 1000 * sample_rate)
        bits = float(setting) * 1000 * len(audio) / sample_rate
        return Coded(fit(decoded, delay, len(audio)), bits, None)


def build(argument: str) -> Decoded:
    """`DIR@KBPS` or `DIR@KBPS@MS`: decoded files, their rate, and how many ms late they are; named as the folder.

    Raises CodecError for another form, a folder without audio, and a rate that is no positive number.
    """
    parts = _FORM.fullmatch(argument)
    if parts is None or not float(parts["kbps"]) > 0:
        raise CodecError(
            f"decoded:{argument}: expected decoded:DIR@KBPS, a folder and a rate, as decoded:out/encodec@6, "
            "or decoded:DIR@KBPS@MS where its files are some ms late"
        )
    folder = Path(parts["folder"]).resolve()
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise CodecError(f"decoded:{argument}: no audio files ({', '.join(sorted(SUFFIXES))}) in {folder}")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}
    late_ms = float(parts["late_ms"] or 0)
    about = f"decoded elsewhere, {len(found)} files" + (f", {late_ms:g} ms late" if late_ms else "")
    return Decoded(folder.name, (f"{float(parts['kbps']):g}",), about, files, late_ms)
