"""Job after job: a failure is one line and costs no other job; results are lines or JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from audiocodec.cli.console import Console
from audiocodec.cli.exits import FAILED
from audiocodec.cli.plan import PIPE, Job, shown
from audiocodec.errors import CodecError

Tool = TypeVar("Tool")
Facts = dict[str, Any]  # what --json prints


class Batch:
    """Runs jobs and keeps the worst of their exit codes.

    json: every job ends in one object on stdout; its `error` is null, or says why there is nothing else in it.
    """

    def __init__(self, console: Console, *, json: bool) -> None:
        self.console, self.json = console, json
        self.exit_code = 0

    def run_all(
        self,
        jobs: Sequence[Job],
        *,
        check_all: Callable[[], object],
        check: Callable[[Job], object],
        load: Callable[[], Tool],
        work: Callable[[Job, Tool], Facts],
    ) -> int:
        """Checks that all jobs can be done, and each of them; loads what they need; does them. Returns the exit code.

        What `check_all` or `load` raise concerns all jobs, what `check` or `work` raise one of them.
        """
        passing = jobs
        try:
            check_all()
            passing = [job for job in jobs if self._attempt(job, check) is not None]
            if not passing:
                return self.exit_code
            tool = load()
        except (CodecError, ValueError) as error:
            return self.give_up(passing, error)
        for job in passing:
            self.run(job, lambda job: work(job, tool))
        return self.exit_code

    def run(self, job: Job, work: Callable[[Job], Facts]) -> None:
        """Does the job; `work` gives the facts about it, and may report damage among them."""
        result = self._attempt(job, work)
        if result is None:
            return
        facts = result[0]
        if facts.get("damage"):
            self.exit_code = max(self.exit_code, FAILED)
        self._emit(facts | {"error": None})

    def give_up(self, jobs: Sequence[Job], error: Exception) -> int:
        """Reports an error that concerns all jobs alike; returns the exit code."""
        self.exit_code = max(self.exit_code, self.console.report(error))
        for job in jobs:
            self._emit_failure(job, error)
        return self.exit_code

    def _attempt(self, job: Job, work: Callable[[Job], Any]) -> tuple[Any] | None:
        """What `work` returns, as a tuple; None where it failed, which is then reported."""
        try:
            return (work(job),)
        except BrokenPipeError:
            raise
        except Exception as error:
            self.exit_code = max(self.exit_code, self.console.report(error, shown(job.source)))
            self._emit_failure(job, error)
            return None

    def _emit_failure(self, job: Job, error: Exception) -> None:
        output = {"output": job.target} if job.target else {}
        self._emit({"input": job.source, **output, "error": str(error)})

    def _emit(self, facts: Facts) -> None:
        if self.json:
            print_json(facts)


def print_json(facts: Facts) -> None:
    """One object on one line of stdout, at once."""
    print(json.dumps(facts), flush=True)


@contextmanager
def open_source(name: str) -> Iterator[BinaryIO]:
    """The bytes of an input, `-` being standard input. Raises CodecError where it cannot be read."""
    if name == PIPE:
        yield sys.stdin.buffer
        return
    from audiocodec.tools import open_input

    with open_input(name) as file:
        yield file


@contextmanager
def open_target(
    name: str, *, overwrite: bool, check: Callable[[Path], object] | None = None
) -> Iterator[BinaryIO]:
    """The bytes of an output, `-` being standard output; a file gets its name when it is whole and passes `check`."""
    if name == PIPE:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from audiocodec.output import atomic_output

    make_folder(name)
    with atomic_output(name, overwrite=overwrite) as path:
        with path.open("wb") as file:
            yield file
        if check is not None:
            check(path)


def make_folder(target: str) -> None:
    """Makes the folder that an output goes to."""
    if target != PIPE:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
