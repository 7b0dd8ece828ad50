"""Fuzzes all that reads `.rq` streams: `python tests/fuzz_bitstream.py --minutes 10`.

Streams with and without entropy coding and variable rate are flipped, cut, joined and shuffled, half of them with their
checksums made right again, so that what lies behind these is reached. Whatever comes of it must be an error in words,
reported damage or a good decode; soon, and in little memory. What is not is printed: it becomes one of `FINDS`.
"""

import argparse
import io
import itertools
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from bitstream_cases import featured_groups, make_header, write_groups
from entropy_cases import tiny_tables

from audiocodec.bitstream import EntropyTables, Header, Reader, drop, info, layout, recode, verify
from audiocodec.bitstream.header import PREFIX_BYTES
from audiocodec.bitstream.items import END_MARK_BYTES, Window, read_head, read_header
from audiocodec.bitstream.reader import MAX_LOST_FRAMES, MAX_LOST_SECONDS
from audiocodec.bitstream.writer import pack_end
from audiocodec.errors import FormatError, ModelError

SIZES = (64, 16, 300)
TABLES = tiny_tables(SIZES)
MAX_SECONDS = 20.0  # for one input: a small one can hold minutes of silence
MAX_GROWTH_BYTES = 64e6
FORMS = [(False, False), (True, False), (False, True), (True, True)]  # entropy-coded, variable
# Inputs, in hex, that once made trouble.
FINDS = {
    "a seek table with a run of no groups": (
        "52514143013c0003000102030405060708090a0b0c0d0e0fc0bb01c002c007c0bb01010c0a64656d6f2d32346b687a0301400101100101"
        "ac020100c82ffbf4575f8c075204ac336700051279c50216fd00befbefbc00c55550055f7f70165b345d4f9f45027bd2007c3d5b690a00"
        "0000001600000023768c3c"
    ),
    "a gap of an hour at an absurd frame rate": (
        "52514143013c0003000102030405060708090a0b0c0d0e0fc0bb21c002c007c0bb01010c0a64656d6f2d32346b687a030140"
        "0101100101ac020100c82ffbf4575f8c0762744e8647001fe37b07c7fc6ce594281b004d34d34d34d34d34d303c31d1c005f"
        "831400e7e0fdd02554be7547011b560806b0f075b357060075d75d75d75d75d75d000000000b00779206c04ee9497647020f"
        "b00f0539f9f8034000c0e6929ad0002ee0a59974e66703040229bd010096c11266450cb533001c0000007e5edf2c18010c7b"
        "ca0b3d0000000020000000c720bed545083173012801240118010c402e0000000000001c0000007e5edf2c"
    ),
}

Random = np.random.Generator


def seeds() -> list[bytes]:
    """Small streams of each form, mono and stereo, of one group and of several."""
    found = []
    for (entropy, variable), channels, n_frames in itertools.product(FORMS, (1, 2), (5, 40)):
        header = make_header(
            SIZES,
            channels=channels,
            frames_per_group=12,
            tables=TABLES if entropy else None,
            variable=variable,
        )
        groups = featured_groups(header, TABLES if entropy else None, n_frames, seed=n_frames)
        found.append(write_groups(header, groups, tables=TABLES if entropy else None))
    return found


def inputs(seed: int) -> Iterator[bytes]:
    """Damaged streams without end, the same for the same seed."""
    random = np.random.default_rng(seed)
    streams = seeds()
    parts = [list(split(stream)) for stream in streams]
    while True:
        n = int(random.integers(len(streams)))
        if random.random() < 0.4:
            yield damaged(random, streams[n], streams)
        else:
            yield b"".join(rearranged(random, parts[n], parts))


def split(stream: bytes) -> Iterator[bytes]:
    """A good stream's header, groups and end."""
    window = Window(io.BytesIO(stream))
    header = read_header(window)
    yield stream[: window.offset]
    while window.offset < len(stream):
        n_bytes = read_head(window, header).item_bytes
        yield stream[window.offset : window.offset + n_bytes]
        window.fill(n_bytes)
        window.skip(n_bytes)


def damaged(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """Some bytes changed, taken out, doubled, or taken from another stream."""
    for _ in range(int(random.integers(1, 5))):
        at, until = sorted(random.integers(0, len(data) + 1, 2).tolist())
        until = min(until, at + int(random.integers(1, 30)))
        other = others[int(random.integers(len(others)))]
        start = int(random.integers(len(other) + 1))
        flipped = bytearray(data)
        if data:
            bit = int(random.integers(8 * len(data)))
            flipped[bit // 8] ^= 1 << bit % 8
        data = [
            bytes(flipped),
            bytes(flipped),
            data[:at],
            data[:at] + data[until:],
            data[:until] + data[at:],
            data[:at] + random.bytes(until - at) + data[until:],
            data[:at] + other[start : start + until - at] + data[until:],
            data[:at] + bytes(until - at) + data[until:],
            data[:at] + b"\xff" * (until - at) + data[until:],
        ][int(random.integers(9))]
    return data


def rearranged(random: Random, parts: list[bytes], others: list[list[bytes]]) -> list[bytes]:
    """The parts with some left out, doubled, exchanged or changed, and all checksums right."""
    result = list(parts)
    for _ in range(int(random.integers(1, 4))):
        n = int(random.integers(len(result)))
        other = others[int(random.integers(len(others)))]
        match int(random.integers(8)):
            case 0:
                result[n : n + 1] = []
            case 1:
                result[n:n] = [result[int(random.integers(len(result)))]]
            case 2:
                result[n] = other[int(random.integers(len(other)))]
            case _:
                result[n] = sealed(random, result[n])
        if not result:
            return [b""]
    return result


def sealed(random: Random, part: bytes) -> bytes:
    """A part with a change, and its checksums made right."""
    if part.startswith(layout.MAGIC):
        body = damaged(random, part[PREFIX_BYTES : -layout.CRC_BYTES], [part])[: layout.MAX_HEADER_BYTES]
        return layout.with_crc(part[:5] + struct.pack("<H", len(body)), body)
    sized = bool(random.random() < 0.9)
    try:
        values, head_bytes = layout.unpack_head(part, sized=sized)
    except (FormatError, layout.Incomplete):
        return damaged(random, part, [part])
    payload = part[head_bytes : -layout.CRC_BYTES]
    if values["marker"] == layout.END:
        table = damaged(random, payload[:-END_MARK_BYTES], [part])
        return pack_end(table, int(random.integers(1 << int(random.integers(1, 40)))))
    if random.random() < 0.85:
        payload = damaged(random, payload, [part])
    if values.get("payload_bytes"):
        values["payload_bytes"] = len(payload)
    if random.random() < 0.3:
        name = str(random.choice([name for name in values if name not in ("marker", "head_crc", "kind")]))
        values[name] = int(random.integers(1 << int(random.integers(1, 34))))
    marker = values.pop("marker")
    del values["head_crc"]
    return layout.with_crc(layout.pack_head(marker, sized=sized, **values), payload)


def check(data: bytes) -> None:
    """Reads a stream in every way there is. Raises AssertionError, or whatever else should not come."""
    begun = time.process_time()
    results = [outcome(read, data) for read in (strict, seeking, from_pipe, dropped, recoded, seen)]
    whole = outcome(strict, data) is None
    try:
        faults = verify(io.BytesIO(data), lambda header: TABLES)
        structure_faults = verify(io.BytesIO(data))
        if whole:
            assert not faults
        assert len(structure_faults) <= len(faults) or not faults
        kept = outcome(going_on, data)
        if not faults and kept is None:
            assert not structure_faults
    except ModelError:
        raise AssertionError("verify asks for tables only where it can have them") from None
    assert results[0] is None or results[2] is not None
    seconds = time.process_time() - begun
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s"


def outcome(read: Callable[[bytes], None], data: bytes) -> Exception | None:
    """None where that went well, or the error that says what is wrong."""
    try:
        read(data)
    except (FormatError, ModelError) as error:
        assert str(error)
        return error
    return None


def strict(data: bytes) -> None:
    """All groups of a whole stream."""
    for group in Reader(io.BytesIO(data), tables=TABLES):
        assert group.levels is not None


def from_pipe(data: bytes) -> None:
    """The same from what cannot seek."""
    file = io.BytesIO(data)
    file.seekable = lambda: False  # type: ignore[method-assign]
    for group in Reader(file, tables=TABLES):
        assert group.levels is not None


def seeking(data: bytes) -> None:
    """From some frame on."""
    reader = Reader(io.BytesIO(data), tables=TABLES)
    reader.seek_frame(len(data) % 50)
    for _ in reader:
        pass


def going_on(data: bytes) -> None:
    """With damage reported."""
    reader = Reader(io.BytesIO(data), keep_going=True, tables=TABLES)
    lost_frames = min(MAX_LOST_SECONDS * reader.header.space.frame_rate, MAX_LOST_FRAMES)
    most = lost_frames / reader.header.frames_per_group
    most += len(data) / min(reader.header.least_group_bytes(), 9) + 40
    n_lost = 0
    for n, group in enumerate(reader):
        assert n <= most
        n_lost += group.levels is None
        if group.levels is not None:
            check_codes(reader.header, group.levels, group.counts)
    assert reader.damage or not n_lost


def check_codes(header: Header, levels: tuple[np.ndarray, ...], counts: np.ndarray | None) -> None:
    """Codes are in their codebooks, and only where a frame has them."""
    for level, (codes, size) in enumerate(zip(levels, header.space.codebook_sizes, strict=True)):
        assert codes.min() >= 0
        assert codes.max() < size
        assert counts is None or not codes[counts <= level].any()


def dropped(data: bytes) -> None:
    """One level of it, which is a good stream, if all its codes are possible ones."""
    file = io.BytesIO()
    drop(io.BytesIO(data), file, 1)
    faults = verify(io.BytesIO(file.getvalue()), lambda header: TABLES)
    assert not faults or outcome(strict, data) is not None


def recoded(data: bytes) -> None:
    """Raw, and then entropy-coded, which are good streams of the same codes."""
    raw, coded, again = io.BytesIO(), io.BytesIO(), io.BytesIO()
    recode(io.BytesIO(data), raw, lambda header: TABLES, raw=True)
    header = Reader(io.BytesIO(data)).header
    if not fits(header, TABLES):
        return
    recode(io.BytesIO(raw.getvalue()), coded, lambda header: TABLES)
    recode(io.BytesIO(coded.getvalue()), again, lambda header: TABLES, raw=True)
    assert raw.getvalue() == again.getvalue()
    assert len(coded.getvalue()) <= 1.01 * len(raw.getvalue()) + 20 + len(
        list(Reader(io.BytesIO(data), unpack=False))
    )


def fits(header: Header, tables: EntropyTables) -> bool:
    """Whether a file can be coded with the tables."""
    sizes = header.space.codebook_sizes
    return tables.codebook_sizes[: len(sizes)] == sizes and set(header.space.frames_per_code) == {1}


def seen(data: bytes) -> None:
    """What info says."""
    found = info(io.BytesIO(data))
    for seconds, kbps in found.rates():
        assert seconds > 0
        assert kbps >= 0
    assert found.saving is None or found.saving <= 1


def max_rss() -> float:
    """The most memory that this process has had, in bytes; 0 where that cannot be told."""
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0.0


def main() -> int:
    """Fuzzes for so many minutes; the exit code says whether something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n_inputs, n_found, slowest = 0, 0, 0.0
    end = time.monotonic() + 60 * options.minutes
    for data in itertools.islice(inputs(options.seed + 1), 100):
        with suppress(Exception):
            check(data)  # to have everything loaded
    memory = max_rss()
    for data in inputs(options.seed):
        if time.monotonic() > end or n_found >= 20:
            break
        begun = time.process_time()
        try:
            check(data)
        except Exception as error:
            n_found += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(f"{place.name}: {type(error).__name__}: {error}\n{data.hex()}\n", flush=True)
        seconds = time.process_time() - begun
        if seconds > max(slowest, 1.0):
            print(f"slowest so far, {seconds:.1f} s: {data.hex()}\n", flush=True)
        slowest = max(slowest, seconds)
        n_inputs += 1
    growth = max_rss() - memory
    print(
        f"{n_inputs} inputs, {n_found} found, slowest {slowest:.2f} s, memory grew by {growth / 1e6:.1f} MB"
    )
    return int(n_found > 0 or growth > MAX_GROWTH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
