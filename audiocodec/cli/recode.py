"""`codec recode`: the same codes in fewer bytes, or raw; what a file decodes to stays the same."""

from pathlib import Path
from typing import Annotated

import typer

from audiocodec.cli.batch import Batch, Facts, open_source, open_target
from audiocodec.cli.console import Console, size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, OutputDir, Quiet, console_of
from audiocodec.cli.plan import PIPE, Job, check_output_dir, check_source, check_target, plan_jobs

USAGE = "INPUT.rq OUTPUT.rq [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec recode talk.rq small.rq
  codec recode archive/ -o raw/ --raw
"""


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="INPUT.rq", hidden=True)],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Raw codes, without entropy coding.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            metavar="NAME|DIR",
            help="The model whose tables are taken.  [default: the one the file names]",
        ),
    ] = None,
    output_dir: OutputDir = None,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Copy .rq files with their codes entropy-coded, which takes fewer bytes, or raw.

    Nothing is lost: the result is, byte for byte, what encoding in that form would have given, and decodes to the same.
    Needs the tables of the file's model, but runs none. With -o there may be several inputs, and folders. `-` is
    standard input or output.
    """
    console = console_of(context, quiet=quiet)
    if output_dir is None and len(files) == 1:
        raise UsageError("give the name of the output, or -o DIR")
    jobs = plan_jobs(files, output_dir, input_suffixes=(".rq",), output_suffixes=(".rq",))
    return Batch(console, json=False).run_all(
        jobs,
        check_all=lambda: check_output_dir(output_dir, jobs),
        check=lambda job: _check(job, overwrite=force),
        load=lambda: None,
        work=lambda job, _: _recode(job, model, console, raw=raw, overwrite=force),
    )


def _check(job: Job, *, overwrite: bool) -> None:
    """Raises CodecError for an input or output that cannot be."""
    check_source(job)
    check_target(job, overwrite=overwrite)


def _recode(job: Job, model: str | None, console: Console, *, raw: bool, overwrite: bool) -> Facts:
    """Recodes one file."""
    from audiocodec import bitstream
    from audiocodec.tools import find_tables

    before = _size(job.source)
    with open_target(job.target, overwrite=overwrite) as dst, open_source(job.source) as src:
        bitstream.recode(src, dst, lambda header: find_tables(header.space, model), raw=raw)
    sizes = [size(n_bytes) for n_bytes in (before, _size(job.target)) if n_bytes is not None]
    console.say(f"{job.label}  {' -> '.join(sizes)}".rstrip())
    return {}


def _size(name: str) -> int | None:
    """Bytes of a file; None for a pipe or device."""
    return Path(name).stat().st_size if name != PIPE and Path(name).is_file() else None
