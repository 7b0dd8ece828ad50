"""The command line in processes of its own: signals, pipes, start-up; and training."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from cli_cases import RATE, contents, run, write_audio

# Ctrl-C is heard again: tests that a shell runs in the background ignore it, and so would their children
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from audiocodec.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", PROGRAM]
pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def start(*args: object) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *map(str, args)], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_stopped_run_leaves_nothing(name: str, code: int, tiny_model_dir: Path) -> None:
    Path("a.rq").write_bytes(b"precious")
    with start("encode", "-", "a.rq", "-f", "-m", tiny_model_dir) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(write_audio(Path("a.wav")).read_bytes())
        process.stdin.flush()
        while not list(Path().glob(".codec-*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.Signals[name])
        assert process.wait(30) == code
        assert b"Traceback" not in process.stderr.read()
    assert contents(Path()).keys() == {"a.rq", "a.wav"}
    assert Path("a.rq").read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_nohup_is_respected_and_what_was_set_before_comes_back(
    coded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(*_: object) -> list[str]:
        signal.raise_signal(signal.SIGHUP)
        return []

    def unheard(*_: object) -> None: ...

    Path("a.rq").write_bytes(coded)
    monkeypatch.setattr("audiocodec.bitstream.verify", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("verify", "a.rq").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, unheard)
        with pytest.raises(SystemExit, match="129"):
            run("verify", "a.rq")
        assert signal.getsignal(signal.SIGHUP) is unheard
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are another thing there")
def test_a_terminal_that_is_closed_while_it_shows_a_bar_ends_the_run(tiny_model_dir: Path) -> None:
    terminal, stderr = os.openpty()
    pipe = subprocess.PIPE
    words = [*COMMAND, "encode", "-", "a.rq", "-m", str(tiny_model_dir)]
    with subprocess.Popen(words, stdin=pipe, stderr=stderr) as process:
        os.close(stderr)
        assert process.stdin is not None
        audio = write_audio(Path("a.wav"), 600 * RATE).read_bytes()
        seen = b""
        for start in range(0, len(audio), 4 * RATE):
            process.stdin.write(audio[start : start + 4 * RATE])
            process.stdin.flush()
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 1 << 16)
            if b"<stdin>" in seen:
                break
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 129
    assert contents(Path()).keys() == {"a.wav"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_closed_standard_streams_stop_nothing_and_no_output_takes_their_place(coded: bytes) -> None:
    Path("in.rq").write_bytes(coded)
    codec = f"'{sys.executable}' -m audiocodec"
    script = f"""
        {codec} drop in.rq a.rq -n 2; echo $?
        {codec} drop in.rq b.rq -n 2 <&- >&- 2>&-; echo $?
        {codec} drop in.rq c.rq -n 2 2>&-; echo $?
        {codec} verify in.rq >&-; echo $?
        {codec} drop - d.rq -n 2 <&-; echo $?
    """
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True, timeout=120)
    assert done.stdout.split() == [b"0", b"0", b"0", b"0", b"1"]
    said = done.stderr.decode().splitlines()
    assert len(said) == 2 and "it has zero bytes" in said[1]
    assert contents(Path()).keys() == {"in.rq", "a.rq", "b.rq", "c.rq"}
    assert Path("a.rq").read_bytes() == Path("b.rq").read_bytes() == Path("c.rq").read_bytes()


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
    result = run(
        "train", "a.toml", "--data", "x", "y", "--data", "z", "--max-minutes", 2, "--threads", 1, "--compile"
    )
    assert result.code == 0
    assert sorted(map(str, seen["data"])) == ["x", "y", "z"]
    assert (seen["out"], seen["max_minutes"], seen["threads"]) == (Path("runs/short"), 2, 1)
    assert seen["compiled"]
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
