"""Names on the command line -> jobs: which input becomes which output. Checked before anything slow begins."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiocodec.cli.exits import UsageError
from audiocodec.errors import AudioError, CodecError
from audiocodec.output import check_free, is_special

PIPE = "-"
RAW_SUFFIXES = (".raw", ".pcm")


@dataclass(frozen=True, slots=True)
class Job:
    """One input and its output, named as the user did; `-` is standard input or output.

    target: empty where a verb only looks.
    """

    source: str
    target: str = ""

    @property
    def label(self) -> str:
        """What to call it in a line of results."""
        return f"{shown(self.source)} -> {'<stdout>' if self.target == PIPE else self.target}"


def shown(name: str) -> str:
    """What to call an input."""
    return "<stdin>" if name == PIPE else name


def plan_jobs(
    names: Sequence[str],
    output_dir: str | None,
    *,
    input_suffixes: Sequence[str],
    output_suffixes: Sequence[str],
) -> list[Job]:
    """The jobs that `names` and -o ask for; the first of output_suffixes is that of outputs without a name.

    Without -o: INPUT, or INPUT OUTPUT where the second has one of output_suffixes, is `-`, or is a device.
    With it all names are inputs, and folders stand for the files with one of input_suffixes below them;
    without input_suffixes a folder is an input like any other.
    Raises UsageError where this cannot be meant, CodecError for a folder with nothing to do in it.
    """
    suffix = output_suffixes[0]
    if output_dir is None and input_suffixes and Path(names[0]).is_dir():
        raise UsageError(f"{names[0]} is a folder: give -o DIR for the outputs")
    if output_dir is not None:
        jobs = [job for name in names for job in _into_folder(name, Path(output_dir), input_suffixes, suffix)]
        _check_distinct(jobs)
    elif len(names) == 1:
        target = PIPE if names[0] == PIPE else str(Path(names[0]).with_suffix(suffix))
        jobs = [Job(names[0], target)]
    elif len(names) == 2:
        _check_output_name(names[1], output_suffixes)
        jobs = [Job(names[0], names[1])]
    else:
        raise UsageError(f"{len(names)} inputs: give -o DIR for the outputs")
    if jobs[0].target == PIPE and sys.stdout.isatty():
        raise UsageError("the output would go to the terminal: give it a name, or redirect stdout")
    return jobs


def check_source(job: Job) -> bool:
    """Whether the input is a file, that may be looked into at once. Raises CodecError where it cannot be read."""
    path = Path(job.source)
    if job.source == PIPE:
        return False
    if not path.exists():
        raise AudioError(f"{path} does not exist")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path} cannot be read: no permission")
    return path.is_file()


def check_target(job: Job, *, overwrite: bool) -> None:
    """Raises CodecError for an output that must not be written."""
    path = Path(job.target)
    if job.target == PIPE or is_special(path):
        return
    check_free(path, overwrite=overwrite)


def check_output_dir(output_dir: str | None, jobs: Sequence[Job]) -> None:
    """Raises CodecError where no output can be made: a folder is missing (without -o), or takes no files."""
    for folder in {Path(job.target).resolve().parent for job in jobs if job.target != PIPE}:
        place = folder
        while output_dir is not None and not place.exists():
            place = place.parent
        if not place.exists():
            raise AudioError(f"the folder {folder} does not exist; make it first")
        if not place.is_dir():
            raise AudioError(f"{place} is not a folder: outputs cannot go there")
        if not os.access(place, os.W_OK):
            raise AudioError(f"no permission to write in the folder {place}")


def json_allowed(jobs: Sequence[Job]) -> None:
    """Raises UsageError where --json and an output would share stdout."""
    if any(job.target == PIPE for job in jobs):
        raise UsageError("--json and the output cannot both go to stdout: name the output")


def _into_folder(name: str, folder: Path, input_suffixes: Sequence[str], suffix: str) -> Iterator[Job]:
    """Jobs for one name when outputs go to `folder`; below a folder, its structure is kept."""
    path = Path(name)
    if name == PIPE:
        raise UsageError("standard input has no name to call an output by: leave -o out, and name the output")
    if not path.is_dir():
        yield Job(name, str(folder / Path(path.name).with_suffix(suffix)))
        return
    found = [file for file in sorted(path.rglob("*")) if _is_wanted(file, input_suffixes)]
    if not found:
        raise CodecError(f"{name}: nothing to do, no {' '.join(input_suffixes)} in this folder")
    for file in found:
        yield Job(str(file), str(folder / file.relative_to(path).with_suffix(suffix)))


def _is_wanted(file: Path, suffixes: Sequence[str]) -> bool:
    """A file of the right kind; hidden ones are not the user's."""
    return file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()


def _check_distinct(jobs: Sequence[Job]) -> None:
    """Raises UsageError where two inputs would become one output."""
    seen: dict[str, str] = {}
    for job in jobs:
        if job.target in seen:
            other = seen[job.target]
            raise UsageError(f"{other} and {job.source} would both become {job.target}: code them apart")
        seen[job.target] = job.source


def _check_output_name(name: str, suffixes: Sequence[str]) -> None:
    """Raises UsageError for a second name that does not look like an output: it may be an input, not to be lost."""
    path = Path(name)
    if name == PIPE or path.suffix.lower() in suffixes or is_special(path):
        return
    expected = suffixes[0] if len(suffixes) == 1 else f"one of {' '.join(suffixes)}"
    raise UsageError(f"{name} is no output name (expected {expected}, or -); for several inputs give -o DIR")
