"""Everything that changes while a model trains, and its checkpoints."""

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.output import atomic_output
from audiocodec.train.codebooks import MovingAverages
from audiocodec.train.discriminators import Critics
from audiocodec.train.losses import WindowTerms, window_terms
from audiocodec.train.recipe import OptimizerConfig, Recipe


class RunState(Protocol):
    """What the states of all kinds of training have in common."""

    recipe: Any
    device: torch.device
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int
    bf16: dict[str, bool]  # per kind of processor, whether bf16 pays there

    def trial_loss(self) -> Tensor:
        """Of a batch as the recipe's, whatever is in it, to time a pass by."""
        ...


@dataclass
class TrainingState:
    """Model, its averaged twin (which is what gets shipped), critics, optimizers, codebook averages, random state."""

    recipe: Recipe
    device: torch.device
    model: CodecModel
    averaged: CodecModel
    optimizer: torch.optim.Optimizer
    critics: Critics
    critic_optimizer: torch.optim.Optimizer
    codebooks: MovingAverages | None
    generator: torch.Generator
    step: int = 0
    bf16: dict[str, bool] = field(default_factory=dict)
    window_terms: WindowTerms = window_terms

    def trial_loss(self) -> Tensor:
        """The energy of what the model makes of a batch of noise."""
        shape = (self.recipe.data.batch_size, 1, self.recipe.crop_samples)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        audio: Tensor = self.model(noise, None).audio
        return audio.square().mean()


def new_state(recipe: Recipe, device: torch.device, rank: int = 0) -> TrainingState:
    """A fresh state: weights from the recipe's seed, the same in all processes; crops differ by rank."""
    torch.manual_seed(recipe.seed)
    model = CodecModel(recipe.model).to(device)
    for level in model.quantizer.levels:
        level.codebook.requires_grad_(recipe.codebooks.update == "gradient")
    critics = Critics().to(device)
    averaged = copy.deepcopy(model).requires_grad_(False).eval()
    torch.manual_seed(recipe.seed + 1000 * rank)
    return TrainingState(
        recipe,
        device,
        model,
        averaged,
        adamw(model, recipe.optimizer),
        critics,
        adamw(critics, recipe.optimizer),
        codebooks=None,
        generator=torch.Generator().manual_seed(recipe.seed + 1000 * rank),
    )


def adamw(module: torch.nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimizer of what is learned in `module`; each step sets its learning rate."""
    learned = [p for p in module.parameters() if p.requires_grad]
    beta1, beta2 = settings.betas
    return torch.optim.AdamW(
        learned, lr=0.0, betas=(beta1, beta2), weight_decay=settings.weight_decay, fused=True
    )


@torch.no_grad()
def update_averaged(state: TrainingState) -> None:
    """averaged <- g averaged + (1 - g) model; codebooks are taken as they are, being averages themselves."""
    # a young average forgets faster, so that it does not remember the random start
    decay = min(state.recipe.optimizer.ema_decay, (1 + state.step) / (10 + state.step))
    pairs = list(zip(state.averaged.parameters(), state.model.parameters(), strict=True))
    learned: list[tuple[Tensor, Tensor]] = [(mean, p) for mean, p in pairs if p.requires_grad]
    torch._foreach_lerp_([mean for mean, _ in learned], [p for _, p in learned], 1 - decay)
    for mean, p in pairs:
        if not p.requires_grad:
            mean.copy_(p)


def save_checkpoint(state: TrainingState, path: Path) -> None:
    """Writes a checkpoint; a stop at any moment leaves a whole one."""
    values = {
        "recipe": asdict(state.recipe),
        "step": state.step,
        "bf16": state.bf16,
        "model": state.model.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "critics": state.critics.state_dict(),
        "critic_optimizer": state.critic_optimizer.state_dict(),
        "codebooks": None if state.codebooks is None else asdict(state.codebooks),
        "random": random_states(state),
    }
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(values, temporary)


def random_states(state: RunState) -> dict[str, Tensor]:
    """The random number generators that a step draws from."""
    states = {"crops": state.generator.get_state(), "cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(state.device)
    return states


def load_checkpoint(state: TrainingState, path: Path) -> None:
    """Brings `state` to where the checkpoint was written, with the settings of its own recipe.

    Raises ModelError if the checkpoint is of another model, or of codebooks that learn in another way.
    """
    values = torch.load(path, map_location=state.device, weights_only=True)
    try:
        state.model.load_state_dict(values["model"])
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the checkpoint is of another model than the recipe; use another --out"
        ) from error
    state.averaged.load_state_dict(values["averaged"])
    try:
        restore_optimizer(state.optimizer, values["optimizer"], state.recipe.optimizer)
    except ValueError as error:
        raise ModelError(
            f"{path}: its codebooks learn in another way than the recipe's (codebooks.update); use another --out"
        ) from error
    state.critics.load_state_dict(values["critics"])
    restore_optimizer(state.critic_optimizer, values["critic_optimizer"], state.recipe.optimizer)
    if values["codebooks"] is not None:
        decay = {"decay": state.recipe.codebooks.ema_decay}
        state.codebooks = MovingAverages(**values["codebooks"] | decay)
    state.step, state.bf16 = values["step"], values["bf16"]
    restore_random(state, values["random"])


def restore_optimizer(
    optimizer: torch.optim.Optimizer, values: dict[str, Any], settings: OptimizerConfig
) -> None:
    """Moments as they were saved, with the settings of today. Raises ValueError if other weights are learned."""
    optimizer.load_state_dict(values)
    for group in optimizer.param_groups:
        group["betas"], group["weight_decay"] = settings.betas, settings.weight_decay


def restore_random(state: RunState, values: dict[str, Tensor]) -> None:
    """Goes on with the saved random numbers; processes other than the first, whose states those are, draw anew."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank > 0:
        seed = state.recipe.seed + 1000 * rank + state.step
        torch.manual_seed(seed)
        state.generator.manual_seed(seed)
        return
    state.generator.set_state(values["crops"].cpu())
    torch.set_rng_state(values["cpu"].cpu())
    if "cuda" in values and state.device.type == "cuda":
        torch.cuda.set_rng_state(values["cuda"].cpu(), state.device)
