"""Codebook health: figures by hand, warnings, and the command that shows them."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_cases import run, write_audio

from audiocodec.cli import codebooks
from audiocodec.codec import Codec, load
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.model.store import save_model
from audiocodec.train.data import load_clips
from audiocodec.train.health import LevelHealth, codec_health, health, residual_energies

CONFIG = ModelConfig(
    name="multi",
    latent_dim=8,
    spectral=SpectralConfig(dim=16, n_blocks=1),
    quantizer=QuantizerConfig((16, 8, 8), (4, 2, 1)),
)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A folder with a clip of three seconds and one of a second."""
    write_audio(tmp_path / "audio" / "a.wav")
    write_audio(tmp_path / "audio" / "b.wav", 16000)
    return tmp_path / "audio"


def build() -> CodecModel:
    torch.manual_seed(0)
    return CodecModel(CONFIG).eval().requires_grad_(False)


def test_figures_of_even_use_and_of_collapse() -> None:
    even = LevelHealth(torch.tensor([100, 100, 100, 100]))
    assert (even.perplexity, even.entropy_bits, even.used) == pytest.approx((4, 2, 1))
    assert even.judgeable and not even.warning
    collapsed = LevelHealth(torch.tensor([0, 400, 0, 0]), residual_energy=0.5)
    assert collapsed.figures() == pytest.approx(
        {"perplexity": 1, "entropy_bits": 0, "used": 0.25, "residual_energy": 0.5}
    )
    assert collapsed.warning == "collapsed: 25.0% of 4 entries in use, perplexity 1.0"


def test_entropy_equals_its_formula() -> None:
    counts = [5, 0, 1, 14, 3]
    expected = -sum(n / 23 * math.log2(n / 23) for n in counts if n)
    level = LevelHealth(torch.tensor(counts))
    assert level.entropy_bits == pytest.approx(expected) and level.perplexity == pytest.approx(2**expected)


def test_what_is_warned_of() -> None:
    uneven = torch.ones(100, dtype=torch.int64)
    uneven[0] = 10**6
    assert LevelHealth(uneven).warning.startswith("collapsed: 100.0% of 100 entries in use, perplexity 1.0")
    some_idle = torch.full((100,), 50)
    some_idle[:5] = 0
    assert LevelHealth(some_idle).warning == "95.0% of 100 entries in use, the aim is over 98%"
    few = LevelHealth(torch.tensor([3, 0, 0, 0]))
    assert not few.judgeable and not few.warning  # entries may be missing by chance
    assert LevelHealth(torch.zeros(4, dtype=torch.int64)).perplexity == 1


def test_energies_are_those_of_the_residuals() -> None:
    model = build()
    latents = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(1))
    codes = model.quantizer.encode(latents, 3)
    expected = [latents.square().sum()]
    for n in (1, 2, 3):
        expected.append((latents - model.quantizer.decode(codes[:, :n])).square().sum())
    energies = residual_energies(model.quantizer, latents, codes)
    torch.testing.assert_close(energies.float(), torch.stack(expected))


def test_health_counts_the_codes_of_whole_clips(audio: Path) -> None:
    model, clips = build(), load_clips([audio], 24000)
    levels = health(model, (clips[n] for n in range(2)))
    expected = [torch.zeros(size, dtype=torch.int64) for size in (16, 8, 8)]
    for n in range(2):
        codes = model.encode(clips[n][None, None]).audio_codes
        for level, frames in enumerate((4, 2, 1)):
            expected[level] += torch.bincount(codes[0, level, ::frames], minlength=len(expected[level]))
    for level, counts in zip(levels, expected, strict=True):
        assert (
            level.counts - counts
        ).abs().sum() <= 4  # clips are filled up to whole codes of the slowest level
        assert level.residual_energy is not None and level.residual_energy > 0


def test_a_clip_is_coded_in_blocks_as_in_one(audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = build(), load_clips([audio], 24000)
    whole = health(model, [clips[0]])
    monkeypatch.setattr("audiocodec.train.health.BLOCK_SECONDS", 1)
    parts = health(model, [clips[0]])
    assert all(torch.equal(a.counts, b.counts) for a, b in zip(whole, parts, strict=True))


def test_another_codecs_model_has_all_but_energies(audio: Path, tiny_model_dir: Path) -> None:
    class Wrapped:
        """Hides that the model is one of ours."""

        def __init__(self, model: CodecModel) -> None:
            self._model = model

        def __getattr__(self, name: str) -> object:
            return getattr(self._model, name)

    codec, clips = load(tiny_model_dir, device="cpu"), load_clips([audio], 24000)
    assert isinstance(codec.model, CodecModel)
    ours, theirs = codec_health(codec, clips), codec_health(Codec(Wrapped(codec.model)), clips)
    for a, b in zip(ours, theirs, strict=True):
        assert b.residual_energy is None
        assert int(b.counts.sum()) == int(a.counts.sum()) and (a.counts - b.counts).abs().sum() <= 4


def test_the_command_prints_a_line_for_each_level(audio: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    done = run("codebooks", tiny_model_dir, "--data", audio, "--plot", tmp_path / "use.png")
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert len(lines) == 5 and lines[0].split()[:2] == ["level", "size"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(n), "64"] for n in (1, 2, 3, 4)]
    assert "codec: warning: 306 codes are too few" in "\n".join(done.lines)
    assert (tmp_path / "use.png").read_bytes()[:4] == b"\x89PNG"
    again = run("codebooks", tiny_model_dir, "--data", audio, "--plot", tmp_path / "use.png")
    assert again.code == 1 and not again.out and "use -f to overwrite it" in again.lines[0]


def test_the_command_prints_json(audio: Path, tiny_model_dir: Path) -> None:
    done = run("codebooks", tiny_model_dir, "--data", audio, "--json")
    (facts,) = done.objects
    assert list(facts) == list(codebooks.JSON_KEYS)
    assert facts["model"] == "tiny" and facts["seconds"] == pytest.approx(4)
    assert [level["size"] for level in facts["levels"]] == [64] * 4
    assert 0 < facts["levels"][0]["perplexity"] <= 64 and facts["levels"][0]["warning"] is None


def test_collapse_is_named(audio: Path, tmp_path: Path) -> None:
    model = build()
    model.quantizer.levels[2].codebook[1:] += 1000  # one entry takes all
    save_model(model, tmp_path / "model", "multi")
    done = run("codebooks", tmp_path / "model", "--data", audio)
    assert done.code == 0
    assert "codec: warning: level 3 collapsed: 12.5% of 8 entries in use, perplexity 1.0" in done.lines


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ("", "--data is missing", 2),
        ("--data {} --plot use.jpg", "expected a name that ends in .png", 2),
        ("--data {}/nowhere", "no such file or folder", 1),
    ],
)
def test_what_cannot_be_shown_is_said(
    words: str, message: str, code: int, audio: Path, tiny_model_dir: Path
) -> None:
    done = run("codebooks", tiny_model_dir, *words.format(audio).split())
    assert done.code == code and len(done.lines) == 1 and message in done.lines[0]


def test_a_model_without_codes_is_refused(audio: Path, tmp_path: Path) -> None:
    save_model(
        CodecModel(ModelConfig(latent_dim=8, bottleneck="none", spectral=CONFIG.spectral)),
        tmp_path / "m",
        "ae",
    )
    done = run("codebooks", tmp_path / "m", "--data", audio)
    assert done.code == 1 and "model 'ae' has no codes" in done.lines[0]


def test_help_needs_no_torch() -> None:
    code = "import sys; from audiocodec.cli import main; main(['codebooks', '--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False" and "MODEL --data PATH" in done.stdout
    json.dumps(codebooks.JSON_KEYS)
