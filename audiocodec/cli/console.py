"""Talk on stderr: results, warnings, one line per failure, and a progress bar where a person watches."""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from audiocodec.cli.exits import FAILED, WRONG_USAGE, UsageError
from audiocodec.errors import CodecError

QUIET_SECONDS = 1.0  # a file that is done sooner shows no bar
TICK_SECONDS = 30.0  # between the lines of a long run, where no terminal shows them in place
MAX_LABEL = 32


class Console:
    """What the command says to a person. While it is open, the library's warnings are lines too.

    quiet: errors only. debug: tracebacks besides the lines.
    """

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug
        self.quiet = False
        self.on_terminal = sys.stderr.isatty()
        self._live: Any = None  # rich's Progress or Live, while one is on the screen
        self._last_tick = -TICK_SECONDS
        self._handler = _LogLines(self)

    def __enter__(self) -> "Console":
        logging.getLogger("audiocodec").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        self._hide_live()
        logging.getLogger("audiocodec").removeHandler(self._handler)

    def say(self, line: str) -> None:
        """A result or news."""
        if not self.quiet:
            self._print(line)

    def warn(self, line: str) -> None:
        """Something that a person should know, and that stops nothing."""
        if not self.quiet:
            self._print(f"codec: warning: {line}")

    def fail(self, line: str) -> None:
        """Why something was not done."""
        self._print(f"codec: {line}")

    def report(self, error: Exception, name: str = "") -> int:
        """The line for an error that concerns the file `name`, and the exit code that it means."""
        reason, code = explain(error)
        self.fail(f"{name}: {reason}" if name and not reason.startswith(name) else reason)
        if self.debug:
            self._hide_live()
            traceback.print_exception(error)
        return code

    @contextmanager
    def progress(self, label: str, total_seconds: float | None) -> Iterator[Callable[[float], None]]:
        """A function to be told how many of `total_seconds` of audio are done (None: nobody knows how many)."""
        begun = time.monotonic()
        task: Any = None

        def advance(done_seconds: float) -> None:
            nonlocal task
            if self.quiet or not self.on_terminal or time.monotonic() - begun < QUIET_SECONDS:
                return
            if self._live is None:
                self._live = _file_bar()
                task = self._live.add_task(printable(_shortened(label)), total=total_seconds, speed="")
            speed = f"{done_seconds / (time.monotonic() - begun):.0f}x"
            self._live.update(task, completed=done_seconds, speed=speed)

        try:
            yield advance
        finally:
            self._hide_live()

    def tick(self, line: str) -> None:
        """Where a long run stands: one line that changes in place, or, without a terminal, now and then a new one."""
        if self.quiet:
            return
        if self.on_terminal:
            if self._live is None:
                self._live = _live_line()
            self._live.update(printable(line), refresh=True)
        elif time.monotonic() - self._last_tick >= TICK_SECONDS:
            self._last_tick = time.monotonic()
            self._print(line)

    def _print(self, line: str) -> None:
        self._hide_live()
        print(printable(line), file=sys.stderr, flush=True)

    def _hide_live(self) -> None:
        """Takes the bar or line off the screen; the next advance or tick brings a new one."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def explain(error: Exception) -> tuple[str, int]:
    """What to tell the user about an error, in one line, and the exit code.

    >>> explain(ValueError("99 levels asked for, expected 1 to 8"))
    ('99 levels asked for, expected 1 to 8', 2)
    """
    if isinstance(error, CodecError):
        return str(error), FAILED
    if isinstance(error, UsageError | ValueError):
        return str(error), WRONG_USAGE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", FAILED
    kind = type(error).__name__
    return f"internal error ({kind}: {error}); please report it; --debug shows where", FAILED


def printable(text: str) -> str:
    """One line that no file name or tag can break, or fill with a terminal's control codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def clock(seconds: float) -> str:
    """A time as people write it.

    >>> clock(62.34), clock(3723)
    ('1:02.3', '1:02:03')
    """
    minutes, tenths = divmod(round(seconds * 10), 600)
    if minutes < 60:
        return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
    return f"{minutes // 60}:{minutes % 60:02d}:{tenths // 10:02d}"


def size(n_bytes: float) -> str:
    """A number of bytes as people write it.

    >>> size(812), size(31_700), size(2_040_000)
    ('812 bytes', '32 kB', '2.0 MB')
    """
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.5 or unit == "GB":
            break
    return f"{n_bytes:.1f} {unit}" if n_bytes < 9.95 else f"{n_bytes:.0f} {unit}"


def _shortened(label: str) -> str:
    """The end of a long name: where names differ."""
    return label if len(label) <= MAX_LABEL else "…" + label[1 - MAX_LABEL :]


def _file_bar() -> Any:
    """A started bar for one file."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=RichConsole(stderr=True),
        transient=True,
        expand=True,
    )
    bar.start()
    return bar


def _live_line() -> Any:
    """A started line that changes in place."""
    from rich.console import Console as RichConsole
    from rich.live import Live

    live = Live("", console=RichConsole(stderr=True, markup=False, highlight=False), transient=True)
    live.start()
    return live


class _LogLines(logging.Handler):
    """The library's log as lines on the console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings are marked as such; news come as they are."""
        say = self._console.warn if record.levelno >= logging.WARNING else self._console.say
        say(record.getMessage())
