"""The model: causal, the same in blocks as in one, and what its config says."""

import dataclasses
import json
from contextlib import nullcontext

import pytest
import torch

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig, StridedConfig, from_dict
from audiocodec.model.layers import CausalConv1d
from audiocodec.model.store import load_model, save_model

SPECTRAL = ModelConfig(
    name="tiny",
    latent_dim=8,
    spectral=SpectralConfig(dim=16, n_blocks=2),
    quantizer=QuantizerConfig((64, 32, 32), (1, 1, 1)),
)
STRIDED = dataclasses.replace(SPECTRAL, transform="strided", strided=StridedConfig(channels=4))
MULTI_SCALE = dataclasses.replace(SPECTRAL, quantizer=QuantizerConfig((64, 32, 32), (4, 2, 1)))

every_model = pytest.mark.parametrize(
    "config", [SPECTRAL, STRIDED, MULTI_SCALE], ids=["spectral", "strided", "multi"]
)


def build(config: ModelConfig) -> CodecModel:
    torch.manual_seed(0)
    return CodecModel(config).eval().requires_grad_(False)


def noise(n_items: int, n_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(n_items, 1, n_samples, generator=torch.Generator().manual_seed(1))


@every_model
def test_blocks_with_state_equal_the_whole(config: ModelConfig) -> None:
    model, audio = build(config), noise(2, 24 * 320)
    codes, _ = model.encode_block(audio, model.encoder.initial_state(2), 3)
    decoded, _ = model.decode_block(codes, model.decoder.initial_state(2))
    for n_frames in (4, 8):
        encoder_state, decoder_state = model.encoder.initial_state(2), model.decoder.initial_state(2)
        code_parts, audio_parts = [], []
        for block in audio.split(n_frames * 320, dim=-1):
            part, encoder_state = model.encode_block(block, encoder_state, 3)
            code_parts.append(part)
            out, decoder_state = model.decode_block(part, decoder_state)
            audio_parts.append(out)
        assert (
            torch.cat(code_parts, -1) == codes
        ).float().mean() > 0.999  # another matrix shape may round otherwise
        torch.testing.assert_close(torch.cat(audio_parts, -1), decoded, atol=1e-5, rtol=0)


def test_compilers_see_another_convolution_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, written_out = CausalConv1d(16, 16, 7, groups=16), []
    plain = CausalConv1d._depthwise
    monkeypatch.setattr(
        CausalConv1d, "_depthwise", lambda self, x: written_out.append(len(x)) or plain(self, x)
    )
    x, state = torch.randn(2, 16, 24), torch.randn(2, 16, 6)
    expected = layer(x, state)
    assert not written_out
    compiled = torch.compile(layer, backend="eager")(x, state)
    assert written_out
    for ours, theirs in zip(compiled, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_model
def test_nothing_before_a_sample_depends_on_it(config: ModelConfig) -> None:
    model, audio = build(config), noise(1, 24 * 320)
    changed = audio.clone()
    changed[..., 12 * 320 :] += 1
    outputs = []
    for x in (audio, changed):
        codes, _ = model.encode_block(x, model.encoder.initial_state(1), 3)
        decoded, _ = model.decode_block(codes, model.decoder.initial_state(1))
        outputs.append((codes, decoded))
    assert torch.equal(outputs[0][0][..., :12], outputs[1][0][..., :12])
    torch.testing.assert_close(outputs[0][1][..., : 12 * 320], outputs[1][1][..., : 12 * 320])
    assert not torch.allclose(outputs[0][1], outputs[1][1])


@every_model
def test_an_item_gets_the_codes_that_it_gets_alone(config: ModelConfig) -> None:
    model, batch = build(config), noise(3, 20000)
    lengths = torch.tensor([20000, 7001, 0])
    together = model.encode(batch, lengths=lengths)
    for item, length in enumerate(lengths.tolist()[:2]):
        alone = model.encode(batch[item : item + 1, :, :length])
        n_frames = int(together.frames[item])
        assert n_frames == int(alone.frames[0]) == -(-(length + config.delay) // 320)
        same = together.audio_codes[item, :, :n_frames] == alone.audio_codes[0, :, :n_frames]
        assert same.float().mean() >= 0.999
    assert together.frames[2] == 0 and not together.audio_codes[2].any()


@every_model
def test_decoding_depends_on_its_receptive_field_only(config: ModelConfig) -> None:
    model = build(config)
    reach = model.decoder.receptive_field
    codes = torch.randint(32, (1, 3, reach + 8), generator=torch.Generator().manual_seed(2))
    whole, _ = model.decode_block(codes, model.decoder.initial_state(1))
    late, _ = model.decode_block(codes[..., 4:], model.decoder.initial_state(1))
    settled = (4 + reach) * 320
    torch.testing.assert_close(whole[..., settled:], late[..., settled - 4 * 320 :], atol=1e-5, rtol=0)


def test_the_transform_alone_reconstructs_perfectly() -> None:
    model, samples = build(SPECTRAL), noise(1, 6400)[:, 0]
    padded = torch.cat([torch.zeros(1, 640), samples], dim=-1)
    frames = torch.fft.irfft(torch.fft.rfft(padded.unfold(-1, 960, 320) * model.encoder.window))
    decoded, _ = model.decoder.overlap(frames * model.decoder.window, torch.zeros(1, 640))
    torch.testing.assert_close(decoded[:, 640:], samples[:, :-640], atol=1e-5, rtol=0)


def test_latency_counts_window_and_lookahead() -> None:
    assert ModelConfig().latency_ms == pytest.approx(53.33, abs=0.01)
    assert ModelConfig(transform="strided", lookahead=0).latency_ms == pytest.approx(13.33, abs=0.01)


def test_nothing_is_coded_as_nothing() -> None:
    model = build(SPECTRAL)
    codes = model.encode(noise(2, 0))
    assert codes.audio_codes.shape == (2, 3, 0) and codes.frames.tolist() == [0, 0]
    assert model.decode(codes.audio_codes).audio_values.shape == (2, 1, 0)


@every_model
def test_what_is_coded_comes_from_any_device(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(config).to("meta")  # any device but the CPU; this one has no autocast
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    codes = model.encode(noise(2, 20000), lengths=torch.tensor([20000, 7001]))
    assert codes.audio_codes.device == codes.frames.device == model.device
    decoded = model.decode(torch.zeros(2, 3, 8, dtype=torch.int64), 1000).audio_values
    assert decoded.shape == (2, 1, 1000) and decoded.device == model.device


@pytest.mark.parametrize("lengths", [[1001], [-1], [10, 10]])
def test_lengths_that_cannot_be_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="1 numbers from 0 to 1000"):
        build(SPECTRAL).encode(noise(1, 1000), lengths=torch.tensor(lengths))


@pytest.mark.parametrize("n_q", [0, 4])
def test_a_level_count_the_model_lacks_is_refused(n_q: int) -> None:
    with pytest.raises(ValueError, match="1 to 3"):
        build(SPECTRAL).encode(noise(1, 1000), n_q=n_q)


@every_model
def test_config_to_json_and_back_is_the_identity(config: ModelConfig) -> None:
    assert from_dict(ModelConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop": 320}, "unknown key 'hop'"),
        ({"latent_dim": "64"}, "expected int"),
        ({"transform": "wavelet"}, "spectral or strided"),
        ({"transform": "strided", "strided": {"strides": [2, 4]}}, "strides multiply to 8"),
        ({"spectral": {"window_length": 1000}}, "a multiple of hop"),
        ({"quantizer": {"codebook_sizes": [64], "frames_per_code": [1, 1]}}, "one value per level"),
        ({"hop_length": 0}, "hop_length 0: expected 1 or more"),
        ({"spectral": {"n_blocks": 0}}, "n_blocks 0"),
        ({"spectral": []}, "expected a table"),
        ({"quantizer": {"codebook_sizes": [64, 64], "frames_per_code": [1, 2]}}, "divide"),
    ],
)
def test_unknown_and_contradicting_keys_are_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_dict(ModelConfig, values)


def test_a_saved_model_comes_back(tmp_path) -> None:
    model = build(SPECTRAL)
    save_model(model, tmp_path / "m", "other")
    loaded = load_model(tmp_path / "m")
    assert loaded.config == dataclasses.replace(SPECTRAL, name="other")
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours.half().float())


def test_the_code_space_is_that_of_the_codebooks(tmp_path) -> None:
    model = build(SPECTRAL)
    before = model.code_space().id
    model.decoder.head.weight += 1  # a better decoder reads old files
    assert model.code_space().id == before
    model.quantizer.levels[2].codebook[0, 0] += 1
    assert model.code_space().id != before


def test_damaged_weights_are_noticed(tmp_path) -> None:
    save_model(build(SPECTRAL), tmp_path, "tiny")
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    weights.write_bytes(data[:-100])
    with pytest.raises(ModelError, match="cannot read"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"colour": 1}')
    with pytest.raises(ModelError, match="unknown key"):
        load_model(tmp_path)
