"""Where models are: shipped ones by name, others by folder. No torch is needed to tell."""

from pathlib import Path

from audiocodec.errors import ModelError

DEFAULT_MODEL = "general-24khz-7"
# defaults that are no longer shipped, and what has them
FORMER = {
    "general-24khz-1": "commit 1a08285",
    "general-24khz-2": "commit 31eff50",
    "general-24khz-3": "commit 895989b",
    "general-24khz-4": "commit 762122b",
    "general-24khz-5": "commit acb4cc5",
    "general-24khz-6": "commit c5dd4e2",
}
SHIPPED = Path(__file__).parent.parent / "models"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TABLES = "entropy.npz"  # of the entropy coder; a model may be without
PRIOR = "prior"  # folder of a prior over the model's codes; a model may be without


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{CONFIG}"))


def model_folder(name: str) -> Path:
    """Folder of a shipped model by name, or of any model by path. Raises ModelError if there is none.

    >>> model_folder(DEFAULT_MODEL).name == DEFAULT_MODEL
    True
    """
    folder = SHIPPED / name if name in shipped_models() else Path(name)
    if not (folder / CONFIG).is_file():
        known = ", ".join(shipped_models()) or "none"
        raise ModelError(
            f"{name}: no such model; expected one of: {known}, or a folder with {CONFIG} and {WEIGHTS}"
        )
    return folder
