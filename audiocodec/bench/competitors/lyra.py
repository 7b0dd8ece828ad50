"""Lyra V2 (github.com/google/lyra) from the folder of its three networks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audiocodec.bench.competitors.alignment import fit
from audiocodec.bench.competitors.foreign import SPEECH, Foreign, package_version
from audiocodec.bench.results import Coded, Floats, cpu_seconds
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

NETWORKS = ("soundstream_encoder", "quantizer", "lyragan")
FRAME = 320  # samples of 20 ms at 16 kHz
N_LEVELS = 46
LEVELS = {"3.2": 16, "6": 30, "9.2": N_LEVELS}  # by the rate in kbps


def build(folder_name: str) -> Foreign:
    """Lyra V2 with the networks of a folder. Raises CodecError where one is missing, Unavailable without LiteRT."""
    folder = Path(folder_name)
    missing = [name for name in NETWORKS if not (folder / f"{name}.tflite").is_file()]
    if missing:
        raise CodecError(f"lyra:{folder_name}: the folder lacks {', '.join(f'{n}.tflite' for n in missing)}")
    about = f"Lyra V2 by LiteRT {package_version('lyra', 'ai-edge-litert')}"
    return Foreign("lyra", SPEECH, tuple(LEVELS), about, (16000,), partial(code, folder=folder))


def code(audio: Floats, sample_rate: int, setting: str, *, folder: Path) -> Coded:
    """audio [T] at 16 kHz, packet by packet; Lyra has no file.

    Nor a delay: a frame in is the same frame out, as correlation confirms.
    """
    from ai_edge_litert.interpreter import Interpreter

    # encoder and decoder remember what went before, so every clip gets new ones
    encoder, quantizer, decoder = (
        Interpreter(str(folder / f"{name}.tflite"), num_threads=1) for name in NETWORKS
    )
    encoder.allocate_tensors()
    decoder.allocate_tensors()
    encode, decode = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
    n_levels = np.int32(LEVELS[setting])
    packets = []
    begun = cpu_seconds()
    for block in fit(audio, 0, -(-len(audio) // FRAME) * FRAME).reshape(-1, 1, FRAME):
        codes = encode(input_frames=invoke(encoder, block), num_quantizers=n_levels)["output_0"]
        packets.append(pack(codes.ravel()[:n_levels]))
    encoding = cpu_seconds() - begun
    decoded = []
    for packet in packets:
        latents = decode(encoding_indices=unpack(packet).reshape(N_LEVELS, 1, 1))["output_0"]
        decoded.append(invoke(decoder, latents).ravel())
    bits = 8 * len(b"".join(packets))
    return Coded(fit(np.concatenate(decoded), 0, len(audio)), bits, None, encoding)


def invoke(network: "Interpreter", block: Floats) -> Floats:
    """What a network of one input and one output makes of a block."""
    network.set_tensor(network.get_input_details()[0]["index"], block)
    network.invoke()
    output: Floats = network.get_tensor(network.get_output_details()[0]["index"])
    return output


def pack(codes: NDArray[np.int32]) -> bytes:
    """An even number of codes of 4 bits, two to a byte."""
    return (codes[0::2] << 4 | codes[1::2]).astype(np.uint8).tobytes()


def unpack(packet: bytes) -> NDArray[np.int32]:
    """The codes of a packet, and -1 for the levels that it lacks: [N_LEVELS]."""
    pairs = np.frombuffer(packet, np.uint8).astype(np.int32)
    codes = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()
    return np.pad(codes, (0, N_LEVELS - len(codes)), constant_values=-1)
