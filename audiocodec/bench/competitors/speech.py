"""Speech codecs that are called frame by frame: AMR-WB by Debian's encoder, Codec2 by the wheel pycodec2."""

import ctypes
import ctypes.util
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audiocodec.bench.competitors import pyav
from audiocodec.bench.competitors.alignment import fit
from audiocodec.bench.competitors.foreign import SPEECH, Foreign, package_version
from audiocodec.bench.results import Coded, Floats, Unavailable, cpu_seconds
from audiocodec.wav import float_to_int16

AMRWB_MODES = {"6.6": 0, "8.85": 1, "12.65": 2}
AMRWB_DECODER = "libopencore_amrwb"  # of the standard's own code: .03 PESQ above FFmpeg's own "amrwb"
AMRWB_FRAME = 320  # samples of 20 ms at 16 kHz
AMRWB_MAX_FRAME_BYTES = 61
# Samples at 16 kHz: 5 ms of look-ahead, and 15 samples of the filters to 12.8 kHz and back (3GPP TS 26.190).
AMRWB_DELAY = 95

CODEC2_MODES = {"0.7": 700, "1.3": 1300, "1.4": 1400, "2.4": 2400, "3.2": 3200}
CODEC2_HEADER_BYTES = 7  # of a .c2 file
# Samples at 8 kHz. The analysis window of 40 ms stands for its middle; 700C takes another frame of 10 ms to
# interpolate. It makes a new waveform, so no correlation shows this: at these delays STOI is highest.
CODEC2_DELAY, CODEC2_DELAY_700 = 160, 240


def amrwb() -> Foreign:
    """AMR-WB at the rates of mobile telephony."""
    library = ctypes.util.find_library("vo-amrwbenc")
    if library is None:
        raise Unavailable("amrwb: the library vo-amrwbenc not found: apt install libvo-amrwbenc0")
    about = f"{library}, decoded by PyAV {pyav.require('amrwb', AMRWB_DECODER)}"
    through = partial(code_amrwb, library=library)
    return Foreign("amrwb", SPEECH, tuple(AMRWB_MODES), about, (16000,), through)


def code_amrwb(audio: Floats, sample_rate: int, setting: str, *, library: str) -> Coded:
    """audio [T] at 16 kHz through an .amr file. Payload: the speech bits, without what fills up the frames' bytes."""
    begun = cpu_seconds()
    blocks = frames_of(audio, AMRWB_FRAME, AMRWB_DELAY)
    file = b"#!AMR-WB\n" + amrwb_frames(blocks, AMRWB_MODES[setting], library)
    encoding = cpu_seconds() - begun
    decoded, _, _ = pyav.decode(file, AMRWB_DECODER)
    payload_bits = float(setting) * 1000 * blocks.size / sample_rate
    return Coded(fit(decoded, AMRWB_DELAY, len(audio)), payload_bits, 8 * len(file), encoding)


def amrwb_frames(blocks: NDArray[np.int16], mode: int, library: str) -> bytes:
    """Storage frames (RFC 4867, section 5.3) of blocks [n, AMRWB_FRAME]."""
    encoder = ctypes.CDLL(library)
    encoder.E_IF_init.restype = ctypes.c_void_p
    encoder.E_IF_exit.argtypes = [ctypes.c_void_p]
    pointers = [ctypes.c_void_p, ctypes.c_void_p]
    encoder.E_IF_encode.argtypes = [ctypes.c_void_p, ctypes.c_int, *pointers, ctypes.c_int]
    frame = ctypes.create_string_buffer(AMRWB_MAX_FRAME_BYTES)
    state = encoder.E_IF_init()
    parts = []
    for block in blocks:
        n_bytes = encoder.E_IF_encode(state, mode, block.ctypes.data, frame, 0)
        parts.append(frame.raw[:n_bytes])
    encoder.E_IF_exit(state)
    return b"".join(parts)


def codec2() -> Foreign:
    """Codec2, the lowest rates that speech is sent at: 8 kHz, a sinusoidal model of the voice."""
    about = f"pycodec2 {package_version('codec2', 'pycodec2')}"
    return Foreign("codec2", SPEECH, tuple(CODEC2_MODES), about, (8000,), code_codec2)


def code_codec2(audio: Floats, sample_rate: int, setting: str) -> Coded:
    """audio [T] at 8 kHz. Payload: the bits of each frame, which a .c2 file fills up to bytes."""
    import pycodec2

    begun = cpu_seconds()
    codec = pycodec2.Codec2(CODEC2_MODES[setting])
    delay = CODEC2_DELAY_700 if setting == "0.7" else CODEC2_DELAY
    frames = [codec.encode(block) for block in frames_of(audio, codec.samples_per_frame(), delay)]
    encoding = cpu_seconds() - begun
    samples = np.concatenate([codec.decode(frame) for frame in frames])
    decoded = (samples / 32768).astype(np.float32)
    file_bytes = CODEC2_HEADER_BYTES + len(b"".join(frames))
    return Coded(
        fit(decoded, delay, len(audio)), codec.bits_per_frame() * len(frames), 8 * file_bytes, encoding
    )


def frames_of(audio: Floats, frame_length: int, delay: int) -> NDArray[np.int16]:
    """audio [T] and `delay` samples of silence, filled up to whole frames: [n, frame_length], 16 bit."""
    length = -(-(len(audio) + delay) // frame_length) * frame_length
    return float_to_int16(fit(audio, 0, length)).reshape(-1, frame_length)
