"""Critics of the adversarial stage: a multi-band complex STFT critic and a multi-period critic.

Sources: Kumar et al. 2023 (DAC), section 3.4; Kong et al. 2020 (HiFi-GAN), section 2.3. Hinge losses as in
Zeghidour et al. 2021, eq. 1-3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from audiocodec.train.losses import spectrum

WINDOWS = (512, 1024, 2048)
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
PERIODS = (2, 3, 5, 7, 11)
SLOPE = 0.1


def conv2d(n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    """Weight-normalised convolution that keeps the size, but for its stride."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    convolution: nn.Module = weight_norm(nn.Conv2d(n_in, n_out, kernel, stride, padding))
    return convolution


class ConvStack(nn.Module):
    """Convolutions with leaky ReLU between; returns what each of them gives, the last being the scores."""

    def __init__(self, layers: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.score = conv2d(channels, 1, (3, 3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            maps.append(x)
        return [*maps, self.score(x)]


class BandCritic(nn.Module):
    """Looks at the complex spectrum of one window length, each frequency band with weights of its own."""

    def __init__(self, window_length: int, channels: int = 32) -> None:
        super().__init__()
        self.window_length = window_length
        n_bins = window_length // 2 + 1
        self.edges = [(int(low * n_bins), int(high * n_bins)) for low, high in BANDS]
        self.stacks = nn.ModuleList([self._stack(channels) for _ in BANDS])

    @staticmethod
    def _stack(channels: int) -> ConvStack:
        strided = [conv2d(channels, channels, (3, 9), (1, 2)) for _ in range(3)]
        return ConvStack(
            [conv2d(2, channels, (3, 9)), *strided, conv2d(channels, channels, (3, 3))], channels
        )

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        bins = spectrum(audio, self.window_length).permute(0, 3, 1, 2)
        return [
            stack(bins[..., low:high]) for stack, (low, high) in zip(self.stacks, self.edges, strict=True)
        ]


class PeriodCritic(nn.Module):
    """Looks at the waveform folded to rows of one period."""

    def __init__(self, period: int, channels: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.period = period
        pairs = zip((1, *channels[:-1]), channels, strict=True)
        layers = [conv2d(n_in, n_out, (5, 1), (3, 1)) for n_in, n_out in pairs]
        self.stack = ConvStack([*layers, conv2d(channels[-1], channels[-1], (5, 1))], channels[-1])

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        rows = audio.shape[-1] // self.period
        folded = audio[:, : rows * self.period].reshape(len(audio), 1, rows, self.period)
        return [self.stack(folded)]


class Critics(nn.Module):
    """All critics. audio [B, T] -> for each critic the list of its feature maps, the last being its scores."""

    def __init__(self) -> None:
        super().__init__()
        bands = [BandCritic(window_length) for window_length in WINDOWS]
        periods = [PeriodCritic(period) for period in PERIODS]
        self.critics = nn.ModuleList([*bands, *periods])

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        return [maps for critic in self.critics for maps in critic(audio)]


def critic_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss of the critics: real scores above 1, decoded ones below -1; mean over the critics."""
    losses = [
        F.relu(1 - r[-1].float()).mean() + F.relu(1 + f[-1].float()).mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> dict[str, Tensor]:
    """What the codec gets from the critics: {"adversarial": hinge, "feature": relative L1 of their feature maps}."""
    hinge = torch.stack([F.relu(1 - f[-1].float()).mean() for f in fake]).mean()
    distances = [
        (r.detach() - f).abs().float().mean() / r.detach().abs().float().mean().clamp(min=1e-4)
        for ours, theirs in zip(real, fake, strict=True)
        for r, f in zip(ours[:-1], theirs[:-1], strict=True)
    ]
    return {"adversarial": hinge, "feature": torch.stack(distances).mean()}
