"""What the default model's prior knows, and what it makes: figures for docs/PRIOR.md.

    python docs/results/prior.py VALID --clips DIR

VALID: a folder with speech/, music/ and sounds/, none of it in the prior's training data. Scores held-out clips against
log2 K and against the entropy coder's tables; then clips that the prior made, and clips that it continued, against real
ones of the same length. Writes prior.json and prior.jpg (spectrograms) beside this script, the clips to DIR, and prints
Markdown.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from audiocodec.codec import Codec, load
from audiocodec.codes import Codes, Source
from audiocodec.model.catalogue import DEFAULT_MODEL
from audiocodec.prior import bits_per_code, load_prior
from audiocodec.prior.data import encode_clip
from audiocodec.prior.network import Prior
from audiocodec.prior.sampling import Sampler
from audiocodec.prior.store import prior_of_model
from audiocodec.train.data import load_clips
from audiocodec.train.tables import GROUP_FRAMES

HERE = Path(__file__).resolve().parent
SCORED_SECONDS = 6
PROMPT_SECONDS, CONTINUED_SECONDS = 3, 3
SETTINGS: tuple[tuple[float, int | None], ...] = ((1.0, None), (0.9, None), (0.8, None), (0.9, 100))
LEVEL_GROUPS = {"level 0": slice(0, 1), "1 to 3": slice(1, 4), "4 to 7": slice(4, 8), "all": slice(None)}
SHOWN_SETTING = (0.9, None)

Frames = NDArray[np.int16]  # codes [n_q, F]


def groups_of_levels(bits: list[NDArray[Any]]) -> dict[str, float]:
    """Mean bits per code of clips [n_q, F], by groups of levels."""
    joined = np.concatenate(bits, axis=1)
    return {name: round(float(joined[levels].mean()), 3) for name, levels in LEVEL_GROUPS.items()}


def table_bits(codec: Codec, codes: Frames) -> NDArray[Any]:
    """Bits by the entropy coder's tables, which start anew with each group."""
    assert codec.tables is not None, "the default model has tables"
    parts = [codes[:, n : n + GROUP_FRAMES] for n in range(0, codes.shape[1], GROUP_FRAMES)]
    return np.concatenate([codec.tables.bits(list(part[:, None]))[:, 0] for part in parts], axis=1)


def held_out(codec: Codec, prior: Prior, clips: list[Frames], kind: str) -> dict[str, dict[str, float]]:
    """Bits per code of real clips, by who says how likely they are."""
    raw = [np.full(codes.shape, math.log2(codec.space.codebook_sizes[0])) for codes in clips]
    rows = {"raw": groups_of_levels(raw)}
    if codec.tables is not None:
        rows["entropy tables"] = groups_of_levels([table_bits(codec, codes) for codes in clips])
    rows["prior, kind not told"] = groups_of_levels([bits_per_code(prior, codes) for codes in clips])
    rows["prior, kind told"] = groups_of_levels([bits_per_code(prior, codes, kind) for codes in clips])
    return rows


def made(
    prior: Prior, clips: list[Frames], kind: str, n_frames: int
) -> dict[str, tuple[dict[str, float], list[Frames]]]:
    """Likelihoods of real, sampled and senseless codes of the same length, and the codes."""
    rng = np.random.default_rng(0)
    real = [codes[:, :n_frames] for codes in clips]
    kinds: dict[str, list[Frames]] = {
        "real": real,
        "real, frames shuffled": [rng.permutation(codes, axis=1) for codes in real],
    }
    for temperature, top_k in SETTINGS:
        kinds[setting_name(temperature, top_k)] = [
            Sampler(prior, kind=kind, temperature=temperature, top_k=top_k, seed=seed).draw(n_frames)
            for seed in range(len(real))
        ]
    return {
        name: (groups_of_levels([bits_per_code(prior, codes, kind) for codes in found]), found)
        for name, found in kinds.items()
    }


def setting_name(temperature: float, top_k: int | None) -> str:
    return f"sampled, temperature {temperature:g}" + ("" if top_k is None else f", top {top_k}")


def continued(
    prior: Prior, clips: list[Frames], kind: str, n_prompt: int, n_new: int
) -> tuple[dict[str, dict[str, float]], list[Frames]]:
    """Likelihoods of what follows a prompt, really and by the prior; and the prior's clips."""
    bits: dict[str, list[NDArray[Any]]] = {"what followed": [], "what the prior made": []}
    joined = []
    temperature, top_k = SHOWN_SETTING
    for seed, codes in enumerate(clips):
        sampler = Sampler(prior, kind=kind, temperature=temperature, top_k=top_k, seed=seed)
        sampler.read(codes[:, :n_prompt])
        joined.append(np.concatenate([codes[:, :n_prompt], sampler.draw(n_new)], axis=1))
        pair = zip(bits, (codes[:, : n_prompt + n_new], joined[-1]), strict=True)
        for name, whole in pair:
            bits[name].append(bits_per_code(prior, whole, kind)[:, n_prompt:])
    return {name: groups_of_levels(found) for name, found in bits.items()}, joined


def audio_of(codec: Codec, codes: Frames) -> NDArray[np.float32]:
    """Codes as audio [T]."""
    source = Source(codec.space.sample_rate, 1)
    whole = Codes(codec.space, source, codes.shape[1], tuple(codes[:, None]), None)
    return codec.decode(whole)[:, 0]


def draw(rows: dict[str, dict[str, NDArray[np.float32]]], sample_rate: int, path: Path) -> None:
    """Spectrograms: a row for each kind, a column for each clip of it."""
    from matplotlib.figure import Figure

    n_columns = max(map(len, rows.values()))
    figure = Figure(figsize=(5 * n_columns, 3 * len(rows)), layout="constrained")
    for axes, (kind, clips) in zip(
        figure.subplots(len(rows), n_columns, squeeze=False), rows.items(), strict=True
    ):
        for axis, (name, audio) in zip(axes, clips.items(), strict=False):
            axis.specgram(
                audio + 1e-7, NFFT=1024, Fs=sample_rate, noverlap=768, vmin=-140, vmax=-30, cmap="magma"
            )
            axis.set(title=f"{kind}: {name}", xticks=[], yticks=[])
    figure.savefig(path, dpi=50, pil_kwargs={"quality": 80})


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Rows of bits per code, as Markdown."""
    names = list(next(iter(rows.values())))
    lines = [
        f"\n**{title}**, bits per code\n",
        f"| | {' | '.join(names)} |",
        "|---" + "|--:" * len(names) + "|",
    ]
    lines += [f"| {name} | {' | '.join(f'{row[key]:.2f}' for key in names)} |" for name, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--prior", type=Path, help="its folder; by default the one in the default model's")
    parser.add_argument("--clips", type=Path, required=True, help="where clips to listen to go")
    parser.add_argument("--most", type=int, default=8, help="clips of each kind and setting that are made")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    codec = load(DEFAULT_MODEL, device="cpu")
    prior = prior_of_model(DEFAULT_MODEL) if args.prior is None else load_prior(args.prior)
    rate = codec.space.frame_rate
    args.clips.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"model": DEFAULT_MODEL, "code_space": prior.config.code_space}
    pictures = {}
    for kind in prior.config.kinds:
        clips = load_clips([args.valid / kind], codec.space.sample_rate)
        codes = [encode_clip(codec.model, clips[n]).numpy() for n in range(len(clips))]  # type: ignore[arg-type]
        begun = time.process_time()
        n_frames = round(SCORED_SECONDS * rate)
        longest = [clip for clip in codes if clip.shape[1] >= n_frames][: args.most]
        if not longest:
            raise SystemExit(f"{args.valid / kind}: no clip has {SCORED_SECONDS} s")
        generated = made(prior, longest, kind, n_frames)
        n_sampled = sum(len(clips) for name, (_, clips) in generated.items() if name.startswith("sampled"))
        speed = n_sampled * SCORED_SECONDS / (time.process_time() - begun)
        following, joined = continued(
            prior, longest, kind, round(PROMPT_SECONDS * rate), round(CONTINUED_SECONDS * rate)
        )
        found[kind] = {
            "held out": held_out(codec, prior, codes, kind),
            f"{SCORED_SECONDS} s": {name: row for name, (row, _) in generated.items()},
            f"after {PROMPT_SECONDS} s": following,
            "speed": round(speed, 2),
        }
        shown = {name: group[0] for name, (_, group) in generated.items() if "shuffled" not in name and group}
        shown["continued"] = joined[0]
        pictures[kind] = {name: audio_of(codec, clip) for name, clip in shown.items()}
        for name, audio in pictures[kind].items():
            file = args.clips / f"{kind}-{name.replace(' ', '-').replace(',', '')}.wav"
            soundfile.write(file, np.clip(audio, -1, 1), codec.space.sample_rate)
        for title, rows in list(found[kind].items())[:3]:
            print(table(f"{kind}: {title}", rows), flush=True)
        print(f"\nSampled and scored at {speed:.1f} x real time, one thread.")
    (HERE / "prior.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(pictures, codec.space.sample_rate, HERE / "prior.jpg")


if __name__ == "__main__":
    main()
