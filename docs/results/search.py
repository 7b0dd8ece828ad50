"""What the search for codes gains over the nearest entry at every level: figures for docs/decisions/009.

    python docs/results/search.py CLIPS

CLIPS: a folder of speech that the default model was not trained on. Writes search.json beside this script and prints
Markdown: for each setting, the share of energy that 1, 2, 4, 8 and 16 levels leave, and seconds of one thread.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from audiocodec.bench.machine import facts
from audiocodec.bench.metrics import BY_NAME, measure
from audiocodec.bench.results import Clip
from audiocodec.model.catalogue import DEFAULT_MODEL, model_folder
from audiocodec.model.codec import CodecModel
from audiocodec.model.search import LOOKAHEAD, WIDTH, search
from audiocodec.model.store import load_model
from audiocodec.train.data import load_clips
from audiocodec.train.health import latent_blocks, residual_energies

LEVELS = (1, 2, 4, 8, 16)
METRICS = tuple(BY_NAME[name] for name in ("mel12", "si_sdr", "stoi", "pesq_wb"))
SETTINGS = ((1, 0), (WIDTH, 1), (WIDTH, LOOKAHEAD), (WIDTH, 16), (3, LOOKAHEAD), (8, LOOKAHEAD))
HEARD = ((1, 0), (WIDTH, LOOKAHEAD))  # those that are decoded too


def figures_of(model: CodecModel, clip: Clip, audio: torch.Tensor, codes: torch.Tensor) -> list[list[float]]:
    """The metrics at each of LEVELS: [levels, metrics]."""
    found = []
    for n_q in LEVELS:
        decoded = model.decode(codes[:, :n_q], len(audio)).audio_values[0, 0]
        values, _ = measure(clip, audio.numpy(), decoded.numpy(), model.config.sample_rate, METRICS)
        found.append([values[metric.name] for metric in METRICS])
    return found


@torch.inference_mode()
def main() -> None:
    """Measures all settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    torch.set_num_threads(1)
    model = load_model(model_folder(DEFAULT_MODEL))
    n_q, clips = model.quantizer.n_q, load_clips([parser.parse_args().clips], model.config.sample_rate)
    audio = [clips[n] for n in range(len(clips))]
    latents = [torch.cat(list(latent_blocks(model, samples)), dim=2) for samples in audio]
    rows = []
    for width, lookahead in SETTINGS:
        begun = time.perf_counter()
        codes = [search(model.quantizer.levels, z, n_q, width=width, lookahead=lookahead) for z in latents]
        row = {"width": width, "lookahead": lookahead, "seconds": time.perf_counter() - begun}
        pairs = zip(latents, codes, strict=True)
        energies = sum(residual_energies(model.quantizer, *pair) for pair in pairs)
        row["left"] = {n: float(energies[n] / energies[0]) for n in LEVELS}
        if (width, lookahead) in HEARD:
            named = zip(clips.names, audio, codes, strict=True)
            each = [figures_of(model, Clip(name, "speech", Path(name)), *pair) for name, *pair in named]
            means = np.mean(each, axis=0).tolist()
            row["heard"] = {
                n: dict(zip([m.name for m in METRICS], values, strict=True))
                for n, values in zip(LEVELS, means, strict=True)
            }
        rows.append(row)
        print(
            f"| {width} | {lookahead} |",
            *(f"{row['left'][n]:.4f} |" for n in LEVELS),
            f"{row['seconds']:.1f} s |",
            row.get("heard", ""),
        )
    result = {"model": model.config.name, "machine": facts()["cpu"], "clips": len(clips), "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
