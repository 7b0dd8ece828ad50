"""Small tables of the entropy coder, codes for them, and the coder's slow twin in nothing but Python's integers.

Run as a program, it prints what tests/golden/entropy-sections.json holds, as this machine computes it.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream.counts import pack_counts
from audiocodec.bitstream.entropy import EntropyTables

Arrays = dict[str, NDArray[np.generic]]
Tables = dict  # the same arrays as lists of lists of Python's integers
Codes = list[list[int]]  # [levels][frames]


def draw(key: str, low: int, high: int, *shape: int) -> NDArray[np.int64]:
    """Numbers from `low` to `high`, the same for the same key on every machine and with every numpy."""
    stream = hashlib.shake_256(key.encode()).digest(4 * int(np.prod(shape)))
    return low + np.frombuffer(stream, "<u4").astype(np.int64).reshape(shape) % (high + 1 - low)


def tiny_arrays(
    codebook_sizes: tuple[int, ...],
    seed: int = 0,
    *,
    dim: int = 4,
    hidden: int = 6,
    past: int = 2,
    future: int = 1,
) -> Arrays:
    """The arrays of random tables, with weights that make some codes far likelier than others."""
    arrays: Arrays = {"past": np.array(past, np.int32), "future": np.array(future, np.int32)}

    def add(name: str, dtype: type[np.signedinteger], limit: int, *shape: int) -> None:
        arrays[name] = draw(f"{name} {seed}", -limit, limit, *shape).astype(dtype)

    for level, size in enumerate(codebook_sizes):
        taps = past + 1 + future if level else past
        add(f"embedding_{level}", np.int8, 127, size, dim)
        add(f"context_{level}", np.int8, 20, hidden, taps, dim)
        add(f"context_bias_{level}", np.int32, 4000, hidden)
        add(f"hidden_{level}", np.int8, 40, hidden, hidden)
        add(f"hidden_bias_{level}", np.int32, 4000, hidden)
        add(f"output_{level}", np.int8, 127, size, hidden)
        add(f"output_bias_{level}", np.int32, 4000, size)
    return arrays


def real_arrays(n_q: int, seed: int = 0) -> Arrays:
    """Arrays of the size that the default model's tables have."""
    return tiny_arrays((1024,) * n_q, seed, dim=64, hidden=96, past=4, future=3)


def tiny_tables(codebook_sizes: tuple[int, ...], seed: int = 0) -> EntropyTables:
    """Tables of random weights for levels of these sizes."""
    return EntropyTables(tiny_arrays(codebook_sizes, seed))


def random_codes(codebook_sizes: tuple[int, ...], n_frames: int, seed: int = 0) -> NDArray[np.int16]:
    """Codes of one lane: int16 [n_q, n_frames]."""
    rows = [draw(f"codes {level} {seed}", 0, size - 1, n_frames) for level, size in enumerate(codebook_sizes)]
    return np.stack(rows).astype(np.int16)


def random_counts(n_q: int, n_frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """How many of `n_q` levels each frame has: uint8 [n_frames]."""
    return draw(f"counts {seed}", 0, n_q, n_frames).astype(np.uint8)


def pack_all(
    tables: EntropyTables, codes: NDArray[np.int16], counts: NDArray[np.uint8] | None = None
) -> list[bytes]:
    """The sections of all levels of one lane."""
    return [tables.pack(codes[: level + 1], counts) for level in range(len(codes))]


def slow_sections(arrays: Arrays, codes: Codes, counts: list[int]) -> list[bytes]:
    """The slow twin of `pack_all`, one number at a time."""
    tables = {name: array.tolist() for name, array in arrays.items()}
    return [slow_section(tables, codes[: level + 1], counts) for level in range(len(codes))]


def slow_section(tables: Tables, codes: Codes, counts: list[int]) -> bytes:
    """The section of the last of the levels."""
    row = codes[-1]
    frames = [frame for frame in range(len(row)) if counts[frame] >= len(codes)]
    number = 0
    for frame in reversed(frames):
        ends = [0, *slow_ends(tables, codes, counts, frame)]
        start, end = ends[row[frame]], ends[row[frame] + 1]
        number = number // (end - start) * 2**16 + number % (end - start) + start
    data = number.to_bytes(2 * len(frames), "little").rstrip(b"\0")
    return data or bytes(bool(frames))


def slow_ends(tables: Tables, codes: Codes, counts: list[int], frame: int) -> list[int]:
    """Where the range of each code of the last level ends, for one frame."""
    level = len(codes) - 1
    last = frame + tables["future"] if level else frame - 1
    sight = [
        value
        for t in range(frame - tables["past"], last + 1)
        for value in slow_sight(tables, codes, counts, t)
    ]
    rows = [[weight for tap in taps for weight in tap] for taps in tables[f"context_{level}"]]
    context = slow_product(rows, tables[f"context_bias_{level}"], sight)
    first = [clip(x >> 6, 0, 127) for x in context]
    change = slow_product(tables[f"hidden_{level}"], tables[f"hidden_bias_{level}"], first)
    second = [clip(x + (max(0, y) >> 6), 0, 127) for x, y in zip(first, change, strict=True)]
    outputs = slow_product(tables[f"output_{level}"], tables[f"output_bias_{level}"], second)
    likeliest = max(outputs)
    weights = [slow_power(min(likeliest - x >> 8, 255)) for x in outputs]
    scale = (2**16 - len(weights) << 32) // sum(weights)
    ends = [(cum * scale >> 32) + code + 1 for code, cum in enumerate(running_sums(weights))]
    return [*ends[:-1], 2**16]


def slow_sight(tables: Tables, codes: Codes, counts: list[int], frame: int) -> list[int]:
    """What the coder sees of one frame: its codes below this level, embedded and added up."""
    vector = [0] * len(tables["embedding_0"][0])
    for level in range(max(1, len(codes) - 1)):
        if 0 <= frame < len(counts) and counts[frame] > level:
            embedded = tables[f"embedding_{level}"][codes[level][frame]]
            vector = [x + y for x, y in zip(vector, embedded, strict=True)]
    return [clip(x, -127, 127) for x in vector]


def slow_product(rows: list[list[int]], bias: list[int], vector: list[int]) -> list[int]:
    """A matrix times a vector, and a bias."""
    return [
        sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(rows, bias, strict=True)
    ]


@lru_cache
def slow_power(step: int) -> int:
    """round(2 ** (16 - step / 16)): the first n with n + 1/2 above it, both sides doubled and to the 16th power."""
    return 1 + bisect_left(range(1, 2**16), 2 ** (16 * 17 - step), key=lambda n: (2 * n + 1) ** 16)


def running_sums(weights: list[int]) -> Iterator[int]:
    """Sum of the weights up to each one."""
    total = 0
    for weight in weights:
        total += weight
        yield total


def clip(value: int, low: int, high: int) -> int:
    """The nearest number from `low` to `high`."""
    return min(max(value, low), high)


def golden_sections() -> dict[str, object]:
    """What the coder makes of fixed tables, codes and counts; of tables of the real size the hash only."""
    sizes = (16, 9, 300)
    tables, codes, counts = tiny_tables(sizes), random_codes(sizes, 40), random_counts(3, 40)
    real = EntropyTables(real_arrays(3))
    real_sections = pack_all(real, random_codes(real.codebook_sizes, 150))
    return {
        "id": tables.id.hex(),
        "all_levels": [section.hex() for section in pack_all(tables, codes)],
        "some_levels": [section.hex() for section in pack_all(tables, codes, counts)],
        "counts": pack_counts(counts[None], 3).hex(),
        "real_id": real.id.hex(),
        "real_bytes": [len(section) for section in real_sections],
        "real_sha256": hashlib.sha256(b"".join(real_sections)).hexdigest(),
    }


if __name__ == "__main__":
    print(json.dumps(golden_sections(), indent=1))
