"""What a benchmark leaves on disk: measurements.jsonl while it runs, then results.json and results.csv.

measurements.jsonl has one measurement a line, appended as they finish, each under a key that names what it depends on.
So an interrupted run goes on where it was, and nothing is taken for what it is not.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from audiocodec.bench.results import Measurement
from audiocodec.errors import CodecError
from audiocodec.output import atomic_output, disk_errors

log = logging.getLogger(__name__)

MEASUREMENTS, RESULTS, TABLE = "measurements.jsonl", "results.json", "results.csv"
FORMAT = 1


def key(**facts: object) -> str:
    """The key of a measurement: a hash of the facts that its figures depend on.

    >>> key(clip="a", setting="6") == key(setting="6", clip="a") != key(clip="a", setting="3")
    True
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def file_hash(path: Path) -> str:
    """A hash of a file's bytes: another recording under the same name is another clip."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise CodecError(f"{path}: cannot be read: {error.strerror}") from error


class Journal:
    """measurements.jsonl, open for more: a context manager.

    found: what stands in it, by key. A line that a killed run left unfinished is cut off; other lines that are none
    of ours are left out, with a warning.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / MEASUREMENTS
        with disk_errors(path):
            self._file = path.open("a+b")
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            self._file.truncate(len(whole))
        self.found = dict(_entries(path, whole.splitlines()))

    def add(self, key: str, measurement: Measurement) -> None:
        """Appends a measurement; it is on disk when this returns."""
        line = json.dumps({"key": key, **asdict(measurement)}, allow_nan=False)
        with disk_errors(self._file.name):
            self._file.write(line.encode() + b"\n")
            self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _entries(path: Path, lines: Sequence[bytes]) -> Iterable[tuple[str, Measurement]]:
    """(key, measurement) of each line that has them."""
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            yield values.pop("key"), Measurement(**values)
        except (ValueError, TypeError, AttributeError, KeyError):
            log.warning("%s: line %d is no measurement, and left out", path, number)


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json, and its measurements as results.csv, a column for each metric."""
    with atomic_output(folder / RESULTS, overwrite=True) as path:
        path.write_text(json.dumps({"format": FORMAT, **results}, indent=1, allow_nan=False) + "\n", "utf-8")
    names = [metric["name"] for metric in results["metrics"]]
    coded = ("clip", "kind", "seconds", "codec", "setting", "kbps", "file_kbps")
    with (
        atomic_output(folder / TABLE, overwrite=True) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow([*coded, *names, "missing"])
        for row in results["measurements"]:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in row["missing"].items())
            figures = [row["metrics"].get(name) for name in names]
            table.writerow([*(row[name] for name in coded), *figures, reasons])


def read_results(path: Path) -> dict[str, Any]:
    """A results.json. Raises CodecError for what is none, or of another format."""
    try:
        results = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CodecError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CodecError(f"{path}: no results of codec bench: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        found = results.get("format") if isinstance(results, dict) else None
        raise CodecError(f"{path}: format {found}, expected {FORMAT}: no results of this codec bench")
    return results
