"""Encoders: audio [B, 1, F * hop_length] -> latents [B, D, F], in blocks, with explicit state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.model.config import AttentionConfig, ModelConfig
from audiocodec.model.layers import (
    CausalAttention,
    CausalConv1d,
    CausalSequence,
    CodecState,
    ConvNeXtBlock,
    ResidualUnit,
    start_linear,
)


def analysis_window(length: int) -> Tensor:
    """Square root of a periodic Hann window: applied twice (analysis, synthesis) it overlap-adds to a constant."""
    return torch.hann_window(length, periodic=True).sqrt()


def attention_layers(dim: int, config: AttentionConfig) -> list[nn.Module]:
    """The attention at the frame rate, if there is any."""
    return [CausalAttention(dim, config.heads, config.span)] if config.span > 0 else []


def convnext_stack(in_channels: int, config: ModelConfig, expansion: int) -> CausalSequence:
    """A causal convolution to `dim` channels, ConvNeXt blocks, attention: [B, in_channels, F] -> [B, dim, F]."""
    spectral = config.spectral
    dim, scale = spectral.dim, 1 / spectral.n_blocks
    blocks = [ConvNeXtBlock(dim, spectral.kernel_size, expansion, scale) for _ in range(spectral.n_blocks)]
    first = CausalConv1d(in_channels, dim, spectral.embed_kernel_size)
    return CausalSequence([first, *blocks, *attention_layers(dim, config.attention)])


class SpectralEncoder(nn.Module):
    """Short-time spectra at the frame rate, then ConvNeXt blocks.

    Frame f sees the samples up to (f + 1) * hop_length: the last window_length of them through the transform,
    earlier frames through the convolutions.
    """

    window: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        spectral = config.spectral
        self.hop_length = config.hop_length
        self.register_buffer("window", analysis_window(spectral.window_length), persistent=False)
        n_bins = spectral.window_length // 2 + 1
        # the frame to code lies `lookahead` back, so the first layer mixes neighbouring frames whole
        self.blocks = convnext_stack(3 * n_bins, config, spectral.expansions[0])
        self.norm = nn.LayerNorm(spectral.dim)
        self.project = nn.Linear(spectral.dim, config.latent_dim)

    def initial_state(self, batch_size: int) -> CodecState:
        overlap = len(self.window) - self.hop_length
        return CodecState(self.window.new_zeros(batch_size, overlap), self.blocks.initial_state(batch_size))

    def forward(self, audio: Tensor, state: CodecState) -> tuple[Tensor, CodecState]:
        samples = torch.cat([state.samples, audio[:, 0]], dim=-1)
        x, layers = self.blocks(self.features(samples).transpose(1, 2), state.layers)
        latents = self.project(self.norm(x.transpose(1, 2))).float()
        # normalised frames: their scale cannot drift away from the codebooks'
        latents = F.layer_norm(latents, latents.shape[-1:]).transpose(1, 2)
        return latents, CodecState(samples[:, samples.shape[-1] - state.samples.shape[-1] :], layers)

    def features(self, samples: Tensor) -> Tensor:
        """samples [B, T] -> [B, F, 3 * bins]: log magnitude, and the compressed spectrum's two parts."""
        with torch.autocast(samples.device.type, enabled=False):
            frames = samples.float().unfold(-1, len(self.window), self.hop_length) * self.window
            spectrum = torch.view_as_real(torch.fft.rfft(frames))
            power = spectrum.square().sum(-1) + 1e-6
            compressed = spectrum * power.pow(-0.35).unsqueeze(-1)  # magnitude to the power of .3
            # levels and phases enter at about the same strength, or phases would be learned late
            return torch.cat(
                [0.1 * power.log() + 0.4, 3 * compressed[..., 0], 3 * compressed[..., 1]], dim=-1
            )


class StridedEncoder(nn.Module):
    """Strided convolutions from the waveform down to the frame rate. Source: Zeghidour et al. 2021, fig. 3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        strided = config.strided
        channels = strided.channels
        layers: list[nn.Module] = [CausalConv1d(1, channels, strided.kernel_size)]
        for stride in strided.strides:
            layers += [ResidualUnit(channels, 3, dilation) for dilation in strided.dilations]
            layers += [CausalConv1d(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        layers += attention_layers(channels, config.attention)
        self.layers = CausalSequence([*layers, CausalConv1d(channels, config.latent_dim, 3)])
        start_linear(self.layers)

    def initial_state(self, batch_size: int) -> CodecState:
        states = self.layers.initial_state(batch_size)
        return CodecState(states[0].new_zeros(batch_size, 0), states)

    def forward(self, audio: Tensor, state: CodecState) -> tuple[Tensor, CodecState]:
        latents, layers = self.layers(audio, state.layers)
        latents = F.layer_norm(latents.float().transpose(1, 2), latents.shape[1:2]).transpose(1, 2)
        return latents, CodecState(state.samples, layers)


def build_encoder(config: ModelConfig) -> SpectralEncoder | StridedEncoder:
    """The encoder that `config` describes."""
    if config.transform == "spectral":
        return SpectralEncoder(config)
    return StridedEncoder(config)
