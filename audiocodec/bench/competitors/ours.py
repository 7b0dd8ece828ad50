"""Our own codec at several level counts and at variable bitrate, through the bytes of real `.rq` files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiocodec import bitstream
from audiocodec.audio import AudioReader
from audiocodec.bench.competitors.foreign import EVERYTHING
from audiocodec.bench.results import Clip, Coded, Floats
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from audiocodec.codec import Codec
    from audiocodec.codes import Codes, CodeSpace
    from audiocodec.variable import Measured


# counts in between would be hard to tell from these
LEVELS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
VARIABLE_KBPS = (1.5, 3, 6, 9)


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
        self.about = about(space)
        self._codec = codec
        self._audio, self._sample_rate, self._file = np.zeros(0, np.float32), 0, b""

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """audio [T] at sample_rate through a `.rq` file and back, [T]. Raises CodecError where that fails."""
        if not len(audio):
            raise CodecError(f"{clip.name}: no samples to code")
        if not same(audio, sample_rate, self._audio, self._sample_rate):
            self._file = encode(self._codec, audio, sample_rate)
            self._audio, self._sample_rate = audio.copy(), sample_rate
        file = io.BytesIO()
        bitstream.drop(io.BytesIO(self._file), file, self._levels[setting])
        return decode(self._codec, file.getvalue())


class OursVariable:
    """A Competitor: a model of ours, as by `--kbps X --vbr`. Its settings are rates of each whole clip.

    They are reached by the codes alone: heads and checksums count for nobody. A clip's levels are measured once, so
    the last clip's measure is kept.
    """

    kinds: tuple[str, ...] = EVERYTHING

    def __init__(self, name: str, codec: "Codec") -> None:
        space = codec.space
        codec.check_variable()
        self.name = name
        self.settings = tuple(f"{kbps:g}" for kbps in VARIABLE_KBPS if kbps < space.kbps(space.n_q))
        self.about = f"{about(space)}, variable bitrate"
        self._codec = codec
        self._audio, self._sample_rate = np.zeros(0, np.float32), 0
        self._measure: tuple[Codes, Measured] | None = None

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """audio [T] at sample_rate through a `.rq` file and back, [T]. Raises CodecError where that fails."""
        from audiocodec.encoding import pack_variable
        from audiocodec.variable import fit_to_rate

        if not len(audio):
            raise CodecError(f"{clip.name}: no samples to code")
        if self._measure is None or not same(audio, sample_rate, self._audio, self._sample_rate):
            self._measure = self._codec.measure_levels([audio[:, None]], sample_rate, 1)
            self._audio, self._sample_rate = audio.copy(), sample_rate
        codes, measured = self._measure

        def write(counts: NDArray[np.uint8]) -> tuple[int, bytes]:
            file, _ = pack_variable(self._codec, codes, counts, {})
            return payload_bits(file) // 8, file

        file = fit_to_rate(measured, float(setting), len(audio) / sample_rate, write)
        return decode(self._codec, file)


def same(audio: Floats, sample_rate: int, other: Floats, other_rate: int) -> bool:
    """Whether two recordings are one."""
    return sample_rate == other_rate and np.array_equal(audio, other)


def decode(codec: "Codec", file: bytes) -> Coded:
    """What a `.rq` file of one lane decodes to, and its size."""
    from audiocodec.decoding import Decoding

    decoded = np.concatenate(list(Decoding(io.BytesIO(file), codec).blocks()))[:, 0]
    return Coded(decoded, payload_bits(file), 8 * len(file))


def about(space: "CodeSpace") -> str:
    """A model's codes, for the report."""
    return f"model {space.model}, code space {space.id.hex()[:8]}, {space.sample_rate} Hz"


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


def build_variable(model: str, name: str = "") -> OursVariable:
    """The same with variable bitrate, whose name says so. Raises ModelError where the model has none."""
    from audiocodec.codec import load

    return OursVariable(f"{name or shown_name(model)}-vbr", load(model, device="cpu"))


def shown_name(model: str) -> str:
    """A model's name or folder as one word, which can be a folder's name.

    >>> shown_name("runs/mine/model")
    'runs-mine-model'
    """
    return "-".join(part for part in Path(model).parts if part.strip("./\\"))
