"""Models on disk: a folder with `config.json` and `model.safetensors` (half precision), shipped or the user's own."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.model.catalogue import CONFIG, WEIGHTS
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, from_dict
from audiocodec.output import atomic_output


def save_model(model: CodecModel, folder: Path, name: str) -> None:
    """Writes `config.json` and `model.safetensors` in half precision; whole files replace old ones."""
    weights = {key: tensor.detach().cpu().half().contiguous() for key, tensor in model.state_dict().items()}
    stored = CodecModel(replace(model.config, name=name))
    stored.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
    metadata = {"format": "audiocodec model 1", "code_space": _code_space_id(stored)}
    write_folder(folder, asdict(stored.config), weights, metadata)


def _code_space_id(model: CodecModel) -> str:
    """In hex; empty for a model without codes."""
    return model.code_space().id.hex() if model.config.has_codes else ""


def write_folder(
    folder: Path, config: dict[str, Any], weights: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    """Writes `config.json` and `model.safetensors`; whole files replace old ones."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / CONFIG, overwrite=True) as path:
        path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    with atomic_output(folder / WEIGHTS, overwrite=True) as path:
        path.write_bytes(safetensors.torch.save(weights, metadata))


def load_model(folder: Path) -> CodecModel:
    """Reads a model folder, in float32, ready to code. Raises ModelError if its files are damaged or do not fit."""
    try:
        config = from_dict(
            ModelConfig, json.loads((folder / CONFIG).read_text(encoding="utf-8")), str(folder / CONFIG)
        )
        with safetensors.safe_open(folder / WEIGHTS, "pt") as file:
            recorded = (file.metadata() or {}).get("code_space")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder}: cannot read the model: {error}; get its files again") from error
    model = CodecModel(config)
    try:
        model.load_state_dict({key: tensor.float() for key, tensor in weights.items()})
    except RuntimeError as error:
        raise ModelError(f"{folder}: {WEIGHTS} does not fit {CONFIG}; get both from one place") from error
    found = _code_space_id(model)
    if found != recorded:
        raise ModelError(f"{folder}: the codebooks are damaged: code space {found}, expected {recorded}")
    return model.eval().requires_grad_(False)
