"""docs/CLI.md, from the command line itself: `python -m audiocodec.cli.reference > docs/CLI.md`."""

import inspect
from types import ModuleType
from typing import Any

from audiocodec.cli import app
from audiocodec.cli.exits import EXIT_CODES

INTRODUCTION = """# The command line

This page is made by `python -m audiocodec.cli.reference > docs/CLI.md`.

* `-` is standard input or output. Standard output carries data only; talk goes to standard error.
* An output that exists is refused without `-f`. Outputs appear under their names when they are whole; inputs stay.
* A second name is an output only if its suffix says so, so that no input is lost to a slip. Several inputs take `-o`.
* A failure is one line on standard error, and the other files are still done. `--debug` adds where it came from.
* `--json` prints one object per input, a line each. Keys stay as they are; there may come more.
"""


def reference() -> str:
    """All verbs and their options, as Markdown."""
    parser = app.command()
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    parts = [
        INTRODUCTION,
        f"## codec\n\n{_paragraphs(parser.help)}\n\n{_options(parser)}",
        *(_verb(name, verb, parser.commands[name]) for name, verb in app.VERBS.items()),
        f"## Exit codes\n\n| code | means |\n|---|---|\n{codes}\n",
    ]
    return "\n".join(parts)


def _verb(name: str, verb: ModuleType, command: Any) -> str:
    """One verb's section."""
    examples = inspect.cleandoc(verb.EXAMPLES.replace("\b", "")).removeprefix("Examples:\n")
    text = (
        f"## codec {name}\n\n```\ncodec {name} {verb.USAGE}\n```\n\n{_paragraphs(command.help)}\n\n"
        f"{_options(command)}\n```\n{inspect.cleandoc(examples)}\n```\n"
    )
    if hasattr(verb, "JSON_KEYS"):
        rows = "\n".join(f"| `{key}` | {meaning} |" for key, meaning in verb.JSON_KEYS.items())
        text += f"\n| key of `--json` | means |\n|---|---|\n{rows}\n"
    return text


def _options(command: Any) -> str:
    """The options of one command as a table."""
    rows = ["| option | |", "|---|---|"]
    for option in command.params:
        if option.param_type_name == "option":
            metavar = f" {option.metavar}" if option.metavar else ""
            names = ", ".join(f"`{name}{metavar}`" for name in option.opts).replace("|", "\\|")
            rows.append(f"| {names} | {option.help.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def _paragraphs(text: str) -> str:
    """Help text with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


if __name__ == "__main__":
    print(reference(), end="")
