"""Our own codec at several level counts, through the bytes of real `.rq` files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from audiocodec import bitstream
from audiocodec.audio import AudioReader
from audiocodec.bench.competitors.foreign import EVERYTHING
from audiocodec.bench.results import Clip, Coded, Floats
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from audiocodec.codec import Codec


# counts in between would be hard to tell from these
LEVELS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)


class Ours:
    """A Competitor: a model of ours. Its settings are the rates of LEVELS, as far as it has them, and of all, in kbps.

    A clip is encoded once, at all levels; the file of fewer is cut from it, which gives the bytes of encoding at
    fewer. So the last clip's file is kept.
    """

    kinds: tuple[str, ...] = EVERYTHING

    def __init__(self, name: str, codec: "Codec") -> None:
        space = codec.space
        self.name = name
        counts = [n for n in LEVELS if n < space.n_q] + [space.n_q]
        self._levels = {f"{space.kbps(n):g}": n for n in counts}
        self.settings = tuple(self._levels)
        self.about = f"model {space.model}, code space {space.id.hex()[:8]}, {space.sample_rate} Hz"
        self._codec = codec
        self._audio, self._sample_rate, self._file = np.zeros(0, np.float32), 0, b""

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """audio [T] at sample_rate through a `.rq` file and back, [T]. Raises CodecError where that fails."""
        from audiocodec.decoding import Decoding

        if not len(audio):
            raise CodecError(f"{clip.name}: no samples to code")
        if sample_rate != self._sample_rate or not np.array_equal(audio, self._audio):
            self._file = encode(self._codec, audio, sample_rate)
            self._audio, self._sample_rate = audio.copy(), sample_rate
        file = io.BytesIO()
        bitstream.drop(io.BytesIO(self._file), file, self._levels[setting])
        decoding = Decoding(io.BytesIO(file.getvalue()), self._codec)
        decoded = np.concatenate(list(decoding.blocks()))[:, 0]
        return Coded(decoded, payload_bits(file.getvalue()), 8 * len(file.getvalue()))


def encode(codec: "Codec", audio: Floats, sample_rate: int) -> bytes:
    """The `.rq` file of audio [T] at all levels."""
    from audiocodec.encoding import encode_stream

    wav, file = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, audio, sample_rate, format="WAV", subtype="FLOAT")
    wav.seek(0)
    with AudioReader(wav) as reader:
        encode_stream(codec, reader, file, n_q=codec.space.n_q)
    return file.getvalue()


def payload_bits(file: bytes) -> int:
    """Bits of the codes in a `.rq` file: its groups without their heads and checksums."""
    groups = bitstream.Reader(io.BytesIO(file), unpack=False)
    return 8 * sum(len(group.payload or b"") for group in groups)


def build(model: str, name: str = "") -> Ours:
    """A model by name or folder, shown as `name`, by default as its path's parts. Raises ModelError without it."""
    from audiocodec.codec import load

    return Ours(name or shown_name(model), load(model, device="cpu"))


def shown_name(model: str) -> str:
    """A model's name or folder as one word, which can be a folder's name.

    >>> shown_name("runs/mine/model")
    'runs-mine-model'
    """
    return "-".join(part for part in Path(model).parts if part.strip("./\\"))
