"""What a corpus consists of: folders, globs, tars, manifests and URLs -> one list of items, in a fixed order.

The order is all that shards depend on: item n is in shard n // shard_items, whoever makes it, whenever.
"""

import csv
import hashlib
import io
import json
import math
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from audiocodec.audio import OUTPUT_SUFFIXES as AUDIO_SUFFIXES
from audiocodec.errors import CodecError

MANIFEST_SUFFIXES = (".jsonl", ".csv")
SIDECAR_SUFFIXES = (".json", ".txt")  # what stands beside an audio file in a tar, and is kept with its codes
STRETCH_COLUMNS = ("start", "duration")


@dataclass(frozen=True, slots=True)
class Item:
    """One recording, or a stretch of one.

    name: what to call it, as the user did. url: where its bytes are: an absolute path, or a URL.
    first_byte, n_bytes: its place in a tar; n_bytes None for a file of its own.
    start_seconds, duration_seconds: the stretch; None for duration: to the end.
    meta: what a manifest or a tar says of it besides; goes with the codes.
    """

    name: str
    url: str
    first_byte: int = 0
    n_bytes: int | None = None
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def list_items(inputs: Sequence[str]) -> list[Item]:
    """All items of the inputs, one input after the other, each in the order of its names.

    inputs: folders, files, globs, `.tar` archives, manifests (`.jsonl`, `.csv`), or URLs of any of these.
    Raises CodecError for an input that is not there, or has nothing in it, and for manifests that are not as they
    should be.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.wav", "a.flac", "notes.txt"):
    ...     (folder / name).touch()
    >>> [Path(item.name).name for item in list_items([str(folder)])]
    ['a.flac', 'b.wav']
    """
    items = []
    for name in inputs:
        found = list(_items_of(name))
        if not found:
            raise CodecError(
                f"{name}: no audio in it; expected files that end in {' '.join(AUDIO_SUFFIXES)}, or a .tar, "
                ".jsonl or .csv"
            )
        items += found
    return items


def digest(items: Iterable[Item]) -> str:
    """A hash of the names, stretches and order of items; not of where they lie, so that a corpus may move."""
    sha = hashlib.sha256()
    for item in items:
        facts = [item.name, item.n_bytes, item.start_seconds, item.duration_seconds, dict(item.meta)]
        sha.update(json.dumps(facts, sort_keys=True).encode())
    return sha.hexdigest()


def open_bytes(url: str) -> BinaryIO:
    """The bytes of a path or URL. Raises OSError where there are none, CodecError for an unknown kind of URL."""
    if "://" not in url:
        return Path(url).open("rb")
    file_system, path = _file_system(url)
    return cast(BinaryIO, file_system.open(path, "rb"))


def _items_of(name: str) -> Iterator[Item]:
    """The items of one input."""
    for file in _files_of(name):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix == ".tar":
            yield from _tar_items(file)
        elif suffix in MANIFEST_SUFFIXES:
            yield from _manifest_items(file)
        else:
            yield Item(file, _absolute(file))


def _files_of(name: str) -> list[str]:
    """The files that an input stands for, sorted: itself, or those of a folder or glob that are audio or archives."""
    wanted = (*AUDIO_SUFFIXES, ".tar")
    if "://" in name:
        return _remote_files(name, wanted)
    path = Path(name)
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*") if _is_wanted(file.relative_to(path), wanted))
    if path.exists():
        return [name]
    if not any(sign in name for sign in "*?["):
        raise CodecError(f"{name}: no such file or folder")
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return sorted(str(file) for file in found if _is_wanted(file, (*wanted, *MANIFEST_SUFFIXES)))


def _remote_files(name: str, wanted: Sequence[str]) -> list[str]:
    """The same for a URL."""
    file_system, path = _file_system(name)
    try:
        if any(sign in path for sign in "*?["):
            found, wanted = file_system.glob(path), (*wanted, *MANIFEST_SUFFIXES)
        elif file_system.isdir(path):
            found = file_system.find(path)
        elif file_system.exists(path):
            return [name]
        else:
            raise CodecError(f"{name}: no such file or folder")
    except OSError as error:
        raise CodecError(f"{name}: cannot be listed: {error}") from error
    kept = [file for file in sorted(found) if _is_wanted(PurePosixPath(file), wanted)]
    return [str(file_system.unstrip_protocol(file)) for file in kept]


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it."""
    try:
        file_system, path = import_module("fsspec").core.url_to_fs(url)
    except ImportError as error:  # s3:// without s3fs
        raise CodecError(f"{url}: {error}") from error
    except ValueError as error:
        raise CodecError(f"{url}: {error}; expected a path, or a URL that fsspec knows") from error
    return file_system, str(path)


def _is_wanted(file: Path | PurePosixPath, suffixes: Sequence[str]) -> bool:
    """By its suffix; hidden ones are not the user's."""
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _absolute(file: str) -> str:
    return file if "://" in file else str(Path(file).absolute())


def _tar_items(name: str) -> Iterator[Item]:
    """Audio files of an archive in its order; what has the same name but for the suffix goes with each."""
    url = _absolute(name)
    audio: list[tarfile.TarInfo] = []
    sidecars: dict[str, dict[str, Any]] = {}
    try:
        with open_bytes(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                suffix = PurePosixPath(member.name).suffix.lower()
                if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                    continue
                if suffix in AUDIO_SUFFIXES:
                    audio.append(member)
                elif suffix in SIDECAR_SUFFIXES:
                    text = cast(Any, archive.extractfile(member)).read().decode("utf-8", "replace")
                    sidecars.setdefault(_stem(member.name), {})[suffix[1:]] = _sidecar(text, suffix)
    except (OSError, tarfile.TarError) as error:
        raise CodecError(
            f"{name}: cannot be read as a .tar archive ({error}); make it again, uncompressed"
        ) from error
    for member in audio:
        meta = sidecars.get(_stem(member.name), {})
        yield Item(f"{name}/{member.name}", url, member.offset_data, member.size, meta=meta)


def _stem(member: str) -> str:
    """What the files of one sample have in common."""
    return str(PurePosixPath(member).with_suffix(""))


def _sidecar(text: str, suffix: str) -> Any:
    """JSON as what it says; text, and JSON that is none, as it is."""
    if suffix == ".json":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text.strip()


def _manifest_items(name: str) -> Iterator[Item]:
    """The rows of a manifest; its relative paths begin where it lies."""
    try:
        with open_bytes(_absolute(name)) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CodecError(f"{name}: cannot be read: {error}") from error
    for number, row in _rows(name, text):
        path = row.get("path")
        if not isinstance(path, str) or not path:
            raise CodecError(
                f"{name}, line {number}: no `path`; expected one, with or without start and duration"
            )
        start, duration = (_seconds(f"{name}, line {number}", key, row.get(key)) for key in STRETCH_COLUMNS)
        meta = {key: value for key, value in row.items() if key not in ("path", *STRETCH_COLUMNS)}
        url = path if "://" in path or Path(path).is_absolute() else _absolute(_beside(name, path))
        yield Item(path, url, start_seconds=start or 0.0, duration_seconds=duration, meta=meta)


def _rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row."""
    if PurePosixPath(name).suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            for row in reader:
                yield reader.line_num, {key: value for key, value in row.items() if key}
        except csv.Error as error:
            raise CodecError(f"{name}, line {reader.line_num}: not CSV ({error})") from error
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CodecError(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise CodecError(f"{name}, line {number}: expected a JSON object")
        yield number, row


def _beside(manifest: str, path: str) -> str:
    folder, slash, _ = manifest.rpartition("/")
    return f"{folder}{slash}{path}"


def _seconds(where: str, key: str, value: Any) -> float | None:
    """A time of a manifest; None where it is left out."""
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CodecError(f"{where}: {key} is {value!r}; expected 0 or more seconds")
    return seconds
