"""Audio files -> `.rq` files, in constant memory. Pipes are files too."""

import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiocodec.audio import AudioReader, Progress
from audiocodec.bitstream import EntropyTables, Header, StreamInfo, Writer
from audiocodec.bitstream.writer import send
from audiocodec.codec import Codec, load
from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.model.catalogue import DEFAULT_MODEL
from audiocodec.output import atomic_output
from audiocodec.stream import Floats, file_block_frames, live_block_frames
from audiocodec.variable import fit_to_rate, with_counts

log = logging.getLogger(__name__)

GROUP_BLOCKS = 2  # blocks of a file's group: some two seconds, so that heads and checksums cost little
DEFAULT_KBPS = 6.0
READ_SECONDS = 1.0
MAX_TAG_BYTES = 4096


def encode_file(
    source: str | Path,
    target: str | Path,
    *,
    kbps: float | None = None,
    n_q: int | None = None,
    quality: float | None = None,
    vbr: bool = False,
    model: str | Path | Codec = DEFAULT_MODEL,
    live: bool = False,
    overwrite: bool = False,
) -> StreamInfo:
    """Codes an audio file into a `.rq` file; returns what `info` says of it.

    kbps (of all channels together; 6, or the most there is, by default) or n_q levels; or quality, for a number of
    levels that varies: about as good as so many everywhere. vbr: the levels vary too, and kbps is the average rate of
    the whole file. model: a name, a folder or what `load` gave. live: blocks and groups of two frames. Nothing is left
    behind when it fails.
    Raises AudioError for audio that cannot be read or an output that cannot be written, ValueError for a rate, level
    count or quality that the model or the recording does not have.

    >>> import tempfile, soundfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "in.wav", np.zeros(24000), 24000)
    >>> encode_file(folder / "in.wav", folder / "out.rq", kbps=3).header.space.n_q
    4
    """
    codec = model if isinstance(model, Codec) else load(model)
    with (
        AudioReader(source) as reader,
        atomic_output(target, overwrite=overwrite) as path,
        path.open("wb") as file,
    ):
        return encode_as(codec, reader, file, kbps=kbps, n_q=n_q, quality=quality, vbr=vbr, live=live)


def encode_as(
    codec: Codec,
    reader: AudioReader,
    file: BinaryIO,
    *,
    kbps: float | None,
    n_q: int | None,
    quality: float | None,
    vbr: bool,
    live: bool,
    progress: Progress = lambda _: None,
) -> StreamInfo:
    """Codes what `reader` reads into an open binary file or pipe, as `encode_file` says."""
    if vbr:
        if kbps is None or n_q is not None or quality is not None or live:
            raise ValueError("vbr goes with kbps, and with neither levels nor quality nor live coding")
        return encode_at_rate(codec, reader, file, kbps=kbps, progress=progress)
    if quality is not None and n_q is None and kbps is None:
        n_q = codec.space.n_q
    n_q = choose_levels(codec, reader.channels, kbps=kbps, n_q=n_q)
    return encode_stream(codec, reader, file, n_q=n_q, quality=quality, live=live, progress=progress)


def choose_levels(codec: Codec, channels: int, *, kbps: float | None, n_q: int | None) -> int:
    """Level count for a wish in kbps (of all channels together) or in levels; without one, for 6 kbps."""
    if kbps is not None and n_q is not None:
        raise ValueError("kbps and levels say the same thing: give one of them")
    if n_q is not None:
        codec.space.first(n_q)
        return n_q
    if kbps is None:
        n_lanes = codec.space.n_lanes(channels)
        lowest, highest = (n_lanes * codec.space.kbps(n) for n in (1, codec.space.n_q))
        kbps = min(max(DEFAULT_KBPS, lowest), highest)
    return codec.levels_for(kbps, channels)


def encode_stream(
    codec: Codec,
    reader: AudioReader,
    file: BinaryIO,
    *,
    n_q: int,
    quality: float | None = None,
    live: bool = False,
    progress: Progress = lambda _: None,
) -> StreamInfo:
    """Codes what `reader` reads into an open binary file or pipe.

    quality: gives each frame a number of levels of its own, up to n_q, as `Codec.stream_encoder` says.
    """
    encoder = codec.stream_encoder(
        reader.sample_rate, channels=reader.channels, n_q=n_q, live=live, quality=quality
    )
    groups = open_groups(
        file,
        codec.space.first(n_q),
        encoder.source,
        short_tags(reader),
        tables=codec.tables,
        live=live,
        variable=quality is not None,
    )
    n_done = 0
    block_seconds = live_block_frames(codec.space) / codec.space.frame_rate if live else READ_SECONDS
    for block in reader.blocks(max(1, round(block_seconds * reader.sample_rate))):
        groups.write(encoder.push(block))
        n_done += len(block)
        progress(n_done / reader.sample_rate)
    last = encoder.finish()
    assert last.n_samples is not None, "finish knows the length"
    groups.write(last)
    return groups.finish(last.n_samples)


def encode_at_rate(
    codec: Codec, reader: AudioReader, file: BinaryIO, *, kbps: float, progress: Progress = lambda _: None
) -> StreamInfo:
    """Codes what `reader` reads with a number of levels that varies: `kbps` on average, the whole file.

    Nothing is written before all is read; until then memory grows, by some 60 bytes a frame and lane.
    Raises ValueError for a rate that this recording cannot have.
    """

    def blocks() -> Iterator[Floats]:
        n_done = 0
        for block in reader.blocks(max(1, round(READ_SECONDS * reader.sample_rate))):
            yield block
            n_done += len(block)
            progress(n_done / reader.sample_rate)

    codes, measured = codec.measure_levels(blocks(), reader.sample_rate, reader.channels)
    n_samples, tags = codes.n_samples, short_tags(reader)
    if not n_samples:
        raise ValueError("an empty recording has no rate: leave vbr out")

    def write(counts: NDArray[np.uint8]) -> tuple[int, tuple[bytes, StreamInfo]]:
        data, info = pack_variable(codec, codes, counts, tags)
        return info.file_bytes, (data, info)

    data, info = fit_to_rate(measured, kbps, n_samples / reader.sample_rate, write)
    send(file, data)
    file.flush()
    return info


def pack_variable(
    codec: Codec, codes: Codes, counts: NDArray[np.uint8], tags: Mapping[str, str]
) -> tuple[bytes, StreamInfo]:
    """The file of a whole recording's codes with the first `counts` [lanes, F] levels of each frame, and its `info`."""
    assert codes.n_samples is not None, "the recording is whole"
    output = io.BytesIO()
    groups = open_groups(output, codes.space, codes.source, tags, tables=codec.tables, variable=True)
    for stretch in with_counts(codes, counts):
        groups.write(stretch)
    info = groups.finish(codes.n_samples)
    return output.getvalue(), info


def short_tags(reader: AudioReader) -> dict[str, str]:
    """The input's tags but for very long ones, which a warning names: they could outweigh the codes."""
    kept = {key: value for key, value in reader.tags.items() if len(value.encode()) <= MAX_TAG_BYTES}
    for key in reader.tags.keys() - kept.keys():
        log.warning("%s: the tag %r is longer than %d bytes, and left out", reader.name, key, MAX_TAG_BYTES)
    return kept


def open_groups(
    file: BinaryIO,
    space: CodeSpace,
    source: Source,
    tags: Mapping[str, str],
    *,
    tables: EntropyTables | None,
    live: bool = False,
    variable: bool = False,
) -> "GroupWriter":
    """Begins a stream of codes of `space`, with groups of some two seconds, or of one block where it is `live`.

    tables: of the entropy coder; without them the codes stay raw, as they do in live groups, which are too short for
    it, and where a code stands for several frames. variable: each frame has a number of levels of its own.
    """
    group_frames = live_block_frames(space) if live else GROUP_BLOCKS * file_block_frames(space)
    if live or set(space.frames_per_code) != {1}:
        tables = None
    entropy_id = None if tables is None else tables.id
    header = Header(space, source, group_frames, tags, entropy_id, variable=variable)
    return GroupWriter(Writer(file, header, tables), flush=live)


class GroupWriter:
    """Cuts `Codes` of any number of frames into a writer's groups."""

    def __init__(self, writer: Writer, *, flush: bool) -> None:
        self._writer, self._flush = writer, flush
        header = writer.header
        self._levels = [np.zeros((header.n_lanes, 0), np.int16) for _ in range(header.space.n_q)]
        self._counts = np.zeros((header.n_lanes, 0), np.uint8) if header.variable else None
        self._n_frames = 0

    def write(self, codes: Codes) -> None:
        """Writes the groups that these codes complete. Raises ValueError for counts that the header has no room for."""
        if self._counts is not None:
            n_q = self._writer.header.space.n_q
            whole = np.full((len(self._counts), codes.n_frames), n_q, np.uint8)
            counts = whole if codes.counts is None else codes.counts
            self._counts = np.concatenate([self._counts, counts], axis=1)
        elif codes.counts is not None:
            raise ValueError("counts go with a header that says `variable`")
        pairs = zip(self._levels, codes.levels, strict=True)
        self._levels = [np.concatenate(pair, axis=1) for pair in pairs]
        self._n_frames += codes.n_frames
        while self._n_frames >= self._writer.header.frames_per_group:
            self._write_group(self._writer.header.frames_per_group)

    def finish(self, n_samples: int) -> StreamInfo:
        """Writes what is left and the end of the stream; what `info` says of it."""
        if self._n_frames:
            self._write_group(self._n_frames)
        writer = self._writer
        writer.finish(n_samples)
        return StreamInfo(
            writer.header, writer.n_groups, writer.n_frames, n_samples, writer.n_bytes, writer.table
        )

    def _write_group(self, n_frames: int) -> None:
        n_codes = self._writer.header.n_codes(n_frames)
        group = [level[:, :n] for level, n in zip(self._levels, n_codes, strict=True)]
        self._levels = [level[:, n:] for level, n in zip(self._levels, n_codes, strict=True)]
        counts = None
        if self._counts is not None:
            counts, self._counts = np.split(self._counts, [n_frames], axis=1)
        self._n_frames -= n_frames
        self._writer.write(n_frames, group, counts, flush=self._flush)
