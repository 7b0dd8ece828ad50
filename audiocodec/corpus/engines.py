"""Who makes the shards: processes of this machine, or the workers of a Ray cluster. Each makes whole shards."""

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch

from audiocodec.codec import load
from audiocodec.corpus.reading import reader_pool
from audiocodec.corpus.work import Job, ShardDone, Task, make_shard
from audiocodec.errors import CodecError
from audiocodec.pool import Death, Pool, n_cores

MAX_TRIES = 3  # of a shard whose worker dies
GPU_JOBS = 4  # processes that share a GPU by default: one cannot read fast enough for it

Outcome: TypeAlias = "ShardDone | CodecError | ValueError | OSError"


def run_local(
    job: Job, folder: Path, tasks: Sequence[Task], *, n_jobs: int | None, device: str
) -> Iterator[ShardDone]:
    """Makes the shards in processes of one thread each; a single job runs in this process.

    A worker that dies is replaced, and its shard made again. Raises CodecError when that happens thrice, and
    whatever error ended a shard.
    """
    n_jobs = min(n_jobs or _default_jobs(device), len(tasks))
    if n_jobs == 1:
        codec = load(job.model, device=device)
        with reader_pool(codec.space) as pool, _one_thread():
            yield from (make_shard(job, folder, codec, pool, task) for task in tasks)
        return
    prepare = partial(_prepare, job, folder, device)
    for attempt in range(1, MAX_TRIES + 1):
        lost: list[Task] = []
        with Pool(n_jobs, prepare, may_have_children=True) as pool:
            for task, outcome in pool.run(tasks):
                if not isinstance(outcome, Death):
                    yield _checked(outcome)
                elif attempt == MAX_TRIES:
                    raise CodecError(
                        f"shard {task[0]}: {outcome.reason}, {MAX_TRIES} times; is memory short?"
                    )
                else:
                    lost.append(task)
        tasks = lost


def run_on_ray(
    job: Job, folder: Path, tasks: Sequence[Task], *, n_jobs: int | None, device: str
) -> Iterator[ShardDone]:
    """Makes the shards on a Ray cluster (the one that RAY_ADDRESS names, else one on this machine) with Ray Data.

    Ray starts a worker that dies again, and gives its shard to another. The folder, the inputs and the model must be
    where all workers find them. Raises CodecError where Ray is missing, and whatever error ended a shard.
    """
    ray = _ray()
    begun_here = not ray.is_initialized()
    if begun_here:
        ray.init(log_to_driver=False, logging_level="error")
    try:
        yield from map(_checked, _ray_outcomes(ray, job, folder, tasks, n_jobs=n_jobs, device=device))
    finally:
        if begun_here:
            ray.shutdown()


class ShardMaker:
    """What each Ray worker holds: the model, and the process that reads ahead of it."""

    def __init__(self, job: Job, folder: Path, device: str) -> None:
        self._work = _prepare(job, folder, device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Makes the shard of one row."""
        return {"outcome": pickle.dumps(self._work(pickle.loads(row["task"])))}


def _ray_outcomes(
    ray: Any, job: Job, folder: Path, tasks: Sequence[Task], *, n_jobs: int | None, device: str
) -> Iterator[Outcome]:
    """What became of each shard, in the order in which they end."""
    if not tasks:
        return
    resources = ray.cluster_resources()
    n_gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    n_workers = min(n_jobs or n_gpus or int(resources["CPU"]), len(tasks))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = [{"task": pickle.dumps(task)} for task in tasks]
    shards = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardMaker,
        fn_constructor_args=(job, folder, device),
        compute=ray.data.ActorPoolStrategy(size=n_workers),
        num_cpus=1,
        num_gpus=min(1.0, n_gpus / n_workers) if n_gpus else None,
    )
    for row in shards.iter_rows():
        yield pickle.loads(row["outcome"])


def _prepare(job: Job, folder: Path, device: str) -> Callable[[Task], Outcome]:
    """Loads the model, once for each worker; the function that makes a shard."""
    torch.set_flush_denormal(True)  # as the command does: near-silence is many times as slow without
    codec = load(job.model, device=device)
    pool = reader_pool(codec.space)

    def work(task: Task) -> Outcome:
        try:
            return make_shard(job, folder, codec, pool, task)
        except (CodecError, ValueError, OSError) as error:  # crosses to whoever gave the task
            return error

    return work


@contextmanager
def _one_thread() -> Iterator[None]:
    """Has torch use one thread, as in the worker processes: with more, blocks as small as ours gain little."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _checked(outcome: Outcome) -> ShardDone:
    """A shard that was made; an error is raised here."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _default_jobs(device: str) -> int:
    """A process for each core; on a GPU a few, each with another that reads."""
    if device != "cpu" and torch.cuda.is_available():
        return max(1, min(GPU_JOBS, n_cores() // 2))
    return n_cores()


def _ray() -> Any:
    """Ray with its Data part. Raises CodecError where it is missing."""
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise CodecError("--engine ray needs Ray: pip install 'audiocodec[ray]'") from error
    return ray
