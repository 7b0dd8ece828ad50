"""WAV headers and bare PCM samples, for pipes: libsndfile has to seek, these read and write in one pass.

Source: Microsoft/IBM "Multimedia Programming Interface" 1991 (RIFF, WAVE, INFO); EBU Tech 3306 (RF64).
"""

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 1 << 20  # a longer one is left to libsndfile
UNKNOWN_BYTES = 0xFFFFFFFF
# Recorders that cannot know the length state one just below 2 GiB (sox 0x7FFFF000, arecord 2^31 - 36).
_FIRST_UNKNOWN_BYTES = 0x7FFFF000
_TAG_PCM, _TAG_FLOAT, _TAG_EXTENSIBLE = 1, 3, 0xFFFE
_SAMPLE_TYPES = {
    (_TAG_PCM, 8): "u8",
    (_TAG_PCM, 16): "s16",
    (_TAG_PCM, 24): "s24",
    (_TAG_PCM, 32): "s32",
    (_TAG_FLOAT, 32): "f32",
    (_TAG_FLOAT, 64): "f64",
}
_SAMPLE_BYTES = {"u8": 1, "s16": 2, "s24": 3, "s32": 4, "f32": 4, "f64": 8}
_INFO_NAMES = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"ICMT": "comment",
    b"ICRD": "date",
    b"IGNR": "genre",
    b"ITRK": "tracknumber",
    b"ICOP": "copyright",
}


@dataclass(frozen=True, slots=True)
class PcmLayout:
    """How bare samples lie in bytes: rate in Hz, channels, and u8, s16, s24, s32, f32 or f64 (little-endian)."""

    sample_rate: int
    channels: int
    sample_type: str = "s16"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * _SAMPLE_BYTES[self.sample_type]


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the samples of a WAV. n_samples: None when the header does not say."""

    layout: PcmLayout
    n_samples: int | None
    tags: dict[str, str] = field(default_factory=dict)


class PcmStream:
    """Samples [n, C] float32 from a binary stream that need not seek, in memory of one block.

    n_samples: where the samples end although the stream goes on; None reads to its end.
    A part of a sample at the end of the stream is left out.
    """

    def __init__(self, stream: BinaryIO, layout: PcmLayout, n_samples: int | None = None) -> None:
        self._stream, self._layout, self._left = stream, layout, n_samples

    def read(self, n_samples: int) -> NDArray[np.float32]:
        """The next [<= n_samples, C]; fewer only at the end."""
        if self._left is not None:
            n_samples = min(n_samples, self._left)
        frame_bytes = self._layout.frame_bytes
        data = read_exactly(self._stream, n_samples * frame_bytes)
        block = pcm_to_float(data[: len(data) // frame_bytes * frame_bytes], self._layout)
        if self._left is not None:
            self._left -= len(block)
        return block


def read_exactly(stream: BinaryIO, n_bytes: int) -> bytes:
    """The next `n_bytes` of a stream however small the pieces it gives; fewer only at its end."""
    pieces, remaining = [], n_bytes
    while remaining and (piece := stream.read(remaining)):
        pieces.append(piece)
        remaining -= len(piece)
    return b"".join(pieces)


def pcm_to_float(data: bytes, layout: PcmLayout) -> NDArray[np.float32]:
    """Bytes of whole samples -> float32 [n, C], full scale 1: the same values as libsndfile gives."""
    kind = layout.sample_type
    if kind == "u8":
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    elif kind == "s24":
        widened = np.zeros((len(data) // 3, 4), np.uint8)  # the lowest byte stays 0
        widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = widened.view("<i4").astype(np.float32) / np.float32(2**31)
    elif kind in ("s16", "s32"):
        bits = 8 * _SAMPLE_BYTES[kind]
        samples = np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) / np.float32(2 ** (bits - 1))
    else:
        samples = np.frombuffer(data, f"<f{_SAMPLE_BYTES[kind]}").astype(np.float32)
    return samples.reshape(-1, layout.channels)


def float_to_int16(block: NDArray[np.float32]) -> NDArray[np.int16]:
    """Float samples, full scale 1 -> 16 bit: times 32768, to the nearest (halves to even), clipped, no dither.

    >>> float_to_int16(np.array([-1, 0, 0.5, 1], np.float32)).tolist()
    [-32768, 0, 16384, 32767]
    """
    scaled: NDArray[np.float32] = np.rint(block * np.float32(32768))
    return scaled.clip(-32768, 32767).astype(np.int16)


def float_to_pcm(block: NDArray[np.float32], layout: PcmLayout) -> bytes:
    """Float32 [n, C] -> bytes of an s16 or f32 layout; floats are kept as they are."""
    if layout.sample_type == "f32":
        return block.astype("<f4").tobytes()
    return float_to_int16(block).astype("<i2").tobytes()


def read_wav_header(stream: BinaryIO) -> tuple[WavHeader | None, bytes]:
    """Reads up to the first sample of a WAV or RF64 stream.

    Returns the header and all bytes that were read. The header is None when this is no WAV of bare PCM (another
    format, a compressed WAV, damage, more than MAX_HEADER_BYTES): hand bytes and stream to libsndfile then.
    """
    seen = read_exactly(stream, 12)
    if seen[:4] not in (b"RIFF", b"RF64") or seen[8:12] != b"WAVE":
        return None, seen
    chunks: dict[bytes, bytes] = {}
    tags: dict[str, str] = {}
    while True:
        head = read_exactly(stream, 8)
        seen += head
        if len(head) < 8:
            return None, seen
        name, n_bytes = struct.unpack("<4sI", head)
        if name == b"data":
            return _header(chunks, tags, n_bytes, seen), seen
        padded_bytes = n_bytes + n_bytes % 2
        if len(seen) + padded_bytes > MAX_HEADER_BYTES:
            return None, seen
        chunks[name] = read_exactly(stream, padded_bytes)[:n_bytes]
        seen += chunks[name] + bytes(padded_bytes - n_bytes)
        if name == b"LIST" and chunks[name].startswith(b"INFO"):
            tags |= _info_tags(chunks[name][4:])


def wav_header(
    layout: PcmLayout, n_samples: int | None, *, tags: dict[str, str] | None = None, rf64: bool = False
) -> bytes:
    """Everything before the first sample of a WAV file of `layout` (s16 or f32).

    n_samples: None gives a header of unknown length, 0xFFFFFFFF. The number of bytes depends on the layout,
    the tags and `rf64` only, so a header can be replaced in place when the length is known.
    tags: those that WAV has a place for are stored as UTF-8 in LIST INFO; the others are left out.
    """
    code = _TAG_FLOAT if layout.sample_type == "f32" else _TAG_PCM
    rate, frame_bytes = layout.sample_rate, layout.frame_bytes
    bits = 8 * frame_bytes // layout.channels
    format_bytes = struct.pack("<HHIIHH", code, layout.channels, rate, rate * frame_bytes, frame_bytes, bits)
    body = _chunk(b"fmt ", format_bytes)
    if code == _TAG_FLOAT:  # not PCM: the standard asks for an (empty) extension and the number of samples
        body = _chunk(b"fmt ", format_bytes + bytes(2)) + _chunk(b"fact", _uint32(n_samples))
    body += _info_chunk(tags or {})
    data_bytes = None if n_samples is None else n_samples * frame_bytes
    riff_bytes = None if data_bytes is None else 4 + len(body) + 8 + data_bytes
    if not rf64:
        return b"RIFF" + _uint32(riff_bytes) + b"WAVE" + body + b"data" + _uint32(data_bytes)
    if data_bytes is None or riff_bytes is None:
        raise ValueError("an RF64 header states its length: n_samples is needed")
    sizes = _chunk(b"ds64", struct.pack("<QQQI", riff_bytes + 36, data_bytes, data_bytes // frame_bytes, 0))
    return b"RF64" + _uint32(None) + b"WAVE" + sizes + body + b"data" + _uint32(None)


def needs_rf64(layout: PcmLayout, n_samples: int | None) -> bool:
    """True when this many samples do not fit the 32-bit sizes of a plain WAV."""
    return n_samples is not None and n_samples * layout.frame_bytes > UNKNOWN_BYTES - MAX_HEADER_BYTES


def _header(
    chunks: dict[bytes, bytes], tags: dict[str, str], data_bytes: int, seen: bytes
) -> WavHeader | None:
    """The header from its chunks; None when the samples are not bare PCM."""
    layout = _layout(chunks.get(b"fmt ", b""))
    if layout is None:
        return None
    if data_bytes == UNKNOWN_BYTES and len(chunks.get(b"ds64", b"")) >= 16:
        data_bytes = struct.unpack_from("<Q", chunks[b"ds64"], 8)[0]
        known = 0 < data_bytes < 1 << 62
    else:
        (riff_bytes,) = struct.unpack_from("<I", seen, 4)
        # 0 is "not known yet", unless the file says that something follows the empty chunk.
        really_empty = data_bytes == 0 and len(seen) < riff_bytes + 8 < _FIRST_UNKNOWN_BYTES
        known = really_empty or 0 < data_bytes < _FIRST_UNKNOWN_BYTES
    return WavHeader(layout, data_bytes // layout.frame_bytes if known else None, tags)


def _layout(format_bytes: bytes) -> PcmLayout | None:
    """The layout that a `fmt ` chunk describes; None for what is not bare PCM."""
    if len(format_bytes) < 16:
        return None
    code, channels, sample_rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", format_bytes)
    if code == _TAG_EXTENSIBLE and len(format_bytes) >= 26:
        (code,) = struct.unpack_from("<H", format_bytes, 24)  # the sub-format's GUID begins with the code
    sample_type = _SAMPLE_TYPES.get((code, bits))
    if sample_type is None or not channels or not sample_rate:
        return None
    layout = PcmLayout(sample_rate, channels, sample_type)
    return layout if layout.frame_bytes == frame_bytes else None


def _info_tags(body: bytes) -> dict[str, str]:
    """The tags of a LIST INFO chunk, without the four letters INFO."""
    tags, offset = {}, 0
    while offset + 8 <= len(body):
        name, n_bytes = struct.unpack_from("<4sI", body, offset)
        text = body[offset + 8 : offset + 8 + n_bytes].split(b"\0")[0].decode("utf-8", "replace")
        if name in _INFO_NAMES and text:
            tags[_INFO_NAMES[name]] = text
        offset += 8 + n_bytes + n_bytes % 2
    return tags


def _info_chunk(tags: dict[str, str]) -> bytes:
    """The LIST INFO chunk of the tags; no bytes when there is none to store."""
    texts = [(name, tags[tag].encode() + b"\0") for name, tag in _INFO_NAMES.items() if tags.get(tag)]
    body = b"".join(_chunk(name, text) for name, text in texts)
    return _chunk(b"LIST", b"INFO" + body) if body else b""


def _chunk(name: bytes, body: bytes) -> bytes:
    """A RIFF chunk: name, size, body, and a zero byte after an odd size."""
    return name + _uint32(len(body)) + body + bytes(len(body) % 2)


def _uint32(value: int | None) -> bytes:
    """Four bytes; None and what does not fit become 0xFFFFFFFF, the sign for "unknown"."""
    return struct.pack("<I", UNKNOWN_BYTES if value is None else min(value, UNKNOWN_BYTES))
