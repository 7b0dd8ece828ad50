"""Gathers the clips that the shipped model was trained and validated on.

    python recipes/default/data/collect.py OUT
    python recipes/default/data/collect.py OUT --only valid
    python recipes/default/data/collect.py OUT --packages qabcs-data krank --cache DOWNLOADS

Fetches the packages of packages.csv with the ordinary clients (apt-get, pip), opens them without installing anything,
cuts the clips of clips.csv and writes them as OUT/{train,valid}/{speech,music,sounds}/*.flac: 24 kHz, mono, 16 bit.
Clips that are there are kept, so the command can be given again after an interruption. README.md says what it needs.
"""

import argparse
import csv
import logging
import math
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from audiocodec.output import atomic_output

HERE = Path(__file__).parent
SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
KINDS = ("speech", "music", "sounds")
RATE = 24000
ROUNDING = 0.001  # seconds that a file may be shorter than clips.csv says
LONGEST = 400  # seconds of a tracker module: some repeat without end
PEAK = 0.99  # what is louder is turned down to it
CANCELLED = 0.2  # of the loudest channel's power: a mix below it has lost the sound that the channels shared
NESTED = ".d/"  # in a path: what stands before it is an archive inside the package
FFMPEG_SUFFIXES = {".g722", ".xm", ".it"}
MIDI_SUFFIXES = {".mid", ".midi"}

Floats = NDArray[np.float32]
log = logging.getLogger("collect")


class Missing(Exception):
    """Why clips cannot be made: what was found, what was expected, what to do."""


@dataclass(frozen=True)
class Package:
    """Where recordings come from. client: the program that fetches it."""

    name: str
    client: str
    version: str


@dataclass(frozen=True)
class Piece:
    """A stretch of a file in a package; times in seconds. gap: the silence before it in the clip."""

    path: str
    start: float
    length: float
    gap: float


@dataclass(frozen=True)
class Clip:
    """One or more pieces, one after the other. file: set/kind/name.flac."""

    file: Path
    package: str
    pieces: tuple[Piece, ...]


def main(args: Sequence[str] | None = None) -> int:
    """Writes the clips that are asked for and not there yet; 1 when any of them is missing at the end."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    packages = read_packages(HERE / "packages.csv")
    options = arguments(packages).parse_args(args)
    clips = [clip for clip in read_clips(HERE / "clips.csv") if is_wanted(clip, options)]
    todo: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if not (options.out / clip.file).exists():
            todo[clip.package].append(clip)
    for folder in filter(None, (options.out, options.cache)):
        folder.mkdir(parents=True, exist_ok=True)
    missing: dict[str, list[str]] = {}
    for number, (name, part) in enumerate(sorted(todo.items()), 1):
        log.info("[%d/%d] %s: %d clips", number, len(todo), name, len(part))
        missing[name] = collect_package(packages[name], part, options)
    return report(len(clips), sum(map(len, todo.values())), missing)


def report(n_clips: int, n_todo: int, missing: dict[str, list[str]]) -> int:
    """Says what there is now and what not; 1 when anything is missing. missing: reasons by package."""
    n_missing = sum(map(len, missing.values()))
    written, kept = n_todo - n_missing, n_clips - n_todo
    log.info("%d clips: %d written, %d already there, %d missing", n_clips, written, kept, n_missing)
    for name, reasons in missing.items():
        if reasons:
            log.warning("%d missing of %s, the first because: %s", len(reasons), name, reasons[0])
    return 1 if n_missing else 0


def arguments(packages: Iterable[str]) -> argparse.ArgumentParser:
    """The options."""
    lines_stay = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=lines_stay)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder of the clips; made when it is not there")
    add("--only", choices=("train", "valid"), help="one set instead of both")
    add("--kinds", nargs="+", choices=KINDS, default=KINDS, help="instead of all three")
    add(
        "--packages", nargs="+", metavar="NAME", choices=sorted(packages), help="only clips of these packages"
    )
    add("--cache", type=Path, metavar="DIR", help="keeps the packages, for another run")
    add("--sound-font", type=Path, default=SOUND_FONT, help="for MIDI files (default: %(default)s)")
    return parser


def is_wanted(clip: Clip, options: argparse.Namespace) -> bool:
    """Whether the options leave the clip in."""
    set_name, kind, _ = clip.file.parts
    is_in = kind in options.kinds and clip.package in (options.packages or [clip.package])
    return is_in and set_name == (options.only or set_name)


def read_clips(table: Path) -> list[Clip]:
    """The rows of clips.csv."""
    with table.open(newline="", encoding="utf-8") as lines:
        return [clip_of(row) for row in csv.DictReader(lines)]


def clip_of(row: dict[str, str]) -> Clip:
    """A row of clips.csv. What each piece has of its own is joined by plus signs."""
    columns = (row[name].split("+") for name in ("path", "start", "length", "gap"))
    pieces = tuple(Piece(path, *map(float, times)) for path, *times in zip(*columns, strict=True))
    return Clip(Path(row["set"], row["kind"], f"{row['clip']}.flac"), row["package"], pieces)


def read_packages(table: Path) -> dict[str, Package]:
    """The rows of packages.csv by name."""
    with table.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        return {row["package"]: Package(row["package"], row["client"], row["version"]) for row in rows}


def collect_package(package: Package, clips: Sequence[Clip], options: argparse.Namespace) -> list[str]:
    """Writes clips of one package; why the others are missing."""
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=options.out) as scratch:
        folder = Path(scratch, "files")
        try:
            archive = fetch(package, options.cache or Path(scratch))
            unpack(archive, folder)
            unpack_nested(folder, {piece.path for clip in clips for piece in clip.pieces})
        except Missing as reason:
            log.warning("%s: %s", package.name, reason)
            return [str(reason)] * len(clips)
        reasons = []
        for clip in clips:
            try:
                write_clip(options.out / clip.file, cut_clip(clip, folder, options.sound_font))
            except Missing as reason:
                log.warning("%s: %s", clip.file, reason)
                reasons.append(str(reason))
        return reasons


def fetch(package: Package, folder: Path) -> Path:
    """The file of a package in a folder of its own in `folder`, downloaded when it is not there."""
    kept = folder / package.name
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            fresh = Path(scratch, package.name)
            fresh.mkdir()
            download(package, fresh)
            fresh.rename(kept)  # only when whole: what was broken off is not taken for the package
    return next(kept.iterdir())


def download(package: Package, folder: Path) -> None:
    """Puts the package's file into `folder`: the version of packages.csv, or another where there is none."""
    try:
        run(download_command(package, exact=True), folder)
    except Missing:
        run(download_command(package, exact=False), folder)
        log.warning("%s: no version %s there, took another: clips may differ", package.name, package.version)


def download_command(package: Package, *, exact: bool) -> list[str]:
    """What fetches the package into the folder where it runs."""
    if package.client == "apt-get":
        return ["apt-get", "download", "-q", f"{package.name}={package.version}" if exact else package.name]
    # a source distribution: wheels leave the recordings out
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package.name]
    return [*pip, f"{package.name}=={package.version}" if exact else package.name]


def unpack(archive: Path, folder: Path) -> None:
    """All files of a package, without installing it."""
    if archive.suffix == ".deb":
        run(["dpkg-deb", "-x", str(archive), str(folder)])
        return
    try:
        shutil.unpack_archive(archive, folder, filter="data")
    except (shutil.ReadError, tarfile.TarError, OSError) as error:
        raise Missing(f"{archive} cannot be unpacked ({error}): delete it and run this again") from error


def unpack_nested(folder: Path, paths: Iterable[str]) -> None:
    """Those of the paths that lie in an archive inside the package: x.pk3.d/sound.ogg is sound.ogg in x.pk3."""
    for outer in {path.partition(NESTED)[0] for path in paths if NESTED in path}:
        if zipfile.is_zipfile(folder / outer):
            with zipfile.ZipFile(folder / outer) as archive:
                inside = {path.removeprefix(outer + NESTED) for path in paths}
                archive.extractall(folder / (outer + NESTED), inside & set(archive.namelist()))


def cut_clip(clip: Clip, folder: Path, sound_font: Path) -> Floats:
    """The samples of a clip whose package is unpacked in `folder`."""
    parts: list[Floats] = []
    for piece in clip.pieces:
        parts += [np.zeros(round(piece.gap * RATE), np.float32), cut_piece(piece, folder, sound_font)]
    samples = np.concatenate(parts)
    return samples * np.float32(PEAK / max(PEAK, float(np.abs(samples).max())))


def cut_piece(piece: Piece, folder: Path, sound_font: Path) -> Floats:
    """A stretch of a file, mixed and resampled."""
    file = folder / piece.path
    if not file.is_file():
        raise Missing(f"{piece.path} is not in the package: this version of it cannot give the clip")
    try:
        with soundfile.SoundFile(readable(file, sound_font)) as stream:
            rate = stream.samplerate
            stream.seek(round(piece.start * rate))
            frames = stream.read(math.ceil(piece.length * rate), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Missing(f"{piece.path} cannot be read at {piece.start} s: {error}") from error
    if len(frames) < (piece.length - ROUNDING) * rate:
        end = piece.start + piece.length
        raise Missing(
            f"{piece.path} ends before {end:.2f} s: this version of the package cannot give the clip"
        )
    n_samples = round(piece.length * RATE)
    samples = soxr.resample(mix(frames), rate, RATE, quality="HQ")[:n_samples]
    return np.pad(samples, (0, n_samples - len(samples)))


def readable(file: Path, sound_font: Path) -> Path:
    """A file that libsndfile reads: this one, or what ffmpeg or fluidsynth makes of it, beside it."""
    suffix = file.suffix.lower()
    if suffix not in FFMPEG_SUFFIXES | MIDI_SUFFIXES:
        return file
    wav, part = file.with_name(file.name + ".wav"), file.with_name(file.name + ".part.wav")
    if not wav.exists():
        if suffix in MIDI_SUFFIXES and not sound_font.is_file():
            raise Missing(f"no sound font {sound_font}: install fluid-soundfont-gm or give --sound-font")
        ffmpeg = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(file), "-t", str(LONGEST), str(part)]
        fluidsynth = ["fluidsynth", "-ni", "-g", "0.7", "-r", "44100", "-F", str(part)]
        run([*fluidsynth, str(sound_font), str(file)] if suffix in MIDI_SUFFIXES else ffmpeg)
        if not part.exists():  # fluidsynth ends well even so
            raise Missing(f"fluidsynth made nothing of {file.name}: is {sound_font} a sound font?")
        part.rename(wav)
    return wav


def mix(frames: Floats) -> Floats:
    """One channel of many: their mean, or the loudest where they cancel each other."""
    mean = frames.mean(axis=1)
    powers = np.square(frames).mean(axis=0)
    is_cancelled = np.square(mean).mean() <= CANCELLED * powers.max()
    return np.ascontiguousarray(frames[:, powers.argmax()] if is_cancelled else mean)


def write_clip(target: Path, samples: Floats) -> None:
    """A FLAC file that is whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(target, overwrite=True) as temporary:
        soundfile.write(temporary, samples, RATE, format="FLAC", subtype="PCM_16")


def run(command: Sequence[str], folder: Path | None = None) -> None:
    """Runs a program, in `folder` if given; Missing, with what it said last, when it fails or is not installed."""
    try:
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed: README.md lists what is needed") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).decode(errors="replace").strip().splitlines()
        raise Missing(f"{command[0]} failed: {said[-1] if said else error}") from error


if __name__ == "__main__":
    sys.exit(main())
