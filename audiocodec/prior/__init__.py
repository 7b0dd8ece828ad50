"""A prior over a model's codes: `load_prior`, `generate`, `bits_per_code`. Names are fetched when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiocodec.prior.likelihood import bits_per_code
    from audiocodec.prior.sampling import generate, generate_codes
    from audiocodec.prior.store import load_prior

_HOMES = {
    "bits_per_code": "audiocodec.prior.likelihood",
    "generate": "audiocodec.prior.sampling",
    "generate_codes": "audiocodec.prior.sampling",
    "load_prior": "audiocodec.prior.store",
}

__all__ = ["bits_per_code", "generate", "generate_codes", "load_prior"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'audiocodec.prior' has no attribute {name!r}")
