"""The entry point: arguments in, exit code out; signals and closed pipes end quietly, nothing shows a traceback."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer
from typer.core import TyperCommand

from audiocodec.cli import (
    bench,
    codebooks,
    decode,
    drop,
    encode,
    generate,
    info,
    models,
    recode,
    tables,
    tokenize,
    train,
    verify,
)
from audiocodec.cli.console import Console
from audiocodec.cli.exits import CLOSED_PIPE, HUNG_UP, INTERRUPTED, TERMINATED, WRONG_USAGE, UsageError

NAME = "codec"
VERBS = {
    "encode": encode,
    "decode": decode,
    "info": info,
    "verify": verify,
    "drop": drop,
    "recode": recode,
    "tokenize": tokenize,
    "models": models,
    "train": train,
    "tables": tables,
    "codebooks": codebooks,
    "generate": generate,
    "bench": bench,
}
EXAMPLES = """\b
Examples:
  codec encode talk.wav
  codec decode talk.rq copy.wav
"""
ENDINGS = {"SIGTERM": TERMINATED, "SIGHUP": HUNG_UP}  # by name: Windows has no SIGHUP
STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# click's own usage error: typer has it in other places from version to version, its child stays in one
PARSER_ERRORS = cast(tuple[type[Exception], ...], typer.BadParameter.__bases__)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line `args` (by default the process's own); returns the exit code.

    0 done; 1 some file failed; 2 wrong usage; 130 interrupted; 141 the reader of a pipe went away. SIGTERM and SIGHUP
    raise SystemExit(143) and (129), once nothing half-written is left.
    """
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name or tag that the terminal cannot show stops nothing
    words = list(sys.argv[1:] if args is None else args)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    with Console(debug=debug) as console, _termination(console):
        code = _exit_code(words, console)
    if args is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C finds nothing left to stop
    return code


class Verb(TyperCommand):
    """A verb whose usage line is written by hand: the parser cannot know which names are inputs."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the verb."""
        return [VERBS[str(self.name)].USAGE]


def command() -> Any:
    """The parser, with all verbs."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
    app.callback(invoke_without_command=True, epilog=EXAMPLES)(_root)
    for name, verb in VERBS.items():
        app.command(name, cls=Verb, epilog=verb.EXAMPLES, context_settings=SETTINGS)(verb.run)
    return typer.main.get_command(app)


def _exit_code(words: list[str], console: Console) -> int:
    """Runs, and turns whatever was raised into a line and a code."""
    try:
        code = _run(words, console)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        return CLOSED_PIPE
    except KeyboardInterrupt:
        console.fail("interrupted")
        return INTERRUPTED
    except Exception as error:
        return console.report(error)
    return code


def _run(words: list[str], console: Console) -> int:
    """Parses and runs. Typer's own `main` is left out, for it has other exit codes."""
    parser = command()
    try:
        with parser.make_context(NAME, words, obj=console) as context:
            return int(parser.invoke(context) or 0)
    except typer.Exit as exit_:
        return exit_.exit_code
    except PARSER_ERRORS as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else NAME
        reason = cast(Any, error).format_message().rstrip(".")
        raise UsageError(f"{reason} (see '{path} --help')") from error


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from; may stand anywhere.")
    ] = False,
) -> int:
    """Audio at a few kbit/s: coded by a neural network, kept in small .rq files.

    Each verb has a --help of its own. Files named `-` are standard input or output.
    """
    if version:
        from audiocodec import __version__

        print(f"{NAME} {__version__}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(WRONG_USAGE)
    return 0


def _open_streams() -> None:
    """Opens the null device in place of the standard streams that the caller closed.

    In this order, before any other file: each gets the number of the one that it stands for, which an output would
    get otherwise. Inherited, so that workers have all three, too.
    """
    for name, mode in STREAMS.items():
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nothing, True)
            setattr(sys, name, os.fdopen(nothing, mode, encoding="utf-8"))


@contextmanager
def _termination(console: Console) -> Iterator[None]:
    """Makes SIGTERM and SIGHUP unwind the stack, so that temporary files go. What is ignored, as by nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    codes = {getattr(signal, name): code for name, code in ENDINGS.items() if hasattr(signal, name)}
    before = {n: handler for n in codes if (handler := signal.getsignal(n)) is not signal.SIG_IGN}

    def stop(number: int, _: object) -> NoReturn:
        for other in before:  # a closed terminal sends two: the second shall not cut the tidying short
            signal.signal(other, signal.SIG_IGN)
        if console.on_terminal and not sys.stderr.isatty():
            _discard(sys.stderr)  # taking the bar off a closed terminal would be another error
        raise SystemExit(codes[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard(stream: TextIO) -> None:
    """Lets the interpreter flush what nobody reads any more, without complaint."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
