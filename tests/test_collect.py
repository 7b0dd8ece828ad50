"""recipes/default/data/collect.py: clips are cut out of packages as the list says. The packages are made here."""

import csv
import logging
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_script

DATA = Path(__file__).parent.parent / "recipes" / "default" / "data"
COLUMNS = "set,kind,clip,package,path,start,length,gap,licence,sample_rate,seconds"
VOICE, HIT = "game-1.0/voice.wav", "game-1.0/data.pk3.d/fx/hit.flac"

collect = load_script(DATA / "collect.py")


@pytest.fixture(autouse=True)
def _news_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def steps(rate: int, scale: float = 1.0) -> np.ndarray:
    """Four seconds of stereo that tell where they are from: second n has the value n / 10."""
    return np.repeat(np.arange(4) / 10 * scale, rate)[:, None].repeat(2, axis=1)


def write_files(folder: Path) -> None:
    """What the package holds: a recording, and another in an archive."""
    inside = folder / "game-1.0"
    inside.mkdir(parents=True)
    soundfile.write(inside / "voice.wav", steps(44100), 44100)
    soundfile.write(folder / "hit.flac", steps(16000, scale=-1), 16000)
    with zipfile.ZipFile(inside / "data.pk3", "w") as archive:
        archive.write(folder / "hit.flac", "fx/hit.flac")
    (folder / "hit.flac").unlink()


def write_package(folder: Path, form: str) -> None:
    """A package with the files in `folder`, as the cache keeps it."""
    files = folder.parent.with_name("files")
    write_files(files)
    folder.mkdir(parents=True)
    if form == "deb":
        (files / "DEBIAN").mkdir()
        fields = ("Package: game", "Version: 1.0", "Architecture: all", "Maintainer: x", "Description: x")
        (files / "DEBIAN" / "control").write_text("\n".join(fields) + "\n")
        subprocess.run(["dpkg-deb", "--build", files, folder / "game_1.0_all.deb"], check=True)
    else:
        with tarfile.open(folder / "game-1.0.tar.gz", "w:gz") as archive:
            archive.add(files / "game-1.0", "game-1.0")


def list_clips(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: str) -> None:
    """Puts a list in place of the real one: two packages, the clips of `rows`."""
    (folder / "clips.csv").write_text("\n".join([COLUMNS, *rows, ""]))
    (folder / "packages.csv").write_text(
        "package,client,version,megabytes\ngame,pip,1.0,1\nlost,apt-get,2-1,1\n"
    )
    monkeypatch.setattr(collect, "HERE", folder)


def collected(folder: Path, *options: str) -> int:
    """The exit code of a run whose packages are in the folder's cache."""
    code: int = collect.main([str(folder / "out"), "--cache", str(folder / "cache"), *options])
    return code


def files_below(folder: Path) -> list[str]:
    """Everything there, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


JOINED = f"train,sounds,both,game,{VOICE}+{HIT},1+2.5,0.5+0.25,0+0.125,MIT,44100,0.88"
SPOKEN = f"valid,speech,spoken,game,{VOICE},2,1,0,MIT,44100,1.0"
LOST = "train,music,gone,lost,song.ogg,0,1,0,MIT,44100,1.0"


@pytest.mark.parametrize("form", ["tar.gz", "deb"])
def test_pieces_are_cut_mixed_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    if form == "deb" and not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    write_package(tmp_path / "cache" / "game", form)
    list_clips(tmp_path, monkeypatch, JOINED)
    assert collected(tmp_path) == 0
    clip = tmp_path / "out" / "train" / "sounds" / "both.flac"
    facts = soundfile.info(clip)
    assert (facts.samplerate, facts.channels, facts.subtype) == (24000, 1, "PCM_16")
    samples, _ = soundfile.read(clip)
    assert len(samples) == 21000  # .5 + .125 + .25 s
    edge = 100  # where the resampler meets the cut
    assert samples[edge : 12000 - edge] == pytest.approx(0.1, abs=1e-3)
    assert not samples[12000:15000].any()
    assert samples[15000 + edge : -edge] == pytest.approx(-0.2, abs=1e-3)


def test_a_second_run_makes_what_is_missing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_package(tmp_path / "cache" / "game", "tar.gz")
    list_clips(tmp_path, monkeypatch, JOINED, SPOKEN)
    assert collected(tmp_path, "--only", "valid") == 0
    kept = tmp_path / "out" / "valid" / "speech" / "spoken.flac"
    kept.write_bytes(b"as it was")
    assert collected(tmp_path) == 0
    assert "2 clips: 1 written, 1 already there, 0 missing" in caplog.text
    assert kept.read_bytes() == b"as it was"
    assert files_below(tmp_path / "out") == ["train/sounds/both.flac", "valid/speech/spoken.flac"]


def test_what_is_missing_is_named_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(command: Sequence[str], folder: Path | None = None) -> None:
        (folder or tmp_path).joinpath("half").touch()
        raise collect.Missing(f"{command[0]} failed: no such package")

    monkeypatch.setattr(collect, "run", refuse)
    write_package(tmp_path / "cache" / "game", "tar.gz")
    absent = SPOKEN.replace("voice", "other")
    too_long = SPOKEN.replace(",2,1,", ",2,3,").replace("spoken", "long")
    list_clips(tmp_path, monkeypatch, JOINED, LOST, absent, too_long)
    assert collected(tmp_path) == 1
    assert "4 clips: 1 written, 0 already there, 3 missing" in caplog.text
    assert "1 missing of lost, the first because: apt-get failed: no such package" in caplog.text
    assert "game-1.0/other.wav is not in the package" in caplog.text
    assert "game-1.0/voice.wav ends before 5.00 s" in caplog.text
    assert files_below(tmp_path / "out") == ["train/sounds/both.flac"]
    assert files_below(tmp_path / "cache") == ["game/game-1.0.tar.gz"]


def test_another_version_is_taken_when_the_listed_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def has_no_old_version(command: Sequence[str], folder: Path | None = None) -> None:
        if command[-1] == "game==1.0":
            raise collect.Missing("pip failed: no matching distribution")
        assert command[-1] == "game" and folder is not None
        write_package(tmp_path / "made" / "game", "tar.gz")
        shutil.copy(tmp_path / "made" / "game" / "game-1.0.tar.gz", folder)

    monkeypatch.setattr(collect, "run", has_no_old_version)
    list_clips(tmp_path, monkeypatch, SPOKEN)
    assert collected(tmp_path) == 0
    assert "game: no version 1.0" in caplog.text
    assert files_below(tmp_path / "cache") == ["game/game-1.0.tar.gz"]


def test_channels_that_cancel_give_the_louder_one() -> None:
    left = np.sin(np.arange(1000, dtype=np.float32))
    assert np.array_equal(collect.mix(np.stack([left, -0.9 * left], axis=1)), left)
    assert np.allclose(collect.mix(np.stack([left, 0.5 * left], axis=1)), 0.75 * left)


def test_the_list_is_whole() -> None:
    clips = collect.read_clips(DATA / "clips.csv")
    packages = collect.read_packages(DATA / "packages.csv")
    assert len({clip.file for clip in clips}) == len(clips)
    assert {clip.package for clip in clips} == set(packages)
    with (DATA / "clips.csv").open(newline="") as lines:
        for row, clip in zip(csv.DictReader(lines), clips, strict=True):
            seconds = sum(piece.length + piece.gap for piece in clip.pieces)
            assert seconds == pytest.approx(float(row["seconds"]), abs=0.006), clip.file
            assert row["licence"], clip.file
