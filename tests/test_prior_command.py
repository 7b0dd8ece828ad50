"""`codec generate`: exact lengths, the same bytes for the same seed, one line for what cannot be."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import RATE, contents, run, write_audio
from prior_cases import SPACE_ID, save_random_prior

from audiocodec.cli import app
from audiocodec.cli import generate as generate_verb
from audiocodec.codec import Codec
from audiocodec.decoding import decode_file
from audiocodec.errors import ModelError
from audiocodec.model import catalogue
from audiocodec.model.catalogue import PRIOR
from audiocodec.prior import load_prior
from audiocodec.prior.network import Prior
from audiocodec.prior.store import save_prior
from audiocodec.tools import info


@pytest.fixture(autouse=True)
def the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb is there, whether or not the command has it yet."""
    monkeypatch.setitem(app.VERBS, "generate", generate_verb)


@pytest.fixture(scope="module")
def prior_dir(tmp_path_factory: pytest.TempPathFactory, tiny_codec: Codec) -> Path:
    """Folder of a prior for the tiny model that knows nothing."""
    return save_random_prior(tmp_path_factory.mktemp("priors") / PRIOR, tiny_codec.space)


@pytest.fixture
def shipped(
    in_a_folder_of_its_own: None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model_dir: Path,
    prior_dir: Path,
) -> None:
    """An empty folder; the tiny model stands under the default one's name too, and `prior` names a prior for it."""
    models = tmp_path_factory.mktemp("shipped")
    for name in (catalogue.DEFAULT_MODEL, tiny_model_dir.name):
        (models / name).symlink_to(tiny_model_dir)
    monkeypatch.setattr(catalogue, "SHIPPED", models)
    Path("prior").symlink_to(prior_dir)


@pytest.mark.usefixtures("shipped")
def test_the_command_writes_the_same_bytes_for_the_same_seed() -> None:
    options = ("--prior", "prior", "--seconds", 1.2, "--kind", "music", "--temperature", 0.9, "--top-k", 20)
    for name, seed in (("a.wav", 1), ("b.wav", 1), ("c.wav", 2), ("a.flac", 1), ("a.rq", 1)):
        result = run("generate", name, *options, "--seed", seed)
        assert result.code == 0 and result.lines[0].startswith(f"{name}  0:01.2  24000 Hz"), result.lines
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() != Path("c.wav").read_bytes()
    piped = run("generate", "-", *options, "--seed", 1)
    wav, rate = soundfile.read("a.wav", always_2d=True)
    assert rate == 24000 and wav.shape == (28800, 1)
    assert piped.code == 0 and piped.out[-57600:] == Path("a.wav").read_bytes()[-57600:]
    decoded, _ = decode_file("a.rq")
    np.testing.assert_allclose(decoded, wav, atol=1e-4)
    assert np.array_equal(soundfile.read("a.flac")[0], wav[:, 0])


@pytest.mark.usefixtures("shipped")
def test_the_command_continues_a_prompt() -> None:
    clip = write_audio(Path("clip.wav"), n_samples=RATE, channels=2)
    assert run("generate", "out.wav", "--prior", "prior", "--prompt", clip, "--seconds", 0.5).code == 0
    info = soundfile.info("out.wav")
    assert (info.samplerate, info.channels, info.frames) == (RATE, 1, RATE + RATE // 2)
    piped = run(
        "generate", "-", "--prior", "prior", "--prompt", "-", "--seconds", 0.5, stdin=clip.read_bytes()
    )
    assert piped.code == 0 and piped.out[-1000:] == Path("out.wav").read_bytes()[-1000:]


@pytest.mark.usefixtures("shipped")
def test_a_prior_of_fewer_levels_makes_files_of_as_many(tiny_codec: Codec) -> None:
    save_random_prior(Path("two"), tiny_codec.space.first(2))
    clip = write_audio(Path("clip.wav"))
    assert run("generate", "a.rq", "--prior", "two", "--prompt", clip, "--seconds", 0.5).code == 0
    stream = info("a.rq")
    assert stream.header.space.n_q == 2 and stream.n_samples == 3 * RATE + RATE // 2


@pytest.mark.usefixtures("shipped")
def test_a_model_that_comes_with_a_prior_needs_no_option(
    tiny_model_dir: Path, prior_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path("models/with").absolute()
    shutil.copytree(tiny_model_dir, model)
    shutil.copytree(prior_dir, model / PRIOR)
    assert run("generate", "out.wav", "-m", "models/with", "--seconds", 0.1).code == 0
    monkeypatch.setattr(catalogue, "SHIPPED", model.parent)
    assert run("generate", "again.wav", "-m", "with", "--seconds", 0.1).code == 0
    assert Path("again.wav").read_bytes() == Path("out.wav").read_bytes()
    told = run("models", "--json").objects[0]
    files = [path for folder in (tiny_model_dir, prior_dir) for path in folder.iterdir()]
    assert told["prior"] and told["bytes"] == sum(path.stat().st_size for path in files)
    assert b"with a prior" in run("models").out


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["out.wav"], 1, f"{catalogue.DEFAULT_MODEL} comes without a prior"),
        (["out.wav", "--prior", "nowhere"], 1, "no prior is there"),
        (
            ["out.wav", "--prior", "prior", "--kind", "jazz"],
            2,
            "'jazz': this prior does not know it; it knows",
        ),
        (["out.wav", "--prior", "prior", "--prompt", "short.wav"], 1, "expected 13.3 ms, one frame"),
        (["out.wav", "--prior", "prior", "--prompt", "missing.wav"], 1, "missing.wav does not exist"),
        (["out.wav", "--prior", "prior", "--prompt", "text.wav"], 1, "text.wav"),
        (["out.wav", "--temperature", "0"], 2, "--temperature 0: expected more than 0"),
        (["out.wav", "--temperature", "nan"], 2, "--temperature nan"),
        (["out.wav", "--top-k", "0"], 2, "--top-k 0: expected 1 or more"),
        (["out.wav", "--seconds", "0"], 2, "--seconds 0: expected more than 0"),
        (["out.wav", "--seconds", "inf"], 2, "--seconds inf"),
        (["out.wav", "--prior", "prior", "--seconds", "1e-9"], 2, "expected more than 0"),
        (["out.wav", "--seed", "-1"], 2, "--seed -1: expected 0 or more"),
        (["text.wav", "--prior", "prior"], 1, "text.wav exists"),
        (["out.txt"], 2, "no output name"),
        (["nowhere/out.wav"], 1, "does not exist"),
        (["out.wav", "-m", "hf:some/codec"], 1, "comes without a prior"),
    ],
)
def test_bad_input_is_one_line_and_leaves_everything_as_it_was(
    words: list[str], code: int, message: str
) -> None:
    Path("text.wav").write_text("no audio")
    write_audio(Path("short.wav"), n_samples=100)
    before = contents(Path())
    result = run("generate", *words)
    assert result.code == code and len(result.lines) == 1 and message in result.lines[0], result.lines
    assert contents(Path()) == before


@pytest.mark.usefixtures("shipped")
def test_a_prior_of_another_model_is_refused(prior_dir: Path, tmp_path: Path) -> None:
    other = Prior(dataclasses.replace(load_prior(prior_dir).config, code_space=SPACE_ID, model="other"))
    save_prior(other, tmp_path / "other")
    result = run("generate", "out.wav", "--prior", "other")
    assert result.code == 1 and "the prior was made for model 'other'" in result.lines[0]


def test_a_damaged_prior_is_refused(prior_dir: Path, tmp_path: Path) -> None:
    prior = load_prior(prior_dir)
    save_prior(prior, tmp_path)
    loaded = load_prior(tmp_path)
    torch.testing.assert_close(loaded.begin, prior.begin)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes, message in (
        ({"code_space": SPACE_ID}, "not of the prior"),
        ({"codebook_sizes": [64, 64]}, "does not fit"),
        ({"flavour": 1}, "unknown key 'flavour'"),
        ({"kinds": ["a", "a"]}, "named twice"),
        ({"network": config["network"] | {"dim": 33}}, "multiple of twice the 2 heads"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ModelError, match=message):
            load_prior(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot read the prior"):
        load_prior(tmp_path)
