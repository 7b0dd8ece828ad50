"""What `codec bench` prints: means by kind, what has no figure, what got better or worse."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiocodec.bench.compare import Change

Row = Mapping[str, Any]

MOST_SETTINGS = 4  # of a codec; the page has all of them
FIRST_COLUMNS, COLUMN = 28, 3  # characters: codec, setting and kbps; what stands between columns


def print_means(results: Row) -> None:
    """A table for each kind on stdout, ours and the others by rate, with the metrics that the width has room for."""
    from rich.console import Console
    from rich.table import Table

    screen = Console(file=sys.stdout, highlight=False, markup=False)
    for kind in dict.fromkeys(row["kind"] for row in results["means"]):
        rows = [row for row in results["means"] if row["kind"] == kind]
        metrics = _fitting([metric for metric in results["metrics"] if kind in metric["kinds"]], screen.width)
        n_clips = max(row["n_clips"] for row in rows)
        table = Table(
            title=f"{kind}: means of {n_clips} clip{'s' * (n_clips > 1)}", title_justify="left", box=None
        )
        table.add_column("codec")
        for title in ("kbps", *map(_title, metrics)):
            table.add_column(title, justify="right")
        for codec, setting in _chosen(rows, results["codecs"]):
            found = {row["metric"]: row for row in rows if (row["codec"], row["setting"]) == (codec, setting)}
            cells = [_number(found[one["name"]]["mean"]) if one["name"] in found else "-" for one in metrics]
            kbps = next(iter(found.values()))["kbps"]
            ours = codec == results["codecs"][0]["name"]
            table.add_row(f"{codec} {setting}", f"{kbps:.2f}", *cells, style="bold" if ours else None)
        screen.print(table)


def _fitting(metrics: Sequence[Row], width: int) -> list[Row]:
    """The first metrics for whose columns there is room."""
    chosen, left = [], width - FIRST_COLUMNS
    for metric in metrics:
        left -= max(len(_title(metric)), 5) + COLUMN
        if left < 0:
            break
        chosen.append(metric)
    return chosen


def _title(metric: Row) -> str:
    """A metric's name, and whether more (+) or less (-) of it is better."""
    return f"{metric['name']} {'+' if metric['higher_is_better'] else '-'}"


def _chosen(rows: Sequence[Row], codecs: Sequence[Row]) -> list[tuple[str, str]]:
    """(codec, setting) of the table's rows by rate: some settings of each codec."""
    from audiocodec.bench.jobs import thinned

    kbps = {(row["codec"], row["setting"]): row["kbps"] for row in rows}
    chosen = [
        (codec["name"], setting)
        for codec in codecs
        for setting in thinned(
            [one for one in codec["settings"] if (codec["name"], one) in kbps], MOST_SETTINGS
        )
    ]
    return sorted(chosen, key=lambda place: kbps[place])


def _number(value: float) -> str:
    """A figure with three digits or so."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def missing_lines(results: Row) -> Iterator[str]:
    """A line for each metric and reason why it has no figure, with how many measurements it concerns."""
    counts = Counter(
        (metric, reason)
        for one in results["measurements"]
        for metric, reason in one["missing"].items()
        if metric != "codec"  # `skipped` has those
    )
    for (metric, reason), n in counts.items():
        yield f"{metric} has no figure for {n} of {len(results['measurements'])} measurements: {reason}"


def change_line(change: "Change") -> str:
    """A change in words."""
    what = f"{change.verdict}: {change.kind} at {change.setting} kbps: {change.metric} {_number(change.old)}"
    if change.new is None or change.low is None or change.high is None:
        return f"{what}, and now no figure for {change.n_lost} clips"
    how = "paired" if change.paired else "different clips"
    return (
        f"{what} -> {_number(change.new)} (95 % of the difference: {_signed(change.low)} to {_signed(change.high)}; "
        f"{change.n_clips} clips, {how})"
    )


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{_number(abs(value))}"


def changes_line(changes: "Sequence[Change]", old: Row) -> str:
    """How many changes of each sort."""
    counts = Counter(change.verdict for change in changes)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("worse", "better", "same"))
    if counts["unknown"]:
        told += f", {counts['unknown']} not judged (one clip only)"
    return f"{told}; compared with {old['data']} of {old['date']}, version {old['version']}"
