"""Options that several verbs have, so that they read and mean the same everywhere."""

from typing import Annotated

import typer

from audiocodec.cli.console import Console

Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite outputs that exist.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per input on stdout, a line each.")]
OutputDir = Annotated[
    str | None,
    typer.Option("-o", "--output-dir", metavar="DIR", help="Where the outputs of several inputs go."),
]
Raw = Annotated[bool, typer.Option("--raw", help="Bare samples: 16 bit little-endian, no header.")]


def console_of(context: typer.Context, *, quiet: bool) -> Console:
    """The console that the entry point opened."""
    console: Console = context.obj
    console.quiet = quiet
    return console
