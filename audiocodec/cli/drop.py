"""`codec drop`: fewer levels, by copying bytes."""

from pathlib import Path
from typing import Annotated

import typer

from audiocodec.cli.batch import open_source, open_target
from audiocodec.cli.console import size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Quiet, console_of
from audiocodec.cli.plan import PIPE, check_output_dir, check_source, check_target, plan_jobs, shown

USAGE = "INPUT.rq OUTPUT.rq -n N [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec drop talk.rq small.rq -n 4
  codec drop - - -n 2 < talk.rq | ssh host 'codec decode - talk.wav'
"""


def run(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="INPUT.rq", hidden=True)],
    target: Annotated[str, typer.Argument(metavar="OUTPUT.rq", hidden=True)],
    *,
    levels: Annotated[
        int, typer.Option("-n", "--levels", metavar="N", show_default=False, help="Levels to keep.")
    ],
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Copy a .rq file with its first N levels only.

    Needs no model: at a constant rate the result is, byte for byte, what encoding at N levels would have given;
    where the levels vary, no frame keeps more than N. `-` is standard input or output.
    """
    console = console_of(context, quiet=quiet)
    from audiocodec import bitstream

    if levels < 1:
        raise UsageError(f"--levels {levels}: expected 1 or more")
    jobs = plan_jobs([source, target], None, input_suffixes=(), output_suffixes=(".rq",))
    try:
        check_output_dir(None, jobs)
        check_source(jobs[0])
        check_target(jobs[0], overwrite=force)
        with open_target(target, overwrite=force) as dst, open_source(source) as src:
            bitstream.drop(src, dst, levels)
    except BrokenPipeError:
        raise
    except Exception as error:
        return console.report(error, shown(source))
    line = f"{jobs[0].label}  {levels} levels"
    if Path(target).is_file() and target != PIPE:
        line += f"  {size(Path(target).stat().st_size)}"
    console.say(line)
    return 0
