"""Read a `.rq` stream: group after group in constant memory, from a file or a pipe, whole or damaged."""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream import layout
from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.bitstream.header import Header
from audiocodec.bitstream.items import (
    End,
    PackedGroup,
    Window,
    read_end,
    read_head,
    read_header,
    read_payload,
    unpack_end,
)
from audiocodec.bitstream.records import Damage, Group
from audiocodec.bitstream.sections import Sections, checked_tables, split_sections, unpack_sections
from audiocodec.bitstream.table import TableBuilder, locate
from audiocodec.errors import FormatError

MAX_LOST_SECONDS = 3600  # in all; a file whose groups jump further ahead is not believed
MAX_LOST_FRAMES = 1 << 20  # nor one that has an absurd number of frames in that time
MAX_DAMAGE_RECORDS = 1000  # so that the record of damage cannot fill the memory
SEARCH_STEP_BYTES = 4096
SEARCH_EFFORT = 8  # bytes that may be checked in vain per byte that is searched

FindTables = Callable[[Header], EntropyTables | None]

_GROUP_OR_END = re.compile(b"[GgE]")


class Reader:
    """Reads a stream's header at once, then yields its groups in order.

    file: open binary file or pipe; it stays the caller's to close. Short reads are fine.
    keep_going: yield lost groups with `levels=None` and go on at the next whole one; `.damage` has the list.
        Without it any damage, and bytes that are missing or too many, raise FormatError.
    unpack: with False the codes are left packed, and groups have `sections` only; it may be changed on the way.
    tables: of the entropy coder, or how to find them (None: they are not here). Asked for at the first coded section
        that is to be unpacked, which raises ModelError without them, and where the file names others.
    on_chunk: called with kind and payload of every optional chunk; without it they are skipped.

    header: what the file says about itself. n_samples: the recording's length, known after the last group,
    None where the end mark is missing. damage: Damage records, in the order they were met; at most 1000.

    >>> import io
    >>> import numpy as np
    >>> from audiocodec.bitstream import Header, Writer
    >>> from audiocodec.codes import CodeSpace, Source
    >>> space = CodeSpace(bytes(16), "demo", 24000, 320, 960, (1024,), (1,))
    >>> file = io.BytesIO()
    >>> writer = Writer(file, Header(space, Source(24000, 1), frames_per_group=150))
    >>> writer.write(10, (np.arange(10, dtype=np.int16)[None],))
    >>> writer.finish(n_samples=2000)
    >>> reader = Reader(io.BytesIO(file.getvalue()))
    >>> [(group.first_frame, group.levels[0].tolist()) for group in reader], reader.n_samples
    ([(0, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])], 2000)
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        keep_going: bool = False,
        unpack: bool = True,
        tables: EntropyTables | FindTables | None = None,
        on_chunk: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.keep_going = keep_going
        self.unpack = unpack
        self._tables = tables
        self._checked_tables: EntropyTables | None = None
        self._on_chunk = on_chunk
        self.n_samples: int | None = None
        self.damage: list[Damage] = []
        self._window = Window(file)
        self.header = read_header(self._window)
        self._header_bytes = self._window.offset
        lost_frames = int(MAX_LOST_SECONDS * self.header.space.frame_rate)
        self._lost_frames_left = min(lost_frames, MAX_LOST_FRAMES)
        self._bytes_checked = 0  # in searches, perhaps in vain
        self._restart(0)

    @property
    def n_bytes(self) -> int:
        """Bytes read so far; after the last group, the length of the stream."""
        return self._window.offset

    @property
    def table(self) -> bytes:
        """The seek table of the groups read so far; empty where it would be too long, or these are not all."""
        return self._table.table() if self._table is not None else b""

    def __iter__(self) -> Iterator[Group]:
        """The groups from here on. A second loop goes on where the first one stopped."""
        return self._groups

    def seek_frame(self, frame: int) -> None:
        """Go on with the group that holds `frame`; with the end of the stream, if no group does.

        A file that can seek is asked for its seek table; without one, the groups before are read and dropped.
        Raises ValueError for going back in a pipe, FormatError as reading does.
        """
        index = frame // self.header.frames_per_group
        if frame < 0:
            raise ValueError(f"frame {frame}: expected 0 or more")
        if self._window.can_seek:
            if not self._jump(index):
                self._window.jump(self._header_bytes)
                self._restart(0)
        elif index < self._next_index:
            raise ValueError(f"frame {frame} has gone by, and the input cannot seek: open it again")
        unpack, self.unpack = self.unpack, False  # what is passed over stays packed
        try:
            while self._next_index < index and next(self._groups, None) is not None:
                pass
        finally:
            self.unpack = unpack

    def end(self) -> End | None:
        """The end of a file that can seek, read ahead of time; None where none stands that can be believed.

        A reader that keeps going believes one only where its seek table says how many groups there were.
        """
        if not self._window.can_seek:
            return None
        here = self._window.offset
        end = read_end(self._window, self.header, self._header_bytes)
        self._window.jump(here)
        return None if end is None or (self.keep_going and not end.table) else end

    def _restart(self, index: int) -> None:
        """Go on at group `index`, which is expected at the window's start."""
        self._next_index = index
        self._n_frames = index * self.header.frames_per_group
        self._gap_end = self._n_frames  # frames up to here are lost
        self._group_start = self._window.offset
        at_first = self._group_start == self._header_bytes
        self._table = TableBuilder() if at_first else None  # of what was read; None where that is not all
        self._groups = self._read_groups()

    def _jump(self, index: int) -> bool:
        """Go to group `index`, or to the end, by the seek table; False where it does not lead there."""
        end = self.end()
        if end is None or not end.table:
            return False
        index, n_bytes = locate(end.table, index)
        self._window.jump(self._header_bytes + n_bytes)
        self._restart(index)
        try:
            head = read_head(self._window, self.header)
        except FormatError:
            return False
        return bool(head.values.get("index", index) == index)

    def _read_groups(self) -> Iterator[Group]:
        """Group after group, and what was lost between them; then the end."""
        frames = self.header.frames_per_group
        while (item := self._next_item()) is not None:
            while self._n_frames < self._gap_end:
                n_lost = min(frames, self._gap_end - self._n_frames)
                yield self._counted(Group(self._next_index, self._n_frames, n_lost, None, None))
            if isinstance(item, End):
                return self._finish(item)
            yield self._counted(self._opened(item))

    def _opened(self, packed: PackedGroup) -> Group:
        """The group with its codes; a lost one where these are impossible, though the checksums hold."""
        index, first_frame, n_frames = packed.index, packed.first_frame, packed.n_frames
        try:
            sections = split_sections(self.header, n_frames, packed.payload, with_lengths=packed.with_lengths)
            levels = self._unpacked(sections) if self.unpack else None
        except FormatError as error:
            self._complain(str(error), at=packed.offset, n_groups=1)
            return Group(index, first_frame, n_frames, None, None)
        return Group(index, first_frame, n_frames, levels, packed.payload, sections.counts, sections)

    def _unpacked(self, sections: Sections) -> tuple[NDArray[np.int16], ...]:
        """The codes of a group."""
        if sections.any_coded and self._checked_tables is None:
            found = self._tables(self.header) if callable(self._tables) else self._tables
            self._checked_tables = checked_tables(self.header, found)
        return unpack_sections(self.header, sections, self._checked_tables)

    def _counted(self, group: Group) -> Group:
        """The group, after it is counted as gone by."""
        self._next_index = group.index + 1
        self._n_frames = group.first_frame + group.n_frames
        return group

    def _next_item(self) -> PackedGroup | End | None:
        """The next group or the end, taken out of the window; None where a damaged stream has no more."""
        while True:
            try:
                item, n_bytes = self._check(most_lost=0)
            except FormatError as error:
                return self._recover(str(error))
            self._window.skip(n_bytes)
            if item is not None:
                if self._table is not None and isinstance(item, PackedGroup):
                    self._table.add(self._window.offset - self._group_start)
                self._group_start = self._window.offset
                return item

    def _check(self, most_lost: int) -> tuple[PackedGroup | End | None, int]:
        """What stands at the window's start, and its bytes; the window keeps it. None stands for a chunk.

        Raises FormatError where it is damaged, or does not go on after the groups so far with at most
        `most_lost` groups lost.
        """
        head = read_head(self._window, self.header)
        index = head.values.get("index", self._next_index)
        if head.is_group and self._n_frames % self.header.frames_per_group:
            raise FormatError(f"group {index} follows a shorter group, which must be the last")
        if not 0 <= index - self._next_index <= most_lost:
            raise FormatError(f"group {index} stands where group {self._next_index} is expected")
        payload = read_payload(self._window, head)
        if head.marker == layout.CHUNK:
            if self._on_chunk:
                self._on_chunk(head.values["kind"], payload)
            return None, head.item_bytes
        if head.marker == layout.END:
            end = unpack_end(payload, head.item_bytes)
            if self._table is not None and end.table and end.table != self._table.table():
                raise FormatError("the seek table names other groups than the file has: some were lost")
            return end, head.item_bytes
        frames = self.header.frames_per_group
        return PackedGroup(
            index,
            index * frames,
            head.values.get("n_frames", frames),
            payload,
            self.header.entropy_id is not None and head.values["payload_bytes"] > 0,
            self._window.offset,
        ), head.item_bytes

    def _recover(self, reason: str) -> PackedGroup | End | None:
        """Find the next whole group, or the end, behind a damaged place; record what was lost in between.

        Raises FormatError, with the place, unless the reader keeps going.
        """
        start = self._window.offset
        if not self.keep_going:
            self._complain(reason, at=start, n_groups=1)
        self._table = None
        item = self._search(start)
        frames = self.header.frames_per_group
        if isinstance(item, PackedGroup):
            n_lost = item.index - self._next_index
            self._gap_end = item.first_frame
        elif isinstance(item, End):
            missing = max(0, self.header.n_frames(item.n_samples) - self._n_frames)
            n_lost = min(-(-missing // frames), self._most_lost(start))
            self._gap_end = self._n_frames + min(missing, n_lost * frames)
        else:
            self._record(self._damage(start, None, reason))
            return None
        self._lost_frames_left -= max(0, n_lost - self._most_lost_within(start)) * frames
        self._record(self._damage(start, n_lost, reason))
        return item

    def _search(self, start: int) -> PackedGroup | End | None:
        """Go byte by byte to the next whole group or the end, and take it out of the window; None at the end of input.

        A false head can make the reader check many bytes in vain. Where that gets out of hand, as only
        a file made for the purpose can bring about, the search leaps over what such a head claims.
        """
        window = self._window
        while window.fill(1):
            found = _GROUP_OR_END.search(window.data)
            window.skip(found.start() if found else len(window.data))
            if not found:
                window.fill(SEARCH_STEP_BYTES)
                continue
            step = 1
            try:
                n_bytes = read_head(window, self.header).item_bytes
                self._bytes_checked += n_bytes
                if self._bytes_checked > SEARCH_EFFORT * (window.offset + layout.MAX_TABLE_BYTES):
                    step = n_bytes
                item, n_bytes = self._check(self._most_lost(start))
            except FormatError:
                window.skip(min(step, len(window.data)))
                continue
            window.skip(n_bytes)
            return item
        return None

    def _most_lost_within(self, start: int) -> int:
        """Full groups that the bytes from `start` to the window can have held."""
        return (self._window.offset - start) // self.header.least_group_bytes() + 1

    def _most_lost(self, start: int) -> int:
        """Most groups that are believed to be lost between `start` and the window, with lost bytes."""
        return self._most_lost_within(start) + self._lost_frames_left // self.header.frames_per_group

    def _finish(self, end: End) -> None:
        """Check the number of samples, and that nothing follows."""
        shortest, longest = self.header.min_samples(self._n_frames), self.header.max_samples(self._n_frames)
        if shortest <= end.n_samples <= longest:
            self.n_samples = end.n_samples
        else:
            bound = f"at most {longest}" if end.n_samples > longest else f"at least {shortest}"
            self._complain(f"the end mark says {end.n_samples} samples, the groups hold {bound}")
        if self._window.fill(1):
            self._complain("more bytes follow after the end mark")

    def _complain(self, reason: str, *, at: int | None = None, n_groups: int = 0) -> None:
        """Record damage that costs `n_groups`, by default right here; or raise it, unless the reader keeps going."""
        damage = self._damage(self._window.offset if at is None else at, n_groups, reason)
        if not self.keep_going:
            raise FormatError(f"{damage}: get another copy, or decode what is whole with --keep-going")
        self._record(damage)

    def _damage(self, offset: int, n_groups: int | None, reason: str) -> Damage:
        """A record of damage at the next group."""
        start = self._n_frames / self.header.space.frame_rate
        end = None if n_groups is None else start + n_groups * self.header.group_seconds
        return Damage(offset, self._next_index, n_groups, start, end, reason)

    def _record(self, damage: Damage) -> None:
        """Keep a record, while there is room for it."""
        if len(self.damage) < MAX_DAMAGE_RECORDS:
            self.damage.append(damage)
