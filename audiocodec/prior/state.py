"""Everything that changes while a prior trains, and its checkpoints."""

import copy
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.output import atomic_output
from audiocodec.prior.config import PriorConfig
from audiocodec.prior.data import CodedClips, random_crops
from audiocodec.prior.network import Prior
from audiocodec.prior.recipe import PriorRecipe
from audiocodec.train.state import adamw, random_states, restore_optimizer, restore_random
from audiocodec.train.steps import apply_gradients, autocast


@dataclass
class PriorTraining:
    """The prior, its averaged twin (which is what gets exported), optimizer, random states."""

    recipe: PriorRecipe
    device: torch.device
    prior: Prior
    averaged: Prior
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    bf16: dict[str, bool] = field(default_factory=dict)

    def trial_loss(self) -> Tensor:
        """Bits of a batch of zeros; without dropout, which would use random numbers up."""
        n_clips, n_frames = self.recipe.data.batch_size, self.recipe.data.crop_frames
        codes = torch.zeros(n_clips, self.prior.config.n_q, n_frames, dtype=torch.int64)
        return self.prior.eval().bits(codes, torch.zeros(n_clips, dtype=torch.int64)).mean()


def new_training(recipe: PriorRecipe, model: CodecModel, device: torch.device) -> PriorTraining:
    """A fresh state: weights from the recipe's seed, embeddings from the model's codebooks.

    Raises ModelError for more levels than the model has.
    """
    torch.manual_seed(recipe.seed)
    space = model.code_space()
    if recipe.levels > space.n_q:
        raise ModelError(f"recipe: levels {recipe.levels}: expected 0 to {space.n_q}, those of {space.model}")
    space = space.first(recipe.levels or space.n_q)
    config = PriorConfig(space.id.hex(), space.model, space.codebook_sizes, recipe.data.kinds, recipe.prior)
    prior = Prior(config, [level.codebook for level in model.quantizer.levels[: space.n_q]]).to(device)
    averaged = copy.deepcopy(prior).requires_grad_(False).eval()
    optimizer, generator = adamw(prior, recipe.optimizer), torch.Generator().manual_seed(recipe.seed)
    return PriorTraining(recipe, device, prior, averaged, optimizer, generator)


@torch.no_grad()
def start_from(state: PriorTraining, source: Prior) -> None:
    """Gives a fresh state the weights of a prior of the same shape, of whatever model; codes keep little of their
    meaning from one model to the next, the network much of its use. Raises ModelError for another shape.
    """
    ours, theirs = state.prior.config, source.config
    if replace(theirs, code_space=ours.code_space, model=ours.model) != ours:
        raise ModelError(
            f"the recipe's prior cannot start from that of {theirs.model!r}: it must be the same in sizes, levels "
            "and kinds"
        )
    for prior in (state.prior, state.averaged):
        prior.load_state_dict(source.state_dict())


def train_step(state: PriorTraining, clips: CodedClips, *, bf16: bool) -> dict[str, Tensor]:
    """Advances `state` by one step; returns the mean bits per code of the crops, of all levels and of the first."""
    recipe, data = state.recipe, state.recipe.data
    codes, kinds, inside = random_crops(clips, data.batch_size, data.crop_frames, state.generator)
    untold = torch.rand(data.batch_size, generator=state.generator) < data.kind_dropout
    kinds = torch.where(untold, len(data.kinds), kinds).to(state.device)
    weights = inside.to(state.device)[:, None] / inside.sum()
    state.prior.train()
    with autocast(state.device, bf16):
        bits = state.prior.bits(codes[:, : state.prior.config.n_q].to(state.device), kinds)
    per_level = (bits * weights).sum((0, 2))
    total = per_level.mean()
    # gradients of nats, whose size the limit on their norm was chosen for
    (math.log(2) * total).backward()  # type: ignore[no-untyped-call]
    norm = apply_gradients(
        state.prior, state.optimizer, learning_rate(recipe, state.step), recipe.optimizer.max_grad_norm
    )
    state.step += 1
    update_averaged(state)
    return {"bits_per_code": total.detach(), "bits_level0": per_level[0].detach(), "grad_norm": norm}


def learning_rate(recipe: PriorRecipe, step: int) -> float:
    """Rises linearly, then falls along half a cosine."""
    highest, last = recipe.learning_rate
    falling = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
    return (last + (highest - last) * falling) * min(1.0, (step + 1) / recipe.optimizer.warmup_steps)


@torch.no_grad()
def update_averaged(state: PriorTraining) -> None:
    """averaged <- g averaged + (1 - g) prior."""
    # a young average forgets faster, so that it does not remember the random start
    decay = min(state.recipe.optimizer.ema_decay, (1 + state.step) / (10 + state.step))
    means: list[Tensor] = list(state.averaged.parameters())
    weights: list[Tensor] = list(state.prior.parameters())
    torch._foreach_lerp_(means, weights, 1 - decay)


def save_checkpoint(state: PriorTraining, path: Path) -> None:
    """Writes a checkpoint; a stop at any moment leaves a whole one."""
    values = {
        "recipe": asdict(state.recipe),
        "config": asdict(state.prior.config),
        "step": state.step,
        "bf16": state.bf16,
        "prior": state.prior.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "random": random_states(state),
    }
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(values, temporary)


def load_checkpoint(state: PriorTraining, path: Path) -> None:
    """Brings `state` to where the checkpoint was written, with the settings of its own recipe.

    Raises ModelError if the checkpoint is of another prior or model.
    """
    values = torch.load(path, map_location=state.device, weights_only=True)
    if values.get("config") != asdict(state.prior.config):
        raise ModelError(
            f"{path}: the checkpoint is of another prior than the recipe, or of another model; use another --out"
        )
    state.prior.load_state_dict(values["prior"])
    state.averaged.load_state_dict(values["averaged"])
    restore_optimizer(state.optimizer, values["optimizer"], state.recipe.optimizer)
    state.step, state.bf16 = values["step"], values["bf16"]
    restore_random(state, values["random"])
