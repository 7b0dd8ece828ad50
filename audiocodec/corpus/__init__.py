"""A corpus to tokens and back: `tokenize`, `iter_codes`, `read_shard`. Names are fetched when they are used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiocodec.corpus.dataset import CodesDataset, iter_codes
    from audiocodec.corpus.items import Tokenised
    from audiocodec.corpus.job import Summary, tokenize
    from audiocodec.corpus.shards import read_shard

_HOMES = {
    "CodesDataset": "audiocodec.corpus.dataset",
    "Summary": "audiocodec.corpus.job",
    "Tokenised": "audiocodec.corpus.items",
    "iter_codes": "audiocodec.corpus.dataset",
    "read_shard": "audiocodec.corpus.shards",
    "tokenize": "audiocodec.corpus.job",
}

__all__ = ["CodesDataset", "Summary", "Tokenised", "iter_codes", "read_shard", "tokenize"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'audiocodec.corpus' has no attribute {name!r}")
