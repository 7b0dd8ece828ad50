"""Pickled checkpoints to safetensors, once, for those who trust them."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from audiocodec.errors import ModelError
from audiocodec.hub.common import first_line
from audiocodec.hub.folders import family_of, load_folder, read_config
from audiocodec.model.catalogue import CONFIG, WEIGHTS
from audiocodec.model.protocol import BlockModel


def import_pickle(file: Path, target: Path) -> BlockModel:
    """Makes a folder of `config.json` and `model.safetensors` from a pickled checkpoint; the model that it is.

    file: the checkpoint, whose configuration stands beside it; target: a folder that does not exist yet. Only tensors
    are unpickled. The folder appears when the model in it was loaded. Raises ModelError where anything does not fit.
    """
    if target.exists():
        raise ModelError(f"{target} exists: give the name of a new folder")
    family_of(read_config(file.parent), file.parent)
    tensors = _tensors(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as partial:
        made = Path(partial) / "model"
        made.mkdir()
        shutil.copyfile(file.parent / CONFIG, made / CONFIG)
        safetensors.torch.save_file(tensors, made / WEIGHTS, {"format": "pt"})
        model = load_folder(made, torch.device("cpu"))
        made.rename(target)
    return model


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, each with memory of its own. Raises ModelError if it holds anything else."""
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler meets anything
        raise ModelError(f"{file}: not a checkpoint of tensors: {first_line(error)}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ModelError(f"{file}: expected a dictionary of tensors by name, as `state_dict` gives it")
    return {str(name): tensor.clone().contiguous() for name, tensor in loaded.items()}
