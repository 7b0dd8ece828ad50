"""Means over clips, how sure they are, and how bad the worst clips are."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audiocodec.bench.metrics import BY_NAME, METRICS
from audiocodec.bench.results import KINDS, Mean, Measurement

N_RESAMPLES = 1000
INTERVAL_PERCENT = (2.5, 97.5)
WORST_SHARE = 0.05


def means(measurements: Sequence[Measurement], seed: int = 1) -> list[Mean]:
    """The mean of each metric over the clips of each kind, codec and setting; what has no figures has no mean.

    By kind, codec (in the order in which they first come), rate and metric. kbps is all bits by all seconds, of
    every clip that was coded. seed: of the bootstrap, which starts anew for each mean, so that one does not depend
    on what else was measured.
    """
    groups: dict[tuple[str, str, str], list[Measurement]] = defaultdict(list)
    codecs: dict[str, int] = {}
    for one in measurements:
        groups[one.kind, one.codec, one.setting].append(one)
        codecs.setdefault(one.codec, len(codecs))
    rates = {key: kbps for key, group in groups.items() if (kbps := _kbps(group)) is not None}
    order = sorted(rates, key=lambda key: (KINDS.index(key[0]), codecs[key[1]], rates[key], key[2]))
    return [
        _mean(key, metric.name, figures, rates[key], seed)
        for key in order
        for metric in METRICS
        if (figures := [one.metrics[metric.name] for one in groups[key] if metric.name in one.metrics])
    ]


def _kbps(group: Sequence[Measurement]) -> float | None:
    """Payload rate over all clips that have one, None where none has."""
    coded = [(one.kbps, one.seconds) for one in group if one.kbps is not None]
    seconds = sum(seconds for _, seconds in coded)
    return sum(kbps * seconds for kbps, seconds in coded) / seconds if seconds else None


def _mean(key: tuple[str, str, str], metric: str, figures: Sequence[float], kbps: float, seed: int) -> Mean:
    """The mean of one metric over one group."""
    values = np.asarray(figures, dtype=np.float64)
    low, high = bootstrap(values, seed)
    return Mean(
        *key,
        metric=metric,
        n_clips=len(values),
        kbps=kbps,
        mean=float(values.mean()),
        low=low,
        high=high,
        worst=worst(values, higher_is_better=BY_NAME[metric].higher_is_better),
    )


def bootstrap(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % interval of the mean of values [N]: percentiles of the means of 1000 resamples. Source: Efron 1979."""
    draws = np.random.default_rng(seed).integers(len(values), size=(N_RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), INTERVAL_PERCENT)
    return float(low), float(high)


def worst(values: NDArray[np.float64], *, higher_is_better: bool) -> float:
    """Mean of the worst 5 % of values [N], rounded up to whole clips."""
    ranked = np.sort(values if higher_is_better else -values)
    mean = float(ranked[: math.ceil(WORST_SHARE * len(values))].mean())
    return mean if higher_is_better else -mean
