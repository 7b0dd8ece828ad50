"""What can be done with a `.rq` file without a model: look at it, check it, cut levels off."""

from dataclasses import dataclass
from typing import BinaryIO

from audiocodec.bitstream import layout
from audiocodec.bitstream.header import Header, pack_header
from audiocodec.bitstream.reader import Reader
from audiocodec.bitstream.table import TableBuilder, runs
from audiocodec.bitstream.writer import pack_end, pack_group, send
from audiocodec.errors import FormatError


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a file says about itself.

    n_samples: length at the source's rate, None where the end mark is missing; duration_seconds is then
    that of the frames. file_bytes: length of the file. kbps: of the whole file, all lanes together;
    codes_kbps: of the raw codes alone, at their nominal rate.
    """

    header: Header
    n_groups: int
    n_frames: int
    n_samples: int | None
    file_bytes: int

    @property
    def n_q(self) -> int:
        """Levels in the file."""
        return self.header.space.n_q

    @property
    def model(self) -> str:
        """Name of the model that made it."""
        return self.header.space.model

    @property
    def duration_seconds(self) -> float:
        """Duration of the recording."""
        if self.n_samples is None:
            return self.n_frames / self.header.space.frame_rate
        return self.n_samples / self.header.source.sample_rate

    @property
    def kbps(self) -> float:
        """Rate of the whole file; 0 where it has no duration."""
        return self.file_bytes * 8 / 1000 / self.duration_seconds if self.duration_seconds else 0.0

    @property
    def codes_kbps(self) -> float:
        """Rate of the raw codes."""
        return self.header.n_lanes * self.header.space.kbps()


def info(file: BinaryIO, *, keep_going: bool = False) -> StreamInfo:
    """What a file says about itself; a file that can seek is read at its start and end only.

    Raises FormatError for damage that it meets. With `keep_going` it reads the whole file and counts
    what a decoder would put out, lost groups and all.
    """
    reader = Reader(file, keep_going=keep_going, unpack=False)
    end = None if keep_going else reader.end()
    if end and end.table:
        n_groups = sum(count for count, _ in runs(end.table))
        reader.seek_frame((n_groups - 1) * reader.header.frames_per_group)
    n_groups = n_frames = 0
    for group in reader:
        n_groups = group.index + 1
        n_frames = group.first_frame + group.n_frames
    return StreamInfo(reader.header, n_groups, n_frames, reader.n_samples, reader.n_bytes)


def verify(file: BinaryIO) -> list[str]:
    """Read a whole file with all checks: what is wrong with it, a line each; nothing, if it is good."""
    try:
        reader = Reader(file, keep_going=True)
    except FormatError as error:
        return [str(error)]
    for _ in reader:
        pass
    return [str(damage) for damage in reader.damage]


def drop(src: BinaryIO, dst: BinaryIO, n_q: int) -> None:
    """Copy a stream with its first `n_q` levels only; no code is unpacked, every checksum is checked.

    `dst` gets the bytes that a Writer would have written for those levels, and the optional chunks of `src`.
    Raises ValueError if `src` has fewer levels, FormatError if it is damaged; `dst` is then not whole.
    """
    length = 0  # of the chunks since the last group
    table = TableBuilder()

    def copy_chunk(kind: bytes, payload: bytes) -> None:
        nonlocal length
        head = layout.pack_head(layout.CHUNK, kind=kind, payload_bytes=len(payload))
        send(dst, layout.with_crc(head, payload))
        length += len(head) + len(payload) + layout.CRC_BYTES

    reader = Reader(src, unpack=False, on_chunk=copy_chunk)
    header = reader.header.first(n_q)
    send(dst, pack_header(header))
    for group in reader:
        assert group.payload is not None, "a strict reader loses no group"
        kept = group.payload[
            : header.payload_bytes(group.n_frames)
        ]  # levels come first to last: cut off the tail
        data = pack_group(header, group.index, group.n_frames, kept)
        send(dst, data)
        table.add(length + len(data))
        length = 0
    assert reader.n_samples is not None, "a strict reader ends with the end mark"
    send(dst, pack_end(table.table(), reader.n_samples))
