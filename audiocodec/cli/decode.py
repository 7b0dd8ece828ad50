"""`codec decode`: `.rq` files -> audio files; and one item of a shard of `codec tokenize`."""

import io
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from audiocodec.cli.batch import Batch, Facts, make_folder, open_source
from audiocodec.cli.coding import prepare_torch, times
from audiocodec.cli.console import Console, clock, size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Json, OutputDir, Quiet, Raw, console_of
from audiocodec.cli.plan import (
    PIPE,
    RAW_SUFFIXES,
    Job,
    check_output_dir,
    check_source,
    check_target,
    json_allowed,
    plan_jobs,
    shown,
)

if TYPE_CHECKING:
    from audiocodec.codec import Codec
    from audiocodec.codes import CodeSpace
    from audiocodec.decoding import Decoding

USAGE = "INPUT.rq [OUTPUT] [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec decode talk.rq copy.flac --start 60 --duration 10
  codec decode codes/shard-000000.tar --index 3 out.wav
"""
JSON_KEYS = {
    "input": "name of the input",
    "output": "name of the output",
    "duration_seconds": "duration of the output",
    "sample_rate": "of the output, in Hz",
    "channels": "of the output, 1 or 2",
    "n_samples": "length of the output, in samples per channel",
    "levels": "levels of codes that were used",
    "model": "name of the model",
    "code_space": "code space id, in hex",
    "damage": "damaged places, a sentence each; more than none only with --keep-going",
    "speed": "seconds of audio per second of work, loading the model not counted but for a pipe",
    "error": "null; for an input that failed, why (then only `input` and `output` stand beside it)",
}
MAX_DAMAGE_LINES = 20


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options say about each file."""

    n_q: int | None
    sample_rate: int | None
    float32: bool
    start_seconds: float
    duration_seconds: float | None
    keep_going: bool
    overwrite: bool
    raw: bool


@dataclass(slots=True)
class Inputs:
    """The `.rq` streams of the inputs: their bytes, or the item that --index names as they would be, made once."""

    index: int | None
    _item: bytes = b""

    def can_reopen(self, name: str) -> bool:
        """Whether an input may be looked into before it is decoded, as a pipe may not."""
        return self.index is not None or Path(name).is_file()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Raises CodecError where the input cannot be read, ValueError where the shard has fewer items."""
        if self.index is None:
            with open_source(name) as file:
                yield file
            return
        if not self._item:
            from audiocodec.corpus.items import rq_bytes
            from audiocodec.corpus.shards import item_at

            self._item = rq_bytes(item_at(name, self.index))
        yield io.BytesIO(self._item)


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="INPUT.rq", hidden=True)],
    *,
    levels: Annotated[
        int | None,
        typer.Option("-n", "--levels", metavar="N", help="Use the first N levels only.  [default: all]"),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", help="Sample rate of the output.  [default: the source's]"),
    ] = None,
    float32: Annotated[
        bool, typer.Option("--float", help="32-bit float samples, not 16-bit (WAV only).")
    ] = False,
    start: Annotated[
        float, typer.Option("--start", metavar="S", show_default=False, help="Begin so many seconds in.")
    ] = 0.0,
    duration: Annotated[
        float | None, typer.Option("--duration", metavar="S", help="Stop after so many seconds.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", metavar="NAME|DIR", help="The model.  [default: the one the file names]"
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Silence for what is damaged; the exit code is 1 all the same."),
    ] = False,
    index: Annotated[
        int | None,
        typer.Option("--index", metavar="N", help="Item N, from 0, of a shard that codec tokenize wrote."),
    ] = None,
    output_dir: OutputDir = None,
    raw: Raw = False,
    force: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Decode .rq files into audio files.

    The output's suffix says the format: .wav .flac .ogg .opus .mp3 .aiff and others; without a name it is
    .wav. With -o there may be several inputs, and folders. `-` is standard input or output (WAV).
    """
    console = console_of(context, quiet=quiet)
    wishes = Wishes(levels, rate, float32, start, duration, keep_going, force, raw)
    _check_wishes(wishes)
    from audiocodec.audio import OUTPUT_SUFFIXES

    suffixes = RAW_SUFFIXES if raw else OUTPUT_SUFFIXES
    if index is None:
        jobs = plan_jobs(files, output_dir, input_suffixes=(".rq",), output_suffixes=suffixes)
    else:
        names = _item_names(files, index, output_dir)
        jobs = plan_jobs(names, None, input_suffixes=(), output_suffixes=suffixes)
    if json:
        json_allowed(jobs)
    if float32 and any(Path(job.target).suffix.lower() not in ("", ".wav") for job in jobs):
        raise UsageError("--float: float samples go into .wav only")
    inputs = Inputs(index)
    return Batch(console, json=json).run_all(
        jobs,
        check_all=lambda: check_output_dir(output_dir, jobs),
        check=lambda job: _check(job, inputs, wishes),
        load=lambda: Models(model),
        work=lambda job, models: _decode(job, inputs, models, wishes, console),
    )


def _check_wishes(wishes: Wishes) -> None:
    """Raises UsageError for what no file can give."""
    from audiocodec.audio import RATES, is_rate

    if wishes.raw and wishes.float32:
        raise UsageError("--raw samples have 16 bits: leave --float out")
    if wishes.sample_rate is not None and not is_rate(wishes.sample_rate):
        raise UsageError(f"--rate {wishes.sample_rate}: expected {RATES}")
    for option, seconds in (("--start", wishes.start_seconds), ("--duration", wishes.duration_seconds)):
        if seconds is not None and not (seconds >= 0 and math.isfinite(seconds)):
            raise UsageError(f"{option} {seconds:g}: expected 0 or more seconds")


def _item_names(files: Sequence[str], index: int, output_dir: str | None) -> list[str]:
    """A shard and what its item becomes: without a name, SHARD-INDEX.wav. Raises UsageError for anything else."""
    if index < 0:
        raise UsageError(f"--index {index}: expected 0 or more")
    if output_dir is not None:
        raise UsageError("--index takes one shard, and the name of an output instead of -o")
    if len(files) > 2:
        raise UsageError(f"{len(files)} names: --index takes one shard, and an output")
    return [files[0], f"{Path(files[0]).with_suffix('')}-{index}.wav"] if len(files) == 1 else list(files)


def _check(job: Job, inputs: Inputs, wishes: Wishes) -> None:
    """Raises CodecError or ValueError for what can be told about a job without a model."""
    from audiocodec.bitstream import Reader

    check_source(job)
    if inputs.can_reopen(job.source):
        with inputs.open(job.source) as file:
            space = Reader(file).header.space
        space.first(space.n_q if wishes.n_q is None else wishes.n_q)
    check_target(job, overwrite=wishes.overwrite)


@dataclass(slots=True)
class Models:
    """The models that the files need, each loaded once; or the one that -m names, for all."""

    name: str | None
    _loaded: "dict[bytes, Codec]" = field(default_factory=dict)
    _named: "Codec | None" = None

    def __post_init__(self) -> None:
        from audiocodec.codec import load

        prepare_torch()
        if self.name is not None:
            self._named = load(self.name)

    def for_space(self, space: "CodeSpace") -> "Codec":
        """The model for a file. Raises ModelError where there is none."""
        from audiocodec.codec import load_for

        if self._named is not None:
            return self._named
        if space.id not in self._loaded:
            self._loaded[space.id] = load_for(space)
        return self._loaded[space.id]

    def for_input(self, name: str, inputs: Inputs) -> "Codec | None":
        """The model for an input by its header; None for a pipe, whose header can be read only once."""
        from audiocodec.bitstream import Reader

        if self._named is not None or not inputs.can_reopen(name):
            return self._named
        with inputs.open(name) as file:
            return self.for_space(Reader(file).header.space)


def _decode(job: Job, inputs: Inputs, models: Models, wishes: Wishes, console: Console) -> Facts:
    """Decodes one input; the facts about it."""
    from audiocodec.audio import AudioWriter
    from audiocodec.decoding import Decoding, decode_to

    codec = models.for_input(job.source, inputs)
    begun = time.perf_counter()
    with inputs.open(job.source) as file:
        decoding = Decoding(
            file,
            codec,
            n_q=wishes.n_q,
            sample_rate=wishes.sample_rate,
            start_seconds=wishes.start_seconds,
            duration_seconds=wishes.duration_seconds,
            keep_going=wishes.keep_going,
        )
        total = decoding.n_samples
        make_folder(job.target)
        with (
            AudioWriter(
                sys.stdout.buffer if job.target == PIPE else job.target,
                decoding.sample_rate,
                decoding.header.source.channels,
                float32=wishes.float32,
                raw=wishes.raw,
                n_samples=total,
                tags=decoding.header.tags,
                overwrite=wishes.overwrite,
            ) as writer,
            console.progress(
                shown(job.source), None if total is None else total / decoding.sample_rate
            ) as progress,
        ):
            decode_to(decoding, writer, progress)
    seconds = time.perf_counter() - begun
    facts = _facts(job, decoding, wishes, writer.n_samples, seconds)
    _report(job, facts, seconds, console)
    return facts


def _report(job: Job, facts: Facts, seconds: float, console: Console) -> None:
    """The line of results, and one for each damaged place."""
    line = f"{job.label}  {clock(facts['duration_seconds'])}  {facts['sample_rate']} Hz"
    if job.target != PIPE and Path(job.target).is_file():
        line += f"  {size(Path(job.target).stat().st_size)}"
    console.say(f"{line}  {times(facts['duration_seconds'], seconds)}")
    for damage in facts["damage"][:MAX_DAMAGE_LINES]:
        console.fail(f"{shown(job.source)}: {damage}")
    if len(facts["damage"]) > MAX_DAMAGE_LINES:
        console.fail(f"{shown(job.source)}: {len(facts['damage']) - MAX_DAMAGE_LINES} more damaged places")


def _facts(job: Job, decoding: "Decoding", wishes: Wishes, n_samples: int, seconds: float) -> Facts:
    """The facts for --json."""
    space = decoding.header.space
    duration_seconds = n_samples / decoding.sample_rate
    return {
        "input": job.source,
        "output": job.target,
        "duration_seconds": duration_seconds,
        "sample_rate": decoding.sample_rate,
        "channels": decoding.header.source.channels,
        "n_samples": n_samples,
        "levels": space.n_q if wishes.n_q is None else wishes.n_q,
        "model": space.model,
        "code_space": space.id.hex(),
        "damage": [str(damage) for damage in decoding.damage],
        "speed": round(duration_seconds / max(seconds, 1e-9), 2),
    }
