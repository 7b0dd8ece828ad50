"""What a group holds: the numbers of levels, where they vary, and a section per level and lane, raw or coded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream import layout
from audiocodec.bitstream.counts import pack_counts, unpack_counts
from audiocodec.bitstream.entropy import EntropyTables
from audiocodec.bitstream.header import Header
from audiocodec.bitstream.packing import pack_codes, packed_bytes, unpack_codes
from audiocodec.errors import FormatError, ModelError

Levels = tuple[NDArray[np.int16], ...]
Counts = NDArray[np.uint8]


class Section(NamedTuple):
    """The codes of one level and lane: their bytes, and whether these are entropy-coded."""

    data: bytes
    coded: bool


@dataclass(frozen=True, slots=True)
class Sections:
    """All of a group, its codes still packed.

    counts: levels of each frame, uint8 [lanes, n_frames]; None where all have all. levels: per level and lane.
    """

    n_frames: int
    counts: Counts | None
    levels: tuple[tuple[Section, ...], ...]

    @property
    def any_coded(self) -> bool:
        """Whether some section is entropy-coded."""
        return any(section.coded for level in self.levels for section in level)

    def first(self, n_q: int) -> "Sections":
        """The same group with its first `n_q` levels only."""
        counts = None if self.counts is None else np.minimum(self.counts, n_q).astype(np.uint8)
        return replace(self, counts=counts, levels=self.levels[:n_q])


def pack_sections(
    header: Header,
    n_frames: int,
    levels: Sequence[NDArray[np.int16]],
    counts: Counts | None,
    tables: EntropyTables | None,
) -> Sections:
    """Pack the codes of a group, each section in the shorter of its two forms; with `tables` None all are raw.

    levels: per level int16 [lanes, ceil(n_frames / frames_per_code)]; counts: uint8 [lanes, n_frames], the codes of
    frames with fewer levels are 0. Raises ValueError if they are not.
    """
    _check_counts(header, n_frames, counts)
    _check_levels(header, n_frames, levels, counts)
    packed = []
    for level, codes in enumerate(levels):
        present = _present(counts, level, codes.shape)
        sections = []
        for lane in range(header.n_lanes):
            own = codes[lane][present[lane]]
            raw_bytes = packed_bytes(len(own), header.space.bits_per_code[level])
            if tables is not None and raw_bytes:
                known = np.stack([below[lane] for below in levels[: level + 1]])
                data = tables.pack(known, None if counts is None else counts[lane])
                if _is_shorter(len(data), raw_bytes):
                    sections.append(Section(data, coded=True))
                    continue
            sections.append(Section(pack_codes(own, header.space.bits_per_code[level]), coded=False))
        packed.append(tuple(sections))
    return Sections(n_frames, counts, tuple(packed))


def unpack_sections(header: Header, sections: Sections, tables: EntropyTables | None) -> Levels:
    """Codes of a group: per level int16 [lanes, ceil(n_frames / frames_per_code)], 0 where a frame has none.

    tables: needed where some section is coded. Raises FormatError for a section that cannot be one of such codes.
    """
    levels: list[NDArray[np.int16]] = []
    counts = sections.counts
    for level, (n_codes, lanes) in enumerate(
        zip(header.n_codes(sections.n_frames), sections.levels, strict=True)
    ):
        codes = np.zeros((header.n_lanes, n_codes), np.int16)
        present = _present(counts, level, codes.shape)
        for lane, section in enumerate(lanes):
            if section.coded:
                assert tables is not None, "whoever reads coded sections has seen to it"
                below = np.array([known[lane] for known in levels], np.int16).reshape(level, n_codes)
                codes[lane] = tables.unpack(section.data, below, None if counts is None else counts[lane])
            else:
                bits = header.space.bits_per_code[level]
                codes[lane, present[lane]] = _unpack_raw(section.data, int(present[lane].sum()), bits)
        if codes.max() >= header.space.codebook_sizes[level]:
            size = header.space.codebook_sizes[level]
            raise FormatError(f"level {level} has code {codes.max()}, its codebook has {size} entries")
        levels.append(codes)
    return tuple(levels)


def checked_tables(header: Header, tables: EntropyTables | None) -> EntropyTables:
    """The tables, if they are those that a file's coded sections need.

    Raises ModelError where they are missing or others, FormatError where the file has other codebooks than they.
    """
    needed = (header.entropy_id or b"").hex()
    if tables is None:
        raise ModelError(
            f"the codes are entropy-coded with tables {needed} of model {header.space.model!r}, which are not here: "
            "name the model's folder, with all that belongs in it"
        )
    if tables.id != header.entropy_id:
        raise ModelError(
            f"the codes are entropy-coded with tables {needed} of model {header.space.model!r}, "
            f"these are {tables.id.hex()}: get the version of the model that made the file"
        )
    if not fits(header, tables):
        raise FormatError(
            f"the file's codebooks are not those of its entropy tables {needed}: it was made wrong"
        )
    return tables


def fits(header: Header, tables: EntropyTables) -> bool:
    """Whether the tables are for such levels."""
    return tables.codebook_sizes[: header.space.n_q] == header.space.codebook_sizes


def join_sections(header: Header, sections: Sections) -> tuple[bytes, bool]:
    """The payload of a group, and whether its sections have their lengths before them.

    They have in a file with entropy coding, but for a group of constant rate none of whose sections is coded.
    """
    with_lengths = header.entropy_id is not None and (header.variable or sections.any_coded)
    parts = []
    if sections.counts is not None:
        data = pack_counts(sections.counts, header.space.n_q)
        parts += [_length(len(data)), data]
    for section in (section for level in sections.levels for section in level):
        if with_lengths and section.data:
            parts.append(_length(len(section.data) * section.coded))
        parts.append(section.data)
    return b"".join(parts), with_lengths


def split_sections(header: Header, n_frames: int, payload: bytes, *, with_lengths: bool) -> Sections:
    """The sections of a payload, as `join_sections` joined them; no code is unpacked, and no tables are needed.

    Raises FormatError where they do not fill the payload, or could have been written shorter.
    """
    cursor = _Cursor(payload)
    counts = None
    if header.variable:
        counts = unpack_counts(cursor.take(cursor.length()), header.n_lanes, n_frames, header.space.n_q)
    levels = []
    for level, n_codes in enumerate(header.n_codes(n_frames)):
        present = _present(counts, level, (header.n_lanes, n_codes))
        lengths = [packed_bytes(int(lane.sum()), header.space.bits_per_code[level]) for lane in present]
        levels.append(tuple(cursor.section(raw_bytes, with_lengths) for raw_bytes in lengths))
    sections = Sections(n_frames, counts, tuple(levels))
    if cursor.at < len(payload):
        raise FormatError(f"a group has {len(payload) - cursor.at} bytes after its last section")
    if with_lengths and not header.variable and not sections.any_coded:
        raise FormatError("a group has lengths of sections, and none is coded")
    return sections


class _Cursor:
    """A place in a payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload, self.at = payload, 0

    def length(self) -> int:
        """A varint."""
        try:
            values, self.at = layout.unpack(layout.LENGTH, self._payload, self.at)
        except layout.Incomplete:
            raise FormatError("a group ends before its last section") from None
        except ValueError as error:
            raise FormatError(f"impossible length of a section: {error}") from None
        return int(values["n_bytes"])

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        data = self._payload[self.at : self.at + n_bytes]
        if len(data) < n_bytes:
            raise FormatError("a group ends inside a section")
        self.at += n_bytes
        return data

    def section(self, raw_bytes: int, with_lengths: bool) -> Section:
        """A section whose raw form has so many bytes."""
        n_bytes = self.length() if with_lengths and raw_bytes else 0
        if not n_bytes:
            return Section(self.take(raw_bytes), coded=False)
        if not _is_shorter(n_bytes, raw_bytes):
            raise FormatError(f"a coded section of {n_bytes} bytes, and raw it has {raw_bytes}")
        return Section(self.take(n_bytes), coded=True)


def _is_shorter(coded_bytes: int, raw_bytes: int) -> bool:
    """Whether a section is coded: that takes fewer bytes than raw, the lengths before both counted."""
    return len(_length(coded_bytes)) + coded_bytes < len(_length(0)) + raw_bytes


def _length(n_bytes: int) -> bytes:
    return layout.pack(layout.LENGTH, {"n_bytes": n_bytes})


def _present(counts: Counts | None, level: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which codes of a level there are: [lanes, codes]."""
    return np.ones(shape, np.bool_) if counts is None else counts > level


def _unpack_raw(data: bytes, n_codes: int, bits: int) -> NDArray[np.int16]:
    """One raw section, with its errors as FormatError."""
    try:
        return unpack_codes(data, n_codes, bits)
    except ValueError as error:
        raise FormatError(f"impossible section: {error}") from None


def _check_counts(header: Header, n_frames: int, counts: Counts | None) -> None:
    """Raises ValueError for a group that cannot be written, or not with such counts."""
    if not 1 <= n_frames <= header.frames_per_group:
        raise ValueError(f"a group of {n_frames} frames: expected 1 to {header.frames_per_group}")
    if (counts is not None) != header.variable:
        raise ValueError("numbers of levels go with a header that says `variable`, and with no other")
    if counts is None:
        return
    if counts.shape != (header.n_lanes, n_frames) or counts.dtype != np.uint8:
        raise ValueError(
            f"counts: {counts.dtype} {list(counts.shape)}, expected uint8 {[header.n_lanes, n_frames]}"
        )
    if counts.max() > header.space.n_q:
        raise ValueError(f"a frame of {counts.max()} levels: expected 0 to {header.space.n_q}")


def _check_levels(
    header: Header, n_frames: int, levels: Sequence[NDArray[np.int16]], counts: Counts | None
) -> None:
    """Raises ValueError for codes of another shape, outside their codebook, or where a frame has none."""
    if len(levels) != header.space.n_q:
        raise ValueError(f"{len(levels)} levels: the header promises {header.space.n_q}")
    for level, n_codes in enumerate(header.n_codes(n_frames)):
        codes, size = levels[level], header.space.codebook_sizes[level]
        if codes.shape != (header.n_lanes, n_codes) or codes.dtype != np.int16:
            raise ValueError(
                f"level {level}: {codes.dtype} {list(codes.shape)}, expected int16 {[header.n_lanes, n_codes]}"
            )
        if codes.min() < 0 or codes.max() >= size:
            raise ValueError(f"level {level}: codes {codes.min()} to {codes.max()}, expected 0 to {size - 1}")
        if counts is not None and codes[counts <= level].any():
            raise ValueError(f"level {level}: codes in frames that have no such level: expected 0 there")
