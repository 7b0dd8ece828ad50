"""Write a `.rq` stream: header, groups, end. It never seeks, so a pipe will do."""

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream import layout
from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.bitstream.header import Header, pack_header
from audiocodec.bitstream.sections import Sections, fits, join_sections, pack_sections
from audiocodec.bitstream.table import TableBuilder


class Writer:
    """Writes one stream into an open binary file, which stays the caller's to close.

    file: anything with `write`; header: written at once; tables: those that the header names, where it names any.
    n_groups, n_frames, n_bytes: written so far.
    Memory is constant, but for the seek table: no bytes for a further group of the same length,
    a few bytes for one of another length.

    >>> import io
    >>> import numpy as np
    >>> from audiocodec.codes import CodeSpace, Source
    >>> space = CodeSpace(bytes(16), "demo", 24000, 320, 960, (1024,), (1,))
    >>> file = io.BytesIO()
    >>> writer = Writer(file, Header(space, Source(24000, 1), frames_per_group=150))
    >>> writer.write(150, (np.zeros((1, 150), np.int16),))
    >>> writer.write(10, (np.zeros((1, 10), np.int16),))
    >>> writer.finish(n_samples=50000)
    >>> len(file.getvalue())
    295
    """

    def __init__(self, file: BinaryIO, header: Header, tables: EntropyTables | None = None) -> None:
        if header.entropy_id != (None if tables is None else tables.id):
            raise ValueError("the header names other entropy tables than the writer has")
        if tables is not None and not fits(header, tables):
            raise ValueError(f"entropy tables for codebooks {tables.codebook_sizes}: expected the header's")
        self.header = header
        self._file, self._tables = file, tables
        self._table = TableBuilder()
        self.n_groups = 0
        self.n_frames = 0
        self._finished = False
        self.n_bytes = 0
        self._send(pack_header(header))

    @property
    def table(self) -> bytes:
        """The seek table of the groups so far; empty where it would be too long."""
        return self._table.table()

    def write(
        self,
        n_frames: int,
        levels: Sequence[NDArray[np.int16]],
        counts: NDArray[np.uint8] | None = None,
        *,
        flush: bool = False,
    ) -> None:
        """Write one group.

        n_frames: frames in it, 1 to frames_per_group; only the last group may have fewer than frames_per_group.
        levels: per level int16 [lanes, ceil(n_frames / frames_per_code)].
        counts: uint8 [lanes, n_frames], levels of each frame, where the header says that they vary; the codes of
        others are 0.
        flush: hand the bytes on at once, for live streams.
        Raises ValueError for codes of another shape or outside their codebook, and after a shorter group.
        """
        if self._finished or self.n_frames < self.n_groups * self.header.frames_per_group:
            raise ValueError(
                "the stream has had its last group: only the last may be shorter than the others"
            )
        sections = pack_sections(self.header, n_frames, levels, counts, self._tables)
        group = join_group(self.header, self.n_groups, sections)
        self._send(group)
        self._table.add(len(group))
        self.n_groups += 1
        self.n_frames += n_frames
        if flush:
            self._file.flush()

    def finish(self, n_samples: int) -> None:
        """Write the seek table and the end mark, and flush.

        n_samples: length of the recording at its own rate, per channel. Raises ValueError if the groups
        cannot be those of so many, and when called twice.
        """
        shortest, longest = self.header.min_samples(self.n_frames), self.header.max_samples(self.n_frames)
        if self._finished:
            raise ValueError("the stream is finished already")
        if not shortest <= n_samples <= longest:
            raise ValueError(
                f"{n_samples} samples: {self.n_frames} frames are {shortest} to {longest} samples"
            )
        self._finished = True
        self._send(pack_end(self._table.table(), n_samples))
        self._file.flush()

    def _send(self, data: bytes) -> None:
        send(self._file, data)
        self.n_bytes += len(data)


def send(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` into `file`, even where it takes only a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def join_group(header: Header, index: int, sections: Sections) -> bytes:
    """A whole group of these sections."""
    payload, with_lengths = join_sections(header, sections)
    return pack_group(header, index, sections.n_frames, payload, with_lengths=with_lengths)


def pack_group(
    header: Header, index: int, n_frames: int, payload: bytes, *, with_lengths: bool = False
) -> bytes:
    """A whole group: head, payload, CRC-32. with_lengths: as `join_sections` says."""
    values = {"index": index}
    marker = layout.GROUP
    if n_frames < header.frames_per_group:
        marker, values = layout.SHORT_GROUP, values | {"n_frames": n_frames}
    if header.sized:
        values |= {"payload_bytes": len(payload) if with_lengths or header.variable else 0}
    return layout.with_crc(layout.pack_head(marker, sized=header.sized, **values), payload)


def pack_end(table: bytes, n_samples: int) -> bytes:
    """The end of a stream: head, seek table, end mark, CRC-32."""
    head = layout.pack_head(layout.END, table_bytes=len(table))
    mark_bytes = struct.calcsize("<" + "".join(field.code for field in layout.END_MARK))
    end_bytes = len(head) + len(table) + mark_bytes + layout.CRC_BYTES
    mark = layout.pack(layout.END_MARK, {"n_samples": n_samples, "end_bytes": end_bytes})
    return layout.with_crc(head, table, mark)
