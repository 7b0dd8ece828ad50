"""The bytes of a `.rq` file, version 1: this page says what stands where.

Everything is little-endian. A field's code is a code of Python's `struct`, or one of two more:
`varint`, seven bits a byte, lowest first, the top bit set where more bytes follow, in the shortest form;
`text`, a varint with the number of bytes, then UTF-8.
docs/FORMAT.md shows the same tables; `python -m audiocodec.bitstream` prints them.
"""

import binascii
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audiocodec.errors import FormatError

MAGIC = b"RQAC"
VERSION = 1

# Markers: the first byte of everything that follows the header.
GROUP = ord("G")
SHORT_GROUP = ord("g")
CHUNK = ord("C")
END = ord("E")

# Features: bits of a header's `features`. This version knows three of them and refuses files that have any other.
FEATURES = {
    0: "entropy-coded sections",
    1: "a number of levels that varies from frame to frame",
    2: "side values in each group",
    3: "lanes of several channels or in overlapping segments",
}
ENTROPY, VARIABLE, SEGMENTS = 0, 1, 3  # those that this version knows

# Limits: every length is held against one of these before memory is taken for it.
MAX_FRAMES_PER_GROUP = 1 << 13
MAX_RATE_HZ = 1 << 24
MAX_HOP_LENGTH = 1 << 16
MAX_DELAY = 1 << 20
MAX_CHUNK_BYTES = 1 << 20
MAX_TABLE_BYTES = 1 << 20
MAX_HEADER_BYTES = (1 << 16) - 1
MAX_VARINT_BYTES = 5

CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a table: a field's name, how it is written, and what it means."""

    name: str
    code: str
    meaning: str


_MARKER = Field("marker", "B", "what starts here: `G`, `g`, `C` or `E`")
_HEAD_CRC = Field("head_crc", "H", "CRC-16 of the head up to here")

PREFIX = (
    Field("magic", "4s", "`RQAC`"),
    Field("version", "B", "1; a reader refuses any other"),
    Field("header_bytes", "H", "bytes of the header between this field and its CRC-32"),
)
HEADER = (
    Field(
        "features",
        "B",
        "what a reader must understand to read on, one bit each; without any, 0",
    ),
    Field("space_id", "16s", "id of the code space: what the codes mean"),
    Field("sample_rate", "varint", "Hz of the coded lanes"),
    Field("hop_length", "varint", "samples per frame of the coded lanes"),
    Field("delay", "varint", "samples by which decoded lanes lag behind"),
    Field("source_sample_rate", "varint", "Hz of the recording"),
    Field(
        "lane_layout",
        "B",
        "1: mono, one lane; 2: stereo, the lanes are mid and side, or one lane of both channels",
    ),
    Field("frames_per_group", "varint", "frames of every group but the last, which may have fewer"),
    Field("model", "text", "name of the model that defined the code space"),
    Field("n_level_runs", "varint", "how many level runs follow"),
)
LEVEL_RUN = (
    Field("n_levels", "varint", "this many levels, one after the other, are alike"),
    Field("codebook_size", "varint", "K: their codes are 0 to K - 1"),
    Field("frames_per_code", "varint", "m: one code stands for m frames; divides frames_per_group"),
)
TAGS = (Field("n_tags", "varint", "how many tags follow"),)
TAG = (
    Field("key", "text", "such as `title` or `artist`; each key once"),
    Field("value", "text", "what the recording says about itself"),
)
SEGMENT_FIELDS = (
    Field("lane_channels", "B", "1: as `lane_layout` says; 2: one lane, which is left and right"),
    Field("segment_overlap", "varint", "samples that neighbouring segments share; 0: there are no segments"),
)
ENTROPY_FIELDS = (Field("entropy_id", "8s", "id of the tables that the entropy coder needs"),)
GROUP_HEAD = (
    _MARKER,
    Field("index", "varint", "number of the group, from 0"),
    _HEAD_CRC,
)
SHORT_GROUP_HEAD = (
    _MARKER,
    Field("index", "varint", "number of the group, from 0"),
    Field("n_frames", "varint", "frames in it: at least 1, fewer than frames_per_group"),
    _HEAD_CRC,
)
_PAYLOAD_BYTES = Field(
    "payload_bytes", "varint", "bytes between head and CRC-32; 0: raw sections, as without feature 0"
)
SIZED_GROUP_HEAD = (*GROUP_HEAD[:-1], _PAYLOAD_BYTES, _HEAD_CRC)
SIZED_SHORT_GROUP_HEAD = (*SHORT_GROUP_HEAD[:-1], _PAYLOAD_BYTES, _HEAD_CRC)
CHUNK_HEAD = (
    _MARKER,
    Field("kind", "4s", "what the chunk is; a reader that does not know it skips the chunk"),
    Field("payload_bytes", "varint", "bytes between head and CRC-32"),
    _HEAD_CRC,
)
END_HEAD = (
    _MARKER,
    Field("table_bytes", "varint", "bytes of the seek table that follows"),
    _HEAD_CRC,
)
TABLE_RUN = (
    Field("n_groups", "varint", "this many groups, one after the other, have the same length"),
    Field("group_bytes", "varint", "bytes of each, counted from the end of the group before it"),
)
END_MARK = (
    Field("n_samples", "Q", "samples of the recording, per channel, at its own rate"),
    Field("end_bytes", "I", "bytes from the marker `E` to the end of the file"),
)
LENGTH = (Field("n_bytes", "varint", "bytes of the coded section that follows; 0: a raw section follows"),)
CRC = (Field("crc32", "I", "CRC-32 of all bytes from the marker (in the header: from the magic) up to here"),)

HEADS = {GROUP: GROUP_HEAD, SHORT_GROUP: SHORT_GROUP_HEAD, CHUNK: CHUNK_HEAD, END: END_HEAD}
SIZED_HEADS = HEADS | {GROUP: SIZED_GROUP_HEAD, SHORT_GROUP: SIZED_SHORT_GROUP_HEAD}

TABLES = {
    "Prefix": PREFIX,
    "Header": HEADER,
    "Level run": LEVEL_RUN,
    "Tags": TAGS,
    "Tag": TAG,
    "Feature 3, after the tags": SEGMENT_FIELDS,
    "Feature 0, after the tags and what feature 3 adds": ENTROPY_FIELDS,
    "Head of a full group": GROUP_HEAD,
    "Head of a shorter last group": SHORT_GROUP_HEAD,
    "Head of a full group, with feature 0 or 1": SIZED_GROUP_HEAD,
    "Head of a shorter last group, with feature 0 or 1": SIZED_SHORT_GROUP_HEAD,
    "Before a section, with feature 0": LENGTH,
    "Head of a chunk": CHUNK_HEAD,
    "Head of the end": END_HEAD,
    "Run of the seek table": TABLE_RUN,
    "End mark": END_MARK,
    "Check": CRC,
}


class Incomplete(Exception):
    """The bytes end inside a field."""


def pack(fields: Iterable[Field], values: Mapping[str, Any]) -> bytes:
    """Write one value per field, in the fields' order.

    >>> pack(TABLE_RUN, {"n_groups": 5, "group_bytes": 384})
    b'\\x05\\x80\\x03'
    """
    return b"".join(_pack_one(field.code, values[field.name]) for field in fields)


def unpack(fields: Iterable[Field], data: bytes | bytearray, at: int = 0) -> tuple[dict[str, Any], int]:
    """Read the fields from `data`, from position `at` on: their values by name, and the position after them.

    Raises Incomplete where the bytes end early, ValueError where they cannot be such a field.

    >>> unpack(TABLE_RUN, bytes([5, 0x80, 3]))
    ({'n_groups': 5, 'group_bytes': 384}, 3)
    """
    values: dict[str, Any] = {}
    for field in fields:
        values[field.name], at = _unpack_one(field.code, data, at)
    return values, at


def pack_head(marker: int, *, sized: bool = False, **values: object) -> bytes:
    """Head of a group, a chunk or the end, with its CRC-16. sized: the file has feature 0 or 1."""
    head = pack((SIZED_HEADS if sized else HEADS)[marker][:-1], {"marker": marker, **values})
    return head + struct.pack("<H", crc16(head))


def unpack_head(data: bytes | bytearray, at: int = 0, *, sized: bool = False) -> tuple[dict[str, Any], int]:
    """Read the head that starts at `at`: its values, and its length in bytes. sized: the file has feature 0 or 1.

    Raises Incomplete where more bytes are needed, FormatError where no head stands there.
    """
    if at >= len(data):
        raise Incomplete
    if data[at] not in HEADS:
        raise FormatError(f"no group, chunk or end mark starts with byte 0x{data[at]:02x}")
    try:
        values, end = unpack((SIZED_HEADS if sized else HEADS)[data[at]], data, at)
    except ValueError as error:
        raise FormatError(f"damaged head: {error}") from None
    if values["head_crc"] != crc16(data[at : end - 2]):
        raise FormatError("damaged head: its checksum is wrong")
    return values, end - at


def crc16(data: bytes | bytearray) -> int:
    """CRC-16 of a head: polynomial 0x1021, start 0, as `binascii.crc_hqx`.

    >>> hex(crc16(b"123456789"))
    '0x31c3'
    """
    return binascii.crc_hqx(data, 0)


def with_crc(*parts: bytes) -> bytes:
    """The parts, joined, and their CRC-32 (`zlib.crc32`)."""
    data = b"".join(parts)
    return data + struct.pack("<I", zlib.crc32(data))


def crc_holds(data: bytes) -> bool:
    """Whether the last four bytes are the CRC-32 of all before them.

    >>> crc_holds(with_crc(b"RQ")), crc_holds(b"RQ1234")
    (True, False)
    """
    return zlib.crc32(memoryview(data)[:-CRC_BYTES]) == int.from_bytes(data[-CRC_BYTES:], "little")


def tables_markdown() -> str:
    """All tables as Markdown, as docs/FORMAT.md shows them."""
    return "\n\n".join(f"**{title}**\n\n{table_markdown(fields)}" for title, fields in TABLES.items())


def table_markdown(fields: Iterable[Field]) -> str:
    """One table as Markdown, a row per field."""
    rows = [f"| `{field.name}` | `{field.code}` | {field.meaning} |" for field in fields]
    return "\n".join(["| field | code | meaning |", "|---|---|---|", *rows])


def _pack_one(code: str, value: Any) -> bytes:
    """One field's bytes."""
    if code == "varint":
        return _pack_varint(value)
    if code == "text":
        data = str(value).encode()
        return _pack_varint(len(data)) + data
    return struct.pack("<" + code, value)


def _unpack_one(code: str, data: bytes | bytearray, at: int) -> tuple[Any, int]:
    """One field's value, and the position after it."""
    if code == "varint":
        return _unpack_varint(data, at)
    size = struct.calcsize("<" + code) if code != "text" else 0
    if code == "text":
        size, at = _unpack_varint(data, at)
    if at + size > len(data):
        raise Incomplete
    if code == "text":
        return data[at : at + size].decode(), at + size
    return struct.unpack_from("<" + code, data, at)[0], at + size


def _pack_varint(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    if value < 0 or len(groups) > MAX_VARINT_BYTES:
        raise ValueError(f"{value} does not fit in {MAX_VARINT_BYTES} bytes of seven bits")
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def _unpack_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and the position after it."""
    value = 0
    for n in range(MAX_VARINT_BYTES):
        if at + n >= len(data):
            raise Incomplete
        byte = data[at + n]
        value |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            if n and not byte:
                raise ValueError("a number is not in its shortest form")
            return value, at + n + 1
    raise ValueError(f"a number has more than {MAX_VARINT_BYTES} bytes")
