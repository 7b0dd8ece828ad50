"""`codec tokenize`: a corpus -> shards of codes."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.coding import prepare_torch, times
from audiocodec.cli.console import Console, clock
from audiocodec.cli.exits import FAILED, INTERRUPTED, UsageError
from audiocodec.cli.options import Quiet, console_of

if TYPE_CHECKING:
    from audiocodec.corpus.work import ShardDone

USAGE = "INPUT... -o DIR [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec tokenize speech/ more.tar list.csv -o codes/
  codec tokenize 's3://bucket/speech/**/*.flac' -o codes/ --engine ray
"""


def run(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", hidden=True)],
    *,
    output_dir: Annotated[
        str,
        typer.Option("-o", "--output-dir", metavar="DIR", help="Where the shards go.", show_default=False),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar="KIND", help="tar (WebDataset), parquet, or rq (a file for each item)."
        ),
    ] = "tar",
    levels: Annotated[
        int | None,
        typer.Option("-n", "--levels", metavar="N", help="Levels of codes.  [default: all of the model]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="NAME|DIR", help="Another model than the default one."),
    ] = None,
    shard_items: Annotated[
        int, typer.Option("--shard-items", metavar="N", help="Items of a shard; few, if they are long.")
    ] = 128,
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="local, or ray: a cluster (RAY_ADDRESS).")
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", metavar="N", help="Processes that run the model.  [default: all cores; a few a GPU]"
        ),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Code a corpus into shards of tokens.

    INPUT is a folder, a glob, a .tar, a .jsonl or .csv of `path` and perhaps `start` and `duration` in seconds, or a
    URL of these. What cannot be read is listed in DIR/manifest.jsonl. A stopped run goes on with the same command.
    """
    console = console_of(context, quiet=quiet)
    for option, number in (("--jobs", jobs), ("--shard-items", shard_items), ("--levels", levels)):
        if number is not None and number < 1:
            raise UsageError(f"{option} {number}: expected 1 or more")
    from audiocodec.corpus import tokenize
    from audiocodec.model.catalogue import DEFAULT_MODEL

    prepare_torch()
    progress = Progress(console)
    try:
        summary = tokenize(
            inputs,
            output_dir,
            model=DEFAULT_MODEL if model is None else model,
            n_q=levels,
            kind=kind,
            shard_items=shard_items,
            engine=engine,
            n_jobs=jobs,
            progress=progress,
        )
    except KeyboardInterrupt:
        console.fail(f"interrupted; the same command goes on from what {output_dir} holds")
        return INTERRUPTED
    console.say(
        f"{output_dir}  {summary.n_items} items  {clock(summary.audio_seconds)}"
        + progress.speed(summary.seconds_done_now)
    )
    if summary.n_failed:
        console.fail(
            f"{summary.n_failed} items could not be coded: see `error` in {output_dir}/manifest.jsonl"
        )
    return FAILED if summary.n_failed else 0


class Progress:
    """Says how far the job is: called with each shard that is done."""

    def __init__(self, console: Console) -> None:
        self._console, self._begun = console, time.monotonic()
        self._n_done = self._n_failed = 0
        self._audio_seconds = 0.0

    def __call__(self, shard: "ShardDone", n_to_do: int) -> None:
        self._n_done += shard.n_items
        self._n_failed += shard.n_failed
        self._audio_seconds += shard.audio_seconds
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        self._console.tick(
            f"{self._n_done} of {n_to_do} items{failed}  {clock(self._audio_seconds)}"
            + self.speed(self._audio_seconds)
        )

    def speed(self, audio_seconds: float) -> str:
        """How fast so many seconds of audio were done; nothing, where none were."""
        return f"  {times(audio_seconds, time.monotonic() - self._begun)}" if audio_seconds else ""
