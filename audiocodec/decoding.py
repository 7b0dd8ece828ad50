"""`.rq` files -> audio, in constant memory, from any place on. Pipes are files too."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audiocodec.audio import RATES, AudioWriter, Progress, checked_rate, is_rate
from audiocodec.bitstream import Damage, Group, Reader
from audiocodec.bitstream.sections import checked_tables
from audiocodec.codec import Codec, load, load_for
from audiocodec.codes import Codes
from audiocodec.errors import AudioError
from audiocodec.lanes import RESAMPLER_MARGIN_SECONDS, output_length, start_alignment
from audiocodec.stream import Floats, StreamDecoder, file_block_frames
from audiocodec.tools import open_input


def decode_file(
    source: str | Path,
    *,
    model: str | Path | Codec | None = None,
    n_q: int | None = None,
    sample_rate: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    keep_going: bool = False,
) -> tuple[Floats, int]:
    """The audio [T, C] float32 of a `.rq` file and its sample rate in Hz, as soundfile.read.

    model: a name, a folder or what `load` gave; by default the shipped one that the file names.
    n_q: levels to use, of those that are there. sample_rate: another one than the source's.
    start_seconds, duration_seconds: a stretch; the rest is not decoded. keep_going: silence for what is damaged.
    Raises FormatError for a damaged file (with `keep_going` it does not), ModelError for another model's, AudioError
    for a source's rate that audio files cannot have, ValueError for a wrong rate, level count or stretch.

    >>> import tempfile, soundfile
    >>> from audiocodec.encoding import encode_file
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "in.wav", np.zeros(24000), 24000)
    >>> _ = encode_file(folder / "in.wav", folder / "out.rq", kbps=3)
    >>> audio, sample_rate = decode_file(folder / "out.rq")
    >>> audio.shape, sample_rate
    ((24000, 1), 24000)
    """
    with open_input(source) as file:
        decoding = Decoding(
            file,
            model,
            n_q=n_q,
            sample_rate=sample_rate,
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            keep_going=keep_going,
        )
        blocks = list(decoding.blocks())
    empty = np.zeros((0, decoding.header.source.channels), np.float32)
    return np.concatenate([empty, *blocks]), decoding.sample_rate


class Decoding:
    """One `.rq` stream on its way to audio.

    header; sample_rate of the output in Hz; n_samples of the output, where it is known beforehand;
    damage: what was found so far, with `keep_going`. Raises as `decode_file` does.
    """

    def __init__(
        self,
        file: BinaryIO,
        model: str | Path | Codec | None,
        *,
        n_q: int | None = None,
        sample_rate: int | None = None,
        start_seconds: float = 0.0,
        duration_seconds: float | None = None,
        keep_going: bool = False,
    ) -> None:
        self._reader = Reader(file, keep_going=keep_going, tables=lambda _: self._codec.tables)
        self.header = self._reader.header
        self._space = self.header.space.first(self.header.space.n_q if n_q is None else n_q)
        self._codec = self._find_codec(model)
        self.sample_rate = self._find_rate(sample_rate)
        end = self._reader.end()
        total = None if end is None else self._output_length(end.n_samples)
        self._start = self._find_sample("start", start_seconds)
        if total is not None and self._start > total:
            raise self._beyond_the_end(total)
        self._stop: int | None = None  # without a stretch, the stream's own end stops
        if duration_seconds is not None:
            self._stop = self._start + self._find_sample("duration", duration_seconds)
        self.n_samples = None if total is None else _first(total, self._stop) - self._start
        # where damage is passed over, what is there counts for more than what the end says
        self._cut = self._stop if total is None or keep_going else _first(total, self._stop)

    @property
    def damage(self) -> list[Damage]:
        """Damaged places met so far."""
        return self._reader.damage

    def blocks(self) -> Iterator[Floats]:
        """The audio, block [T, C] by block."""
        first_frame = self._first_frame()
        first_sample = first_frame // self._space.unit_frames * self._space.unit_samples
        position = first_sample * self.sample_rate // self._space.sample_rate
        for block in self._decode_from(first_frame, position):
            begin = max(0, self._start - position)
            end = None if self._cut is None else max(0, self._cut - position)
            position += len(block)
            yield block[begin:end]
            if self._stop is not None and position >= self._stop:
                return

    def _find_codec(self, model: str | Path | Codec | None) -> Codec:
        if model is None:
            codec = load_for(self.header.space)
        else:
            codec = model if isinstance(model, Codec) else load(model)
            codec.check_space(self.header.space)
        if self.header.entropy_id is not None:
            checked_tables(self.header, codec.tables)
        return codec

    def _output_length(self, n_samples: int) -> int:
        return output_length(n_samples, self.header.source.sample_rate, self.sample_rate)

    def _find_rate(self, sample_rate: int | None) -> int:
        """The output's rate. Raises ValueError for a wrong one, AudioError where the source's cannot be taken."""
        if sample_rate is not None:
            return checked_rate(sample_rate)
        rate = self.header.source.sample_rate
        if not is_rate(rate):
            raise AudioError(
                f"the recording has {rate} Hz, and cannot be written at that: expected {RATES} Hz; "
                "choose another with --rate"
            )
        return rate

    def _find_sample(self, what: str, seconds: float) -> int:
        """The output sample at so many seconds. Raises ValueError for what is no time."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{what} {seconds:g} s: expected 0 or more")
        return round(seconds * self.sample_rate)

    def _beyond_the_end(self, total: int) -> ValueError:
        seconds = self._start / self.sample_rate, total / self.sample_rate
        return ValueError(
            f"start at {seconds[0]:g} s: expected 0 to {seconds[1]:.3f}, the recording's length"
        )

    def _first_frame(self) -> int:
        """Where decoding must begin so that all is settled by the first sample that is wanted."""
        space = self._space
        wanted = self._start / self.sample_rate - RESAMPLER_MARGIN_SECONDS
        reached = (wanted * space.sample_rate + space.delay) / space.unit_samples
        latest = math.floor(reached) * space.unit_frames - self._codec.model.receptive_field
        unit = start_alignment(space.sample_rate, self.sample_rate, space.unit_samples) * space.unit_frames
        unit = math.lcm(unit, space.frames_per_code[0], self._codec.model.start_multiple)
        return max(0, latest // unit * unit)

    def _decode_from(self, first_frame: int, position: int) -> Iterator[Floats]:
        """Blocks of output from `first_frame` on, whose first sample is output sample `position`."""
        if first_frame:
            self._reader.seek_frame(first_frame)
        # a live stream is decoded as promptly as it was made
        block_frames = min(file_block_frames(self._space), self.header.frames_per_group)
        decoder = StreamDecoder(
            self._codec.model,
            self._space,
            self.header.source,
            self.sample_rate,
            block_frames,
            first_frame=first_frame,
        )
        for group in self._reader:
            # a group may be long: what is held at once is bounded by the block
            for first in range(max(0, first_frame - group.first_frame), group.n_frames, block_frames):
                yield self._decode_piece(decoder, group, first, min(first + block_frames, group.n_frames))
        n_samples = self._reader.n_samples
        total = None if n_samples is None else self._output_length(n_samples)
        if total is not None and self._start > total:
            raise self._beyond_the_end(total)
        # what a codec filled up at the end may have been put out already
        yield decoder.finish(None if total is None else max(total - position, decoder.n_samples))

    def _decode_piece(self, decoder: StreamDecoder, group: Group, first: int, last: int) -> Floats:
        """What a group's frames from `first` up to `last` give."""
        if group.levels is None:
            return decoder.push_lost(last - first)
        pairs = zip(group.levels, self._space.frames_per_code, strict=False)
        levels = tuple(level[:, first // span : -(-last // span)] for level, span in pairs)
        counts = None
        if group.counts is not None:
            counts = np.minimum(group.counts[:, first:last], self._space.n_q).astype(np.uint8)
        return decoder.push(Codes(self._space, self.header.source, last - first, levels, None, counts))


def _first(total: int, stop: int | None) -> int:
    """Where the recording ends, or what is wanted of it."""
    return total if stop is None else min(total, stop)


def decode_to(decoding: Decoding, writer: AudioWriter, progress: Progress = lambda _: None) -> None:
    """Writes all audio of `decoding`."""
    for block in decoding.blocks():
        writer.write(block)
        progress(writer.n_samples / decoding.sample_rate)
