"""Variable bitrate: how many levels each frame gets, chosen by what it sounds like with none, one, two, ... of them.

The encoder decodes what it coded at every number of levels, measures how far each frame is from the original, and
takes the counts whose distances, bits and changes cost least together. A frame of no levels is digital silence.
It all runs on the model's own blocks, so that it is the same however the caller cuts.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.codes import Codes, CodeSpace
from audiocodec.model.protocol import VariableModel

Floats = NDArray[np.float32]
Counts = NDArray[np.uint8]
Measured = NDArray[
    np.float16
]  # [blocks, 2, n_q + 1, lanes, F]: distances with 0, 1, ..., n_q levels, and their bits
Written = TypeVar("Written")

# What a bit may cost in distance so that 1, 2, ... levels of constant rate are about as good as what comes of it:
# measured by docs/results/variable.py on the default model. Models with other levels are other, but not by much.
PRICES = (1.9e-3, 8.7e-4, 4.7e-4, 3.1e-4, 2.2e-4, 1.45e-4, 8.3e-5, 5e-5)
COUNT_BITS = 7  # of a change of count in the file, about
CHANGE_BITS = 12  # ... and as it is reckoned: more keeps neighbouring frames alike

WINDOW_SECONDS = 0.043  # rounded to a power of two
BANDS = 80
EXPONENT = 0.25  # of magnitudes: loudness grows like this, but for the weight it gives to what is faint
FAINTEST = 1e-5  # magnitude that is added to all: what is far below it does not count
MASKING = 0.3  # how much less a distance counts where the frame is loud
MASKING_FLOOR = 0.1
SILENT_RMS = 10 ** (-70 / 20)  # what is softer hardly counts
SMOOTHING = 3  # frames: a frame's levels are heard in its neighbours too

HIGHEST_PRICE, LOWEST_PRICE = 10.0, 1e-8
SEARCH_STEPS = 30
SLAB = 1024  # blocks that are chosen for at a time
STRETCH_FRAMES = 8192
RATE_AIM, RATE_TOLERANCE = 0.01, 0.03
MAX_TRIES = 5


def price_of(quality: float, n_q: int) -> float:
    """The price of a bit with which frames sound about as good as with `quality` levels each, 1 to `n_q`.

    Raises ValueError for another quality.

    >>> price_of(2, 8) > price_of(2.5, 8) > price_of(3, 8)
    True
    """
    highest = min(n_q, len(PRICES))
    if not 1 <= quality <= highest:
        raise ValueError(f"quality {quality:g}: expected 1 to {highest}, as of so many levels")
    levels = np.arange(1, len(PRICES) + 1)
    return float(np.exp(np.interp(quality, levels, np.log(PRICES))))


def choose_counts(distances: Floats, bits: Floats, price: float) -> Counts:
    """The number of levels of each frame, so that distances and price * bits, with changes, add up to the least.

    distances, bits [n_q + 1, N, F] of N stretches, each for itself, at 0, 1, ..., n_q levels -> uint8 [N, F].
    Dynamic programming (Viterbi 1967) over the frames.

    >>> silence_then_sound = np.array([[[0, 0, 5, 5]], [[0, 0, 1, 1]], [[0, 0, 0.9, 0.9]]], np.float32)
    >>> bits = np.array([0, 10, 20], np.float32)[:, None, None]
    >>> choose_counts(silence_then_sound, bits, price=0.05)
    array([[0, 0, 1, 1]], dtype=uint8)
    """
    costs = distances + np.float32(price) * bits
    change = np.float32(price * CHANGE_BITS)
    n_counts, _, n_frames = costs.shape
    before = np.zeros(costs.shape, np.uint8)  # the count of the frame before, on the best way to here
    same = np.arange(n_counts, dtype=np.uint8)[:, None]
    best = np.zeros(costs.shape[:2], np.float32)
    for frame in range(n_frames):
        changed = best.min(axis=0) + change
        before[..., frame] = np.where(best <= changed, same, best.argmin(axis=0))
        best = np.minimum(best, changed) + costs[..., frame]
    counts = np.zeros(costs.shape[1:], np.uint8)
    count = best.argmin(axis=0)
    for frame in reversed(range(n_frames)):
        counts[:, frame] = count
        count = np.take_along_axis(before[..., frame], count[None].astype(np.intp), axis=0)[0]
    return counts


class DistanceMeter:
    """How far each frame is from the original with 0, 1, ..., n_q levels.

    It decodes all of them at once, and lags some frames behind what it is given.
    """

    def __init__(self, model: VariableModel, space: CodeSpace, n_lanes: int) -> None:
        self._model, self._n_q, self._n_lanes = model, space.n_q, n_lanes
        self._hop = space.hop_length
        self._silence = model.silence()
        self._state = model.decoder_state(space.n_q * n_lanes)
        self._levels = torch.arange(1, space.n_q + 1, device=model.device).repeat_interleave(n_lanes)
        window_length = 2 ** round(math.log2(WINDOW_SECONDS * space.sample_rate))
        self._window = torch.hann_window(window_length, device=model.device)
        self._filters = torch.from_numpy(mel_filters(space.sample_rate, window_length)).to(model.device)
        # a frame's sound is in the middle of what the decoder makes of it: that is where its window stands
        n_before = max(0, window_length // 2 - max(space.delay, space.hop_length) // 2)
        self._original = self._window.new_zeros(n_lanes, n_before + space.delay)
        self._decoded = self._window.new_zeros(space.n_q * n_lanes, n_before)
        self._raw = self._window.new_zeros(space.n_q + 1, n_lanes, 0)  # distances that are not smoothed yet

    @torch.inference_mode()
    def push(self, audio: Floats, codes: NDArray[np.int16]) -> Floats:
        """A block of lanes [lanes, F * hop_length] and its codes [lanes, n_q, F] -> distances [n_q + 1, lanes, F']."""
        codes_of_all = torch.from_numpy(codes.astype(np.int64)).to(self._window.device)
        codes_of_all = codes_of_all.repeat(self._n_q, 1, 1)
        counts = self._levels[:, None].expand(-1, codes.shape[2])
        decoded, self._state = self._model.decode_variable(codes_of_all, counts, self._silence, self._state)
        self._decoded = torch.cat([self._decoded, decoded[:, 0]], dim=1)
        original = torch.from_numpy(np.ascontiguousarray(audio)).to(self._window.device)
        self._original = torch.cat([self._original, original], dim=1)
        n_frames = max(0, (self._decoded.shape[1] - len(self._window)) // self._hop + 1)
        smoothed = self._smoothed(self._measure(n_frames))
        distances: Floats = smoothed.cpu().numpy()
        return distances

    def _measure(self, n_frames: int) -> Tensor:
        """Distances [n_q + 1, lanes, n_frames] of the next frames, whose samples are then dropped."""
        if not n_frames:
            return self._raw[..., :0]
        n_samples = (n_frames - 1) * self._hop + len(self._window)
        original = self._original[:, :n_samples].unfold(1, len(self._window), self._hop)
        decoded = self._decoded[:, :n_samples].unfold(1, len(self._window), self._hop)
        self._original = self._original[:, n_frames * self._hop :]
        self._decoded = self._decoded[:, n_frames * self._hop :]
        heard = self._loudness(original)
        loudness = self._loudness(decoded).view(self._n_q, self._n_lanes, n_frames, -1)
        nothing = torch.full_like(heard, FAINTEST**EXPONENT)
        distances: Tensor = (torch.cat([nothing[None], loudness]) - heard).abs().mean(-1)
        return distances * self._weights(original, heard)

    def _loudness(self, frames: Tensor) -> Tensor:
        """Frames of samples [B, F, window] -> loudness in mel bands [B, F, bands]."""
        bands: Tensor = torch.fft.rfft(frames * self._window).abs() @ self._filters
        return (bands + FAINTEST).pow(EXPONENT)

    def _weights(self, frames: Tensor, loudness: Tensor) -> Tensor:
        """How much the distances of each frame [F] count: that of its loudest lane is heard."""
        level = loudness.mean(-1).amax(0)
        rms = frames.square().mean(-1).amax(0).sqrt()
        audible = rms**4 / (rms**4 + SILENT_RMS**4)
        return audible * (level + MASKING_FLOOR).pow(-MASKING)

    def _smoothed(self, distances: Tensor) -> Tensor:
        """Means over neighbouring frames, of those whose neighbours are known."""
        if not self._raw.shape[-1]:
            self._raw = distances[..., :1]  # the first frame's neighbour is like itself
        raw = torch.cat([self._raw, distances], dim=-1)
        self._raw = raw[..., 1 - SMOOTHING :]
        if raw.shape[-1] < SMOOTHING:
            return raw[..., :0]
        return F.avg_pool1d(raw, SMOOTHING, stride=1)


class LevelChooser:
    """Codes of all levels in; the same, with the number of levels that each frame shall have, out.

    tables: of the entropy coder; without them, bits are those of raw codes.
    price: of a bit. None: all levels everywhere; what was measured is kept, for a price that is found later.
    """

    def __init__(
        self,
        model: VariableModel,
        space: CodeSpace,
        n_lanes: int,
        block_frames: int,
        *,
        tables: EntropyTables | None,
        price: float | None,
    ) -> None:
        self._meter = DistanceMeter(model, space, n_lanes)
        self._space, self._tables = space, tables
        self._block_frames, self._price = block_frames, price
        self._codes = np.zeros((n_lanes, space.n_q, 0), np.int16)
        self._distances: Floats = np.zeros((space.n_q + 1, n_lanes, 0), np.float32)
        # one buffer that grows: small arrays that stay would scatter over the memory of large ones that go
        self._kept = bytearray()

    @property
    def measured(self) -> Measured:
        """What was kept: float16 [blocks, 2, n_q + 1, lanes, block_frames]."""
        shape = (-1, 2, *self._distances.shape[:2], self._block_frames)
        return np.frombuffer(self._kept, np.float16).reshape(shape)

    def push(self, audio: Floats, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """A block of lanes [lanes, T] and its codes [lanes, n_q, F] -> [lanes, n_q + 1, F']: codes, then counts."""
        self._codes = np.concatenate([self._codes, codes], axis=2)
        self._distances = np.concatenate([self._distances, self._meter.push(audio, codes)], axis=2)
        chosen = [np.zeros((len(codes), codes.shape[1] + 1, 0), np.int16)]
        while self._distances.shape[2] >= self._block_frames:
            block, self._distances = np.split(self._distances, [self._block_frames], axis=2)
            levels, self._codes = np.split(self._codes, [self._block_frames], axis=2)
            counts = self._counts(block, bits_of(self._space, levels, self._tables)).astype(np.int16)
            chosen.append(np.concatenate([levels, counts[:, None]], axis=1))
        return np.concatenate(chosen, axis=2)

    def _counts(self, distances: Floats, bits: Floats) -> Counts:
        if self._price is not None:
            return choose_counts(distances, bits, self._price)
        self._kept += np.stack([distances, bits]).astype(np.float16).tobytes()
        return np.full(distances.shape[1:], len(distances) - 1, np.uint8)


def bits_of(space: CodeSpace, codes: NDArray[np.int16], tables: EntropyTables | None) -> Floats:
    """Bits of each frame with 0, 1, ..., n_q of its levels: codes [lanes, n_q, F] -> float32 [n_q + 1, lanes, F].

    Of entropy-coded ones, as if all levels were there: with fewer around them, codes take a little more.
    """
    bits = np.zeros((space.n_q + 1, len(codes), codes.shape[2]), np.float32)
    if tables is None:
        bits[1:] = np.array(space.bits_per_code, np.float32)[:, None, None]
    else:
        bits[1:] = tables.bits(list(codes.transpose(1, 0, 2)))
    return bits.cumsum(axis=0)


def fit_to_rate(
    measured: Measured,
    kbps: float,
    seconds: float,
    write: Callable[[Counts], tuple[int, Written]],
) -> Written:
    """What `write` makes of the counts [lanes, F] with which a recording of `seconds` has about `kbps`.

    measured: as `LevelChooser` keeps it; write: says how many bytes it took, and what it made.
    Raises ValueError for a rate beyond what any counts take.
    """
    aim = 125 * kbps * seconds
    budget = 8 * aim
    for _ in range(MAX_TRIES):
        price = _price_for(measured, budget)
        n_bytes, written = write(np.concatenate([counts for counts, _ in _slabs(measured, price)], axis=1))
        if abs(n_bytes / aim - 1) < RATE_AIM or (price == LOWEST_PRICE and n_bytes < aim):
            break
        budget *= aim / n_bytes  # lengths, heads and checksums: in proportion, more or less
    if abs(n_bytes / aim - 1) > RATE_TOLERANCE:
        reached, limit = n_bytes / (125 * seconds), "most" if n_bytes < aim else "least"
        raise ValueError(
            f"{kbps:g} kbps: with variable bitrate this recording takes {reached:.2f} at the {limit}; "
            "ask for a rate that it takes, or for a number of levels"
        )
    return written


def _price_for(measured: Measured, budget: float) -> float:
    """The lowest price with which codes and counts take `budget` bits or less."""

    def size(price: float) -> float:
        return sum(n_bits for _, n_bits in _slabs(measured, price))

    if size(LOWEST_PRICE) <= budget:
        return LOWEST_PRICE
    low, high = math.log(LOWEST_PRICE), math.log(HIGHEST_PRICE)
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(math.exp(middle)) > budget else (low, middle)
    return math.exp(high) if high < math.log(HIGHEST_PRICE) else HIGHEST_PRICE


def _slabs(measured: Measured, price: float) -> Iterator[tuple[Counts, float]]:
    """Counts [lanes, F] for many blocks of equal length at a time, and about how many bits they take."""
    n_blocks, _, n_counts, n_lanes, n_frames = measured.shape
    for start in range(0, n_blocks, SLAB):
        slab = measured[start : start + SLAB].transpose(1, 2, 3, 0, 4).astype(np.float32)
        distances, bits = slab.reshape(2, n_counts, -1, n_frames)
        counts = choose_counts(distances, bits, price)
        n_bits = np.take_along_axis(bits, counts[None].astype(np.intp), axis=0).sum(dtype=np.float64)
        n_changes = np.count_nonzero(np.diff(counts, axis=1))
        yield counts.reshape(n_lanes, -1), float(n_bits) + COUNT_BITS * n_changes


def mel_filters(sample_rate: int, window_length: int) -> Floats:
    """Triangular filters [window_length / 2 + 1, BANDS] of equal area, on Slaney's mel scale up to half the rate."""
    highest = 15 + 27 * math.log(sample_rate / 2000, 6.4)
    mels = np.linspace(0, highest, BANDS + 2)
    edges = np.where(mels < 15, 200 / 3 * mels, 1000 * 6.4 ** ((mels - 15) / 27))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.fft.rfftfreq(window_length, 1 / sample_rate)[:, None]
    triangles = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
    filters: Floats = (np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32)
    return filters


def with_counts(codes: Codes, counts: Counts) -> Iterator[Codes]:
    """Codes of all levels, cut to `counts` [lanes, F] levels of each frame; in stretches, to save memory."""
    for start in range(0, codes.n_frames, STRETCH_FRAMES):
        some = counts[:, start : min(start + STRETCH_FRAMES, codes.n_frames)]
        levels = [level[:, start : start + STRETCH_FRAMES] for level in codes.levels]
        kept = tuple(level * (some > n) for n, level in enumerate(levels))
        yield Codes(codes.space, codes.source, some.shape[1], kept, None, some)
