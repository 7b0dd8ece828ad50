"""A model of another codec from a folder: `config.json` and `model.safetensors`, or Lyra's three networks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from audiocodec.errors import ModelError
from audiocodec.hub.common import first_line, need
from audiocodec.hub.lyra import Lyra, missing_networks
from audiocodec.model.catalogue import CONFIG, WEIGHTS
from audiocodec.model.protocol import BlockModel

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# how the packages say that files are damaged or do not fit
PACKAGE_ERRORS = (TypeError, ValueError, RuntimeError, OSError, safetensors.SafetensorError)
FAMILIES = "EnCodec, DAC, Mimi, SNAC, Lyra V2"


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds another codec's model, or at least a configuration that is none of ours."""
    if not missing_networks(folder):
        return True
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool({"model_type", "vq_strides", "architectures"} & config.keys())


def load_folder(folder: Path, device: torch.device, name: str | None = None) -> BlockModel:
    """The model of a folder, ready to code.

    name: what files shall call it; by default its family and rate, so that a folder's place does not get into files.
    Raises ModelError where it is no codec that is known here, where its weights are pickled only, or do not fit.
    """
    if not missing_networks(folder):
        return Lyra(folder)
    config = read_config(folder)
    family = family_of(config, folder)
    check_weights(folder)
    rate = config.get("sampling_rate", DEFAULT_RATES[family])
    try:
        return BUILDERS[family](folder, config, device, name or f"{family}-{rate / 1000:g}khz")
    except PACKAGE_ERRORS as error:
        raise ModelError(
            f"{folder}: cannot read the {family} model: {first_line(error)}; get its files again"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's configuration. Raises ModelError where there is none to be read."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: cannot read {CONFIG}: {error}; expected a model's folder") from error
    return config


def family_of(config: dict[str, Any], where: object) -> str:
    """`encodec`, `dac`, `mimi` or `snac`. Raises ModelError for any other."""
    if "vq_strides" in config:  # its configuration does not say what it is for
        return "snac"
    kind = config.get("model_type")
    if kind not in BUILDERS:
        raise ModelError(
            f"{where}: a model of type {kind!r} is no residual codec known here; known are {FAMILIES}"
        )
    return str(kind)


def check_weights(folder: Path) -> None:
    """Raises ModelError where a folder has no `model.safetensors`; for pickled weights, with the way out."""
    if (folder / WEIGHTS).is_file():
        return
    pickled = [path for path in sorted(folder.iterdir()) if path.suffix in PICKLED]
    if not pickled:
        raise ModelError(f"{folder}: there is no {WEIGHTS}: get the model's files again")
    raise ModelError(
        f"{folder}: the weights are pickled ({pickled[0].name}): reading them can run any code, so they are refused; "
        f"if you trust them: codec models import --trust-pickle {pickled[0]} DIR"
    )


def _transformers(class_name: str, folder: Path, device: torch.device) -> Any:
    """A model of the `transformers` package. Raises ModelError where weights are missing."""
    transformers = need("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, report = getattr(transformers, class_name).from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
    )
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(parameters & set(report["missing_keys"]))
    if missing or report["mismatched_keys"]:
        wrong = missing or sorted(map(str, report["mismatched_keys"]))
        raise ModelError(
            f"{folder}: {WEIGHTS} does not fit {CONFIG}: {wrong[0]} is missing or has another shape"
        )
    return model.to(device).eval().requires_grad_(False)


def _encodec(folder: Path, config: dict[str, Any], device: torch.device, name: str) -> BlockModel:
    from audiocodec.hub.seanet import Encodec
    from audiocodec.hub.segments import SegmentedEncodec

    model = _transformers("EncodecModel", folder, device)
    return SegmentedEncodec(model, name) if model.config.chunk_length else Encodec(model, name)


def _mimi(folder: Path, config: dict[str, Any], device: torch.device, name: str) -> BlockModel:
    from audiocodec.hub.seanet import Mimi

    return Mimi(_transformers("MimiModel", folder, device), name)


def _dac(folder: Path, config: dict[str, Any], device: torch.device, name: str) -> BlockModel:
    from audiocodec.hub.dac import Dac
    from audiocodec.hub.windows import Windowed

    return Windowed(Dac(_transformers("DacModel", folder, device), name))


def _snac(folder: Path, config: dict[str, Any], device: torch.device, name: str) -> BlockModel:
    from audiocodec.hub.snac import Snac
    from audiocodec.hub.windows import Windowed

    model = need("snac").SNAC(**config)
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return Windowed(Snac(model.float().to(device).eval().requires_grad_(False), name))


Builder = Callable[[Path, dict[str, Any], torch.device, str], BlockModel]
BUILDERS: dict[str, Builder] = {"encodec": _encodec, "dac": _dac, "mimi": _mimi, "snac": _snac}
DEFAULT_RATES = {"encodec": 24000, "dac": 16000, "mimi": 24000, "snac": 44100}  # the packages' own
