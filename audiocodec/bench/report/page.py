"""The page: reads `results.json`, fills `page.html`."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from audiocodec.bench import store
from audiocodec.bench.report import plots, tables
from audiocodec.bench.report.listening import PLAYED_SECONDS, RANGE_DB, TOP_HZ, listening
from audiocodec.bench.report.plots import Series
from audiocodec.bench.results import KINDS, Mean, Unavailable
from audiocodec.output import atomic_output

HERE = Path(__file__).resolve().parent
N_FIRST_PLOTS = 9  # of each kind, in the metrics' order; the others unfold


def build(out: Path) -> Path:
    """Writes `index.html` and `plots/KIND-METRIC.png` into the folder of a benchmark; returns the page's path.

    Reads `results.json` and, for the clips to listen to, `audio/`. The page is self-contained: it opens from disk and
    fetches nothing. It grows with its audio, some 37 kB for each second of a track (`listening` has the arithmetic and
    the limit); without audio it has some 25 kB for each plot. What was not measured is not there.
    Raises CodecError where the results cannot be read, Unavailable where matplotlib is missing.
    """
    if find_spec("matplotlib") is None:  # it brings Pillow, too
        raise Unavailable("the report needs matplotlib: pip install 'audiocodec[bench]'")
    results = store.read_results(out / store.RESULTS)
    series = plots.all_series([codec["name"] for codec in results["codecs"]])
    sections = list(_sections(results, out, series))
    kinds = sorted({clip["kind"] for clip in results["clips"]}, key=KINDS.index)
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        data=escape(results["data"]),
        summary=escape(f"{len(results['clips'])} clips of {', '.join(kinds)}; {len(series)} codecs"),
        facts=_facts(results),
        contents="".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections),
        sections="".join(
            f'<section id="{key}"><h2>{escape(title)}</h2>{body}</section>' for key, title, body in sections
        ),
    )
    path = out / "index.html"
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _sections(results: dict[str, Any], out: Path, series: Sequence[Series]) -> Iterator[tuple[str, str, str]]:
    """(id, title, HTML) of every part that there are figures for."""
    means = [Mean(**row) for row in results["means"] if row["mean"] is not None]
    for kind in KINDS:
        body = _quality(kind, results["metrics"], [mean for mean in means if mean.kind == kind], series, out)
        if body:
            yield kind, kind.capitalize(), body
    clips, left_out = listening(results, out / "audio", series)
    if clips:
        yield "listening", "Listening", _listening(clips, left_out)
        yield "abx", "Blind A/B/X test", (HERE / "abx.html").read_text(encoding="utf-8")
    if results.get("speed"):
        yield "speed", "Speed and cost", _speed(results, series)
    if results.get("correlations"):
        yield "listeners", "Metrics against listeners", _correlations(results)
    missing = tables.missing_table(results["measurements"], results["metrics"])
    if missing:
        yield "missing", "Left out", missing


def _facts(results: dict[str, Any]) -> str:
    """What was measured, when and where, as a `<dl>`'s rows; each codec's description, and what was skipped."""
    machine = results["machine"]
    seconds = {kind: [c["seconds"] for c in results["clips"] if c["kind"] == kind] for kind in KINDS}
    clips = "; ".join(
        f"{len(lengths)} {kind} ({tables.duration(sum(lengths))})"
        for kind, lengths in seconds.items()
        if lengths
    )
    commit = f", commit {results['commit']}" if results.get("commit") else ""
    rows = {
        "measured": escape(f"{results['date']}, version {results['version']}{commit}"),
        "machine": escape(
            f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {machine['platform']}"
        ),
        "command": f"<code>{escape(results['command'])}</code>",
        "clips": escape(clips),
        "codecs": _lines(f"{codec['name']}: {codec['about']}" for codec in results["codecs"]),
        "packages": escape(", ".join(f"{name} {v}" for name, v in machine.get("versions", {}).items())),
        "skipped": _lines(results["skipped"]),
    }
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items() if value)


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(escape(text) for text in texts)


def _quality(
    kind: str, metrics: Sequence[dict[str, Any]], means: Sequence[Mean], series: Sequence[Series], out: Path
) -> str:
    """Legend, plots and table of a kind; empty without figures."""
    measured = [metric for metric in metrics if any(mean.metric == metric["name"] for mean in means)]
    if not measured:
        return ""
    pictures = []
    (out / "plots").mkdir(exist_ok=True)
    for metric in measured:
        chosen = [mean for mean in means if mean.metric == metric["name"]]
        pictures.append(_plot(kind, metric, chosen, series, out / "plots"))
    present = [one for one in series if any(mean.codec == one.codec for mean in means)]
    chips = "".join(_chip(one) for one in present)
    first, more = "".join(pictures[:N_FIRST_PLOTS]), "".join(pictures[N_FIRST_PLOTS:])
    unfold = (
        f'<details><summary>More metrics</summary><div class="plots">{more}</div></details>' if more else ""
    )
    return (
        f'<div class="legend" role="group" aria-label="Show one codec beside ours">{chips}</div>'
        f'<div class="plots">{first}</div>{unfold}{tables.quality_table(kind, measured, means, series)}'
    )


def _plot(
    kind: str, metric: dict[str, Any], means: Sequence[Mean], series: Sequence[Series], folder: Path
) -> str:
    name = f"{kind}-{metric['name']}"
    figure = plots.draw(metric, kind, means, series)
    svg = plots.to_svg(figure, name)
    plots.save_png(figure, folder / f"{name}.png")
    label = f"{metric['title']} of {kind} over payload kbps; the table below has the figures"
    return f'<figure class="plot" role="img" aria-label="{escape(label)}">{svg}</figure>'


def _chip(one: Series) -> str:
    return (
        f'<button type="button" class="chip" aria-pressed="false" data-codec="{one.number}">'
        f"{plots.symbol(one)}{escape(one.codec)}</button>"
    )


def _listening(clips: Sequence[str], left_out: Sequence[str]) -> str:
    note = (
        f"The first {PLAYED_SECONDS:g} s of each clip, at 24 kHz. Another player goes on where the last one of the "
        f"clip stopped; a click on a picture plays from there, arrow keys on a player's button step by a second. "
        f"Pictures: 0 to {TOP_HZ // 1000} kHz upwards, {RANGE_DB:g} dB from dark to bright, alike for all of a clip."
    )
    if left_out:
        note += f" Not on this page, to keep it small, but in audio/: {escape(', '.join(left_out))}."
    return f'<p class="quiet">{note}</p>{"".join(clips)}'


def _speed(results: dict[str, Any], series: Sequence[Series]) -> str:
    body = tables.speed_table(results["speed"], series)
    if results.get("growth"):
        body += tables.growth_table(results["growth"])
    return body


def _correlations(results: dict[str, Any]) -> str:
    note = (
        "How each metric goes along with listeners' mean scores, over clips and systems. A score should be near +1, a "
        "distance near -1; what is near 0 says little about how these codecs sound."
    )
    return (
        f'<p class="quiet">{note}</p>{tables.correlation_table(results["correlations"], results["metrics"])}'
    )
