"""Coding piece by piece with a network that sees both sides: each piece is coded with enough of what surrounds it.

A convolutional network reaches so many frames back and ahead and no further. So a piece that is run together with
that many frames before and after it comes out as it does in a run over the whole recording, but for float rounding,
and at the recording's ends nothing surrounds it here as there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, lcm
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocodec.codes import CodeSpace

PIECE_SECONDS = 2.0  # of what a network is run over, but for the surroundings: bounds the memory


@dataclass(frozen=True, slots=True)
class Held:
    """What a windowed coder remembers: frames of the past that still matter, then frames that wait for their future.

    data [B, C, n]: samples or codes; n_past: how many of its frames are past; first_frame: the number, in the
    recording, of the first frame that waits.
    """

    data: Tensor
    n_past: int
    first_frame: int


@dataclass(frozen=True, slots=True)
class Windows:
    """How pieces are cut: `piece` frames are coded at a time, with up to `reach` frames on either side.

    frame: values of `Held.data` in one frame, hop_length for samples and 1 for codes.
    """

    piece: int
    reach: int
    frame: int

    def advance(
        self, held: Held, block: Tensor, run: Callable[[Tensor, Held, int], Tensor]
    ) -> tuple[list[Tensor], Held]:
        """Takes the next block in; what `run` makes of each piece whose future is there, and what is held then.

        run(data, held, n_frames): the output of the `n_frames` frames that wait first, data being they and all that
        surrounds them.
        """
        held = replace(held, data=torch.cat([held.data, block], dim=-1))
        outputs = []
        while held.data.shape[-1] >= (held.n_past + self.piece + self.reach) * self.frame:
            window = held.data[..., : (held.n_past + self.piece + self.reach) * self.frame]
            outputs.append(run(window, held, self.piece))
            n_past = min(self.reach, held.n_past + self.piece)
            forgotten = held.n_past + self.piece - n_past
            held = Held(held.data[..., forgotten * self.frame :], n_past, held.first_frame + self.piece)
        return outputs, held


class WholeCoder(Protocol):
    """A network that codes whole recordings: what `Windowed` makes a model of.

    unit: frames that belong together, by attention or by a slow level: pieces are multiples of it.
    encoder_reach, decoder_reach: frames on either side that the output depends on, at most.
    """

    unit: int
    encoder_reach: int
    decoder_reach: int

    @property
    def device(self) -> torch.device: ...

    def code_space(self) -> CodeSpace: ...

    def encode(self, audio: Tensor, n_q: int) -> Tensor:
        """audio [B, 1, F * hop_length], F a multiple of unit -> codes [B, n_q, F]."""
        ...

    def decode(self, codes: Tensor, first_frame: int) -> Tensor:
        """codes [B, n_q, F], F a multiple of unit, the first being `first_frame` of a recording -> audio [B, 1, T].

        T may fall a few samples short of F * hop_length.
        """
        ...


class Windowed:
    """A `LookAheadModel` of a network that codes whole recordings, in bounded memory."""

    def __init__(self, coder: WholeCoder) -> None:
        self._coder = coder
        self._space = coder.code_space()
        unit, hop_length = coder.unit, self._space.hop_length
        piece = ceil(PIECE_SECONDS * self._space.frame_rate / unit) * unit
        encoder_reach, decoder_reach = (
            ceil(reach / unit) * unit for reach in (coder.encoder_reach, coder.decoder_reach)
        )
        self._encoding = Windows(piece, encoder_reach, hop_length)
        self._decoding = Windows(piece, decoder_reach, 1)
        self.receptive_field = decoder_reach
        self.start_multiple = lcm(unit, *self._space.frames_per_code)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._coder.device

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        return self._space

    def encoder_state(self, batch_size: int) -> Held:
        """Nothing heard yet."""
        return Held(torch.zeros(batch_size, 1, 0, device=self.device), 0, 0)

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> Held:
        """Nothing decoded yet; frames before `first_frame` count as absent."""
        nothing = torch.zeros(batch_size, 0, 0, dtype=torch.int64, device=self.device)
        return Held(nothing, 0, first_frame)

    def encode_block(self, audio: Tensor, state: Held, n_q: int) -> tuple[Tensor, Held]:
        """The next samples [B, 1, F * hop_length] -> codes [B, n_q, F'] of the frames whose future is known."""
        outputs, state = self._encoding.advance(
            state, audio, lambda data, held, n_frames: self._encode(data, held, n_frames, n_q)
        )
        nothing = torch.zeros(len(audio), n_q, 0, dtype=torch.int64, device=self.device)
        return torch.cat([nothing, *outputs], dim=-1), state

    def encode_rest(self, state: Held, n_q: int) -> Tensor:
        """Codes [B, n_q, F] of the rest, which silence makes a multiple of the network's unit."""
        unit_samples = self._coder.unit * self._space.hop_length
        data = F.pad(state.data, (0, -state.data.shape[-1] % unit_samples))
        n_frames = data.shape[-1] // self._space.hop_length - state.n_past
        if n_frames == 0:
            return torch.zeros(len(data), n_q, 0, dtype=torch.int64, device=self.device)
        return self._encode(data, state, n_frames, n_q)

    def decode_block(self, codes: Tensor, state: Held) -> tuple[Tensor, Held]:
        """The next codes [B, n_q, F] -> audio [B, 1, F' * hop_length] of the frames whose future is known."""
        if not state.data.shape[1]:
            state = replace(state, data=codes[..., :0])
        outputs, state = self._decoding.advance(state, codes, self._decode)
        return torch.cat([torch.zeros(len(codes), 1, 0, device=self.device), *outputs], dim=-1), state

    def decode_rest(self, state: Held) -> Tensor:
        """Audio [B, 1, F * hop_length] of the rest; a stream that was cut within a unit is filled by its last codes."""
        n_frames = state.data.shape[-1] - state.n_past
        if n_frames == 0:
            return torch.zeros(len(state.data), 1, 0, device=self.device)
        n_missing = -state.data.shape[-1] % self._coder.unit
        data = torch.cat([state.data, state.data[..., -1:].expand(-1, -1, n_missing)], dim=-1)
        return self._decode(data, state, n_frames)

    def _encode(self, data: Tensor, held: Held, n_frames: int, n_q: int) -> Tensor:
        """Codes [B, n_q, n_frames] of a piece."""
        return self._coder.encode(data, n_q)[..., held.n_past : held.n_past + n_frames]

    def _decode(self, data: Tensor, held: Held, n_frames: int) -> Tensor:
        """Audio [B, 1, n_frames * hop_length] of a piece."""
        hop_length = self._space.hop_length
        audio = self._coder.decode(data, held.first_frame - held.n_past)
        audio = F.pad(audio, (0, max(0, data.shape[-1] * hop_length - audio.shape[-1])))
        return audio[..., held.n_past * hop_length : (held.n_past + n_frames) * hop_length]


def convolution_reach(strides: tuple[int, ...], last_kernel: int) -> tuple[int, int]:
    """How many frames an encoder and a decoder like DAC's see on either side, at most.

    Each stage has three residual units of kernel 7 and dilations 1, 3, 9, and a strided convolution of twice its
    stride; the encoder begins at the waveform's rate with kernel 7 and ends at the frames' with `last_kernel`, the
    decoder begins at the frames' rate and ends at the waveform's with kernel 7.
    Source: Kumar et al. 2023, and the layers of descript-audio-codec.
    """
    units = 3 * (1 + 3 + 9)
    encoder, samples = 3.0, 1
    for stride in strides:
        encoder += (units + 1.5 * stride) * samples  # in samples
        samples *= stride
    encoder = encoder / samples + last_kernel // 2
    decoder, rate = 3.0, 1
    for stride in reversed(strides):
        rate *= stride
        decoder += (units + stride + stride % 2) / rate
    decoder += 3 / rate
    return ceil(encoder), ceil(decoder)
