"""Fixtures that several test files share: a tiny model with random weights, and what it codes."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import run, write_audio

from audiocodec.codec import Codec, load
from audiocodec.model import catalogue
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.model.store import save_model

TINY = ModelConfig(
    name="tiny",
    latent_dim=8,
    spectral=SpectralConfig(dim=16, n_blocks=2),
    quantizer=QuantizerConfig((64,) * 4, (1,) * 4),
)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that knows nothing and is fast: 4 levels of 6 bits at 75 frames/s, .45 to 1.8 kbps mono."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    save_model(CodecModel(TINY), folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def tiny_codec(tiny_model_dir: Path) -> Codec:
    """The same model, loaded."""
    return load(tiny_model_dir, device="cpu")


@pytest.fixture
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path) -> None:
    """The test stands in an empty folder, and the tiny model is the one that is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "SHIPPED", tiny_model_dir.parent)


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> bytes:
    """A `.rq` file of three seconds, all four levels of the tiny model."""
    folder = tmp_path_factory.mktemp("coded")
    audio = write_audio(folder / "in.wav", title="Hello")
    assert run("encode", audio, folder / "out.rq", "-m", tiny_model_dir).code == 0
    return (folder / "out.rq").read_bytes()


@pytest.fixture(scope="session")
def audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three recordings of a second: of noise, of three rates, one of them stereo."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for n, rate in enumerate((24000, 44100, 16000)):
        soundfile.write(folder / f"{n}.wav", 0.1 * rng.standard_normal((rate, 1 + n % 2)), rate)
    return folder
