"""Variable bitrate: laws that hold for any model, on a tiny one with random weights."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_cases import run, write_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiocodec import decode_file, encode_file, info
from audiocodec.audio import AudioReader, RawFormat
from audiocodec.codec import Codec, join_codes
from audiocodec.codes import Codes, CodeSpace
from audiocodec.encoding import encode_at_rate, encode_stream
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.tools import drop_file
from audiocodec.variable import CHANGE_BITS, PRICES, DistanceMeter, choose_counts, mel_filters, price_of

Floats = NDArray[np.float32]
RATE = 24000
SPACE = CodeSpace(bytes(16), "demo", RATE, 320, 960, (1024,) * 8, (1,) * 8)


def speech_like(seconds: float, channels: int = 1) -> Floats:
    """Bursts of noise of many levels, with silence between them."""
    random = np.random.default_rng(0)
    n_samples = round(seconds * RATE)
    gains = np.repeat(10 ** random.uniform(-3, -0.5, n_samples // 2400 + 1), 2400)[:n_samples]
    gains[(np.arange(n_samples) // 4800) % 3 == 2] = 0
    audio: Floats = (gains[:, None] * random.standard_normal((n_samples, channels))).astype(np.float32)
    return np.clip(audio, -1, 1)


def slow_counts(distances: Floats, bits: Floats, price: float) -> tuple[int, ...]:
    """The best counts of one stretch, of all that there are."""

    def cost(counts: tuple[int, ...]) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(counts))
        frames = sum(float(distances[count, frame]) for frame, count in enumerate(counts))
        return frames + price * (float(bits[list(counts)].sum()) + CHANGE_BITS * changes)

    return min(itertools.product(range(len(distances)), repeat=distances.shape[1]), key=cost)


@given(
    seed=st.integers(0, 1000),
    n_counts=st.integers(1, 4),
    n_frames=st.integers(1, 5),
    price=st.floats(1e-4, 0.2),
)
@settings(max_examples=40, deadline=None)
def test_the_chosen_counts_cost_least(seed: int, n_counts: int, n_frames: int, price: float) -> None:
    distances = np.random.default_rng(seed).random((n_counts, 3, n_frames), np.float32)
    bits = np.arange(n_counts, dtype=np.float32)
    counts = choose_counts(distances, bits[:, None, None], price)
    for stretch in range(3):
        assert tuple(counts[stretch]) == slow_counts(distances[:, stretch], bits, price)


def test_a_higher_price_takes_fewer_bits_and_a_higher_quality_a_lower_price() -> None:
    distances = np.sort(np.random.default_rng(0).random((5, 2, 50), np.float32), axis=0)[::-1]
    bits = np.arange(5, dtype=np.float32)[:, None, None]
    sizes = [int(choose_counts(distances, bits, price).sum()) for price in (1e-6, 1e-3, 1e-1, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0 == sizes[-1]
    assert [price_of(q, 8) for q in range(1, 9)] == pytest.approx(PRICES)
    assert price_of(3, 8) > price_of(3.5, 8) > price_of(4, 8)


@pytest.mark.parametrize("quality", [0.9, 8.1, float("nan")])
def test_another_quality_is_an_error(quality: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 8"):
        price_of(quality, 8)


def test_mel_filters_are_those_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80).T
    np.testing.assert_allclose(mel_filters(RATE, 1024), expected, atol=1e-6)


def test_distances_are_smaller_with_what_is_nearer_and_none_for_silence(tiny_codec: Codec) -> None:
    meter = DistanceMeter(tiny_codec.model, tiny_codec.space, 1)  # type: ignore[arg-type]  # it is variable
    codes = np.zeros((1, 4, 75), np.int16)
    silent = meter.push(np.zeros((1, 24000), np.float32), codes)
    assert silent.shape[:2] == (5, 1)
    assert 60 < silent.shape[2] < 75
    assert not silent.any()
    loud = meter.push(np.full((1, 24000), 0.1, np.float32), codes)
    assert loud[..., -10:].min() > 0


@given(cuts=st.lists(st.integers(0, 100000), max_size=6), channels=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
def test_any_cutting_gives_the_same_codes_and_counts(
    tiny_codec: Codec, cuts: list[int], channels: int
) -> None:
    audio = speech_like(2.3, channels)
    whole = tiny_codec.encode(audio, RATE, quality=3)
    encoder = tiny_codec.stream_encoder(RATE, channels=channels, quality=3)
    parts = [encoder.push(part) for part in np.split(audio, sorted(cut % len(audio) for cut in cuts))]
    pieces = join_codes([*parts, encoder.finish()])
    assert whole.counts is not None
    assert pieces.counts is not None
    assert whole.n_frames == tiny_codec.space.n_frames(len(audio)) == whole.counts.shape[1]
    np.testing.assert_array_equal(whole.values, pieces.values)
    np.testing.assert_array_equal(whole.counts, pieces.counts)


def test_codes_are_those_of_constant_rate_where_there_are_any(tiny_codec: Codec) -> None:
    audio = speech_like(2)
    constant, variable = tiny_codec.encode(audio, RATE), tiny_codec.encode(audio, RATE, quality=2)
    assert variable.counts is not None
    assert len(np.unique(variable.counts)) > 1
    present = variable.counts[:, None] > np.arange(4)[:, None]
    np.testing.assert_array_equal(variable.values, constant.values * present)


def test_all_levels_everywhere_decode_as_constant_rate(tiny_codec: Codec) -> None:
    codes = tiny_codec.encode(speech_like(2), RATE)
    counted = replace(codes, counts=np.full((1, codes.n_frames), 4, np.uint8))
    np.testing.assert_array_equal(tiny_codec.decode(counted), tiny_codec.decode(codes))
    with torch.inference_mode():
        model = tiny_codec.model
        assert isinstance(model, CodecModel)
        values = torch.from_numpy(codes.values.astype(np.int64))
        counts = torch.full((1, codes.n_frames), 4)
        state = model.decoder_state(1)
        varying, _ = model.decode_variable(values, counts, model.silence(), state)
        constant, _ = model.decode_block(values, model.decoder_state(1))
    assert torch.equal(varying, constant)


def test_missing_levels_add_nothing_and_none_is_silence(tiny_codec: Codec) -> None:
    model = tiny_codec.model
    assert isinstance(model, CodecModel)
    codes = torch.randint(64, (1, 4, 5))
    quantized = model.quantizer.decode(codes, torch.tensor([[0, 1, 2, 3, 4]]))
    assert not quantized[..., 0].any()
    for count in range(1, 5):
        expected = model.quantizer.decode(codes[:, :count])[..., count]
        torch.testing.assert_close(quantized[..., count], expected)
    with torch.inference_mode():
        latents, _ = model.encoder(torch.zeros(1, 1, 32000), model.encoder_state(1))
    torch.testing.assert_close(model.silence()[..., 0], latents[..., -1])


@given(first=st.integers(0, 200), chunk=st.integers(1, 90))
@settings(max_examples=10, deadline=None)
def test_decoding_in_pieces_is_decoding_the_whole(tiny_codec: Codec, first: int, chunk: int) -> None:
    codes = tiny_codec.encode(speech_like(2.3), RATE, quality=2)
    decoder = tiny_codec.stream_decoder(RATE)
    starts = [0, *range(first % chunk, codes.n_frames, chunk), codes.n_frames]
    parts = [decoder.push(stretch(codes, a, b)) for a, b in itertools.pairwise(starts)]
    audio = np.concatenate([*parts, decoder.finish(codes.n_samples)])
    np.testing.assert_array_equal(audio, tiny_codec.decode(codes))


def stretch(codes: Codes, start: int, stop: int) -> Codes:
    assert codes.counts is not None
    levels = tuple(level[:, start:stop] for level in codes.levels)
    return replace(codes, n_frames=stop - start, levels=levels, counts=codes.counts[:, start:stop])


@pytest.mark.parametrize("channels", [1, 2])
def test_files_hold_the_counts_and_dropping_levels_caps_them(
    tmp_path: Path, tiny_codec: Codec, channels: int
) -> None:
    audio = speech_like(3, channels)
    soundfile.write(tmp_path / "in.wav", audio, RATE, subtype="FLOAT")
    written = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", quality=3, model=tiny_codec)
    assert written == info(tmp_path / "out.rq")
    assert written.header.variable
    codes = tiny_codec.encode(audio, RATE, quality=3)
    decoded, _ = decode_file(tmp_path / "out.rq", model=tiny_codec)
    np.testing.assert_array_equal(decoded, tiny_codec.decode(codes))

    assert codes.counts is not None
    capped = np.minimum(codes.counts, 2).astype(np.uint8)
    expected = tiny_codec.decode(
        replace(codes, space=codes.space.first(2), levels=codes.levels[:2], counts=capped)
    )
    drop_file(tmp_path / "out.rq", tmp_path / "two.rq", 2)
    np.testing.assert_array_equal(decode_file(tmp_path / "two.rq", model=tiny_codec)[0], expected)
    np.testing.assert_array_equal(decode_file(tmp_path / "out.rq", model=tiny_codec, n_q=2)[0], expected)


def test_a_stretch_of_a_file_is_that_of_the_whole(tmp_path: Path, tiny_codec: Codec) -> None:
    soundfile.write(tmp_path / "in.wav", speech_like(7), RATE)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", quality=3, model=tiny_codec)
    whole, _ = decode_file(tmp_path / "out.rq", model=tiny_codec)
    part, _ = decode_file(tmp_path / "out.rq", model=tiny_codec, start_seconds=4.5, duration_seconds=1)
    np.testing.assert_allclose(part, whole[round(4.5 * RATE) : round(5.5 * RATE)], atol=1e-5)


def test_two_threads_write_the_same_bytes(tiny_codec: Codec) -> None:
    audio, before = speech_like(3, 2), torch.get_num_threads()
    raw = (audio * 32767).astype("<i2").tobytes()
    files = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            with AudioReader(io.BytesIO(raw), raw=RawFormat(RATE, 2)) as reader:
                encode_stream(tiny_codec, reader, file := io.BytesIO(), n_q=4, quality=3)
            files.append(file.getvalue())
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


def test_silence_takes_less_than_100_bits_a_second(tmp_path: Path, tiny_codec: Codec) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((30 * RATE, 1)), RATE)
    written = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", quality=4, model=tiny_codec)
    assert written.kbps < 0.1


@pytest.mark.parametrize("kbps", [0.5, 0.8])
def test_the_average_rate_is_met(tmp_path: Path, tiny_codec: Codec, kbps: float) -> None:
    soundfile.write(tmp_path / "in.wav", speech_like(30), RATE)
    done: list[float] = []
    with AudioReader(tmp_path / "in.wav") as reader:
        written = encode_at_rate(tiny_codec, reader, io.BytesIO(), kbps=kbps, progress=done.append)
    assert written.kbps == pytest.approx(kbps, rel=0.03)
    assert done[-1] == 30


def test_rates_that_a_recording_cannot_have_are_errors(tmp_path: Path, tiny_codec: Codec) -> None:
    soundfile.write(tmp_path / "in.wav", speech_like(4), RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), RATE)
    for name, kbps, text in (("in", 3, "at the most"), ("in", 0.01, "at the least"), ("empty", 1, "empty")):
        with pytest.raises(ValueError, match=text):
            encode_file(tmp_path / f"{name}.wav", tmp_path / "out.rq", kbps=kbps, vbr=True, model=tiny_codec)
    with pytest.raises(ValueError, match="vbr goes with kbps"):
        encode_file(tmp_path / "in.wav", tmp_path / "out.rq", vbr=True, model=tiny_codec)
    assert not (tmp_path / "out.rq").exists()


def test_models_whose_codes_span_frames_have_no_variable_bitrate() -> None:
    config = ModelConfig(
        latent_dim=8,
        spectral=SpectralConfig(dim=16, n_blocks=1),
        quantizer=QuantizerConfig((16, 16), (2, 1)),
    )
    codec = Codec(CodecModel(config).eval())
    with pytest.raises(ValueError, match="no variable bitrate"):
        codec.stream_encoder(RATE, quality=1)
    with pytest.raises(ValueError, match="no variable bitrate"):
        codec.measure_levels([], RATE, 1)


def test_live_coding_has_constant_bitrate(tiny_codec: Codec) -> None:
    with pytest.raises(ValueError, match="live"):
        tiny_codec.stream_encoder(RATE, live=True, quality=2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--quality", 0.5), "expected 1 to 8"),
        (("--quality", "nan"), "expected 1 to 8"),
        (("--quality", 5), "expected 1 to 4"),  # of the tiny model
        (("--quality", 3, "--kbps", 1), "--kbps and --quality"),
        (("--quality", 3, "--levels", 4), "--levels and --quality"),
        (("--quality", 3, "--vbr"), "--vbr needs --kbps"),
        (("--vbr",), "--vbr needs --kbps"),
        (("--vbr", "--kbps", 1, "--live"), "--live"),
        (("--quality", 3, "--live"), "--live"),
    ],
)
@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_the_command_refuses_what_cannot_be(
    tiny_model_dir: Path, options: tuple[object, ...], text: str
) -> None:
    write_audio(Path("in.wav"))
    result = run("encode", "in.wav", "-m", tiny_model_dir, *options)
    assert result.code == 2
    assert text in " ".join(result.lines)
    assert not Path("in.rq").exists()


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_the_command_says_the_real_rate(tiny_model_dir: Path) -> None:
    write_audio(Path("in.wav"))
    result = run("encode", "in.wav", "-m", tiny_model_dir, "--quality", 2, "--json", "--verify")
    assert result.code == 0
    (facts,) = result.objects
    assert facts["variable"] is True
    assert facts["kbps"] == pytest.approx(Path("in.rq").stat().st_size * 8 / 3000, abs=1e-3)
    assert f"{facts['kbps']:.2f} kbps variable" in " ".join(result.lines)
    constant = run("encode", "-f", "in.wav", "-m", tiny_model_dir, "--json")
    assert constant.objects[0]["variable"] is False
