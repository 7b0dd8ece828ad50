"""Codebook health: how much of each codebook is used, how evenly, and what each level leaves over."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocodec.codec import Codec
from audiocodec.errors import CodecError
from audiocodec.model.codec import CodecModel
from audiocodec.model.quantizer import ResidualQuantizer
from audiocodec.train.data import Clips

AIM_USED = 0.98
COLLAPSED_USED, COLLAPSED_PERPLEXITY = 0.5, 0.1  # shares of the codebook's size
CODES_TO_JUDGE = 20  # per entry: with fewer, an entry may be missing by chance
BLOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class LevelHealth:
    """Figures of one level.

    counts: how often each entry was chosen, int64 [K] on the CPU.
    residual_energy: what is left after this level, as a share of the latents' energy; None where it is not known.
    """

    counts: Tensor
    residual_energy: float | None = None

    @property
    def size(self) -> int:
        """Entries of the codebook."""
        return len(self.counts)

    @property
    def entropy_bits(self) -> float:
        """Entropy of the codes: -sum p log2 p; at most log2 of the size."""
        shares = self.counts.double() / self.counts.sum().clamp(min=1)
        return float(-torch.special.xlogy(shares, shares).sum() / torch.log(torch.tensor(2.0)))

    @property
    def perplexity(self) -> float:
        """2^entropy: so many entries, evenly used, would have this entropy."""
        return float(2**self.entropy_bits)

    @property
    def used(self) -> float:
        """Share of the entries that were chosen at all."""
        return float((self.counts > 0).double().mean())

    @property
    def judgeable(self) -> bool:
        """Whether there are codes enough to say which entries are not used."""
        return int(self.counts.sum()) >= CODES_TO_JUDGE * self.size

    @property
    def warning(self) -> str:
        """What is wrong with the level, in a few words; empty if nothing is."""
        if not self.judgeable:
            return ""
        share = f"{self.used:.1%} of {self.size} entries in use"
        if self.used < COLLAPSED_USED or self.perplexity < COLLAPSED_PERPLEXITY * self.size:
            return f"collapsed: {share}, perplexity {self.perplexity:.1f}"
        return f"{share}, the aim is over {AIM_USED:.0%}" if self.used < AIM_USED else ""

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        figures = {"perplexity": self.perplexity, "entropy_bits": self.entropy_bits, "used": self.used}
        return (
            figures if self.residual_energy is None else figures | {"residual_energy": self.residual_energy}
        )


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each of the codes 0..K-1 is in `codes` (any shape): int64 [K], on the CPU."""
    return torch.bincount(codes.flatten().long().cpu(), minlength=codebook_size)


@torch.no_grad()
def residual_energies(quantizer: ResidualQuantizer, latents: Tensor, codes: Tensor) -> Tensor:
    """Sums of squares of latents [B, D, F] and of what each level of codes [B, n_q, F] leaves: float64 [1 + n_q]."""
    residual, below = latents, torch.zeros_like(latents)
    energies = [residual.double().square().sum()]
    for level, level_codes in zip(quantizer.levels, codes.unbind(1), strict=False):
        entry = level.decode(level_codes, below)
        residual, below = residual - entry, below + entry
        energies.append(residual.double().square().sum())
    return torch.stack(energies).cpu()


def latent_blocks(model: CodecModel, audio: Tensor) -> Iterator[Tensor]:
    """Latents [1, D, F] of audio [T], some seconds at a time."""
    config = model.config
    unit = config.hop_length * config.quantizer.frames_per_code[0]
    n_samples = -(-(len(audio) + config.delay) // unit) * unit
    padded = F.pad(audio, (0, n_samples - len(audio)))[None, None].to(model.device)
    state = model.encoder_state(1)
    block_samples = max(1, BLOCK_SECONDS * config.sample_rate // unit) * unit
    for block in torch.split(padded, block_samples, dim=-1):
        latents, state = model.encoder(block, state)
        yield latents


@torch.no_grad()
def health(model: CodecModel, clips: Iterable[Tensor]) -> list[LevelHealth]:
    """Of each level, over clips [T] of audio at the model's rate."""
    levels = model.quantizer.levels
    counts = [torch.zeros(len(level.codebook), dtype=torch.int64) for level in levels]
    energies = torch.zeros(1 + len(levels), dtype=torch.float64)
    for latents in (block for audio in clips for block in latent_blocks(model, audio)):
        codes = model.quantizer.encode(latents, model.quantizer.n_q)
        energies += residual_energies(model.quantizer, latents, codes)
        for n, level in enumerate(levels):  # frames that share a code count once
            counts[n] += count_codes(codes[:, n, :: level.frames_per_code], len(level.codebook))
    left = (energies / energies[0].clamp(min=1e-12)).tolist()[1:]
    return [LevelHealth(count, energy) for count, energy in zip(counts, left, strict=True)]


def codec_health(codec: Codec, clips: Clips) -> list[LevelHealth]:
    """Of each level of any codec's model, over clips at its rate; residual energies of our own models only."""
    audio = (clips[index] for index in range(len(clips)))
    if isinstance(codec.model, CodecModel):
        return health(codec.model, audio)
    space = codec.space
    counts = [torch.zeros(size, dtype=torch.int64) for size in space.codebook_sizes]
    for samples in audio:
        codes = codec.encode(samples.numpy(), space.sample_rate)
        for n, level in enumerate(codes.levels):
            counts[n] += count_codes(torch.from_numpy(level), len(counts[n]))
    return [LevelHealth(count) for count in counts]


def save_plot(levels: Sequence[LevelHealth], path: Path) -> None:
    """A picture: use of each level's entries, the busiest first, and perplexity, use and energy left by level.

    Raises CodecError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodecError("a plot needs matplotlib: pip install 'audiocodec[train]'") from error
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    ranks, by_level = figure.subplots(1, 2)
    for n, level in enumerate(levels, 1):
        shares = level.counts.sort(descending=True).values.double() / level.counts.sum().clamp(min=1)
        ranks.plot((shares * level.size).clamp(min=1e-3).numpy(), label=f"level {n}")
    ranks.axhline(1, color="gray", linestyle=":")
    ranks.set(title="use of each entry (1: an even share)", xlabel="entries, the busiest first", yscale="log")
    ranks.legend(fontsize="small", ncols=2)
    places = range(1, len(levels) + 1)
    by_level.plot(
        places, [level.perplexity / level.size for level in levels], "o-", label="perplexity / size"
    )
    by_level.plot(places, [level.used for level in levels], "s-", label="share of entries in use")
    left = [level.residual_energy for level in levels if level.residual_energy is not None]
    by_level.plot(places[: len(left)], left, "^-", label="energy left over")
    by_level.set(title="by level", xlabel="level", xticks=places, ylim=(0, 1.05))
    by_level.legend(fontsize="small")
    figure.savefig(path, dpi=100)
