"""Items -> lanes at the model's rate, ahead of the model, in a process of its own. Nothing here loads torch."""

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audiocodec.audio import AudioReader
from audiocodec.codes import CodeSpace, Source
from audiocodec.corpus.listing import Item, open_bytes
from audiocodec.errors import AudioError, CodecError
from audiocodec.lanes import LaneSplitter
from audiocodec.pool import Death, Pool

Floats = NDArray[np.float32]

WINDOW_ITEMS = 32  # read while the model codes the ones before
HELD_SECONDS = 30.0  # longer recordings are not held in memory: the model reads them itself, block by block
READ_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What was read of an item. lanes [lanes, C, T] at the model's rate, C channels each; None: too long to be held.

    n_samples: length at the source's rate (0 where lanes is None). tags: what the file says about itself.
    """

    lanes: Floats | None
    source: Source
    n_samples: int
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no codes."""

    reason: str


Window = Sequence[Item]
Read = list[Recording | Failure]
ReaderPool = Pool[Window, Read]


def reader_pool(space: CodeSpace) -> ReaderPool:
    """One process that reads windows of items, one window ahead of whoever takes them, in their order."""
    return Pool(1, partial(_prepare, space))


def read_ahead(
    pool: ReaderPool, items: Sequence[Item], space: CodeSpace
) -> Iterator[tuple[Item, Recording | Failure]]:
    """What was read of each item, in order. An item that kills the process that reads it is a Failure, too."""
    windows = [items[n : n + WINDOW_ITEMS] for n in range(0, len(items), WINDOW_ITEMS)]
    for window, found in pool.run(windows):
        read = _one_by_one(window, space) if isinstance(found, Death) else found
        yield from zip(window, read, strict=True)


def read_item(item: Item, space: CodeSpace) -> Recording | Failure:
    """The lanes of one item as a model of `space` takes them, or why there are none."""
    try:
        with open_item(item) as reader:
            source = Source(reader.sample_rate, reader.channels)
            as_pair = space.lane_channels == 2
            splitter = LaneSplitter(source.sample_rate, source.channels, space.sample_rate, as_pair=as_pair)
            parts = []
            for block in item_blocks(item, reader):
                parts.append(splitter.push(block))
                if splitter.n_samples > HELD_SECONDS * source.sample_rate:
                    return Recording(None, source, 0, reader.tags)
            rows = np.concatenate([*parts, splitter.finish()], axis=1)
            lanes = rows.reshape(space.n_lanes(source.channels), space.lane_channels, -1)
            return Recording(lanes, source, splitter.n_samples, reader.tags)
    except (CodecError, OSError) as error:
        return failure(item, error)


def failure(item: Item, error: Exception) -> Failure:
    """An error in words that are the same in each run and on each machine."""
    reason = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "it", str(error))
    return Failure(reason.replace(item.url, item.name).replace("<stream>", item.name))


@contextmanager
def open_item(item: Item) -> Iterator[AudioReader]:
    """A reader that stands where the item begins."""
    if item.n_bytes is None and "://" not in item.url:
        with AudioReader(item.url) as reader:
            yield reader
        return
    with open_bytes(item.url) as file:
        if item.n_bytes is None:
            with AudioReader(file) as reader:
                yield reader
            return
        file.seek(item.first_byte)
        with AudioReader(io.BytesIO(file.read(item.n_bytes))) as reader:
            yield reader


def item_blocks(item: Item, reader: AudioReader) -> Iterator[Floats]:
    """The item's samples, as blocks [T, C]. Raises AudioError where there are none."""
    first = round(item.start_seconds * reader.sample_rate)
    n_left = None if item.duration_seconds is None else round(item.duration_seconds * reader.sample_rate)
    if first:
        reader.skip(first)
    n_read = 0
    for block in reader.blocks(max(1, round(READ_SECONDS * reader.sample_rate))):
        wanted = block if n_left is None else block[: n_left - n_read]
        n_read += len(wanted)
        if len(wanted):
            yield wanted
        if n_left is not None and n_read >= n_left:
            break
    if not n_read:
        raise AudioError(
            f"{item.name}: no samples"
            + (f" from {item.start_seconds:g} s on" if first else "")
            + ": expected a recording of some length"
        )


def _prepare(space: CodeSpace) -> Callable[[Window], Read]:
    """What the reading process does with a window; its warnings of clipped samples, one an item, are nobody's news."""
    logging.getLogger("audiocodec").addHandler(logging.NullHandler())
    return partial(_read_window, space=space)


def _read_window(window: Window, space: CodeSpace) -> Read:
    return [read_item(item, space) for item in window]


def _one_by_one(window: Window, space: CodeSpace) -> Read:
    """The items of a window in which the reading process died: each in a window of its own."""
    with reader_pool(space) as pool:
        results = [found for _, found in pool.run([[item] for item in window])]
    return [
        Failure(f"{found.reason} while it was read") if isinstance(found, Death) else found[0]
        for found in results
    ]
