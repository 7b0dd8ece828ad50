"""The training loop: steps, log, checkpoints, validation, on a CPU, a GPU, or several under `torchrun`."""

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from audiocodec.errors import CodecError, ModelError
from audiocodec.model.config import from_dict
from audiocodec.model.store import load_model, save_model
from audiocodec.train.data import Clips, load_clips, split_clips
from audiocodec.train.growth import start_from
from audiocodec.train.losses import MEL_WINDOWS, window_terms
from audiocodec.train.recipe import Recipe
from audiocodec.train.state import RunState, TrainingState, load_checkpoint, new_state, save_checkpoint
from audiocodec.train.steps import autocast, train_step
from audiocodec.train.validate import save_spectrograms, validate

log = logging.getLogger(__name__)

LOG_EVERY_STEPS = 50
CHECKPOINT_EVERY_SECONDS = 180
TIMED_STEPS = 3
COMPILATIONS_PER_STAGE = 4  # one, another where noise or temperature changes, and room for the timing of bf16
MAX_VALIDATION_CLIPS = 24


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever shows it."""

    step: int
    n_steps: int
    stage: str
    seconds_left: float
    figures: dict[str, float]


def train(
    recipe: Recipe,
    data: list[Path],
    out: Path,
    *,
    valid: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    max_minutes: float | None = None,
    init: Path | None = None,
    resume: bool = False,
    compiled: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Trains what `recipe` says on the audio in `data`; returns the folder of the exported model.

    out gets recipe.json, metrics.jsonl, checkpoint.pt, a PNG per validation, and model/ (averaged weights).
    valid: a folder of clips to validate on; without it a few clips of the data are held out.
    init: folder of a model whose weights a new run starts from; the recipe's may be larger (see `start_from`).
    max_minutes ends the run in good order, and so does `stop`, asked after every step; `resume` goes on where the
    last checkpoint is: one process on a CPU to the same result, others to one like it (a GPU adds in any order, and
    processes after the first draw crops anew). compiled: a minute or so at the start, then fewer seconds a step.
    Under `torchrun` every process has its own crops, and gradients are averaged.
    Raises CodecError if `out` holds a run already and `resume` is not given.
    """
    started = time.monotonic()
    torch.set_flush_denormal(True)  # denormal numbers can make a step twenty times as slow
    if threads is not None:
        torch.set_num_threads(threads)
    rank, place = join_processes(device)
    state = new_state(recipe, place, rank)
    if init is not None and not resume:
        start_from(state, load_model(init))
    open_run(recipe, out, resume, partial(load_checkpoint, state), rank)
    clips, held_out = load_data(data, valid, recipe, place)
    if compiled:
        compile_model(state)
    bf16 = choose_bf16(state)
    hours = len(clips.samples) / recipe.model.sample_rate / 3600
    log.info("%d clips, %.1f hours, bf16 %s", len(clips), hours, "on" if bf16 else "off")

    deadline = started + 60 * (max_minutes if max_minutes is not None else float("inf"))
    saved = began = time.monotonic()
    first_step = state.step
    history: list[dict[str, torch.Tensor]] = []
    while state.step < recipe.n_steps and not agreed(stop() or time.monotonic() > deadline, place):
        figures_now = train_step(state, clips, bf16=bf16)
        if rank == 0:
            history.append(figures_now)
        if rank == 0 and state.step % LOG_EVERY_STEPS == 0:
            seconds_per_step = (time.monotonic() - began) / (state.step - first_step)
            figures = mean_figures(history) | {"seconds_per_step": seconds_per_step}
            stage, _ = recipe.stage_at(state.step - 1)
            append_metrics(out, state.step, stage.name, figures)
            left = min((recipe.n_steps - state.step) * seconds_per_step, deadline - time.monotonic())
            progress(Progress(state.step, recipe.n_steps, stage.name, left, figures))
            history.clear()
        if rank == 0 and time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            save_checkpoint(state, out / "checkpoint.pt")
            saved = time.monotonic()
        if rank == 0 and state.step % recipe.validate_every == 0 and state.step < recipe.n_steps:
            report(state, held_out, out)
    if rank == 0:
        save_checkpoint(state, out / "checkpoint.pt")
        if not stop():  # whoever stops a run by hand does not wait for a validation
            report(state, held_out, out)
    return out / "model"


def join_processes(device: str) -> tuple[int, torch.device]:
    """This process's rank and device; joins the others if `torchrun` started several."""
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if "WORLD_SIZE" not in os.environ:
        return 0, torch.device("cuda" if use_cuda else "cpu")
    local_rank = int(os.environ["LOCAL_RANK"])
    if use_cuda:
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if use_cuda else "gloo")
    return dist.get_rank(), torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")


def agreed(wish: bool, place: torch.device) -> bool:
    """True as soon as any process wishes it: all stop at the same step."""
    if not dist.is_initialized():
        return wish
    flag = torch.tensor(float(wish), device=place)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)


def open_run(recipe: Any, out: Path, resume: bool, load: Callable[[Path], None], rank: int = 0) -> None:
    """Makes the run's folder with its recipe, or calls `load` with the checkpoint to go on from."""
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.exists():
        load(checkpoint)
    elif resume:
        raise CodecError(f"{checkpoint}: no checkpoint to resume from; start without --resume")
    elif checkpoint.exists():
        raise CodecError(f"{out} holds a run already: go on with --resume, or choose another --out")
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        keep_recipe(recipe, out / "recipe.json")


def keep_recipe(recipe: Any, file: Path) -> None:
    """Writes the whole recipe; a warning names what differs from the one that stood there."""
    text = json.dumps(asdict(recipe), indent=1) + "\n"
    if file.exists():
        before = json.loads(file.read_text())
        with suppress(ModelError):  # settings that are new since then stood at their defaults
            before = json.loads(json.dumps(asdict(from_dict(type(recipe), before))))
        now = json.loads(text)
        changed = [name for name in now if now[name] != before.get(name)]
        if changed:
            log.warning("the recipe has changed since the run's last start: %s", ", ".join(changed))
    file.write_text(text)


def load_data(
    data: list[Path], valid: Path | None, recipe: Recipe, place: torch.device
) -> tuple[Clips, Clips]:
    """Clips to train on, wholly on the device, and clips to validate on."""
    clips = load_clips(data, recipe.model.sample_rate)
    if valid is None:
        clips, held_out = split_clips(clips)
    else:
        held_out = spread(load_clips([valid], recipe.model.sample_rate), MAX_VALIDATION_CLIPS)
    return clips.to(place), held_out.to(place)


def spread(clips: Clips, n: int) -> Clips:
    """At most n clips, evenly chosen."""
    return clips.subset(evenly(len(clips), n))


def evenly(n_there: int, n: int) -> list[int]:
    """Which n of n_there things to take; all, if there are no more.

    >>> evenly(7, 3), evenly(2, 3)
    ([0, 2, 4], [0, 1])
    """
    step = max(1, n_there / n)
    return [int(i * step) for i in range(min(n, n_there))]


def compile_model(state: TrainingState) -> None:
    """Hands model and losses to `torch.compile`, with room for every stage and window: past it nothing is compiled."""
    n_compilations = max(COMPILATIONS_PER_STAGE * len(state.recipe.stages), len(MEL_WINDOWS))
    dynamo = torch._dynamo.config  # newer ones call it recompile_limit, and know this name
    dynamo.cache_size_limit = max(dynamo.cache_size_limit, n_compilations)
    state.model.compile()
    state.window_terms = torch.compile(window_terms, dynamic=False)


def choose_bf16(state: RunState) -> bool:
    """Whether to compute in bf16: timed once per kind of processor and kept, so that a resumed run is the same."""
    kind = f"{state.device.type} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    pays = state.bf16[kind] if kind in state.bf16 else bf16_pays(state)
    state.bf16[kind] = agreed(pays, state.device)  # asked by all processes, whatever each of them knows
    return state.bf16[kind]


def bf16_pays(state: RunState) -> bool:
    """Whether bf16 autocast makes a forward and backward pass faster here; a GPU is taken to."""
    if state.device.type == "cuda":
        return True
    seconds = {}
    for bf16 in (False, True):
        times = []
        for _ in range(TIMED_STEPS):
            begun = time.monotonic()
            with autocast(state.device, bf16):
                loss = state.trial_loss()
            loss.backward()  # type: ignore[no-untyped-call]
            times.append(time.monotonic() - begun)
        seconds[bf16] = min(times)
    state.optimizer.zero_grad()
    return seconds[True] < seconds[False]


def mean_figures(history: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Means over the steps of each figure that any of them has."""
    names = dict.fromkeys(name for figures in history for name in figures)
    return {
        name: float(torch.stack([figures[name].float() for figures in history if name in figures]).mean())
        for name in names
    }


def append_metrics(out: Path, step: int, stage: str, figures: dict[str, Any]) -> None:
    """One line of metrics.jsonl: step, stage, figures."""
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "stage": stage, **figures}) + "\n")


def report(state: TrainingState, held_out: Clips, out: Path) -> None:
    """Validates the averaged weights, draws the picture, exports the model."""
    stage, _ = state.recipe.stage_at(max(0, state.step - 1))
    figures = validate(state.averaged, held_out, quantized=stage.quantize)
    append_metrics(out, state.step, stage.name, {"valid": figures})
    picture = out / f"spectrograms-{state.step:06d}.png"
    save_spectrograms(state.averaged, held_out, picture, quantized=stage.quantize)
    save_model(state.averaged, out / "model", state.recipe.model.name)
    log.info("step %d: %s", state.step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
