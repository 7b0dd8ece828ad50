"""Streams: the caller pushes audio or codes as they come; the model runs on blocks of a fixed number of frames.

A whole file is a stream that happens to be known, so whole, chunked and streamed coding are one computation.
The block length matters to the last bit only (another matrix shape may round otherwise), which is why the
caller's pieces are collected to blocks of one length before the model sees them.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.errors import AudioError, ModelError
from audiocodec.lanes import LaneMerger, LaneSplitter
from audiocodec.model.protocol import BlockModel, LookAheadModel, VariableModel
from audiocodec.variable import LevelChooser

Floats = NDArray[np.float32]

FILE_BLOCK_SECONDS = 1.0  # fast: for files
LIVE_BLOCK_FRAMES = 2  # prompt: for live use; rounded up to the slowest level's frames per code


def file_block_frames(space: CodeSpace) -> int:
    """Frames of a block for files: about a second, a whole number of the slowest level's codes."""
    return _whole_codes(round(FILE_BLOCK_SECONDS * space.frame_rate), space)


def live_block_frames(space: CodeSpace) -> int:
    """Frames of a block for live use."""
    return _whole_codes(LIVE_BLOCK_FRAMES, space)


def _checked(block_frames: int, space: CodeSpace) -> int:
    if block_frames < 1 or block_frames % space.frames_per_code[0]:
        raise ValueError(
            f"blocks of {block_frames} frames: expected a multiple of {space.frames_per_code[0]}"
        )
    return block_frames


def _whole_codes(n_frames: int, space: CodeSpace) -> int:
    slowest = space.frames_per_code[0]
    return max(1, -(-n_frames // slowest)) * slowest


def checked_samples(audio: Floats) -> Floats:
    """Audio as float32; [T] becomes [T, 1].

    Raises ValueError for samples of another type than floats, AudioError for such that are not numbers.
    """
    samples = np.asarray(audio)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"audio of type {samples.dtype}: expected floats in [-1, 1]; divide samples of 16 bits by 32768"
        )
    samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise AudioError("the audio has samples that are not numbers (NaN or infinite): mend them first")
    return samples[:, None] if samples.ndim == 1 else samples


class StreamEncoder:
    """Audio blocks of any length in, `Codes` of whole model blocks out.

    n_q: levels; block_frames: frames per model block, a multiple of the slowest level's frames per code.
    source: rate and channels of what is pushed. chooser: of the number of levels of each frame, for blocks of that
    length; what comes out then lags some frames behind, and has `counts`.

    >>> import audiocodec
    >>> encoder = audiocodec.load().stream_encoder(24000, channels=1, n_q=4)
    >>> encoder.push(np.zeros((24000, 1), np.float32)).n_frames, encoder.finish().n_frames
    (75, 3)
    """

    def __init__(
        self,
        model: BlockModel,
        space: CodeSpace,
        source: Source,
        n_q: int,
        block_frames: int,
        *,
        chooser: LevelChooser | None = None,
    ) -> None:
        self._model, self._space, self.source, self._n_q = model, space.first(n_q), source, n_q
        self._chooser = chooser
        self._splitter = LaneSplitter(
            source.sample_rate, source.channels, space.sample_rate, as_pair=space.lane_channels == 2
        )
        self._n_lanes = space.n_lanes(source.channels)
        self._block_samples = _checked(block_frames, space) * space.hop_length
        self._waiting: Floats = np.zeros((self._n_lanes * space.lane_channels, 0), np.float32)
        self._state = model.encoder_state(self._n_lanes)
        self._n_lane_samples = 0
        self._n_frames = 0
        self._finished = False

    def push(self, audio: Floats) -> Codes:
        """Next samples [T, C] (or [T] for mono), float32 in [-1, 1] -> codes of the blocks they complete.

        Samples beyond full scale are coded as they are: where files matter, which are clipped, clip them first.
        """
        self._check_open()
        block = checked_samples(audio)
        return self._codes(self._encode(self._splitter.push(block)), n_samples=None)

    def finish(self) -> Codes:
        """The last codes; their `n_samples` is the length of the whole recording. Nothing can be pushed after."""
        self._check_open()
        self._finished = True
        rest = self._splitter.finish()
        if isinstance(self._model, LookAheadModel):
            coded, most_frames = self._encode_last(self._model, rest), None
        else:  # the last block is coded whole, then cut
            total = self._space.n_frames(self._n_lane_samples + rest.shape[1])
            missing = total * self._space.hop_length - self._n_lane_samples - rest.shape[1]
            fill = missing + self._block_samples - 1
            fill += self._block_samples if self._chooser is not None else 0  # it lags, less than a block
            coded, most_frames = self._encode(np.pad(rest, ((0, 0), (0, fill)))), total - self._n_frames
        return self._codes(coded, n_samples=self._splitter.n_samples, most_frames=most_frames)

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished: make a new encoder")

    def _encode(self, lanes: Floats) -> list[NDArray[np.int16]]:
        """Codes [lanes, n_q, F] of each block that `lanes` [lanes, T] complete; with a chooser, counts below them."""
        self._n_lane_samples += lanes.shape[1]
        self._waiting = np.concatenate([self._waiting, lanes], axis=1)
        coded = []
        while self._waiting.shape[1] >= self._block_samples:
            block, self._waiting = np.split(self._waiting, [self._block_samples], axis=1)
            codes = self._encode_block(block)
            coded.append(codes if self._chooser is None else self._chooser.push(block, codes))
        return coded

    def _encode_last(self, model: LookAheadModel, lanes: Floats) -> list[NDArray[np.int16]]:
        """Codes of the last `lanes`, and of what the model still holds back."""
        coded = self._encode(lanes)
        if self._n_lane_samples == 0:
            return coded
        if self._waiting.shape[1]:
            coded.append(self._encode_block(self._waiting))
        with torch.inference_mode():
            rest = model.encode_rest(self._state, self._n_q)
        return [*coded, rest.cpu().numpy().astype(np.int16)]

    def _codes(
        self, coded: list[NDArray[np.int16]], *, n_samples: int | None, most_frames: int | None = None
    ) -> Codes:
        """What was coded, cut to `most_frames`, as `Codes`."""
        n_rows = self._n_q if self._chooser is None else self._n_q + 1
        nothing = np.zeros((self._n_lanes, n_rows, 0), np.int16)
        codes = np.concatenate([nothing, *coded], axis=2)[:, :, :most_frames]
        self._n_frames += codes.shape[2]
        counts = None
        if self._chooser is not None:
            counts = codes[:, -1].astype(np.uint8)
            codes = codes[:, :-1] * (codes[:, -1:] > np.arange(self._n_q)[:, None])
        spans = self._space.frames_per_code
        levels = tuple(np.ascontiguousarray(codes[:, n, ::span]) for n, span in enumerate(spans))
        return Codes(self._space, self.source, codes.shape[2], levels, n_samples, counts)

    @torch.inference_mode()
    def _encode_block(self, block: Floats) -> NDArray[np.int16]:
        device = self._model.device
        lanes = block.reshape(self._n_lanes, self._space.lane_channels, -1)
        audio = torch.from_numpy(np.ascontiguousarray(lanes)).to(device)
        codes, self._state = self._model.encode_block(audio, self._state, self._n_q)
        return codes.cpu().numpy().astype(np.int16)


class StreamDecoder:
    """`Codes` of any number of frames in, audio blocks out.

    out_rate: sample rate of the audio in Hz; first_frame: where in the recording the first codes stand. What comes
    out lags by the model's delay, by what it holds back if it looks ahead, and by one hop.

    >>> import audiocodec
    >>> codec = audiocodec.load()
    >>> decoder = codec.stream_decoder(24000, channels=1, n_q=4)
    >>> codes = codec.encode(np.zeros(24000, np.float32), 24000, n_q=4)
    >>> len(decoder.push(codes)) + len(decoder.finish(24000))
    24000
    """

    def __init__(
        self,
        model: BlockModel,
        space: CodeSpace,
        source: Source,
        out_rate: int,
        block_frames: int,
        *,
        first_frame: int = 0,
    ) -> None:
        self._model, self._space, self._block_frames = model, space, _checked(block_frames, space)
        # a recording ends within its last frame, or within the last unit of a model that has larger ones
        surplus_seconds = model.start_multiple * space.hop_length / space.sample_rate
        self._merger = LaneMerger(
            space.sample_rate,
            source.channels,
            out_rate,
            hold=2 + int(surplus_seconds * out_rate),
            as_pair=space.lane_channels == 2,
        )
        n_lanes = space.n_lanes(source.channels)
        self._state = model.decoder_state(n_lanes, first_frame)
        self._silence: torch.Tensor | None = None  # what frames without levels are, once there are any
        self._waiting = np.zeros((n_lanes, space.n_q + 1, 0), np.int16)  # codes, then how many of them count
        self._lost = np.zeros(0, np.bool_)  # for each frame whose audio is still to come
        self._to_skip = space.delay
        self._finished = False

    @property
    def n_samples(self) -> int:
        """Samples returned so far."""
        return self._merger.n_samples

    def push(self, codes: Codes) -> Floats:
        """Next codes -> the audio [T, C] that is surely the recording's; T may be 0."""
        self._check_open()
        n_lanes, n_q = len(self._waiting), self._space.n_q
        if codes.n_q < n_q or len(codes.levels[0]) != n_lanes:
            raise ValueError(
                f"codes of {codes.n_q} levels and {len(codes.levels[0])} lanes: "
                f"this decoder was made for {n_q} and {n_lanes}"
            )
        spans = zip(codes.levels[:n_q], self._space.frames_per_code, strict=True)
        levels = [level.repeat(span, axis=1)[:, : codes.n_frames] for level, span in spans]
        counts = np.full((n_lanes, codes.n_frames), n_q, np.int16)
        if codes.counts is not None:
            counts = np.minimum(codes.counts, n_q).astype(np.int16)
        return self._push(np.stack([*levels, counts], axis=1), lost=False)

    def push_lost(self, n_frames: int) -> Floats:
        """`n_frames` frames whose codes were lost: silence in their place."""
        self._check_open()
        nothing = np.zeros((*self._waiting.shape[:2], n_frames), np.int16)
        nothing[:, -1] = self._space.n_q
        return self._push(nothing, lost=True)

    def finish(self, n_samples: int | None = None) -> Floats:
        """The last audio [T, C], so that all of it has `n_samples`; None: all that the frames hold.

        Nothing can be pushed after. Raises FormatError when the frames cannot be those of so many samples.
        """
        self._check_open()
        self._finished = True
        last = self._decode_waiting()
        n_left = self._waiting.shape[2]
        if isinstance(self._model, LookAheadModel):
            if n_left:
                last = np.concatenate([last, self._decode_block(self._waiting)], axis=1)
            with torch.inference_mode():
                rest = _rows(self._model.decode_rest(self._state))
            last = np.concatenate([last, rest], axis=1)
        elif n_left:  # the last block is decoded whole, then cut
            fill = ((0, 0), (0, 0), (0, self._block_frames - n_left))
            decoded = self._decode_block(np.pad(self._waiting, fill, mode="edge"))
            last = np.concatenate([last, decoded[:, : n_left * self._space.hop_length]], axis=1)
        return self._merger.finish(n_samples, last=self._settled(last))

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished: make a new decoder")

    def _push(self, codes: NDArray[np.int16], *, lost: bool) -> Floats:
        self._waiting = np.concatenate([self._waiting, codes], axis=2)
        self._lost = np.concatenate([self._lost, np.full(codes.shape[2], lost)])
        return self._merger.push(self._settled(self._decode_waiting()))

    def _decode_waiting(self) -> Floats:
        """Lanes [lanes, T] of all whole blocks that wait."""
        decoded = [np.zeros((len(self._waiting) * self._space.lane_channels, 0), np.float32)]
        while self._waiting.shape[2] >= self._block_frames:
            block, self._waiting = np.split(self._waiting, [self._block_frames], axis=2)
            decoded.append(self._decode_block(block))
        return np.concatenate(decoded, axis=1)

    def _settled(self, lanes: Floats) -> Floats:
        """Decoded lanes with silence for the frames that were lost, and without the model's delay."""
        space = self._space
        n_units = lanes.shape[1] // space.unit_samples
        lost, self._lost = np.split(self._lost, [n_units * space.unit_frames])
        silent = lost[:: space.unit_frames].repeat(space.unit_samples)
        if len(silent):  # the end of the last segment stands beyond whole units
            lanes = lanes * ~np.pad(silent, (0, lanes.shape[1] - len(silent)), mode="edge")
        skipped = min(self._to_skip, lanes.shape[1])
        self._to_skip -= skipped
        return lanes[:, skipped:]

    @torch.inference_mode()
    def _decode_block(self, block: NDArray[np.int16]) -> Floats:
        rows = torch.from_numpy(block.astype(np.int64)).to(self._model.device)
        codes, counts = rows[:, :-1], rows[:, -1]
        if bool((block[:, -1] == self._space.n_q).all()):
            audio, self._state = self._model.decode_block(codes, self._state)
            return _rows(audio)
        if not isinstance(self._model, VariableModel):
            raise ModelError(f"{self._space.model}: this model has no variable number of levels")
        self._silence = self._model.silence() if self._silence is None else self._silence
        audio, self._state = self._model.decode_variable(codes, counts, self._silence, self._state)
        return _rows(audio)


def _rows(audio: torch.Tensor) -> Floats:
    """audio [lanes, channels, T] -> [lanes * channels, T]."""
    rows: Floats = audio.flatten(0, 1).cpu().numpy()
    return rows
