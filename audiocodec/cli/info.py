"""`codec info`: what `.rq` files say about themselves."""

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.batch import Batch, Facts, open_source
from audiocodec.cli.console import clock, printable, size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Force, Json, console_of
from audiocodec.cli.plan import Job, shown
from audiocodec.errors import CodecError

if TYPE_CHECKING:
    from audiocodec.bitstream import StreamInfo

USAGE = "FILE.rq... [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec info --json *.rq
  codec info talk.rq --plot talk.png
"""
JSON_KEYS = {
    "input": "name of the file",
    "duration_seconds": "duration of the recording",
    "n_samples": "length of the recording, in samples per channel; null where its end is missing",
    "sample_rate": "of the recording, in Hz",
    "channels": "of the recording, 1 or 2",
    "levels": "levels of codes in the file",
    "codebook_sizes": "entries of each level's codebook",
    "frames_per_code": "frames that share one code, for each level",
    "frame_rate": "frames per second",
    "n_frames": "frames in the file",
    "n_groups": "groups in the file",
    "group_seconds": "duration of a full group",
    "kbps": "rate of the whole file",
    "codes_kbps": "rate of the codes alone",
    "entropy_coded": "whether the codes are entropy-coded",
    "variable": "whether the number of levels varies from frame to frame",
    "saving": "share of the bytes that both save against raw codes at all levels; null where that is not known",
    "kbps_over_time": "rate over time: [seconds, kbps] of each stretch of groups of one length",
    "bytes": "length of the file",
    "model": "name of the model",
    "model_sample_rate": "rate that the model works at, in Hz",
    "code_space": "code space id, in hex",
    "tags": "title, artist and the like, as an object",
    "error": "null; for an input that failed, why (then only `input` stands beside it)",
}
MIN_COLUMNS, MAX_COLUMNS = 8, 60  # of the line that shows the rate over time
SPARKS = "▁▂▃▄▅▆▇█"


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE.rq", hidden=True)],
    *,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw the rate over time (needs matplotlib)."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Read all of a damaged file, and count what is lost, too.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> int:
    """Show what .rq files say about themselves.

    That is duration, rate, levels, model, tags; no model is needed. Reads the start and the end of a file
    only: `codec verify` checks all of it.
    """
    if plot is not None and len(files) > 1:
        raise UsageError(f"--plot draws one file: {len(files)} were given")
    batch = Batch(console_of(context, quiet=False), json=json)
    for name in files:
        batch.run(
            Job(name), lambda job: _show(job.source, plot, keep_going=keep_going, json=json, overwrite=force)
        )
    return batch.exit_code


def _show(name: str, plot: str | None, *, keep_going: bool, json: bool, overwrite: bool) -> Facts:
    """Prints one file's lines, unless JSON is wanted, and draws it, if that is wanted; the facts about it."""
    from audiocodec import bitstream

    with open_source(name) as file:
        stream = bitstream.info(file, keep_going=keep_going)
    if plot is not None:
        _draw(shown(name), stream, Path(plot), overwrite=overwrite)
    if not json:
        print("\n".join(printable(line) for line in _lines(shown(name), stream)), flush=True)
    return _facts(name, stream)


def _lines(name: str, stream: "StreamInfo") -> list[str]:
    """What a person wants to know, a line each."""
    header = stream.header
    space, source = header.space, header.source
    channels = "mono" if source.channels == 1 else "stereo"
    length = "the end is missing; recorded" if stream.n_samples is None else f"{stream.n_samples} samples"
    rows = {
        "duration": f"{clock(stream.duration_seconds)}  ({length} at {source.sample_rate} Hz)",
        "channels": channels,
        "rate": _rate(stream),
        "size": f"{size(stream.file_bytes)}",
        "levels": f"{space.n_q}  ({_codebooks(space.codebook_sizes)})",
        "frames": f"{stream.n_frames} at {space.frame_rate:g} per second, "
        f"in {stream.n_groups} groups of {header.group_seconds:.2f} s",
        "model": f"{space.model}  ({space.sample_rate} Hz)",
        "code space": space.id.hex(),
    }
    if header.sized and stream.n_groups >= MIN_COLUMNS:
        rows["over time"] = _sparkline(list(stream.rates()))
    tags = [("tag", f"{key}: {text}") for key, text in header.tags.items()]  # may be called as the facts are
    return [name, *(f"  {key:<10}  {text}" for key, text in [*rows.items(), *tags])]


def _rate(stream: "StreamInfo") -> str:
    """The rate, and what is saved."""
    header = stream.header
    if not header.sized:
        return f"{stream.kbps:.2f} kbps, {stream.codes_kbps:.2f} of them codes"
    how = " and ".join(["variable rate"] * header.variable + ["entropy coding"] * bool(header.entropy_id))
    if stream.saving is None:
        return f"{stream.kbps:.2f} kbps, with {how}"
    verb = "save" if " and " in how else "saves"
    return f"{stream.kbps:.2f} kbps; {how} {verb} {stream.saving:.0%} of {stream.codes_kbps:.2f} kbps of raw codes"


def _sparkline(rates: list[tuple[float, float]]) -> str:
    """The rate over time in at most MAX_COLUMNS signs, and its range."""
    import numpy as np

    if not rates:
        return "not known: the file is too long, or was cut"
    seconds, kbps = np.array(rates).T
    edges = np.concatenate([[0], seconds.cumsum()])
    kbits = np.concatenate([[0], (seconds * kbps).cumsum()])
    columns = np.linspace(0, edges[-1], MAX_COLUMNS + 1)
    means = np.diff(np.interp(columns, edges, kbits)) / np.diff(columns)
    heights = np.ceil(means / (means.max() or 1) * len(SPARKS)).astype(int).clip(1) - 1
    return f"{''.join(SPARKS[height] for height in heights)}  {kbps.min():.2f} to {kbps.max():.2f} kbps"


def _draw(name: str, stream: "StreamInfo", target: Path, *, overwrite: bool) -> None:
    """A picture of the rate over time. Raises CodecError where that cannot be."""
    from audiocodec.output import atomic_output

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodecError("--plot needs matplotlib: pip install 'audiocodec[bench]'") from error
    rates = list(stream.rates())
    if not rates:
        raise CodecError(f"{name}: no seek table, so the rate over time is not known: nothing to draw")
    ends = list(accumulate(seconds for seconds, _ in rates))
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    axes.stairs([kbps for _, kbps in rates], [0, *ends], fill=True)
    axes.axhline(stream.codes_kbps, color="black", linewidth=0.8, linestyle=":")
    axes.set(title=name, xlabel="seconds", ylabel="kbps (dotted: raw codes)", xlim=(0, ends[-1]))
    with atomic_output(target, overwrite=overwrite) as path:
        figure.savefig(path, format="png", dpi=100)


def _codebooks(sizes: tuple[int, ...]) -> str:
    """The sizes of the codebooks in few words."""
    if len(set(sizes)) == 1:
        return f"codebooks of {sizes[0]}"
    return f"codebooks of {', '.join(map(str, sizes))}"


def _facts(name: str, stream: "StreamInfo") -> Facts:
    """The facts for --json."""
    header = stream.header
    space = header.space
    return {
        "input": name,
        "duration_seconds": stream.duration_seconds,
        "n_samples": stream.n_samples,
        "sample_rate": header.source.sample_rate,
        "channels": header.source.channels,
        "levels": space.n_q,
        "codebook_sizes": space.codebook_sizes,
        "frames_per_code": space.frames_per_code,
        "frame_rate": space.frame_rate,
        "n_frames": stream.n_frames,
        "n_groups": stream.n_groups,
        "group_seconds": header.group_seconds,
        "kbps": round(stream.kbps, 4),
        "codes_kbps": round(stream.codes_kbps, 4),
        "entropy_coded": header.entropy_id is not None,
        "variable": header.variable,
        "saving": None if stream.saving is None else round(stream.saving, 4),
        "kbps_over_time": [(round(seconds, 3), round(kbps, 3)) for seconds, kbps in stream.rates()],
        "bytes": stream.file_bytes,
        "model": space.model,
        "model_sample_rate": space.sample_rate,
        "code_space": space.id.hex(),
        "tags": dict(header.tags),
    }
