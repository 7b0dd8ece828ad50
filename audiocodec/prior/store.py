"""Priors on disk: a folder with `config.json` and `model.safetensors` (half precision), such as a model's `prior/`."""

import json
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch

from audiocodec.codes import CodeSpace
from audiocodec.errors import ModelError
from audiocodec.hub.load import is_foreign
from audiocodec.model.catalogue import CONFIG, PRIOR, WEIGHTS, model_folder, shipped_models
from audiocodec.model.config import from_dict
from audiocodec.model.store import write_folder
from audiocodec.prior.config import PriorConfig
from audiocodec.prior.network import Prior

HOW_TO_GET_ONE = "name one with --prior DIR, or train it: codec train recipes/prior/small"


def save_prior(prior: Prior, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors` in half precision; whole files replace old ones."""
    weights = {key: tensor.detach().cpu().half().contiguous() for key, tensor in prior.state_dict().items()}
    metadata = {"format": "audiocodec prior 1", "code_space": prior.config.code_space}
    write_folder(folder, asdict(prior.config), weights, metadata)


def load_prior(folder: str | Path) -> Prior:
    """Reads a prior's folder, in float32, ready to sample. Raises ModelError if its files are missing or damaged."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: no prior is there: expected a folder with {CONFIG} and {WEIGHTS}")
    try:
        config = from_dict(
            PriorConfig, json.loads((folder / CONFIG).read_text(encoding="utf-8")), str(folder / CONFIG)
        )
        with safetensors.safe_open(folder / WEIGHTS, "pt") as file:
            recorded = (file.metadata() or {}).get("code_space")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder}: cannot read the prior: {error}; get its files again") from error
    if recorded != config.code_space:
        raise ModelError(f"{folder}: {WEIGHTS} is not of the prior in {CONFIG}; get both from one place")
    prior = Prior(config)
    try:
        prior.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"{folder}: {WEIGHTS} does not fit {CONFIG}; get both from one place") from error
    return prior.eval().requires_grad_(False)


def prior_of_model(name: str | Path) -> Prior:
    """The prior that comes with a model, by its name or folder. Raises ModelError if there is none."""
    foreign = str(name) not in shipped_models() and is_foreign(str(name))
    folder = Path() if foreign else model_folder(str(name)) / PRIOR
    if foreign or not folder.is_dir():
        raise ModelError(f"model {name} comes without a prior: {HOW_TO_GET_ONE}")
    return load_prior(folder)


def check_space(prior: Prior, space: CodeSpace) -> None:
    """Raises ModelError if the prior knows other codes than those of `space`: decoded, they would be noise."""
    config = prior.config
    if config.code_space != space.id.hex():
        raise ModelError(
            f"the prior was made for model {config.model!r} (code space {config.code_space}), this is "
            f"{space.model!r} ({space.id.hex()}): name that model with -m, or another prior with --prior"
        )
    if config.codebook_sizes != space.codebook_sizes[: config.n_q]:
        raise ModelError(
            f"the prior has codebooks of {config.codebook_sizes} entries, its model {space.model!r} has "
            f"{space.codebook_sizes}: the prior is damaged, or made wrong; get its files again"
        )
