"""EnCodec at 24 kHz and Mimi, by `transformers`: causal networks, run block by block with explicit state.

The library runs them over whole recordings (Mimi's encoder apart). Here each of their layers gets what the block
before left it, and the first block what the library puts in front of a recording; the weights and the arithmetic
are the library's. Source: Défossez et al. 2022 and 2024.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.codes import CodeSpace
from audiocodec.errors import ModelError
from audiocodec.hub.common import Adapter, code_space, need, values

LSTM_MEMORY_SECONDS = 2.0  # an LSTM forgets, but no number of frames is exact: docs/OTHER-CODECS.md

State = Any  # of a layer: a tensor, a pair of them, or a tuple of layers' states; None at the start of a recording


def run_layers(
    layers: Iterable[nn.Module], x: Tensor, states: tuple[State, ...] | None
) -> tuple[Tensor, State]:
    """SEANet's layers, one after another: x [B, C, T] -> y [B, C', T'], states."""
    layers = list(layers)
    after = []
    for layer, before in zip(layers, states or (None,) * len(layers), strict=True):
        x, state = _run_layer(layer, x, before)
        after.append(state)
    return x, tuple(after)


def _run_layer(layer: Any, x: Tensor, state: State) -> tuple[Tensor, State]:
    """One layer, told apart by what it is made of."""
    if hasattr(layer, "padding_total"):
        return _convolve(layer, x, state)
    if isinstance(getattr(layer, "conv", None), nn.ConvTranspose1d):
        return _convolve_transposed(layer, x, state)
    if hasattr(layer, "lstm"):
        y, state = layer.lstm(x.permute(2, 0, 1), state)
        return y.permute(1, 2, 0) + x, state
    if hasattr(layer, "shortcut"):
        inner, outer = state or (None, None)
        y, inner = run_layers(layer.block, x, inner)
        shortcut, outer = _run_layer(layer.shortcut, x, outer)
        return shortcut + y, (inner, outer)
    return layer(x), None


def _convolve(layer: Any, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """A causal convolution; state [B, C, context]: the end of the block before."""
    context = int(layer.padding_total)
    before = layer._pad1d(x, (context, 0), mode=layer.pad_mode)[..., :context] if state is None else state
    x = torch.cat([before, x], dim=-1)
    return layer.conv(x), x[..., x.shape[-1] - context :]


def _convolve_transposed(layer: Any, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """A causal transposed convolution; state [B, C, overlap]: what the block before adds to this one."""
    conv = layer.conv
    y = F.conv_transpose1d(x, conv.weight, stride=conv.stride, groups=conv.groups)
    overlap = conv.kernel_size[0] - conv.stride[0]
    if state is not None:
        y = torch.cat([y[..., :overlap] + state, y[..., overlap:]], dim=-1)
    n = y.shape[-1] - overlap
    done = y[..., :n] if conv.bias is None else y[..., :n] + conv.bias[:, None]
    return done, y[..., n:]


def check_causal(config: Any, name: str) -> None:
    """Raises ModelError for a configuration that this module does not know how to run block by block."""
    if not config.use_causal_conv or config.trim_right_ratio != 1.0 or config.audio_channels != 1:
        raise ModelError(f"{name}: not a causal mono model: expected one like the 24 kHz model")
    if getattr(config, "normalize", False) or getattr(config, "norm_type", "weight_norm") != "weight_norm":
        raise ModelError(
            f"{name}: it normalises over time: expected a model like the 24 kHz one, which does not"
        )


class Encodec(Adapter):
    """A `BlockModel`: a causal, mono `transformers.EncodecModel`. Without delay: a sample in is the same sample out."""

    start_multiple = 1

    def __init__(self, model: Any, name: str) -> None:
        check_causal(model.config, name)
        super().__init__(model, name)
        space = self.code_space()
        self.receptive_field = round(LSTM_MEMORY_SECONDS * space.frame_rate)

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        config = self._model.config
        return code_space(
            family="encodec",
            name=self._name,
            sample_rate=config.sampling_rate,
            hop_length=config.hop_length,
            codebook_sizes=(config.codebook_size,) * config.num_quantizers,
            frames_per_code=(1,) * config.num_quantizers,
            codebooks=[values(level.codebook.embed) for level in self._model.quantizer.layers],
        )

    def encoder_state(self, batch_size: int) -> State:
        """The start of a recording."""
        return None

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> State:
        """The start of decoding."""
        return None

    def encode_block(self, audio: Tensor, state: State, n_q: int) -> tuple[Tensor, State]:
        """The next samples [B, 1, F * hop_length] -> codes [B, n_q, F], state."""
        residual, state = run_layers(self._model.encoder.layers, audio, state)
        codes = []
        for level in self._model.quantizer.layers[:n_q]:
            codes.append(level.encode(residual))
            residual = residual - level.decode(codes[-1])
        return torch.stack(codes, dim=1), state

    def decode_block(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """The next codes [B, n_q, F] -> audio [B, 1, F * hop_length], state."""
        quantized = self._model.quantizer.decode(codes.transpose(0, 1))
        audio, state = run_layers(self._model.decoder.layers, quantized, state)
        return audio, state


@dataclass(frozen=True, slots=True)
class MimiState:
    """What one half of Mimi carries: states of its convolutions, of its resampling, and the attention's past."""

    layers: State
    resample: State
    past: Any


class Mimi(Adapter):
    """A `BlockModel`: a `transformers.MimiModel`. Without delay: a sample in is the same sample out."""

    start_multiple = 1

    def __init__(self, model: Any, name: str) -> None:
        check_causal(model.config, name)
        super().__init__(model, name)
        self._cache = need("transformers").DynamicCache
        config = model.config
        # each layer of attention sees `sliding_window` steps; convolutions add less than 8 frames
        span = config.num_hidden_layers * (config.sliding_window - 1)
        self.receptive_field = -(-span // config.latent_stride) + 8

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        config, quantizer = self._model.config, self._model.quantizer
        halves = (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer)
        codebooks = [level.codebook for half in halves for level in half.layers]
        return code_space(
            family="mimi",
            name=self._name,
            sample_rate=config.sampling_rate,
            hop_length=config.frame_size,
            codebook_sizes=(config.codebook_size,) * config.num_quantizers,
            frames_per_code=(1,) * config.num_quantizers,
            codebooks=[values(book.embed_sum) + values(book.cluster_usage) for book in codebooks],
        )

    def encoder_state(self, batch_size: int) -> MimiState:
        """The start of a recording."""
        return MimiState(None, None, self._cache(config=self._model.encoder.config))

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> MimiState:
        """The start of decoding."""
        return MimiState(None, None, self._cache(config=self._model.decoder.config))

    def encode_block(self, audio: Tensor, state: MimiState, n_q: int) -> tuple[Tensor, MimiState]:
        """The next samples [B, 1, F * hop_length] -> codes [B, n_q, F], state."""
        encoder = self._model.encoder
        x, layers = run_layers(encoder.encoder_seanet.layers, audio, state.layers)
        x, past = _attend(encoder.encoder_transformer, x, state.past)
        latents, resample = _run_layer(encoder.downsample, x, state.resample)
        codes = self._model.quantizer.encode(latents, n_q).transpose(0, 1)
        return codes, MimiState(layers, resample, past)

    def decode_block(self, codes: Tensor, state: MimiState) -> tuple[Tensor, MimiState]:
        """The next codes [B, n_q, F] -> audio [B, 1, F * hop_length], state."""
        decoder = self._model.decoder
        x, resample = _run_layer(decoder.upsample, self._model.quantizer.decode(codes), state.resample)
        x, past = _attend(decoder.decoder_transformer, x, state.past)
        audio, layers = run_layers(decoder.decoder_seanet.layers, x, state.layers)
        return audio, MimiState(layers, resample, past)


def _attend(transformer: Any, x: Tensor, past: Any) -> tuple[Tensor, Any]:
    """A causal transformer over steps: x [B, D, T], what it kept of the past -> y [B, D, T], what it keeps now."""
    # the library's cache appends by making new tensors; a copy of what holds them leaves the state given as it was
    past = copy(past)
    past.layers = [copy(layer) for layer in past.layers]
    output = transformer(x.transpose(1, 2), past_key_values=past, use_cache=True)
    return output.last_hidden_state.transpose(1, 2), past
