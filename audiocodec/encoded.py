"""Outputs that libsndfile encodes: FLAC, Ogg, MP3 and the like, by the suffix of the name."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiocodec.errors import AudioError
from audiocodec.wav import float_to_int16

ENCODED_FORMATS = {  # suffix -> libsndfile's format and subtype
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
}
_WRITE_SAMPLES = 1 << 14  # libsndfile's Vorbis encoder puts all samples of one write on the stack


class EncodedSink:
    """Float32 blocks [T, C] through libsndfile into a seekable binary file.

    suffix: one of ENCODED_FORMATS. sample_rate in Hz. tags: those that the format has no place for are left out.
    name: the output, for messages. Integer formats get `float_to_int16`, lossy ones floats clipped to full scale.
    Raises AudioError when the format cannot hold this rate; OSError of the file as it comes (a full disk).
    """

    def __init__(
        self,
        stream: BinaryIO,
        suffix: str,
        sample_rate: int,
        channels: int,
        *,
        tags: Mapping[str, str],
        name: str,
    ) -> None:
        self._name = name
        self._stream = _ErrorKeeper(stream)
        container, subtype = ENCODED_FORMATS[suffix]
        self._is_integer = subtype == "PCM_16"
        try:
            self._sound: Any = soundfile.SoundFile(
                self._stream, "w", sample_rate, channels, subtype=subtype, format=container
            )
        except (ValueError, soundfile.SoundFileError) as error:
            self._stream.raise_kept()
            raise AudioError(
                f"{name}: this libsndfile cannot write {suffix} at {sample_rate} Hz ({error}): "
                "choose .wav or another rate"
            ) from error
        for tag, text in tags.items():
            with suppress(soundfile.SoundFileError):  # no place for it
                setattr(self._sound, tag, text)

    def write(self, block: NDArray[np.float32]) -> None:
        """Appends [T, C]."""
        samples = float_to_int16(block) if self._is_integer else np.clip(block, -1, 1)
        try:
            for start in range(0, len(samples), _WRITE_SAMPLES):
                self._sound.write(samples[start : start + _WRITE_SAMPLES])
        except (
            AssertionError,
            soundfile.SoundFileError,
        ) as error:  # assert: soundfile's check of short writes
            self._stream.raise_kept()
            raise AudioError(f"{self._name}: libsndfile cannot write the samples ({error})") from error
        self._stream.raise_kept()

    def close(self) -> None:
        """Writes what the encoder still holds."""
        try:
            self._sound.close()
        except soundfile.SoundFileError as error:
            self._stream.raise_kept()
            raise AudioError(f"{self._name}: libsndfile cannot complete the file ({error})") from error
        self._stream.raise_kept()


class _ErrorKeeper:
    """A binary file for libsndfile, which drops exceptions: keeps the first one for later."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._error: OSError | None = None
        self.seek, self.tell, self.read = stream.seek, stream.tell, stream.read

    def write(self, data: bytes) -> int:
        """Bytes written; 0 from the first failure on, which makes libsndfile stop."""
        if self._error is None:
            try:
                return self._stream.write(data)
            except OSError as error:
                self._error = error
        return 0

    def raise_kept(self) -> None:
        """Raises the error that a write met, if any."""
        if self._error is not None:
            raise self._error
