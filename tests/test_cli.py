"""The command line: what it makes, what it says, and that nothing is lost when something is wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_cases import RATE, Result, contents, run, write_audio

from audiocodec.bitstream import info
from audiocodec.cli import app, decode, encode, models
from audiocodec.cli import info as info_verb
from audiocodec.cli.reference import reference
from audiocodec.model import catalogue, store

DOCS = Path(__file__).parent.parent / "docs"
# Ctrl-C is heard again: tests that a shell runs in the background ignore it, and so would their children
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from audiocodec.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", PROGRAM]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path) -> None:
    """Every test stands in an empty folder, and the tiny model is the one that is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "SHIPPED", tiny_model_dir.parent)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> bytes:
    """A `.rq` file of three seconds, all four levels of the tiny model."""
    folder = tmp_path_factory.mktemp("coded")
    audio = write_audio(folder / "in.wav", title="Hello")
    assert run("encode", audio, folder / "out.rq", "-m", tiny_model_dir).code == 0
    return (folder / "out.rq").read_bytes()


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


# What it makes


def test_there_and_back_keeps_length_rate_channels_and_tags() -> None:
    write_audio(Path("a.flac"), 12345, channels=2, title="A tune", artist="Nobody")
    assert run("encode", "a.flac", "-m", "tiny", "--verify").code == 0
    assert run("decode", "a.rq", "b.flac").code == 0
    with soundfile.SoundFile("b.flac") as file:
        assert (file.frames, file.samplerate, file.channels) == (12345, RATE, 2)
        assert (file.title, file.artist) == ("A tune", "Nobody")


def test_pipes_give_the_same_bytes_as_files(coded: bytes) -> None:
    audio = write_audio(Path("in.wav"), title="Hello")
    result = run("encode", "-", "-", "-m", "tiny", stdin=audio.read_bytes())
    assert (result.code, result.out) == (0, coded)
    Path("in.rq").write_bytes(coded)
    assert run("decode", "in.rq", "--float", "out.wav").code == 0
    through = run("decode", "-", "-", "--float", stdin=coded)
    Path("piped.wav").write_bytes(through.out)
    assert np.array_equal(soundfile.read("piped.wav")[0], soundfile.read("out.wav")[0])
    assert run("decode", "in.rq", "-", "--float").out == Path("out.wav").read_bytes()


def test_raw_samples_come_and_go(coded: bytes) -> None:
    audio = write_audio(Path("in.wav"))
    samples = soundfile.read(audio, dtype="int16")[0].tobytes()
    options = ("--raw", "--rate", RATE, "-m", "tiny")
    untagged = run("encode", "in.wav", "-", "-m", "tiny").out
    assert run("encode", "-", "-", *options, stdin=samples).out == untagged
    out = run("decode", "-", "-", "--raw", stdin=coded).out
    assert len(out) == len(samples)


def test_a_folder_of_raw_samples_is_that_and_no_other_files() -> None:
    write_audio(Path("x/a.wav"), 2000)
    Path("x/b.raw").write_bytes(bytes(4000))
    assert run("encode", "x", "-o", "coded", "-m", "tiny", "--raw", "--rate", RATE).code == 0
    assert sorted(contents(Path("coded"))) == ["b.rq"]


def test_json_has_an_object_for_each_input_though_all_fail() -> None:
    write_audio(Path("a.wav"), 2000)
    write_audio(Path("b.wav"), 2000)
    Path("place").write_text("a file, no folder")
    result = run("encode", "a.wav", "b.wav", "-o", "place", "-m", "tiny", "--json")
    assert result.code == 1
    assert [thing["input"] for thing in result.objects] == ["a.wav", "b.wav"]
    assert all("not a folder" in thing["error"] for thing in result.objects)


def test_several_inputs_and_folders_keep_their_structure() -> None:
    for name in ("x/a.wav", "x/deep/b.flac", "c.wav"):
        write_audio(Path(name), 2000)
    Path("x/notes.txt").write_text("no audio")
    assert run("encode", "x", "c.wav", "-o", "coded", "-m", "tiny").code == 0
    assert [n for n in contents(Path("coded")) if n.endswith("rq")] == ["a.rq", "c.rq", "deep/b.rq"]
    assert run("decode", "coded", "-o", "back").code == 0
    assert [n for n in contents(Path("back")) if n.endswith("wav")] == ["a.wav", "c.wav", "deep/b.wav"]


def test_one_bad_input_costs_no_other() -> None:
    write_audio(Path("a.wav"), 2000)
    write_audio(Path("c.wav"), 2000)
    Path("b.wav").write_text("this is no audio")
    result = run("encode", "a.wav", "b.wav", "c.wav", "-o", "out", "-m", "tiny", "--json")
    assert result.code == 1
    assert sorted(contents(Path("out"))) == ["a.rq", "c.rq"]
    failed = [thing for thing in result.objects if thing["error"]]
    assert [thing["input"] for thing in failed] == ["b.wav"]
    assert set(failed[0]) == {"input", "output", "error"}


def test_levels_and_rates(coded: bytes) -> None:
    write_audio(Path("in.wav"), channels=2)
    tiny = ("-m", "tiny")
    assert [run("encode", "in.wav", "-f", *options, *tiny, "--json").objects[0]["levels"] for options in (
        (), ("-n", 3), ("-b", 2.7), ("--kbps", 1.79)
    )] == [4, 3, 3, 1]  # fmt: skip
    Path("in.rq").write_bytes(coded)
    assert run("decode", "in.rq", "o.wav", "-n", 2, "--rate", 8000).code == 0
    assert soundfile.info("o.wav").samplerate == 8000


def test_a_stretch_equals_that_stretch_of_the_whole(coded: bytes) -> None:
    Path("in.rq").write_bytes(coded)
    assert run("decode", "in.rq", "whole.wav", "--float").code == 0
    assert run("decode", "in.rq", "part.wav", "--float", "--start", 1.5, "--duration", 0.25).code == 0
    whole, part = soundfile.read("whole.wav")[0], soundfile.read("part.wav")[0]
    stretch = whole[round(1.5 * RATE) : round(1.75 * RATE)]
    assert len(part) == len(stretch)
    assert np.abs(part - stretch).max() < 1e-5


def test_live_coding_writes_small_groups() -> None:
    write_audio(Path("in.wav"))
    assert run("encode", "in.wav", "--live", "-m", "tiny").code == 0
    with Path("in.rq").open("rb") as file:
        assert info(file).header.frames_per_group == 2


def test_drop_equals_encoding_at_fewer_levels(coded: bytes) -> None:
    write_audio(Path("in.wav"), title="Hello")
    assert run("encode", "in.wav", "two.rq", "-n", 2, "-m", "tiny").code == 0
    Path("four.rq").write_bytes(coded)
    assert run("drop", "four.rq", "dropped.rq", "-n", 2).code == 0
    assert run("drop", "-", "-", "-n", 2, stdin=coded).out == Path("two.rq").read_bytes()
    assert Path("dropped.rq").read_bytes() == Path("two.rq").read_bytes()


# What it says


def test_json_has_the_documented_keys(coded: bytes) -> None:
    write_audio(Path("in.wav"))
    tiny = ("-m", "tiny")
    assert list(run("encode", "in.wav", *tiny, "--json").objects[0]) == list(encode.JSON_KEYS)
    assert list(run("decode", "in.rq", "out.wav", "--json").objects[0]) == list(decode.JSON_KEYS)
    assert list(run("info", "in.rq", "--json").objects[0]) == list(info_verb.JSON_KEYS)
    assert list(run("models", "--json").objects[0]) == list(models.JSON_KEYS)


def test_a_file_is_one_line_on_stderr_and_nothing_on_stdout(coded: bytes) -> None:
    write_audio(Path("in.wav"))
    told = run("encode", "in.wav", "-m", "tiny")
    assert (told.code, told.out, len(told.lines)) == (0, b"", 1)
    assert told.lines[0].startswith("in.wav -> in.rq  0:03.0  2.1 kbps  781 bytes  ")
    assert run("encode", "in.wav", "-f", "-q", "-m", "tiny") == Result(0, b"", [])


def test_warnings_of_the_library_are_lines() -> None:
    soundfile.write("loud.wav", np.full(1000, 1.5), RATE, subtype="FLOAT")
    result = run("encode", "loud.wav", "-m", "tiny")
    assert result.code == 0
    assert result.lines[0].startswith("codec: warning: loud.wav: 1000 samples beyond full scale were clipped")


def test_info_shows_what_a_file_says_of_itself(coded: bytes) -> None:
    Path("in.rq").write_bytes(coded)
    text = run("info", "in.rq", "-", stdin=coded).out.decode()
    for word in ("0:03.0", "48000 samples at 16000 Hz", "mono", "tiny", "Hello", "codebooks of 64"):
        assert text.count(word) == 2, word


def test_verify_says_ok_or_what_is_wrong(coded: bytes) -> None:
    Path("good.rq").write_bytes(coded)
    Path("bad.rq").write_bytes(coded[:-20])
    result = run("verify", "good.rq", "bad.rq", "missing.rq")
    assert (result.code, result.out) == (1, b"good.rq: ok\n")
    assert [line.split(":")[1].strip() for line in result.lines] == ["bad.rq", "missing.rq"]


def test_models_lists_what_is_shipped(tiny_model_dir: Path) -> None:
    space = store.code_space(store.load_model(tiny_model_dir))
    line = run("models").out.decode()
    for word in ("tiny", "24 kHz", "4 levels", "0.45-1.8 kbps", space.id.hex()):
        assert word in line


def test_damage_is_named_and_the_rest_is_kept(coded: bytes) -> None:
    damaged = bytearray(coded)
    damaged[len(coded) // 3] ^= 1
    Path("in.rq").write_bytes(damaged)
    result = run("decode", "in.rq", "out.wav", "--keep-going")
    assert result.code == 1
    assert [line for line in result.lines if line.startswith("codec: in.rq: ") and "0:00.0 to" in line]
    assert soundfile.info("out.wav").frames == 3 * RATE


def test_the_reference_is_up_to_date_and_says_something_about_every_option() -> None:
    assert (DOCS / "CLI.md").read_text() == reference(), "python -m audiocodec.cli.reference > docs/CLI.md"
    for name, verb in app.command().commands.items():
        assert app.VERBS[name].EXAMPLES.count("\n  codec ") == 2
        assert verb.help, name
        for param in verb.params:
            assert param.param_type_name == "argument" or param.help, f"{name} {param.name}"


@pytest.mark.parametrize("verb", app.VERBS)
def test_help_fits_a_screen_and_ends_with_two_examples(verb: str) -> None:
    result = run(verb, "--help")
    lines = result.out.decode().splitlines()
    assert result.code == 0
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    assert [line.startswith("    codec ") for line in lines[-2:]] == [True, True]


# What is refused


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

    monkeypatch.setattr("audiocodec.files.encode_stream", broken)
    result = run("encode", "a.wav", "-m", "tiny")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "internal error (RuntimeError: oh); please report it" in result.lines[0]
    assert "Traceback (most recent call last):" in run("encode", "a.wav", "-m", "tiny", "--debug").lines
    assert contents(Path()).keys() == {"a.wav"}


# Signals, pipes and start-up, in processes of their own


def start(*args: object) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *map(str, args)], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_nothing(number: signal.Signals, code: int, tiny_model_dir: Path) -> None:
    Path("a.rq").write_bytes(b"precious")
    with start("encode", "-", "a.rq", "-f", "-m", tiny_model_dir) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(write_audio(Path("a.wav")).read_bytes())
        process.stdin.flush()
        while not list(Path().glob(".codec-*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == code
        assert b"Traceback" not in process.stderr.read()
    assert contents(Path()).keys() == {"a.rq", "a.wav"}
    assert Path("a.rq").read_bytes() == b"precious"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_pipeline_goes_through_and_a_closed_pipe_ends_quietly(tiny_model_dir: Path) -> None:
    write_audio(Path("a.wav"), 10 * RATE)
    codec, model = f"'{sys.executable}' -m audiocodec", f"-m '{tiny_model_dir}'"
    script = f"""
        {codec} encode -q - - {model} < a.wav | tee a.rq | {codec} decode -q - b.wav {model}
        echo ${{PIPESTATUS[*]}}
        {codec} decode -q a.rq - {model} | head -c 4
        echo ${{PIPESTATUS[*]}}
    """
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, timeout=120)
    assert (done.stdout, done.stderr) == (b"0 0 0\nRIFF141 0\n", b"")
    assert run("verify", "a.rq").code == 0
    assert soundfile.info("b.wav").frames == 10 * RATE


def test_quick_verbs_load_neither_torch_nor_soundfile(coded: bytes) -> None:
    Path("in.rq").write_bytes(coded)
    script = """
import sys
from audiocodec.cli import main
for line in ("--help", "--version", "info in.rq", "verify in.rq", "drop in.rq out.rq -n 2", "decode --help"):
    assert main(line.split()) == 0, line
assert not {"torch", "soundfile"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# Training


RECIPE = """
name = "short"
[model]
latent_dim = 8
[[stages]]
name = "only"
steps = 2
"""


def test_show_prints_a_recipe_that_reads_back_the_same() -> None:
    from audiocodec.train.recipe import load_recipe

    Path("a.toml").write_text(RECIPE)
    shown = run("train", "a.toml", "--show")
    Path("b.toml").write_bytes(shown.out)
    assert load_recipe(Path("a.toml")) == load_recipe(Path("b.toml"))


def test_training_gets_what_the_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocodec.train.loop import Progress

    seen = {}

    def fake(recipe: object, data: list[Path], out: Path, **options: object) -> Path:
        seen.update(options, data=data, out=out)
        options["progress"](Progress(50, 100, "only", 75.0, {"mel": 0.5, "seconds_per_step": 1.5}))  # type: ignore[operator]
        return out / "model"

    monkeypatch.setattr("audiocodec.train.loop.train", fake)
    for name in ("x", "y", "z"):
        Path(name).mkdir()
    Path("a.toml").write_text(RECIPE)
    result = run("train", "a.toml", "--data", "x", "y", "--data", "z", "--max-minutes", 2, "--threads", 1)
    assert result.code == 0
    assert sorted(map(str, seen["data"])) == ["x", "y", "z"]
    assert (seen["out"], seen["max_minutes"], seen["threads"]) == (Path("runs/short"), 2, 1)
    line = "step 50/100 only  mel 0.5  1.50 s/step  1:15.0 left"
    assert result.lines == [line, "a.toml -> runs/short/model"]


def test_a_stopped_training_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, stop: Callable[[], bool], **__: object) -> Path:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        return Path("runs/short/model")

    monkeypatch.setattr("audiocodec.train.loop.train", interrupted)
    Path("a.toml").write_text(RECIPE)
    result = run("train", "a.toml", "--data", ".")
    assert result.code == 130
    assert "--resume" in result.lines[0]
