"""Recipes of priors: what to train and how. A recipe with a table `[prior]` is one of these."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audiocodec.errors import ModelError
from audiocodec.model.catalogue import DEFAULT_MODEL
from audiocodec.model.config import from_dict
from audiocodec.prior.config import NetworkConfig
from audiocodec.train.recipe import OptimizerConfig, read_values

TABLE = "prior"  # what tells a prior's recipe from a model's


@dataclass(frozen=True, slots=True)
class PriorDataConfig:
    """Crops of crop_frames, batch_size of them per step.

    kinds: a clip is of the kind that a folder above it, or the archive it is in, is named by; else of none.
    kind_dropout: share of crops whose kind is not told, so that sampling without one can be learned.
    """

    batch_size: int = 8
    crop_frames: int = 384
    kinds: tuple[str, ...] = ("speech", "music", "sounds")
    kind_dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class PriorRecipe:
    """Everything that decides what the training of a prior does, besides its data and the machine.

    model: a name or folder, whose codes are learned; levels: so many of its levels, from the first one on; 0: all.
    learning_rate: the highest, after optimizer.warmup_steps, and the one at the end, to which it falls along half a
    cosine.
    """

    name: str
    steps: int
    model: str = DEFAULT_MODEL
    levels: int = 0
    seed: int = 1
    validate_every: int = 1000
    learning_rate: tuple[float, ...] = (2e-3, 2e-5)
    prior: NetworkConfig = field(default_factory=NetworkConfig)
    data: PriorDataConfig = field(default_factory=PriorDataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for holds, message in _rules(self):
            if not holds:
                raise ModelError(f"recipe: {message}")


def _rules(recipe: PriorRecipe) -> Iterator[tuple[bool, str]]:
    """What must hold of a recipe, and what to say where it does not."""
    data, optimizer = recipe.data, recipe.optimizer
    yield recipe.steps >= 1, "steps: expected 1 or more"
    yield recipe.levels >= 0, f"levels {recipe.levels}: expected 1 or more, or 0 for all of the model's"
    yield recipe.validate_every >= 1, "validate_every: expected 1 or more"
    yield len(recipe.learning_rate) == 2, "learning_rate: expected a highest and a last value"
    yield data.batch_size >= 1, "data.batch_size: expected 1 or more"
    yield data.crop_frames >= 2, "data.crop_frames: expected 2 or more"
    yield len(set(data.kinds)) == len(data.kinds), "data.kinds: one is named twice"
    yield 0 <= data.kind_dropout <= 1, "data.kind_dropout: expected 0 to 1"
    yield len(optimizer.betas) == 2, "optimizer.betas: expected two values"
    yield optimizer.warmup_steps >= 1, "optimizer.warmup_steps: expected 1 or more"


def is_prior_recipe(path: Path) -> bool:
    """Whether a recipe is one of a prior. Raises ModelError where it cannot be read."""
    return TABLE in read_values(path)


def load_prior_recipe(path: Path) -> PriorRecipe:
    """Reads a prior's recipe from a `.toml` file or from the folder it is in; it may extend another one.

    Raises ModelError for unknown keys or values.
    """
    return from_dict(PriorRecipe, read_values(path), "recipe")
