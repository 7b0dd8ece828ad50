"""Any codec at all, as a folder of files that it has already decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audiocodec.bench.competitors.alignment import fit, resample
from audiocodec.bench.competitors.foreign import EVERYTHING
from audiocodec.bench.results import Clip, Coded, Floats
from audiocodec.errors import CodecError

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


@dataclass
class Decoded:
    """A Competitor that answers with the files of a folder, by the clips' names; its one setting is the rate."""

    name: str
    settings: tuple[str, ...]
    about: str
    files: dict[str, Path]
    kinds: tuple[str, ...] = EVERYTHING

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """The folder's file for the clip, [T] as audio [T]. Raises CodecError where it lacks one.

        Delays are taken to have been taken out. The stated rate counts as payload; no file was coded here.
        """
        path = self.files.get(clip.name) or self.files.get(clip.name.rpartition("/")[2])
        if path is None:
            raise CodecError(f"{self.name}: the folder has no file named {clip.name} (suffix aside)")
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise CodecError(f"{path}: cannot be read: {error}") from error
        decoded = resample(samples.mean(axis=1, dtype=np.float32), rate, sample_rate)
        bits = float(setting) * 1000 * len(audio) / sample_rate
        return Coded(fit(decoded, 0, len(audio)), bits, None)


def build(argument: str) -> Decoded:
    """`DIR@KBPS`: decoded files and the rate at which they were coded; the folder's name is the codec's.

    Raises CodecError for another form, a folder without audio, and a rate that is no positive number.
    """
    folder_name, _, kbps = argument.rpartition("@")
    try:
        rate = float(kbps)
    except ValueError:
        rate = 0.0
    if not folder_name or not 0 < rate < float("inf"):
        raise CodecError(
            f"decoded:{argument}: expected decoded:DIR@KBPS, a folder and a rate, as decoded:out/encodec@6"
        )
    folder = Path(folder_name).resolve()
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise CodecError(f"decoded:{argument}: no audio files ({', '.join(sorted(SUFFIXES))}) in {folder}")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}
    return Decoded(folder.name, (f"{rate:g}",), f"decoded elsewhere, {len(found)} files", files)
