"""A run that starts from a model: it computes the same, however much larger the recipe's is, and then learns."""

import dataclasses
from pathlib import Path

import pytest
import torch

from audiocodec.cli import main
from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import AttentionConfig, ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.model.store import load_model, save_model
from audiocodec.train.growth import start_from
from audiocodec.train.loop import train
from audiocodec.train.recipe import DataConfig, Recipe, StageConfig
from audiocodec.train.state import new_state

SMALL = ModelConfig(
    name="small",
    latent_dim=8,
    spectral=SpectralConfig(dim=16, n_blocks=2, expansion=2),
    quantizer=QuantizerConfig((16,), (1,)),
)
LARGE = dataclasses.replace(
    SMALL,
    name="large",
    spectral=SpectralConfig(dim=16, n_blocks=3, expansion=3, decoder_expansion=5),
    quantizer=QuantizerConfig((16, 8), (1, 1)),
)
RECIPE = Recipe(
    name="grown",
    stages=(StageConfig("all", 2, quantize=True, learning_rate=(1e-2, 1e-2)),),
    model=LARGE,
    data=DataConfig(batch_size=2, crop_seconds=0.4),
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = CodecModel(SMALL)
    with torch.no_grad():  # scales as if trained: new blocks cannot hide behind old ones
        for name, weight in model.named_parameters():
            if name.endswith(".scale"):
                weight.fill_(0.7)
    save_model(model, tmp_path / "small", "small")
    return tmp_path / "small"


def test_a_grown_model_computes_what_it_grew_from(small: Path) -> None:
    state = new_state(RECIPE, torch.device("cpu"))
    source = load_model(small)
    start_from(state, source)
    audio = 0.1 * torch.randn(1, 1, 9600)
    codes = source.encode(audio).audio_codes
    padded = torch.nn.functional.pad(audio, (0, codes.shape[2] * SMALL.hop_length - 9600))
    latents, _ = source.encoder(padded, source.encoder_state(1))
    for grown in (state.model.eval(), state.averaged):
        found, _ = grown.encoder(padded, grown.encoder_state(1))
        assert torch.allclose(found, latents, atol=1e-6)
        # as in training: `encode` looks ahead at the new levels
        assert torch.equal(grown.quantizer(found, torch.tensor([1]), levels=1).codes, codes)
        expected = source.decode(codes).audio_values
        assert torch.allclose(grown.decode(codes).audio_values, expected, atol=1e-6)
    assert state.codebooks is not None and len(state.codebooks.counts) == 1


def test_every_new_weight_learns(small: Path, audio_folder: Path, tmp_path: Path) -> None:
    before = new_state(RECIPE, torch.device("cpu"))
    start_from(before, load_model(small))
    train(RECIPE, [audio_folder], tmp_path / "run", init=small, device="cpu")
    after = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["model"]
    assert [
        name for name, weight in before.model.state_dict().items() if torch.equal(weight, after[name])
    ] == []
    assert load_model(tmp_path / "run" / "model").quantizer.n_q == 2


def test_a_decoder_that_learns_alone_keeps_the_codes(small: Path, audio_folder: Path, tmp_path: Path) -> None:
    stage = dataclasses.replace(RECIPE.stages[0], decoder_only=True)
    wider = dataclasses.replace(SMALL.spectral, decoder_expansion=4)
    recipe = dataclasses.replace(RECIPE, model=dataclasses.replace(SMALL, spectral=wider), stages=(stage,))
    before = load_model(small)
    after = load_model(train(recipe, [audio_folder], tmp_path / "run", init=small, device="cpu"))
    assert after.code_space() == before.code_space()
    learned = {
        name.partition(".")[0]
        for name, weight in after.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert learned == {"decoder"}
    assert after.decoder.blocks.layers[1].widen.out_features == 4 * 16


@pytest.mark.parametrize(
    "model",
    [
        dataclasses.replace(LARGE, latent_dim=4),
        dataclasses.replace(LARGE, spectral=SpectralConfig(dim=16, n_blocks=1, expansion=4)),
        dataclasses.replace(LARGE, spectral=SpectralConfig(dim=16, n_blocks=2, decoder_expansion=1)),
        dataclasses.replace(LARGE, quantizer=QuantizerConfig((8, 16), (1, 1))),
        dataclasses.replace(LARGE, attention=AttentionConfig(span=2)),
    ],
)
def test_what_is_no_growth_is_refused(small: Path, model: ModelConfig) -> None:
    state = new_state(dataclasses.replace(RECIPE, model=model), torch.device("cpu"))
    with pytest.raises(ModelError, match="cannot start from 'small'"):
        start_from(state, load_model(small))


def test_a_run_starts_or_goes_on_but_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "recipes/smoke", "--data", "x", "--init", "general", "--resume"]
    assert main(arguments) == 2
    assert "--init" in capsys.readouterr().err
