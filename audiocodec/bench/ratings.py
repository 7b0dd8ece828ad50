"""How well each metric agrees with listeners, where some have rated what codecs made of the clips."""

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from audiocodec.bench.metrics import METRICS
from audiocodec.bench.results import Measurement
from audiocodec.errors import CodecError

MIN_POINTS = 3  # through two points there is always a line
Ratings = dict[tuple[str, str], float]


def correlations(measurements: Sequence[Measurement], ratings_csv: Path) -> dict[str, float]:
    """Pearson's correlation of each metric with the listeners' means, a point for each clip and system.

    ratings_csv: a table with the columns clip, system (the codec's name, a decoded folder's for instance) and
    mushra_mean. A metric where lower is better agrees with listeners when its correlation is negative.
    Metrics with fewer than three points, or the same figure for all, are left out.
    Raises CodecError for a table that cannot be used, and where nothing that was measured has a rating.
    """
    return _correlations(measurements, ratings_csv, lambda one: (one.codec, one.setting, one.clip))


def system_correlations(measurements: Sequence[Measurement], ratings_csv: Path) -> dict[str, float]:
    """As `correlations`, but with a point for each system: the means over its clips."""
    return _correlations(measurements, ratings_csv, lambda one: (one.codec, one.setting))


def _correlations(
    measurements: Sequence[Measurement], ratings_csv: Path, point: Callable[[Measurement], tuple[str, ...]]
) -> dict[str, float]:
    """Correlations over points, each the mean of the measurements that `point` gives the same name."""
    ratings = _read_ratings(ratings_csv)
    rated = [
        (one, rating)
        for one in measurements
        if (rating := ratings.get((one.clip.rpartition("/")[2], one.codec))) is not None
    ]
    if not rated:
        raise CodecError(f"{ratings_csv}: none of its clips and systems is among what was measured")
    found = {}
    for metric in METRICS:
        pairs = defaultdict(list)
        for one, rating in rated:
            if metric.name in one.metrics:
                pairs[point(one)].append((one.metrics[metric.name], rating))
        points = np.array([np.mean(group, axis=0) for group in pairs.values()])
        if len(points) >= MIN_POINTS and np.ptp(points, axis=0).all():
            found[metric.name] = float(np.corrcoef(points.T)[0, 1])
    return found


def _read_ratings(table: Path) -> Ratings:
    """The listeners' means by clip and system."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return {(row["clip"], row["system"]): float(row["mushra_mean"]) for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CodecError(f"{table}: cannot be read as CSV: {error}") from error
    except (KeyError, ValueError) as error:
        raise CodecError(
            f"{table}: expected the columns clip, system and mushra_mean, the last a number ({error})"
        ) from error
