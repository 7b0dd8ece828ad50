"""Training: updates equal their formulas, a run can be stopped and resumed, several processes agree."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiocodec.cli import main
from audiocodec.errors import CodecError, ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.model.store import load_model
from audiocodec.train import losses
from audiocodec.train.codebooks import MovingAverages
from audiocodec.train.data import join, load_clips
from audiocodec.train.loop import compile_model, keep_recipe, train
from audiocodec.train.recipe import (
    CodebookConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    Recipe,
    StageConfig,
    load_recipe,
)
from audiocodec.train.state import load_checkpoint, new_state, save_checkpoint
from audiocodec.train.steps import draw_levels, train_step
from audiocodec.train.validate import save_spectrograms, validate

MODEL = ModelConfig(
    name="tiny",
    latent_dim=8,
    spectral=SpectralConfig(dim=16, n_blocks=2),
    quantizer=QuantizerConfig((16, 8), (1, 1)),
)
RECIPE = Recipe(
    name="tiny",
    stages=(
        StageConfig("continuous", 2),
        StageConfig("quantized", 2, quantize=True),
        StageConfig("adversarial", 2, quantize=True, adversarial=True),
    ),
    model=MODEL,
    data=DataConfig(batch_size=2, crop_seconds=0.4),
)


def test_losses_equal_their_slow_twins() -> None:
    torch.manual_seed(0)
    ours, theirs = 0.1 * torch.randn(1, 3000), 0.1 * torch.randn(1, 3000)
    window = np.hanning(1025)[:-1] / np.sqrt(np.sum(np.hanning(1025)[:-1] ** 2))
    starts = range(0, 3000 - 1024 + 1, 256)
    spectra = [
        np.stack([np.fft.rfft(window * x[0, s : s + 1024].numpy()) for s in starts]) for x in (ours, theirs)
    ]
    filters = losses.mel_filters(80, 1024, 24000, torch.device("cpu"))
    mels = [
        np.log10(np.maximum(np.sqrt(np.abs(s) ** 2 + 1e-12) @ filters.numpy(), losses.MEL_FLOOR))
        for s in spectra
    ]
    pair = losses.spectrum(ours, 1024), losses.spectrum(theirs, 1024)
    assert float(losses.mel_distance(*pair, filters)) == pytest.approx(
        np.abs(mels[0] - mels[1]).mean(), rel=1e-4
    )
    scaled = [s * (np.abs(s) ** 2 + 1e-8) ** -0.25 for s in spectra]
    parts = np.abs((scaled[0] - scaled[1]).view(np.float64))
    with_phase, magnitudes = losses.compressed_distances(*pair)
    assert float(with_phase) == pytest.approx(parts.mean(), rel=1e-4)
    scaled_magnitudes = [(np.abs(s) ** 2 + 1e-8) ** 0.25 for s in spectra]
    assert float(magnitudes) == pytest.approx(
        np.abs(scaled_magnitudes[0] - scaled_magnitudes[1]).mean(), rel=1e-4
    )


def test_squared_distances_equal_their_slow_twins() -> None:
    torch.manual_seed(0)
    pair = [losses.spectrum(0.1 * torch.randn(1, 3000), 512) for _ in range(2)]
    filters = losses.mel_filters(64, 512, 24000, torch.device("cpu"))
    mels, scaled, magnitudes = [], [], []
    for spectrum in pair:
        values = torch.view_as_complex(spectrum).numpy()
        power = np.abs(values) ** 2
        mels.append(np.log10(np.maximum(np.sqrt(power + 1e-12) @ filters.numpy(), losses.MEL_FLOOR)))
        scaled.append(values * (power + 1e-8) ** -0.25)
        magnitudes.append((power + 1e-8) ** 0.25)
    found = [*losses.compressed_distances(*pair, "l2"), losses.mel_distance(*pair, filters, "l2")]
    expected = [
        (np.abs(scaled[0] - scaled[1]) ** 2).mean() / 2,  # over both parts
        ((magnitudes[0] - magnitudes[1]) ** 2).mean(),
        ((mels[0] - mels[1]) ** 2).mean(),
    ]
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-4)


def test_mel_filters_cover_every_bin_but_the_ends() -> None:
    filters = losses.mel_filters(80, 1024, 24000, torch.device("cpu"))
    assert (filters.sum(1)[1:-1] > 0).all() and filters.max() <= 1


def test_a_perfect_copy_costs_nothing() -> None:
    audio = torch.randn(2, 6000)
    assert all(float(value) == 0 for value in losses.reconstruction_losses(audio, audio, 24000).values())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    audio_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    # a timing must not decide the result
    monkeypatch.setattr("audiocodec.train.loop.bf16_pays", lambda _: False)
    train(RECIPE, [audio_folder], tmp_path / "whole", device="cpu")
    for last in (1, 3, 5, 6):  # stops in every stage
        shorter = dataclasses.replace(RECIPE, stages=RECIPE.stages)
        with monkeypatch.context() as patch:
            patch.setattr(Recipe, "n_steps", property(lambda _, last=last: last))
            train(shorter, [audio_folder], tmp_path / "parts", device="cpu", resume=last > 1)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert {"mel12_1", "mel12_2", "si_sdr_2", "perplexity_level0", "used_level1"} <= set(lines[-1]["valid"])
    assert list((tmp_path / "whole").glob("spectrograms-*.png"))
    assert load_model(tmp_path / "whole" / "model").config.name == "tiny"


def test_a_recipe_that_changed_since_the_last_start_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = dataclasses.replace(RECIPE, seed=RECIPE.seed + 1, loss=dataclasses.replace(RECIPE.loss, mel=1.0))
    for recipe in (RECIPE, RECIPE, other):
        assert not caplog.messages
        keep_recipe(recipe, tmp_path / "recipe.json")
    assert caplog.messages == ["the recipe has changed since the run's last start: seed, loss"]


def test_settings_that_are_new_since_a_run_began_are_no_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_recipe(RECIPE, tmp_path / "recipe.json")
    values = json.loads((tmp_path / "recipe.json").read_text())
    del values["loss"]["distance"], values["codebooks"]["start"], values["model"]["attention"]
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    keep_recipe(RECIPE, tmp_path / "recipe.json")
    assert not caplog.messages


def test_a_run_is_neither_overwritten_nor_resumed_by_another_model(
    audio_folder: Path, tmp_path: Path
) -> None:
    brief = dataclasses.replace(RECIPE, stages=(StageConfig("continuous", 1),))
    train(brief, [audio_folder], tmp_path)
    with pytest.raises(CodecError, match="--resume"):
        train(brief, [audio_folder], tmp_path)
    other = dataclasses.replace(brief, model=dataclasses.replace(MODEL, latent_dim=4))
    with pytest.raises(ModelError, match="another model"):
        train(other, [audio_folder], tmp_path, resume=True)
    with pytest.raises(CodecError, match="no checkpoint"):
        train(brief, [audio_folder], tmp_path / "new", resume=True)


def test_a_resumed_run_takes_the_settings_of_its_recipe(tmp_path: Path) -> None:
    before = new_state(RECIPE, torch.device("cpu"))
    before.codebooks = MovingAverages(RECIPE.codebooks.ema_decay, [], [])
    save_checkpoint(before, tmp_path / "checkpoint.pt")
    recipe = dataclasses.replace(
        RECIPE,
        optimizer=OptimizerConfig(betas=(0.5, 0.6), weight_decay=0.7),
        codebooks=CodebookConfig(ema_decay=0.8),
    )
    state = new_state(recipe, torch.device("cpu"))
    load_checkpoint(state, tmp_path / "checkpoint.pt")
    for optimizer in (state.optimizer, state.critic_optimizer):
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)
        assert optimizer.param_groups[0]["weight_decay"] == 0.7
    assert state.codebooks is not None and state.codebooks.decay == 0.8


def test_a_stage_may_weigh_and_remember_otherwise_and_vary_its_levels() -> None:
    plain = StageConfig("plain", 1, quantize=True)
    own = StageConfig(
        "own", 1, quantize=True, magnitude=400.0, ema_decay=0.5, searched=True, varied_share=0.5
    )
    recipe = dataclasses.replace(RECIPE, stages=(plain, own))
    clips = join([("noise", torch.randint(-9000, 9000, (48000,), dtype=torch.int16))])
    state, decays = new_state(recipe, torch.device("cpu")), []
    for stage in recipe.stages:
        figures = train_step(state, clips, bf16=False)
        weights = dataclasses.asdict(recipe.loss) | {"magnitude": stage.magnitude or recipe.loss.magnitude}
        expected = sum(weights[name] * value for name, value in figures.items() if name in weights)
        assert float(figures["loss"]) == pytest.approx(float(expected), rel=1e-4)
        assert state.codebooks is not None
        decays.append(state.codebooks.decay)
    assert decays == [RECIPE.codebooks.ema_decay, 0.5]
    levels = draw_levels(state, own)
    assert levels is not None and levels.shape == (2, 30) and (levels[0] == levels[0, 0]).all()


def test_codebooks_that_learn_in_another_way_are_not_resumed(tmp_path: Path) -> None:
    save_checkpoint(new_state(RECIPE, torch.device("cpu")), tmp_path / "checkpoint.pt")
    by_gradient = CodebookConfig(update="gradient")
    recipe = dataclasses.replace(RECIPE, codebooks=by_gradient, loss=LossConfig(codebook=1.0))
    with pytest.raises(ModelError, match=r"codebooks\.update"):
        load_checkpoint(new_state(recipe, torch.device("cpu")), tmp_path / "checkpoint.pt")


def test_the_last_step_is_validated_once(audio_folder: Path, tmp_path: Path) -> None:
    brief = dataclasses.replace(RECIPE, stages=(StageConfig("continuous", 2),), validate_every=1)
    train(brief, [audio_folder], tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "valid" in line] == [1, 2]


def test_every_stage_is_compiled(audio_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecModel, "compile", functools.partialmethod(CodecModel.compile, backend="eager"))
    monkeypatch.setattr("torch._dynamo.config.cache_size_limit", 1)
    monkeypatch.setattr("torch._dynamo.config.fail_on_cache_limit_hit", True)
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, backend="eager"))
    late = StageConfig("late", 2, quantize=True, searched=True, varied_share=0.5, decoder_only=True)
    recipe = dataclasses.replace(RECIPE, stages=(*RECIPE.stages, late))
    state, clips = new_state(recipe, torch.device("cpu")), load_clips([audio_folder], 24000)
    compile_model(state)
    for _ in range(recipe.n_steps):
        train_step(state, clips, bf16=False)


def test_max_minutes_ends_a_run_in_good_order(audio_folder: Path, tmp_path: Path) -> None:
    endless = dataclasses.replace(RECIPE, stages=(StageConfig("continuous", 10**6),))
    train(endless, [audio_folder], tmp_path, max_minutes=0.01)
    assert (tmp_path / "checkpoint.pt").exists() and (tmp_path / "model" / "config.json").exists()


TWO_PROCESSES = """
import sys, dataclasses
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_training import RECIPE
from audiocodec.train.loop import train
import torch.distributed as dist
import audiocodec.train.loop as loop
seen = []
step = loop.train_step
def spy(state, clips, *, bf16):
    figures = step(state, clips, bf16=bf16)
    seen[:] = [state.model]
    return figures
loop.train_step = spy
train(RECIPE, [Path({audio!r})], Path({out!r}), device="cpu", threads=1)
torch.save(seen[0].state_dict(), Path({out!r}) / f"rank{{dist.get_rank()}}.pt")
dist.destroy_process_group()
"""


def test_two_processes_end_with_the_same_weights(audio_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    tests = str(Path(__file__).parent)
    script.write_text(TWO_PROCESSES.format(tests=tests, audio=str(audio_folder), out=str(tmp_path / "out")))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / "out" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_recipe_states_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "recipe.toml").write_text(
        'name = "base"\n[data]\nbatch_size = 4\ncrop_seconds = 1.0\n[[stages]]\nname = "a"\nsteps = 5\n'
    )
    (tmp_path / "child.toml").write_text('extends = "base"\nname = "child"\n[data]\nbatch_size = 2\n')
    recipe = load_recipe(tmp_path / "child.toml")
    assert (recipe.name, recipe.data.batch_size, recipe.data.crop_seconds, recipe.n_steps) == (
        "child",
        2,
        1.0,
        5,
    )
    (tmp_path / "child.toml").write_text('extends = "base"\nname = "child"\nbatch = 2\n')
    with pytest.raises(ModelError, match="unknown key 'batch'"):
        load_recipe(tmp_path / "child.toml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stages = []", "expected one or more"),
        ('codebooks = {update = "emaa"}', "expected ema, adaptive or gradient"),
        ('codebooks = {update = "gradient"}', "loss.codebook above 0"),
        ("data = {crop_seconds = 0.08}", "expected 0.125 or more"),
        ("optimizer = {betas = [0.8, 0.9, 0.99]}", "two values"),
        ('extends = "recipe.toml"', "extends itself"),
        ("extends = 3", "expected the path"),
        ("stages = [{steps = 1}]", "'name' is missing"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(tmp_path: Path, line: str, message: str) -> None:
    rest = "" if line.startswith("stages") else '\n[[stages]]\nname = "a"\nsteps = 5\n'
    (tmp_path / "recipe.toml").write_text(f'name = "x"\n{line}\n{rest}')
    with pytest.raises(ModelError, match=message):
        load_recipe(tmp_path)


def test_a_clip_that_a_metric_cannot_judge_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 48000))
    for name, audio in (("speech-short", noise[0, :5000]), ("speech-long", noise[1])):
        soundfile.write(tmp_path / f"{name}.wav", audio, 24000)
    figures = validate(CodecModel(MODEL).eval(), load_clips([tmp_path], 24000), quantized=True)
    assert {"mel12_1", "si_sdr_2", "stoi_2"} <= figures.keys()
    assert any("speech-short.wav has no stoi: " in line for line in caplog.messages)


def test_speech_is_told_by_the_nearest_folder_or_how_the_name_begins(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = CodecModel(MODEL).eval()
    speech = {"speech/music-a": True, "speech/music/a": False, "no-speech/a": False, "music/speech-a": False}
    for name, is_speech in {**speech, "speech-a": True}.items():
        path = tmp_path / name.replace("/", "_") / f"{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, 0.1 * rng.standard_normal(24000), 24000)
        figures = validate(model, load_clips([path], 24000), quantized=True)
        assert ("stoi_2" in figures) == is_speech, name


def test_validation_leaves_the_losses_as_they_were(audio_folder: Path, tmp_path: Path) -> None:
    losses.mel_filters.cache_clear()
    losses.hann_window.cache_clear()
    model, clips = CodecModel(MODEL).eval(), load_clips([audio_folder], 24000)
    validate(model, clips, quantized=True)
    save_spectrograms(model, clips, tmp_path / "picture.png", quantized=True)
    assert losses.hann_window.cache_info().currsize  # the losses will find it, and it must serve gradients
    decoded = torch.randn(1, 6000, requires_grad=True)
    losses.reconstruction_losses(decoded, torch.randn(1, 6000), 24000)["mel"].backward()
    assert decoded.grad is not None


def test_every_recipe_in_the_repository_is_valid() -> None:
    recipes = sorted((Path(__file__).parent.parent / "recipes").glob("*/recipe.toml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).n_steps > 0


def test_the_smoke_recipe_trains_through_every_stage(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [
        "train",
        str(root / "recipes" / "smoke"),
        "--data",
        str(root / "samples"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*command, "--threads", "1", "-q"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert logged[-1]["mel"] < logged[0]["mel"]
    assert lines[-1]["stage"] == "adversarial" and "mel12_4" in lines[-1]["valid"]
    assert load_model(tmp_path / "run" / "model").config.name == "smoke"
