"""Fitting the entropy coder's tables: what is trained is what the coder runs."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import run

from audiocodec.bitstream.entropy import EntropyTables, load_tables
from audiocodec.codec import Codec, load
from audiocodec.decoding import decode_file
from audiocodec.encoding import encode_file
from audiocodec.errors import ModelError
from audiocodec.model.catalogue import TABLES
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.train.data import load_clips
from audiocodec.train.tables import TableNetwork, draw_present, fit_tables, groups_of_codes


def pattern(model: CodecModel, n_groups: int) -> torch.Tensor:
    """Codes [N, 4, 50] that go on by one from frame to frame and from level to level, from anywhere."""
    starts = torch.arange(n_groups)[:, None, None] * 7
    size = model.config.quantizer.codebook_sizes[0]
    codes = (starts + torch.arange(4)[:, None] + torch.arange(50)) % size
    return codes.to(torch.int16)


def model_of(codec: Codec) -> CodecModel:
    assert isinstance(codec.model, CodecModel)
    return codec.model


def test_what_can_be_foretold_costs_few_bits(tiny_codec: Codec) -> None:
    model = model_of(tiny_codec)
    codes = pattern(model, 64)
    told: list[float] = []
    arrays = fit_tables(model, codes, steps=150, progress=lambda _, bits: told.append(bits))
    assert told[0] > 5.5 and told[-1] < 2  # of 6 bits
    levels = list(codes[0].numpy()[:, None])
    bits = EntropyTables(arrays).bits(levels)
    assert bits.mean() < 2
    assert bits[0, 0, 10:].mean() < 3  # the first level, by its own past


@pytest.mark.parametrize("variable", [False, True])
def test_the_network_in_floats_is_the_network_in_integers(tiny_codec: Codec, variable: bool) -> None:
    model = model_of(tiny_codec)
    torch.manual_seed(1)
    network = TableNetwork([level.codebook for level in model.quantizer.levels])
    with torch.no_grad():  # as far from the start as training would lead
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    codes = pattern(model, 8).long()
    generator = torch.Generator().manual_seed(2)
    present = draw_present(codes, generator) if variable else torch.ones_like(codes, dtype=torch.bool)
    in_floats = torch.stack(network(codes, present), dim=1).detach().numpy()
    tables = EntropyTables(network.arrays())
    for n, group in enumerate((codes * present).numpy().astype(np.int16)):
        counts = present[n].sum(0).numpy().astype(np.uint8)[None]
        in_integers = tables.bits(list(group[:, None]), counts)[:, 0]
        # sixteenths of a bit, and the least share that every code has, are all the difference
        shown = in_integers < 12
        assert np.abs(in_integers - in_floats[n])[shown].max() < 0.25
        assert math.isclose(in_integers[shown].sum(), in_floats[n][shown].sum(), rel_tol=0.02)


def test_codes_are_cut_into_whole_groups(tiny_codec: Codec, tmp_path: Path) -> None:
    for n, seconds in enumerate((0.5, 4.5)):
        noise = np.random.default_rng(n).normal(size=int(24000 * seconds)) * 0.1
        soundfile.write(tmp_path / f"{n}.wav", noise, 24000)
    clips = load_clips([tmp_path], 24000)
    groups = groups_of_codes(model_of(tiny_codec), clips, group_frames=150)
    assert groups.shape == (2, 4, 150) and groups.dtype == torch.int16
    whole = model_of(tiny_codec).encode(clips[1][None, None]).audio_codes[0]
    assert torch.equal(groups[1], whole[:, 150:300].to(torch.int16))
    with pytest.raises(ModelError, match="no clip is as long"):
        groups_of_codes(model_of(tiny_codec), clips, group_frames=1000)


def test_levels_of_several_frames_have_no_tables() -> None:
    config = ModelConfig(
        latent_dim=8,
        spectral=SpectralConfig(dim=16, n_blocks=1),
        quantizer=QuantizerConfig((64,) * 2, (2, 1)),
    )
    with pytest.raises(ModelError, match="one code per frame"):
        groups_of_codes(CodecModel(config), load_clips([Path("samples")], 24000))


def test_the_command_fits_tables_that_files_use(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(24000 * 8) / 24000)
    soundfile.write(tmp_path / "tone.wav", tone, 24000)
    result = run("tables", folder, tmp_path / "tone.wav", "--steps", "60")
    assert result.code == 0 and TABLES in result.lines[-1]
    raw = encode_file(tmp_path / "tone.wav", tmp_path / "raw.rq", model=tiny_model_dir)
    coded = encode_file(tmp_path / "tone.wav", tmp_path / "coded.rq", model=folder)
    assert coded.header.entropy_id == load_tables(folder / TABLES).id
    assert coded.file_bytes < 0.8 * raw.file_bytes
    same = [decode_file(tmp_path / name, model=load(folder))[0] for name in ("raw.rq", "coded.rq")]
    assert np.array_equal(*same)
    again = run("tables", folder, tmp_path / "tone.wav")
    assert again.code == 1 and "-f" in again.lines[-1]


def test_tables_for_nothing(tiny_model_dir: Path) -> None:
    assert "does not exist" in run("tables", tiny_model_dir, "nowhere").lines[-1]
    assert run("tables", tiny_model_dir, "samples", "--steps", "0").code == 2
    assert run("tables", "nowhere", "samples").code == 1
