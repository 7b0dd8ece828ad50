"""Everything that changes while a prior trains, and its checkpoints."""

import copy
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.prior.config import PriorConfig
from audiocodec.prior.data import CodedClips, random_crops
from audiocodec.prior.network import Prior
from audiocodec.prior.recipe import PriorRecipe
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
    bf16: dict[str, bool] = field(default_factory=dict)  # per kind of processor, whether bf16 pays there


def new_training(recipe: PriorRecipe, model: CodecModel, device: torch.device) -> PriorTraining:
    """A fresh state: weights from the recipe's seed, embeddings from the model's codebooks."""
    torch.manual_seed(recipe.seed)
    config = PriorConfig(
        model.code_space().id.hex(),
        model.config.name,
        model.config.quantizer.codebook_sizes,
        recipe.data.kinds,
        recipe.prior,
    )
    prior = Prior(config, [level.codebook for level in model.quantizer.levels]).to(device)
    averaged = copy.deepcopy(prior).requires_grad_(False).eval()
    settings = recipe.optimizer
    beta1, beta2 = settings.betas
    optimizer = torch.optim.AdamW(
        prior.parameters(), lr=0.0, betas=(beta1, beta2), weight_decay=settings.weight_decay, fused=True
    )
    return PriorTraining(
        recipe, device, prior, averaged, optimizer, torch.Generator().manual_seed(recipe.seed)
    )


def train_step(state: PriorTraining, clips: CodedClips, *, bf16: bool) -> dict[str, Tensor]:
    """Advances `state` by one step; returns the mean bits per code of the crops, of all levels and of the first."""
    recipe, data = state.recipe, state.recipe.data
    codes, kinds, inside = random_crops(clips, data.batch_size, data.crop_frames, state.generator)
    untold = torch.rand(data.batch_size, generator=state.generator) < data.kind_dropout
    kinds = torch.where(untold, len(data.kinds), kinds).to(state.device)
    weights = inside.to(state.device)[:, None] / inside.sum()
    state.prior.train()
    with autocast(state.device, bf16):
        bits = state.prior.bits(codes.to(state.device), kinds)
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
    """Writes a checkpoint to a neighbour first and renames it, so that a stop at any moment leaves a whole one."""
    random = {"crops": state.generator.get_state(), "cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(state.device)
    values: dict[str, Any] = {
        "recipe": asdict(state.recipe),
        "config": asdict(state.prior.config),
        "step": state.step,
        "bf16": state.bf16,
        "prior": state.prior.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "random": random,
    }
    temporary = path.with_suffix(".partial")
    torch.save(values, temporary)
    temporary.replace(path)


def load_checkpoint(state: PriorTraining, path: Path) -> None:
    """Brings `state` to where the checkpoint was written. Raises ModelError if it is of another prior or model."""
    values = torch.load(path, map_location=state.device, weights_only=True)
    if values.get("config") != asdict(state.prior.config):
        raise ModelError(
            f"{path}: the checkpoint is of another prior than the recipe, or of another model; use another --out"
        )
    state.prior.load_state_dict(values["prior"])
    state.averaged.load_state_dict(values["averaged"])
    state.optimizer.load_state_dict(values["optimizer"])
    state.step, state.bf16 = values["step"], values["bf16"]
    state.generator.set_state(values["random"]["crops"].cpu())
    torch.set_rng_state(values["random"]["cpu"].cpu())
    if "cuda" in values["random"] and state.device.type == "cuda":
        torch.cuda.set_rng_state(values["random"]["cuda"].cpu(), state.device)
