"""The unit of work: one shard, by whoever makes it.

A shard gets its name when it is whole, and after that its part of the manifest says that it is done. Whoever is
stopped in between does the shard again, with the same result. So nothing is lost and nothing is there twice.
"""

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from audiocodec.codec import Codec
from audiocodec.corpus.coding import Coded, code_items
from audiocodec.corpus.items import SEGMENTS, Tokenised, facts_of
from audiocodec.corpus.listing import Item
from audiocodec.corpus.reading import Failure, ReaderPool, read_ahead
from audiocodec.corpus.shards import shard_name, write_shard
from audiocodec.output import atomic_output, disk_errors

PARTS = "manifest"
NOT_IN_MANIFEST = ("model_sample_rate", "hop_length", "delay", "codebook_sizes", "frames_per_code", *SEGMENTS)

Task: TypeAlias = "tuple[int, Sequence[Item]]"  # number of a shard, its items
Row: TypeAlias = "dict[str, Any]"  # of the manifest


@dataclass(frozen=True, slots=True)
class Job:
    """What all who work on it must know; all of it stands in `job.json`, too.

    model: as `load` takes it; code_space: its id, in hex. items_digest: of the list of items.
    """

    model: str
    code_space: str
    n_q: int
    kind: str
    shard_items: int
    n_items: int
    items_digest: str


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What became of a shard's items; seconds of audio in it."""

    number: int
    n_items: int
    n_failed: int
    audio_seconds: float


def make_shard(job: Job, folder: Path, codec: Codec, pool: ReaderPool, task: Task) -> ShardDone:
    """Codes the items of one shard; the shard and then its part of the manifest appear when they are whole."""
    number, items = task
    rows: list[Row] = []
    first = number * job.shard_items
    coded = code_items(codec, read_ahead(pool, items, codec.space), job.n_q)
    name = shard_name(number, job.kind)
    with _whole_shard(folder / name, is_folder=job.kind == "rq") as path:
        write_shard(path, job.kind, _tokenised(coded, first, name, rows))
    with atomic_output(part_path(folder, number), overwrite=True) as path:
        text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    good = [row for row in rows if row["error"] is None]
    return ShardDone(number, len(rows), len(rows) - len(good), sum(row["audio_seconds"] for row in good))


def part_path(folder: Path, number: int) -> Path:
    """The part of the manifest that says that a shard is done."""
    return folder / PARTS / f"{number:06d}.jsonl"


def _tokenised(coded: Iterator[Coded], first: int, shard: str, rows: list[Row]) -> Iterator[Tokenised]:
    """The items that were coded, named by their places in the corpus; `rows` gets what became of each item."""
    for index, (item, codes, tags) in enumerate(coded, first):
        info = _info(item)
        if isinstance(codes, Failure):
            rows.append({"index": index, **info, "error": codes.reason})
            continue
        tokenised = Tokenised(f"{index:09d}", codes, info, tags)
        facts = {key: value for key, value in facts_of(tokenised).items() if key not in NOT_IN_MANIFEST}
        rows.append(
            {"index": index, **facts, "error": None, "key": tokenised.key, "shard": shard, "n_q": codes.n_q}
        )
        rows[-1]["audio_seconds"] = (codes.n_samples or 0) / codes.source.sample_rate
        yield tokenised


def _info(item: Item) -> dict[str, Any]:
    """Where an item comes from."""
    info: dict[str, Any] = {"source": item.name}
    if item.start_seconds:
        info["start_seconds"] = item.start_seconds
    if item.duration_seconds is not None:
        info["duration_seconds"] = item.duration_seconds
    if item.meta:
        info["meta"] = dict(item.meta)
    return info


@contextmanager
def _whole_shard(target: Path, *, is_folder: bool) -> Iterator[Path]:
    """A path to write a shard to, which gets its name when it is whole. One that a stopped call left is replaced."""
    if not is_folder:
        with atomic_output(target, overwrite=True) as path:
            yield path
        return
    temporary = target.with_name(f".codec-{secrets.token_hex(8)}")
    with disk_errors(target):
        temporary.mkdir()
        try:
            yield temporary
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
