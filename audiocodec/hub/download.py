"""Models by the name of their repository, `hf:OWNER/NAME[@REVISION]`, kept in the cache of `huggingface_hub`."""

import re
from pathlib import Path
from typing import Any

from audiocodec.errors import ModelError
from audiocodec.hub.common import first_line, need
from audiocodec.hub.folders import PICKLED
from audiocodec.model.catalogue import CONFIG, WEIGHTS

PREFIX = "hf:"
TIMEOUT_SECONDS = 20
NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fetch(name: str, *, download: bool) -> tuple[Path, str]:
    """The folder of a model's files, and its name with the revision pinned: `hf:OWNER/NAME@COMMIT`.

    What is in the cache is taken from there, without the network. download: whether to fetch what is not; if not,
    ModelError says how to. Raises ModelError, too, for a name that is none, for one that the hub does not know, where
    there is no network, and for a repository whose weights are pickled only.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ModelError(f"{name}: not a model's name; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    repository, revision = match["repository"], match["revision"]
    hub = need("huggingface_hub")
    need("huggingface_hub.utils.logging").set_verbosity_error()  # what goes wrong is said once, here
    folder = _cached(hub, repository, revision)
    if folder is None:
        if not download:
            raise ModelError(
                f"{name} is not on this machine, and decoding downloads nothing: codec models fetch {name}"
            )
        folder = _download(hub, name, repository, revision)
    return folder, f"{PREFIX}{repository}@{folder.name}"


def _cached(hub: Any, repository: str, revision: str | None) -> Path | None:
    """The folder in the cache, if both files are there."""
    try:
        folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError):
        return None
    return folder if all((folder / file).is_file() for file in (CONFIG, WEIGHTS)) else None


def _download(hub: Any, name: str, repository: str, revision: str | None) -> Path:
    """Both files into the cache; their folder."""
    try:
        listing = hub.HfApi().model_info(repository, revision=revision, timeout=TIMEOUT_SECONDS)
        files = [sibling.rfilename for sibling in listing.siblings]
    except (
        Exception
    ) as error:  # of the package, of whatever HTTP library it uses, of the system: all mean the same
        raise ModelError(f"{name}: {_reason(hub, error)}") from error
    if WEIGHTS not in files:
        pickled = [file for file in files if file.endswith(PICKLED)]
        if not pickled:
            raise ModelError(f"{name}: the repository has no {WEIGHTS}: expected a residual codec's model")
        raise ModelError(
            f"{name}: its weights are pickled only ({pickled[0]}): reading them can run any code, so they are refused; "
            f"if you trust them, download {CONFIG} and {pickled[0]} into one folder, and then: "
            f"codec models import --trust-pickle FILE DIR"
        )
    try:
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # as above
        raise ModelError(f"{name}: {_reason(hub, error)}") from error


def _reason(hub: Any, error: Exception) -> str:
    """Why a model cannot be fetched, in a line."""
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        return "the hub knows no such repository, or keeps it private: check the name"
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return "the repository has no such revision: check what stands behind the @"
    return (
        f"cannot reach the hub ({first_line(error)}): try again with a network, "
        "or give the folder of the model's files"
    )
