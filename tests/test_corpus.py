"""A corpus to shards: what is listed and read, what the shards hold, and what happens to what cannot be read."""

import io
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import soundfile
from corpus_cases import killed, sound, wav_bytes, write_corpus, write_tar
from hub_models import FAMILIES

from audiocodec import encode_file
from audiocodec.audio import AudioReader
from audiocodec.bitstream import Reader
from audiocodec.codec import Codec, load
from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.corpus import Tokenised, iter_codes, read_shard, tokenize
from audiocodec.corpus import reading as reading_module
from audiocodec.corpus.coding import code_items
from audiocodec.corpus.items import rq_bytes
from audiocodec.corpus.listing import Item, list_items
from audiocodec.corpus.reading import Failure, Recording, read_ahead, read_item, reader_pool
from audiocodec.corpus.shards import write_shard
from audiocodec.errors import CodecError, FormatError
from audiocodec.pool import Pool

RATE = 24000
SPACE = CodeSpace(bytes(16), "demo", RATE, 320, 960, (64,), (1,))


def names(items: list[Item]) -> list[str]:
    return [Path(item.name).name for item in items]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def coded(codec: Codec, items: list[Item], n_q: int = 4) -> list[Codes | Failure]:
    with reader_pool(codec.space) as pool:
        read = read_ahead(pool, items, codec.space)
        return [codes for _, codes, _ in code_items(codec, read, n_q)]


def same(first: Codes | Failure, second: Codes) -> bool:
    assert isinstance(first, Codes), first
    levels = zip(first.levels, second.levels, strict=True)
    facts = [(c.n_samples, c.n_frames, c.source, c.space.id) for c in (first, second)]
    return facts[0] == facts[1] and all(np.array_equal(*pair) for pair in levels)


def test_folders_and_globs_are_listed_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.FLAC", "a.mp3", ".hidden.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(list_items([str(tmp_path)])) == ["a.mp3", "1.FLAC", "2.wav"]
    assert names(list_items([str(tmp_path / "**" / "*.wav"), str(tmp_path / "a.mp3")])) == ["2.wav", "a.mp3"]


def test_a_tar_gives_each_recording_with_what_stands_beside_it(tmp_path: Path) -> None:
    audio = sound(3000)
    members = {
        "x/1.wav": wav_bytes(audio),
        "x/1.txt": b"hello\n",
        "x/1.json": b'{"speaker": 7}',
        "2.cls": b"1",
    }
    (item,) = list_items([str(write_tar(tmp_path / "in.tar", members))])
    assert item.name.endswith("in.tar/x/1.wav") and item.meta == {"txt": "hello", "json": {"speaker": 7}}
    found = read_item(item, SPACE)
    assert isinstance(found, Recording) and found.lanes is not None
    np.testing.assert_array_equal(found.lanes, audio.T[:, None])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_manifest_names_stretches_of_recordings(tiny_codec: Codec, tmp_path: Path, suffix: str) -> None:
    audio = sound(3 * RATE, 2)
    soundfile.write(tmp_path / "in.flac", audio, RATE)
    lines = {
        ".jsonl": '{"path": "in.flac"}\n\n{"path": "in.flac", "start": 1.25, "duration": 0.5, "text": "hi"}\n',
        ".csv": "path,start,duration,text\nin.flac,,,\nin.flac,1.25,0.5,hi\n",
    }
    (tmp_path / f"list{suffix}").write_text(lines[suffix])
    items = list_items([str(tmp_path / f"list{suffix}")])
    assert [item.meta.get("text") for item in items] == [None if suffix == ".jsonl" else "", "hi"]
    whole, part = coded(tiny_codec, items)
    assert same(whole, tiny_codec.encode(audio, RATE))
    assert same(part, tiny_codec.encode(audio[30000:42000], RATE))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])  # libsndfile's seeking in MP3 is not exact
def test_skipping_is_as_reading_and_throwing_away(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / f"in{suffix}", sound(90000), RATE)
    with AudioReader(tmp_path / f"in{suffix}") as reader:
        whole = np.concatenate(list(reader.blocks(4096)))
    with AudioReader(tmp_path / f"in{suffix}") as reader:
        reader.skip(50001)
        np.testing.assert_allclose(np.concatenate(list(reader.blocks(4096))), whole[50001:], atol=1e-6)
    with AudioReader(tmp_path / f"in{suffix}") as reader:
        reader.skip(99999)
        assert list(reader.blocks(4096)) == []


def test_urls_are_inputs_too(tiny_codec: Codec, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    audio = [sound(5000, seed=seed) for seed in range(3)]
    archive = write_tar(tmp_path / "in.tar", {"c.wav": wav_bytes(audio[2])})
    files.pipe("/bucket/a.wav", wav_bytes(audio[0]))
    files.pipe("/bucket/deep/b.wav", wav_bytes(audio[1]))
    files.pipe("/bucket/z.tar", archive.read_bytes())
    files.pipe("/list.jsonl", b'{"path": "memory://bucket/a.wav"}\n{"path": "bucket/deep/b.wav"}')
    for inputs in (["memory://bucket"], ["memory://list.jsonl", f"file://{archive}"]):
        found = [read_item(item, SPACE) for item in list_items(inputs)]
        for recording, samples in zip(found, audio, strict=True):
            assert isinstance(recording, Recording) and recording.lanes is not None, recording
            np.testing.assert_array_equal(recording.lanes, samples.T[:, None])
    assert len(list_items(["memory://bucket/**/*.wav"])) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.jsonl", '{"path": "a.wav"}\n{"file": "b.wav"}', "line 2: no `path`"),
        ("list.jsonl", '{"path": "a.wav", "start": -1}', "line 1: start is -1; expected 0 or more seconds"),
        ("list.jsonl", '{"path": "a.wav", "duration": "long"}', "duration is 'long'"),
        ("list.jsonl", "path\n", "line 1: not JSON"),
        ("list.jsonl", "[1]", "expected a JSON object"),
        ("list.csv", "file,start\na.wav,1", "line 2: no `path`"),
        ("list.csv", "path\n", "no audio in it"),
        ("in.tar", "this is no archive", "cannot be read as a .tar archive"),
    ],
)
def test_inputs_that_are_not_as_they_should_be_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CodecError, match=message):
        list_items([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("empty", "no audio in it"),
        ("*.wav", "no audio in it"),
        ("memory://nowhere/x", "no such file or folder"),
        ("nothing://x", "expected a path, or a URL"),
    ],
)
def test_inputs_that_are_not_there_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CodecError, match=message):
        list_items([name])


def test_every_item_gets_the_codes_that_it_gets_alone(tiny_codec: Codec, tmp_path: Path) -> None:
    items = list_items([str(write_corpus(tmp_path / "in", 24))])
    for item, codes in zip(items, coded(tiny_codec, items, n_q=3), strict=True):
        audio, rate = soundfile.read(item.url, dtype="float32", always_2d=True)
        assert same(codes, tiny_codec.encode(audio, rate, n_q=3)), item.name


@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_does_from_models_of_other_projects(tmp_path: Path, family: str) -> None:
    """With few channels, as in these, to the bit; some look ahead, and of snac the levels differ in frame rate."""
    pytest.importorskip("transformers", reason="the extra `hub` is not installed")
    pytest.importorskip("snac", reason="the extra `hub` is not installed")
    FAMILIES[family].save(FAMILIES[family].make(), tmp_path / "model")
    codec = load(tmp_path / "model", device="cpu")
    items = list_items([str(write_corpus(tmp_path / "in", 8, seconds=1.0))])
    for item, codes in zip(items, coded(codec, items, codec.space.n_q), strict=True):
        audio, rate = soundfile.read(item.url, dtype="float32", always_2d=True)
        assert same(codes, codec.encode(audio, rate)), item.name


def test_a_long_recording_is_coded_as_it_is_read(tiny_codec: Codec, tmp_path: Path) -> None:
    audio = sound(40 * 8000, 2)
    soundfile.write(tmp_path / "long.wav", audio, 8000)
    item = Item("long.wav", str(tmp_path / "long.wav"))
    found = read_item(item, SPACE)
    assert isinstance(found, Recording) and found.lanes is None
    (codes,) = coded(tiny_codec, [item])
    assert same(codes, tiny_codec.encode(audio, 8000))


def test_what_cannot_be_read_is_a_row_and_costs_no_other_item(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "in", 2)
    (folder / "1-bytes.wav").write_bytes(b"junk" * 100)
    (folder / "2-zero-bytes.flac").touch()
    soundfile.write(folder / "3-no-samples.wav", sound(0), RATE)
    soundfile.write(folder / "4-channels.wav", sound(100, 3), RATE)
    soundfile.write(folder / "5-nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    write_tar(folder / "6.tar", {"junk.wav": b"junk" * 100})
    (tmp_path / "list.jsonl").write_text('{"path": "gone.wav"}\n{"path": "in/000.wav", "start": 9}')
    inputs, model = [folder, tmp_path / "list.jsonl"], tiny_model_dir
    summary = tokenize(inputs, tmp_path / "out", model=model, n_jobs=1, shard_items=4)
    found = rows(tmp_path / "out")
    assert (summary.n_items, summary.n_failed) == (10, 8)
    assert [row["index"] for row in found] == list(range(10))
    assert [row["index"] for row in found if row["error"] is None] == [0, 1]
    expected = (
        "not audio",
        "0 bytes",
        "no samples",
        "3 channels",
        "not a number",
        "not audio",
        "not exist",
        "from 9 s on",
    )
    for row, message in zip(found[2:], expected, strict=True):
        assert message in row["error"] and str(tmp_path) not in row["error"].replace(row["source"], "")
    assert [item.key for item in iter_codes(tmp_path / "out")] == ["000000000", "000000001"]
    tokenize(inputs, tmp_path / "again", model=model, n_jobs=1, shard_items=4)
    assert rows(tmp_path / "again") == found


@pytest.mark.skipif(os.name == "nt", reason="kills processes by a signal that Windows lacks")
def test_a_recording_that_kills_its_reader_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list_items([str(write_corpus(tmp_path / "in", 3))])
    with Pool(1, killed) as pool:
        assert all(isinstance(found, Recording) for _, found in read_ahead(pool, items, SPACE))
    monkeypatch.setattr(reading_module, "reader_pool", lambda _: Pool(1, killed))
    with Pool(1, killed) as pool:
        (_, found), *_ = read_ahead(pool, items[:1], SPACE)
    assert found == Failure("the worker process was killed by SIGKILL while it was read")


def some_items(frames_per_code: tuple[int, ...] = (1, 1), lane_channels: int = 1) -> list[Tokenised]:
    """Items of a shard, mono and stereo, with all that can be known of them."""
    space = CodeSpace(
        bytes(range(16)), "demo", 24000, 320, 960, (64, 1000), frames_per_code, lane_channels=lane_channels
    )
    generator = np.random.default_rng(0)
    items = []
    for number, (channels, n_frames) in enumerate([(1, 7), (2, 300), (1, 1)]):
        levels = tuple(
            generator.integers(0, size, (space.n_lanes(channels), -(-n_frames // span))).astype(np.int16)
            for size, span in zip(space.codebook_sizes, space.frames_per_code, strict=True)
        )
        codes = Codes(space, Source(44100, channels), n_frames, levels, 500 * n_frames)
        info = (
            {"source": f"{number}.wav", "meta": {"text": "ÄÖ", "n": number}}
            if number
            else {"source": "0.wav"}
        )
        items.append(Tokenised(f"{number:09d}", codes, info, {"title": "Hello"} if number else {}))
    return items


@pytest.mark.parametrize(("frames_per_code", "lane_channels"), [((1, 1), 1), ((2, 1), 1), ((1, 1), 2)])
@pytest.mark.parametrize("kind", ["tar", "parquet", "rq"])
def test_shards_give_back_what_was_written(
    tmp_path: Path, kind: str, frames_per_code: tuple[int, ...], lane_channels: int
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `corpus` is not installed")
    items = some_items(frames_per_code, lane_channels)
    path = tmp_path / (f"shard.{kind}" if kind != "rq" else "shard")
    if kind == "rq":
        path.mkdir()
    write_shard(path, kind, items)
    for written, found in zip(items, read_shard(path), strict=True):
        assert found.key == written.key and same(found.codes, written.codes)
        assert found.codes.space == written.codes.space
        if kind == "rq":
            assert found.tags == written.tags
        else:
            assert found.info == written.info
    assert [item.key for item in read_shard(path, start=1, step=2)] == ["000000001"]


def test_tar_shards_are_what_webdataset_reads(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    items = some_items()
    write_shard(tmp_path / "shard.tar", "tar", items)
    samples = list(webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False).decode())
    for sample, item in zip(samples, items, strict=True):
        assert sample["__key__"] == item.key and sample["json"]["source"] == item.info["source"]
        assert sample["npy"].dtype == np.int16 and np.array_equal(sample["npy"], item.codes.values)


def test_parquet_shards_are_what_datasets_reads(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    items = some_items()
    write_shard(tmp_path / "shard.parquet", "parquet", items)
    found = datasets.Dataset.from_parquet(str(tmp_path / "shard.parquet"), cache_dir=str(tmp_path / "cache"))
    for row, item in zip(found, items, strict=True):
        assert np.array_equal(np.array(row["codes"]), item.codes.values)
        assert row["source"] == item.info["source"]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_damaged_shards_are_refused(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `corpus` is not installed")
    path = tmp_path / f"shard.{kind}"
    write_shard(path, kind, some_items())
    path.write_bytes(path.read_bytes()[:-9000] if kind == "tar" else path.read_bytes()[:-9])
    with pytest.raises(FormatError, match="expected what codec tokenize wrote"):
        list(read_shard(path))


def test_codes_beyond_their_codebook_are_refused(tmp_path: Path) -> None:
    (item, *_) = some_items()
    item.codes.levels[0][0, 3] = 64
    write_shard(tmp_path / "shard.tar", "tar", [item])
    with pytest.raises(FormatError, match="beyond its codebook of 64"):
        list(read_shard(tmp_path / "shard.tar"))


def test_rq_files_are_those_that_encode_writes(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "in", 5, seconds=3)
    with soundfile.SoundFile(folder / "tagged.flac", "w", 24000, 1) as file:
        file.title, file.comment = "Hello", "long " * 2000
        file.write(sound(30000))
    tokenize([folder], tmp_path / "out", model=tiny_model_dir, kind="rq", n_q=3, n_jobs=1, shard_items=4)
    for row in rows(tmp_path / "out"):
        encode_file(row["source"], tmp_path / "one.rq", n_q=3, model=tiny_model_dir, overwrite=True)
        written = tmp_path / "out" / row["shard"] / f"{row['key']}.rq"
        assert written.read_bytes() == (tmp_path / "one.rq").read_bytes()


def test_items_leave_out_the_tags_that_files_leave_out(
    tiny_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiocodec.encoding.MAX_TAG_BYTES", 5)
    tags = {"title": "short", "comment": "longer"}
    item = Tokenised("000000000", tiny_codec.encode(sound(2400), RATE), {}, tags)
    assert Reader(io.BytesIO(rq_bytes(item))).header.tags == {"title": "short"}
