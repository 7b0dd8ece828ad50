"""Laws of channels <-> lanes: exact lengths, the same bits for any chunking, starts inside a recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocodec.errors import FormatError
from audiocodec.lanes import (
    RESAMPLER_MARGIN_SECONDS,
    LaneMerger,
    LaneSplitter,
    from_lanes,
    lane_length,
    output_length,
    start_alignment,
    to_lanes,
)

MODEL_RATE, HOP_LENGTH = 24000, 320
RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000]


def noise(n_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """White noise [T, C], peak below 1."""
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (n_samples, channels)).astype(np.float32)


def cut(array: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    """The array in pieces of the given lengths along axis 0, and what is left."""
    return np.split(array, np.minimum(np.cumsum(cuts), len(array)))


def split(blocks: list[np.ndarray], source_rate: int, model_rate: int = MODEL_RATE) -> np.ndarray:
    """All lanes of a recording given in blocks."""
    splitter = LaneSplitter(source_rate, blocks[0].shape[1], model_rate)
    return np.concatenate([splitter.push(block) for block in blocks] + [splitter.finish()], axis=1)


def merge(pieces: list[np.ndarray], out_rate: int, n_samples: int | None = None, hold: int = 0) -> np.ndarray:
    """The recording from all its lanes, given in pieces."""
    merger = LaneMerger(MODEL_RATE, len(pieces[0]), out_rate, hold=hold)
    return np.concatenate([merger.push(piece) for piece in pieces] + [merger.finish(n_samples)])


def test_mid_and_side_give_left_and_right_back() -> None:
    sixteen_bit = np.rint(noise(5000, 2) * 32768).astype(np.float32) / 32768
    assert np.array_equal(from_lanes(to_lanes(sixteen_bit)), sixteen_bit)
    assert np.allclose(from_lanes(to_lanes(noise(5000, 2))), noise(5000, 2), atol=1e-7)  # two roundings
    assert np.array_equal(from_lanes(to_lanes(noise(50))), noise(50))


@pytest.mark.parametrize("source_rate", RATES)
@pytest.mark.parametrize("n_samples", [0, 1, 2, 7, 319, 320, 321, 20011])
def test_lengths_are_exact(source_rate: int, n_samples: int) -> None:
    lanes = split([noise(n_samples, 2)], source_rate)
    assert lanes.shape == (2, lane_length(n_samples, source_rate, MODEL_RATE))
    n_frames = -(-lanes.shape[1] // HOP_LENGTH)
    frames = np.pad(lanes, ((0, 0), (0, n_frames * HOP_LENGTH - lanes.shape[1])))
    for out_rate in (source_rate, 16000, 44100):
        wanted = output_length(n_samples, source_rate, out_rate)
        hold = HOP_LENGTH * out_rate // MODEL_RATE + 1
        assert merge([frames], out_rate, wanted, hold).shape == (wanted, 2)


@settings(max_examples=40, deadline=None)
@given(
    source_rate=st.sampled_from([*RATES, 44101]),
    channels=st.sampled_from([1, 2]),
    n_samples=st.integers(0, 12000),
    cuts=st.lists(st.integers(0, 4000) | st.integers(0, 3), max_size=30),
)
def test_any_chunking_gives_the_same_lanes(
    source_rate: int, channels: int, n_samples: int, cuts: list[int]
) -> None:
    recording = noise(n_samples, channels)
    assert np.array_equal(split(cut(recording, cuts), source_rate), split([recording], source_rate))


@settings(max_examples=40, deadline=None)
@given(
    out_rate=st.sampled_from([*RATES, 44101]),
    n_lanes=st.sampled_from([1, 2]),
    n_surplus=st.integers(0, 640),
    cuts=st.lists(st.integers(0, 2000) | st.integers(0, 3), max_size=30),
)
def test_any_chunking_gives_the_same_recording(
    out_rate: int, n_lanes: int, n_surplus: int, cuts: list[int]
) -> None:
    lanes = noise(6000, n_lanes).T / 2
    n_samples = output_length(6000 - n_surplus, MODEL_RATE, out_rate)
    pieces = [piece.T for piece in cut(lanes.T, cuts)]
    hold = 641 * out_rate // MODEL_RATE + 1
    assert np.array_equal(merge(pieces, out_rate, n_samples, hold), merge([lanes], out_rate)[:n_samples])


@pytest.mark.parametrize("source_rate", RATES)
def test_sines_come_back(source_rate: int) -> None:
    seconds = np.arange(source_rate // 2) / source_rate
    left, right = 0.5 * np.sin(2 * np.pi * 440 * seconds), 0.3 * np.sin(2 * np.pi * 3000 * seconds)
    recording = np.stack([left, right], axis=1).astype(np.float32)
    back = merge([split([recording], source_rate)], source_rate, len(recording))
    edge = source_rate // 50  # the ends, where a sine begins or stops at once, ring
    assert np.abs(back - recording)[edge:-edge].max() < 1e-4  # "HQ" is 20 bit; its pass band ripples by 1e-5


@pytest.mark.parametrize("out_rate", [*RATES, 1000, 44101, 768000])
def test_a_start_inside_agrees_with_the_whole(out_rate: int) -> None:
    n_frames = start_alignment(MODEL_RATE, out_rate, HOP_LENGTH)
    assert n_frames * HOP_LENGTH * out_rate % MODEL_RATE == 0
    assert all(frames * HOP_LENGTH * out_rate % MODEL_RATE for frames in range(1, n_frames))
    start = -(-50 // n_frames) * n_frames * HOP_LENGTH
    lanes = noise(2 * MODEL_RATE).T
    whole, part = merge([lanes], out_rate), merge([lanes[:, start:]], out_rate)
    margin = int(RESAMPLER_MARGIN_SECONDS * out_rate)
    whole = whole[start * out_rate // MODEL_RATE :]
    assert np.abs(part[margin:] - whole[margin:]).max() < 1e-5


@pytest.mark.parametrize("out_rate", RATES)
def test_the_last_sample_is_sound_and_not_padding(out_rate: int) -> None:
    for n_samples in range(6000, 6010):  # some of them end on half an output sample
        lanes = np.full((1, n_samples), 0.5, np.float32)
        merged = merge([lanes], out_rate)
        assert len(merged) == output_length(n_samples, MODEL_RATE, out_rate)
        assert merged[-1] > 0.05


def test_a_recording_that_is_too_short_is_padded_and_no_length_means_all() -> None:
    lanes = noise(1000).T
    assert np.array_equal(merge([lanes], MODEL_RATE, 1003), np.pad(lanes.T, ((0, 3), (0, 0))))
    assert len(merge([lanes], MODEL_RATE, None, hold=300)) == 1000


@pytest.mark.parametrize("stated", [0, 899, 10**15])
def test_a_length_that_cannot_be_is_refused(stated: int) -> None:
    with pytest.raises(FormatError, match="expected nearly the same"):
        merge([noise(1000).T], MODEL_RATE, stated, hold=100)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[T, 2\]"):
        LaneSplitter(44100, 2, MODEL_RATE).push(noise(10))
    with pytest.raises(ValueError, match="expected"):
        to_lanes(noise(10, 3))
