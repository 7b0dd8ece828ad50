"""What was read -> codes. Short recordings are coded together, block by block; long ones alone, as they are read."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from audiocodec.codec import Codec, join_codes
from audiocodec.codes import Codes, Source
from audiocodec.corpus.listing import Item
from audiocodec.corpus.reading import (
    WINDOW_ITEMS,
    Failure,
    Floats,
    Recording,
    failure,
    item_blocks,
    open_item,
)
from audiocodec.errors import CodecError
from audiocodec.stream import file_block_frames

# Lanes that the model sees at once. One core is 1.3 times as fast with 8 as with one, and no faster with 16.
CPU_LANES, GPU_LANES = 8, 32


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane to be coded: item of the window, lane of the item, samples [C, T]."""

    item: int
    lane: int
    samples: Floats


Coded: TypeAlias = "tuple[Item, Codes | Failure, Mapping[str, str]]"  # item, codes, tags of its file


def code_items(codec: Codec, read: Iterable[tuple[Item, Recording | Failure]], n_q: int) -> Iterator[Coded]:
    """The items with their codes, in order: window by window, lanes of like length together.

    On a CPU an item gets the codes that it gets alone, to the bit.
    """
    window: list[tuple[Item, Recording | Failure]] = []
    for pair in read:
        window.append(pair)
        if len(window) == WINDOW_ITEMS:
            yield from _code_window(codec, window, n_q)
            window = []
    yield from _code_window(codec, window, n_q)


def code_lanes(codec: Codec, lanes: list[Floats], n_q: int) -> list[NDArray[np.int16]]:
    """Codes [n_q, F] of each lane [C, T] at the model's rate; all go through the model side by side.

    The model sees the blocks that it sees in `StreamEncoder`, which rounds in the same way and keeps memory small.
    A model that looks ahead does something else at the end of a lane: there each is a stream of its own.
    """
    if not codec.causal or codec.space.segment_overlap:
        return [_stream_lane(codec, lane, n_q) for lane in lanes]
    space, model = codec.space, codec.model
    block_frames = file_block_frames(space)
    block_samples = block_frames * space.hop_length
    n_frames = [space.n_frames(lane.shape[1]) for lane in lanes]
    n_blocks = -(-max(n_frames) // block_frames)
    audio = np.zeros((len(lanes), space.lane_channels, n_blocks * block_samples), np.float32)
    for row, lane in zip(audio, lanes, strict=True):
        row[:, : lane.shape[1]] = lane
    state = model.encoder_state(len(lanes))
    blocks = []
    with torch.inference_mode():
        for block in np.split(audio, n_blocks, axis=2):
            tensor = torch.from_numpy(np.ascontiguousarray(block)).to(model.device)
            codes, state = model.encode_block(tensor, state, n_q)
            blocks.append(codes.to(torch.int16).cpu().numpy())
    whole = np.concatenate(blocks, axis=2)
    return [codes[:, :length] for codes, length in zip(whole, n_frames, strict=True)]


def _stream_lane(codec: Codec, lane: Floats, n_q: int) -> NDArray[np.int16]:
    """Codes [n_q, F] of one lane by itself; those of slow levels repeated."""
    encoder = codec.stream_encoder(codec.space.sample_rate, channels=codec.space.lane_channels, n_q=n_q)
    codes = join_codes([encoder.push(lane.T), encoder.finish()])
    pairs = zip(codes.levels, codec.space.frames_per_code, strict=False)
    return np.stack([level[0].repeat(span)[: codes.n_frames] for level, span in pairs])


def _code_window(codec: Codec, window: list[tuple[Item, Recording | Failure]], n_q: int) -> Iterator[Coded]:
    """The items of one window with their codes, in order."""
    lanes = [
        Lane(number, lane, samples)
        for number, (_, found) in enumerate(window)
        if isinstance(found, Recording) and found.lanes is not None
        for lane, samples in enumerate(found.lanes)
    ]
    lanes.sort(key=lambda lane: lane.samples.shape[1])
    most = CPU_LANES if codec.model.device.type == "cpu" else GPU_LANES
    coded: dict[tuple[int, int], NDArray[np.int16]] = {}
    for start in range(0, len(lanes), most):
        batch = lanes[start : start + most]
        values = code_lanes(codec, [lane.samples for lane in batch], n_q)
        coded |= {(lane.item, lane.lane): codes for lane, codes in zip(batch, values, strict=True)}
    for number, (item, found) in enumerate(window):
        if isinstance(found, Failure):
            yield item, found, {}
        elif found.lanes is None:
            yield item, _code_long(codec, item, n_q), found.tags
        else:
            values = [coded[number, lane] for lane in range(len(found.lanes))]
            yield item, _codes(codec, found.source, found.n_samples, np.stack(values), n_q), found.tags


def _codes(codec: Codec, source: Source, n_samples: int, values: NDArray[np.int16], n_q: int) -> Codes:
    """Values [lanes, n_q, F] as Codes."""
    space = codec.space.first(n_q)
    levels = tuple(
        np.ascontiguousarray(values[:, level, ::span]) for level, span in enumerate(space.frames_per_code)
    )
    return Codes(space, source, values.shape[2], levels, n_samples)


def _code_long(codec: Codec, item: Item, n_q: int) -> Codes | Failure:
    """Codes of an item that is too long to be held as audio; it is read again, from its beginning."""
    try:
        with open_item(item) as reader:
            encoder = codec.stream_encoder(reader.sample_rate, channels=reader.channels, n_q=n_q)
            parts = [encoder.push(block) for block in item_blocks(item, reader)]
        return join_codes([*parts, encoder.finish()])
    except (CodecError, OSError) as error:
        return failure(item, error)
