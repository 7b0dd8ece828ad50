"""The road: laws of coding that hold for any model, on a tiny one with random weights."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec import bitstream, decode_file, encode_file, info
from audiocodec.audio import AudioReader, RawFormat
from audiocodec.bitstream import Header, Writer
from audiocodec.bitstream.header import pack_header
from audiocodec.codec import Codec, join_codes, load, load_for
from audiocodec.codes import Codes
from audiocodec.decoding import Decoding
from audiocodec.encoding import GroupWriter, encode_stream
from audiocodec.errors import AudioError, FormatError, ModelError
from audiocodec.model import catalogue
from audiocodec.model.codec import CodecModel
from audiocodec.model.config import ModelConfig, QuantizerConfig, SpectralConfig
from audiocodec.model.store import save_model
from audiocodec.stream import Floats
from audiocodec.tools import drop_file

RATES = (8000, 16000, 22050, 24000, 44100, 48000)


def noise(n_samples: int, channels: int = 1, seed: int = 0) -> Floats:
    return (0.1 * np.random.default_rng(seed).standard_normal((n_samples, channels))).astype(np.float32)


def pieces(audio: Floats, cuts: list[int]) -> list[Floats]:
    return np.split(audio, sorted(cut % (len(audio) + 1) for cut in cuts))


def write_pieces(codec: Codec, parts: list[Floats], rate: int, n_q: int) -> bytes:
    """A `.rq` file by the streaming interface."""
    encoder = codec.stream_encoder(rate, channels=parts[0].shape[1], n_q=n_q)
    file = io.BytesIO()
    groups = GroupWriter(Writer(file, Header(codec.space.first(n_q), encoder.source, 150)), flush=False)
    for part in parts:
        groups.write(encoder.push(part))
    last = encoder.finish()
    groups.write(last)
    groups.finish(len(np.concatenate(parts)))
    return file.getvalue()


@given(
    n_samples=st.integers(0, 5000),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 2),
    n_q=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_decoded_audio_has_the_exact_length_and_channels(
    tiny_codec: Codec, n_samples: int, rate: int, channels: int, n_q: int
) -> None:
    codes = tiny_codec.encode(noise(n_samples, channels), rate, n_q=n_q)
    assert codes.n_q == n_q and codes.n_samples == n_samples
    assert tiny_codec.decode(codes).shape == (n_samples, channels)


@given(
    cuts=st.lists(st.integers(0, 60000), max_size=6), rate=st.sampled_from(RATES), channels=st.integers(1, 2)
)
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same_bytes(
    tiny_codec: Codec, cuts: list[int], rate: int, channels: int
) -> None:
    audio = noise(60000, channels)
    assert write_pieces(tiny_codec, pieces(audio, cuts), rate, 3) == write_pieces(
        tiny_codec, [audio], rate, 3
    )


@given(cuts=st.lists(st.integers(0, 190), max_size=6), rate=st.sampled_from(RATES))
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same_samples(tiny_codec: Codec, cuts: list[int], rate: int) -> None:
    whole = tiny_codec.encode(noise(60000, 2), 24000)
    decoder = tiny_codec.stream_decoder(rate, channels=2)
    n_samples = 60000 * rate // 24000
    parts = []
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), whole.n_frames], strict=True):
        levels = tuple(level[:, first:last] for level in whole.levels)
        parts.append(decoder.push(Codes(whole.space, whole.source, max(0, last - first), levels, None)))
    parts.append(decoder.finish(n_samples))
    unbroken = tiny_codec.stream_decoder(rate, channels=2)
    expected = np.concatenate([unbroken.push(whole), unbroken.finish(n_samples)])
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("rate", [24000, 44100])
def test_file_array_and_stream_are_one_computation(
    tiny_codec: Codec, tiny_model_dir: Path, tmp_path: Path, rate: int
) -> None:
    audio = noise(100001, 2)
    soundfile.write(tmp_path / "in.wav", audio, rate, subtype="FLOAT")
    stated = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", n_q=3, model=tiny_model_dir)
    assert stated == info(tmp_path / "out.rq")
    assert (tmp_path / "out.rq").read_bytes() == write_pieces(tiny_codec, [audio], rate, 3)
    decoded, decoded_rate = decode_file(tmp_path / "out.rq", model=tiny_codec)
    assert decoded_rate == rate
    assert np.array_equal(decoded, tiny_codec.decode(tiny_codec.encode(audio, rate, n_q=3)))


@pytest.mark.parametrize("n_q", [1, 2, 3])
def test_dropping_levels_equals_encoding_at_fewer(tiny_codec: Codec, tmp_path: Path, n_q: int) -> None:
    soundfile.write(tmp_path / "in.wav", noise(100001, 2), 44100)
    encode_file(tmp_path / "in.wav", tmp_path / "all.rq", n_q=4, model=tiny_codec)
    encode_file(tmp_path / "in.wav", tmp_path / "few.rq", n_q=n_q, model=tiny_codec)
    drop_file(tmp_path / "all.rq", tmp_path / "dropped.rq", n_q)
    assert (tmp_path / "dropped.rq").read_bytes() == (tmp_path / "few.rq").read_bytes()
    decoded, _ = decode_file(tmp_path / "all.rq", model=tiny_codec, n_q=n_q)
    assert np.array_equal(decoded, decode_file(tmp_path / "few.rq", model=tiny_codec)[0])


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
@pytest.mark.parametrize(("start", "duration"), [(0.0, 0.5), (1.3, 0.01), (4.017, None), (5.9, 9.0)])
def test_a_stretch_equals_that_part_of_the_whole(
    tiny_codec: Codec, tmp_path: Path, rate: int, start: float, duration: float | None
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(6 * rate + 17), rate)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=tiny_codec)
    whole, _ = decode_file(tmp_path / "out.rq", model=tiny_codec)
    part, _ = decode_file(
        tmp_path / "out.rq", model=tiny_codec, start_seconds=start, duration_seconds=duration
    )
    first = round(start * rate)
    last = len(whole) if duration is None else min(len(whole), first + round(duration * rate))
    assert part.shape == (last - first, 1)
    np.testing.assert_allclose(part, whole[first:last], atol=1e-5)


def test_a_stretch_beyond_the_end_is_refused(tiny_codec: Codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(24000), 24000)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=tiny_codec)
    with pytest.raises(ValueError, match=r"expected 0 to 1\.000"):
        decode_file(tmp_path / "out.rq", model=tiny_codec, start_seconds=1.5)


def test_a_damaged_group_is_silence_and_the_rest_is_as_it_was(tiny_codec: Codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(10 * 24000), 24000)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=tiny_codec)
    data = bytearray((tmp_path / "out.rq").read_bytes())
    whole, _ = decode_file(tmp_path / "out.rq", model=tiny_codec)
    data[len(data) // 2] ^= 4
    (tmp_path / "out.rq").write_bytes(data)
    decoded, _ = decode_file(tmp_path / "out.rq", model=tiny_codec, keep_going=True)
    assert decoded.shape == whole.shape
    changed = np.flatnonzero(np.abs(decoded - whole)[:, 0] > 1e-5)
    hop = tiny_codec.space.hop_length
    assert 0 < changed[-1] - changed[0] < (150 + tiny_codec.model.decoder.receptive_field + 1) * hop
    assert (decoded[changed[0] : changed[0] + 150 * hop] == 0).all()


def test_a_live_stream_is_flushed_group_by_group_and_decodes_alike(tiny_codec: Codec) -> None:
    audio = noise(24000)
    raw = (audio * 32767).astype("<i2").tobytes()
    flushed: list[int] = []

    class Pipe(io.BytesIO):
        def flush(self) -> None:
            flushed.append(len(self.getvalue()))

    live, filed = Pipe(), io.BytesIO()
    for file, is_live in ((live, True), (filed, False)):
        with AudioReader(io.BytesIO(raw), raw=RawFormat(24000, 1)) as reader:
            encode_stream(tiny_codec, reader, file, n_q=4, live=is_live)
    assert len(set(flushed)) >= 24000 / 320 / 2  # a group of two frames each, and the end
    pair = [bitstream.Reader(io.BytesIO(file.getvalue())) for file in (live, filed)]
    live_codes, file_codes = (
        np.concatenate([np.stack(group.levels, 1) for group in reader if group.levels], axis=2)
        for reader in pair
    )
    assert live_codes.shape == file_codes.shape
    assert (live_codes == file_codes).all(axis=(0, 1)).mean() >= 0.999


def test_levels_at_different_frame_rates_go_through_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        name="multi",
        latent_dim=8,
        spectral=SpectralConfig(dim=16, n_blocks=2),
        quantizer=QuantizerConfig((64, 32, 32), (4, 2, 1)),
    )
    save_model(CodecModel(config), tmp_path / "multi", "multi")
    codec = load(tmp_path / "multi")
    audio = noise(50001)
    soundfile.write(tmp_path / "in.wav", audio, 24000, subtype="FLOAT")
    written = encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=codec)
    assert [level.shape[1] for level in codec.encode(audio, 24000).levels] == [40, 80, 160]
    assert written.n_frames == 160
    decoded, _ = decode_file(tmp_path / "out.rq", model=codec)
    assert np.array_equal(decoded, codec.decode(codec.encode(audio, 24000)))
    part, _ = decode_file(tmp_path / "out.rq", model=codec, start_seconds=1.5)
    np.testing.assert_allclose(part, decoded[36000:], atol=1e-5)


def test_codes_of_another_model_are_refused(tiny_codec: Codec, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_model(CodecModel(tiny_codec.model.config), tmp_path / "other", "other")
    codes = tiny_codec.encode(noise(1000), 24000)
    with pytest.raises(ModelError, match="made by model 'tiny'"):
        load(tmp_path / "other").decode(codes)


@pytest.mark.parametrize(
    "facts",
    [
        {"sample_rate": 16000},
        {"hop_length": 160},
        {"delay": 0},
        {"codebook_sizes": (64, 63)},
        {"codebook_sizes": (64,) * 5, "frames_per_code": (1,) * 5},
    ],
    ids=str,
)
def test_a_header_that_contradicts_its_code_space_is_refused(
    tiny_codec: Codec, tmp_path: Path, facts: dict[str, Any]
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(1000), 24000)
    file = tmp_path / "out.rq"
    header = encode_file(tmp_path / "in.wav", file, model=tiny_codec, n_q=2).header
    forged = replace(header, space=replace(header.space, **facts))
    file.write_bytes(file.read_bytes().replace(pack_header(header), pack_header(forged)))
    with pytest.raises(FormatError, match=f"has {next(iter(facts))} .*damaged or forged"):
        decode_file(file, model=tiny_codec)


def test_a_file_of_an_unknown_model_names_it_and_loads_nothing(tiny_codec: Codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(1000), 24000)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=tiny_codec)
    with pytest.raises(ModelError, match="needs model 'tiny'"):
        decode_file(tmp_path / "out.rq")


def test_a_file_of_a_former_default_says_what_has_it(tiny_codec: Codec) -> None:
    name, where = next(iter(catalogue.FORMER.items()))
    with pytest.raises(ModelError, match=f"needs model '{name}'.*{where}"):
        load_for(replace(tiny_codec.space, model=name))


@pytest.mark.parametrize(("kbps", "channels", "n_q"), [(1.8, 1, 4), (1.79, 1, 3), (1.8, 2, 2), (0.45, 1, 1)])
def test_kbps_are_those_of_all_channels_together(
    tiny_codec: Codec, kbps: float, channels: int, n_q: int
) -> None:
    assert tiny_codec.levels_for(kbps, channels) == n_q


@pytest.mark.parametrize("kbps", [0, 0.4, 1.9])
def test_a_rate_that_the_model_lacks_is_refused(tiny_codec: Codec, kbps: float) -> None:
    with pytest.raises(ValueError, match=r"0\.45 to 1\.8 kbps"):
        tiny_codec.levels_for(kbps)


@pytest.mark.parametrize("audio", [np.zeros((100, 8)), np.zeros((2, 100, 1)), np.array([0.0, np.nan])])
def test_audio_that_cannot_be_coded_is_refused(tiny_codec: Codec, audio: Floats) -> None:
    with pytest.raises(AudioError):
        tiny_codec.encode(audio, 24000)


def test_joined_codes_are_those_of_the_whole(tiny_codec: Codec) -> None:
    encoder = tiny_codec.stream_encoder(24000)
    audio = noise(100000)
    joined = join_codes([encoder.push(part) for part in np.array_split(audio, 7)] + [encoder.finish()])
    whole = tiny_codec.encode(audio, 24000)
    assert joined.n_samples == whole.n_samples and np.array_equal(joined.values, whole.values)


def test_a_finished_stream_takes_no_more(tiny_codec: Codec) -> None:
    encoder = tiny_codec.stream_encoder(24000)
    encoder.finish()
    with pytest.raises(ValueError, match="finished"):
        encoder.push(noise(10))
    with pytest.raises(ValueError, match="finished"):
        encoder.finish()


def test_streams_take_doubles_and_refuse_what_is_no_number(tiny_codec: Codec) -> None:
    encoder = tiny_codec.stream_encoder(48000, channels=2)
    encoder.push(noise(1000, 2).astype(np.float64))
    with pytest.raises(AudioError, match="not numbers"):
        encoder.push(np.full((10, 2), np.inf, np.float32))


def test_a_decoder_refuses_codes_of_fewer_levels_than_it_was_made_for(tiny_codec: Codec) -> None:
    codes = tiny_codec.encode(noise(1000), 24000, n_q=2)
    with pytest.raises(ValueError, match="2 levels and 1 lanes: this decoder was made for 4 and 1"):
        tiny_codec.stream_decoder(24000).push(codes)


def test_a_very_long_tag_is_left_out_with_a_warning(tiny_codec: Codec, tmp_path: Path, caplog) -> None:
    with soundfile.SoundFile(tmp_path / "in.flac", "w", 24000, 1) as file:
        file.title, file.comment = "short", "long " * 2000
        file.write(noise(1000))
    written = encode_file(tmp_path / "in.flac", tmp_path / "out.rq", model=tiny_codec)
    assert written.header.tags == {"title": "short"} and "'comment'" in caplog.text


def test_a_pipe_that_ends_before_the_start_is_no_damage(tiny_codec: Codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(24000), 24000)
    encode_file(tmp_path / "in.wav", tmp_path / "out.rq", model=tiny_codec)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    decoding = Decoding(Pipe((tmp_path / "out.rq").read_bytes()), tiny_codec, start_seconds=9)
    with pytest.raises(ValueError, match=r"start at 9 s: expected 0 to 1\.000"):
        list(decoding.blocks())
