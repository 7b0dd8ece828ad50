"""The family of recipes: each one trains, streams as it codes as a whole, and gives a file that decodes."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from cli_cases import run, write_audio
from scripts import load_script

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, ResidualConfig, from_dict
from audiocodec.model.layers import CausalAttention
from audiocodec.model.store import load_model, save_model
from audiocodec.train import steps
from audiocodec.train.data import Clips, join
from audiocodec.train.recipe import CodebookConfig, DataConfig, Recipe, load_recipe
from audiocodec.train.state import (
    load_checkpoint,
    new_state,
    random_states,
    restore_random,
    save_checkpoint,
)
from audiocodec.train.steps import train_step

RECIPES = Path(__file__).parent.parent / "recipes"
N_STEPS = 20

compare = load_script(RECIPES / "compare.py")
every_recipe = pytest.mark.parametrize("name", compare.NAMES)
CODELESS = ("ae", "vae")
every_quantizer = pytest.mark.parametrize("name", [name for name in compare.NAMES if name not in CODELESS])


def tiny(name: str) -> Recipe:
    """The recipe with a small model, small batches and few steps; what it is about stays."""
    recipe = compare.resized(load_recipe(RECIPES / name), N_STEPS)
    model = recipe.model
    sizes = tuple(min(16, size) for size in model.quantizer.codebook_sizes)
    small = dataclasses.replace(
        model,
        latent_dim=8,
        spectral=dataclasses.replace(model.spectral, dim=16, n_blocks=1),
        strided=dataclasses.replace(model.strided, channels=2),
        quantizer=dataclasses.replace(model.quantizer, codebook_sizes=sizes),
    )
    return dataclasses.replace(
        recipe,
        model=small,
        data=dataclasses.replace(recipe.data, batch_size=2, crop_seconds=0.3),
        codebooks=dataclasses.replace(recipe.codebooks, kmeans_frames=100),
        optimizer=dataclasses.replace(recipe.optimizer, warmup_steps=1),
    )


def clips() -> Clips:
    """Two seconds of a falling tone with noise."""
    time = torch.arange(48000) / 24000
    tone = (2 * math.pi * 500 * time.sqrt()).sin() + 0.1 * torch.randn(48000, generator=generator())
    return join([("tone", (8000 * tone).to(torch.int16))])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def build(name: str) -> CodecModel:
    """The tiny model with statistics, gates and biases as if it had learned something."""
    torch.manual_seed(0)
    model = CodecModel(tiny(name).model).eval().requires_grad_(False)
    for level in model.quantizer.levels:
        if level.mean is not None:
            level.mean.normal_()
            level.deviation.uniform_(0.5, 2)
        if level.gate is not None:
            level.gate.weight.normal_()
    return model


def test_the_table_has_every_recipe_of_the_family() -> None:
    others = {"default", "finetune", "smoke", "base"}
    folders = {path.parent.name for path in RECIPES.glob("*/recipe.toml")} - others
    assert set(compare.NAMES) == folders
    for name in folders:
        readme = (RECIPES / name / "README.md").read_text()
        assert (
            readme.count(compare.MARK) == 1 and f"({name}/README.md)" in (RECIPES / "README.md").read_text()
        )
        assert load_recipe(RECIPES / name).n_steps == load_recipe(RECIPES / "base").n_steps


@every_recipe
def test_each_recipe_trains_and_gives_a_file_that_decodes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, audio = tiny(name), clips()
    state = new_state(recipe, torch.device("cpu"))
    batch = steps.draw_batch(state, audio)
    monkeypatch.setattr(steps, "draw_batch", lambda *_: batch)  # always the same, so that its loss must fall
    weights = recipe.loss
    history = []
    for _ in range(N_STEPS):
        losses = train_step(state, audio, bf16=False)
        assert all(torch.isfinite(value) for value in losses.values())
        history.append(
            sum(getattr(weights, term) * float(losses[term]) for term in ("mel", "complex", "magnitude"))
        )
    assert sum(history[-4:]) < 0.97 * sum(history[:4])

    save_model(state.averaged, tmp_path / "model", name)
    write_audio(tmp_path / "in.wav", 8000)
    coded = run("encode", tmp_path / "in.wav", tmp_path / "a.rq", "-n", 1, "-m", tmp_path / "model")
    if name in CODELESS:
        assert coded.code == 1
        assert coded.lines == [f"codec: model {name!r} has no codes (its bottleneck is {recipe.model.bottleneck!r}): "
                               "take one with a quantizer"]  # fmt: skip
        assert load_model(tmp_path / "model").config.bottleneck == recipe.model.bottleneck
    else:
        assert coded.code == 0, coded.lines
        assert run("decode", tmp_path / "a.rq", tmp_path / "out.wav", "-m", tmp_path / "model").code == 0
        assert soundfile.info(tmp_path / "out.wav").frames == 8000


@every_quantizer
def test_each_recipe_codes_in_blocks_as_in_one(name: str) -> None:
    model, audio = build(name), 0.1 * torch.randn(2, 1, 48 * 320, generator=generator())
    n_q = model.quantizer.n_q
    codes, _ = model.encode_block(audio, model.encoder_state(2), n_q)
    decoded, _ = model.decode_block(codes, model.decoder_state(2))
    encoder_state, decoder_state = model.encoder_state(2), model.decoder_state(2)
    code_parts, audio_parts = [], []
    for block in audio.split(4 * 320, dim=-1):
        part, encoder_state = model.encode_block(block, encoder_state, n_q)
        out, decoder_state = model.decode_block(part, decoder_state)
        code_parts.append(part)
        audio_parts.append(out)
    assert (torch.cat(code_parts, -1) == codes).float().mean() > 0.999
    torch.testing.assert_close(torch.cat(audio_parts, -1), decoded, atol=1e-5, rtol=0)


@every_quantizer
def test_each_recipe_decodes_from_its_receptive_field_on(name: str) -> None:
    model = build(name)
    reach = model.receptive_field
    assert reach < 100
    codes = torch.randint(16, (1, model.quantizer.n_q, reach + 8), generator=generator())
    whole, _ = model.decode_block(codes, model.decoder_state(1))
    late, _ = model.decode_block(codes[..., 4:], model.decoder_state(1))
    settled = (4 + reach) * 320
    torch.testing.assert_close(whole[..., settled:], late[..., settled - 4 * 320 :], atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_equals_its_formula() -> None:
    torch.manual_seed(0)
    dim, heads, span, n_frames = 8, 2, 4, 7
    layer = CausalAttention(dim, heads, span)
    layer.bias.normal_()
    x = torch.randn(1, dim, n_frames)
    y, state = layer(x, layer.initial_state(1))
    frames = [torch.zeros(dim)] * (span - 1) + list(x[0].T)  # zeros stand before the first frame
    size = dim // heads
    for f in range(n_frames):
        q, _, _ = layer.project(layer.norm(frames[f + span - 1])).split(dim)
        attended = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores, values = [], []
            for distance in range(span):
                _, k, v = layer.project(layer.norm(frames[f + distance])).split(dim)
                scores.append(q[part] @ k[part] / math.sqrt(size) + layer.bias[head, distance])
                values.append(v[part])
            powers = torch.stack(scores).exp()
            attended.append(sum(p * v for p, v in zip(powers / powers.sum(), values, strict=True)))
        torch.testing.assert_close(y[0, :, f], x[0, :, f] + layer.merge(torch.cat(attended)))
    torch.testing.assert_close(state, x[..., n_frames - span + 1 :])


def test_settings_at_their_defaults_change_no_code_space() -> None:
    torch.manual_seed(0)
    model = CodecModel(
        dataclasses.replace(tiny("rqvae").model, attention=tiny("rqvae_attention").model.attention)
    )
    plain = CodecModel(tiny("rqvae").model)
    plain.quantizer.load_state_dict(model.quantizer.state_dict())
    assert (
        plain.code_space().id == model.code_space().id
    )  # another encoder and decoder: the codes mean the same
    concat = CodecModel(tiny("rqvae_concat").model)
    concat.quantizer.load_state_dict(model.quantizer.state_dict())
    assert concat.code_space().id != model.code_space().id


@pytest.mark.parametrize("name", ["rqvae_normalised", "rqvae_gated"])
def test_statistics_and_gates_are_part_of_the_code_space(name: str) -> None:
    model = build(name)
    before = model.code_space().id
    level = model.quantizer.levels[1]
    (level.mean if level.mean is not None else level.gate.bias).add_(1)
    assert model.code_space().id != before


def test_config_to_json_and_back_is_the_identity() -> None:
    for name in compare.NAMES:
        config = load_recipe(RECIPES / name).model
        assert from_dict(ModelConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_config_of_before_the_family_means_what_it_did() -> None:
    values = dataclasses.asdict(ModelConfig())
    old = {key: value for key, value in values.items() if key not in ("bottleneck", "attention", "residual")}
    assert from_dict(ModelConfig, old) == ModelConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bottleneck": "narrow"}, "bottleneck 'narrow': expected quantized or none or gaussian"),
        ({"bottleneck": "none", "residual": {"gated": True}}, "a bottleneck 'none' has none"),
        ({"residual": {"combine": "product"}}, "expected sum or concat"),
        ({"attention": {"span": 8, "heads": 5}}, "256 channels do not divide into 5 heads"),
        ({"attention": {"span": -1}}, "span -1: expected 0 or more"),
        ({"residual": {"gate": True}}, "unknown key 'gate'"),
        (
            {"residual": {"gated": True}, "quantizer": {"codebook_sizes": [8, 8], "frames_per_code": [2, 1]}},
            "gated levels need frames_per_code 1 for all",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_dict(ModelConfig, values)


CONTINUOUS = 'name = "x"\n[[stages]]\nname = "a"\nsteps = 5\n'
QUANTIZED = CONTINUOUS + "quantize = true\n"
SLOW = "[model.quantizer]\ncodebook_sizes = [8, 8]\nframes_per_code = [2, 1]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            QUANTIZED + '[model]\nbottleneck = "none"\n',
            "stage a quantizes, and the model's bottleneck is 'none'",
        ),
        (QUANTIZED + "levels = 9\n", "levels of stage a: expected 0 .all. to 8"),
        (QUANTIZED + "temperature = [0.5, 0.0]\n", "two values above 0, or two zeros"),
        (QUANTIZED + "temperature = [0.5, 0.1]\n", "temperature of stage a needs codebooks.update gradient"),
        (QUANTIZED + 'noise_share = 0.5\n[model.residual]\ncombine = "concat"\n', "noise_share of stage a"),
        (QUANTIZED + "searched = true\n" + SLOW, "searched and varied_share of stage a"),
        (QUANTIZED + "varied_share = 0.5\n" + SLOW, "searched and varied_share of stage a"),
        (QUANTIZED + "[model.residual]\ngated = true\n", "gated levels need codebooks.update gradient"),
        (CONTINUOUS + "[loss]\nkl = 0.1\n", "loss.kl needs a model whose bottleneck is gaussian"),
        (CONTINUOUS + '[loss]\ndistance = "l3"\n', "expected l1 or l2"),
        (CONTINUOUS + '[codebooks]\nstart = "zeros"\n', "expected kmeans or random"),
    ],
)
def test_a_recipe_whose_parts_contradict_each_other_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ModelError, match=message):
        load_recipe(tmp_path)


def test_progressive_stages_add_a_level_each(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("rqvae_progressive")
    state = new_state(recipe, torch.device("cpu"))
    untouched = [level.codebook.detach().clone() for level in state.model.quantizer.levels]
    seen = []
    for _ in range(N_STEPS):
        train_step(state, clips(), bf16=False)
        levels = zip(state.model.quantizer.levels, untouched, strict=True)
        seen.append(sum(not torch.equal(level.codebook, before) for level, before in levels))
        stage, _ = recipe.stage_at(state.step - 1)
        assert seen[-1] == (recipe.levels_of(stage) if stage.quantize else 0)
    assert sorted(set(seen)) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["rqvae_progressive", "rqvae_adaptive", "rqvae_normalised"])
def test_a_checkpoint_in_the_middle_changes_nothing(name: str, tmp_path: Path) -> None:
    recipe, audio = tiny(name), clips()
    whole, first, second = (new_state(recipe, torch.device("cpu")) for _ in range(3))
    start = random_states(whole)
    for _ in range(N_STEPS):
        train_step(whole, audio, bf16=False)
    restore_random(first, start)
    for _ in range(N_STEPS // 2):
        train_step(first, audio, bf16=False)
    save_checkpoint(first, tmp_path / "checkpoint.pt")
    load_checkpoint(second, tmp_path / "checkpoint.pt")
    for _ in range(N_STEPS // 2):
        train_step(second, audio, bf16=False)
    pairs = zip(whole.averaged.parameters(), second.averaged.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_divergence_counts_more_and_more() -> None:
    loss = load_recipe(RECIPES / "vae").loss
    weights = [steps.loss_weight(loss, "kl", step) for step in (0, 399, 799, 5000)]
    assert weights == pytest.approx([loss.kl / 800, loss.kl / 2, loss.kl, loss.kl])
    assert steps.loss_weight(loss, "mel", 0) == loss.mel


def test_the_table_is_written_and_finished_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "load_recipe", lambda path: tiny(path.name))
    monkeypatch.setattr(compare, "SEEDS", {"rqvae": (1, 2)})
    monkeypatch.setattr("audiocodec.train.loop.save_spectrograms", lambda *_, **__: None)
    (tmp_path / "recipes").mkdir()
    shutil.copy(RECIPES / "README.md", tmp_path / "recipes")
    for name in ("ae", "rqvae"):
        (tmp_path / "recipes" / name).mkdir()
        (tmp_path / "recipes" / name / "README.md").write_text(f"# {name}\n\nOld. {compare.MARK}\n\nKept.\n")
    write_audio(tmp_path / "audio" / "speech.wav", 32000)
    write_audio(tmp_path / "audio" / "noise.wav", 32000)
    options = f"--runs {tmp_path}/runs --steps 8 --recipes {tmp_path}/recipes".split()
    audio = f"--data {tmp_path}/audio --valid {tmp_path}/audio --threads 1 --only ae rqvae".split()
    compare.main([*options, *audio])

    text = (tmp_path / "recipes" / "README.md").read_text()
    assert text.startswith("# Recipes") and "Not measured" not in text
    assert "| [ae](ae/README.md) | 8 | - |" in text and "| [rqvae](rqvae/README.md) | 8 | 1.80 |" in text
    assert "The seeds of rqvae, whose mean is shown, lie apart by: mel12" in text
    rows = json.loads((tmp_path / "recipes" / "family.json").read_text())
    assert [(row["recipe"], row["seeds"]) for row in rows] == [("ae", 1), ("rqvae", 2)]
    assert rows[1]["mel12"] > 0 and set(rows[1]["spread"]) >= {"mel12", "stoi"}
    line = (tmp_path / "recipes" / "rqvae" / "README.md").read_text().split("\n")[2]
    assert line.startswith("Measured after 8 steps") and line.endswith(compare.MARK)
    assert (tmp_path / "recipes" / "family.png").stat().st_size > 1000

    monkeypatch.setattr(compare, "train_run", lambda *_: pytest.fail("a finished run was trained again"))
    compare.main([*options, *audio])
    compare.main(options)  # writes what there is
    assert (tmp_path / "recipes" / "README.md").read_text() == text
    monkeypatch.setattr(
        compare, "load_recipe", lambda path: dataclasses.replace(tiny(path.name), data=DataConfig())
    )
    with pytest.raises(SystemExit, match="other settings"):
        compare.main(options)


def test_the_pace_is_written_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "load_recipe", lambda path: tiny(path.name))
    monkeypatch.setattr(compare, "NAMES", ("ae",))
    monkeypatch.setattr(compare, "WARM_STEPS", 0)
    monkeypatch.setattr(compare, "TIMED_STEPS", 1)
    write_audio(tmp_path / "audio" / "noise.wav", 32000)
    runs = tmp_path / "runs"
    compare.main(["--data", str(tmp_path / "audio"), "--threads", "1", "--pace", "--runs", str(runs)])
    assert json.loads((runs / compare.PACE).read_text())["ae"] > 0


def test_the_default_recipe_has_none_of_it() -> None:
    recipe = load_recipe(RECIPES / "default")
    assert recipe.codebooks == CodebookConfig() and recipe.model.residual == ResidualConfig()
    quantizer = recipe.model.quantizer
    assert set(quantizer.codebook_sizes) == {1024} and set(quantizer.frames_per_code) == {1}
    assert recipe.model.attention.span == 0
    assert (recipe.model.bottleneck, recipe.loss.distance) == ("quantized", "l1")
