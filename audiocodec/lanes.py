"""Channels <-> the lanes that are coded: mono as it is, stereo as mid and side; and the change of sample rate.

The resampler is libsoxr at its "HQ" setting. It gives the same bits however its input is cut, so blocks are handed
on as they come; it holds back some 40 ms. Where the rates are equal, samples pass unchanged and at once.
"""

from math import gcd

import numpy as np
import soxr
from numpy.typing import NDArray

from audiocodec.errors import FormatError

RESAMPLER_QUALITY = "HQ"
# A resampler that starts inside a recording differs from one that ran from its beginning by less than 1e-5 after
# 11 ms at 8 kHz, and eight times that at 1 kHz, the lowest rate (tests/test_lanes.py measures it).
RESAMPLER_MARGIN_SECONDS = 0.1
MAX_PADDING_SECONDS = 1

Floats = NDArray[np.float32]


def to_lanes(block: Floats) -> Floats:
    """Channels [T, C] -> lanes [C, T]: mono is one lane; left and right become (L + R) / 2 and (L - R) / 2.

    >>> to_lanes(np.array([[1, 0.5]], np.float32)).tolist()
    [[0.75], [0.25]]
    """
    if block.ndim != 2 or block.shape[1] not in (1, 2):
        raise ValueError(f"block of shape {block.shape}: expected [T, 1] or [T, 2]")
    if block.shape[1] == 1:
        return np.ascontiguousarray(block.T, np.float32)
    left, right = block[:, 0], block[:, 1]
    return np.stack([(left + right) * np.float32(0.5), (left - right) * np.float32(0.5)])


def from_lanes(lanes: Floats) -> Floats:
    """Lanes [C, T] -> channels [T, C], the inverse of `to_lanes` (exact for 16-bit samples)."""
    if lanes.ndim != 2 or lanes.shape[0] not in (1, 2):
        raise ValueError(f"lanes of shape {lanes.shape}: expected [1, T] or [2, T]")
    if lanes.shape[0] == 1:
        return np.ascontiguousarray(lanes.T)
    middle, side = lanes
    return np.stack([middle + side, middle - side], axis=1)


def lane_length(n_samples: int, source_rate: int, model_rate: int) -> int:
    """Samples of a lane for `n_samples` of the source: the exact length in time, rounded up."""
    return -(-n_samples * model_rate // source_rate)


def output_length(n_samples: int, source_rate: int, out_rate: int) -> int:
    """Samples at `out_rate` for `n_samples` at `source_rate`: the exact length in time, to the nearest, halves up.

    >>> output_length(44101, 44100, 44100), output_length(3, 2000, 1000)
    (44101, 2)
    """
    return (2 * n_samples * out_rate + source_rate) // (2 * source_rate)


def start_alignment(model_rate: int, out_rate: int, hop_length: int) -> int:
    """The smallest number of frames that is a whole number of output samples.

    Decoding may start at its multiples: A frames in, at output sample A * hop_length * out_rate / model_rate, a new
    `LaneMerger` agrees with one that ran from the beginning, to 1e-5 after RESAMPLER_MARGIN_SECONDS.

    >>> start_alignment(24000, 44100, 320), start_alignment(24000, 16000, 320)
    (1, 3)
    """
    return model_rate // gcd(model_rate, hop_length * out_rate)


def to_pair(block: Floats) -> Floats:
    """Channels [T, C] -> left and right [2, T], for a lane that is both; mono is on both sides.

    >>> to_pair(np.array([[1], [0.5]], np.float32)).tolist()
    [[1.0, 0.5], [1.0, 0.5]]
    """
    return np.ascontiguousarray(np.broadcast_to(block, (len(block), 2)).T)


def from_pair(pair: Floats, channels: int) -> Floats:
    """Left and right [2, T] -> channels [T, C], the inverse of `to_pair`; mono is their mean."""
    if channels == 2:
        return np.ascontiguousarray(pair.T)
    mean: Floats = pair.mean(axis=0, dtype=np.float32)[:, None]
    return mean


class LaneSplitter:
    """Blocks of a recording [T, C] at `source_rate` -> lanes [C, T'] at `model_rate`, as they come.

    as_pair: left and right [2, T'], as a lane that is both needs them.

    All that `push` and `finish` return, joined, has `lane_length(n_samples, source_rate, model_rate)` samples and is
    the same, bit for bit, however the caller cuts. n_samples: samples pushed so far, at the source's rate.

    >>> splitter = LaneSplitter(48000, 2, 24000)
    >>> first, rest = splitter.push(np.zeros((4800, 2), np.float32)), splitter.finish()
    >>> np.concatenate([first, rest], axis=1).shape
    (2, 2400)
    """

    def __init__(self, source_rate: int, channels: int, model_rate: int, *, as_pair: bool = False) -> None:
        self.n_samples = 0
        self._source_rate, self._channels, self._model_rate = source_rate, channels, model_rate
        self._to_lanes, self._n_rows = (to_pair, 2) if as_pair else (to_lanes, channels)
        self._resampler = _resampler(source_rate, model_rate, self._n_rows)
        self._n_returned = 0

    def push(self, block: Floats) -> Floats:
        """The lanes [C, T'] that can be told so far; T' may be 0."""
        if block.ndim != 2 or block.shape[1] != self._channels:
            raise ValueError(f"block of shape {block.shape}: expected [T, {self._channels}]")
        self.n_samples += len(block)
        lanes = self._to_lanes(block)
        if self._resampler is not None:
            lanes = _resample(self._resampler, lanes)
        self._n_returned += lanes.shape[1]
        return lanes

    def finish(self) -> Floats:
        """The rest [C, T']. Nothing can be pushed after."""
        if self._resampler is None:
            return np.zeros((self._n_rows, 0), np.float32)
        n_missing = lane_length(self.n_samples, self._source_rate, self._model_rate) - self._n_returned
        # libsoxr rounds the length to the nearest: silence for one more sample makes it enough to cut.
        silence = np.zeros((self._n_rows, self._source_rate // self._model_rate + 1), np.float32)
        return _resample(self._resampler, silence, last=True)[:, :n_missing]


class LaneMerger:
    """Decoded lanes [C, T'] at `model_rate` -> blocks of the recording [T, C] at `out_rate`, as they come.

    Lanes may be longer than the recording, for they are whole frames. While its length is not known, the last `hold`
    output samples are kept back: at least `hop_length * out_rate / model_rate` and what else may be surplus.
    as_pair: what is pushed is left and right [2, T'].

    >>> merger = LaneMerger(24000, 1, 48000, hold=640)
    >>> first, rest = merger.push(np.zeros((1, 2400), np.float32)), merger.finish(4700)
    >>> len(first) + len(rest)
    4700
    """

    def __init__(
        self, model_rate: int, channels: int, out_rate: int, *, hold: int = 0, as_pair: bool = False
    ) -> None:
        self.n_samples = 0  # returned so far
        self._model_rate, self._out_rate, self._hold = model_rate, out_rate, hold
        self._n_pushed = 0  # at the model's rate
        self._channels, self._as_pair = channels, as_pair
        self._n_rows = 2 if as_pair else channels
        self._resampler = _resampler(model_rate, out_rate, self._n_rows)
        self._held = np.zeros((0, channels), np.float32)

    def push(self, lanes: Floats) -> Floats:
        """The samples [T, C] that are surely part of the recording; T may be 0."""
        self._n_pushed += lanes.shape[1]
        self._append(lanes)
        return self._release(max(0, len(self._held) - self._hold))

    def finish(self, n_samples: int | None = None, *, last: Floats | None = None) -> Floats:
        """The rest [T, C], cut or padded with zeros so that all returned blocks have `n_samples` together.

        None: everything there is. last: lanes to be taken in before.
        Raises FormatError when more was returned already, or when more than MAX_PADDING_SECONDS are missing: the stated
        length belongs to another recording then.
        """
        if last is not None:
            self._n_pushed += last.shape[1]
            self._append(last)
        n_decoded = output_length(self._n_pushed, self._model_rate, self._out_rate)
        n_samples = n_decoded if n_samples is None else n_samples
        if n_samples < self.n_samples or n_samples - n_decoded > MAX_PADDING_SECONDS * self._out_rate:
            raise FormatError(
                f"the stream says it has {n_samples} samples, but {n_decoded} were decoded: "
                "expected nearly the same; the file is damaged"
            )
        if self._resampler is not None:  # libsoxr rounds halves down: silence for one more sample makes up
            silence = np.zeros((self._n_rows, self._model_rate // self._out_rate + 1), np.float32)
            self._append(silence, last=True)
        n_missing = max(0, n_samples - self.n_samples - len(self._held))
        self._held = np.pad(self._held, ((0, n_missing), (0, 0)))
        return self._release(n_samples - self.n_samples)

    def _append(self, lanes: Floats, *, last: bool = False) -> None:
        """Resamples, and turns lanes into channels."""
        if self._resampler is not None:
            lanes = _resample(self._resampler, lanes, last=last)
        block = from_pair(lanes, self._channels) if self._as_pair else from_lanes(lanes)
        self._held = np.concatenate([self._held, block])

    def _release(self, n_samples: int) -> Floats:
        """Takes the first samples out of what is held."""
        block, self._held = self._held[:n_samples], self._held[n_samples:]
        self.n_samples += len(block)
        return block


def _resampler(from_rate: int, to_rate: int, channels: int) -> soxr.ResampleStream | None:
    """A streaming resampler; None where there is nothing to do."""
    if from_rate == to_rate:
        return None
    return soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality=RESAMPLER_QUALITY)


def _resample(resampler: soxr.ResampleStream, lanes: Floats, *, last: bool = False) -> Floats:
    """One call of the streaming resampler, lanes in and out."""
    resampled: Floats = resampler.resample_chunk(np.ascontiguousarray(lanes.T), last=last)
    return np.ascontiguousarray(resampled.T)
