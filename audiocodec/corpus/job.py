"""The job: items to shards, what is done already, and the manifest of what became of each item."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audiocodec.codec import load
from audiocodec.corpus.engines import run_local, run_on_ray
from audiocodec.corpus.listing import digest, list_items
from audiocodec.corpus.shards import KINDS
from audiocodec.corpus.work import PARTS, Job, ShardDone, part_path
from audiocodec.errors import CodecError
from audiocodec.model.catalogue import DEFAULT_MODEL
from audiocodec.output import atomic_output

SHARD_ITEMS = 128
JOB, MANIFEST = "job.json", "manifest.jsonl"
ENGINES = ("local", "ray")

Progress = Callable[[ShardDone, int], None]  # a shard that is done, and of how many items in this call


@dataclass(frozen=True, slots=True)
class Summary:
    """What a folder holds: items, how many of them failed, seconds of audio; of these, done by this call."""

    n_items: int
    n_failed: int
    audio_seconds: float
    seconds_done_now: float


def tokenize(
    inputs: Sequence[str | Path],
    folder: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    n_q: int | None = None,
    kind: str = "tar",
    shard_items: int = SHARD_ITEMS,
    engine: str = "local",
    n_jobs: int | None = None,
    device: str = "auto",
    progress: Progress = lambda _shard, _n_to_do: None,
) -> Summary:
    """Codes all items of a corpus into shards; goes on where an earlier call with the same arguments was stopped.

    inputs: folders, files, globs, `.tar` archives, manifests or URLs (`list_items`). n_q: levels, all by default.
    kind: `tar`, `parquet` or `rq`. shard_items: items of a shard. n_jobs: processes that run the model, or Ray's
    workers; by default, as many as there are cores (or GPUs). What cannot be read becomes a row with an `error` in
    `manifest.jsonl`. Raises CodecError for inputs that are not there and for a folder of another job, ModelError,
    ValueError for arguments that cannot be, AudioError when the disk is full.

    >>> import tempfile, numpy, soundfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", numpy.zeros(16000), 16000)
    >>> tokenize([folder / "a.wav"], folder / "codes", n_q=2, n_jobs=1)
    Summary(n_items=1, n_failed=0, audio_seconds=1.0, seconds_done_now=1.0)
    """
    for name, value, known in (("kind", kind, KINDS), ("engine", engine, ENGINES)):
        if value not in known:
            raise ValueError(f"{name} {value!r}: expected one of {', '.join(known)}")
    if shard_items < 1 or (n_jobs is not None and n_jobs < 1):
        raise ValueError(f"{shard_items} items a shard and {n_jobs} jobs: expected 1 or more")
    items = list_items([str(name) for name in inputs])
    space = load(model, device="cpu").space
    n_q = space.first(space.n_q if n_q is None else n_q).n_q
    place = str(Path(model).absolute()) if Path(model).is_dir() else str(model)
    job = Job(place, space.id.hex(), n_q, kind, shard_items, len(items), digest(items))
    folder = Path(folder).absolute()
    _begin(job, folder)
    (folder / PARTS).mkdir(exist_ok=True)
    shards = [items[first : first + shard_items] for first in range(0, len(items), shard_items)]
    todo = [(number, shard) for number, shard in enumerate(shards) if not part_path(folder, number).exists()]
    run = run_local if engine == "local" else run_on_ray
    n_to_do = sum(len(shard) for _, shard in todo)
    seconds_done_now = 0.0
    for done in run(job, folder, todo, n_jobs=n_jobs, device=device):
        seconds_done_now += done.audio_seconds
        progress(done, n_to_do)
    return _finish(folder, len(shards), seconds_done_now)


def _begin(job: Job, folder: Path) -> None:
    """Makes the folder, or sees to it that what is in it is of the same job."""
    if not (folder / JOB).exists():
        if folder.exists() and any(not path.name.startswith(".codec-") for path in folder.iterdir()):
            raise CodecError(f"{folder} is not empty, and no earlier job's: give -o another folder")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder / JOB, overwrite=True) as path:
            path.write_text(json.dumps(asdict(job), indent=1) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CodecError(f"{folder / JOB}: cannot be read ({error}): give -o another folder") from error
    now = asdict(job)
    now.pop("model")  # its code space counts, not where it lies
    other = [
        f"{key} {before.get(key)!r}, now {value!r}" for key, value in now.items() if before.get(key) != value
    ]
    if other:
        raise CodecError(
            f"{folder} holds a job of other inputs or settings ({'; '.join(other)}): give -o another folder, "
            "or remove this one"
        )


def _finish(folder: Path, n_shards: int, seconds_done_now: float) -> Summary:
    """Joins the manifest's parts, and removes what stopped calls left behind."""
    n_items = n_failed = 0
    audio_seconds = 0.0
    with (
        atomic_output(folder / MANIFEST, overwrite=True) as path,
        path.open("w", encoding="utf-8") as manifest,
    ):
        for number in range(n_shards):
            for line in part_path(folder, number).read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                n_items += 1
                n_failed += row["error"] is not None
                audio_seconds += row.get("audio_seconds", 0.0)
                manifest.write(line + "\n")
    for left in [*folder.glob(".codec-*"), *(folder / PARTS).glob(".codec-*")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return Summary(n_items, n_failed, audio_seconds, seconds_done_now)
