"""`codec verify`: are these `.rq` files whole?"""

from typing import Annotated

import typer

from audiocodec.cli.batch import open_source
from audiocodec.cli.console import Console, printable
from audiocodec.cli.exits import FAILED
from audiocodec.cli.options import Quiet, console_of
from audiocodec.cli.plan import shown

USAGE = "FILE.rq... [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec verify talk.rq
  codec verify -q archive/*.rq && echo all whole
"""
MAX_FAULTS = 5  # of one file


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE.rq", hidden=True)],
    *,
    quiet: Quiet = False,
) -> int:
    """Check that .rq files are whole.

    Looks at every checksum, at how the parts fit together, and whether the end is there; unpacks raw codes, and
    entropy-coded ones of the models that are shipped. Decodes no audio, and writes nothing but a line per file. The
    exit code is 1 if some file is damaged.
    """
    console = console_of(context, quiet=quiet)
    return max([_verify(name, console) for name in files])


def _verify(name: str, console: Console) -> int:
    """One file: its line, and the exit code that it means."""
    from audiocodec import bitstream
    from audiocodec.tools import find_tables

    try:
        with open_source(name) as file:
            faults = bitstream.verify(file, lambda header: find_tables(header.space))
    except Exception as error:
        return console.report(error, shown(name))
    for fault in faults[:MAX_FAULTS]:
        console.fail(f"{shown(name)}: {fault}")
    if len(faults) > MAX_FAULTS:
        console.fail(f"{shown(name)}: {len(faults) - MAX_FAULTS} more faults")
    if not faults and not console.quiet:
        print(f"{printable(shown(name))}: ok", flush=True)
    return FAILED if faults else 0
