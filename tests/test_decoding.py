"""Decoding files and streams: in pieces of bounded length, to the stated length; and wrong use in words."""

import io
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bitstream_cases import Pipe, end_bytes

from audiocodec.bitstream import Header, Writer, verify
from audiocodec.bitstream.writer import pack_end
from audiocodec.codec import Codec
from audiocodec.codes import Codes, Source
from audiocodec.decoding import Decoding
from audiocodec.encoding import GroupWriter
from audiocodec.errors import AudioError, FormatError

RATE = 24000
SECONDS = 10


@pytest.fixture(scope="module")
def codes(tiny_codec: Codec) -> Codes:
    """Ten seconds in stereo; each frame has a number of levels of its own."""
    audio = 0.1 * np.random.default_rng(0).standard_normal((SECONDS * RATE, 2))
    return tiny_codec.encode(audio, RATE)


def coded(codes: Codes, *, n_samples: int | None = None, frames_per_group: int = 8192) -> bytes:
    """A file of these codes: a single group, if it gets no others."""
    header = Header(codes.space, codes.source, frames_per_group, variable=codes.counts is not None)
    file = io.BytesIO()
    groups = GroupWriter(Writer(file, header), flush=False)
    groups.write(codes)
    groups.finish(SECONDS * RATE if n_samples is None else n_samples)
    return file.getvalue()


def with_counts(codes: Codes) -> Codes:
    """The same with a number of levels that varies."""
    counts = np.random.default_rng(0).integers(0, 5, (2, codes.n_frames)).astype(np.uint8)
    levels = tuple(level * (counts > n) for n, level in enumerate(codes.levels))
    return replace(codes, levels=levels, counts=counts)


# Pieces


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("variable", [False, True])
def test_a_long_group_is_decoded_in_pieces_that_equal_the_whole(
    tiny_codec: Codec, codes: Codes, variable: bool, rate: int
) -> None:
    codes = with_counts(codes) if variable else codes
    blocks = list(Decoding(io.BytesIO(coded(codes)), tiny_codec, sample_rate=rate).blocks())
    assert max(map(len, blocks)) < 1.2 * rate
    assert np.array_equal(np.concatenate(blocks), tiny_codec.decode(codes, rate))
    live = coded(codes, frames_per_group=2)
    np.testing.assert_allclose(
        np.concatenate(list(Decoding(io.BytesIO(live), tiny_codec, sample_rate=rate).blocks())),
        np.concatenate(blocks),
        atol=1e-5,  # of other blocks
    )


def test_a_long_group_that_is_lost_is_silence_in_pieces(tiny_codec: Codec, codes: Codes) -> None:
    data = bytearray(coded(codes))
    data[len(data) // 2] ^= 1
    blocks = list(Decoding(io.BytesIO(bytes(data)), tiny_codec, keep_going=True).blocks())
    assert max(map(len, blocks)) < 1.2 * RATE
    assert np.array_equal(np.concatenate(blocks), np.zeros((SECONDS * RATE, 2)))


def test_what_a_codec_filled_up_is_dropped(tiny_codec: Codec, codes: Codes) -> None:
    stated = SECONDS * RATE - 20000  # within the second that may be more
    data = coded(codes, n_samples=stated)
    assert verify(io.BytesIO(data)) == []
    decoding = Decoding(io.BytesIO(data), tiny_codec)
    assert decoding.n_samples == stated
    audio = np.concatenate(list(decoding.blocks()))
    assert np.array_equal(audio, tiny_codec.decode(codes)[:stated])
    piped = np.concatenate(list(Decoding(Pipe(data), tiny_codec).blocks()))  # knows it too late
    assert np.array_equal(piped[:stated], audio)
    assert len(piped) <= stated + 20000


@pytest.mark.parametrize("make", [io.BytesIO, Pipe])
def test_far_fewer_samples_than_the_groups_hold_are_damage(
    tiny_codec: Codec, codes: Codes, make: Callable[[bytes], Any]
) -> None:
    data = coded(codes)
    table = data[4 - end_bytes(data) : -16]
    forged = data[: -end_bytes(data)] + pack_end(table, 10)
    assert verify(io.BytesIO(forged)) and not verify(io.BytesIO(data))
    with pytest.raises(FormatError, match="says 10 samples, the groups hold at least"):
        list(Decoding(make(forged), tiny_codec).blocks())
    blocks = list(Decoding(make(forged), tiny_codec, keep_going=True).blocks())
    assert np.array_equal(np.concatenate(blocks)[: SECONDS * RATE], tiny_codec.decode(codes))


# Rates and stretches


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"sample_rate": 0}, "sample rate 0: expected 1000 to 768000 Hz"),
        ({"sample_rate": -8000}, "sample rate -8000: expected 1000"),
        ({"sample_rate": 1 << 24}, "sample rate 16777216: expected 1000 to 768000 Hz"),
        ({"sample_rate": 44100.0}, r"sample rate 44100\.0: expected .*a whole number"),
        ({"start_seconds": -1}, "start -1 s: expected 0 or more"),
        ({"start_seconds": math.nan}, "start nan s: expected 0 or more"),
        ({"start_seconds": math.inf}, "start inf s: expected 0 or more"),
        ({"start_seconds": 11}, r"start at 11 s: expected 0 to 10\.000"),
        ({"duration_seconds": -1}, "duration -1 s: expected 0 or more"),
        ({"duration_seconds": math.inf}, "duration inf s: expected 0 or more"),
    ],
    ids=str,
)
def test_a_wrong_rate_or_stretch_is_refused(
    tiny_codec: Codec, codes: Codes, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Decoding(io.BytesIO(coded(codes)), tiny_codec, **wish)


@pytest.mark.parametrize("rate", [1, 1 << 24])
def test_a_source_of_an_absurd_rate_takes_another(tiny_codec: Codec, codes: Codes, rate: int) -> None:
    data = coded(replace(codes, source=Source(rate, 2)), n_samples=SECONDS * rate)
    with pytest.raises(
        AudioError, match=f"has {rate} Hz.*expected 1000 to 768000 Hz; choose another with --rate"
    ):
        Decoding(io.BytesIO(data), tiny_codec)
    decoding = Decoding(io.BytesIO(data), tiny_codec, sample_rate=8000)
    assert sum(map(len, decoding.blocks())) == SECONDS * 8000


def test_a_pipe_does_not_promise_a_duration(tiny_codec: Codec, codes: Codes) -> None:
    decoding = Decoding(Pipe(coded(codes)), tiny_codec, start_seconds=9, duration_seconds=1e30)
    assert decoding.n_samples is None
    assert sum(map(len, decoding.blocks())) == RATE
    short = Decoding(Pipe(coded(codes)), tiny_codec, start_seconds=9, duration_seconds=0.5)
    assert sum(map(len, short.blocks())) == RATE // 2


@pytest.mark.parametrize("rate", [0, 1, 1 << 24, 44100.0])
def test_coding_refuses_a_rate_that_files_cannot_have(tiny_codec: Codec, codes: Codes, rate: Any) -> None:
    for use in (
        lambda: tiny_codec.encode(np.zeros(100), rate),
        lambda: tiny_codec.stream_encoder(rate),
        lambda: tiny_codec.stream_decoder(rate),
        lambda: tiny_codec.decode(codes, rate),
    ):
        with pytest.raises(ValueError, match=f"sample rate {rate}: expected 1000 to 768000 Hz"):
            use()
    assert tiny_codec.encode(np.zeros(100), np.int64(RATE)).source.sample_rate == RATE


# Samples


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.bool_, np.complex64])
def test_samples_that_are_no_floats_are_refused(tiny_codec: Codec, kind: type) -> None:
    samples = np.ones(100).astype(kind)
    for use in (
        lambda: tiny_codec.encode(samples, RATE),
        lambda: tiny_codec.stream_encoder(RATE).push(samples),
    ):
        with pytest.raises(ValueError, match=rf"type {np.dtype(kind)}: expected floats.*divide.*by 32768"):
            use()


def test_samples_beyond_full_scale_are_clipped_as_those_of_files(
    tiny_codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    audio = np.random.default_rng(0).uniform(-1.5, 1.5, RATE).astype(np.float32)
    loud, clipped = tiny_codec.encode(audio, 44100), tiny_codec.encode(audio.clip(-1, 1), 44100)
    assert np.array_equal(loud.values, clipped.values)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    n_beyond = np.count_nonzero(np.abs(audio) > 1)
    assert f"{n_beyond} samples beyond full scale were clipped (peak 1.50)" in caplog.text


def test_a_finished_decoder_takes_no_more(tiny_codec: Codec, codes: Codes) -> None:
    decoder = tiny_codec.stream_decoder(RATE, channels=2)
    decoder.finish()
    for use in (lambda: decoder.push(codes), lambda: decoder.push_lost(3), decoder.finish):
        with pytest.raises(ValueError, match="the stream is finished: make a new decoder"):
            use()
