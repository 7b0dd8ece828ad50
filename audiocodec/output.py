"""Outputs that are whole or not there: a temporary neighbour, renamed when all of it is written."""

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audiocodec.errors import AudioError

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def atomic_output(path: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends, and vanishes when it raises.

    Yields a hidden name in the same folder, with the same suffix; the file is there, with zero bytes. A link
    is followed: what it points to is replaced. Devices and named pipes are yielded as they are.
    Raises AudioError when `path` exists and `overwrite` is False (also when it came while the block ran), when
    the folder is missing or takes no files, and when the disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "out.txt"
    >>> with atomic_output(target, overwrite=False) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    if is_special(target):
        with disk_errors(target):
            yield target
        return
    check_free(target, overwrite=overwrite)
    if not target.resolve().parent.is_dir():
        raise AudioError(f"{target}: the folder {target.parent} does not exist; make it first")
    target = target.resolve()
    temporary = target.with_name(f".codec-{secrets.token_hex(8)}{target.suffix}")
    try:
        with disk_errors(path):
            _create(temporary, path)
            yield temporary
        _rename(temporary, target, overwrite=overwrite, name=path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """True for what exists and is neither a file nor a folder: a device, a named pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def disk_errors(name: object) -> Iterator[None]:
    """Turns "no space left" and its kin into an AudioError that names the output; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise AudioError(f"{name}: the disk is full ({error.strerror}); make room and try again") from error


def exists_error(name: object) -> AudioError:
    """The error for an output that is there already."""
    return AudioError(f"{name} exists: use -f to overwrite it")


def check_free(target: Path, *, overwrite: bool) -> None:
    """Raises AudioError for a folder, and for a file that exists and may not be overwritten."""
    if target.is_dir():
        raise AudioError(f"{target} is a folder: give the name of a file")
    if target.exists() and not overwrite:
        raise exists_error(target)


def _create(temporary: Path, name: object) -> None:
    """Makes the empty file, with the permissions that the user's umask asks for."""
    try:
        temporary.open("xb").close()
    except PermissionError as error:
        raise AudioError(f"{name}: no permission to write in the folder {temporary.parent}") from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        raise AudioError(f"{name}: cannot be written ({error.strerror})") from error


def _rename(temporary: Path, target: Path, *, overwrite: bool, name: object) -> None:
    """Gives the whole file its name; without `overwrite`, never at the cost of a file that came meanwhile."""
    try:
        if overwrite:
            temporary.replace(target)
            return
        try:
            target.hardlink_to(temporary)  # fails when the target exists: no gap between check and act
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if target.exists():
                raise FileExistsError(target) from None
            temporary.rename(target)
    except FileExistsError as error:
        raise exists_error(name) from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be written ({error.strerror})") from error
