"""The gate: what got better or worse between two results of our codec, beyond what chance could do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audiocodec.bench.results import KINDS, Measurement
from audiocodec.bench.statistics import bootstrap
from audiocodec.errors import CodecError

SEED = 1  # of the bootstrap
NEGLIGIBLE = 1e-3  # of the old mean: what another processor's rounding may change
RATE = "kbps"  # is compared as metrics are: a codec that needs more bits got worse

Figures = Mapping[str, float]  # by clip


@dataclass(frozen=True)
class Change:
    """A metric of a kind at a setting: old and new means, and the 95 % interval of new minus old.

    verdict: "better", "worse", "same", or "unknown" for a single clip, which has no interval. "worse", with no new
    mean, is also what n_lost clips lost: they had a figure and have none now.
    """

    kind: str
    setting: str
    metric: str
    verdict: str
    paired: bool
    n_clips: int
    n_lost: int
    old: float
    new: float | None
    low: float | None
    high: float | None


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Changes of our codec, the first of each, between two results.json, for all that both measured.

    Where a kind has the same clips in both, by name and content, the differences clip by clip are bootstrapped
    (`paired`), for clips differ far more than versions of a codec. Otherwise a change counts where the intervals of
    the two means are apart. Raises CodecError where nothing can be compared.
    """
    changes = [change for kind in KINDS for change in _of_kind(kind, old, new)]
    if not changes:
        raise CodecError("nothing to compare: the results share no kind, setting and metric of our codec")
    return changes


def _of_kind(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of one kind."""
    old_clips, new_clips = (
        {(clip["name"], clip.get("hash")) for clip in results["clips"] if clip["kind"] == kind}
        for results in (old, new)
    )
    if not old_clips or not new_clips:
        return
    directions = {metric["name"]: metric["higher_is_better"] for metric in new["metrics"]} | {RATE: False}
    for setting in (one for one in new["codecs"][0]["settings"] if one in old["codecs"][0]["settings"]):
        before, now = (_figures(results, kind, setting) for results in (old, new))
        for metric, higher_is_better in directions.items():
            if metric in before:
                pair = before[metric], now.get(metric, {})
                judge = _judge_pairs if old_clips == new_clips else _judge_means
                yield judge((kind, setting, metric), *pair, higher_is_better)


def _figures(results: Mapping[str, Any], kind: str, setting: str) -> dict[str, dict[str, float]]:
    """Our figures by metric and clip."""
    codec = results["codecs"][0]["name"]
    figures: dict[str, dict[str, float]] = {}
    for row in results["measurements"]:
        one = Measurement(**row)
        if (one.codec, one.kind, one.setting) == (codec, kind, setting) and one.kbps is not None:
            for metric, value in (*one.metrics.items(), (RATE, one.kbps)):
                figures.setdefault(metric, {})[one.clip] = value
    return figures


def _judge_pairs(what: tuple[str, str, str], before: Figures, now: Figures, higher_is_better: bool) -> Change:
    """The change over the same clips."""
    names = sorted(before.keys() & now.keys())
    n_lost = len(before) - len(names)
    old = float(np.mean(list(before.values())))
    if n_lost:
        return Change(*what, "worse", True, len(names), n_lost, old, None, None, None)
    differences = np.array([now[name] - before[name] for name in names])
    low, high = bootstrap(differences, SEED)
    new = old + float(differences.mean())
    verdict = _verdict(old, new, (low, high), len(names), higher_is_better)
    return Change(*what, verdict, True, len(names), 0, old, new, low, high)


def _judge_means(what: tuple[str, str, str], before: Figures, now: Figures, higher_is_better: bool) -> Change:
    """The change between means over different clips."""
    ours, theirs = (np.array([figures[name] for name in sorted(figures)]) for figures in (before, now))
    old = float(ours.mean())
    if not len(theirs):
        return Change(*what, "worse", False, 0, len(ours), old, None, None, None)
    new = float(theirs.mean())
    (old_low, old_high), (new_low, new_high) = bootstrap(ours, SEED), bootstrap(theirs, SEED)
    interval = new_low - old_high, new_high - old_low  # all that both intervals allow
    n_clips = min(len(ours), len(theirs))
    verdict = _verdict(old, new, interval, n_clips, higher_is_better)
    return Change(*what, verdict, False, n_clips, 0, old, new, *interval)


def _verdict(
    old: float, new: float, interval: tuple[float, float], n_clips: int, higher_is_better: bool
) -> str:
    """What a change is, by the interval of new minus old."""
    low, high = interval
    if abs(new - old) <= NEGLIGIBLE * abs(old):
        return "same"
    if n_clips == 1:
        return "unknown"
    if low <= 0 <= high:
        return "same"
    return "better" if (new > old) == higher_is_better else "worse"
