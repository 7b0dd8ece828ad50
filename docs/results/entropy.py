"""How many bits the default model's codes need: figures for docs/ENTROPY.md.

    python docs/results/entropy.py TRAIN VALID

TRAIN: folders or .tar archives of audio like the model's training data, from which the plain tables are counted (an
hour or more). VALID: a folder with speech/, music/ and sounds/, none of it in TRAIN. All methods start anew with each
group of two seconds, as a file's groups are independent. Writes entropy.json beside this script, prints Markdown.
"""

import argparse
import io
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audiocodec.bitstream import Header, Reader, Writer
from audiocodec.bitstream.entropy import EntropyTables, load_tables
from audiocodec.codes import Source
from audiocodec.model.catalogue import DEFAULT_MODEL, TABLES, model_folder
from audiocodec.model.codec import CodecModel
from audiocodec.model.store import load_model
from audiocodec.train.codebooks import kmeans
from audiocodec.train.data import load_clips
from audiocodec.train.tables import GROUP_FRAMES, groups_of_codes

KINDS = ("speech", "music", "sounds")
LEVEL_COUNTS = (1, 2, 4, 8)
N_CLUSTERS = 32
FORGETTING = 0.98  # of the mixture's weights, per code
PRIOR = 0.5  # codes of each kind that tables start with, as if they had been counted

Groups = NDArray[np.int64]  # codes [N, n_q, F]
Bits = NDArray[np.float64]  # what each code costs [N, n_q, F]


def clusters_of(model: CodecModel) -> NDArray[np.int64]:
    """The cluster of each entry of each codebook [n_q, K]: contexts of whole codes would be too many to count."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for level in model.quantizer.levels:
        centres = kmeans(level.codebook, N_CLUSTERS, generator)
        found.append(torch.cdist(level.codebook, centres).argmin(1).numpy())
    return np.stack(found)


def contexts_of(codes: Groups, clusters: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """What each method knows of each code: a number below N_CLUSTERS + 1, [N, n_q, F]."""
    nothing = np.full_like(codes, N_CLUSTERS)
    before, below = nothing.copy(), nothing.copy()
    levels = np.arange(codes.shape[1])[:, None]
    own = clusters[levels, codes]
    before[:, :, 1:] = own[:, :, :-1]
    below[:, 1:] = own[:, :-1]
    return {"order 0": nothing, "the code before": before, "the level below": below}


def count_tables(codes: Groups, contexts: NDArray[np.int64], n_entries: int) -> NDArray[np.float64]:
    """Probabilities [n_q, N_CLUSTERS + 1, K] by counting."""
    n_q = codes.shape[1]
    index = (np.arange(n_q)[:, None] * (N_CLUSTERS + 1) + contexts) * n_entries + codes
    counts = np.bincount(index.ravel(), minlength=n_q * (N_CLUSTERS + 1) * n_entries).astype(float)
    # a context's rare codes are taken from what all contexts have together
    table = counts.reshape(n_q, N_CLUSTERS + 1, n_entries)
    overall = table.sum(1, keepdims=True) + PRIOR
    table = table + 64 * overall / overall.sum(2, keepdims=True)
    found: NDArray[np.float64] = table / table.sum(2, keepdims=True)
    return found


def mixed(costs: list[Bits]) -> Bits:
    """Bits by a mixture of methods, whose weights follow what each has done in the group so far."""
    chances = 2.0 ** -np.stack(costs)
    weights = np.full(chances.shape[:-1], 1 / len(costs))
    total = np.empty(chances.shape[1:])
    for frame in range(chances.shape[-1]):
        mean = (weights * chances[..., frame]).sum(0)
        total[..., frame] = -np.log2(mean)
        weights = (weights * chances[..., frame]) ** FORGETTING
        weights /= weights.sum(0)
    return total


def plain_methods(train: Groups, valid: Groups, model: CodecModel) -> dict[str, Bits]:
    """Bits of the validation codes by counted tables and by their mixture."""
    clusters = clusters_of(model)
    n_entries = max(model.config.quantizer.codebook_sizes)
    levels = np.arange(valid.shape[1])[:, None]
    known, told = contexts_of(train, clusters), contexts_of(valid, clusters)
    costs = {
        name: -np.log2(count_tables(train, known[name], n_entries)[levels, told[name], valid])
        for name in known
    }
    return costs | {"mixture of the three": mixed(list(costs.values()))}


def network_bits(tables: EntropyTables, valid: Groups) -> Bits:
    """Bits of the validation codes by the shipped tables."""
    return np.stack([tables.bits(list(group[:, None].astype(np.int16)))[:, 0] for group in valid])


def in_files(model: CodecModel, tables: EntropyTables, valid: Groups, n_q: int) -> dict[str, float]:
    """Bytes of all groups in raw and in entropy-coded files of n_q levels; seconds to write and read them."""
    space, source = model.code_space().first(n_q), Source(model.config.sample_rate, 1)
    figures = {}
    for name, used in (("raw", None), ("coded", tables)):
        file = io.BytesIO()
        begun = time.perf_counter()
        entropy_id = None if used is None else used.id
        writer = Writer(file, Header(space, source, GROUP_FRAMES, entropy_id=entropy_id), used)
        for group in valid:
            writer.write(GROUP_FRAMES, list(group[:n_q, None].astype(np.int16)))
        writer.finish(0)
        written = time.perf_counter()
        file.seek(0)
        for _ in Reader(file, tables=used):
            pass
        figures[f"{name} bytes"] = len(file.getvalue())
        figures[f"{name} write seconds"] = written - begun
        figures[f"{name} read seconds"] = time.perf_counter() - written
    return figures


def measure(model: CodecModel, tables: EntropyTables, train: Groups, valid: Groups) -> dict[str, Any]:
    """All figures of one kind: bits per second at each level count by method, files, timings."""
    frame_rate = model.code_space().frame_rate
    methods = plain_methods(train, valid, model) | {"integer network": network_bits(tables, valid)}
    per_level = {name: bits.mean((0, 2)) for name, bits in methods.items()}
    seconds = valid.shape[0] * valid.shape[2] / frame_rate
    figures: dict[str, Any] = {
        "seconds": seconds,
        "bits_per_code": {name: bits.round(3).tolist() for name, bits in per_level.items()},
    }
    for n_q in LEVEL_COUNTS:
        rates = {name: round(frame_rate * bits[:n_q].sum()) for name, bits in per_level.items()}
        files = in_files(model, tables, valid, n_q)
        figures[f"{n_q} levels"] = {
            "raw_bits_per_second": round(1000 * model.code_space().kbps(n_q)),
            "bits_per_second": rates,
            "file_bits_per_second": {
                name: round(8 * files[f"{name} bytes"] / seconds) for name in ("raw", "coded")
            },
            "write_speed": round(seconds / files["coded write seconds"]),
            "read_speed": round(seconds / files["coded read seconds"]),
        }
    return figures


def markdown(found: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = []
    for kind in KINDS:
        methods = list(found[kind]["bits_per_code"])
        lines += [f"\n**{kind}**, bits per second\n", f"| levels | raw | {' | '.join(methods)} | in a file |"]
        lines += ["|--:" * (len(methods) + 3) + "|"]
        for n_q in LEVEL_COUNTS:
            row = found[kind][f"{n_q} levels"]
            raw, files = row["raw_bits_per_second"], row["file_bits_per_second"]
            cells = [f"{rate} ({100 * (rate / raw - 1):+.1f} %)" for rate in row["bits_per_second"].values()]
            saved = f"{files['coded']} ({100 * (files['coded'] / files['raw'] - 1):+.1f} %)"
            lines.append(f"| {n_q} | {raw} | {' | '.join(cells)} | {saved} |")
        row = found[kind]["8 levels"]
        lines.append(
            f"\n8 levels: written at {row['write_speed']} x, read at {row['read_speed']} x real time."
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", nargs="+", type=Path)
    parser.add_argument("valid", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    folder = model_folder(DEFAULT_MODEL)
    model, tables = load_model(folder), load_tables(folder / TABLES)

    def codes(sources: list[Path]) -> Groups:
        return groups_of_codes(model, load_clips(sources, model.config.sample_rate)).long().numpy()

    train = codes(args.train)
    found: dict[str, Any] = {"model": DEFAULT_MODEL, "tables": tables.id.hex(), "machine": platform.machine()}
    found |= {kind: measure(model, tables, train, codes([args.valid / kind])) for kind in KINDS}
    (Path(__file__).parent / "entropy.json").write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
