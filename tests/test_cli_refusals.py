"""The command line on bad input: one line that says what is wrong, and nothing is lost."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_cases import RATE, contents, run, write_audio

from audiocodec.model import catalogue, store

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond `n_bytes`: what a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def bad_audio(name: str, write: Callable[[Path], object]) -> tuple[object, ...]:
    write(Path(name))
    return "encode", name, "-m", "tiny"


def bad_stream(data: bytes) -> tuple[object, ...]:
    Path("in.rq").write_bytes(data)
    return "decode", "in.rq", "out.wav"


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def nan_audio(path: Path) -> None:
    soundfile.write(path, np.where(np.arange(2000) == 1600, np.nan, 0), RATE, subtype="FLOAT")


def wide_audio(path: Path) -> None:
    soundfile.write(path, np.zeros((100, 8)), RATE)


def other_model(coded: bytes) -> tuple[object, ...]:
    """A model of another code space than the file's."""
    import torch

    from audiocodec.model.codec import CodecModel

    model = store.load_model(catalogue.SHIPPED / "tiny")
    torch.manual_seed(1)
    other = CodecModel(model.config)
    other.quantizer.levels[0].codebook.data.normal_()
    store.save_model(other, Path("other"), "tiny")
    return (*bad_stream(coded), "-m", "other")


def existing(*args: object) -> tuple[object, ...]:
    """The output is there already."""
    write_audio(Path("a.wav"))
    Path("a.rq").write_bytes(b"precious")
    return args


REFUSED: dict[str, tuple[Callable[[bytes], tuple[object, ...]], int, str]] = {
    "not audio": (lambda _: bad_audio("a.wav", lambda p: p.write_text("hello")), 1, "not audio"),
    "zero bytes": (lambda _: bad_audio("a.wav", Path.touch), 1, "empty (0 bytes)"),
    "NaN": (lambda _: bad_audio("a.wav", nan_audio), 1, "0.100 s is not a number"),
    "8 channels": (lambda _: bad_audio("a.wav", wide_audio), 1, "8 channels: expected 1 or 2"),
    "a folder as audio": (lambda _: bad_audio("a.wav", Path.mkdir), 2, "is a folder: give -o DIR"),
    "a folder named .": (lambda _: ("encode", "."), 2, "is a folder: give -o DIR"),
    "rq as audio": (lambda c: ("encode", bad_stream(c)[1]), 1, "not audio"),
    "missing audio": (lambda _: ("encode", "a.wav"), 1, "a.wav does not exist"),
    "unknown model": (lambda _: ("encode", write_audio(Path("a.wav")), "-m", "nope"), 1, "nope: no such model"),
    "unknown model (decode)": (lambda c: (*bad_stream(c), "-m", "nope"), 1, "nope: no such model"),
    "other code space": (other_model, 1, "name the right one with -m"),
    "truncated": (lambda c: bad_stream(c[:-1]), 1, "in.rq: "),
    "truncated header": (lambda c: bad_stream(c[:20]), 1, "in.rq: the input ends after 20"),
    "bit flipped": (lambda c: bad_stream(flipped(c, len(c) // 2)), 1, "in.rq: "),
    "bit flipped in the header": (lambda c: bad_stream(flipped(c, 30)), 1, "in.rq: damaged header"),
    "future version": (lambda c: bad_stream(c[:4] + b"\x63" + c[5:]), 1, "upgrade audiocodec"),
    "not rq": (lambda _: bad_stream(b"RIFFxxxx"), 1, "in.rq: not an .rq file"),
    "empty rq": (lambda _: bad_stream(b""), 1, "in.rq: not an .rq file: it has zero bytes"),
    "not rq (info)": (lambda _: ("info", *bad_stream(b"RIFFxxxx")[1:2]), 1, "in.rq: not an .rq file"),
    "truncated (drop)": (lambda c: ("drop", bad_stream(c[:-9])[1], "o.rq", "-n", 2), 1, "in.rq: "),
    "a folder (drop)": (lambda _: ("drop", ".", "o.rq", "-n", 2), 1, "Is a directory"),
    "a folder without items": (lambda _: ("decode", ".", "o.wav", "--index", 0), 1, "no items in it"),
    "missing shard": (lambda _: ("decode", "in", "o.wav", "--index", 0), 1, "in does not exist"),
    "missing rq": (lambda _: ("decode", "in.rq"), 1, "in.rq does not exist"),
    "output exists": (lambda _: existing("encode", "a.wav"), 1, "a.rq exists: use -f"),
    "output exists (drop)": (lambda c: existing("drop", bad_stream(c)[1], "a.rq", "-n", 1), 1, "a.rq exists"),
    "no output folder": (lambda _: existing("encode", "a.wav", "no/a.rq"), 1, "does not exist; make it first"),
    "a file as output folder": (lambda _: existing("encode", "a.wav", "-o", "a.rq"), 1, "is not a folder"),
    "a full device": (lambda _: existing("encode", "a.wav", "/dev/full", "-m", "tiny"), 1, "the disk is full"),
    "a full device (decode)": (lambda c: (*bad_stream(c)[:2], "/dev/full"), 1, "the disk is full"),
    "levels 99": (lambda _: existing("encode", "a.wav", "b.rq", "--levels", 99, "-m", "tiny"), 2, "1 to 4"),
    "levels 99 (decode)": (lambda c: (*bad_stream(c), "--levels", 99), 2, "expected 1 to 4"),
    "levels 99 (drop)": (lambda c: ("drop", bad_stream(c)[1], "o.rq", "-n", 99), 2, "expected 1 to 4"),
    "levels 0": (lambda _: existing("encode", "a.wav", "--levels", 0), 2, "expected 1 or more"),
    "kbps 0": (lambda _: existing("encode", "a.wav", "--kbps", 0), 2, "expected more than 0"),
    "kbps too high": (lambda _: existing("encode", "a.wav", "b.rq", "-b", 9, "-m", "tiny"), 2, "0.45 to 1.8"),
    "kbps and levels": (lambda _: existing("encode", "a.wav", "-b", 1, "-n", 1), 2, "give one of them"),
    "two inputs": (lambda _: existing("encode", "-f", "a.wav", "b.wav"), 2, "for several inputs give -o DIR"),
    "three inputs": (lambda _: existing("encode", "a.wav", "b.wav", "c.wav"), 2, "3 inputs: give -o DIR"),
    "two rq": (lambda c: ("decode", bad_stream(c)[1], "b.rq"), 2, "no output name"),
    "colliding outputs": (lambda _: existing("encode", "a.wav", "x/a.wav", "-o", "o"), 2, "would both become"),
    "empty folder": (lambda _: ("encode", ".", "-o", "out"), 1, "nothing to do"),
    "json and audio": (lambda c: (*bad_stream(c)[:2], "-", "--json"), 2, "cannot both go to stdout"),
    "raw without rate": (lambda _: existing("encode", "a.wav", "b.rq", "--raw"), 2, "need their --rate"),
    "rate without raw": (lambda _: existing("encode", "a.wav", "b.rq", "--rate", 8000), 2, "--raw samples"),
    "float flac": (lambda c: (*bad_stream(c)[:2], "o.flac", "--float"), 2, "into .wav only"),
    "negative start": (lambda c: (*bad_stream(c), "--start=-1"), 2, "--start -1: expected 0 or more"),
    "start beyond the end": (lambda c: (*bad_stream(c), "--start", 77), 2, "expected 0 to 3.000"),
    "not a number": (lambda c: (*bad_stream(c), "--duration", "x"), 2, "--duration"),
    "rate 5": (lambda c: (*bad_stream(c), "--rate", 5), 2, "--rate 5: expected 1000 to 768000"),
    "unknown option": (lambda _: ("encode", "--loud"), 2, "(see 'codec encode --help')"),
    "unknown verb": (lambda _: ("enkode", "a.wav"), 2, "(see 'codec --help')"),
    "no input": (lambda _: ("encode",), 2, "INPUT"),
    "no recipe": (lambda _: ("train", "nowhere.toml", "--data", "."), 1, "cannot read the recipe"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_leaves_everything_as_it_was(case: str, coded: bytes) -> None:
    if "device" in case and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    prepare, code, reason = REFUSED[case]
    args = prepare(coded)
    before = contents(Path())
    result = run(*args)
    assert (result.code, len(result.lines), result.out) == (code, 1, b""), result.lines
    assert result.lines[0].startswith("codec: ")
    assert reason in result.lines[0]
    assert contents(Path()) == before


def test_a_full_disk_leaves_nothing(coded: bytes) -> None:
    write_audio(Path("a.wav"))
    Path("a.rq").write_bytes(b"precious")
    Path("b.rq").write_bytes(coded)
    before = contents(Path())
    with file_size_limit(500):
        coding = run("encode", "a.wav", "-f", "-m", "tiny")
        decodings = [run("decode", "b.rq", name) for name in ("b.wav", "b.flac", "b.ogg")]
    for result in (coding, *decodings):
        assert (result.code, len(result.lines)) == (1, 1)
        assert "the disk is full" in result.lines[0]
    assert contents(Path()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_one_line() -> None:
    write_audio(Path("a.wav"))
    Path("locked").mkdir(mode=0o500)
    result = run("encode", "a.wav", "locked/a.rq", "-m", "tiny")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "no permission" in result.lines[0]


def test_an_error_of_ours_is_one_line_unless_debug_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(Path("a.wav"))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr("audiocodec.encoding.encode_stream", broken)
    result = run("encode", "a.wav", "-m", "tiny")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "internal error (RuntimeError: oh); please report it" in result.lines[0]
    assert "Traceback (most recent call last):" in run("encode", "a.wav", "-m", "tiny", "--debug").lines
    assert contents(Path()).keys() == {"a.wav"}
