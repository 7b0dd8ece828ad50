"""What the families share: finding their packages, and the identity of a code space."""

import hashlib
import json
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from audiocodec.codes import CODE_SPACE_ID_BYTES, CodeSpace
from audiocodec.errors import ModelError

INSTALL = "pip install 'audiocodec[hub]'"


class Adapter:
    """What wraps a `transformers` model, and knows the name that files call it by."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._model.device
        return device


def need(module: str) -> Any:
    """A module of an optional package. Raises ModelError, naming the extra that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ModelError(
            f"this model needs the package {package}, which is not installed: {INSTALL}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message; its kind, where there is none.

    >>> first_line(ValueError("one thing\\nand all that led to it")), first_line(KeyError())
    ('one thing', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def code_space(
    *,
    family: str,
    name: str,
    sample_rate: int,
    hop_length: int,
    codebook_sizes: tuple[int, ...],
    frames_per_code: tuple[int, ...],
    codebooks: Iterable[bytes],
) -> CodeSpace:
    """A code space without delay, whose id is a hash of its facts and its codebooks' values.

    name: what files call the model. The values are hashed, not the names that a package gives them, so that a later
    version of the package reads old files.

    >>> space = code_space(family="demo", name="demo", sample_rate=16000, hop_length=320, codebook_sizes=(16,),
    ...                    frames_per_code=(1,), codebooks=[b"entries"])
    >>> space.id.hex()[:8], space.frame_rate
    ('4a1cbbc3', 50.0)
    """
    facts = {
        "family": family,
        "sample_rate": sample_rate,
        "hop_length": hop_length,
        "codebook_sizes": codebook_sizes,
        "frames_per_code": frames_per_code,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for codebook in codebooks:
        digest.update(codebook)
    return CodeSpace(
        id=digest.digest()[:CODE_SPACE_ID_BYTES],
        model=name,
        sample_rate=sample_rate,
        hop_length=hop_length,
        delay=0,
        codebook_sizes=codebook_sizes,
        frames_per_code=frames_per_code,
    )


def values(tensor: Tensor) -> bytes:
    """A tensor's values as little-endian float32."""
    return tensor.detach().cpu().float().numpy().astype("<f4").tobytes()
