"""What can be done with a `.rq` file without a model: look at it, check it, cut levels off, code it anew."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from audiocodec.bitstream import layout
from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.bitstream.header import Header, pack_header
from audiocodec.bitstream.reader import FindTables, Reader
from audiocodec.bitstream.records import Group
from audiocodec.bitstream.sections import Sections, checked_tables, fits, pack_sections
from audiocodec.bitstream.table import TableBuilder, runs
from audiocodec.bitstream.writer import join_group, pack_end, send
from audiocodec.errors import FormatError, ModelError

RAW_GROUP_BYTES = 8  # of a group's head and checksum


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a file says about itself.

    n_samples: length at the source's rate, None where the end mark is missing; duration_seconds is then
    that of the frames. file_bytes: length of the file. kbps: of the whole file, all lanes together;
    codes_kbps: of the raw codes alone, at their nominal rate. table: the seek table; empty where there is none.
    """

    header: Header
    n_groups: int
    n_frames: int
    n_samples: int | None
    file_bytes: int
    table: bytes = b""

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

    @property
    def saving(self) -> float | None:
        """Share of their bytes that the groups save against raw codes at all levels; None without a seek table."""
        n_bytes = sum(count * group_bytes for count, group_bytes in runs(self.table))
        full, rest = divmod(self.n_frames, self.header.frames_per_group)
        raw = full * self.header.payload_bytes(self.header.frames_per_group)
        raw += self.header.payload_bytes(rest) + RAW_GROUP_BYTES * self.n_groups
        return 1 - n_bytes / raw if n_bytes and self.n_frames else None

    def rates(self) -> Iterator[tuple[float, float]]:
        """The rate over time: seconds and kbps of each stretch of groups of equal length; none without a seek table."""
        n_left = self.n_frames
        for count, group_bytes in runs(self.table):
            n_frames = min(count * self.header.frames_per_group, n_left)
            n_left -= n_frames
            if n_frames:
                seconds = n_frames / self.header.space.frame_rate
                yield seconds, count * group_bytes * 8 / 1000 / seconds


def info(file: BinaryIO, *, keep_going: bool = False) -> StreamInfo:
    """What a file says about itself; a file that can seek is read at its start and end only.

    Raises FormatError for damage that it meets. With `keep_going` it reads the whole file and counts
    what a decoder would put out, lost groups and all.
    """
    reader = Reader(file, keep_going=keep_going, unpack=False)
    end = None if keep_going else reader.end()
    table = b""
    if end and end.table:
        table = end.table
        n_groups = sum(count for count, _ in runs(end.table))
        reader.seek_frame((n_groups - 1) * reader.header.frames_per_group)
    n_groups = n_frames = 0
    for group in reader:
        n_groups = group.index + 1
        n_frames = group.first_frame + group.n_frames
    table = table or reader.table
    return StreamInfo(reader.header, n_groups, n_frames, reader.n_samples, reader.n_bytes, table)


def verify(file: BinaryIO, tables: FindTables = lambda _: None) -> list[str]:
    """Read a whole file with all checks: what is wrong with it, a line each; nothing, if it is good.

    tables: finds those of the entropy coder; where it finds none, the codes of such a file are not unpacked.
    """
    try:
        reader = Reader(file, keep_going=True, tables=tables)
    except FormatError as error:
        return [str(error)]
    if reader.header.entropy_id is not None:
        found = tables(reader.header)
        reader.unpack = found is not None and found.id == reader.header.entropy_id
    for _ in reader:
        pass
    return [str(damage) for damage in reader.damage]


def drop(src: BinaryIO, dst: BinaryIO, n_q: int) -> None:
    """Copy a stream with its first `n_q` levels only; no code is unpacked, every checksum is checked.

    `dst` gets the bytes that a Writer would have written for those levels, and the optional chunks of `src`.
    Raises ValueError if `src` has fewer levels, FormatError if it is damaged; `dst` is then not whole.
    """
    copier = _Copier(dst)
    reader = Reader(src, unpack=False, on_chunk=copier.copy_chunk)

    def first(group: Group) -> Sections:
        assert group.sections is not None, "a strict reader loses no group"
        return group.sections.first(n_q)

    copier.copy(reader, reader.header.first(n_q), first)


def recode(src: BinaryIO, dst: BinaryIO, tables: FindTables, *, raw: bool = False) -> None:
    """Copy a stream with its codes entropy-coded, or `raw`; what they decode to stays the same.

    `dst` gets the bytes that a Writer with or without tables would have written, and the optional chunks of `src`.
    tables: finds those of the file's model; it is not asked where raw codes stay raw. Raises ModelError where there
    are none, or others than the file's, FormatError if `src` is damaged; `dst` is then not whole.
    """
    copier = _Copier(dst)
    reader = Reader(src, tables=tables, on_chunk=copier.copy_chunk)
    coder = None if raw else _coder(reader.header, tables(reader.header))
    header = replace(reader.header, entropy_id=None if coder is None else coder.id)

    def pack(group: Group) -> Sections:
        assert group.levels is not None, "a strict reader loses no group"
        return pack_sections(header, group.n_frames, group.levels, group.counts, coder)

    copier.copy(reader, header, pack)


def _coder(header: Header, tables: EntropyTables | None) -> EntropyTables:
    """The tables to code a file with. Raises ModelError where they cannot."""
    if header.entropy_id is not None:
        return checked_tables(header, tables)
    if tables is None:
        raise ModelError(
            f"there are no tables of the entropy coder for model {header.space.model!r} here: leave the codes raw, "
            "or name a model's folder that has some"
        )
    if not fits(header, tables):
        raise ModelError(
            f"the tables are not for codebooks of {header.space.codebook_sizes}: name the right model"
        )
    return tables


class _Copier:
    """Copies a stream to another with each group changed; chunks stay as they are, where they are."""

    def __init__(self, dst: BinaryIO) -> None:
        self._dst = dst
        self._chunk_bytes = 0  # since the last group
        self._table = TableBuilder()

    def copy_chunk(self, kind: bytes, payload: bytes) -> None:
        """Takes a chunk over."""
        head = layout.pack_head(layout.CHUNK, kind=kind, payload_bytes=len(payload))
        send(self._dst, layout.with_crc(head, payload))
        self._chunk_bytes += len(head) + len(payload) + layout.CRC_BYTES

    def copy(self, reader: Reader, header: Header, change: Callable[[Group], Sections]) -> None:
        """Writes the header, every group as `change` makes it, and the end. Raises FormatError for damage."""
        send(self._dst, pack_header(header))
        for group in reader:
            data = join_group(header, group.index, change(group))
            send(self._dst, data)
            self._table.add(self._chunk_bytes + len(data))
            self._chunk_bytes = 0
        assert reader.n_samples is not None, "a strict reader ends with the end mark"
        send(self._dst, pack_end(self._table.table(), reader.n_samples))
