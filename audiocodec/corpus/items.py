"""One tokenised item: its codes, and what stands beside them in a shard."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiocodec.codes import Codes, CodeSpace, Source
from audiocodec.errors import FormatError
from audiocodec.tools import find_tables

SEGMENTS = {"lane_channels": 1, "segment_overlap": 0}  # facts that few models have, and their usual values


@dataclass(frozen=True, slots=True)
class Tokenised:
    """One item of a shard. key: its name in it; info: where it comes from (`source`, `meta`); tags: its file's own."""

    key: str
    codes: Codes
    info: Mapping[str, Any]
    tags: Mapping[str, str]

    def first(self, n_q: int | None) -> "Tokenised":
        """The same with its first `n_q` levels only; None: all. Raises ValueError where it has fewer."""
        if n_q is None:
            return self
        if not 1 <= n_q <= self.codes.n_q:
            raise ValueError(f"{n_q} levels asked for, item {self.key} has {self.codes.n_q}")
        counts = None if self.codes.counts is None else np.minimum(self.codes.counts, n_q).astype(np.uint8)
        return replace(self, codes=replace(self.codes, levels=self.codes.levels[:n_q], counts=counts))


def facts_of(item: Tokenised) -> dict[str, Any]:
    """All that stands beside the codes: enough to decode them, and where they come from."""
    codes = item.codes
    space = codes.space.first(codes.n_q)
    return {
        **item.info,
        "sample_rate": codes.source.sample_rate,
        "channels": codes.source.channels,
        "n_samples": codes.n_samples,
        "n_frames": codes.n_frames,
        "model": space.model,
        "code_space": space.id.hex(),
        "model_sample_rate": space.sample_rate,
        "hop_length": space.hop_length,
        "delay": space.delay,
        "codebook_sizes": list(space.codebook_sizes),
        "frames_per_code": list(space.frames_per_code),
        **{name: getattr(space, name) for name, usual in SEGMENTS.items() if getattr(space, name) != usual},
    }


def from_facts(key: str, facts: Mapping[str, Any], levels: tuple[NDArray[np.int16], ...]) -> Tokenised:
    """The inverse of `facts_of`."""
    space = CodeSpace(
        id=bytes.fromhex(facts["code_space"]),
        model=facts["model"],
        sample_rate=facts["model_sample_rate"],
        hop_length=facts["hop_length"],
        delay=facts["delay"],
        codebook_sizes=tuple(facts["codebook_sizes"]),
        frames_per_code=tuple(facts["frames_per_code"]),
        **{name: facts.get(name, usual) for name, usual in SEGMENTS.items()},
    )
    codes = Codes(
        space, Source(facts["sample_rate"], facts["channels"]), facts["n_frames"], levels, facts["n_samples"]
    )
    _check(key, codes)
    info = {
        key: facts[key] for key in ("source", "start_seconds", "duration_seconds", "meta") if key in facts
    }
    return Tokenised(key, codes, info, {})


def rq_bytes(item: Tokenised, *, coded: bool = False) -> bytes:
    """The item as a `.rq` file of raw codes.

    coded: entropy-coded where the model is a shipped one, so that it is the file that `codec encode` makes of the same
    recording. Codes of another model stay raw: whoever reads a shard may not have its tables.
    """
    from audiocodec.encoding import MAX_TAG_BYTES, open_groups

    codes = item.codes
    assert codes.n_samples is not None, "items are whole recordings"
    space = codes.space.first(codes.n_q)
    tags = {key: text for key, text in item.tags.items() if len(text.encode()) <= MAX_TAG_BYTES}
    tables = find_tables(space) if coded else None
    file = io.BytesIO()
    groups = open_groups(file, space, codes.source, tags, tables=tables, variable=codes.counts is not None)
    groups.write(codes)
    groups.finish(codes.n_samples)
    return file.getvalue()


def _check(key: str, codes: Codes) -> None:
    """Raises FormatError unless the codes are as many as they should be, and in their codebooks."""
    space = codes.space
    for level, size, span in zip(codes.levels, space.codebook_sizes, space.frames_per_code, strict=False):
        shape = (space.n_lanes(codes.source.channels), -(-codes.n_frames // span))
        if len(codes.levels) != space.n_q or level.shape != shape or level.dtype != np.int16:
            raise FormatError(
                f"item {key}: codes of shape {level.shape}, {level.dtype}: expected {shape}, int16"
            )
        if level.size and not 0 <= int(level.min()) <= int(level.max()) < size:
            raise FormatError(f"item {key}: a code is beyond its codebook of {size}")
