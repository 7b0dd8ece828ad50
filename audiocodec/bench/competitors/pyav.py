"""Opus, MP3 and AAC by the encoders that PyAV's wheel carries."""

import ctypes
import io
from functools import partial
from pathlib import Path

import numpy as np

from audiocodec.bench.competitors.alignment import fit, resample
from audiocodec.bench.competitors.foreign import ALL_RATES, EVERYTHING, Foreign, package_version
from audiocodec.bench.results import Coded, Floats, Unavailable, cpu_seconds
from audiocodec.errors import CodecError

# Samples at 48 kHz by which libopus's output is late (or early) beyond its pre-skip, by a packet's configuration:
# the resamplers around SILK cost more in narrow band, and less in wider bands and hybrid mode, than it counts on.
OPUS_LAG = (*[2] * 4, *[-3] * 4, *[-2] * 8, *[0] * 16)


def opus() -> Foreign:
    """Opus by libopus with its defaults: variable bit rate, application "audio", full complexity.

    The file states the encoder's delay as pre-skip, and FFmpeg drops so much; `OPUS_LAG` is what that leaves.
    """
    version = require("opus", "libopus")
    about = f"{libopus_version()} in PyAV {version}, VBR, application audio"
    return Foreign("opus", EVERYTHING, ("6", "8", "12", "16", "24"), about, ALL_RATES, code_opus)


def mp3() -> Foreign:
    """MP3 by LAME, constant bit rate. The LAME tag states the delay of encoder and decoder; FFmpeg drops it."""
    about = f"LAME in PyAV {require('mp3', 'libmp3lame')}, CBR"
    through = partial(code, encoder="libmp3lame", decoder="mp3float", container="mp3")
    return Foreign("mp3", EVERYTHING, ("16", "24"), about, ALL_RATES, through)


def aac() -> Foreign:
    """AAC-LC by FFmpeg's own encoder, in MP4: the edit list states the delay, and FFmpeg drops it."""
    about = f"FFmpeg's AAC-LC in PyAV {require('aac', 'aac')}"
    through = partial(code, encoder="aac", decoder="aac", container="mp4")
    return Foreign("aac", EVERYTHING, ("16", "24"), about, ALL_RATES, through)


def code(
    audio: Floats, sample_rate: int, setting: str, *, encoder: str, decoder: str, container: str
) -> Coded:
    """audio [T] through a file in memory; the names are FFmpeg's. Raises CodecError where that fails."""
    begun = cpu_seconds()
    file = _encode(audio, sample_rate, round(float(setting) * 1000), encoder, container)
    encoding = cpu_seconds() - begun
    decoded, rate, packets = decode(file, decoder)
    return Coded(resample(decoded, rate, sample_rate), 8 * len(b"".join(packets)), 8 * len(file), encoding)


def code_opus(audio: Floats, sample_rate: int, setting: str) -> Coded:
    """audio [T] through an Ogg Opus file in memory. Raises CodecError where that fails."""
    begun = cpu_seconds()
    file = _encode(audio, sample_rate, round(float(setting) * 1000), "libopus", "ogg")
    encoding = cpu_seconds() - begun
    decoded, rate, packets = decode(file, "libopus")
    # the first 5 bits of a packet say mode and bandwidth (RFC 6716, section 3.1); a clip may mix them
    lag = round(np.median([OPUS_LAG[packet[0] >> 3] for packet in packets]))
    decoded = resample(fit(decoded, lag, len(decoded)), rate, sample_rate)
    return Coded(decoded, 8 * len(b"".join(packets)), 8 * len(file), encoding)


def _encode(audio: Floats, sample_rate: int, bits_per_second: int, encoder: str, container: str) -> bytes:
    """The file of audio [T]. Raises CodecError where the encoder fails."""
    import av

    file = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None]), format="flt", layout="mono")
    frame.sample_rate, frame.pts = sample_rate, 0  # without a time, MP4 gets no edit list
    try:
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(encoder, rate=sample_rate, layout="mono")
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate = bits_per_second
            for part in (frame, None):  # None: what the encoder still holds
                output.mux(stream.encode(part))
    except av.FFmpegError as error:
        raise CodecError(str(error)) from error
    return file.getvalue()


def decode(file: bytes, decoder: str) -> tuple[Floats, int, list[bytes]]:
    """Samples [T] of a mono file, their rate in Hz, and its packets. Raises CodecError where the decoder fails."""
    import av

    parts, packets = [np.zeros(0, np.float32)], []
    to_floats = av.AudioResampler(format="flt")
    try:
        with av.open(io.BytesIO(file), "r") as source:
            stream = source.streams.audio[0]
            context = av.AudioCodecContext.create(decoder, "r")
            assert isinstance(context, av.AudioCodecContext)
            context.extradata = stream.codec_context.extradata
            context.sample_rate, context.layout = stream.sample_rate, stream.layout
            # the last packet is empty, and makes the decoder give all that it has
            for packet in source.demux(stream):
                packets += [bytes(packet)] if packet.size else []
                for frame in context.decode(packet if packet.size else None):
                    parts += [floats.to_ndarray()[0] for floats in to_floats.resample(frame)]
    except av.FFmpegError as error:
        raise CodecError(str(error)) from error
    return np.concatenate(parts), context.sample_rate, packets


def require(codec: str, *names: str) -> str:
    """PyAV's version. Raises Unavailable, for a codec, where it or what FFmpeg calls `names` is missing."""
    version = package_version(codec, "av")
    import av

    missing = [name for name in names if name not in av.codecs_available]
    if missing:
        raise Unavailable(f"{codec}: this PyAV has no {', '.join(missing)}: take its wheel, pip install av")
    return version


def libopus_version() -> str:
    """What the libopus beside PyAV calls itself, such as "libopus 1.6.1"; "libopus" where it is not a wheel's."""
    import av

    folder = Path(av.__file__).parent
    found = [*folder.parent.glob("av.libs/libopus*"), *folder.glob(".dylibs/libopus*")]
    if not found:
        return "libopus"
    library = ctypes.CDLL(str(found[0]))
    library.opus_get_version_string.restype = ctypes.c_char_p
    return bytes(library.opus_get_version_string()).decode()
