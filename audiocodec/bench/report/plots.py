"""Rate-distortion plots: one for each kind and metric, as SVG for the page and as PNG beside it."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiocodec.bench.results import Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A vivid colour of Okabe and Ito's for ours, then Tol's muted scheme for the others, some of it darkened to stand out
# on white: colour-blind readers tell them apart, and every line has a marker of its own besides.
# The page has others for dark backgrounds: page.css names both sets --colour-0 ... in this order.
COLOURS = (
    "#d55e00", "#3b3f9e", "#2a9d8f", "#4fa3d1", "#aa4499", "#8f8f2f", "#117733", "#c0a43a", "#882255", "#bb5566"
)  # fmt: skip
MARKERS = "oDs^vPX*dhp<>8"
DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1.5)))
TEXT, FAINT, PAPER = "#1c1e21", "#9a9fa6", "#ffffff"
RATE_TICKS = (0.5, 1, 2, 4, 8, 16, 32, 64, 128)
SIZE_INCHES = (4.6, 3.2)


@dataclass(frozen=True, slots=True)
class Series:
    """How a codec is drawn everywhere: its number in the report, colour, line and marker; ours stands out."""

    codec: str
    number: int
    is_ours: bool

    @property
    def colour(self) -> int:
        """Place in COLOURS; the first colour is for ours alone."""
        return 0 if self.is_ours else 1 + (self.number - 1) % (len(COLOURS) - 1)

    @property
    def dashes(self) -> Any:
        """Solid, until the colours are used up; other models of ours are dashed."""
        turn = self.number if self.is_ours else (self.number - 1) // (len(COLOURS) - 1)
        return DASHES[min(turn, len(DASHES) - 1)]

    @property
    def drawing(self) -> dict[str, Any]:
        """Arguments of matplotlib's `plot`."""
        return {
            "color": COLOURS[self.colour],
            "marker": MARKERS[self.number % len(MARKERS)],
            "linestyle": self.dashes,
            "linewidth": 2.6 if self.is_ours else 1.4,
            "markersize": 6 if self.is_ours else 4.5,
            "zorder": 4 if self.is_ours else 3,
        }


def all_series(codecs: Sequence[str]) -> list[Series]:
    """One for each codec, in the report's order; the first is ours, and so are those named `ours...`."""
    return [
        Series(codec, number, number == 0 or codec.startswith("ours")) for number, codec in enumerate(codecs)
    ]


def draw(metric: dict[str, Any], kind: str, means: Sequence[Mean], series: Sequence[Series]) -> "Figure":
    """Figure of a metric over payload kbps, a line with its 95 % band for each codec."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, facecolor=PAPER)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.12, right=0.985, top=0.91, bottom=0.16)  # alike, so that panels align
    for one in series:
        points = sorted((mean for mean in means if mean.codec == one.codec), key=lambda mean: mean.kbps)
        if points:
            _draw_line(axes, one, points)
    _dress(axes, metric, kind, [mean.kbps for mean in means])
    return figure


def _draw_line(axes: "Axes", one: Series, points: Sequence[Mean]) -> None:
    rates = [mean.kbps for mean in points]
    colour = COLOURS[one.colour]
    lows, highs = [mean.low for mean in points], [mean.high for mean in points]
    gid = f"series-{one.number}"
    if len(points) > 1:
        axes.fill_between(rates, lows, highs, color=colour, alpha=0.14, linewidth=0, zorder=2, gid=gid)
    else:
        axes.vlines(rates, lows, highs, color=colour, alpha=0.5, linewidth=1.4, zorder=2, gid=gid)
    axes.plot(rates, [mean.mean for mean in points], label=one.codec, gid=gid, **one.drawing)


def _dress(axes: "Axes", metric: dict[str, Any], kind: str, rates: Sequence[float]) -> None:
    """Titles, ticks and grid. The metric's name stands above the axis, where it reads without turning the head."""
    unit = f" [{metric['unit']}]" if metric["unit"] else ""
    direction = "↑ higher is better" if metric["higher_is_better"] else "↓ lower is better"
    axes.set_title(f"{metric['title']}{unit}", loc="left", fontsize=11, fontweight="bold", color=TEXT)
    axes.set_title(direction, loc="right", fontsize=9, color=TEXT)
    axes.set_xlabel(f"payload, kbps ({kind})", fontsize=9, color=TEXT)
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.15, max(rates) * 1.15)
    ticks = [tick for tick in RATE_TICKS if min(rates) / 1.15 <= tick <= max(rates) * 1.15]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelsize=9, labelcolor=TEXT, color=FAINT, length=3)
    axes.grid(color=FAINT, alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


@cache
def symbol(one: Series) -> str:
    """The codec's line and marker as a small `<svg>`, for legends and tables."""
    from matplotlib.markers import MarkerStyle

    drawing = one.drawing
    style = MarkerStyle(drawing["marker"])
    outline = style.get_path().transformed(style.get_transform()).to_polygons()[0]
    points = " ".join(f"{14 + 8.5 * x:.1f},{7 - 8.5 * y:.1f}" for x, y in np.asarray(outline))
    dashes = "" if one.dashes == "-" else f' stroke-dasharray="{" ".join(str(3 * x) for x in one.dashes[1])}"'
    colour = f"var(--colour-{one.colour})"
    return (
        f'<svg class="symbol" viewBox="0 0 28 14" aria-hidden="true"><path d="M0 7H28" stroke="{colour}" '
        f'stroke-width="{drawing["linewidth"] * 1.2:.1f}"{dashes}/><polygon points="{points}" fill="{colour}"/></svg>'
    )


def save_png(figure: "Figure", path: Path) -> None:
    """The figure with a legend of its own."""
    figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=200, bbox_inches="tight")


def to_svg(figure: "Figure", name: str) -> str:
    """The figure as an `<svg>` for the page, whose colours are the page's.

    name: unique in the page, as are then the ids that matplotlib makes. Lines get the class `series-N`.
    """
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="(series-\d+)"', r'<g class="series \1"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1 ... are in every plot
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would style the whole page
    svg = (
        re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", svg[: svg.index(">")])
        + svg[svg.index(">") :]
    )
    svg = svg.replace(TEXT, "var(--text)").replace(FAINT, "var(--faint)")
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--colour-{number})")
    return svg
