"""`codec info`: what `.rq` files say about themselves."""

from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.batch import Batch, Facts, open_source
from audiocodec.cli.console import clock, printable, size
from audiocodec.cli.options import Json, console_of
from audiocodec.cli.plan import Job, shown

if TYPE_CHECKING:
    from audiocodec.bitstream import StreamInfo

USAGE = "FILE.rq... [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec info talk.rq
  codec info --json *.rq
"""
JSON_KEYS = {
    "input": "name of the file",
    "duration_seconds": "duration of the recording",
    "n_samples": "length of the recording, in samples per channel",
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
    "bytes": "length of the file",
    "model": "name of the model",
    "model_sample_rate": "rate that the model works at, in Hz",
    "code_space": "code space id, in hex",
    "tags": "title, artist and the like, as an object",
    "error": "null; for an input that failed, why (then only `input` stands beside it)",
}


def run(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE.rq", hidden=True)],
    *,
    json: Json = False,
) -> int:
    """Show what .rq files say about themselves.

    That is duration, rate, levels, model, tags; no model is needed. Reads the start and the end of a file
    only: `codec verify` checks all of it.
    """
    batch = Batch(console_of(context, quiet=False), json=json)
    for name in files:
        batch.run(Job(name), lambda job: _show(job.source, json=json))
    return batch.exit_code


def _show(name: str, *, json: bool) -> Facts:
    """Prints one file's lines, unless JSON is wanted; the facts about it."""
    from audiocodec import bitstream

    with open_source(name) as file:
        stream = bitstream.info(file)
    if not json:
        print("\n".join(printable(line) for line in _lines(shown(name), stream)), flush=True)
    return _facts(name, stream)


def _lines(name: str, stream: "StreamInfo") -> list[str]:
    """What a person wants to know, a line each."""
    header = stream.header
    space, source = header.space, header.source
    channels = "mono" if source.channels == 1 else "stereo"
    rows = {
        "duration": f"{clock(stream.duration_seconds)}  ({stream.n_samples} samples at {source.sample_rate} Hz)",
        "channels": channels,
        "rate": f"{stream.kbps:.2f} kbps, {stream.codes_kbps:.2f} of them codes",
        "size": f"{size(stream.file_bytes)}",
        "levels": f"{space.n_q}  ({_codebooks(space.codebook_sizes)})",
        "frames": f"{stream.n_frames} at {space.frame_rate:g} per second, "
        f"in {stream.n_groups} groups of {header.group_seconds:.2f} s",
        "model": f"{space.model}  ({space.sample_rate} Hz)",
        "code space": space.id.hex(),
    }
    rows |= header.tags
    return [name, *(f"  {key:<10}  {text}" for key, text in rows.items())]


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
        "bytes": stream.file_bytes,
        "model": space.model,
        "model_sample_rate": space.sample_rate,
        "code_space": space.id.hex(),
        "tags": dict(header.tags),
    }
