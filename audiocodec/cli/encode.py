"""`codec encode`: audio files -> `.rq` files."""

import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.batch import Batch, Facts, open_target
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
from audiocodec.errors import FormatError

if TYPE_CHECKING:
    from audiocodec.audio import AudioReader, RawFormat
    from audiocodec.bitstream import StreamInfo
    from audiocodec.codec import Codec

USAGE = "INPUT [OUTPUT.rq] [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec encode talk.wav --kbps 3 --vbr
  codec encode music/ extra.flac -o coded/
"""
JSON_KEYS = {
    "input": "name of the input",
    "output": "name of the output",
    "duration_seconds": "duration of the recording",
    "sample_rate": "of the recording, in Hz",
    "channels": "of the recording, 1 or 2",
    "levels": "levels of codes; with variable bitrate, the most that a frame may have",
    "variable": "whether the number of levels varies from frame to frame",
    "kbps": "rate of the whole file",
    "codes_kbps": "rate of the codes alone",
    "bytes": "length of the file",
    "model": "name of the model",
    "code_space": "code space id, in hex",
    "speed": "seconds of audio per second of work, loading the model not counted",
    "error": "null; for an input that failed, why (then only `input` and `output` stand beside it)",
}


MAX_QUALITY = 8  # as of so many levels; a model of fewer says so itself


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options say about each file."""

    kbps: float | None
    n_q: int | None
    quality: float | None
    vbr: bool
    live: bool
    verify: bool
    overwrite: bool
    raw: "RawFormat | None"


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="INPUT", hidden=True)],
    *,
    kbps: Annotated[
        float | None,
        typer.Option("-b", "--kbps", metavar="X", help="Rate, all channels together.  [default: 6]"),
    ] = None,
    levels: Annotated[
        int | None, typer.Option("-n", "--levels", metavar="N", help="Levels of codes, instead of a rate.")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option("--quality", metavar="Q", help="About as good as Q levels, with a varying number."),
    ] = None,
    vbr: Annotated[
        bool, typer.Option("--vbr", help="A varying number of levels; --kbps on average.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="NAME|DIR", help="Another model than the default one."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check and decode each output before it gets its name.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Write every two frames, for streams heard as they come.")
    ] = False,
    output_dir: OutputDir = None,
    raw: Raw = False,
    rate: Annotated[
        int | None, typer.Option("--rate", metavar="HZ", help="Sample rate of --raw samples.")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", metavar="N", help="Channels of --raw samples, 1 or 2.  [default: 1]"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Code audio files into .rq files.

    Without an output name the suffix changes. With -o there may be several inputs, and folders: all audio
    files below them, in the same structure. `-` is standard input or output.
    """
    console = console_of(context, quiet=quiet)
    wishes = Wishes(kbps, levels, quality, vbr, live, verify, force, _raw_format(raw, rate, channels))
    _check_rate(wishes)
    from audiocodec.audio import OUTPUT_SUFFIXES

    suffixes = RAW_SUFFIXES if raw else OUTPUT_SUFFIXES
    jobs = plan_jobs(files, output_dir, input_suffixes=suffixes, output_suffixes=(".rq",))
    if json:
        json_allowed(jobs)
    if verify and not all(_is_file(job.target) for job in jobs):
        raise UsageError("--verify reads the output again: it must be a file")
    return Batch(console, json=json).run_all(
        jobs,
        check_all=lambda: check_output_dir(output_dir, jobs),
        check=lambda job: _check(job, wishes),
        load=lambda: _load(model, wishes),
        work=lambda job, codec: _encode(job, codec, wishes, console),
    )


def _check_rate(wishes: Wishes) -> None:
    """Raises UsageError for what no model can do, and for wishes that contradict each other."""
    given = {"--kbps": wishes.kbps, "--levels": wishes.n_q, "--quality": wishes.quality}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} say the same thing: give one of them")
    if wishes.vbr and wishes.kbps is None:
        raise UsageError("--vbr needs --kbps, the rate on average; --quality has variable bitrate by itself")
    if wishes.live and (wishes.vbr or wishes.quality is not None):
        raise UsageError("--live has constant bitrate: leave it out, or --quality and --vbr")
    if wishes.kbps is not None and not (wishes.kbps > 0 and math.isfinite(wishes.kbps)):
        raise UsageError(f"--kbps {wishes.kbps:g}: expected more than 0")
    if wishes.n_q is not None and wishes.n_q < 1:
        raise UsageError(f"--levels {wishes.n_q}: expected 1 or more")
    if wishes.quality is not None and not 1 <= wishes.quality <= MAX_QUALITY:
        raise UsageError(f"--quality {wishes.quality:g}: expected 1 to {MAX_QUALITY}")


def _raw_format(raw: bool, rate: int | None, channels: int | None) -> "RawFormat | None":
    """The format that --raw, --rate and --channels state together."""
    from audiocodec.audio import MAX_CHANNELS, RATES, RawFormat, is_rate

    if not raw:
        if rate is not None or channels is not None:
            raise UsageError("--rate and --channels describe --raw samples: other inputs say it themselves")
        return None
    if rate is None:
        raise UsageError("--raw samples need their --rate, in Hz")
    if not is_rate(rate):
        raise UsageError(f"--rate {rate}: expected {RATES}")
    channels = 1 if channels is None else channels
    if not 1 <= channels <= MAX_CHANNELS:
        raise UsageError(f"--channels {channels}: expected 1 or 2")
    return RawFormat(rate, channels)


def _is_file(target: str) -> bool:
    path = Path(target)
    return target != PIPE and (path.is_file() or not path.exists())


def _check(job: Job, wishes: Wishes) -> None:
    """Raises CodecError for what can be told about a job without a model."""
    from audiocodec.audio import AudioReader

    if check_source(job):
        AudioReader(job.source, raw=wishes.raw).close()
    check_target(job, overwrite=wishes.overwrite)


def _load(model: str | None, wishes: Wishes) -> "Codec":
    """The model that -m names, or the default one. Raises ValueError if it cannot do what is wished."""
    from audiocodec.codec import load
    from audiocodec.model.catalogue import DEFAULT_MODEL

    prepare_torch()
    codec = load(DEFAULT_MODEL if model is None else model)
    codec.space.first(codec.space.n_q if wishes.n_q is None else wishes.n_q)
    if wishes.vbr or wishes.quality is not None:
        codec.check_variable(wishes.quality)
    return codec


def _encode(job: Job, codec: "Codec", wishes: Wishes, console: Console) -> Facts:
    """Codes one input; the facts about it."""
    from audiocodec.audio import AudioReader
    from audiocodec.encoding import encode_as

    begun = time.perf_counter()
    source = sys.stdin.buffer if job.source == PIPE else job.source
    check = partial(_verify, codec=codec) if wishes.verify else None
    with (
        AudioReader(source, raw=wishes.raw) as reader,
        open_target(job.target, overwrite=wishes.overwrite, check=check) as file,
        console.progress(shown(job.source), _stated_seconds(reader)) as progress,
    ):
        info = encode_as(
            codec,
            reader,
            file,
            kbps=wishes.kbps,
            n_q=wishes.n_q,
            quality=wishes.quality,
            vbr=wishes.vbr,
            live=wishes.live,
            progress=progress,
        )
    seconds = time.perf_counter() - begun
    console.say(
        f"{job.label}  {clock(info.duration_seconds)}  {_rate(info)}  {size(info.file_bytes)}  "
        f"{times(info.duration_seconds, seconds)}"
    )
    return _facts(job, info, seconds)


def _rate(info: "StreamInfo") -> str:
    """The rate of the whole file; variable bitrate may be far below a kbit/s."""
    return f"{info.kbps:.2f} kbps variable" if info.header.variable else f"{info.kbps:.1f} kbps"


def _stated_seconds(reader: "AudioReader") -> float | None:
    return None if reader.n_samples is None else reader.n_samples / reader.sample_rate


def _verify(path: Path, codec: "Codec") -> None:
    """Raises FormatError unless all checksums hold and decoding gives as many samples as were coded."""
    from audiocodec.decoding import Decoding
    from audiocodec.tools import open_input, verify_file

    faults = verify_file(path)
    if faults:
        raise FormatError(f"the written file is damaged: {faults[0]}; the disk may be failing")
    with open_input(path) as file:
        decoding = Decoding(file, codec)
        n_decoded = sum(len(block) for block in decoding.blocks())
    if n_decoded != decoding.n_samples:
        raise FormatError(f"the written file decodes to {n_decoded} samples, not {decoding.n_samples}")


def _facts(job: Job, info: "StreamInfo", seconds: float) -> Facts:
    """The facts for --json."""
    header = info.header
    return {
        "input": job.source,
        "output": job.target,
        "duration_seconds": info.duration_seconds,
        "sample_rate": header.source.sample_rate,
        "channels": header.source.channels,
        "levels": header.space.n_q,
        "variable": header.variable,
        "kbps": round(info.kbps, 4),
        "codes_kbps": round(info.codes_kbps, 4),
        "bytes": info.file_bytes,
        "model": header.space.model,
        "code_space": header.space.id.hex(),
        "speed": round(info.duration_seconds / max(seconds, 1e-9), 2),
    }
