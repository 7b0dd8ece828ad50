"""`codec codebooks`: how well a model's codebooks are used."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.batch import Facts, print_json
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Quiet, console_of

if TYPE_CHECKING:
    from audiocodec.codec import Codec
    from audiocodec.train.health import LevelHealth

USAGE = "MODEL --data PATH [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec codebooks runs/mine/model --data speech/
  codec codebooks general-24khz-7 --data speech/ --plot use.png
"""
JSON_KEYS = {
    "model": "name of the model",
    "code_space": "code space id, in hex",
    "seconds": "audio that was coded",
    "levels": "for each level `size` (entries), `perplexity`, `entropy_bits`, `used` (share of the entries), "
    "`residual_energy` (what is left after it, as a share of the latents'; absent for other codecs' models), "
    "and `warning` (null, or what is wrong)",
}


def run(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", hidden=True)],
    *,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="A folder or .tar archive of audio to code.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw how often each entry is used.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Show how well a model's codebooks are used.

    MODEL is a name or folder, as -m takes. Each level has a line: perplexity (so many entries, evenly used, would
    say as much), entropy in bits, share of the entries in use, energy left over. Levels that collapse are named.
    """
    console = console_of(context, quiet=quiet)
    if data is None:
        raise UsageError("--data is missing: a folder or .tar archive of audio to code")
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot}: expected a name that ends in .png")
    from audiocodec.output import atomic_output, check_free

    if plot is not None:
        check_free(plot, overwrite=force)
    from audiocodec.codec import load
    from audiocodec.train.data import load_clips
    from audiocodec.train.health import codec_health, save_plot

    codec = load(model)
    clips = load_clips([data], codec.space.sample_rate)
    levels = codec_health(codec, clips)
    if json:
        print_json(_facts(codec, levels, len(clips.samples) / codec.space.sample_rate))
    else:
        print(table(levels))
    for n, level in enumerate(levels, 1):
        if level.warning:
            console.warn(f"level {n} {level.warning}")
    if not all(level.judgeable for level in levels):
        fewest = min(int(level.counts.sum()) for level in levels)
        console.warn(f"{fewest} codes are too few to say which entries are not used: give more audio")
    if plot is not None:
        with atomic_output(plot, overwrite=force) as path:
            save_plot(levels, path)
        console.say(f"{data} -> {plot}")
    return 0


def table(levels: Sequence["LevelHealth"]) -> str:
    """A line for each level, under a heading."""
    lines = ["level   size  perplexity  entropy        used    left over"]
    for n, level in enumerate(levels, 1):
        left = "-" if level.residual_energy is None else f"{level.residual_energy:.1%}"
        entropy = f"{level.entropy_bits:.2f}/{math.log2(level.size):.1f}"
        lines.append(
            f"{n:>5}  {level.size:>5}  {level.perplexity:>10.1f}  {entropy:<10}  {level.used:>7.1%}  {left:>11}"
        )
    return "\n".join(lines)


def _facts(codec: "Codec", levels: Sequence["LevelHealth"], seconds: float) -> Facts:
    """What --json prints."""
    rows = [{"size": each.size, **each.figures(), "warning": each.warning or None} for each in levels]
    return {
        "model": codec.space.model,
        "code_space": codec.space.id.hex(),
        "seconds": round(seconds, 3),
        "levels": rows,
    }
