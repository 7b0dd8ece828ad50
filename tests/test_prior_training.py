"""Training of priors: runs, resuming, their codes and recipes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from prior_cases import KINDS, NETWORK, ONE, OTHER, RECIPE, SPACE_ID, patterns

from audiocodec.codec import Codec
from audiocodec.errors import CodecError, ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import QuantizerConfig
from audiocodec.model.store import load_model
from audiocodec.prior import load_prior, sampling, training
from audiocodec.prior.config import PriorConfig
from audiocodec.prior.data import coded_data, encode_clip, encode_clips, random_crops
from audiocodec.prior.network import Prior
from audiocodec.prior.recipe import PriorRecipe, is_prior_recipe, load_prior_recipe
from audiocodec.prior.state import learning_rate, load_checkpoint, new_training, save_checkpoint
from audiocodec.prior.store import save_prior
from audiocodec.prior.training import train_prior, validate
from audiocodec.train.data import Clips
from audiocodec.train.recipe import OptimizerConfig

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for n, kind in enumerate(("speech", "music/quiet", "rest")):
        (folder / kind).mkdir(parents=True)
        soundfile.write(folder / kind / f"{n}.wav", 0.1 * rng.standard_normal(24000 + 900 * n), 24000)
    return folder


@pytest.fixture
def on_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # a timing must not decide the result
    monkeypatch.setattr("audiocodec.train.loop.bf16_pays", lambda _: False)
    monkeypatch.setattr(training, "LOG_EVERY_STEPS", 2)


def brief_recipe(model: Path) -> PriorRecipe:
    network = dataclasses.replace(NETWORK, dropout=0.1)
    return dataclasses.replace(RECIPE, model=str(model), steps=6, validate_every=3, prior=network)


@pytest.mark.usefixtures("on_one_clock")
def test_a_run_leaves_a_prior_and_a_resumed_one_the_same(
    tiny_model_dir: Path, tiny_codec: Codec, audio_folder: Path, tmp_path: Path
) -> None:
    recipe = brief_recipe(tiny_model_dir)
    folder = train_prior(recipe, [audio_folder], tmp_path / "whole", valid=audio_folder, device="cpu")
    told = []
    for last in (2, 6):
        train_prior(
            recipe,
            [audio_folder],
            tmp_path / "parts",
            valid=audio_folder,
            device="cpu",
            resume=last > 2,
            progress=told.append,
            stop=lambda last=last: bool(told) and told[-1].step >= last,
        )
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")
    )
    for part in ("prior", "averaged"):
        assert all(torch.equal(whole[part][name], parts[part][name]) for name in whole[part])
    prior = load_prior(folder)
    assert prior.config.code_space == tiny_codec.space.id.hex() and prior.config.kinds == KINDS
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert {"bits_per_code", "bits_level0", "seconds_per_step"} <= set(lines[0])
    assert [line["step"] for line in lines if "valid" in line] == [3, 6]
    valid = lines[-1]["valid"]
    assert {"bits_per_code", "untold", "bits_level3", "bits_speech", "bits_music"} <= set(valid)
    assert 4 < valid["bits_per_code"] < 8
    assert json.loads((tmp_path / "whole" / "recipe.json").read_text())["data"]["kinds"] == list(KINDS)


@pytest.mark.usefixtures("on_one_clock")
def test_a_run_is_neither_overwritten_nor_resumed_by_another_prior(
    tiny_model_dir: Path, audio_folder: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(brief_recipe(tiny_model_dir), steps=1)
    with pytest.raises(CodecError, match="no checkpoint"):
        train_prior(recipe, [audio_folder], tmp_path, resume=True)
    train_prior(recipe, [audio_folder], tmp_path)
    with pytest.raises(CodecError, match="--resume"):
        train_prior(recipe, [audio_folder], tmp_path)
    other = dataclasses.replace(recipe, prior=dataclasses.replace(NETWORK, dim=16))
    with pytest.raises(ModelError, match="another prior"):
        train_prior(other, [audio_folder], tmp_path, resume=True)


def test_a_resumed_run_takes_the_settings_of_its_recipe(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe, model = brief_recipe(tiny_model_dir), load_model(tiny_model_dir)
    save_checkpoint(new_training(recipe, model, torch.device("cpu")), tmp_path / "checkpoint.pt")
    other = dataclasses.replace(recipe, optimizer=OptimizerConfig(betas=(0.5, 0.6), weight_decay=0.7))
    state = new_training(other, model, torch.device("cpu"))
    load_checkpoint(state, tmp_path / "checkpoint.pt")
    group = state.optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.6), 0.7)


@pytest.mark.usefixtures("on_one_clock")
def test_a_run_can_start_from_another_models_prior(
    tiny_model_dir: Path, audio_folder: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(brief_recipe(tiny_model_dir), steps=1, learning_rate=(0.0, 0.0))
    config = PriorConfig(SPACE_ID, "former", (64, 64, 64, 64), KINDS, recipe.prior)
    torch.manual_seed(1)
    former = Prior(config)
    save_prior(former, tmp_path / "former")
    begun = load_prior(train_prior(recipe, [audio_folder], tmp_path / "run", init=tmp_path / "former"))
    assert begun.config.code_space != SPACE_ID and begun.config.model != "former"
    for name, weight in former.state_dict().items():
        assert torch.allclose(begun.state_dict()[name], weight, atol=1e-3), name
    other = dataclasses.replace(recipe, levels=2)
    with pytest.raises(ModelError, match="cannot start from that of 'former'"):
        train_prior(other, [audio_folder], tmp_path / "other", init=tmp_path / "former")


@pytest.mark.usefixtures("on_one_clock")
def test_a_run_can_be_of_the_first_levels_only(
    tiny_model_dir: Path, audio_folder: Path, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(brief_recipe(tiny_model_dir), steps=2, levels=2)
    prior = load_prior(train_prior(recipe, [audio_folder], tmp_path, valid=audio_folder))
    assert prior.config.codebook_sizes == (64, 64)
    valid = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["valid"]
    assert "bits_level1" in valid and "bits_level2" not in valid
    with pytest.raises(ModelError, match="levels 5: expected 0 to 4, those of tiny"):
        train_prior(dataclasses.replace(recipe, levels=5), [audio_folder], tmp_path / "more")


def test_codes_are_made_once_and_know_their_kind(
    tiny_model_dir: Path, audio_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model_dir)
    clips, _ = coded_data(model, [audio_folder], audio_folder, KINDS, tmp_path)
    kinds = {Path(name).stem: int(kind) for name, kind in zip(clips.names, clips.kinds, strict=True)}
    assert kinds == {"0": 0, "1": 1, "2": 2}
    monkeypatch.setattr("audiocodec.prior.data.load_clips", None)
    again, _ = coded_data(model, [audio_folder], audio_folder, KINDS, tmp_path)
    assert torch.equal(clips.codes, again.codes) and clips.names == again.names
    with pytest.raises(TypeError):  # other kinds: not those that are kept
        coded_data(model, [audio_folder], audio_folder, ("speech",), tmp_path)


def test_a_clips_codes_are_those_of_the_frames_within_it(tiny_codec: Codec) -> None:
    audio = 0.1 * np.random.default_rng(0).standard_normal(24000 + 100).astype(np.float32)
    codes = encode_clip(tiny_codec.model, torch.from_numpy(audio))
    prompt = sampling.prompt_codes(tiny_codec.encode(audio, 24000), tiny_codec.space)
    assert codes.shape == (4, 75) and np.array_equal(codes.numpy(), prompt)


def test_a_model_with_slower_levels_has_no_prior() -> None:
    model = CodecModel(dataclasses.replace(TINY, quantizer=QuantizerConfig((16, 8), (2, 1))))
    with pytest.raises(ModelError, match="one code per frame"):
        encode_clips(model, Clips((), torch.zeros(0), torch.zeros(1)), KINDS)


def test_crops_lie_within_clips_and_their_ends_are_masked() -> None:
    clips = patterns(ONE, OTHER)
    codes, kinds, inside = random_crops(clips, 50, 150, torch.Generator().manual_seed(0))
    assert codes.shape == (50, 2, 150) and inside.sum(1).eq(120).all()
    for crop, kind in zip(codes, kinds, strict=True):
        assert torch.equal(crop[:, :120], clips[int(kind)].long())


def test_validation_takes_clips_from_everywhere_and_no_more_than_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips, seen = patterns(*[[[n] * 6, [0] * 6] for n in range(74)]), []
    clips = dataclasses.replace(clips, kinds=torch.full((74,), len(KINDS)))
    prior = Prior(PriorConfig(SPACE_ID, "tiny", (128, 16), KINDS, NETWORK)).eval()

    def count(prior: Prior, codes: np.ndarray) -> np.ndarray:
        seen.append(int(codes[0, 0]))
        return np.zeros(codes.shape, np.float32)

    monkeypatch.setattr(training, "bits_per_code", count)
    validate(prior, clips)
    assert len(seen) == training.MAX_VALIDATION_CLIPS
    assert all(step in (1, 2) for step in np.diff(seen)) and seen[0] == 0 and seen[-1] == 72


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(RECIPE, step) for step in (0, 9, 60, 119)]
    assert rates[0] == pytest.approx(1e-3, rel=0.01) and rates[1] == pytest.approx(1e-2, rel=0.02)
    assert rates[2] == pytest.approx(5.5e-3, rel=0.01) and rates[3] == pytest.approx(1e-3, rel=0.01)


def test_the_recipes_are_read_and_fit_the_budget() -> None:
    for name in ("small", "smoke"):
        path = ROOT / "recipes" / "prior" / name
        assert is_prior_recipe(path) and load_prior_recipe(path).name == f"prior-{name}"
    assert not is_prior_recipe(ROOT / "recipes" / "smoke")
    network = load_prior_recipe(ROOT / "recipes" / "prior" / "small").prior
    prior = Prior(PriorConfig(SPACE_ID, "default", (1024,) * 8, ("speech", "music", "sounds"), network))
    assert sum(weights.numel() for weights in prior.parameters()) < 7e6


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("steps = 0", "steps: expected 1 or more"),
        ("steps = 1\nlevels = -1", "levels -1: expected 1 or more"),
        ("steps = 1\nbatch = 3", "unknown key 'batch'"),
        ("steps = 1\nlearning_rate = [1e-3]", "highest and a last"),
        ("steps = 1\ndata = {kind_dropout = 2.0}", "kind_dropout: expected 0 to 1"),
        ("steps = 1\n[prior]\nspan = 0", "span 0: expected 1 or more"),
        ("steps = 1\n[prior]\ndim = 30", "multiple of twice the 4 heads"),
        ("", "'steps' is missing"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "recipe.toml").write_text(f'name = "a"\n{lines}\n')
    with pytest.raises(ModelError, match=message):
        load_prior_recipe(tmp_path)
