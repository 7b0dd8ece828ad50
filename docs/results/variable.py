"""Variable bitrate: the prices of `--quality`, and how many bits it saves. Figures for docs/VARIABLE.md.

    python docs/results/variable.py CLIPS [--prices] [--every 3] [--kinds speech pauses] [--qualities 2 4]

CLIPS holds folders `speech`, `music`, `sounds` of clips. All are coded with constant levels, 1 to 8, and with
variable bitrate, at --qualities, or (--prices) at prices from which those qualities are then told: for each
level the price with which the mel distance and Zimtohrli's, the mean over the kinds of both, are what the level has.
`pauses` are the clips of speech joined in threes, with pauses of 0.3 to 1 s and noise at -60 dBFS over all.
Rates are those of the groups in the file. Writes variable.json, or variable-prices.json, beside this script.
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiocodec.bench.metrics import BY_NAME, measure
from audiocodec.bench.results import Clip
from audiocodec.bitstream.table import runs
from audiocodec.cli.coding import prepare_torch
from audiocodec.codec import Codec, load
from audiocodec.codes import Codes
from audiocodec.encoding import open_groups
from audiocodec.train.data import load_clips
from audiocodec.variable import choose_counts, price_of

HERE = Path(__file__).resolve().parent
DISTANCES = ("mel12", "zimtohrli")
METRICS = (*DISTANCES, "pesq_wb", "stoi")
PRICES = [6e-5, 1.2e-4, 2.4e-4, 4.8e-4, 9.6e-4, 1.9e-3]
PAUSE_SECONDS, NOISE_RMS, JOINED = (0.3, 1.0), 0.001, 3

Floats = NDArray[np.float32]


def clips_of(folder: Path, kind: str, every: int, rate: int) -> list[Floats]:
    """Every so many-th clip of a kind."""
    clips = load_clips([folder / ("speech" if kind == "pauses" else kind)], rate)
    samples = [clips[index].numpy() for index in range(len(clips))]
    if kind != "pauses":
        return samples[::every]
    random = np.random.default_rng(0)
    joined = []
    for start in range(0, len(samples) - JOINED + 1, JOINED * every):
        parts: list[Floats] = []
        for clip in samples[start : start + JOINED]:
            parts += [clip, np.zeros(round(random.uniform(*PAUSE_SECONDS) * rate), np.float32)]
        whole = np.concatenate(parts)
        joined.append(whole + random.normal(0, NOISE_RMS, len(whole)).astype(np.float32))
    return joined


def n_bytes(codec: Codec, codes: Codes) -> int:
    """What the groups of a file with these codes take."""
    groups = open_groups(
        io.BytesIO(), codes.space, codes.source, {}, tables=codec.tables, variable=codes.counts is not None
    )
    groups.write(codes)
    assert codes.n_samples is not None
    return sum(count * length for count, length in runs(groups.finish(codes.n_samples).table))


def with_counts(codes: Codes, counts: NDArray[np.uint8] | None, n_q: int) -> Codes:
    """The first n_q levels; or as many of all as `counts` say."""
    levels = codes.levels[:n_q]
    if counts is not None:
        levels = tuple(level * (counts > n) for n, level in enumerate(levels))
    space = codes.space.first(n_q)
    return Codes(space, codes.source, codes.n_frames, levels, codes.n_samples, counts)


def figures(codec: Codec, kind: str, clips: Sequence[Floats], prices: Sequence[float]) -> dict[str, Any]:
    """Rates and mean figures at constant levels and at each price."""
    rate, n_q = codec.space.sample_rate, codec.space.n_q
    metrics = [BY_NAME[name] for name in METRICS if kind in ("speech", "pauses") or name in DISTANCES]
    constant: list[list[Any]] = [[] for _ in range(n_q)]
    variable: list[list[Any]] = [[] for _ in prices]
    for audio in clips:
        codes, measured = codec.measure_levels([audio[:, None]], rate, 1)
        blocks = [(distances, bits) for distances, bits in measured.astype(np.float32)]
        versions = [(constant[n], with_counts(codes, None, n + 1)) for n in range(n_q)]
        for row, price in zip(variable, prices, strict=True):
            counts = np.concatenate([choose_counts(*block, price) for block in blocks], axis=1)
            versions.append((row, with_counts(codes, counts[:, : codes.n_frames], n_q)))
        for row, version in versions:
            clip = Clip(kind, "speech" if kind == "pauses" else kind, Path(kind))
            found, _ = measure(clip, audio, codec.decode(version)[:, 0], rate, metrics)
            row.append([n_bytes(codec, version), *(found.get(name, np.nan) for name in METRICS)])
    seconds = sum(len(audio) for audio in clips) / rate
    return {
        "n_clips": len(clips),
        "seconds": seconds,
        "constant": [summary(row, seconds) for row in constant],
        "variable": [{"price": p} | summary(row, seconds) for p, row in zip(prices, variable, strict=True)],
    }


def summary(rows: list[list[float]], seconds: float) -> dict[str, float]:
    """Rate, and means of the figures."""
    table = np.array(rows)
    means = {name: float(np.mean(table[:, n])) for n, name in enumerate(METRICS, 1)}
    return {"kbps": float(table[:, 0].sum() * 8 / 1000 / seconds), **means}


def saving(found: dict[str, Any], row: dict[str, float], name: str) -> float:
    """Share of bits saved against constant rate of equal `name`, in percent; NaN beyond what was measured."""
    sign = 1 if BY_NAME[name].higher_is_better else -1
    scores = [sign * point[name] for point in found["constant"]]
    rates = [point["kbps"] for point in found["constant"]]
    need = float(np.interp(sign * row[name], scores, rates, left=np.nan, right=np.nan))
    return 100 * (1 - row["kbps"] / need)


def prices_of_levels(results: dict[str, Any]) -> list[float]:
    """For each level the price with which both distances, relative to the level's, are on average the same."""
    kinds = [found for kind, found in results.items() if kind != "pauses"]
    logs = np.log([row["price"] for row in kinds[0]["variable"]])
    prices = []
    for level in range(len(kinds[0]["constant"])):
        excess = np.zeros(len(logs))
        for found in kinds:
            for name in DISTANCES:
                excess += [np.log(row[name] / found["constant"][level][name]) for row in found["variable"]]
        prices.append(float(np.exp(np.interp(0, excess, logs))))
    return prices


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--prices", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--qualities", nargs="+", type=float, default=[1, 2, 3, 4, 5, 6, 7, 8])
    parser.add_argument("--kinds", nargs="+", default=["speech", "pauses", "music", "sounds"])
    options = parser.parse_args()
    prepare_torch()
    torch.set_num_threads(1)
    codec = load(device="cpu")
    prices = PRICES if options.prices else [price_of(q, codec.space.n_q) for q in options.qualities]
    results = {}
    for kind in options.kinds:
        found = figures(
            codec, kind, clips_of(options.clips, kind, options.every, codec.space.sample_rate), prices
        )
        results[kind] = found
        print(f"\n{kind}: {found['n_clips']} clips, {found['seconds']:.0f} s\n")
        for row in found["constant"]:
            print("constant ", {key: round(value, 4) for key, value in row.items()})
        for row in found["variable"]:
            saved = {name: round(saving(found, row, name), 1) for name in METRICS}
            print(
                "variable ",
                {key: round(value, 6) for key, value in row.items()},
                "saves %",
                saved,
                flush=True,
            )
    if options.prices:
        print("prices of levels:", [f"{price:.3g}" for price in prices_of_levels(results)])
    name = "variable-prices.json" if options.prices else "variable.json"
    (HERE / name).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
