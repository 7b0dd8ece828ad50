"""What can be done with `.rq` files without a model, and without torch: look, check, drop levels."""

from pathlib import Path
from typing import BinaryIO

from audiocodec import bitstream
from audiocodec.bitstream import StreamInfo
from audiocodec.errors import CodecError
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
    """Checks every checksum, and that the end is there: what is wrong, a line each; an empty list is good."""
    with open_input(path) as file:
        return bitstream.verify(file)


def drop_file(source: str | Path, target: str | Path, n_q: int, *, overwrite: bool = False) -> None:
    """Copies a `.rq` file with its first `n_q` levels only; equal, byte for byte, to encoding at so many.

    Raises FormatError if it is damaged, ValueError if it has fewer levels, AudioError if the output cannot be.
    """
    with (
        open_input(source) as src,
        atomic_output(target, overwrite=overwrite) as path,
        path.open("wb") as dst,
    ):
        bitstream.drop(src, dst, n_q)
