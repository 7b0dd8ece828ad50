"""EnCodec at 48 kHz, by `transformers`: stereo, in overlapping segments that are normalised and coded each by itself.

A lane is both channels. What a segment was divided by is the code of a level of its own, the coarsest one: 15 bits a
segment, on a logarithmic scale. Source: Défossez et al. 2022, section 3.4.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocodec.codes import CodeSpace
from audiocodec.errors import ModelError
from audiocodec.hub.common import Adapter, code_space, values

N_SCALES = 1 << 15
LOWEST_SCALE, HIGHEST_SCALE = (
    1e-8,
    4.0,
)  # the library adds the former; nothing within full scale reaches the latter
LOG_STEP = math.log(HIGHEST_SCALE / LOWEST_SCALE) / (N_SCALES - 1)  # 0.06 %, or 0.005 dB


def scale_codes(scale: Tensor) -> Tensor:
    """What segments were divided by [B, 1] -> the nearest codes [B, 1].

    >>> scale_values(scale_codes(torch.tensor([[0.5]])))
    tensor([[0.5000]])
    """
    return ((scale / LOWEST_SCALE).log() / LOG_STEP).round().clamp(0, N_SCALES - 1).long()


def scale_values(codes: Tensor) -> Tensor:
    """Codes [B, 1] -> what segments are multiplied by [B, 1]."""
    return LOWEST_SCALE * (codes.float() * LOG_STEP).exp()


@dataclass(frozen=True, slots=True)
class Heard:
    """Samples [B, C, T] that no segment has yet, after those that the last one shares with the next."""

    samples: Tensor
    n_segments: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Codes [B, n_q, F] of a segment that is not whole yet, and the end [B, C, overlap] of the one before, if any."""

    codes: Tensor | None
    end: Tensor | None


class SegmentedEncodec(Adapter):
    """A `LookAheadModel`: a `transformers.EncodecModel` that codes in segments, such as the 48 kHz one."""

    def __init__(self, model: Any, name: str) -> None:
        config = model.config
        if not (
            config.normalize and config.chunk_length and config.chunk_stride and config.audio_channels == 2
        ):
            raise ModelError(f"{name}: expected a stereo model that normalises segments, like the 48 kHz one")
        super().__init__(model, name)
        self._segment, self._stride = config.chunk_length, config.chunk_stride
        self._overlap = self._segment - self._stride
        self._n_frames = self._segment // config.hop_length
        self.receptive_field = self.start_multiple = self._n_frames

    def code_space(self) -> CodeSpace:
        """What the codes mean. The first level is the scales."""
        config = self._model.config
        space = code_space(
            family=f"encodec in segments overlapping {self._overlap}",
            name=self._name,
            sample_rate=config.sampling_rate,
            hop_length=config.hop_length,
            codebook_sizes=(N_SCALES,) + (config.codebook_size,) * config.num_quantizers,
            frames_per_code=(self._n_frames,) + (1,) * config.num_quantizers,
            codebooks=[values(level.codebook.embed) for level in self._model.quantizer.layers],
        )
        return replace(space, lane_channels=config.audio_channels, segment_overlap=self._overlap)

    def encoder_state(self, batch_size: int) -> Heard:
        """Nothing heard yet."""
        return Heard(torch.zeros(batch_size, 2, 0, device=self.device), 0)

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> Decoded:
        """Nothing decoded yet."""
        return Decoded(None, None)

    def encode_block(self, audio: Tensor, state: Heard, n_q: int) -> tuple[Tensor, Heard]:
        """The next samples [B, 2, T] -> codes [B, n_q, F] of the segments that they complete, state."""
        samples, n_segments = torch.cat([state.samples, audio], dim=-1), state.n_segments
        codes = [self._no_codes(samples, n_q)]
        while samples.shape[-1] >= self._segment:
            codes.append(self._encode(samples[..., : self._segment], n_q))
            samples, n_segments = samples[..., self._stride :], n_segments + 1
        return torch.cat(codes, dim=-1), Heard(samples, n_segments)

    def encode_rest(self, state: Heard, n_q: int) -> Tensor:
        """Codes [B, n_q, F] of the last segment, which silence fills."""
        n_coded = self._overlap if state.n_segments else 0
        if state.samples.shape[-1] <= n_coded:
            return self._no_codes(state.samples, n_q)
        return self._encode(F.pad(state.samples, (0, self._segment - state.samples.shape[-1])), n_q)

    def decode_block(self, codes: Tensor, state: Decoded) -> tuple[Tensor, Decoded]:
        """The next codes [B, n_q, F] -> audio [B, 2, T] of the segments that they complete but for their overlap."""
        waiting = codes if state.codes is None else torch.cat([state.codes, codes], dim=-1)
        end = state.end
        audio = [torch.zeros(len(codes), 2, 0, device=self.device)]
        while waiting.shape[-1] >= self._n_frames:
            segment = self._decode(waiting[..., : self._n_frames], end)
            audio.append(segment[..., : self._stride])
            waiting, end = waiting[..., self._n_frames :], segment[..., self._stride :]
        return torch.cat(audio, dim=-1), Decoded(waiting, end)

    def decode_rest(self, state: Decoded) -> Tensor:
        """Audio [B, 2, T] of what is left: of a stream that was cut, the last segment filled by its last codes."""
        if state.codes is None:
            return torch.zeros(1, 2, 0, device=self.device)
        n_missing = -state.codes.shape[-1] % self._n_frames
        fill = state.codes[..., -1:].expand(-1, -1, n_missing)
        audio, state = self.decode_block(fill, state)
        return audio if state.end is None else torch.cat([audio, state.end], dim=-1)

    def _no_codes(self, samples: Tensor, n_q: int) -> Tensor:
        return torch.zeros(len(samples), n_q, 0, dtype=torch.int64, device=self.device)

    def _encode(self, segment: Tensor, n_q: int) -> Tensor:
        """A segment [B, 2, T] -> codes [B, n_q, F]; the first level is its scale, repeated."""
        # the library would start another segment where the overlap begins; only the first is wanted
        output = self._model.encode(segment, bandwidth=self._model.config.target_bandwidths[-1])
        scales = scale_codes(output.audio_scales[0]).unsqueeze(1).expand(-1, -1, self._n_frames)
        return torch.cat([scales, output.audio_codes[0][:, : n_q - 1]], dim=1)

    def _decode(self, codes: Tensor, end: Tensor | None) -> Tensor:
        """Codes [B, n_q, F] -> the segment [B, 2, T], faded in over the last one's end; a scale alone is silence."""
        if codes.shape[1] == 1:
            segment = torch.zeros(len(codes), 2, self._segment, device=self.device)
        else:
            scales = scale_values(codes[:, 0, :1])
            segment = self._model.decode(codes[None, :, 1:], [scales]).audio_values
        if end is None:
            return segment
        # weights are triangles over a segment, normalised where two meet
        rising = torch.arange(1, self._overlap + 1, device=self.device) / (self._overlap + 1)
        faded = segment[..., : self._overlap] * rising + end * (1 - rising)
        return torch.cat([faded, segment[..., self._overlap :]], dim=-1)
