"""SNAC (Siuzdak 2024) by its own package: levels at different frame rates, local attention in some models.

Its decoder adds noise. Here the noise is a fixed table, read at the place in the recording: one file has one sound,
whole or from any place on.
"""

from math import lcm
from typing import Any

import torch
from torch import Tensor

from audiocodec.codes import CodeSpace
from audiocodec.hub.common import code_space, need, values
from audiocodec.hub.windows import convolution_reach

NOISE_SEED = 0
NOISE_FRAMES = 1024  # some ten or twenty seconds, then the noise repeats


class Snac:
    """A `WholeCoder`: a `snac.SNAC`.

    Attention spans windows of so many frames, side by side; so with the slowest level's frames per code their
    smallest common multiple is the unit, as in the package, which pads recordings to it.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name
        self.unit = lcm(*model.vq_strides, model.attn_window_size or 1)
        encoder_reach, decoder_reach = convolution_reach(tuple(model.encoder_rates), last_kernel=7)
        window = model.attn_window_size or 0
        self.encoder_reach, self.decoder_reach = encoder_reach + window, decoder_reach + window
        self._blocks = need("snac.layers")
        self._noise = self._noise_tables()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._model.quantizer.quantizers[0].codebook.weight.device
        return device

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        model = self._model
        return code_space(
            family="snac",
            name=self._name,
            sample_rate=model.sampling_rate,
            hop_length=int(model.hop_length),
            codebook_sizes=(model.codebook_size,) * model.n_codebooks,
            frames_per_code=tuple(model.vq_strides),
            codebooks=[values(level.codebook.weight) for level in model.quantizer.quantizers],
        )

    def encode(self, audio: Tensor, n_q: int) -> Tensor:
        """audio [B, 1, F * hop_length] -> codes [B, n_q, F]: those of slow levels repeated."""
        levels = self._model.encode(audio)[:n_q]
        spans = self._model.vq_strides
        return torch.stack(
            [level.repeat_interleave(span, dim=1) for level, span in zip(levels, spans, strict=False)], dim=1
        )

    def decode(self, codes: Tensor, first_frame: int) -> Tensor:
        """codes [B, n_q, F] -> audio [B, 1, F * hop_length]."""
        quantizers = self._model.quantizer.quantizers
        quantized = torch.zeros((), device=codes.device)
        for level in range(codes.shape[1]):
            quantizer = quantizers[level]
            entries = quantizer.out_proj(quantizer.decode_code(codes[:, level, :: quantizer.stride]))
            quantized = quantized + entries.repeat_interleave(quantizer.stride, dim=-1)
        return self._synthesize(quantized, first_frame)

    def _synthesize(self, quantized: Tensor, first_frame: int) -> Tensor:
        """The decoder, with noise from the tables in place of random noise."""
        x, tables = quantized, iter(self._noise)
        for layer in self._model.decoder.model:
            if not isinstance(layer, self._blocks.DecoderBlock):
                x = layer(x)
                continue
            for part in layer.block:
                if isinstance(part, self._blocks.NoiseBlock):
                    x = x + _noise_at(next(tables), x, first_frame) * part.linear(x)
                else:
                    x = part(x)
        return x

    def _noise_tables(self) -> list[Tensor]:
        """Noise [NOISE_FRAMES * values per frame] for each stage of the decoder that has some."""
        generator = torch.Generator().manual_seed(NOISE_SEED)
        tables, per_frame = [], 1
        for layer in self._model.decoder.model:
            if isinstance(layer, self._blocks.DecoderBlock):
                per_frame *= layer.block[1].stride[0]
                if any(isinstance(part, self._blocks.NoiseBlock) for part in layer.block):
                    noise = torch.randn(NOISE_FRAMES * per_frame, generator=generator)
                    tables.append(noise.to(self.device))
        return tables


def _noise_at(table: Tensor, x: Tensor, first_frame: int) -> Tensor:
    """Noise [B, 1, T] for x [B, D, T] that begins at `first_frame`; each lane reads another part of the table."""
    n_lanes, _, n_values = x.shape
    place = first_frame * (len(table) // NOISE_FRAMES) + torch.arange(n_values, device=x.device)
    lane = torch.arange(n_lanes, device=x.device) * (len(table) // (n_lanes + 1))
    return table[(lane[:, None] + place) % len(table)].unsqueeze(1)
