"""Audio files and pipes <-> float32 blocks [T, C], in constant memory.

Files are read and written by libsndfile (through soundfile), except WAV outputs and whatever comes or goes through
a pipe: those are plain enough to do here in one pass, without seeking.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from audiocodec.encoded import ENCODED_FORMATS, EncodedSink
from audiocodec.errors import AudioError
from audiocodec.output import atomic_output, disk_errors, is_special
from audiocodec.wav import (
    PcmLayout,
    PcmStream,
    float_to_pcm,
    needs_rf64,
    read_wav_header,
    wav_header,
)

Block = NDArray[np.float32]  # [T, C]

TAG_NAMES = ("title", "artist", "album", "comment", "date", "genre", "tracknumber", "copyright", "license")
MAX_CHANNELS = 2
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
RATES = f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"  # in Hz
_UNKNOWN_SAMPLES = 1 << 62  # libsndfile says about 2^63 when it cannot know
OUTPUT_SUFFIXES = (".wav", *ENCODED_FORMATS)

Progress = Callable[[float], None]  # is told how many seconds of audio are done

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Samples without a header: signed 16 bit little-endian, channels interleaved. sample_rate in Hz."""

    sample_rate: int
    channels: int


class AudioReader:
    """An audio file or pipe as float32 blocks [T, C] in [-1, 1].

    source: a path, or a binary file object (which stays open). From a pipe, WAV is read as it comes, also with a
    header of unknown length (sizes 0, 0xFFFFFFFF, or what sox and arecord write); any other format is first copied
    into a temporary file, for libsndfile must seek.
    raw: the samples have no header and are of this format.

    name: the source for messages. sample_rate (Hz), channels (1 or 2). tags: those of TAG_NAMES that the file has.
    n_samples: length that the container states; None when it states none. Only the blocks tell the true one.
    Raises AudioError when the source is missing, empty, not audio, or of more than two channels.

    >>> import io
    >>> with AudioReader(io.BytesIO(bytes(8)), raw=RawFormat(24000, 1)) as reader:
    ...     [block.shape for block in reader.blocks(3)]
    [(3, 1), (1, 1)]
    """

    def __init__(self, source: str | Path | BinaryIO, *, raw: RawFormat | None = None) -> None:
        self.tags: dict[str, str] = {}
        self.n_samples: int | None = None
        self._raw = raw
        self._n_skipped = 0
        with ExitStack() as stack:
            if isinstance(source, str | Path):
                self.name = str(source)
                stream = stack.enter_context(_open_input(Path(source)))
            else:
                self.name = str(getattr(source, "name", "<stream>"))
                stream = source
            if raw is not None:
                self._read_pcm(stream, PcmLayout(raw.sample_rate, raw.channels))
            else:
                self._read_container(stream, stack)
            _check_channels(self.name, self.channels)
            if not is_rate(self.sample_rate):
                raise AudioError(
                    f"{self.name} has {self.sample_rate} Hz: expected {RATES} Hz; convert it first"
                )
            self._stack = stack.pop_all()

    def blocks(self, n_samples: int) -> Iterator[Block]:
        """The samples in order, as blocks [n_samples, C]; the last one may be shorter. To be called once.

        Samples beyond full scale are clipped, with one warning in the log after the last block.
        Raises AudioError at samples that are not numbers, and where the file is damaged.
        """
        start, n_clipped, peak = self._n_skipped, 0, 0.0
        while len(block := self._read(n_samples, start)):
            self._check_finite(block, start)
            block_peak = float(np.abs(block).max())
            if block_peak > 1:
                peak = max(peak, block_peak)
                n_clipped += int(np.count_nonzero(np.abs(block) > 1))
                block = np.clip(block, -1, 1)
            yield block
            start += len(block)
        self._report(start, n_clipped, peak)

    def skip(self, n_samples: int) -> None:
        """Leaves out the first samples (all of them, if there are no more). To be called once, before `blocks`."""
        if not isinstance(self._samples, PcmStream) and self.n_samples is not None:
            self._n_skipped = self._samples.seek(min(n_samples, self._samples.frames))
            return
        n_left = n_samples
        while n_left and len(block := self._read(min(n_left, self.sample_rate), n_samples - n_left)):
            n_left -= len(block)
        self._n_skipped = n_samples - n_left

    def close(self) -> None:
        """Closes what was opened here."""
        self._stack.close()

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_pcm(self, stream: BinaryIO, layout: PcmLayout, n_samples: int | None = None) -> None:
        """Takes the samples from the stream itself, from here on."""
        self.sample_rate, self.channels, self.n_samples = layout.sample_rate, layout.channels, n_samples
        self._samples: Any = PcmStream(stream, layout, n_samples)

    def _read_container(self, stream: BinaryIO, stack: ExitStack) -> None:
        """Takes the samples from a stream whose first bytes say what it is."""
        seekable = stream.seekable()
        header, seen = read_wav_header(stream)
        if not seen:
            raise AudioError(f"{self.name} is empty (0 bytes): expected audio")
        if header is not None and not seekable:
            self.tags = header.tags
            self._read_pcm(stream, header.layout, header.n_samples)
            return
        file_stream: IO[bytes] = stream
        if not seekable:
            file_stream = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
            _spool(seen, stream, file_stream)
        file = stack.enter_context(_open_sound(file_stream, self.name))
        if header is not None and header.n_samples is None and not file.frames:
            stream.seek(len(seen))  # a recorder that was killed left size 0, which libsndfile believes
            self._read_pcm(stream, header.layout)
            return
        self.sample_rate, self.channels, self._samples = file.samplerate, file.channels, file
        self.n_samples = file.frames if file.frames < _UNKNOWN_SAMPLES else None
        if header is not None and header.n_samples is not None:  # libsndfile says what a cut file still has
            self.n_samples = max(header.n_samples, file.frames)
        self.tags = {name: text for name in TAG_NAMES if (text := getattr(file, name))}

    def _read(self, n_samples: int, start: int) -> Block:
        """The next block, unchecked; `start` is its place, for messages."""
        if isinstance(self._samples, PcmStream):
            return self._samples.read(n_samples)
        try:
            return cast(Block, self._samples.read(n_samples, dtype="float32", always_2d=True))
        except soundfile.SoundFileRuntimeError as error:
            raise AudioError(
                f"{self.name} is damaged or cut short after {start / self.sample_rate:.2f} s ({error}): "
                "expected a whole file"
            ) from error

    def _check_finite(self, block: Block, start: int) -> None:
        """Raises AudioError at the first NaN or infinity."""
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at_seconds = (start + int(np.argmin(finite))) / self.sample_rate
            raise AudioError(
                f"{self.name}: a sample at {at_seconds:.3f} s is not a number (NaN or infinite): "
                "expected finite samples; repair the file"
            )

    def _report(self, n_samples: int, n_clipped: int, peak: float) -> None:
        """What is to be said once the whole input was read."""
        if n_clipped:
            logger.warning(
                "%s: %d samples beyond full scale were clipped (peak %.2f)", self.name, n_clipped, peak
            )
        if self.n_samples is not None and n_samples < self.n_samples:
            seconds, stated_seconds = n_samples / self.sample_rate, self.n_samples / self.sample_rate
            logger.warning(
                "%s ends after %.2f s, its header says %.2f s: it may be cut short",
                self.name,
                seconds,
                stated_seconds,
            )
        if self._raw is not None and not n_samples:
            raise AudioError(f"{self.name} is empty (0 bytes): expected 16-bit samples")


class AudioWriter:
    """Float32 blocks [T, C] to an audio file or pipe. The file appears under its name when it is whole.

    target: a path, whose suffix (one of OUTPUT_SUFFIXES) says the format; or a binary file object, which gets a WAV
    in one pass, without seeking, and stays open. Devices and named pipes may lack a suffix: WAV too.
    sample_rate in Hz; channels 1 or 2.
    float32: samples as 32-bit float, not clipped (WAV only). Otherwise they are clipped to full scale and, where
    the format holds integers, rounded to 16 bit (`float_to_int16`).
    raw: bare 16-bit samples without a header (`RawFormat`), whatever the suffix.
    n_samples: the length if it is known. A pipe's header then states it (else 0xFFFFFFFF), and a WAV beyond 4 GiB
    becomes RF64; without it, a WAV that grows beyond 4 GiB says 0xFFFFFFFF in its header, "to the end of the file".
    tags: stored as far as the format has a place for them.
    overwrite: replace an existing file.
    Raises AudioError when the output exists, cannot be written, or the format cannot hold this.

    >>> import io
    >>> pipe = io.BytesIO()
    >>> with AudioWriter(pipe, 24000, 1) as writer:
    ...     writer.write(np.zeros((10, 1), np.float32))
    >>> len(pipe.getvalue())
    64
    """

    def __init__(
        self,
        target: str | Path | BinaryIO,
        sample_rate: int,
        channels: int,
        *,
        float32: bool = False,
        raw: bool = False,
        n_samples: int | None = None,
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.name = str(target if isinstance(target, str | Path) else getattr(target, "name", "<stream>"))
        self.n_samples = 0  # written so far
        if not is_rate(sample_rate):
            raise AudioError(f"{self.name}: cannot be written at {sample_rate} Hz: expected {RATES} Hz")
        _check_channels(self.name, channels)
        self._suffix = ".raw" if raw else _output_suffix(target)
        if float32 and self._suffix != ".wav":
            raise AudioError(f"{self.name}: float samples go into .wav only, not into {self._suffix}")
        self._layout = PcmLayout(sample_rate, channels, "f32" if float32 else "s16")
        self._rf64 = needs_rf64(self._layout, n_samples)
        self._tags = {name: text for name, text in (tags or {}).items() if name in TAG_NAMES and text}
        self._encoder: EncodedSink | None = None
        with ExitStack() as stack:
            stack.enter_context(disk_errors(self.name))
            self._open(target, stack, overwrite=overwrite)
            stack.push(self._complete)
            if self._suffix == ".wav":
                self._stream.write(self._header(n_samples))
            elif self._suffix != ".raw":
                self._encoder = self._open_encoder()
            self._stack = stack.pop_all()

    def write(self, block: Block) -> None:
        """Appends float32 [T, C]. A pipe is flushed at once."""
        if block.ndim != 2 or block.shape[1] != self._layout.channels:
            raise ValueError(f"block of shape {block.shape}: expected [T, {self._layout.channels}]")
        with disk_errors(self.name):
            if self._encoder is not None:
                self._encoder.write(block)
            else:
                self._stream.write(float_to_pcm(block, self._layout))
            if not self._is_new_file:
                self._stream.flush()
        self.n_samples += len(block)

    def close(self) -> None:
        """Completes the output and gives it its name."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _open(self, target: str | Path | BinaryIO, stack: ExitStack, *, overwrite: bool) -> None:
        """Sets the stream to write to, and whether it is a new file of ours (one that can seek)."""
        self._is_new_file = isinstance(target, str | Path) and not is_special(Path(target))
        if isinstance(target, str | Path):
            path = stack.enter_context(atomic_output(target, overwrite=overwrite))
            self._stream = stack.enter_context(path.open("r+b" if self._is_new_file else "wb"))
        else:
            self._stream = target

    def _open_encoder(self) -> EncodedSink:
        """The encoder for the suffix."""
        if not self._is_new_file:
            raise AudioError(f"{self.name}: a pipe or device takes .wav or raw samples, not {self._suffix}")
        rate, channels = self._layout.sample_rate, self._layout.channels
        return EncodedSink(self._stream, self._suffix, rate, channels, tags=self._tags, name=self.name)

    def _header(self, n_samples: int | None) -> bytes:
        """The WAV header for this length; its size is the same for each."""
        return wav_header(self._layout, n_samples, tags=self._tags, rf64=self._rf64)

    def _complete(self, kind: object, error: object, trace: object) -> None:
        """Last bytes and lengths, before the file is closed; after an error the file is given up."""
        if kind is not None:
            if self._encoder is not None:
                with suppress(Exception):
                    self._encoder.close()
            return
        if self._encoder is not None:
            self._encoder.close()
        elif self._suffix == ".wav" and self._is_new_file:
            self._stream.seek(0)
            self._stream.write(self._header(self.n_samples))
        self._stream.flush()


def _output_suffix(target: str | Path | BinaryIO) -> str:
    """The suffix that decides the format, in lower case."""
    if not isinstance(target, str | Path):
        return ".wav"
    path = Path(target)
    suffix = path.suffix.lower()
    if not suffix and is_special(path):
        return ".wav"
    if suffix not in OUTPUT_SUFFIXES:
        raise AudioError(f"{path}: unknown suffix '{suffix}': expected one of {' '.join(OUTPUT_SUFFIXES)}")
    return suffix


def _open_input(path: Path) -> BinaryIO:
    """The file, opened for reading."""
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder: expected an audio file")
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist: expected an audio file") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror})") from error


def _spool(seen: bytes, stream: BinaryIO, spool: IO[bytes]) -> None:
    """Copies what was read of a pipe, and all that is to come, into a temporary file."""
    with disk_errors(tempfile.gettempdir()):
        spool.write(seen)
        shutil.copyfileobj(stream, spool)


class _InOnePass(soundfile.SoundFile):  # type: ignore[misc]  # its package has no types
    """A file whose blocks follow each other.

    soundfile seeks to where it is after every read, if it can, and an MP3 decoder that seeks starts anew: the first
    samples of every block would be wrong.
    """

    def seekable(self) -> bool:
        return False


def _open_sound(stream: IO[bytes], name: str) -> Any:
    """libsndfile's reader on a seekable stream, from its first byte."""
    stream.seek(0)
    try:
        return _InOnePass(stream)
    except (TypeError, soundfile.SoundFileError) as error:  # TypeError: a name that ends in .raw
        raise AudioError(
            f"{name} is not audio that can be read ({error}): expected WAV, FLAC, Ogg, MP3, AIFF or the like; "
            "for bare samples use --raw with --rate and --channels"
        ) from error


def is_rate(sample_rate: int) -> bool:
    """Whether audio of so many Hz can be read, coded and written."""
    return MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE


def checked_rate(sample_rate: int) -> int:
    """The rate that a caller gives. Raises ValueError for one that is no whole number, or that audio cannot have."""
    if not isinstance(sample_rate, Integral) or not is_rate(sample_rate):
        raise ValueError(f"sample rate {sample_rate}: expected {RATES} Hz, a whole number")
    return int(sample_rate)


def _check_channels(name: str, channels: int) -> None:
    """Raises AudioError for more than can be coded."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{name} has {channels} channels: expected 1 or 2; mix it down first, for example with "
            "`sox in.wav -c 2 out.wav` or `ffmpeg -i in.wav -ac 2 out.wav`"
        )
