"""Lyra V2 (github.com/google/lyra) from the folder of its three networks."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiocodec.bench.competitors.alignment import fit
from audiocodec.bench.competitors.foreign import SPEECH, Foreign, package_version
from audiocodec.bench.results import Coded, Floats, cpu_seconds
from audiocodec.errors import CodecError

N_LEVELS = 46
LEVELS = {"3.2": 16, "6": 30, "9.2": N_LEVELS}  # by the rate in kbps


def build(folder_name: str) -> Foreign:
    """Lyra V2 with the networks of a folder. Raises CodecError where one is missing, Unavailable without LiteRT."""
    from audiocodec.hub.lyra import SAMPLE_RATE, missing_networks

    folder = Path(folder_name)
    if missing := missing_networks(folder):
        raise CodecError(f"lyra:{folder_name}: the folder lacks {', '.join(missing)}")
    about = f"Lyra V2 by LiteRT {package_version('lyra', 'ai-edge-litert')}"
    return Foreign("lyra", SPEECH, tuple(LEVELS), about, (SAMPLE_RATE,), partial(code, folder=folder))


def code(audio: Floats, sample_rate: int, setting: str, *, folder: Path) -> Coded:
    """audio [T] at 16 kHz, packet by packet; Lyra has no file.

    Nor a delay: a frame in is the same frame out, as correlation confirms.
    """
    import torch

    from audiocodec.hub.lyra import HOP_LENGTH, Lyra

    lyra = Lyra(folder)
    encoder, decoder = lyra.encoder_state(1), lyra.decoder_state(1)
    samples = torch.from_numpy(fit(audio, 0, -(-len(audio) // HOP_LENGTH) * HOP_LENGTH))
    begun = cpu_seconds()
    codes, _ = lyra.encode_block(samples[None, None], encoder, LEVELS[setting])
    packets = [pack(frame) for frame in codes[0].T.numpy()]
    encoding = cpu_seconds() - begun
    unpacked = torch.from_numpy(np.stack([unpack(packet) for packet in packets], axis=1))
    decoded, _ = lyra.decode_block(unpacked[None], decoder)
    bits = 8 * len(b"".join(packets))
    return Coded(fit(decoded[0, 0].numpy(), 0, len(audio)), bits, None, encoding)


def pack(codes: NDArray[np.integer]) -> bytes:
    """An even number of codes of 4 bits, two to a byte."""
    return (codes[0::2] << 4 | codes[1::2]).astype(np.uint8).tobytes()


def unpack(packet: bytes) -> NDArray[np.int32]:
    """The codes of a packet, and -1 for the levels that it lacks: [N_LEVELS]."""
    pairs = np.frombuffer(packet, np.uint8).astype(np.int32)
    codes = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()
    return np.pad(codes, (0, N_LEVELS - len(codes)), constant_values=-1)
