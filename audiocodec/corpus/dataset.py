"""Shards as a data set to train on: each process and worker gets its own part, and together they get all."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from audiocodec.corpus.items import Tokenised
from audiocodec.corpus.shards import read_shard
from audiocodec.errors import CodecError

Thing = TypeVar("Thing")


class CodesDataset(IterableDataset[Tokenised]):
    """The items of shards, for a `DataLoader`; see `iter_codes`."""

    def __init__(
        self, shards: list[Path], n_q: int | None, seed: int | None, rank: int, world_size: int
    ) -> None:
        self.shards, self.n_q, self.seed = shards, n_q, seed
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Tokenised]:
        """This process's and worker's part, in order or, with a seed, mixed."""
        worker = get_worker_info()
        n_workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        n_parts, part = self.world_size * n_workers, self.rank * n_workers + number
        shards = self._mixed(self.shards, 0)
        if len(shards) >= n_parts:
            own, start, step = shards[part::n_parts], 0, 1
        else:  # too few to go round: each reads all, and takes every n-th item
            own, start, step = shards, part, n_parts
        for shard in own:
            items = read_shard(shard, start=start, step=step)
            if self.seed is None:
                yield from (item.first(self.n_q) for item in items)
            else:
                yield from (
                    item.first(self.n_q) for item in self._mixed(list(items), self.shards.index(shard) + 1)
                )

    def _mixed(self, things: list[Thing], salt: int) -> list[Thing]:
        """In another order, the same for every process; as they are without a seed."""
        if self.seed is None:
            return things
        order = np.random.default_rng([self.seed, salt]).permutation(len(things))
        return [things[n] for n in order]


def iter_codes(
    shards: str | Path | Iterable[str | Path],
    *,
    n_q: int | None = None,
    seed: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> CodesDataset:
    """A data set of the items (`Tokenised`: key, codes, info) of shards that `codec tokenize` wrote.

    shards: a folder of them, or their names. n_q: the first levels only. seed: mixes the shards, and the items in each
    (one shard is in memory then); another seed for every epoch. rank, world_size: those of torch.distributed by
    default. Shards are shared out among processes and the workers of their `DataLoader`s (give it batch_size=None, or
    a collate_fn); where shards are fewer than workers, items are. Raises CodecError where there are no shards, when
    iterated FormatError for a damaged one.

    >>> import tempfile, soundfile
    >>> from audiocodec.corpus import tokenize
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", np.zeros(24000), 24000)
    >>> _ = tokenize([folder / "a.wav"], folder / "codes", n_jobs=1)
    >>> for item in iter_codes(folder / "codes", n_q=4):
    ...     print(item.key, item.codes.values.shape)
    000000000 (1, 4, 78)
    """
    names = [shards] if isinstance(shards, str | Path) else shards
    found = [path for name in names for path in _shards_of(Path(name))]
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}: expected 0 to {world_size - 1}")
    return CodesDataset(found, n_q, seed, rank, world_size)


def _shards_of(path: Path) -> list[Path]:
    """A shard itself, or those in a folder."""
    if not path.exists():
        raise CodecError(f"{path}: no such shard or folder")
    if not path.is_dir() or any(path.glob("*.rq")):
        return [path]
    found = sorted(path.glob("shard-*"))
    if not found:
        raise CodecError(f"{path}: no shards in it; expected what codec tokenize wrote")
    return found
