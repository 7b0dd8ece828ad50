"""Worker processes of one thread each. A worker that dies costs the task it had, and is replaced."""

import faulthandler
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from audiocodec.errors import CodecError

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
PATIENCE_SECONDS = 1.0  # for workers that are told to go; then they are killed
TERMINATED = 143


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Death:
    """What comes instead of a result when a worker died. reason: how."""

    reason: str


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: "Connection[Any, Any]"
    ready: bool = False
    busy: bool = False  # has a task, whose result nobody has fetched


class Pool(Generic[Task, Result]):
    """Processes that do tasks; a context manager, whose end stops them all, at once.

    n_workers: how many. prepare: runs once in each and gives the function that does a task; it must be a name that
    another process can import (or a `partial` of one), and tasks and results must pickle. Processes are spawned,
    not forked: torch has threads. may_have_children: a worker may start processes of its own.

    concurrent.futures would do, but there one worker's death ends all, and does not say which task it was.
    """

    def __init__(
        self,
        n_workers: int,
        prepare: Callable[[], Callable[[Task], Result]],
        *,
        may_have_children: bool = False,
    ) -> None:
        self._n_workers, self._prepare = n_workers, prepare
        self._daemon = not may_have_children  # Python forbids children to daemons
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool[Task, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stop(self._workers)
        for worker in self._workers:
            worker.pipe.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Death]]:
        """Each task with what became of it, in the order in which they end.

        A run that is not gone through to its end is over when the next one begins. Raises CodecError if a worker dies
        before it had a task.
        """
        # the results of those that are still busy would be taken for ours
        _stop([worker for worker in self._workers if worker.busy])
        queue = iter(tasks)
        held: dict[int, Task] = {}  # by the worker's number
        for number in range(self._n_workers):
            self._give(number, queue, held)
        while held:
            pipes = {id(self._workers[number].pipe): number for number in held}
            for pipe in wait([self._workers[number].pipe for number in held]):
                number = pipes[id(pipe)]
                worker = self._workers[number]
                try:
                    result: Result | Death = worker.pipe.recv()
                except (EOFError, OSError):
                    result = self._death(worker)
                if not worker.ready:
                    worker.ready = True  # its first word says only that
                    continue
                worker.busy = False
                task = held.pop(number)
                self._give(number, queue, held)
                yield task, result

    def _give(self, number: int, queue: Iterator[Task], held: dict[int, Task]) -> None:
        """Hands the next task, if there is one, to worker `number`, which is started if need be."""
        for task in itertools.islice(queue, 1):
            if number == len(self._workers):
                self._workers.append(self._start())
            elif not self._workers[number].process.is_alive():
                self._workers[number].pipe.close()
                self._workers[number] = self._start()
            held[number] = task
            self._workers[number].busy = True
            with suppress(OSError):  # a worker that dies now is met when its result is awaited
                self._workers[number].pipe.send(task)

    def _death(self, worker: _Worker) -> Death:
        """How a worker died. Raises CodecError if it never was ready."""
        worker.process.join()
        how = _how_it_died(worker.process.exitcode)
        if not worker.ready:
            raise CodecError(f"a worker process could not start: it {how}")
        return Death(f"the worker process {how}")

    def _start(self) -> _Worker:
        """A new worker, which no Ctrl-C reaches: who gets it here stops the workers."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._prepare), daemon=self._daemon)
        with _for_children():
            process.start()
        theirs.close()
        return _Worker(process, ours)


def _stop(workers: Sequence[_Worker]) -> None:
    """Ends workers; those that do not go at once are killed."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()


def _serve(pipe: "Connection[Any, Any]", prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """What a worker does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # unwinds, so that temporary files go
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        # a closed terminal is told to all its processes
        signal.signal(hang_up, lambda *_: sys.exit(TERMINATED))
    work = prepare()
    pipe.send(True)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(work(task))


def settle(log: Path) -> None:
    """For a worker to begin with: whatever it says, and where it crashes, goes to the end of a file.

    Codecs and metrics in C++ write to the terminal, where they would break the line that shows the progress.
    """
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()


@contextmanager
def _for_children() -> Iterator[None]:
    """Makes processes that start inside have one thread, and ignore Ctrl-C from their first moment on."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


def _how_it_died(exit_code: int | None) -> str:
    """The end of a process in words.

    >>> _how_it_died(3), _how_it_died(-9)
    ('ended with exit code 3', 'was killed by SIGKILL')
    """
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
