"""`codec bench`: how good is it on my audio, against others?"""

import datetime
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiocodec.cli.bench_tables import change_line, changes_line, missing_lines, print_means
from audiocodec.cli.console import Console, clock
from audiocodec.cli.exits import FAILED, INTERRUPTED, UsageError
from audiocodec.cli.options import Quiet, console_of
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from audiocodec.bench.equipment import Equip
    from audiocodec.bench.results import Clip
    from audiocodec.bench.sweep import Progress, Sweep

USAGE = "[DIR] [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec bench clips/ --against opus,lc3,codec2 --out report/
  codec bench clips/ --quick --compare old/results.json
"""
OUT = Path("bench")
CLIPS_PER_KIND, QUICK_CLIPS_PER_KIND, QUICK_SETTINGS = 5, 2, 3
TIMED_KBPS = 6.0  # each codec is timed at its setting that is nearest


@dataclass(frozen=True)
class Wishes:
    """What the options say about a run. model: None for the default one."""

    folder: Path
    out: Path
    against: tuple[str, ...]
    model: str | None
    kinds: Path | None
    ratings: Path | None
    quick: bool
    full: bool
    n_workers: int


def run(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", hidden=True)] = None,
    *,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="CODEC,...",
            help="Others: vbr, opus, lc3, codec2, amrwb, speex, mp3, vorbis, aac, lyra:DIR, decoded:DIR@KBPS, "
            "ours:MODEL.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The report's folder.")] = OUT,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="NAME|DIR", help="Another model than the default one."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="2 clips a kind, fast metrics, 3 settings of each codec.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All clips, not 5 of each kind.")] = False,
    kinds: Annotated[
        Path | None, typer.Option("--kinds", metavar="CSV", help="Table of the clips' kinds: clip,kind.")
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option("--ratings", metavar="CSV", help="Listeners' scores, to correlate metrics with."),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OLD.json", help="Exit 1 if worse than these results."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Processes.  [default: all cores]")
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Measure quality, speed and cost, and write a report.

    DIR has clips of speech, music and sounds: in sub-folders of these names, or named speech-*.wav and so on. The
    report is index.html in --out. An interrupted run goes on with the same command. Without DIR,
    --compare judges the results in --out.
    """
    console = console_of(context, quiet=quiet)
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected 1 or more")
    if quick and full:
        raise UsageError("--quick and --full cannot both be: give one of them")
    if folder is None and old is None:
        raise UsageError("DIR is missing: a folder of clips (or --compare, to judge the results in --out)")
    from audiocodec.bench import store
    from audiocodec.pool import n_cores

    before = None if old is None else store.read_results(old)
    if folder is None:
        results = store.read_results(out / store.RESULTS)
    else:
        names = tuple(name.strip() for part in against or () for name in part.split(",") if name.strip())
        n_workers = jobs or n_cores()
        wishes = Wishes(folder, out, names, model, kinds, ratings, quick, full, n_workers)
        try:
            results = _measure(wishes, console)
        except KeyboardInterrupt:
            console.fail(f"interrupted; the same command goes on from what {out} holds")
            return INTERRUPTED
        _show(results, console)
    return 0 if before is None else _judge(before, results)


def _measure(wishes: Wishes, console: Console) -> dict[str, Any]:
    """All that is measured, as in results.json; writes the report."""
    from audiocodec import __version__
    from audiocodec.bench import machine, ratings, report, store, sweep
    from audiocodec.bench.equipment import equip

    clips = _clips(wishes, console)
    wishes.out.mkdir(parents=True, exist_ok=True)
    equip_all = partial(equip, wishes.model, wishes.against, quick=wishes.quick)
    found = sweep.run(
        clips,
        wishes.out,
        equip_all,
        most_settings=QUICK_SETTINGS if wishes.quick else None,
        n_workers=wishes.n_workers,
        progress=lambda progress: console.tick(_line(progress)),
    )
    rated = wishes.ratings and ratings.correlations(found.measurements, wishes.ratings)
    speeds, growth = _speed(wishes, found, equip_all, console)
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "version": __version__,
        "commit": machine.commit(),
        "machine": machine.facts(),
        "data": wishes.folder.resolve().name,
        "command": _command(wishes),
        **sweep.summary(found),
        "speed": speeds,
        "growth": growth,
        "correlations": rated,
    }
    store.write_results(wishes.out, results)
    console.tick("writing the report")
    console.say(f"{wishes.folder} -> {report.build(wishes.out)}")
    return results


def _clips(wishes: Wishes, console: Console) -> "list[Clip]":
    """The clips to measure on."""
    from audiocodec.bench.clips import choose, find_clips

    if wishes.ratings is not None and not wishes.ratings.is_file():
        raise CodecError(f"{wishes.ratings} does not exist: expected a table of listeners' scores")
    found = find_clips(wishes.folder, wishes.kinds)
    per_kind = QUICK_CLIPS_PER_KIND if wishes.quick else CLIPS_PER_KIND
    clips = found if wishes.full else choose(found, per_kind)
    console.say(f"{len(clips)} of {len(found)} clips, {wishes.n_workers} processes")
    return clips


def _speed(
    wishes: Wishes, found: "Sweep", equip: "Equip", console: Console
) -> tuple[dict[str, Any], list[Any]]:
    """Speed and cost of each codec that coded anything, at its setting nearest to TIMED_KBPS."""
    from audiocodec.bench import speed
    from audiocodec.bench.results import KINDS
    from audiocodec.model.catalogue import DEFAULT_MODEL

    nearest: dict[str, tuple[float, str]] = {}
    for one in found.measurements:
        if one.kbps is not None and one.file_kbps is not None:  # what was decoded elsewhere has no file
            distance = abs(one.kbps - TIMED_KBPS)
            nearest[one.codec] = min(nearest.get(one.codec, (distance, one.setting)), (distance, one.setting))
    settings = {
        codec.name: nearest[codec.name][1] for codec in found.equipment.competitors if codec.name in nearest
    }
    if found.equipment.competitors[0].name not in settings:  # ours failed on all clips
        return {}, []
    clip = min((one.clip for one in found.recordings), key=lambda clip: KINDS.index(clip.kind))
    subject = speed.Subject(clip, wishes.model or DEFAULT_MODEL, settings, equip, wishes.out)
    effort = speed.QUICK if wishes.quick else speed.THOROUGH
    return speed.measure(subject, effort, lambda what: console.tick(f"speed: {what}"))


def _line(progress: "Progress") -> str:
    """Where a sweep stands, in one line."""
    failed = f"  {progress.n_failed} failed" if progress.n_failed else ""
    left = "" if progress.seconds_left is None else f"  {clock(progress.seconds_left)} left"
    return f"{progress.n_done}/{progress.n_jobs} measured{failed}{left}"


def _command(wishes: Wishes) -> str:
    """The command line that asks for the same."""
    options = {
        "--against": ",".join(wishes.against),
        "--model": wishes.model,
        "--kinds": wishes.kinds,
        "--ratings": wishes.ratings,
    }
    words = ["codec", "bench", str(wishes.folder), "--out", str(wishes.out)]
    words += [word for name, value in options.items() if value for word in (name, str(value))]
    words += ["--quick"] * wishes.quick + ["--full"] * wishes.full
    return shlex.join(words)


def _show(results: dict[str, Any], console: Console) -> None:
    """The means as tables on stdout; what was left out."""
    for line in results["skipped"]:
        console.warn(line)
    for line in missing_lines(results):
        console.warn(line)
    if not console.quiet:
        print_means(results)


def _judge(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Says what got better or worse; the exit code."""
    from audiocodec.bench.compare import compare

    changes = compare(old, new)
    for change in changes:
        if change.verdict in ("better", "worse"):
            print(change_line(change))
    print(changes_line(changes, old))
    return FAILED if any(change.verdict == "worse" for change in changes) else 0
