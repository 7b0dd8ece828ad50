"""Trains a prior: codes of the data, steps, log, checkpoints, validation, on a CPU or a GPU."""

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from audiocodec.errors import CodecError
from audiocodec.model.catalogue import PRIOR, model_folder
from audiocodec.model.store import load_model
from audiocodec.prior.data import CodedClips, coded_data
from audiocodec.prior.likelihood import bits_per_code
from audiocodec.prior.network import Prior
from audiocodec.prior.recipe import PriorRecipe
from audiocodec.prior.state import (
    PriorTraining,
    load_checkpoint,
    new_training,
    save_checkpoint,
    start_from,
    train_step,
)
from audiocodec.prior.store import load_prior, save_prior
from audiocodec.train.loop import (
    CHECKPOINT_EVERY_SECONDS,
    LOG_EVERY_STEPS,
    Progress,
    append_metrics,
    choose_bf16,
    evenly,
    mean_figures,
    open_run,
)

log = logging.getLogger(__name__)

MAX_VALIDATION_FRAMES = 750  # of a clip
MAX_VALIDATION_CLIPS = 60
STAGE = "prior"  # in the log, where a model's training names its stages


def train_prior(
    recipe: PriorRecipe,
    data: list[Path],
    out: Path,
    *,
    valid: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    max_minutes: float | None = None,
    init: Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Trains what `recipe` says on the codes of the audio in `data`; returns the folder of the exported prior.

    out gets recipe.json, metrics.jsonl, checkpoint.pt, the codes, and prior/ (averaged weights).
    init: folder of a prior whose weights a new run starts from. The other arguments are those of
    `audiocodec.train.loop.train`; training is one process, on one device.
    Raises CodecError if `out` holds a run already and `resume` is not given, ModelError for a model that no prior is
    for, and for a checkpoint of another one.
    """
    started = time.monotonic()
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    place = _place(device)
    model = load_model(model_folder(recipe.model)).to(place)
    state = new_training(recipe, model, place)
    if init is not None and not resume:
        start_from(state, load_prior(init))
    open_run(recipe, out, resume, partial(load_checkpoint, state))
    clips, held_out = coded_data(model, data, valid, recipe.data.kinds, out)
    clips = clips.to(place)
    bf16 = choose_bf16(state)
    log.info("%d clips, %d frames, bf16 %s", len(clips), clips.codes.shape[1], "on" if bf16 else "off")

    deadline = started + 60 * (max_minutes if max_minutes is not None else float("inf"))
    saved = began = time.monotonic()
    first_step = state.step
    history: list[dict[str, torch.Tensor]] = []
    while state.step < recipe.steps and not stop() and time.monotonic() < deadline:
        history.append(train_step(state, clips, bf16=bf16))
        if state.step % LOG_EVERY_STEPS == 0:
            seconds_per_step = (time.monotonic() - began) / (state.step - first_step)
            figures = mean_figures(history) | {"seconds_per_step": seconds_per_step}
            append_metrics(out, state.step, STAGE, figures)
            left = min((recipe.steps - state.step) * seconds_per_step, deadline - time.monotonic())
            progress(Progress(state.step, recipe.steps, STAGE, left, figures))
            history.clear()
        if time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            save_checkpoint(state, out / "checkpoint.pt")
            saved = time.monotonic()
        if state.step % recipe.validate_every == 0 and state.step < recipe.steps:
            _report(state, held_out, out)
    save_checkpoint(state, out / "checkpoint.pt")
    if not stop():  # whoever stops a run by hand does not wait for a validation
        _report(state, held_out, out)
    return out / PRIOR


def validate(prior: Prior, clips: CodedClips) -> dict[str, float]:
    """Mean bits per code of the clips' beginnings: of all, by level, and by kind where there are any.

    The kind is told, as `--kind` does; "untold": the mean of all where it is not.
    """
    kinds = prior.config.kinds
    told, untold, kind_of_clip = [], [], []
    for n in evenly(len(clips), MAX_VALIDATION_CLIPS):
        codes = clips[n][:, :MAX_VALIDATION_FRAMES].cpu().numpy()
        number = int(clips.kinds[n])
        untold.append(bits_per_code(prior, codes))
        told.append(bits_per_code(prior, codes, kinds[number]) if number < len(kinds) else untold[-1])
        kind_of_clip.append(number)
    bits = np.concatenate(told, axis=1)
    figures = {"bits_per_code": float(bits.mean()), "untold": float(np.concatenate(untold, axis=1).mean())}
    figures |= {f"bits_level{level}": float(value) for level, value in enumerate(bits.mean(1))}
    for number, kind in enumerate(kinds):
        parts = [part for part, own in zip(told, kind_of_clip, strict=True) if own == number]
        if parts:
            figures[f"bits_{kind}"] = float(np.concatenate(parts, axis=1).mean())
    return figures


def _place(device: str) -> torch.device:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CodecError("a prior trains in one process: start it without torchrun")
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def _report(state: PriorTraining, held_out: CodedClips, out: Path) -> None:
    """Validates the averaged weights and exports them."""
    figures = validate(state.averaged, held_out)
    append_metrics(out, state.step, STAGE, {"valid": figures})
    save_prior(state.averaged, out / PRIOR)
    log.info("step %d: %s", state.step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
