"""Other codecs' models by name: `hf:OWNER/NAME`, `lyra:DIR`, or a folder."""

from pathlib import Path

import torch

from audiocodec.hub import download, folders
from audiocodec.hub.lyra import Lyra
from audiocodec.model.protocol import BlockModel

LYRA = "lyra:"


def is_foreign(name: str) -> bool:
    """Whether a name is another codec's, by how it begins or by what is in the folder."""
    return name.startswith((download.PREFIX, LYRA)) or folders.is_foreign(Path(name))


def load_foreign(name: str, device: torch.device, *, may_download: bool = True) -> BlockModel:
    """The model of a name that `is_foreign`. Raises ModelError, saying what to do, where that is impossible."""
    if name.startswith(LYRA):
        return Lyra(Path(name.removeprefix(LYRA)))
    if name.startswith(download.PREFIX):
        folder, pinned = download.fetch(name, download=may_download)
        return folders.load_folder(folder, device, pinned)
    return folders.load_folder(Path(name), device)
