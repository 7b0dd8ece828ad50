"""A file's header: what its codes mean, how they are grouped, and what the recording says about itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from audiocodec.bitstream import layout
from audiocodec.bitstream.packing import packed_bytes
from audiocodec.codes import MAX_LEVELS, CodeSpace, Source
from audiocodec.errors import FormatError

PREFIX_BYTES = 7
ENTROPY_ID_BYTES = 8
MAX_COUNT_BYTES = 2  # of one coded number of levels
SIZED_GROUP_BYTES = 9  # of the shortest full group with feature 0 or 1, its payload not counted


@dataclass(frozen=True, slots=True)
class Header:
    """What stands at the start of a file.

    space: what the codes mean, with the levels that are in this file and no others.
    source: the recording; one channel is one lane, two channels are the lanes mid and side, or one lane of both.
    frames_per_group: frames of every group but the last; a multiple of every level's frames per code.
    tags: the recording's own words about itself: title, artist, ...
    entropy_id: of the tables that the codes are entropy-coded with; None: they are raw.
    variable: each frame has a number of levels of its own. Both need levels of one code a frame.

    Raises ValueError for values that a file cannot hold.

    >>> space = CodeSpace(bytes(16), "demo", 24000, 320, 960, (1024, 1024), (1, 1))
    >>> header = Header(space, Source(44100, 1), frames_per_group=150, tags={"title": "Hello"})
    >>> header.n_lanes, header.payload_bytes(150), len(pack_header(header))
    (1, 376, 64)
    """

    space: CodeSpace
    source: Source
    frames_per_group: int
    tags: Mapping[str, str] = field(default_factory=dict)
    entropy_id: bytes | None = None
    variable: bool = False

    def __post_init__(self) -> None:
        if self.source.channels not in (1, 2):
            raise ValueError(f"{self.source.channels} channels: expected 1 or 2")
        _check("sample rate", self.space.sample_rate, 1, layout.MAX_RATE_HZ)
        _check("hop length", self.space.hop_length, 1, layout.MAX_HOP_LENGTH)
        _check("delay", self.space.delay, 0, layout.MAX_DELAY)
        _check("source sample rate", self.source.sample_rate, 1, layout.MAX_RATE_HZ)
        _check("frames per group", self.frames_per_group, 1, layout.MAX_FRAMES_PER_GROUP)
        for frames in self.space.frames_per_code:
            if frames < 1 or self.frames_per_group % frames:
                raise ValueError(
                    f"{self.frames_per_group} frames per group are no multiple of {frames} per code"
                )
        if self.entropy_id is not None and len(self.entropy_id) != ENTROPY_ID_BYTES:
            raise ValueError(
                f"an id of entropy tables has {ENTROPY_ID_BYTES} bytes, not {len(self.entropy_id)}"
            )
        if self.sized and set(self.space.frames_per_code) != {1}:
            raise ValueError("levels of more than one frame per code take no entropy coding or variable rate")

    @property
    def n_lanes(self) -> int:
        """Coded lanes: one per channel, or one for both."""
        return self.space.n_lanes(self.source.channels)

    @property
    def group_seconds(self) -> float:
        """Duration of a full group."""
        return self.frames_per_group / self.space.frame_rate

    @property
    def sized(self) -> bool:
        """Whether the heads of groups say how long these are (features 0 and 1)."""
        return self.entropy_id is not None or self.variable

    def first(self, n_q: int) -> "Header":
        """The header of the same file with its first `n_q` levels only."""
        return replace(self, space=self.space.first(n_q))

    def n_codes(self, n_frames: int) -> tuple[int, ...]:
        """Codes of one lane in a group of `n_frames` frames, per level."""
        return tuple(-(-n_frames // frames) for frames in self.space.frames_per_code)

    def section_bytes(self, n_frames: int) -> tuple[int, ...]:
        """Bytes of one raw section (one lane) in a group of `n_frames` frames, per level."""
        return tuple(map(packed_bytes, self.n_codes(n_frames), self.space.bits_per_code))

    def payload_bytes(self, n_frames: int) -> int:
        """Bytes of all sections of a group of `n_frames` frames, raw and at all levels."""
        return self.n_lanes * sum(self.section_bytes(n_frames))

    def most_payload_bytes(self, n_frames: int) -> int:
        """The most that such a group may have with feature 0 or 1: no coded section is longer than the raw one."""
        lengths = self.n_lanes * self.space.n_q if self.entropy_id is not None else 0
        counts = layout.MAX_VARINT_BYTES + MAX_COUNT_BYTES * self.n_lanes * n_frames if self.variable else 0
        return counts + lengths + self.payload_bytes(n_frames)

    def least_group_bytes(self) -> int:
        """No full group is shorter: how many can have been lost with so many bytes follows from it."""
        raw_bytes = self.payload_bytes(self.frames_per_group)
        if not self.sized:
            return raw_bytes
        if self.variable:
            return SIZED_GROUP_BYTES + 2
        return SIZED_GROUP_BYTES + min(raw_bytes, 2 * self.n_lanes * self.space.n_q)

    def max_samples(self, n_frames: int) -> int:
        """The most samples, at the source's rate, that `n_frames` frames can be the codes of.

        A frame more than the exact number: resamplers differ in how they round lengths.
        """
        coded = (n_frames + 1) * self.space.hop_length if n_frames else 0
        return -(-coded * self.source.sample_rate // self.space.sample_rate)

    def min_samples(self, n_frames: int) -> int:
        """The fewest samples, at the source's rate, that `n_frames` frames can be the codes of.

        A second and a code of the first level less than they hold: codecs fill up the end of a recording with
        silence, to a whole code or attention window.
        """
        space = self.space
        coded = n_frames // space.unit_frames * space.unit_samples
        filling = space.sample_rate + space.frames_per_code[0] * space.hop_length
        return max(0, coded - space.delay - filling) * self.source.sample_rate // space.sample_rate

    def n_frames(self, n_samples: int) -> int:
        """Frames that `n_samples` samples at the source's rate are coded in."""
        return self.space.n_frames(-(-n_samples * self.space.sample_rate // self.source.sample_rate))


def pack_header(header: Header) -> bytes:
    """A file's first bytes: prefix, header and CRC-32. Raises ValueError where the tags are too long."""
    levels = list(_level_runs(header.space))
    values = {
        "features": (_has_segments(header.space) << layout.SEGMENTS)
        | (header.variable << layout.VARIABLE)
        | ((header.entropy_id is not None) << layout.ENTROPY),
        "space_id": header.space.id,
        "sample_rate": header.space.sample_rate,
        "hop_length": header.space.hop_length,
        "delay": header.space.delay,
        "source_sample_rate": header.source.sample_rate,
        "lane_layout": header.source.channels,
        "frames_per_group": header.frames_per_group,
        "model": header.space.model,
        "n_level_runs": len(levels),
    }
    body = layout.pack(layout.HEADER, values) + b"".join(layout.pack(layout.LEVEL_RUN, run) for run in levels)
    body += layout.pack(layout.TAGS, {"n_tags": len(header.tags)})
    body += b"".join(layout.pack(layout.TAG, {"key": k, "value": v}) for k, v in header.tags.items())
    if _has_segments(header.space):
        segments = {
            "lane_channels": header.space.lane_channels,
            "segment_overlap": header.space.segment_overlap,
        }
        body += layout.pack(layout.SEGMENT_FIELDS, segments)
    if header.entropy_id is not None:
        body += layout.pack(layout.ENTROPY_FIELDS, {"entropy_id": header.entropy_id})
    if len(body) > layout.MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(body)} bytes, at most {layout.MAX_HEADER_BYTES}: shorten the tags")
    prefix = {"magic": layout.MAGIC, "version": layout.VERSION, "header_bytes": len(body)}
    return layout.with_crc(layout.pack(layout.PREFIX, prefix), body)


def unpack_prefix(data: bytes) -> int:
    """Read a file's first PREFIX_BYTES bytes: how many more bytes its header has, with the CRC-32.

    Raises FormatError if they are not the start of a file that this version reads.
    """
    magic = data[: len(layout.MAGIC)]
    if not data:
        raise FormatError("not an .rq file: it has zero bytes")
    if not layout.MAGIC.startswith(magic):
        raise FormatError(f"not an .rq file: it starts with {magic!r}, expected {layout.MAGIC!r}")
    try:
        values, _ = layout.unpack(layout.PREFIX, data)
    except layout.Incomplete:
        raise FormatError(
            f"the input ends after {len(data)} bytes, inside the header: get a whole copy"
        ) from None
    if values["version"] != layout.VERSION:
        raise FormatError(
            f".rq version {values['version']}, expected {layout.VERSION}: "
            "made by a newer version (or damaged in byte 4): upgrade audiocodec"
        )
    return int(values["header_bytes"]) + layout.CRC_BYTES


def unpack_header(data: bytes) -> Header:
    """Read a file's first bytes, as `pack_header` writes them.

    Raises FormatError for damage, for features of later versions, and for any other way to write a header.
    """
    n_bytes = PREFIX_BYTES + unpack_prefix(data[:PREFIX_BYTES])
    if len(data) < n_bytes:
        raise FormatError(
            f"the input ends after {len(data)} of the header's {n_bytes} bytes: get a whole copy"
        )
    if not layout.crc_holds(data):
        raise FormatError("damaged header: its checksum is wrong; nothing can be decoded, get another copy")
    _refuse_features(data[PREFIX_BYTES])
    try:
        header = _unpack_body(data, PREFIX_BYTES)
    except (ValueError, layout.Incomplete) as error:
        raise FormatError(f"impossible header: {str(error) or 'it ends inside a field'}") from None
    if pack_header(header) != data:
        raise FormatError("impossible header: it is not written the one way that version 1 knows")
    return header


def _unpack_body(data: bytes, at: int) -> Header:
    """The header between prefix and CRC-32."""
    values, at = layout.unpack(layout.HEADER, data, at)
    sizes: list[int] = []
    frames: list[int] = []
    for _ in range(values["n_level_runs"]):
        run, at = layout.unpack(layout.LEVEL_RUN, data, at)
        _check("number of levels", len(sizes) + run["n_levels"], len(sizes) + 1, MAX_LEVELS)
        sizes += [run["codebook_size"]] * run["n_levels"]
        frames += [run["frames_per_code"]] * run["n_levels"]
    n_tags, at = layout.unpack(layout.TAGS, data, at)
    tags: dict[str, str] = {}
    for _ in range(n_tags["n_tags"]):
        tag, at = layout.unpack(layout.TAG, data, at)
        tags[tag["key"]] = tag["value"]
    segments: dict[str, int] = {}
    if values["features"] >> layout.SEGMENTS & 1:
        segments, at = layout.unpack(layout.SEGMENT_FIELDS, data, at)
    entropy: dict[str, bytes] = {}
    if values["features"] >> layout.ENTROPY & 1:
        entropy, at = layout.unpack(layout.ENTROPY_FIELDS, data, at)
    space = CodeSpace(
        id=values["space_id"],
        model=values["model"],
        sample_rate=values["sample_rate"],
        hop_length=values["hop_length"],
        delay=values["delay"],
        codebook_sizes=tuple(sizes),
        frames_per_code=tuple(frames),
        **segments,
    )
    source = Source(values["source_sample_rate"], values["lane_layout"])
    variable = bool(values["features"] >> layout.VARIABLE & 1)
    return Header(
        space, source, values["frames_per_group"], tags, entropy.get("entropy_id"), variable=variable
    )


def _level_runs(space: CodeSpace) -> Iterator[dict[str, Any]]:
    """Neighbouring levels that are alike, as the values of one LEVEL_RUN each."""
    for (size, frames), alike in groupby(zip(space.codebook_sizes, space.frames_per_code, strict=True)):
        yield {"n_levels": len(list(alike)), "codebook_size": size, "frames_per_code": frames}


def _has_segments(space: CodeSpace) -> bool:
    """Whether the header needs the fields of feature 3."""
    return space.lane_channels > 1 or space.segment_overlap > 0


def _refuse_features(bits: int) -> None:
    """Raise FormatError if a file needs anything that this version does not know."""
    for known in (layout.ENTROPY, layout.VARIABLE, layout.SEGMENTS):
        bits &= ~(1 << known)
    needed = [layout.FEATURES.get(bit, f"feature {bit}") for bit in range(8) if bits >> bit & 1]
    if needed:
        raise FormatError(f"the file has {', '.join(needed)}: made by a newer version, upgrade audiocodec")


def _check(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise ValueError if a number is outside its limits."""
    if not lowest <= value <= highest:
        raise ValueError(f"{name} {value}: expected {lowest} to {highest}")
