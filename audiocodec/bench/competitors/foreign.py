"""A codec that others made: what all of its kind have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from audiocodec.bench.competitors.alignment import coding_rate, fit, resample
from audiocodec.bench.results import Clip, Coded, Floats, Unavailable, cpu_seconds
from audiocodec.errors import CodecError

EVERYTHING = ("speech", "music", "sounds")
SPEECH = ("speech",)
# Codecs of any bandwidth get the rates below and no higher ones: ours codes up to 12 kHz, the report plays 24 kHz,
# and at these bit rates a higher one would only cost them bits.
ALL_RATES = (8000, 16000, 24000)

Through = Callable[[Floats, int, str], Coded]


@dataclass
class Foreign:
    """A Competitor that works at a few sample rates of its own.

    rates in Hz. through(audio [T] at one of the rates, that rate, setting) -> Coded, of any length but in time:
    it takes the codec's delay out, and says what encoding took.
    """

    name: str
    kinds: tuple[str, ...]
    settings: tuple[str, ...]
    about: str
    rates: tuple[int, ...]
    through: Through

    def code(self, clip: Clip, audio: Floats, sample_rate: int, setting: str) -> Coded:
        """audio [T] at sample_rate through the codec and back, [T]. Raises CodecError where that fails."""
        if not len(audio):
            raise CodecError(f"{clip.name}: no samples to code")
        rate = coding_rate(sample_rate, self.rates)
        lane = resample(audio, sample_rate, rate)
        begun = cpu_seconds()
        try:
            coded = self.through(lane, rate, setting)
        except (CodecError, OSError, RuntimeError, ValueError) as error:  # also what others' libraries raise
            raise CodecError(f"{self.name} at {setting} kbps failed on {clip.name}: {error}") from error
        taken = cpu_seconds() - begun
        decoding = None if coded.encode_cpu_seconds is None else taken - coded.encode_cpu_seconds
        decoded = resample(coded.audio, rate, sample_rate)
        return replace(coded, audio=fit(decoded, 0, len(audio)), decode_cpu_seconds=decoding)


def package_version(codec: str, package: str) -> str:
    """Version of an installed Python package. Raises Unavailable, for a codec, where there is none."""
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise Unavailable(f"{codec}: {package} is not installed: pip install 'audiocodec[bench]'") from error
