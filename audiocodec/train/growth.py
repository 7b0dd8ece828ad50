"""A run that starts from a trained model; the recipe's may have grown: more blocks, wider ones, more levels."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig
from audiocodec.train.codebooks import MovingAverages
from audiocodec.train.state import TrainingState


@torch.no_grad()
def start_from(state: TrainingState, source: CodecModel) -> None:
    """Gives a fresh state the weights of `source`, so that its model computes what `source` does.

    What the recipe's model has more starts without effect: blocks with a scale of zero, hidden units that nothing
    listens to. Levels beyond those of `source` start when a stage first trains them.
    Source: Chen et al. 2016, "Net2Net", section 2.
    Raises ModelError where anything else differs.
    """
    check_growth(source.config, state.recipe.model)
    grow(state.model.state_dict(), source.state_dict())
    state.averaged.load_state_dict(state.model.state_dict())
    n_processes = dist.get_world_size() if dist.is_initialized() else 1
    state.codebooks = MovingAverages(state.recipe.codebooks.ema_decay, [], [])
    state.codebooks.include(
        state.model.quantizer, range(source.quantizer.n_q), state.recipe.frames_per_step * n_processes
    )


def check_growth(small: ModelConfig, large: ModelConfig) -> None:
    """Raises ModelError unless `large` is `small`, or has more blocks, larger expansions or more levels."""
    n_q = len(small.quantizer.codebook_sizes)
    first_levels = replace(
        large.quantizer,
        codebook_sizes=large.quantizer.codebook_sizes[:n_q],
        frames_per_code=large.quantizer.frames_per_code[:n_q],
    )
    spectral, grown = small.spectral, large.spectral
    sizes, grown_sizes = ((part.n_blocks, *part.expansions) for part in (spectral, grown))
    first_sizes = replace(
        grown,
        n_blocks=spectral.n_blocks,
        expansion=spectral.expansion,
        decoder_expansion=spectral.decoder_expansion,
    )
    cut = replace(large, name=small.name, spectral=first_sizes, quantizer=first_levels)
    shrunk = any(now < before for before, now in zip(sizes, grown_sizes, strict=True))
    # attention stands behind the blocks; more of them would take its place
    moved = large.attention.span > 0 and grown.n_blocks != spectral.n_blocks
    if cut != small or shrunk or moved:
        raise ModelError(
            f"the recipe's model cannot start from {small.name!r}: it may have more of spectral.n_blocks, "
            "spectral.expansion, spectral.decoder_expansion and levels, and must be the same in everything else"
        )


def grow(large: Mapping[str, Tensor], small: Mapping[str, Tensor]) -> None:
    """Writes the weights of a smaller model into those of a larger one, in place."""
    for name, weight in large.items():
        if name not in small:
            if name.endswith(".scale"):
                weight.zero_()
        elif weight.shape == small[name].shape:
            weight.copy_(small[name])
        else:
            if name.endswith(".narrow.weight"):
                weight.zero_()
            weight[tuple(slice(n) for n in small[name].shape)] = small[name]
