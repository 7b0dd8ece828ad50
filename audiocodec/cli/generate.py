"""`codec generate`: new audio, sampled from a prior over a model's codes."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.coding import prepare_torch, times
from audiocodec.cli.console import Console, clock, size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Quiet, console_of
from audiocodec.cli.plan import PIPE, Job, check_output_dir, check_target
from audiocodec.output import is_special

if TYPE_CHECKING:
    from audiocodec.codec import Codec
    from audiocodec.codes import Codes
    from audiocodec.prior.network import Prior

USAGE = "OUTPUT [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec generate out.wav --kind music --seconds 20
  codec generate longer.flac --prompt talk.wav --seconds 5 --seed 3
"""
CODES_SUFFIX = ".rq"


def run(
    context: typer.Context,
    output: Annotated[str, typer.Argument(metavar="OUTPUT", hidden=True)],
    *,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="How much is made; after the prompt, with one.")
    ] = 10.0,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="speech, music or sounds.  [default: whatever comes]"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="AUDIO", help="A recording that is to go on.")
    ] = None,
    temperature: Annotated[
        float,
        typer.Option("--temperature", metavar="T", help="Below 1 the likely gets likelier, above it rarer."),
    ] = 0.9,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", metavar="K", help="Only the K likeliest codes.  [default: all]"),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Another number gives other audio, the same the same.")
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="NAME|DIR", help="The model.  [default: the shipped one]"),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option("--prior", metavar="DIR", help="The prior.  [default: the one in the model's folder]"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Make new audio by sampling.

    The output is mono, and written as it is made. Its suffix says the format; .rq takes the codes as they are; `-` is
    standard output (WAV). With --prompt it begins with that recording as the codec gives it back, has its sample rate,
    and is S seconds longer.
    """
    console = console_of(context, quiet=quiet)
    _check_output(output, overwrite=force)
    _check_numbers(seconds, temperature, top_k, seed)
    _prepare()
    codec, loaded = _load(model, prior)
    loaded.config.kind_index(kind)  # before the prompt, which may be long
    known = None if prompt is None else _read_prompt(prompt, codec, loaded.config.n_q)
    from audiocodec.prior.files import write_audio, write_codes
    from audiocodec.prior.sampling import generate_codes

    begun = time.perf_counter()
    generated = generate_codes(
        codec.space,
        loaded,
        seconds,
        prompt=known,
        kind=kind,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    sample_rate = generated.source.sample_rate
    duration_seconds = generated.n_samples / sample_rate
    target = sys.stdout.buffer if output == PIPE else output
    with console.progress(output, duration_seconds) as progress:
        if isinstance(target, str) and _suffix(target) == CODES_SUFFIX:
            write_codes(codec, generated, target, overwrite=force, progress=progress)
        else:
            write_audio(codec, generated, target, overwrite=force, progress=progress)
    speed = times(seconds, time.perf_counter() - begun)  # a prompt costs next to nothing
    _report(output, duration_seconds, sample_rate, speed, console)
    return 0


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _check_output(name: str, *, overwrite: bool) -> None:
    """Raises UsageError or CodecError for an output that cannot be."""
    from audiocodec.audio import OUTPUT_SUFFIXES

    if name == PIPE and sys.stdout.isatty():
        raise UsageError("the output would go to the terminal: give it a name, or redirect stdout")
    if name == PIPE or is_special(Path(name)):
        return
    suffixes = (*OUTPUT_SUFFIXES, CODES_SUFFIX)
    if _suffix(name) not in suffixes:
        raise UsageError(f"{name} is no output name (expected one of {' '.join(suffixes)}, or -)")
    job = Job("", name)
    check_output_dir(None, [job])
    check_target(job, overwrite=overwrite)


def _check_numbers(seconds: float, temperature: float, top_k: int | None, seed: int) -> None:
    """Raises UsageError for numbers that cannot be, before anything slow begins."""
    for option, value in (("--seconds", seconds), ("--temperature", temperature)):
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{option} {value:g}: expected more than 0")
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top-k {top_k}: expected 1 or more")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: expected 0 or more, below 2^63")


def _prepare() -> None:
    """One thread, whatever the environment says: sums in another order could end in another code."""
    prepare_torch()
    import torch

    torch.set_num_threads(1)


def _load(model: str | None, prior: str | None) -> "tuple[Codec, Prior]":
    """The model and its prior, or the prior that --prior names; both on the CPU, for the same seed's sake."""
    from audiocodec.codec import load
    from audiocodec.model.catalogue import DEFAULT_MODEL
    from audiocodec.prior.store import check_space, load_prior, prior_of_model

    name = DEFAULT_MODEL if model is None else model
    loaded = prior_of_model(name) if prior is None else load_prior(prior)
    codec = load(name, device="cpu")
    check_space(loaded, codec.space)
    return codec, loaded


def _read_prompt(name: str, codec: "Codec", n_q: int) -> "Codes":
    """Codes of n_q levels of the recording that is to go on."""
    from audiocodec.prior.files import read_prompt

    return read_prompt(codec, n_q, sys.stdin.buffer if name == PIPE else name)


def _report(output: str, duration_seconds: float, sample_rate: int, speed: str, console: Console) -> None:
    """The line of results."""
    line = f"{'<stdout>' if output == PIPE else output}  {clock(duration_seconds)}  {sample_rate} Hz"
    if output != PIPE and Path(output).is_file():
        line += f"  {size(Path(output).stat().st_size)}"
    console.say(f"{line}  {speed}")
