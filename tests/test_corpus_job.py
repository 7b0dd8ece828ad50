"""Jobs that are stopped, workers that are killed, disks that are full; and the data set of what comes out."""

import doctest
import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import contents, run
from corpus_cases import sound, write_corpus
from torch.utils.data import DataLoader

from audiocodec.codec import Codec
from audiocodec.corpus import Tokenised, iter_codes, read_shard, tokenize, work
from audiocodec.corpus.shards import shard_name
from audiocodec.corpus.work import ShardDone
from audiocodec.errors import AudioError, CodecError
from audiocodec.model import catalogue
from audiocodec.model.store import save_model

N_ITEMS, SHARD_ITEMS = 40, 4
posix_only = pytest.mark.skipif(os.name == "nt", reason="kills processes by a signal that Windows lacks")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clips, one of which is none."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus") / "in", N_ITEMS)
    (folder / "007.wav").write_bytes(b"junk" * 100)
    return folder


@pytest.fixture(scope="module")
def clean(corpus: Path, tiny_model_dir: Path) -> dict[str, bytes | None]:
    """What one run leaves that nothing stops."""
    folder = corpus.parent / "clean"
    tokenize([corpus], folder, model=tiny_model_dir, n_jobs=1, shard_items=SHARD_ITEMS)
    return contents(folder)


def keys(items: Iterable[Tokenised]) -> list[int]:
    return sorted(int(item.key) for item in items)


def test_a_stopped_job_goes_on_where_it_was(
    corpus: Path, clean: dict[str, bytes | None], tiny_model_dir: Path, tmp_path: Path
) -> None:
    numbers = []

    def stop_at_the_third(done: ShardDone, n_to_do: int) -> None:
        numbers.append(done.number)
        if len(numbers) == 3:
            raise KeyboardInterrupt

    def go() -> None:
        tokenize(
            [corpus],
            tmp_path / "out",
            model=tiny_model_dir,
            n_jobs=1,
            shard_items=SHARD_ITEMS,
            progress=stop_at_the_third,
        )

    with pytest.raises(KeyboardInterrupt):
        go()
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    go()
    assert numbers == list(range(N_ITEMS // SHARD_ITEMS))
    assert contents(tmp_path / "out") == clean


@posix_only
def test_a_killed_job_leaves_whole_shards_and_goes_on(
    corpus: Path, clean: dict[str, bytes | None], tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    words = ("tokenize", "-q", str(corpus), "-o", str(folder), "-m", str(tiny_model_dir))
    words += ("--shard-items", str(SHARD_ITEMS), "--jobs", "2")
    process = subprocess.Popen([sys.executable, "-m", "audiocodec", *words], start_new_session=True)
    while not list(folder.glob("manifest/*")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    found = contents(folder)
    assert "manifest.jsonl" not in found, "it was stopped too late to tell anything"
    for name, data in found.items():
        assert Path(name).name.startswith(".codec-") or data == clean[name], name
    assert run(*words).code == 1  # for the item that is no audio
    assert contents(folder) == clean


def test_a_killed_worker_costs_nothing(
    corpus: Path, clean: dict[str, bytes | None], tiny_model_dir: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(done: ShardDone, n_to_do: int) -> None:
        if not killed:
            (victim,) = multiprocessing.active_children()
            killed.append(victim.pid or 0)
            victim.kill()

    # one, for a second may not have started yet: that is another error
    tokenize(
        [corpus], tmp_path / "out", model=tiny_model_dir, n_jobs=1, shard_items=SHARD_ITEMS, progress=kill_one
    )
    assert killed
    assert contents(tmp_path / "out") == clean


def ray_workers() -> list[int]:
    """Processes of Ray's actors that descend from this one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return [
        pid
        for pid, name in names.items()
        if name.startswith(b"ray::") and b"ShardMaker" in name and is_ours(pid)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's workers in /proc")
def test_ray_makes_the_same_shards_though_a_worker_is_killed(
    corpus: Path,
    clean: dict[str, bytes | None],
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    killed: list[int] = []

    def kill_one(done: ShardDone, n_to_do: int) -> None:
        if not killed:
            killed.append(ray_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        tokenize(
            [corpus],
            tmp_path / "out",
            model=tiny_model_dir,
            n_jobs=2,
            shard_items=SHARD_ITEMS,
            engine="ray",
            progress=kill_one,
        )
    finally:
        ray.shutdown()
    assert killed
    assert contents(tmp_path / "out") == clean


def test_a_folder_of_another_job_is_refused(corpus: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    def go(folder: Path, n_q: int = 2, shard_items: int = 50) -> None:
        tokenize([corpus], folder, model=tiny_model_dir, n_q=n_q, n_jobs=1, shard_items=shard_items)

    go(tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(CodecError, match="n_q 2, now 3"):
        go(tmp_path / "out", n_q=3)
    with pytest.raises(CodecError, match="shard_items 50, now 25"):
        go(tmp_path / "out", shard_items=25)
    (corpus / "new.wav").touch()
    with pytest.raises(CodecError, match="n_items 40, now 41"):
        go(tmp_path / "out")
    (corpus / "new.wav").unlink()
    go(tmp_path / "out")
    assert contents(tmp_path / "out") == before
    with pytest.raises(CodecError, match="is not empty, and no earlier job's"):
        go(corpus)


def test_a_full_disk_leaves_no_half_shard(
    corpus: Path,
    clean: dict[str, bytes | None],
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = work.write_shard

    def full_at_the_second(path: Path, kind: str, items: Iterator[Tokenised]) -> None:
        whole(path, kind, items)
        if (tmp_path / "out" / "shard-000000.tar").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(work, "write_shard", full_at_the_second)
        with pytest.raises(AudioError, match="the disk is full"):
            tokenize([corpus], tmp_path / "out", model=tiny_model_dir, n_jobs=1, shard_items=SHARD_ITEMS)
    assert set(contents(tmp_path / "out")) == {
        "job.json",
        "manifest",
        "manifest/000000.jsonl",
        "shard-000000.tar",
    }
    tokenize([corpus], tmp_path / "out", model=tiny_model_dir, n_jobs=1, shard_items=SHARD_ITEMS)
    assert contents(tmp_path / "out") == clean


@pytest.mark.parametrize(
    "arguments", [{"kind": "zip"}, {"engine": "abacus"}, {"shard_items": 0}, {"n_jobs": 0}, {"n_q": 9}]
)
def test_arguments_that_cannot_be_are_refused(
    corpus: Path, tiny_model_dir: Path, tmp_path: Path, arguments: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        tokenize([corpus], tmp_path / "out", model=tiny_model_dir, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("world_size", [1, 3, 20])  # 20: more than there are shards
@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("seed", [None, 5])
def test_processes_and_workers_share_out_all_items(
    corpus: Path, world_size: int, n_workers: int, seed: int | None
) -> None:
    if world_size == 20 and n_workers:
        world_size = 7  # fourteen workers are more than shards, too, and start sooner
    found = []
    for rank in range(world_size):
        data = iter_codes(corpus.parent / "clean", seed=seed, rank=rank, world_size=world_size)
        found += [int(item.key) for item in DataLoader(data, batch_size=None, num_workers=n_workers)]
    everything = [number for number in range(N_ITEMS) if number != 7]
    assert sorted(found) == everything
    assert (found == everything) == (seed is None and world_size == 1 and n_workers == 0)


@pytest.mark.usefixtures("clean")
def test_processes_of_torch_distributed_are_known(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"is_initialized": True, "get_rank": 1, "get_world_size": 3}
    for name, value in facts.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    found = iter_codes(corpus.parent / "clean")
    assert (found.rank, found.world_size) == (1, 3)
    assert keys(found) == keys(iter_codes(corpus.parent / "clean", rank=1, world_size=3)) != []


@pytest.mark.usefixtures("clean")
def test_a_seed_mixes_and_repeats_itself(corpus: Path) -> None:
    first, again, other = (
        [item.key for item in iter_codes(corpus.parent / "clean", seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other and sorted(first) == sorted(other)


@pytest.mark.usefixtures("clean")
def test_the_first_levels_of_items_are_to_be_had(corpus: Path) -> None:
    shard = corpus.parent / "clean" / "shard-000002.tar"
    for item, whole in zip(iter_codes(shard, n_q=2), read_shard(shard), strict=True):
        assert np.array_equal(item.codes.values, whole.codes.values[:, :2])
    with pytest.raises(ValueError, match="5 levels asked for, item 000000008 has 4"):
        list(iter_codes(shard, n_q=5))
    with pytest.raises(CodecError, match="no such shard or folder"):
        iter_codes(corpus / "nowhere")
    with pytest.raises(CodecError, match="no shards in it"):
        iter_codes(corpus)


@pytest.mark.usefixtures("in_a_folder_of_its_own")
@pytest.mark.parametrize("kind", ["tar", "parquet", "rq"])
def test_one_item_of_a_shard_is_decoded(tiny_model_dir: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `corpus` is not installed")
    shard = f"out/{shard_name(0, kind)}"
    write_corpus(Path("in"), 4)
    model = ("-m", tiny_model_dir)
    done = run("tokenize", "in", "-o", "out", *model, "--jobs", "1", "--levels", "3", "--format", kind)
    assert done.code == 0 and "4 items" in done.lines[-1]
    run("encode", "in/003.wav", "one.rq", *model, "--levels", "3")
    run("decode", "one.rq", "expected.wav", *model)
    assert run("decode", shard, "--index", "3", "found.wav", *model).code == 0
    assert Path("found.wav").read_bytes() == Path("expected.wav").read_bytes()
    assert run("decode", shard, "--index", "3", *model).code == 0
    assert Path("out/shard-000000-3.wav").read_bytes() == Path("expected.wav").read_bytes()
    for words, message in (
        (("--index", "4", "x.wav"), "has 4 items; expected 0 to 3"),
        (("--index", "-1", "x.wav"), "--index -1: expected 0 or more"),
        (("--index", "0", "-o", "x"), "--index takes one shard"),
    ):
        refused = run("decode", shard, *words, *model)
        assert refused.code == 2 and message in refused.lines[-1]


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_an_item_of_a_shard_is_read_once(tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def found(path: str, index: int) -> Tokenised:
        read.append(index)
        return Tokenised("000000000", tiny_codec.encode(sound(2400), 24000), {}, {})

    monkeypatch.setattr("audiocodec.corpus.shards.item_at", found)
    Path("shard.tar").touch()
    assert run("decode", "shard.tar", "--index", "0", "x.wav").code == 0
    assert (soundfile.info("x.wav").frames, read) == (2400, [0])


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_the_command_says_what_failed_and_where_it_stands(tiny_model_dir: Path) -> None:
    write_corpus(Path("in"), 3)
    Path("in/junk.wav").write_bytes(b"junk" * 100)
    Path("list.jsonl").write_text(
        json.dumps({"path": "in/000.wav"}) + "\n" + json.dumps({"path": "in/junk.wav"})
    )
    done = run("tokenize", "list.jsonl", "in", "-o", "out", "-m", tiny_model_dir, "--jobs", "1")
    assert done.code == 1
    assert done.lines[-1] == "codec: 2 items could not be coded: see `error` in out/manifest.jsonl"
    assert run("tokenize", "in", "-o", "out", "-m", tiny_model_dir).lines[-1].startswith("codec: ")
    for words in (("in", "-o", "new", "--jobs", "0"), ("in",), ("in", "-o", "new", "--format", "zip")):
        assert run("tokenize", *words, "-m", tiny_model_dir).code == 2
    assert not Path("new").exists()
    assert run("tokenize", "nowhere", "-o", "new", "-m", tiny_model_dir).code == 1


def test_what_the_document_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_codec: Codec
) -> None:
    """On a tiny model under the default one's name."""
    name = catalogue.DEFAULT_MODEL
    save_model(tiny_codec.model, tmp_path / "models" / name, name)
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / "clips").mkdir(exist_ok=True)
        soundfile.write(f"clips/{number}.wav", sound(24000 * (number + 1)), 24000)
    document = Path(__file__).parent.parent / "docs" / "CORPUS.md"
    (example,) = re.findall(r"^```pycon\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    tested = doctest.DocTestParser().get_doctest(example, {}, "CORPUS.md", str(document), 0)
    assert doctest.DocTestRunner(verbose=False).run(tested) == doctest.TestResults(0, 6)
