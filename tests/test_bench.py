"""`codec bench`: the sweep, speed and cost, and the command. Its rooms have test files of their own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bench_cases import METRICS, Noisy, equip, equipment_as_it_is, results
from cli_cases import run

from audiocodec.bench import speed, store, sweep
from audiocodec.bench.clips import find_clips
from audiocodec.bench.equipment import Equipment, model_stamp
from audiocodec.bench.results import Clip
from audiocodec.codec import Codec, load
from audiocodec.model.catalogue import TABLES, WEIGHTS

RATE = 16000
NAMES = ("speech-a", "speech-b", "music-c", "sounds-d")


def write_clip(path: Path, seconds: float = 0.5, rate: int = RATE, seed: int = 0) -> None:
    audio = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    for seed, name in enumerate(NAMES):
        write_clip(tmp_path / "clips" / f"{name}.wav", seed=seed)
    return find_clips(tmp_path / "clips")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# The sweep


def test_an_interrupted_sweep_goes_on_and_does_nothing_twice(
    clips: list[Clip], out: Path, tmp_path: Path
) -> None:
    codec = Noisy(tmp_path / "log")

    def interrupt(progress: sweep.Progress) -> None:
        if progress.n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(clips, out, partial(equip, codec), progress=interrupt)
    finished = (out / store.MEASUREMENTS).read_bytes().splitlines()
    assert len(finished) == 5
    # as if it had been killed while it wrote the fifth
    (out / store.MEASUREMENTS).write_bytes(b"\n".join(finished)[:-9])
    begun = len(codec.asked)
    seen: list[sweep.Progress] = []
    found = sweep.run(clips, out, partial(equip, codec), progress=seen.append)
    assert len(codec.asked) - begun == 12 - 4
    assert [progress.n_done for progress in seen] == list(range(4, 13))
    assert seen[-1] == sweep.Progress(12, 12, 0, 0.0)
    lines = (out / store.MEASUREMENTS).read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 12
    again = sweep.run(clips, out, partial(equip, codec))
    assert len(codec.asked) - begun == 8
    assert again.measurements == found.measurements
    assert {(one.clip, one.setting) for one in found.measurements} == {
        (name, s) for name in NAMES for s in "123"
    }


def test_results_do_not_depend_on_the_number_of_workers(clips: list[Clip], tmp_path: Path) -> None:
    found = []
    for n_workers in (1, 3):
        out = tmp_path / f"out{n_workers}"
        out.mkdir()
        codec = Noisy(tmp_path / "log")
        found.append(sweep.summary(sweep.run(clips, out, partial(equip, codec), n_workers=n_workers)))
    assert found[0] == found[1]
    order = [(one["clip"], one["setting"]) for one in found[0]["measurements"]]
    assert order == [(name, setting) for name in NAMES for setting in "123"]
    assert found[0]["means"][0]["mean"] > 0


def test_other_clips_codecs_and_metrics_are_measured_anew(
    clips: list[Clip], out: Path, tmp_path: Path
) -> None:
    (clip,) = [clip for clip in clips if clip.name == "music-c"]
    log = tmp_path / "log"
    equipments = [
        Equipment([Noisy(log, settings=("1",))], METRICS),
        Equipment([Noisy(log, settings=("1",), about="2")], METRICS),
        Equipment([Noisy(log, settings=("1",))], METRICS, stamps={"noisy": "other weights"}),
        Equipment([Noisy(log, settings=("1",))], METRICS[:1]),
    ]
    for equipment in equipments:
        sweep.run([clip], out, equipment_as_it_is(equipment))
    assert len(log.read_text().splitlines()) == 4
    write_clip(clip.path, seed=99)
    sweep.run([clip], out, equipment_as_it_is(equipments[0]))
    assert len(log.read_text().splitlines()) == 5
    sweep.run([clip], out, equipment_as_it_is(equipments[1]))
    sweep.run([clip], out, equipment_as_it_is(equipments[0]))
    assert len(log.read_text().splitlines()) == 6


def test_new_tables_are_measured_anew(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (folder / TABLES).unlink(missing_ok=True)
    stamps = []
    for tables in (None, b"some", b"other"):
        if tables:
            (folder / TABLES).write_bytes(tables)
        stamps.append(model_stamp(str(folder)))
    assert len(set(stamps)) == 3 and stamps[0] == store.file_hash(folder / WEIGHTS)


def test_a_codec_that_crashes_on_a_clip_costs_that_clip_only(
    clips: list[Clip], out: Path, tmp_path: Path
) -> None:
    trouble = {"speech-a": "raises", "speech-b": "dies", "music-c": "shortens"}
    codec = Noisy(tmp_path / "log", trouble, settings=("1", "2"))
    seen: list[sweep.Progress] = []
    found = sweep.run(clips, out, partial(equip, codec), n_workers=2, progress=seen.append)
    assert len(found.measurements) == 8
    assert seen[-1].n_failed == 6
    reasons = {one.clip: one.missing.get("codec") for one in found.measurements}
    assert reasons == {
        "speech-a": "RuntimeError: no idea what to do",
        "speech-b": "the worker process ended with exit code 9; see workers.log",
        "music-c": "8000 samples came back as (7999,)",
        "sounds-d": None,
    }
    whole = [one for one in found.measurements if one.clip == "sounds-d"]
    assert all(one.metrics.keys() == {"si_sdr", "stft"} for one in whole)
    summary = sweep.summary(found)
    assert [line.split(":")[0] for line in summary["skipped"]] == [
        "noisy left out speech-a", "noisy left out speech-b", "noisy left out music-c",
    ]  # fmt: skip
    codec.trouble.clear()
    mended = sweep.run(clips, out, partial(equip, Noisy(tmp_path / "log", settings=("1", "2"))))
    assert len(codec.asked) == 8 + 6  # failures are tried again, and nothing else
    assert not any(one.missing for one in mended.measurements)


def test_what_no_metric_can_judge_is_left_out_and_named(clips: list[Clip], out: Path, tmp_path: Path) -> None:
    folder = clips[0].path.parent
    soundfile.write(folder / "speech-silent.wav", np.zeros(RATE), RATE)
    write_clip(folder / "speech-tiny.wav", seconds=0.005)
    (folder / "speech-no.wav").write_text("hello")
    write_clip(folder / "speech-phone.wav", rate=8000)
    codec = Noisy(tmp_path / "log", settings=("1",))
    found = sweep.run(find_clips(folder), out, partial(equip, codec))
    assert [one.clip for one in found.measurements] == [
        "speech-a",
        "speech-b",
        "speech-phone",
        "music-c",
        "sounds-d",
    ]
    assert all(one.metrics.keys() == {"si_sdr", "stft"} for one in found.measurements)
    named = {line.split()[1]: line for line in found.left_out}
    assert named.keys() == {"speech-silent", "speech-tiny", "speech-no"}
    assert "silent" in named["speech-silent"]
    assert "0.005 s" in named["speech-tiny"]
    assert sweep.summary(found)["skipped"] == found.left_out


def test_clips_to_listen_to_are_kept_for_every_setting(clips: list[Clip], out: Path, tmp_path: Path) -> None:
    codec = Noisy(tmp_path / "log", settings=("1", "2"))
    found = sweep.run(clips, out, partial(equip, codec))
    assert found.listening == list(NAMES)
    paths = {str(path.relative_to(out / "audio")) for path in out.glob("audio/**/*.flac")}
    assert paths == {f"{place}/{name}.flac" for place in ("original", "noisy/1", "noisy/2") for name in NAMES}
    info = soundfile.info(out / "audio" / "noisy" / "1" / "speech-a.flac")
    assert (info.samplerate, info.frames, info.subtype) == (24000, 12000, "PCM_16")
    (out / "audio" / "noisy" / "1" / "speech-a.flac").unlink()
    sweep.run(clips, out, partial(equip, codec))
    assert len(codec.asked) == 9  # the one that was deleted is made again


# Speed and cost


def equip_tiny(model: Path, log: Path) -> Equipment:
    from audiocodec.bench.competitors import ours

    return Equipment([ours.build(str(model), "ours"), Noisy(log)], METRICS)


def test_speed_and_cost_are_measured(
    clips: list[Clip], out: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"ours": "1.8", "noisy": "3"}
    tiny = partial(equip_tiny, tiny_model_dir, tmp_path / "log")
    subject = speed.Subject(clips[0], str(tiny_model_dir), settings, tiny, out)
    speeds, growth = speed.measure(subject, speed.Effort(1.0, rounds=1, growth_seconds=(2,)))
    ours = speeds["ours"]
    for name in ("encode_x_real_time", "decode_x_real_time", "start_up_seconds", "latency_ms", "model_mb"):
        assert ours[name] > 0, name
    noisy = speeds["noisy"]  # a second of audio took it half a second, and a quarter
    assert (noisy["encode_x_real_time"], noisy["decode_x_real_time"]) == (2, 4)
    assert noisy["model_mb"] is None
    assert ours["setting"] == "1.8"
    assert [step["seconds"] for step in growth] == [2]
    if sys.platform != "win32":
        assert growth[0]["encode_cpu_seconds"] > 0
        assert 20 < growth[0]["peak_mb"] < 2000


def test_no_gpu_helps_the_command(
    tiny_codec: Codec, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    program = f"import os; open({str(seen)!r}, 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + '.')"
    monkeypatch.setattr(speed, "COMMAND", (sys.executable, "-c", program))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    speed.metered((), np.zeros(100, np.int16), 0)
    n_metered = 0 if sys.platform == "win32" else 1
    speed.cost(tiny_codec, np.ones(2 * RATE, np.float32), str(tiny_model_dir), rounds=2)
    assert seen.read_text() == "." * (n_metered + 2)


def test_latency_is_that_of_the_model(tiny_codec: Codec) -> None:
    codec = load(device="cpu")
    speech, rate = soundfile.read(
        Path(__file__).parent.parent / "samples" / "speech-english.flac", dtype="float32"
    )
    assert rate == codec.space.sample_rate
    latency = speed.latency_ms(codec, speech[:rate])
    assert latency == pytest.approx(codec.model.config.latency_ms)
    assert latency < 60
    for one in (codec, tiny_codec):
        assert one.model.config.latency_ms < speed.live_latency_ms(one) < 100


# The command


BAD: dict[str, tuple[tuple[object, ...], int, str]] = {
    "no folder named": ((), 2, "DIR is missing"),
    "no such folder": (("nowhere",), 1, "nowhere is not a folder"),
    "no audio": (("empty",), 1, "no audio in it"),
    "no kind": (("kindless",), 1, "kindless/a: is it speech, music or sounds?"),
    "only silence": (("silent",), 1, "no clip can be measured on; clip speech-a left out"),
    "unknown codec": (("clips", "--against", "opus,flac"), 1, "no codec 'flac'"),
    "unknown model": (("clips", "-m", "nope"), 1, "nope: no such model"),
    "0 jobs": (("clips", "--jobs", 0), 2, "--jobs 0: expected 1 or more"),
    "quick and full": (("clips", "--quick", "--full"), 2, "cannot both be"),
    "no ratings": (("clips", "--ratings", "no.csv"), 1, "no.csv does not exist"),
    "no kinds": (("clips", "--kinds", "no.csv"), 1, "no.csv: cannot be read"),
    "nothing to compare with": (("clips", "--compare", "no.json"), 1, "no.json: cannot be read"),
    "no results": (("clips", "--compare", "clips/speech-a.wav"), 1, "no results of codec bench"),
    "nothing to judge": (("--compare", "old.json"), 1, "bench/results.json: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    write_clip(Path("kindless/a.wav"))
    write_clip(Path("clips/speech-a.wav"))
    Path("silent").mkdir()
    soundfile.write("silent/speech-a.wav", np.zeros(RATE), RATE)
    Path("old.json").write_text(json.dumps(results()))
    args, code, reason = BAD[case]
    result = run("bench", "-q", *args)
    assert (result.code, len(result.lines), result.out) == (code, 1, b""), result.lines
    assert result.lines[0].startswith("codec: ")
    assert reason in result.lines[0]


def fake_speed(
    subject: speed.Subject, effort: speed.Effort, progress: object
) -> tuple[dict[str, Any], list[Any]]:
    assert effort == speed.QUICK
    return {name: {"setting": setting} for name, setting in subject.settings.items()}, []


def test_one_command_gives_the_report(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("librosa", "matplotlib", "PIL"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "measure", fake_speed)
    for number in range(3):
        write_clip(Path(f"clips/sounds/{number}.wav"), seed=number, rate=8000)
    command = ("bench", "clips", "-m", tiny_model_dir, "--quick", "--out", "report", "--jobs", 1)
    result = run(*command)
    assert result.code == 0, result.lines
    assert result.lines[0] == "2 of 3 clips, 1 processes"
    assert result.lines[-1] == "clips -> report/index.html"
    assert result.out.decode().startswith("sounds: means of 2 clips")
    assert "ours 1.8" in result.out.decode()
    found = store.read_results(Path("report/results.json"))
    assert found["command"] == f"codec bench clips --out report --model {tiny_model_dir} --quick"
    assert [clip["name"] for clip in found["clips"]] == ["sounds/0", "sounds/2"]
    assert [codec["settings"] for codec in found["codecs"]] == [["0.45", "1.35", "1.8"]]
    assert len(found["measurements"]) == 6
    assert found["speed"] == {"ours": {"setting": "1.8"}}
    header, *rows = Path("report/results.csv").read_text().splitlines()
    assert header.startswith("clip,kind,seconds,codec,setting,kbps,file_kbps,") and header.endswith(
        ",missing"
    )
    assert len(rows) == 6
    assert Path("report/index.html").stat().st_size > 10_000
    assert run(*command, "--compare", "report/results.json").code == 0


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from audiocodec.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_ctrl_c_ends_soon_and_says_how_to_go_on(tiny_model_dir: Path, tmp_path: Path) -> None:
    for number in range(40):
        write_clip(tmp_path / f"clips/sounds/{number}.wav", seed=number)
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        "bench",
        "clips",
        "-m",
        str(tiny_model_dir),
        "--full",
        "--jobs",
        "1",
    ]
    journal = tmp_path / "bench" / store.MEASUREMENTS
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert process.wait(30) == 130
        assert time.monotonic() - begun < 5
        assert process.stderr is not None
        last = process.stderr.read().decode().splitlines()[-1]
    assert last == "codec: interrupted; the same command goes on from what bench holds"
    assert all(json.loads(line)["clip"] for line in journal.read_text().splitlines())
