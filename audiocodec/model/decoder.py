"""Decoders: quantized latents [B, decoder_channels, F] -> audio [B, 1, F * hop_length], in blocks, explicit state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.model.config import ModelConfig
from audiocodec.model.encoder import analysis_window, attention_layers, convnext_stack
from audiocodec.model.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    CausalSequence,
    CodecState,
    ResidualUnit,
    overlap_add,
    start_linear,
)

START_LOG_MAGNITUDE = -4.0  # most bins are quiet: it need not be learned first
START_LEVEL = 0.05  # latents have deviation 1, audio about a tenth of that or less
MAX_LOG_MAGNITUDE = 6.0  # e^6 in one bin is far beyond a full-scale sine's; a wild prediction stays finite


class SpectralDecoder(nn.Module):
    """ConvNeXt blocks at the frame rate, then magnitude and phase of each frame's spectrum, overlap-added.

    Output lags window_length - hop_length samples behind the frames: a sample is done when its last window is.
    Source: the inverse-STFT head of Vocos (Siuzdak 2023), made causal.
    """

    window: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hop_length, window_length = config.hop_length, config.spectral.window_length
        # the squared windows add up to window_length / (2 hop_length) everywhere
        window = analysis_window(window_length) * (2 * self.hop_length / window_length)
        self.register_buffer("window", window, persistent=False)
        self.blocks = convnext_stack(config.decoder_channels, config, config.spectral.expansions[1])
        self.norm = nn.LayerNorm(config.spectral.dim)
        n_bins = window_length // 2 + 1
        self.head = nn.Linear(config.spectral.dim, 3 * n_bins)
        nn.init.constant_(self.head.bias[:n_bins], START_LOG_MAGNITUDE)

    @property
    def receptive_field(self) -> int:
        """Frames before the current one that its output depends on."""
        return self.blocks.receptive_field + len(self.window) // self.hop_length - 1

    def initial_state(self, batch_size: int) -> CodecState:
        overlap = len(self.window) - self.hop_length
        return CodecState(self.window.new_zeros(batch_size, overlap), self.blocks.initial_state(batch_size))

    def forward(self, quantized: Tensor, state: CodecState) -> tuple[Tensor, CodecState]:
        x, layers = self.blocks(quantized, state.layers)
        log_magnitude, real, imaginary = self.head(self.norm(x.transpose(1, 2))).float().chunk(3, dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            # phase as a direction: what is linear in the encoder's spectra stays linear up to here
            scale = log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp() * (real**2 + imaginary**2 + 1e-6).rsqrt()
            spectrum = torch.complex(scale * real, scale * imaginary)
            frames = torch.fft.irfft(spectrum, n=len(self.window)) * self.window
            audio, samples = self.overlap(frames, state.samples)
        return audio.unsqueeze(1), CodecState(samples, layers)

    def overlap(self, frames: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """frames [B, F, window], what earlier frames left [B, overlap] -> audio [B, F * hop], what is left now."""
        n_samples = (frames.shape[1] - 1) * self.hop_length + frames.shape[2]
        summed = F.fold(
            frames.transpose(1, 2), (1, n_samples), (1, frames.shape[2]), stride=(1, self.hop_length)
        )
        return overlap_add(summed[:, 0, 0], samples)


class StridedDecoder(nn.Module):
    """The strided encoder's mirror image: transposed convolutions from the frame rate up to the waveform."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        strided = config.strided
        channels = strided.channels * 2 ** len(strided.strides)
        layers: list[nn.Module] = [CausalConv1d(config.decoder_channels, channels, strided.kernel_size)]
        layers += attention_layers(channels, config.attention)
        for stride in reversed(strided.strides):
            layers += [CausalConvTranspose1d(channels, channels // 2, 2 * stride, stride=stride)]
            channels //= 2
            layers += [ResidualUnit(channels, 3, dilation) for dilation in strided.dilations]
        last = CausalConv1d(channels, 1, strided.kernel_size)
        self.layers = CausalSequence([*layers, last])
        start_linear(self.layers)
        with torch.no_grad():
            last.conv.weight.mul_(START_LEVEL)

    @property
    def receptive_field(self) -> int:
        """Frames before the current one that its output depends on."""
        return self.layers.receptive_field

    def initial_state(self, batch_size: int) -> CodecState:
        states = self.layers.initial_state(batch_size)
        return CodecState(states[0].new_zeros(batch_size, 0), states)

    def forward(self, quantized: Tensor, state: CodecState) -> tuple[Tensor, CodecState]:
        audio, layers = self.layers(quantized, state.layers)
        return audio.float(), CodecState(state.samples, layers)


def build_decoder(config: ModelConfig) -> SpectralDecoder | StridedDecoder:
    """The decoder that `config` describes."""
    if config.transform == "spectral":
        return SpectralDecoder(config)
    return StridedDecoder(config)
