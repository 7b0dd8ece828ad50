"""The command line: what it makes and what it says."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_cases import RATE, Result, contents, run, write_audio

from audiocodec.bitstream import Reader, Writer, info
from audiocodec.cli import app, decode, encode, models
from audiocodec.cli import info as info_verb
from audiocodec.cli.reference import reference
from audiocodec.model import store

DOCS = Path(__file__).parent.parent / "docs"
pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


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


def test_tags_named_like_facts_stand_beside_them() -> None:
    from audiocodec import tools

    tags = {"duration": "9:99", "model": "other", "code space": "00"}
    write_audio(Path("in.wav"), 2000)
    assert run("encode", "in.wav", "-m", "tiny").code == 0
    plain = run("info", "in.rq").out.decode().splitlines()
    Path("in.rq").write_bytes(with_tags(Path("in.rq").read_bytes(), tags))
    assert tools.verify_file("in.rq") == []
    assert run("info", "in.rq", "--json").objects[0]["tags"] == tags
    lines = run("info", "in.rq").out.decode().splitlines()
    facts = [line for line in plain if not line.startswith("  size") and not line.startswith("  rate")]
    assert set(facts) <= set(lines)
    assert lines[-3:] == [f"  tag         {key}: {text}" for key, text in tags.items()]


def with_tags(data: bytes, tags: dict[str, str]) -> bytes:
    """The same stream with other tags."""
    reader = Reader(io.BytesIO(data))
    file = io.BytesIO()
    writer = Writer(file, replace(reader.header, tags=tags))
    for group in reader:
        assert group.levels is not None
        writer.write(group.n_frames, group.levels)
    assert reader.n_samples is not None
    writer.finish(reader.n_samples)
    return file.getvalue()


def test_info_keeps_going_where_a_file_was_cut(coded: bytes) -> None:
    Path("cut.rq").write_bytes(coded[: len(coded) * 3 // 4])
    refused = run("info", "cut.rq")
    assert refused.code == 1 and "--keep-going" in refused.lines[0]
    shown = run("info", "cut.rq", "--keep-going")
    assert (shown.code, shown.lines) == (0, [])
    assert "the end is missing" in shown.out.decode()
    facts = run("info", "cut.rq", "--keep-going", "--json").objects[0]
    assert facts["n_samples"] is None and 0 < facts["duration_seconds"] < 3


def test_verify_says_ok_or_what_is_wrong(coded: bytes) -> None:
    Path("good.rq").write_bytes(coded)
    Path("bad.rq").write_bytes(coded[:-20])
    result = run("verify", "good.rq", "bad.rq", "missing.rq")
    assert (result.code, result.out) == (1, b"good.rq: ok\n")
    assert [line.split(":")[1].strip() for line in result.lines] == ["bad.rq", "missing.rq"]


def test_models_lists_what_is_shipped(tiny_model_dir: Path) -> None:
    space = store.load_model(tiny_model_dir).code_space()
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
