"""`codec tables`: the entropy coder's tables for a model."""

from pathlib import Path
from typing import Annotated

import typer

from audiocodec.cli.coding import prepare_torch
from audiocodec.cli.console import size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Quiet, console_of
from audiocodec.errors import CodecError
from audiocodec.output import atomic_output

USAGE = "MODEL AUDIO... [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec tables runs/default/model speech/ music.tar
  codec tables runs/small/model speech/ --steps 1000
"""


def run(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", hidden=True)],
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO", hidden=True)],
    *,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Training steps.")] = 3000,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Fit the tables that let files of a model be entropy-coded.

    MODEL is a model's folder, which gets entropy.npz; AUDIO is what the model was trained on, or like it: folders or
    .tar archives, an hour or more. Files name the tables that they need: other tables make a file unreadable,
    so fit them once, before the model is used.
    """
    console = console_of(context, quiet=quiet)
    if steps < 1:
        raise UsageError(f"--steps {steps}: expected 1 or more")
    from audiocodec.model.catalogue import TABLES, model_folder

    target = model_folder(model) / TABLES
    if target.exists() and not force:
        raise CodecError(f"{target} exists: files that were coded with it need it; use -f to replace it")
    for path in audio:
        if not path.exists():
            raise CodecError(f"{path} does not exist: expected a folder or a .tar archive of audio")
    from audiocodec.bitstream.entropy import save_tables
    from audiocodec.model.store import load_model
    from audiocodec.train.data import load_clips
    from audiocodec.train.tables import fit_tables, groups_of_codes

    prepare_torch()
    loaded = load_model(target.parent)
    clips = load_clips(audio, loaded.config.sample_rate)
    console.tick(f"coding {len(clips)} clips")
    groups = groups_of_codes(loaded, clips)

    def progress(step: int, bits_per_code: float) -> None:
        console.tick(f"step {step}/{steps}  {bits_per_code:.2f} bits per code")

    arrays = fit_tables(loaded, groups, steps=steps, progress=progress)
    with atomic_output(target, overwrite=force) as temporary:
        save_tables(temporary, arrays)
    console.say(f"{target}  {size(target.stat().st_size)}")
    return 0
