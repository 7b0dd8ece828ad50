"""The tables of the report, as HTML: quality by kind, speed, growth, listeners, and what is missing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from audiocodec.bench.report.plots import Series, symbol
from audiocodec.bench.results import Mean

# Rates in kbps up to which codecs are held against each other: a best value over all rates would only name the
# highest rate. Settings in a band still differ by a few tenths of a kbps, which the table shows.
BANDS = (1.6, 3.5, 7.0, 13.0, 17.0, float("inf"))

SPEED_COLUMNS = (
    ("encode_x_real_time", "encode, x real time ↑", 1),
    ("decode_x_real_time", "decode, x real time ↑", 1),
    ("start_up_seconds", "start-up, s ↓", 2),
    ("peak_mb", "peak memory, MB ↓", 0),
    ("latency_ms", "latency, ms ↓", 1),
    ("live_latency_ms", "live latency, ms ↓", 1),
    ("model_mb", "model, MB ↓", 1),
)
GROWTH_COLUMNS = (
    ("encode_cpu_seconds", "encode, CPU s", 2),
    ("decode_cpu_seconds", "decode, CPU s", 2),
    ("peak_mb", "peak memory, MB", 0),
)


def table(caption: str, head: Sequence[str], bodies: Iterable[str], css_class: str = "") -> str:
    """A `<table>` in a box that scrolls. caption, head: text; bodies: HTML of each `<tbody>`."""
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table class="{css_class}">'
        f"<caption>{label}</caption><thead><tr>{cells}</tr></thead>{''.join(bodies)}</table></div>"
    )


def quality_table(
    kind: str, metrics: Sequence[dict[str, Any]], means: Sequence[Mean], series: Sequence[Series]
) -> str:
    """Rows of codec and setting by kbps in bands of rates, columns of metrics, best values of each band marked."""
    head = ["codec, setting", "kbps", *(_metric_title(metric) for metric in metrics)]
    decimals = [_decimals([m.mean for m in means if m.metric == metric["name"]]) for metric in metrics]
    rows: dict[tuple[str, str], dict[str, Mean]] = {}
    for mean in means:
        rows.setdefault((mean.codec, mean.setting), {})[mean.metric] = mean
    # a metric may be missing for some clips: the rate is that over most
    kbps = {key: max(row.values(), key=lambda mean: mean.n_clips).kbps for key, row in rows.items()}
    looks = {one.codec: one for one in series}
    bodies = []
    for low, high in zip((0.0, *BANDS), BANDS, strict=False):
        keys = sorted((key for key in rows if low < kbps[key] <= high), key=lambda key: kbps[key])
        if not keys:
            continue
        band = [rows[key] for key in keys]
        lines = [
            f'<tr class="band"><th scope="rowgroup" colspan="{len(head)}">{_band_name(low, high)}</th></tr>'
        ]
        for key in keys:
            cells = [
                _cell(rows[key].get(metric["name"]), metric, band, places)
                for metric, places in zip(metrics, decimals, strict=True)
            ]
            lines.append(_row(key, kbps[key], cells, looks[key[0]]))
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    return table(
        f"Quality, {kind}: mean over clips; below it ± half its 95 % interval, and the worst 5 % of clips",
        head,
        bodies,
        "quality",
    )


def _metric_title(metric: dict[str, Any]) -> str:
    unit = f", {metric['unit']}" if metric["unit"] else ""
    return f"{metric['title']}{unit}\N{NO-BREAK SPACE}{'↑' if metric['higher_is_better'] else '↓'}"


def _band_name(low: float, high: float) -> str:
    if high == BANDS[-1]:
        return f"above {low:g} kbps"
    return f"up to {high:g} kbps" if low == 0 else f"{low:g} to {high:g} kbps"


def _decimals(values: Sequence[float]) -> int:
    """Decimals that give a column three figures or so."""
    largest = max((abs(value) for value in values), default=1.0)
    return next((places for places, limit in enumerate((100, 10, 1, 0.1)) if largest >= limit), 4)


def _row(key: tuple[str, str], kbps: float, cells: Sequence[str], look: Series) -> str:
    codec, setting = key
    ours = " ours" if look.is_ours else ""
    return (
        f'<tr class="codec-{look.number}{ours}"><th scope="row">{symbol(look)}{escape(codec)} '
        f'<b>{escape(setting)}</b></th><td class="rate">{kbps:.2f}</td>{"".join(cells)}</tr>'
    )


def _cell(mean: Mean | None, metric: dict[str, Any], band: Sequence[dict[str, Mean]], places: int) -> str:
    """Mean, half the interval, worst 5 %; marked if it is the band's best, or cannot be told from it."""
    if mean is None:
        return '<td class="none">&ndash;</td>'
    rivals = [row[metric["name"]] for row in band if metric["name"] in row]
    mark, word = "", ""
    if len({rival.codec for rival in rivals}) > 1:
        best = (max if metric["higher_is_better"] else min)(rivals, key=lambda rival: rival.mean)
        if mean.mean == best.mean:
            mark, word = "best", '<span class="unseen">best of the band: </span>'
        elif mean.low <= best.high and best.low <= mean.high:
            mark, word = "close", '<span class="unseen">close to the best: </span>'
    n_clips = max(rival.n_clips for rival in rivals)
    fewer = f"<br>{mean.n_clips} clips" if mean.n_clips < n_clips else ""
    worst = fixed(mean.worst, places)
    interval = f"{fixed(mean.low, places)} to {fixed(mean.high, places)}"
    tip = f"{mean.n_clips} clips; 95 % interval of the mean {interval}; mean of the worst 5 % {worst}"
    return (
        f'<td class="{mark}" title="{tip}">{word}<span class="value">{fixed(mean.mean, places)}</span> <small>'
        f'±{fixed((mean.high - mean.low) / 2, places)} <span class="worst">{worst}</span>{fewer}</small></td>'
    )


def fixed(value: float, places: int) -> str:
    """A number with so many decimals and a proper minus; never minus nought."""
    return f"{value:z,.{places}f}".replace("-", "\N{MINUS SIGN}")


def speed_table(speed: dict[str, dict[str, Any]], series: Sequence[Series]) -> str:
    """Speed and cost of every codec, in columns that have any figure; a dash where there is none."""
    columns = [
        column
        for column in SPEED_COLUMNS
        if any(figures.get(column[0]) is not None for figures in speed.values())
    ]
    looks = {one.codec: one for one in series}
    rows = []
    for codec, figures in speed.items():
        look = looks.get(codec)
        dot, ours = (symbol(look), " ours" if look.is_ours else "") if look else ("", "")
        cells = "".join(f"<td>{_number(figures.get(name), places)}</td>" for name, _, places in columns)
        setting = escape(str(figures.get("setting") or ""))
        rows.append(
            f'<tr class="{ours}"><th scope="row">{dot}{escape(codec)} <b>{setting}</b></th>{cells}</tr>'
        )
    head = ["codec, setting", *(title for _, title, _ in columns)]
    return table("Speed and cost, one thread", head, [f"<tbody>{''.join(rows)}</tbody>"])


def growth_table(growth: Sequence[dict[str, Any]]) -> str:
    """What our codec costs as the input grows, and that again for each second of audio."""
    rows = []
    for step in growth:
        cells = [f"<td>{_number(step.get(name), places)}</td>" for name, _, places in GROWTH_COLUMNS]
        for name in ("encode_cpu_seconds", "decode_cpu_seconds"):
            cost = None if step.get(name) is None else 1000 * step[name] / step["seconds"]
            cells.append(f"<td>{_number(cost, 1)}</td>")
        rows.append(f'<tr><th scope="row">{duration(step["seconds"])}</th>{"".join(cells)}</tr>')
    head = ["input", *(title for _, title, _ in GROWTH_COLUMNS)]
    head += ["encode, ms per s of audio", "decode, ms per s of audio"]
    return table("Ours, as the input grows", head, [f"<tbody>{''.join(rows)}</tbody>"])


def _number(value: float | None, places: int) -> str:
    return '<span class="none">&ndash;</span>' if value is None else fixed(value, places)


def duration(seconds: float) -> str:
    """Seconds in words: 10 s, 1 min, 1 h."""
    for name, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"


def correlation_table(correlations: dict[str, float], metrics: Sequence[dict[str, Any]]) -> str:
    """Correlation with listeners' scores of each metric, strongest first; distances should be negative."""
    known = {metric["name"]: metric for metric in metrics}
    rows = []
    for name, r in sorted(correlations.items(), key=lambda pair: -abs(pair[1])):
        metric = known.get(name)
        title = escape(_metric_title(metric) if metric else name)
        wrong = metric is not None and (r > 0) != metric["higher_is_better"]
        note = "the wrong way round" if wrong else ""
        bar = f'<i class="bar" style="--from:{min(0.0, r):.3f};--size:{abs(r):.3f}"></i>'
        rows.append(
            f'<tr><th scope="row">{title}</th><td>{fixed(r, 2)}</td><td class="bars">{bar}</td><td>{note}</td></tr>'
        )
    head = ["metric", "r", "-1 to +1", "note"]
    return table(
        "Pearson correlation with listeners' scores",
        head,
        [f"<tbody>{''.join(rows)}</tbody>"],
        "text listeners",
    )


def missing_table(measurements: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> str:
    """What has no figure, and why: counted by codec, setting, metric and reason. Empty if all have."""
    titles = {"codec": "all"} | {metric["name"]: metric["title"] for metric in metrics}
    counts = Counter(
        (one["codec"], one["setting"], metric, reason)
        for one in measurements
        for metric, reason in one["missing"].items()
    )
    if not counts:
        return ""
    rows = [
        f'<tr><th scope="row">{escape(codec)} <b>{escape(setting)}</b></th>'
        f"<td>{escape(titles.get(metric, metric))}</td><td>{n}</td><td>{escape(reason)}</td></tr>"
        for (codec, setting, metric, reason), n in counts.items()
    ]
    head = ["codec, setting", "without a figure", "clips", "reason"]
    return table("Measurements that are missing", head, [f"<tbody>{''.join(rows)}</tbody>"], "text")
