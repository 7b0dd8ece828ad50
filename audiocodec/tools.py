"""What can be done with `.rq` files without a model, and without torch: look, check, drop levels, code anew."""

import json
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from audiocodec import bitstream
from audiocodec.bitstream import EntropyTables, StreamInfo
from audiocodec.bitstream.entropy import load_tables
from audiocodec.codes import CodeSpace
from audiocodec.errors import CodecError, ModelError
from audiocodec.model.catalogue import TABLES, WEIGHTS, model_folder, shipped_models
from audiocodec.output import atomic_output


def open_input(path: str | Path) -> BinaryIO:
    """Opens a file to read its bytes. Raises CodecError where that cannot be."""
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CodecError(f"{path}: cannot be read: {error.strerror}") from error


def info(path: str | Path) -> StreamInfo:
    """What a `.rq` file says about itself. Raises FormatError if it is not one."""
    with open_input(path) as file:
        return bitstream.info(file)


def verify_file(path: str | Path) -> list[str]:
    """Checks every checksum, the structure, and that the end is there: what is wrong, a line each; empty is good.

    The codes are unpacked, too: raw ones always, entropy-coded ones if the model that the file names is shipped.
    """
    with open_input(path) as file:
        return bitstream.verify(file, lambda header: find_tables(header.space))


def drop_file(source: str | Path, target: str | Path, n_q: int, *, overwrite: bool = False) -> None:
    """Copies a `.rq` file with its first `n_q` levels only.

    At a constant rate that is, byte for byte, what encoding at so many gives; where the number of levels varies, it is
    cut to `n_q` in every frame that has more.
    Raises FormatError if it is damaged, ValueError if it has fewer levels, AudioError if the output cannot be.
    """
    with (
        open_input(source) as src,
        atomic_output(target, overwrite=overwrite) as path,
        path.open("wb") as dst,
    ):
        bitstream.drop(src, dst, n_q)


def recode_file(
    source: str | Path,
    target: str | Path,
    *,
    raw: bool = False,
    model: str | Path | None = None,
    overwrite: bool = False,
) -> None:
    """Copies a `.rq` file with its codes entropy-coded, or `raw`; it decodes to the same, and all else stays.

    model: name or folder of the model whose tables are taken; by default the shipped one that the file names.
    Raises ModelError where there are no tables, FormatError if the file is damaged, AudioError if the output cannot be.
    """
    with (
        atomic_output(target, overwrite=overwrite) as path,  # may be the source itself, closed by then
        open_input(source) as src,
        path.open("wb") as dst,
    ):
        bitstream.recode(src, dst, lambda header: find_tables(header.space, model), raw=raw)


def find_tables(space: CodeSpace, model: str | Path | None = None) -> EntropyTables | None:
    """The tables of the entropy coder for codes of `space`; None where there are none.

    They are those of `model` (a name or folder), by default of the shipped model that defined the space. Raises
    ModelError if `model` is not there, or has another code space.
    """
    name = space.model if model is None else str(model)
    if model is None and name not in shipped_models():
        return None
    folder = model_folder(name)
    found = _code_space(folder)
    if found != space.id.hex():
        if model is None:
            return None
        raise ModelError(
            f"the codes were made by model {space.model!r} (code space {space.id.hex()}), "
            f"{name} is another ({found}): name the right one with -m"
        )
    path = folder / TABLES
    return _load_tables(path, path.stat().st_mtime_ns) if path.exists() else None


@lru_cache(maxsize=2)
def _load_tables(path: Path, _mtime_ns: int) -> EntropyTables:
    return load_tables(path)


def _code_space(folder: Path) -> str | None:
    """Id of a model's code space, in hex, as its weights' file states it: JSON behind eight bytes with its length."""
    try:
        with (folder / WEIGHTS).open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            facts = json.loads(file.read(min(n_bytes, 1 << 24)))
        return str(facts["__metadata__"]["code_space"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: cannot read the model: {error}; get its files again") from error
