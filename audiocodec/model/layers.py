"""Causal layers. Each is `forward(x, state) -> (y, state)`; state is what the next block of time needs.

So a whole clip, its blocks one by one, and a live stream are the same computation.
"""

import math
from fractions import Fraction
from typing import NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv1d(nn.Module):
    """1-D convolution that sees the past only.

    x [B, C_in, T] with T a multiple of `stride`, state [B, C_in, context] -> y [B, C_out, T / stride], state.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups
        )
        self.context = dilation * (kernel_size - 1) + 1 - stride

    def initial_state(self, batch_size: int) -> Tensor:
        return self.conv.weight.new_zeros(batch_size, self.conv.in_channels, self.context)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([state.to(x.dtype), x], dim=-1)
        # torch's kernels for one channel at a time are slow backwards; a compiler makes one loop of the plain sum
        written_out = torch.compiler.is_compiling() and self.conv.groups == self.conv.in_channels > 1
        y = self._depthwise(x) if written_out else self.conv(x)
        return y, x[..., x.shape[-1] - self.context :]

    def _depthwise(self, x: Tensor) -> Tensor:
        """The convolution of each channel by itself, as a sum over the kernel: [B, C, T + context] -> [B, C, T]."""
        n = x.shape[-1] - self.context
        weight, bias = self.conv.weight.to(x.dtype), cast(Tensor, self.conv.bias).to(x.dtype)
        y = bias[:, None]
        for tap in range(self.context + 1):
            y = y + weight[:, :, tap] * x[..., tap : tap + n]
        return y


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution whose overlap into the next block is kept as state.

    x [B, C_in, T], state [B, C_out, kernel_size - stride] -> y [B, C_out, T * stride], state.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride=stride, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels, 1))
        self.stride = stride
        self.overlap = kernel_size - stride

    def initial_state(self, batch_size: int) -> Tensor:
        return self.bias.new_zeros(batch_size, self.conv.out_channels, self.overlap)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = overlap_add(self.conv(x), state)
        return y + self.bias, state


def overlap_add(y: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Adds the overlap of the blocks before to y [..., n + overlap]; returns y [..., n] and the overlap left."""
    overlap = state.shape[-1]
    n = y.shape[-1] - overlap
    y = y + F.pad(state.to(y.dtype), (0, n))
    return y[..., :n], y[..., n:]


class ConvNeXtBlock(nn.Module):
    """Depthwise causal convolution over frames, then a two-layer network on each frame, added to the input.

    x [B, D, F] -> y [B, D, F]. Source: Liu et al. 2022, fig. 4; in one dimension as in Vocos (Siuzdak 2023).
    """

    def __init__(self, dim: int, kernel_size: int, expansion: int, scale: float) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(dim, dim, kernel_size, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def initial_state(self, batch_size: int) -> Tensor:
        return self.depthwise.initial_state(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.depthwise(x, state)
        y = self.norm(y.transpose(1, 2))
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.transpose(1, 2), state


class ResidualUnit(nn.Module):
    """Dilated convolution and a 1x1 convolution, added to the input. Source: Zeghidour et al. 2021, fig. 3."""

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv1d(channels, channels, kernel_size, dilation=dilation)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def initial_state(self, batch_size: int) -> Tensor:
        return self.dilated.initial_state(batch_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.dilated(F.elu(x), state)
        return x + self.pointwise(F.elu(y)), state


@torch.no_grad()
def start_linear(layers: nn.Module) -> None:
    """First weights of a stack of strided convolutions: what goes through keeps its size, residual units add nothing.

    torch's own would make the waveform fainter by each layer, until latents are nothing but biases.
    """
    for module in layers.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            n_summed = module.in_channels * module.kernel_size[0]
            if isinstance(module, nn.ConvTranspose1d):
                n_summed //= module.stride[0]
            nn.init.normal_(module.weight, std=n_summed**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in layers.modules():
        if isinstance(module, ResidualUnit):
            nn.init.zeros_(module.pointwise.weight)


class CausalAttention(nn.Module):
    """Self-attention of each frame over the last `span` frames, itself included, added to the input.

    x [B, D, F], state [B, D, span - 1]: the frames before -> y [B, D, F], state. As before a convolution's first
    block, the frames before the first one are zeros. Each head has a learned bias for each distance.
    Sources: Vaswani et al. 2017, eq. 1; Raffel et al. 2020, section 2.1 (relative position biases).
    """

    def __init__(self, dim: int, heads: int, span: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.merge = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(heads, span))

    @property
    def context(self) -> int:
        """Frames before the current one that it sees."""
        return self.bias.shape[1] - 1

    def initial_state(self, batch_size: int) -> Tensor:
        return self.bias.new_zeros(batch_size, self.merge.in_features, self.context)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat([state.to(x.dtype), x], dim=-1)
        queries, keys, values = self.project(self.norm(seen.transpose(1, 2))).chunk(3, dim=-1)
        n_heads, span = self.bias.shape
        queries = queries[:, self.context :].unflatten(-1, (n_heads, -1))  # [B, F, heads, D / heads]
        keys, values = (
            part.unfold(1, span, 1).unflatten(2, (n_heads, -1)) for part in (keys, values)
        )  # [B, F, heads, D / heads, span]
        scores = torch.einsum("bfhd,bfhds->bfhs", queries, keys) / math.sqrt(queries.shape[-1]) + self.bias
        attended = torch.einsum("bfhs,bfhds->bfhd", scores.softmax(dim=-1).to(values.dtype), values)
        y = x + self.merge(attended.flatten(2)).transpose(1, 2)
        return y, seen[..., seen.shape[-1] - self.context :]


States = tuple[Tensor, ...]


class CausalLayer(Protocol):
    """What a `CausalSequence` is made of."""

    def initial_state(self, batch_size: int) -> Tensor: ...

    def __call__(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]: ...


class CausalSequence(nn.Module):
    """Causal layers one after another; the state is the tuple of theirs."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = cast(list[CausalLayer], nn.ModuleList(layers))

    @property
    def receptive_field(self) -> int:
        """Time steps of the input, before the current one, that the output depends on."""
        reach, upsampling = Fraction(0), 1
        for module in self.modules():
            if isinstance(module, CausalConvTranspose1d):
                reach += Fraction(module.overlap, upsampling * module.stride)
                upsampling *= module.stride
            elif isinstance(module, CausalConv1d | CausalAttention):
                reach += Fraction(module.context, upsampling)
        return math.ceil(reach)

    def initial_state(self, batch_size: int) -> States:
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        after = []
        for layer, before in zip(self.layers, states, strict=True):
            x, state = layer(x, before)
            after.append(state)
        return x, tuple(after)


class CodecState(NamedTuple):
    """What an encoder or a decoder carries from block to block: samples of the transform, states of the layers."""

    samples: Tensor
    layers: States
