"""A reader of `.rq` files as docs/FORMAT.md says, in plain Python, without checks: the slow twin of `bitstream`."""

from collections.abc import Iterator, Mapping
from typing import Any

Lane = list[list[int]]  # codes [n_q][F]; -1 where a frame has none


def slow_read(data: bytes, tables: Mapping[str, Any] | None = None) -> list[list[Lane]]:
    """The codes of each group and lane. tables: arrays as nested lists, where the file is entropy-coded."""
    header, at = read_header(data)
    groups = []
    while data[at] != ord("E"):
        marker, at = data[at], at + 1
        _, at = varint(data, at)
        n_frames = header["frames_per_group"]
        if marker == ord("g"):
            n_frames, at = varint(data, at)
        n_bytes = 0
        if header["entropy"] or header["variable"]:
            n_bytes, at = varint(data, at)
        lanes, at = read_sections(data, at + 2, header, n_frames, tables, with_lengths=n_bytes > 0)
        groups.append(lanes)
        at += 4
    return groups


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The facts that the codes depend on, and where the groups begin."""
    features, at = data[7], 24
    numbers = []
    for _ in range(4):
        number, at = varint(data, at)
        numbers.append(number)
    n_lanes, at = data[at], at + 1
    frames_per_group, at = varint(data, at)
    n_bytes, at = varint(data, at)
    n_runs, at = varint(data, at + n_bytes)
    sizes: list[int] = []
    for _ in range(n_runs):
        n_levels, at = varint(data, at)
        size, at = varint(data, at)
        _, at = varint(data, at)
        sizes += [size] * n_levels
    end = 7 + int.from_bytes(data[5:7], "little") + 4
    facts = {
        "n_lanes": n_lanes,
        "frames_per_group": frames_per_group,
        "sizes": sizes,
        "entropy": features & 1,
        "variable": features & 2,
    }
    return facts, end


def read_sections(
    data: bytes, at: int, header: dict[str, Any], n_frames: int, tables: Any, *, with_lengths: bool
) -> tuple[list[Lane], int]:
    """The codes of one group, by lane, and where they end."""
    sizes, n_lanes = header["sizes"], header["n_lanes"]
    counts = [[len(sizes)] * n_frames for _ in range(n_lanes)]
    if header["variable"]:
        n_bytes, at = varint(data, at)
        counts = slow_counts(data[at : at + n_bytes], n_lanes, n_frames, len(sizes))
        at += n_bytes
    lanes: list[Lane] = [[] for _ in range(n_lanes)]
    for level, size in enumerate(sizes):
        for lane, own in zip(lanes, counts, strict=True):
            lane.append([-1] * n_frames)
            frames = [frame for frame in range(n_frames) if own[frame] > level]
            bits = (size - 1).bit_length()
            n_raw = -(-len(frames) * bits // 8)
            n_coded = 0
            if frames and header["entropy"] and with_lengths:
                n_coded, at = varint(data, at)
            section = data[at : at + (n_coded or n_raw)]
            at += len(section)
            if n_coded:
                number = int.from_bytes(section, "little")
                for frame in frames:
                    lane[level][frame], number = take(number, weights(tables, lane, frame))
                assert number == 0
            else:
                stream = "".join(f"{byte:08b}" for byte in section)
                for n, frame in enumerate(frames):
                    lane[level][frame] = int(stream[n * bits : (n + 1) * bits], 2)
    return lanes, at


def slow_counts(section: bytes, n_lanes: int, n_frames: int, n_q: int) -> list[list[int]]:
    """The numbers of levels of each lane."""
    number, lanes = int.from_bytes(section, "little"), []
    for _ in range(n_lanes):
        before, lane = 0, []
        for _ in range(n_frames):
            after = [(before + symbol) % (n_q + 1) for symbol in range(n_q + 1)]
            others = [65536 // abs(count - before) for count in after[1:]]
            symbol, number = take(number, [15 * sum(others), *others])
            before = after[symbol]
            lane.append(before)
        lanes.append(lane)
    assert number == 0
    return lanes


def take(number: int, weights: list[int]) -> tuple[int, int]:
    """The next symbol of a section, and the number without it."""
    scale = ((2**16 - len(weights)) << 32) // sum(weights)
    start, total = 0, 0
    for symbol, weight in enumerate(weights):
        total += weight
        end = (total * scale >> 32) + symbol + 1 if symbol < len(weights) - 1 else 2**16
        if number % 2**16 < end:
            return symbol, (end - start) * (number // 2**16) + number % 2**16 - start
        start = end
    raise AssertionError("a slot is below 2**16")


def weights(tables: Mapping[str, Any], lane: Lane, frame: int) -> list[int]:
    """The weights of all codes of the last level of a lane, of which the frames before are known."""
    level = len(lane) - 1
    past, future = int(tables["past"]), int(tables["future"])
    until = frame + future + 1 if level else frame
    taps = [known(tables, lane, u) for u in range(frame - past, until)]

    def total(row: Any, values: Any) -> int:
        return sum(weight * value for weight, value in zip(row, values, strict=True))

    def clip(value: int) -> int:
        return min(max(value, 0), 127)

    def rows(name: str) -> Iterator[tuple[Any, int]]:
        return zip(tables[f"{name}_{level}"], tables[f"{name}_bias_{level}"], strict=True)

    h = [clip((bias + sum(map(total, row, taps))) >> 6) for row, bias in rows("context")]
    g = [
        min(a + (max(0, bias + total(row, h)) >> 6), 127)
        for a, (row, bias) in zip(h, rows("hidden"), strict=True)
    ]
    z = [bias + total(row, g) for row, bias in rows("output")]
    return [round(2 ** (16 - min((max(z) - value) >> 8, 255) / 16)) for value in z]


def known(tables: Mapping[str, Any], lane: Lane, frame: int) -> list[int]:
    """r of a frame."""
    total = [0] * len(tables["embedding_0"][0])
    for level, codes in enumerate(lane[: max(1, len(lane) - 1)]):
        if 0 <= frame < len(codes) and codes[frame] >= 0:
            row = tables[f"embedding_{level}"][codes[frame]]
            total = [a + b for a, b in zip(total, row, strict=True)]
    return [min(max(value, -127), 127) for value in total]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in pieces of seven bits, and the place after it."""
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at
