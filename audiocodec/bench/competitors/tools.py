"""Codecs that come as pairs of commands: Vorbis, Speex and LC3, and Opus where PyAV is missing."""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import soundfile

from audiocodec.bench.competitors.alignment import fit, resample
from audiocodec.bench.competitors.foreign import ALL_RATES, EVERYTHING, SPEECH, Foreign
from audiocodec.bench.results import Coded, Floats, Unavailable, cpu_seconds
from audiocodec.errors import CodecError

WAV, CODED, DECODED = "in.wav", "coded", "out.wav"  # the files' names, in a folder of their own
SPEEX_QUALITY = {"4": "0", "8": "2", "13": "4"}  # wide band, by the kbps that its packets then have
SPEEX_LOOKAHEAD = 223  # samples at 16 kHz, by correlation where speexdec drops none


def opus() -> Foreign:
    """Opus with opusenc's defaults: variable bit rate. The file states the delay as pre-skip, opusdec drops it."""
    need("opus", "opus-tools", "opusenc", "opusdec")
    through = partial(
        code,
        encode=("opusenc", "--quiet", "--bitrate", "{}", WAV, CODED),
        decode=("opusdec", "--quiet", "--float", CODED, DECODED),
        payload_bytes=partial(ogg_payload_bytes, n_headers=2),
    )
    about = f"{first_line('opusenc', '--version')}, VBR"
    return Foreign("opus", EVERYTHING, ("6", "8", "12", "16", "24"), about, ALL_RATES, through)


def vorbis() -> Foreign:
    """Vorbis with managed bit rate: without, the lowest quality gives some 20 kbps. It has no delay."""
    need("vorbis", "vorbis-tools", "oggenc", "oggdec")
    through = partial(
        code,
        encode=("oggenc", "-Q", "--managed", "-b", "{}", "-o", CODED, WAV),
        decode=("oggdec", "-Q", "-o", DECODED, CODED),
        payload_bytes=partial(ogg_payload_bytes, n_headers=3),
    )
    about = f"{first_line('oggenc', '--version')}, managed bit rate"
    return Foreign("vorbis", EVERYTHING, ("16", "24"), about, ALL_RATES, through)


def speex() -> Foreign:
    """Speex, wide band, constant bit rate."""
    need("speex", "speex", "speexenc", "speexdec")
    about = f"{first_line('speexenc', '--version')}, wide band"
    return Foreign("speex", SPEECH, tuple(SPEEX_QUALITY), about, (16000,), code_speex)


def lc3() -> Foreign:
    """LC3 in frames of 10 ms. dlc3 drops the delay. 16 kbps is the format's lowest rate."""
    need("lc3", "liblc3-tools", "elc3", "dlc3")
    through = partial(
        code,
        encode=("elc3", "-b", "{}000", WAV, CODED),
        decode=("dlc3", CODED, DECODED),
        payload_bytes=lc3_payload_bytes,
    )
    return Foreign("lc3", EVERYTHING, ("16", "24", "32"), "liblc3, 10 ms", ALL_RATES, through)


def code_speex(audio: Floats, sample_rate: int, setting: str) -> Coded:
    """audio [T] at 16 kHz through Speex.

    speexdec drops the look-ahead and so gives T samples, but not from a file of a single Ogg page (up to 5 s),
    of which it gives more.
    """
    coded = code(
        audio,
        sample_rate,
        SPEEX_QUALITY[setting],
        encode=("speexenc", "--wideband", "--quality", "{}", WAV, CODED),
        decode=("speexdec", CODED, DECODED),
        payload_bytes=partial(ogg_payload_bytes, n_headers=2),
    )
    lag = SPEEX_LOOKAHEAD if len(coded.audio) > len(audio) else 0
    return replace(coded, audio=fit(coded.audio, lag, len(audio)))


def code(
    audio: Floats,
    sample_rate: int,
    setting: str,
    *,
    encode: Sequence[str],
    decode: Sequence[str],
    payload_bytes: Callable[[bytes], int],
) -> Coded:
    """audio [T] through two commands, which read and write WAV, CODED and DECODED in the working directory.

    "{}" in `encode` stands for the setting. payload_bytes: counts those of a coded file.
    Raises CodecError where a command fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / WAV, audio, sample_rate, subtype="PCM_16")
        begun = cpu_seconds()
        run([part.format(setting) for part in encode], folder)
        encoding = cpu_seconds() - begun
        run(decode, folder)
        file = (folder / CODED).read_bytes()
        decoded, rate = soundfile.read(folder / DECODED, dtype="float32")
    return Coded(resample(decoded, rate, sample_rate), 8 * payload_bytes(file), 8 * len(file), encoding)


def run(command: Sequence[str], folder: Path) -> None:
    """Runs a command in a folder. Raises CodecError with the last that it said, where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise CodecError(f"{command[0]} ended with {done.returncode}: {said[-1] if said else 'no message'}")


def need(codec: str, package: str, *commands: str) -> None:
    """Raises Unavailable, for a codec, where commands of a Debian package are missing."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise Unavailable(f"{codec}: {' and '.join(missing)} not found: apt install {package}")


def first_line(*command: str) -> str:
    """What a command says first, such as its version."""
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return (done.stdout or done.stderr).decode(errors="replace").partition("\n")[0].strip()


def ogg_payload_bytes(file: bytes, n_headers: int) -> int:
    """Bytes of an Ogg stream's packets after the first `n_headers`. Source: RFC 3533, section 6."""
    sizes, at = [0], 0
    while at < len(file):
        lacing = file[at + 27 : at + 27 + file[at + 26]]
        for value in lacing:
            sizes[-1] += value
            if value < 255:  # the packet ends here
                sizes.append(0)
        at += 27 + len(lacing) + sum(lacing)
    return sum(sizes[n_headers:])


def lc3_payload_bytes(file: bytes) -> int:
    """Bytes of the frames in a file of elc3: each has its size before it, the header its own at byte 2."""
    (at,) = struct.unpack_from("<H", file, 2)
    total = 0
    while at < len(file):
        (size,) = struct.unpack_from("<H", file, at)
        total += size
        at += 2 + size
    return total
