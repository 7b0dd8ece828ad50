"""Laws of `recode`: the same codes in the other form, byte for byte what the encoder writes."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bitstream_cases import Pipe, featured_groups, featured_headers, make_header, write_groups, write_stream
from cli_cases import contents, run, write_audio
from entropy_cases import Arrays, tiny_arrays, tiny_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec import tools
from audiocodec.bitstream import EntropyTables, Header, Reader, drop, info, layout, recode
from audiocodec.bitstream.entropy import save_tables
from audiocodec.bitstream.header import pack_header
from audiocodec.bitstream.table import TableBuilder
from audiocodec.bitstream.writer import pack_end
from audiocodec.codec import Codec, load
from audiocodec.decoding import decode_file
from audiocodec.encoding import encode_file
from audiocodec.errors import ModelError
from audiocodec.model.catalogue import TABLES

SIZES = (64,) * 4  # those of the tiny model


def recoded(data: bytes, tables: EntropyTables | None, *, raw: bool = False) -> bytes:
    file = io.BytesIO()
    recode(Pipe(data, 50), file, lambda _: tables, raw=raw)
    return file.getvalue()


# Streams


@given(featured_headers(), st.integers(0, 45), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_recoding_gives_the_bytes_of_writing_in_that_form(
    case: tuple[Header, EntropyTables | None], n_frames: int, seed: int
) -> None:
    header, tables = case
    tables = tables or tiny_tables(header.space.codebook_sizes)
    groups = featured_groups(header, tables, n_frames, seed)
    coded = write_groups(replace(header, entropy_id=tables.id), groups, tables=tables)
    raw = write_groups(replace(header, entropy_id=None), groups)
    assert recoded(coded, tables, raw=True) == recoded(raw, None, raw=True) == raw
    assert recoded(raw, tables) == recoded(coded, tables) == coded


def test_dropping_and_recoding_are_exchangeable() -> None:
    tables = tiny_tables((16, 5, 64))
    header = make_header((16, 5, 64), channels=2, variable=True)
    raw = write_groups(header, featured_groups(header, tables, 50))
    one, other = io.BytesIO(), io.BytesIO()
    drop(io.BytesIO(recoded(raw, tables)), one, 2)
    drop(io.BytesIO(raw), other, 2)
    assert one.getvalue() == recoded(other.getvalue(), tables)


def test_chunks_stay_where_they_are() -> None:
    tables = tiny_tables((16, 5))
    header = make_header((16, 5))
    data = write_stream(header, 16)
    first = len(pack_header(header))
    chunk = layout.with_crc(layout.pack_head(layout.CHUNK, kind=b"XTRA", payload_bytes=4), b"some")
    builder = TableBuilder()
    group_bytes = header.payload_bytes(8) + 8
    for n_bytes in (len(chunk) + group_bytes, group_bytes):
        builder.add(n_bytes)
    whole = data[:first] + chunk + data[first : first + 2 * group_bytes] + pack_end(builder.table(), 4160)
    coded = recoded(whole, tables)
    assert recoded(coded, tables, raw=True) == whole
    seen: list[bytes] = []
    reader = Reader(io.BytesIO(coded), tables=tables, on_chunk=lambda kind, payload: seen.append(payload))
    assert len(list(reader)) == 2
    assert seen == [b"some"]


def test_tables_that_are_missing_or_others_are_named() -> None:
    tables, others = tiny_tables((16, 5)), tiny_tables((16, 5), seed=1)
    header = make_header((16, 5))
    raw = write_groups(header, featured_groups(header, tables, 40))
    with pytest.raises(ModelError, match="no tables of the entropy coder for model 'demo-24khz'"):
        recoded(raw, None)
    with pytest.raises(ModelError, match="not for codebooks of"):
        recoded(raw, tiny_tables((16, 7)))
    coded = recoded(raw, tables)
    assert any(group.sections.any_coded for group in Reader(io.BytesIO(coded), unpack=False))
    for raw_form in (False, True):
        with pytest.raises(ModelError, match="which are not here"):
            recoded(coded, None, raw=raw_form)
    with pytest.raises(ModelError, match=f"{tables.id.hex()}.*these are {others.id.hex()}"):
        recoded(coded, others)


# Files


def noise_arrays(codec: Codec) -> Arrays:
    """Tables that know how often the tiny model has each code for noise, and nothing else."""
    noise = 0.1 * np.random.default_rng(5).standard_normal(24000 * 5)
    codes = codec.encode(noise.astype(np.float32), 24000).values[0]
    arrays = tiny_arrays(SIZES)
    for level, row in enumerate(codes):
        share = (np.bincount(row, minlength=64) + 0.5) / len(row)
        arrays |= {
            f"{name}_{level}": 0 * arrays[f"{name}_{level}"] for name in ("context", "hidden", "output")
        }
        arrays[f"output_bias_{level}"] = np.round(16 * 256 * np.log2(share)).astype(np.int32)
    return arrays


@pytest.fixture
def with_tables(
    tiny_model_dir: Path, tiny_codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder to stand in, where the tiny model is shipped and has tables; the model's folder."""
    from audiocodec.model import catalogue

    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    for path in tiny_model_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    save_tables(folder / TABLES, noise_arrays(tiny_codec))
    monkeypatch.setattr(catalogue, "SHIPPED", folder.parent)
    monkeypatch.chdir(tmp_path)
    return folder


def test_encoding_uses_the_tables_of_the_model(with_tables: Path) -> None:
    write_audio(Path("in.wav"), channels=2)
    codec = load("tiny")
    assert codec.tables is not None
    seen = encode_file("in.wav", "coded.rq", n_q=3, model=codec)
    assert seen.header.entropy_id == codec.tables.id
    assert seen == tools.info("coded.rq")
    assert seen.saving is not None and seen.saving > 0.03
    encode_file("in.wav", "raw.rq", n_q=3, model=Codec(codec.model))
    encode_file("in.wav", "live.rq", n_q=3, model=codec, live=True)
    assert tools.info("raw.rq").header.entropy_id is None
    assert tools.info("live.rq").header.entropy_id is None
    tools.recode_file("coded.rq", "to-raw.rq", raw=True)
    tools.recode_file("raw.rq", "to-coded.rq")
    assert Path("to-raw.rq").read_bytes() == Path("raw.rq").read_bytes()
    assert Path("to-coded.rq").read_bytes() == Path("coded.rq").read_bytes()
    assert np.array_equal(decode_file("coded.rq", n_q=2)[0], decode_file("raw.rq", n_q=2)[0])
    assert np.array_equal(
        decode_file("coded.rq", start_seconds=2.2)[0], decode_file("raw.rq", start_seconds=2.2)[0]
    )
    tools.recode_file("to-raw.rq", "to-raw.rq", overwrite=True)
    assert Path("to-raw.rq").read_bytes() == Path("coded.rq").read_bytes()
    assert tools.verify_file("coded.rq") == []


def test_a_model_with_other_tables_is_refused_before_anything_is_written(with_tables: Path) -> None:
    write_audio(Path("in.wav"))
    assert run("encode", "in.wav", "a.rq", "-m", "tiny").code == 0
    save_tables(with_tables / TABLES, tiny_arrays(SIZES, seed=1))
    result = run("decode", "a.rq", "b.wav")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "these are" in result.lines[0]
    (with_tables / TABLES).unlink()
    result = run("decode", "a.rq", "b.wav")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "which are not here" in result.lines[0]
    assert not Path("b.wav").exists()
    assert run("verify", "a.rq").code == 0
    assert run("drop", "a.rq", "c.rq", "-n", 1).code == 0


# The command


def test_the_command_recodes_files_folders_and_pipes(with_tables: Path) -> None:
    for name in ("in/a.wav", "in/deep/b.wav"):
        write_audio(Path(name))
    assert run("encode", "in", "-o", "coded", "-m", "tiny").code == 0
    result = run("recode", "coded", "-o", "raw", "--raw")
    assert (result.code, result.out, len(result.lines)) == (0, b"", 2)
    assert run("recode", "raw", "-o", "again").code == 0
    assert contents(Path("again")) == contents(Path("coded"))
    raw = Path("raw/a.rq").read_bytes()
    assert run("recode", "-", "-", stdin=raw).out == Path("coded/a.rq").read_bytes()
    assert run("recode", "raw/a.rq", "c.rq", "-m", with_tables, "-q").lines == []
    assert Path("c.rq").read_bytes() == Path("coded/a.rq").read_bytes()


def test_the_command_refuses_in_one_line_and_leaves_everything(
    with_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_audio(Path("in.wav"))
    assert run("encode", "in.wav", "a.rq", "-m", "tiny").code == 0
    (with_tables / TABLES).rename("tables.npz")
    Path("raw.rq").write_bytes(recoded(Path("a.rq").read_bytes(), load_tiny("tables.npz"), raw=True))
    Path("cut.rq").write_bytes(Path("a.rq").read_bytes()[:-9])
    before = contents(Path())
    for words, code, message in [
        (("raw.rq", "b.rq"), 1, "raw.rq: there are no tables of the entropy coder for model 'tiny'"),
        (("a.rq", "b.rq", "--raw"), 1, "which are not here"),
        (("cut.rq", "b.rq"), 1, "which are not here"),
        (("a.rq",), 2, "give the name of the output"),
        (("a.rq", "raw.rq"), 1, "raw.rq exists: use -f"),
        (("a.rq", "b.wav"), 2, "no output name"),
        (("none.rq", "b.rq"), 1, "none.rq does not exist"),
        (("in.wav", "b.rq"), 1, "not an .rq file"),
        (("a.rq", "b.rq", "-m", "nothing"), 1, "nothing: no such model"),
    ]:
        result = run("recode", *words)
        assert (result.code, len(result.lines)) == (code, 1), words
        assert message in result.lines[0]
        assert contents(Path()) == before
    Path("tables.npz").rename(with_tables / TABLES)
    assert "cut.rq" in run("recode", "cut.rq", "b.rq").lines[0]
    assert not Path("b.rq").exists()


def load_tiny(path: str) -> EntropyTables:
    from audiocodec.bitstream.entropy import load_tables

    return load_tables(Path(path))


def test_tables_of_another_model_are_refused(with_tables: Path) -> None:
    import torch

    from audiocodec.model.codec import CodecModel
    from audiocodec.model.store import load_model, save_model

    write_audio(Path("in.wav"))
    assert run("encode", "in.wav", "a.rq", "-m", "tiny").code == 0
    torch.manual_seed(1)
    save_model(CodecModel(load_model(with_tables).config), Path("other"), "other")
    result = run("recode", "a.rq", "b.rq", "--raw", "-m", "other")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "other is another" in result.lines[0]


def test_info_shows_the_saving_and_draws_the_rate(with_tables: Path) -> None:
    soundfile.write("in.wav", 0.1 * np.random.default_rng(0).standard_normal(24000 * 24), 24000)
    assert run("encode", "in.wav", "a.rq", "-m", "tiny").code == 0
    text = run("info", "a.rq").out.decode()
    assert "kbps; entropy coding saves" in text
    assert "of 1.80 kbps of raw codes" in text
    assert "over time" in text
    facts = run("info", "a.rq", "--json").objects[0]
    assert (facts["entropy_coded"], facts["variable"]) == (True, False)
    assert sum(seconds for seconds, _ in facts["kbps_over_time"]) == pytest.approx(facts["n_frames"] / 75)
    with Path("a.rq").open("rb") as file:
        assert facts["saving"] == pytest.approx(info(file).saving, abs=1e-4)
    tables = tiny_tables((64, 64))
    header = make_header((64, 64), frames_per_group=75, tables=tables, variable=True)
    Path("v.rq").write_bytes(write_groups(header, featured_groups(header, tables, 750), tables=tables))
    assert "kbps; variable rate and entropy coding save" in run("info", "v.rq").out.decode()
    assert run("info", "v.rq", "--json").objects[0]["variable"] is True
    assert run("info", "a.rq", "--plot", "a.png").code == 0
    assert Path("a.png").read_bytes()[:4] == b"\x89PNG"
    assert "a.png exists" in run("info", "a.rq", "--plot", "a.png").lines[0]
    assert run("info", "a.rq", "a.rq", "--plot", "b.png").code == 2


def test_shards_of_rq_files_are_those_of_encoding_and_can_be_read(with_tables: Path) -> None:
    from audiocodec.corpus import iter_codes, tokenize

    audio = write_audio(Path("audio/in.wav"))
    tokenize([audio.parent], "shipped", model="tiny", kind="rq", n_jobs=1)
    encode_file(audio, "in.rq", n_q=4, model="tiny")
    (shard,) = Path("shipped").glob("shard-*/*.rq")
    assert shard.read_bytes() == Path("in.rq").read_bytes()
    (item,) = iter_codes("shipped")
    assert np.array_equal(
        item.codes.values, load("tiny").encode(*soundfile.read(audio, dtype="float32")).values
    )
    with_tables.rename("elsewhere")  # a model that is not shipped: whoever reads the shards may not have it
    tokenize([audio.parent], "own", model="elsewhere", kind="rq", n_jobs=1)
    (own,) = iter_codes("own")
    assert np.array_equal(own.codes.values, item.codes.values)
