"""Shards: WebDataset `.tar`, `.parquet`, or a folder of `.rq` files.

A shard is written from front to back, an item at a time. The same items give the same bytes.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream import Reader
from audiocodec.codes import Codes
from audiocodec.corpus.items import Tokenised, facts_of, from_facts, rq_bytes
from audiocodec.corpus.parquet import read_parquet, write_parquet
from audiocodec.errors import CodecError, FormatError
from audiocodec.tools import find_tables

KINDS = ("tar", "parquet", "rq")
TAR_END_BYTES = 2 * tarfile.BLOCKSIZE  # zeros that end every archive


def shard_name(number: int, kind: str) -> str:
    """File or folder of a shard.

    >>> shard_name(3, "tar"), shard_name(3, "rq")
    ('shard-000003.tar', 'shard-000003')
    """
    return f"shard-{number:06d}" + ("" if kind == "rq" else f".{kind}")


def write_shard(path: Path, kind: str, items: Iterable[Tokenised]) -> None:
    """Writes the items to a file, or for `.rq` into an empty folder."""
    if kind == "tar":
        _write_tar(path, items)
    elif kind == "parquet":
        write_parquet(path, items)
    elif kind == "rq":
        for item in items:
            (path / f"{item.key}.rq").write_bytes(rq_bytes(item, coded=True))
    else:
        raise ValueError(f"{kind}: no kind of shard; expected one of {', '.join(KINDS)}")


def read_shard(path: str | Path, *, start: int = 0, step: int = 1) -> Iterator[Tokenised]:
    """The items of a shard in order: every `step`-th from item `start` on.

    Raises FormatError where it is damaged, or no shard; CodecError where it cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            names = sorted(path.glob("*.rq"))[start::step]
            yield from (_read_rq(name) for name in names)
        elif path.suffix == ".parquet":
            yield from read_parquet(path, start, step)
        else:
            yield from _read_tar(path, start, step)
    except OSError as error:
        raise CodecError(f"{path}: cannot be read: {error.strerror or error}") from error


def item_at(path: str | Path, index: int) -> Tokenised:
    """Item `index` of a shard, from 0. Raises ValueError where it has fewer, FormatError where it is none."""
    for item in read_shard(path, start=index, step=1 << 62):
        return item
    n_items = sum(1 for _ in read_shard(path))
    if not n_items:
        raise FormatError(f"{path}: no items in it; expected a shard that codec tokenize wrote")
    raise ValueError(f"--index {index}: {path} has {n_items} items; expected 0 to {n_items - 1}")


def _write_tar(path: Path, items: Iterable[Tokenised]) -> None:
    """KEY.npy, int16 [lanes, n_q, F], and KEY.json; KEY.0.npy, ... [lanes, F] where levels differ in frame rate."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for item in items:
            levels = item.codes.levels
            if len({level.shape for level in levels}) == 1:
                _add(archive, f"{item.key}.npy", _npy(item.codes.values))
            else:
                for number, level in enumerate(levels):
                    _add(archive, f"{item.key}.{number}.npy", _npy(level))
            text = json.dumps(facts_of(item), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
            _add(archive, f"{item.key}.json", text.encode())


def _npy(array: NDArray[np.int16]) -> bytes:
    file = io.BytesIO()
    np.save(file, array.astype("<i2"), allow_pickle=False)
    return file.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """One member, without the time and the user that would make each run's bytes differ."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _read_tar(path: Path, start: int, step: int) -> Iterator[Tokenised]:
    """Members of one key stand together; keys that are not wanted are passed over."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAR_END_BYTES))
        if file.read() != bytes(TAR_END_BYTES):  # tarfile takes a cut archive for one that ends there
            raise FormatError(f"{path}: cut short, or no .tar; expected what codec tokenize wrote")
    try:
        with tarfile.open(path, "r:") as archive:
            position, members = -1, dict[str, tarfile.TarInfo]()
            key = ""
            for member in archive:
                name, _, suffix = PurePosixPath(member.name).name.partition(".")
                if name != key:
                    key, position, members = name, position + 1, {}
                if position < start or (position - start) % step:
                    continue
                members[suffix] = member
                if suffix == "json":  # the last of each item
                    yield _tar_item(archive, key, members)
    except tarfile.TarError as error:
        raise FormatError(
            f"{path}: cannot be read as a shard ({error}); expected what codec tokenize wrote"
        ) from error


def _tar_item(archive: tarfile.TarFile, key: str, members: Mapping[str, tarfile.TarInfo]) -> Tokenised:
    """One item of a tar."""

    def read(suffix: str) -> io.BytesIO:
        return io.BytesIO(cast(BinaryIO, archive.extractfile(members[suffix])).read())

    try:
        facts = json.load(read("json"))
        if "npy" in members:
            values = np.load(read("npy"), allow_pickle=False)
            levels = tuple(np.ascontiguousarray(values[:, n]) for n in range(values.shape[1]))
        else:
            n_q = len(facts["codebook_sizes"])
            levels = tuple(np.load(read(f"{n}.npy"), allow_pickle=False) for n in range(n_q))
        return from_facts(key, facts, levels)
    except (KeyError, ValueError, TypeError, IndexError, EOFError) as error:
        raise FormatError(
            f"item {key}: not what codec tokenize wrote ({type(error).__name__}: {error})"
        ) from error


def _read_rq(path: Path) -> Tokenised:
    """One `.rq` file of a folder; where it came from stands in the manifest only."""
    with path.open("rb") as file:
        reader = Reader(file, tables=lambda header: find_tables(header.space))
        groups = list(reader)
        header = reader.header
    empty = [np.zeros((header.n_lanes, 0), np.int16) for _ in range(header.space.n_q)]
    parts = [empty, *(list(group.levels or ()) for group in groups)]
    levels = tuple(np.concatenate(level, axis=1) for level in zip(*parts, strict=True))
    n_frames = sum(group.n_frames for group in groups)
    counts = None
    if header.variable:
        empty_counts = np.zeros((header.n_lanes, 0), np.uint8)
        counts = np.concatenate([empty_counts, *(group.counts for group in groups)], axis=1)
    codes = Codes(header.space, header.source, n_frames, levels, reader.n_samples, counts)
    return Tokenised(path.stem, codes, {}, header.tags)
