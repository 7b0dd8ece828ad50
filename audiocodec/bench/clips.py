"""The recordings to measure on: finding them, telling their kind, choosing an even subset, reading them."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from audiocodec.audio import AudioReader
from audiocodec.bench.results import KINDS, Clip, Floats
from audiocodec.errors import AudioError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
READ_SAMPLES = 1 << 18


def find_clips(folder: Path, kinds_csv: Path | None = None) -> list[Clip]:
    """Every recording below a folder, by name, each with its kind.

    The kind is what kinds_csv (a table with the columns clip and kind) says, or else the name of a sub-folder
    (`speech/a.wav`), or else how the file's name begins (`speech-a.wav`).
    Raises AudioError where there is no audio, where a clip has no kind, where two clips differ by their suffix
    only, and for a table that cannot be used.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder: expected one with audio files in it")
    paths = sorted(path for path in folder.rglob("*") if names_audio(path) and path.is_file())
    if not paths:
        raise AudioError(f"{folder}: no audio in it: expected files with {' '.join(sorted(AUDIO_SUFFIXES))}")
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
    if len(named) < len(paths):
        twice = next(path for path in paths if path not in named.values())
        raise AudioError(f"{twice}: another file differs from it by its suffix only: rename one of them")
    told = {} if kinds_csv is None else _read_kinds(kinds_csv, named)
    return [Clip(name, told.get(name) or _kind(path, folder), path) for name, path in named.items()]


def names_audio(path: PurePath) -> bool:
    """Whether it is an audio file by its suffix; hidden files are none (macOS writes `._a.wav` beside `a.wav`)."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def kind_of(path: PurePath) -> str | None:
    """The kind that a clip's place (the nearest folder or archive of such a name) or name tells; None if neither does.

    >>> kind_of(PurePath("music/speech.tar/a.wav")), kind_of(PurePath("clips/sounds-bell.wav"))
    ('speech', 'sounds')
    """
    folders = [folder.lower().removesuffix(".tar") for folder in path.parts[:-1]]
    places = (*reversed(folders), path.stem.lower().partition("-")[0])
    return next((place for place in places if place in KINDS), None)


def _kind(path: Path, folder: Path) -> str:
    """The kind that a clip's place in the folder, or its name tells. Raises AudioError where they tell none."""
    if kind := kind_of(path.relative_to(folder)):
        return kind
    last = path.stem
    raise AudioError(
        f"{path.with_suffix('')}: is it {', '.join(KINDS[:-1])} or {KINDS[-1]}? Tell by a sub-folder of that name "
        f"({KINDS[0]}/{last}), by how the file's name begins ({KINDS[0]}-{last}), or by a CSV file with the "
        "columns clip and kind"
    )


def _read_kinds(table: Path, names: dict[str, Path]) -> dict[str, str]:
    """The kinds in a CSV file; its clips are named relative to the folder, with or without their suffix."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AudioError(f"{table}: cannot be read as CSV: {error}") from error
    kinds = {}
    for line, row in enumerate(rows, start=2):
        if not row.get("clip") or row.get("kind") not in KINDS:
            raise AudioError(f"{table}, line {line}: expected clip,kind, the kind one of {', '.join(KINDS)}")
        path = Path(row["clip"])
        name = path.with_suffix("").as_posix() if path.suffix.lower() in AUDIO_SUFFIXES else path.as_posix()
        if name not in names:
            raise AudioError(f"{table}, line {line}: there is no clip {row['clip']} in the folder")
        kinds[name] = row["kind"]
    return kinds


def choose(clips: Sequence[Clip], per_kind: int) -> list[Clip]:
    """At most per_kind clips of each kind, evenly spaced in the list's order: the same ones every time."""
    if per_kind < 1:
        raise ValueError(f"{per_kind} clips a kind: expected at least 1")
    chosen = []
    for kind in KINDS:
        group = [clip for clip in clips if clip.kind == kind]
        places = np.linspace(0, len(group) - 1, min(per_kind, len(group))).round().astype(int)
        chosen += [group[place] for place in places]
    return chosen


def load(clip: Clip) -> tuple[Floats, int]:
    """A clip's audio [T] float32, the mean of its channels, and its sample rate in Hz.

    Raises AudioError where it cannot be read, and where it holds no samples.
    """
    with AudioReader(clip.path) as reader:
        blocks = [block.mean(axis=1, dtype=np.float32) for block in reader.blocks(READ_SAMPLES)]
        sample_rate = reader.sample_rate
    if not blocks:
        raise AudioError(f"{clip.path} holds no samples: expected a recording")
    return np.concatenate(blocks), sample_rate
