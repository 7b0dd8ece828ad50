"""A trained model with its codebooks refitted to audio: nearer to the latents, for nothing but some minutes.

    python recipes/refit.py MODEL OUT AUDIO... --name NAME

MODEL: a name or folder; OUT: the new model's folder; AUDIO: folders or .tar archives like what it was trained on, an
hour or more. Codes mean nearly what they meant, but the code space is another one: the name should be another too, and
tables and prior (whose files name the code space) are to be made anew.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from audiocodec.cli.coding import prepare_torch
from audiocodec.model.catalogue import model_folder
from audiocodec.model.codec import CodecModel
from audiocodec.model.store import load_model, save_model
from audiocodec.train.codebooks import refit
from audiocodec.train.data import Clips, load_clips
from audiocodec.train.health import latent_blocks


@torch.inference_mode()
def latents_of(model: CodecModel, clips: Clips) -> Tensor:
    """All clips, end to end: [1, D, F]."""
    found = [block for index in range(len(clips)) for block in latent_blocks(model, clips[index])]
    return torch.cat(found, dim=2)


def main() -> None:
    """Refits and saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("audio", type=Path, nargs="+")
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    prepare_torch()
    model = load_model(model_folder(options.model))
    latents = latents_of(model, load_clips(options.audio, model.config.sample_rate))
    print(f"{latents.shape[2]} frames")
    refit(model.quantizer, latents)
    save_model(model, options.out, options.name)


if __name__ == "__main__":
    main()
