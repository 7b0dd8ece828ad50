"""Recipes: what to train and how, as strict dataclasses read from `recipe.toml`."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audiocodec.errors import ModelError
from audiocodec.model.config import ModelConfig, from_dict

LONGEST_WINDOW = 2048  # of the losses: a crop must fill it once the delay is cut off


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Crops of crop_seconds (rounded down to whole frames), batch_size of them per process and step.

    speeds: those that batches are played at, one drawn for each; on a GPU, others than 1 need torchaudio.
    """

    batch_size: int = 8
    crop_seconds: float = 0.64
    speeds: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW, for the model and for the critics alike; ema_decay is that of the weights which are kept."""

    betas: tuple[float, ...] = (0.8, 0.98)
    weight_decay: float = 0.01
    max_grad_norm: float = 5.0
    ema_decay: float = 0.999
    warmup_steps: int = 200


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the loss terms; adversarial ones count in adversarial stages only.

    distance: how spectra differ, "l1" or "l2" (squared), in mel, complex and magnitude.
    kl: of a Gaussian bottleneck; it grows from 0 over the first kl_warmup_steps steps.
    """

    distance: str = "l1"
    mel: float = 6.0
    complex: float = 100.0
    magnitude: float = 50.0
    codebook: float = 0.0
    commitment: float = 3.0
    kl: float = 0.0
    kl_warmup_steps: int = 0
    adversarial: float = 0.1
    feature: float = 0.2


@dataclass(frozen=True, slots=True)
class CodebookConfig:
    """How codebooks learn.

    start: first entries, by "kmeans" of what levels are given of kmeans_frames latents, or "random" ones of that.
    update: "ema" (moving averages), "adaptive" (the same, and crowded entries are split) or "gradient" (codebook loss).
    refill_share: entries used less than this share of an even use are idle. By "ema" they restart where data is;
    by "adaptive" they take a part of entries that are used more than split_share times an even use, if there are any.
    """

    start: str = "kmeans"
    update: str = "ema"
    ema_decay: float = 0.99
    refill_share: float = 0.03
    split_share: float = 2.0
    kmeans_frames: int = 20000


@dataclass(frozen=True, slots=True)
class StageConfig:
    """A stretch of training; learning_rate, noise and temperature run linearly from their first to their last value.

    quantize: codes in the middle, else the latents with Gaussian noise of deviation `noise` (theirs is 1).
    full_share: share of items that use all levels; the others use a random number of them.
    varied_share: share of items whose number of levels changes from frame to frame, now and then, as with variable
    bitrate. searched: codes are those that coding would find (`search`), not the nearest entries; takes longer.
    noise_share: share of items that get noise as large as their quantization error in place of it.
    levels: so many of the quantizer's levels are trained and used, the first ones; 0 for all.
    temperature: of soft assignment to entries; 0 takes the nearest entry, as coding does.
    magnitude, ema_decay: of `loss` and `codebooks`, where this stage has others; 0 for those.
    adversarial: critics judge.
    decoder_only: encoder and codebooks stay as they are, so that codes keep their meaning and old files gain too.
    """

    name: str
    steps: int
    learning_rate: tuple[float, ...] = (2e-3, 2e-3)
    quantize: bool = False
    noise: tuple[float, ...] = (0.05, 0.05)
    full_share: float = 0.5
    varied_share: float = 0.0
    searched: bool = False
    noise_share: float = 0.0
    levels: int = 0
    temperature: tuple[float, ...] = (0.0, 0.0)
    magnitude: float = 0.0
    ema_decay: float = 0.0
    adversarial: bool = False
    decoder_only: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run does, besides its data and the machine."""

    name: str
    stages: tuple[StageConfig, ...]
    seed: int = 1
    validate_every: int = 2000
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    codebooks: CodebookConfig = field(default_factory=CodebookConfig)

    def __post_init__(self) -> None:
        stage_rules = (rule for stage in self.stages for rule in _stage_rules(self, stage))
        for holds, message in itertools.chain(_rules(self), stage_rules, _codebook_rules(self)):
            if not holds:
                raise ModelError(f"recipe: {message}")

    @property
    def n_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    @property
    def crop_samples(self) -> int:
        """Samples of a crop: whole frames, and a whole number of the slowest level's codes."""
        unit = self.model.hop_length * self.model.quantizer.frames_per_code[0]
        return int(self.data.crop_seconds * self.model.sample_rate) // unit * unit

    @property
    def frames_per_step(self) -> int:
        """Frames of the crops that one process trains on in a step."""
        return self.data.batch_size * self.crop_samples // self.model.hop_length

    def loss_of(self, stage: StageConfig) -> LossConfig:
        """Weights of the loss terms in a stage."""
        return replace(self.loss, magnitude=stage.magnitude or self.loss.magnitude)

    def levels_of(self, stage: StageConfig) -> int:
        """Levels that are trained in a stage."""
        return stage.levels or len(self.model.quantizer.codebook_sizes)

    def stage_at(self, step: int) -> tuple[StageConfig, float]:
        """The stage that step belongs to, and how much of it has passed (0 to 1)."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        return self.stages[-1], 1.0


def _rules(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    """What must hold of a recipe, and what to say where it does not."""
    data, optimizer, loss = recipe.data, recipe.optimizer, recipe.loss
    yield bool(recipe.stages), "stages: expected one or more"
    yield recipe.validate_every >= 1, "validate_every: expected 1 or more"
    yield data.batch_size >= 1, "data.batch_size: expected 1 or more"
    yield bool(data.speeds) and min(data.speeds) > 0, "data.speeds: expected one or more, above 0"
    shortest = (recipe.model.delay + LONGEST_WINDOW) / recipe.model.sample_rate
    long_enough = recipe.crop_samples >= recipe.model.delay + LONGEST_WINDOW
    yield (
        long_enough,
        f"data.crop_seconds {data.crop_seconds}: expected {shortest:.3f} or more, in whole frames",
    )
    yield len(optimizer.betas) == 2, "optimizer.betas: expected two values"
    yield optimizer.warmup_steps >= 1, "optimizer.warmup_steps: expected 1 or more"
    yield loss.distance in ("l1", "l2"), f"loss.distance {loss.distance!r}: expected l1 or l2"
    gaussian = recipe.model.bottleneck == "gaussian"
    yield loss.kl == 0 or gaussian, "loss.kl needs a model whose bottleneck is gaussian"


def _stage_rules(recipe: Recipe, stage: StageConfig) -> Iterator[tuple[bool, str]]:
    """The same for one of its stages."""
    model, name = recipe.model, stage.name
    n_q = len(model.quantizer.codebook_sizes)
    yield stage.steps >= 1, f"steps of stage {name}: expected 1 or more"
    pairs = len(stage.learning_rate) == len(stage.noise) == len(stage.temperature) == 2
    yield pairs, f"learning_rate, noise and temperature of stage {name}: expected a first and a last value"
    coded = model.has_codes or not stage.quantize
    yield coded, f"stage {name} quantizes, and the model's bottleneck is {model.bottleneck!r}"
    yield 0 <= stage.levels <= n_q, f"levels of stage {name}: expected 0 (all) to {n_q}"
    soft = max(stage.temperature) > 0
    positive = min(stage.temperature) > 0 or not soft
    yield positive, f"temperature of stage {name}: expected two values above 0, or two zeros"
    by_gradient = recipe.codebooks.update == "gradient"
    yield by_gradient or not soft, f"temperature of stage {name} needs codebooks.update gradient"
    by_frame = stage.searched or stage.varied_share > 0
    in_step = set(model.quantizer.frames_per_code) == {1}
    yield (
        in_step or not by_frame,
        f"searched and varied_share of stage {name} need one code per frame at every level",
    )
    summed = model.residual.combine == "sum" or stage.noise_share == 0
    yield summed, f"noise_share of stage {name} needs levels that are summed, not side by side"


def _codebook_rules(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    """The same for how its codebooks learn."""
    start, update = recipe.codebooks.start, recipe.codebooks.update
    yield start in ("kmeans", "random"), f"codebooks.start {start!r}: expected kmeans or random"
    known = update in ("ema", "adaptive", "gradient")
    yield known, f"codebooks.update {update!r}: expected ema, adaptive or gradient"
    by_gradient = update == "gradient"
    yield not by_gradient or recipe.loss.codebook > 0, "codebooks.update gradient needs loss.codebook above 0"
    # the gates learn from the codebook term, as entries do; averages of residuals know nothing of them
    yield by_gradient or not recipe.model.residual.gated, "gated levels need codebooks.update gradient"


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a `.toml` file or from the folder it is in.

    A recipe that `extends` another one states only what differs. Raises ModelError for unknown keys or values.
    """
    return from_dict(Recipe, read_values(path), "recipe")


def read_values(path: Path, heirs: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a recipe on top of those of the one that it extends; heirs are those that led here."""
    file = (path / "recipe.toml" if path.is_dir() else path).resolve()
    if file in heirs:
        raise ModelError(f"{file}: extends itself")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot read the recipe: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not valid TOML: {error}") from error
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ModelError(f"{file}: extends {parent!r}: expected the path of another recipe")
    return _merge(read_values(file.parent / parent, (*heirs, file)), values)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """base with changes on top; tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_tables else value
    return merged
