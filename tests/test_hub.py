"""Other codecs in `.rq`: the codes and the sound are those of their own packages, and the laws of files hold."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hub_models import ENCODEC_48, FAMILIES, Family

from audiocodec import decode_file, encode_file, info
from audiocodec.codec import Codec, join_codes, load
from audiocodec.codes import Codes
from audiocodec.stream import Floats
from audiocodec.tools import drop_file, verify_file

transformers = pytest.importorskip("transformers", reason="pip install 'audiocodec[hub]'")
pytest.importorskip("snac", reason="pip install 'audiocodec[hub]'")


@dataclass(frozen=True)
class Pair:
    """A model by its own package, and the same one loaded from where it was saved."""

    family: Family
    original: Any
    folder: Path
    codec: Codec


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    family = FAMILIES[request.param]
    original = family.make()
    folder = tmp_path_factory.mktemp("hub") / "model"
    family.save(original, folder)
    return Pair(family, original, folder, load(folder, device="cpu"))


def noise(n_samples: int, channels: int = 1) -> Floats:
    return (0.1 * np.random.default_rng(0).standard_normal((n_samples, channels))).astype(np.float32)


def whole(pair: Pair, seconds: float = 6.0) -> Floats:
    """A recording [T] at the model's rate that is whole units long: several pieces and blocks."""
    n_units = round(seconds * pair.codec.space.sample_rate / pair.family.unit)
    return noise(n_units * pair.family.unit)[:, 0]


def test_the_codes_are_those_of_the_package(pair: Pair) -> None:
    audio = whole(pair)
    codes = pair.codec.encode(audio, pair.codec.space.sample_rate)
    with torch.inference_mode():
        expected = pair.family.encode(pair.original, torch.from_numpy(audio)[None, None])
    assert [len(level) for level in expected] == [level.shape[1] for level in codes.levels]
    assert len(np.unique(expected[-1])) > 10  # the random network says something
    for level, other in zip(codes.levels, expected, strict=True):
        # rounding may turn a code over where two entries are equally near
        assert (level[0] == other).mean() >= 0.999


def test_the_audio_is_that_of_the_package(pair: Pair) -> None:
    if pair.family.decode is None:
        pytest.skip("the package's decoder draws other noise every time")
    audio = whole(pair)
    codes = pair.codec.encode(audio, pair.codec.space.sample_rate)
    decoded = pair.codec.decode(codes)[:, 0]
    with torch.inference_mode():
        expected = pair.family.decode(pair.original, [level[0].astype(np.int64) for level in codes.levels])
    assert 0 <= len(decoded) - len(expected) < 20  # DAC's decoder falls short at the end
    loudest = np.abs(expected).max()
    np.testing.assert_allclose(decoded[: len(expected)], expected, atol=1e-4 * loudest)


@pytest.mark.parametrize("n_samples", [0, 1, 1000, 100001])
def test_files_keep_rate_channels_and_length(pair: Pair, tmp_path: Path, n_samples: int) -> None:
    audio = noise(n_samples, 2)
    soundfile.write(tmp_path / "in.wav", audio, 44100, subtype="FLOAT")
    stated = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", n_q=2, model=pair.codec)
    assert stated == info(tmp_path / "out.rq") and not verify_file(tmp_path / "out.rq")
    decoded, rate = decode_file(tmp_path / "out.rq", model=pair.codec)
    assert (rate, decoded.shape) == (44100, (n_samples, 2))
    assert np.array_equal(decoded, pair.codec.decode(pair.codec.encode(audio, 44100, n_q=2)))


def test_dropping_levels_equals_encoding_at_fewer(pair: Pair, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(100001), 24000)
    n_q = pair.codec.space.n_q
    encode_file(tmp_path / "in.wav", tmp_path / "all.rq", n_q=n_q, model=pair.codec)
    encode_file(tmp_path / "in.wav", tmp_path / "few.rq", n_q=n_q - 1, model=pair.codec)
    drop_file(tmp_path / "all.rq", tmp_path / "dropped.rq", n_q - 1)
    assert (tmp_path / "dropped.rq").read_bytes() == (tmp_path / "few.rq").read_bytes()
    decoded, _ = decode_file(tmp_path / "all.rq", model=pair.codec, n_q=n_q - 1)
    assert np.array_equal(decoded, decode_file(tmp_path / "few.rq", model=pair.codec)[0])


def test_any_chunking_gives_the_same_codes_and_samples(pair: Pair) -> None:
    audio = noise(120001)
    encoder = pair.codec.stream_encoder(24000)
    parts = np.split(audio, [7, 30000, 30001, 99999])
    codes = join_codes([*(encoder.push(part) for part in parts), encoder.finish()])
    expected = pair.codec.encode(audio, 24000)
    for level, other in zip(codes.levels, expected.levels, strict=True):
        assert np.array_equal(level, other)
    decoder = pair.codec.stream_decoder(24000)
    slowest = codes.space.frames_per_code[0]
    cuts = sorted([0, 3 * slowest, 4 * slowest, codes.n_frames // slowest // 2 * slowest, codes.n_frames])
    pieces = [decoder.push(stretch(codes, *cut)) for cut in pairwise(cuts)]
    decoded = np.concatenate([*pieces, decoder.finish(len(audio))])
    assert np.array_equal(decoded, pair.codec.decode(codes))


def stretch(codes: Codes, first: int, last: int) -> Codes:
    """The codes of a stretch of frames."""
    spans = codes.space.frames_per_code
    levels = [level[:, first // m : -(-last // m)] for level, m in zip(codes.levels, spans, strict=True)]
    return Codes(codes.space, codes.source, last - first, tuple(levels), None)


@pytest.mark.parametrize("rate", [24000, 44100])
def test_a_stretch_equals_that_part_of_the_whole(pair: Pair, tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "in.wav", noise(9 * rate + 17), rate)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=pair.codec)
    entire, _ = decode_file(tmp_path / "out.rq", model=pair.codec)
    part, _ = decode_file(tmp_path / "out.rq", model=pair.codec, start_seconds=7.3)
    first = round(7.3 * rate)
    loudest = np.abs(entire).max()
    np.testing.assert_allclose(part, entire[first:], atol=pair.family.settles_to * loudest)


def test_a_damaged_group_is_silence_and_the_rest_is_as_it_was(pair: Pair, tmp_path: Path) -> None:
    rate = pair.codec.space.sample_rate  # a resampler would spread the edges of what is silent
    soundfile.write(tmp_path / "in.wav", noise(10 * rate), rate)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=pair.codec)
    entire, _ = decode_file(tmp_path / "out.rq", model=pair.codec)
    data = bytearray((tmp_path / "out.rq").read_bytes())
    data[len(data) * 2 // 3] ^= 4
    (tmp_path / "out.rq").write_bytes(data)
    decoded, _ = decode_file(tmp_path / "out.rq", model=pair.codec, keep_going=True)
    assert decoded.shape == entire.shape
    changed = np.flatnonzero(np.abs(decoded - entire)[:, 0] > 1e-5 * np.abs(entire).max())
    assert changed[0] > 24000
    silent = changed[decoded[changed, 0] == 0]
    assert silent[-1] - silent[0] > 24000
    assert (decoded[silent[0] : silent[-1] + 1] == 0).all()
    reach = (pair.codec.model.receptive_field + 1) * pair.codec.space.hop_length
    assert silent[0] - changed[0] <= (0 if pair.codec.causal else reach)
    assert changed[-1] - silent[-1] <= reach


def test_a_recording_in_two_lanes_is_coded_as_each_alone(pair: Pair) -> None:
    audio = noise(50000)
    twice = pair.codec.encode(np.concatenate([audio, audio], axis=1), 24000)  # the side lane is silent
    alone = pair.codec.encode(audio, 24000)
    for level, other in zip(twice.levels, alone.levels, strict=True):
        assert (level[0] == other[0]).mean() >= 0.999


def test_the_code_space_is_that_of_the_codebooks_and_not_of_the_folder(pair: Pair, tmp_path: Path) -> None:
    pair.family.save(pair.original, tmp_path / "elsewhere")
    space = load(tmp_path / "elsewhere", device="cpu").space
    assert space == pair.codec.space and "elsewhere" not in space.model
    weights = pair.codec.model.code_space()
    assert weights == pair.codec.space


def test_memory_does_not_grow_with_the_recording(pair: Pair) -> None:
    model, space = pair.codec.model, pair.codec.space
    n_frames = 10 * space.frames_per_code[0]
    n_samples = n_frames // space.unit_frames * space.unit_samples
    samples = 0.1 * torch.randn(1, space.lane_channels, n_samples)
    codes = torch.zeros(1, space.n_q, n_frames, dtype=torch.int64)
    encoding, decoding = model.encoder_state(1), model.decoder_state(1)
    n_blocks = 60 if n_frames < 50 else 12
    sizes = []
    with torch.inference_mode():
        for _ in range(n_blocks):
            _, encoding = model.encode_block(samples, encoding, space.n_q)
            _, decoding = model.decode_block(codes, decoding)
            sizes.append(n_values(encoding) + n_values(decoding))
    # what waits for a whole piece varies; what piles up would be four times as much by now
    assert 0 < max(sizes) <= 2 * max(sizes[: n_blocks // 4])


def n_values(state: Any) -> int:
    """Numbers in all tensors of a state."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, (tuple, list)):
        return sum(map(n_values, state))
    if is_dataclass(state):
        return sum(n_values(getattr(state, field.name)) for field in fields(state))
    if hasattr(state, "layers"):  # a cache of keys and values
        return sum(n_values((layer.keys, layer.values)) for layer in state.layers)
    return 0


def test_live_streams_agree_with_files_and_models_that_look_ahead_are_not_live(pair: Pair) -> None:
    if not pair.codec.causal:
        with pytest.raises(ValueError, match="needs a causal model"):
            pair.codec.stream_encoder(24000, live=True)
        return
    audio = noise(6 * 24000)
    encoder = pair.codec.stream_encoder(24000, live=True)
    live = join_codes([encoder.push(audio), encoder.finish()]).values
    expected = pair.codec.encode(audio, 24000).values
    first = (
        20 if "encodec" in pair.codec.space.model else 0
    )  # it mirrors the little that it has heard by then
    assert (live == expected)[..., first:].mean() >= 0.995


@pytest.mark.parametrize(("channels", "rate"), [(1, 48000), (2, 48000), (2, 44100)])
def test_a_stereo_lane_keeps_both_channels(tmp_path: Path, channels: int, rate: int) -> None:
    """Left and right go in, and come out, as the package has them; in files, and where the recording is mono."""
    family = FAMILIES["encodec 48 kHz"]
    original = family.make()
    family.save(original, tmp_path / "model")
    codec = load(tmp_path / "model", device="cpu")
    audio = noise(2 * 47520 + 480, channels) * np.array([1.0, 0.2], np.float32)[:channels]
    codes = codec.encode(audio, rate)
    assert all(len(level) == 1 for level in codes.levels)
    assert codec.levels_for(24.2, channels) == 16  # however many channels
    if rate == 48000:
        pair = torch.from_numpy(np.ascontiguousarray(np.broadcast_to(audio, (len(audio), 2)).T))[None]
        with torch.inference_mode():
            expected = original.encode(pair, bandwidth=24.0).audio_codes[:2, 0]
        found = np.stack([level[0] for level in codes.levels[1:]])
        assert (found == expected.transpose(0, 1).flatten(1).numpy()).mean() >= 0.999
    soundfile.write(tmp_path / "in.wav", audio, rate, subtype="FLOAT")
    written = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", n_q=17, model=codec)
    read = info(tmp_path / "out.rq")
    assert read == written and read.header.space == codec.space
    assert read.n_frames == codec.space.n_frames(-(-len(audio) * 48000 // rate))
    assert read.header.group_seconds == pytest.approx(600 / 150 * 0.99)
    decoded, _ = decode_file(tmp_path / "out.rq", model=codec)
    assert decoded.shape == audio.shape
    assert np.array_equal(decoded, codec.decode(codes))


def test_segments_keep_time(pair: Pair) -> None:
    """The places of frames in time, by which files are cut and damage is told, are those of the samples."""
    space = pair.codec.space
    for n_units in (1, 2, 100):
        n_samples = n_units * space.unit_samples + space.segment_overlap - space.delay
        assert space.n_frames(n_samples) == n_units * space.unit_frames
        assert n_units * space.unit_frames / space.frame_rate == pytest.approx(
            n_units * space.unit_samples / space.sample_rate
        )


# The real configurations


def real_encodec() -> Any:
    from audiocodec.hub.seanet import Encodec

    return Encodec(transformers.EncodecModel(transformers.EncodecConfig()), "encodec")


def real_encodec_48() -> Any:
    from audiocodec.hub.segments import SegmentedEncodec

    return SegmentedEncodec(transformers.EncodecModel(transformers.EncodecConfig(**ENCODEC_48)), "encodec")


def real_mimi() -> Any:
    from audiocodec.hub.seanet import Mimi

    return Mimi(transformers.MimiModel(transformers.MimiConfig()), "mimi")


def real_dac(sample_rate: int, strides: tuple[int, ...], n_codebooks: int) -> Any:
    from audiocodec.hub.dac import Dac
    from audiocodec.hub.windows import Windowed

    config = transformers.DacConfig(
        sampling_rate=sample_rate, downsampling_ratios=strides, n_codebooks=n_codebooks
    )
    return Windowed(Dac(transformers.DacModel(config), "dac"))


def real_snac(**config: Any) -> Any:
    from snac import SNAC

    from audiocodec.hub.snac import Snac
    from audiocodec.hub.windows import Windowed

    return Windowed(Snac(SNAC(**config), "snac"))


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (real_encodec, (24000, 320, 32, 24.0)),
        (real_encodec_48, (48000, 320, 17, 24.258)),
        (real_mimi, (24000, 1920, 32, 4.4)),
        (lambda: real_dac(16000, (2, 4, 5, 8), 12), (16000, 320, 12, 6.0)),
        (lambda: real_dac(24000, (2, 4, 5, 8), 32), (24000, 320, 32, 24.0)),
        (lambda: real_dac(44100, (2, 4, 8, 8), 9), (44100, 512, 9, 7.752)),
    ],
    ids=["encodec 24 kHz", "encodec 48 kHz", "mimi", "dac 16 kHz", "dac 24 kHz", "dac 44 kHz"],
)
def test_models_of_full_size_have_the_published_rates(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], facts: tuple[int, int, int, float]
) -> None:
    for room in ("seanet", "segments", "dac"):  # there are no values on the meta device
        monkeypatch.setattr(f"audiocodec.hub.{room}.values", lambda _: b"")
    with torch.device("meta"):
        space = make().code_space()
    assert (space.sample_rate, space.hop_length, space.n_q, round(space.kbps(), 3)) == facts


def test_a_snac_of_full_size_has_the_published_rate() -> None:
    model = real_snac(
        sampling_rate=24000,
        encoder_dim=48,
        encoder_rates=[2, 4, 8, 8],
        decoder_dim=1024,
        decoder_rates=[8, 8, 4, 2],
        attn_window_size=None,
        codebook_size=4096,
        codebook_dim=8,
        vq_strides=[4, 2, 1],
    )
    space = model.code_space()
    assert (space.sample_rate, space.hop_length, space.frames_per_code) == (24000, 512, (4, 2, 1))
    assert round(space.kbps(), 2) == 0.98
