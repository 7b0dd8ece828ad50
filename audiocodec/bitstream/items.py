"""What follows the header, one item at a time: a group, a chunk, or the end; whole and checked, or an error."""

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from audiocodec.bitstream import layout
from audiocodec.bitstream.header import PREFIX_BYTES, Header, unpack_header, unpack_prefix
from audiocodec.bitstream.table import runs
from audiocodec.errors import FormatError

END_MARK_BYTES = 12
LEAST_PAYLOAD_BYTES = 2  # a length and a byte
MIN_ITEM_BYTES = 9  # no item is shorter: asking for so many at once never waits for the next item


class Window:
    """The bytes of a file that are being looked at: it grows at its end on demand, and shrinks at its start.

    file: anything with `read`, which may give fewer bytes than asked for; offset: place of `data[0]`,
    counted from where the file stood at first. It never reads ahead of what is asked for, so that
    a live stream is not held up.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.data = bytearray()
        self.offset = 0
        self.can_seek = bool(getattr(file, "seekable", lambda: False)())
        self._start = file.tell() if self.can_seek else 0

    def fill(self, n_bytes: int) -> bool:
        """Have `n_bytes` bytes in the window; False where the file has fewer."""
        while len(self.data) < n_bytes:
            piece = self.file.read(n_bytes - len(self.data))
            if piece is None:
                raise ValueError("the input is in non-blocking mode: open it in blocking mode")
            if not piece:
                return False
            self.data += piece
        return True

    def skip(self, n_bytes: int) -> None:
        """Let go of the first `n_bytes` bytes of the window."""
        del self.data[:n_bytes]
        self.offset += n_bytes

    def jump(self, offset: int) -> None:
        """Go on at another place of a file that can seek."""
        self.file.seek(self._start + offset)
        self.data.clear()
        self.offset = offset

    def length(self) -> int | None:
        """Bytes from the start to the file's end; None where it cannot seek. The window stays where it is."""
        if not self.can_seek:
            return None
        here = self.file.tell()
        n_bytes = self.file.seek(0, 2) - self._start
        self.file.seek(here)
        return n_bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A head whose own checksum holds: its fields, and where its item ends."""

    marker: int
    values: dict[str, Any]
    head_bytes: int
    item_bytes: int

    @property
    def is_group(self) -> bool:
        """Whether a group starts here."""
        return self.marker in (layout.GROUP, layout.SHORT_GROUP)


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """A group whose checksums hold. with_lengths: see `join_sections`; offset: of its head, in the stream."""

    index: int
    first_frame: int
    n_frames: int
    payload: bytes
    with_lengths: bool
    offset: int


@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream: the seek table (empty where there is none) and the exact number of samples."""

    table: bytes
    n_samples: int


def read_header(window: Window) -> Header:
    """Take a stream's header out of the window. Raises FormatError where it is not whole and undamaged."""
    window.fill(PREFIX_BYTES)
    n_bytes = PREFIX_BYTES + unpack_prefix(bytes(window.data))
    window.fill(n_bytes)
    header = unpack_header(bytes(window.data))
    window.skip(n_bytes)
    return header


def read_head(window: Window, header: Header) -> Head:
    """Read the head at the window's start; the window keeps it.

    Raises FormatError where no undamaged head stands there.
    """
    window.fill(MIN_ITEM_BYTES)
    while True:
        try:
            values, head_bytes = layout.unpack_head(window.data, sized=header.sized)
            break
        except layout.Incomplete:
            if not window.fill(len(window.data) + 1):
                where = "inside a head" if window.data else "without an end mark"
                raise FormatError(f"the input ends {where}") from None
    body_bytes = _payload_bytes(header, values) + layout.CRC_BYTES
    return Head(values["marker"], values, head_bytes, head_bytes + body_bytes)


def read_payload(window: Window, head: Head) -> bytes:
    """What stands between head and CRC-32, which must be right; the window keeps it.

    Raises FormatError where the input ends early or the checksum is wrong.
    """
    if not window.fill(head.item_bytes):
        what = "a group" if head.is_group else "a chunk" if head.marker == layout.CHUNK else "the end mark"
        raise FormatError(
            f"the input ends inside {what}, after {len(window.data)} of {head.item_bytes} bytes"
        )
    item = bytes(window.data[: head.item_bytes])
    if not layout.crc_holds(item):
        raise FormatError("the checksum is wrong")
    return item[head.head_bytes : -layout.CRC_BYTES]


def unpack_end(payload: bytes, end_bytes: int) -> End:
    """The end's payload, table and end mark. Raises FormatError where `end_bytes` is not what the mark says."""
    at = len(payload) - END_MARK_BYTES
    mark, _ = layout.unpack(layout.END_MARK, payload, at)
    if mark["end_bytes"] != end_bytes:
        raise FormatError(f"the end has {end_bytes} bytes, its mark says {mark['end_bytes']}")
    return End(payload[:at], mark["n_samples"])


def read_end(window: Window, header: Header, header_bytes: int) -> End | None:
    """The end of a file that can seek; None where none stands, or one that cannot be this file's. It moves the window.

    The table is left out if its groups would not fit between the header, of so many bytes, and the end.
    """
    n_bytes = window.length() or 0
    tail_bytes = END_MARK_BYTES + layout.CRC_BYTES
    if n_bytes < tail_bytes:
        return None
    window.jump(n_bytes - tail_bytes)
    if not window.fill(tail_bytes):
        return None
    end_bytes = layout.unpack(layout.END_MARK, window.data)[0]["end_bytes"]
    window.jump(max(0, n_bytes - end_bytes))
    groups_bytes = window.offset - header_bytes
    try:
        head = read_head(window, header)
        if head.marker != layout.END:
            return None
        end = unpack_end(read_payload(window, head), end_bytes)
        # chunks before the end are in no group: there may be more bytes than the table names, but no fewer
        if sum(count * group_bytes for count, group_bytes in runs(end.table)) > groups_bytes:
            end = replace(end, table=b"")
    except FormatError:
        return None
    return end if _is_possible(end, header, groups_bytes) else None


def _is_possible(end: End, header: Header, groups_bytes: int) -> bool:
    """Whether a file with so many bytes of groups can be a recording as long as its end says."""
    frames = header.frames_per_group
    if not end.table:
        most_groups = groups_bytes // header.least_group_bytes() + 1
        return end.n_samples <= header.max_samples(most_groups * frames)
    n_groups = sum(count for count, _ in runs(end.table))
    shortest = header.min_samples((n_groups - 1) * frames + 1)
    return shortest <= end.n_samples <= header.max_samples(n_groups * frames)


def _payload_bytes(header: Header, values: dict[str, Any]) -> int:
    """Bytes between an item's head and its CRC-32. Raises FormatError for a length above its limit."""
    match values["marker"]:
        case layout.GROUP:
            return _group_bytes(header, header.frames_per_group, values)
        case layout.SHORT_GROUP:
            return _group_bytes(
                header, _within("frames", values["n_frames"], 1, header.frames_per_group - 1), values
            )
        case layout.CHUNK:
            return _within("bytes in a chunk", values["payload_bytes"], 0, layout.MAX_CHUNK_BYTES)
        case _:
            table_bytes = _within("bytes in a table", values["table_bytes"], 0, layout.MAX_TABLE_BYTES)
            return table_bytes + END_MARK_BYTES


def _group_bytes(header: Header, n_frames: int, values: dict[str, Any]) -> int:
    """Bytes of a group's payload."""
    if not values.get("payload_bytes") and not header.variable:
        return header.payload_bytes(n_frames)
    most = header.most_payload_bytes(n_frames)
    return _within("bytes in a group", values["payload_bytes"], LEAST_PAYLOAD_BYTES, most)


def _within(name: str, value: int, lowest: int, highest: int) -> int:
    """The value, if it is within its limits; else FormatError."""
    if not lowest <= value <= highest:
        raise FormatError(f"{value} {name}: expected {lowest} to {highest}")
    return value
