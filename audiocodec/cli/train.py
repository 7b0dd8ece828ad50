"""`codec train`: a model from a recipe and audio."""

import json
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiocodec.cli.console import clock
from audiocodec.cli.exits import INTERRUPTED, UsageError
from audiocodec.cli.options import Quiet, console_of
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from audiocodec.prior.recipe import PriorRecipe
    from audiocodec.train.loop import Progress
    from audiocodec.train.recipe import Recipe

USAGE = "RECIPE --data PATH... [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec train recipes/default --data speech/ music.tar
  codec train recipes/default --data speech/ --resume --max-minutes 60
"""
DEVICES = ("auto", "cpu", "cuda")
HIDDEN_FIGURES = ("seconds_per_step", "grad_norm")  # said otherwise, or of no use while one waits


def run(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", hidden=True)],
    more: Annotated[list[Path] | None, typer.Argument(hidden=True, metavar="[DATA]...")] = None,
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH...",
            help="Folders or .tar archives of audio to train on.",
        ),
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option("--valid", metavar="DIR", help="Audio to validate on.  [default: some of the data]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run's folder.  [default: runs/<name of the recipe>]"),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Start from the weights of a model, or of its prior: a name or folder.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="DEVICE", help="auto, cpu or cuda; auto takes a GPU if there is one."
        ),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads on a CPU.  [default: all cores]")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", metavar="M", help="End in good order after so long.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile a model first: slow to start, then faster steps.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe as TOML, and exit.")] = False,
    quiet: Quiet = False,
) -> int:
    """Train a model, or a prior over a model's codes, from a recipe.

    RECIPE is a .toml file, or the folder of a recipe.toml. The run's folder gets checkpoints, metrics,
    spectrograms, and model/, which -m takes; or prior/. Ctrl-C stops a run; --resume goes on with it.
    """
    console = console_of(context, quiet=quiet)
    _check_options(device, threads, max_minutes)
    if init is not None and resume:
        raise UsageError(
            "--init is for a new run, and --resume for one that has begun: leave one of them out"
        )
    from audiocodec.prior.recipe import is_prior_recipe, load_prior_recipe
    from audiocodec.train.recipe import load_recipe

    loaded = load_prior_recipe(recipe) if is_prior_recipe(recipe) else load_recipe(recipe)
    if show:
        print(to_toml(asdict(loaded)), end="")
        return 0
    sources = _sources(data or [], more or [], valid)
    folder = Path("runs") / loaded.name if out is None else out
    train = _training_of(loaded, init, compiled=compiled)

    _check_device(device)
    logging.getLogger("audiocodec").setLevel(logging.INFO)
    with _interruption() as interrupted:
        model = train(
            sources,
            folder,
            valid=valid,
            device=device,
            threads=threads,
            max_minutes=max_minutes,
            resume=resume,
            progress=lambda progress: console.tick(progress_line(progress)),
            stop=interrupted.is_set,
        )
    if interrupted.is_set():
        console.fail(f"interrupted; the same command with --resume goes on from the checkpoint in {folder}")
        return INTERRUPTED
    console.say(f"{recipe} -> {model}")
    return 0


def _training_of(recipe: "Recipe | PriorRecipe", init: str | None, *, compiled: bool) -> Callable[..., Path]:
    """What trains a recipe, given the rest of its arguments. Raises UsageError for a prior that is to be compiled."""
    from audiocodec.model.catalogue import PRIOR, model_folder
    from audiocodec.train.recipe import Recipe

    folder = None if init is None else model_folder(init)
    if isinstance(recipe, Recipe):
        from audiocodec.train.loop import train

        return partial(train, recipe, init=folder, compiled=compiled)
    from audiocodec.prior.training import train_prior

    if compiled:
        raise UsageError("--compile: for models, not for priors; leave it out")
    return partial(train_prior, recipe, init=None if folder is None else folder / PRIOR)


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a step is finished and saved; a second Ctrl-C stops at once."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        interrupted.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def progress_line(progress: "Progress") -> str:
    """Where a run stands, in one line."""
    figures = progress.figures
    losses = [f"{name} {value:.3g}" for name, value in figures.items() if name not in HIDDEN_FIGURES]
    return (
        f"step {progress.step}/{progress.n_steps} {progress.stage}  {' '.join(losses)}  "
        f"{figures['seconds_per_step']:.2f} s/step  {clock(progress.seconds_left)} left"
    )


def _check_options(device: str, threads: int | None, max_minutes: float | None) -> None:
    """Raises UsageError for values that cannot be."""
    if device not in DEVICES:
        raise UsageError(f"--device {device}: expected {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: expected 1 or more")
    if max_minutes is not None and not (max_minutes > 0 and math.isfinite(max_minutes)):
        raise UsageError(f"--max-minutes {max_minutes:g}: expected more than 0")


def _check_device(device: str) -> None:
    """Raises CodecError where there is no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise CodecError("--device cuda: torch finds no GPU here; leave --device out")


def _sources(data: Sequence[Path], more: Sequence[Path], valid: Path | None) -> list[Path]:
    """What --data names; `more` are the names after its first one, which the parser leaves over."""
    if not data:
        raise UsageError("--data is missing: folders or .tar archives of audio to train on")
    for path in [*data, *more, *([] if valid is None else [valid])]:
        if not path.exists():
            raise CodecError(f"{path} does not exist: expected a folder or a .tar archive of audio")
    return [*data, *more]


def to_toml(values: Mapping[str, Any], path: str = "") -> str:
    """Nested plain values as TOML; tables and lists of tables come last, as TOML wants it.

    >>> print(to_toml({"name": "a", "stages": [{"steps": 2}], "model": {"spans": (4, 2)}}), end="")
    name = "a"
    <BLANKLINE>
    [[stages]]
    steps = 2
    <BLANKLINE>
    [model]
    spans = [4, 2]
    """
    plain, tables = [], []
    for key, value in values.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            tables.append(f"\n[{name}]\n{to_toml(value, name + '.')}")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{name}]]\n{to_toml(item, name + '.')}" for item in value]
        else:
            plain.append(f"{key} = {json.dumps(value)}\n")  # JSON's numbers, strings and lists are TOML's too
    return "".join(plain + tables)
