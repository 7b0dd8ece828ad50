"""Fixtures that several test files share: a tiny model with random weights."""

from pathlib import Path

import pytest
import torch

from audiocodec.codec import Codec, load
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
