"""Trains a prior: codes of the data, steps, log, checkpoints, validation, on a CPU or a GPU."""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiocodec.errors import CodecError
from audiocodec.model.catalogue import model_folder
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
    train_step,
)
from audiocodec.prior.store import PRIOR, save_prior
from audiocodec.train.loop import (
    CHECKPOINT_EVERY_SECONDS,
    LOG_EVERY_STEPS,
    TIMED_STEPS,
    Progress,
    mean_figures,
)
from audiocodec.train.steps import autocast

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
    resume: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Trains what `recipe` says on the codes of the audio in `data`; returns the folder of the exported prior.

    out gets recipe.json, metrics.jsonl, checkpoint.pt, the codes, and prior/ (averaged weights). The arguments are
    those of `audiocodec.train.loop.train`; training is one process, on one device.
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
    _open_run(state, out, resume)
    clips, held_out = coded_data(model, data, valid, recipe.data.kinds, out)
    clips = clips.to(place)
    bf16 = _choose_bf16(state, clips)
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
            _append_metrics(out, state, figures)
            left = min((recipe.steps - state.step) * seconds_per_step, deadline - time.monotonic())
            progress(Progress(state.step, recipe.steps, STAGE, left, figures))
            history.clear()
        if time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            save_checkpoint(state, out / "checkpoint.pt")
            saved = time.monotonic()
        if state.step % recipe.validate_every == 0:
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
    step = max(1, len(clips) // MAX_VALIDATION_CLIPS)
    told, untold, kind_of_clip = [], [], []
    for n in range(0, len(clips), step):
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


def _open_run(state: PriorTraining, out: Path, resume: bool) -> None:
    """Makes the run's folder, or brings the state to where its last checkpoint stands."""
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.exists():
        load_checkpoint(state, checkpoint)
    elif resume:
        raise CodecError(f"{checkpoint}: no checkpoint to resume from; start without --resume")
    elif checkpoint.exists():
        raise CodecError(f"{out} holds a run already: go on with --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(state.recipe), indent=1) + "\n")


def _choose_bf16(state: PriorTraining, clips: CodedClips) -> bool:
    """Whether to compute in bf16: timed once per kind of processor and kept, so that a resumed run is the same."""
    kind = f"{state.device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    if kind not in state.bf16:
        state.bf16[kind] = bf16_pays(state)
    return state.bf16[kind]


def bf16_pays(state: PriorTraining) -> bool:
    """Whether bf16 autocast makes a forward and backward pass faster here; a GPU is taken to."""
    if state.device.type == "cuda":
        return True
    sizes, data = state.prior.config.codebook_sizes, state.recipe.data
    codes = torch.zeros(data.batch_size, len(sizes), data.crop_frames, dtype=torch.int64)
    kinds = torch.zeros(data.batch_size, dtype=torch.int64)
    state.prior.eval()  # dropout would use random numbers up
    seconds = {}
    for bf16 in (False, True):
        times = []
        for _ in range(TIMED_STEPS):
            begun = time.monotonic()
            with autocast(state.device, bf16):
                bits = state.prior.bits(codes, kinds)
            bits.mean().backward()  # type: ignore[no-untyped-call]
            times.append(time.monotonic() - begun)
        seconds[bf16] = min(times)
    state.prior.zero_grad()
    return seconds[True] < seconds[False]


def _append_metrics(out: Path, state: PriorTraining, figures: dict[str, Any]) -> None:
    """One line of metrics.jsonl: step, stage, figures."""
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": state.step, "stage": STAGE, **figures}) + "\n")


def _report(state: PriorTraining, held_out: CodedClips, out: Path) -> None:
    """Validates the averaged weights and exports them."""
    figures = validate(state.averaged, held_out)
    _append_metrics(out, state, {"valid": figures})
    save_prior(state.averaged, out / PRIOR)
    log.info("step %d: %s", state.step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
