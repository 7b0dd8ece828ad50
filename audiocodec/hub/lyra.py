"""Lyra V2 (github.com/google/lyra): three TensorFlow Lite networks in a folder, run by LiteRT on the CPU.

16 kHz, frames of 20 ms, 46 levels of 4 bits: 0.2 to 9.2 kbit/s, of which Lyra itself uses 16, 30 and 46 levels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.codes import CodeSpace
from audiocodec.errors import ModelError
from audiocodec.hub.common import code_space, need

NETWORKS = ENCODER, QUANTIZER, DECODER = "soundstream_encoder", "quantizer", "lyragan"
SAMPLE_RATE, HOP_LENGTH = 16000, 320
N_LEVELS, CODEBOOK_SIZE = 46, 16
NAME = "lyra-v2"

Network = Any  # ai_edge_litert's Interpreter, which comes without types
States = list[Network]


def missing_networks(folder: Path) -> list[str]:
    """Names of the files that a folder lacks to be Lyra's."""
    files = [f"{name}.tflite" for name in NETWORKS]
    return [file for file in files if not (folder / file).is_file()]


class Lyra:
    """A `BlockModel`: Lyra V2 with the networks of a folder. It has no delay: a frame in is the same frame out.

    Encoder and decoder keep what they remember inside, so their state is a network per lane, which a call changes.
    Raises ModelError for a folder without its networks.
    """

    # LyraGAN started late is exactly itself after 25 frames (tests/test_hub_lyra.py)
    receptive_field = 25
    start_multiple = 1
    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        if missing := missing_networks(folder):
            raise ModelError(
                f"lyra:{folder}: the folder lacks {', '.join(missing)}: expected Lyra V2's networks"
            )
        self._folder = folder
        self._interpreter = need("ai_edge_litert.interpreter").Interpreter
        quantizer = self._network(QUANTIZER)
        self._quantize, self._dequantize = (quantizer.get_signature_runner(n) for n in ("encode", "decode"))

    def code_space(self) -> CodeSpace:
        """What the codes mean; its id is that of the quantizer's file."""
        return code_space(
            family="lyra",
            name=NAME,
            sample_rate=SAMPLE_RATE,
            hop_length=HOP_LENGTH,
            codebook_sizes=(CODEBOOK_SIZE,) * N_LEVELS,
            frames_per_code=(1,) * N_LEVELS,
            codebooks=[(self._folder / f"{QUANTIZER}.tflite").read_bytes()],
        )

    def encoder_state(self, batch_size: int) -> States:
        """An encoder for each lane."""
        return [self._network(ENCODER) for _ in range(batch_size)]

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> States:
        """A decoder for each lane."""
        return [self._network(DECODER) for _ in range(batch_size)]

    def encode_block(self, audio: Tensor, state: States, n_q: int) -> tuple[Tensor, States]:
        """The next samples [B, 1, F * 320] -> codes [B, n_q, F], state."""
        lanes = audio[:, 0].numpy().reshape(len(state), -1, 1, HOP_LENGTH)
        coded = [
            [self._encode_frame(frame, encoder, n_q) for frame in lane]
            for lane, encoder in zip(lanes, state, strict=True)
        ]
        codes = np.array(coded, np.int64).reshape(len(state), -1, n_q)
        return torch.from_numpy(codes).transpose(1, 2), state

    def decode_block(self, codes: Tensor, state: States) -> tuple[Tensor, States]:
        """The next codes [B, n_q, F] -> audio [B, 1, F * 320], state."""
        decoded = [
            [self._decode_frame(frame, decoder) for frame in lane.T.numpy()]
            for lane, decoder in zip(codes, state, strict=True)
        ]
        audio = np.array(decoded, np.float32).reshape(len(state), 1, -1)
        return torch.from_numpy(audio), state

    def _encode_frame(self, frame: NDArray[np.float32], encoder: Network, n_q: int) -> NDArray[np.int32]:
        """frame [1, 320] -> codes [n_q]."""
        features = _invoke(encoder, frame)
        codes: NDArray[np.int32] = self._quantize(input_frames=features, num_quantizers=np.int32(n_q))[
            "output_0"
        ]
        return codes.ravel()[:n_q]

    def _decode_frame(self, codes: NDArray[np.int64], decoder: Network) -> NDArray[np.float32]:
        """codes [n_q] -> samples [320]; a level that is absent is -1."""
        indices = np.pad(codes.astype(np.int32), (0, N_LEVELS - len(codes)), constant_values=-1)
        return _invoke(
            decoder, self._dequantize(encoding_indices=indices.reshape(N_LEVELS, 1, 1))["output_0"]
        )

    def _network(self, name: str) -> Network:
        network = self._interpreter(str(self._folder / f"{name}.tflite"), num_threads=1)
        network.allocate_tensors()
        return network


def _invoke(network: Network, block: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a network of one input and one output makes of a block."""
    network.set_tensor(network.get_input_details()[0]["index"], block)
    network.invoke()
    output: NDArray[np.float32] = network.get_tensor(network.get_output_details()[0]["index"])
    return output
