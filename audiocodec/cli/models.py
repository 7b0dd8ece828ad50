"""`codec models`: the models that come with the package; other codecs' models fetched or converted."""

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocodec.cli.batch import Facts, print_json
from audiocodec.cli.console import Console, printable, size
from audiocodec.cli.exits import UsageError
from audiocodec.cli.options import Json, console_of

if TYPE_CHECKING:
    from audiocodec.codes import CodeSpace

USAGE = "[fetch NAME... | import --trust-pickle FILE DIR] [OPTIONS]"
EXAMPLES = """\b
Examples:
  codec models fetch hf:facebook/encodec_24khz
  codec models import --trust-pickle snac/pytorch_model.bin snac-24khz
"""
JSON_KEYS = {
    "name": "what -m takes",
    "default": "whether it is used without -m",
    "sample_rate": "rate that it works at, in Hz",
    "levels": "the most levels it codes in",
    "kbps_min": "rate of one level, mono",
    "kbps_max": "rate of all levels, mono",
    "bytes": "length of its files, those of its prior among them",
    "prior": "whether it comes with a prior, for codec generate",
    "code_space": "code space id, in hex: files of the same id can be decoded",
}


def run(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="Import a pickled checkpoint, whose maker you trust."),
    ] = False,
    json: Json = False,
) -> int:
    """List the models that come with this version.

    Rates are those of mono; stereo takes twice as much. Models of your own are given as folders: -m DIR.

    `fetch` downloads other codecs' models, so that files of theirs can be decoded. `import` makes a folder for -m
    from a pickled checkpoint, whose config.json stands beside it.
    """
    console = console_of(context, quiet=False)
    match words or []:
        case []:
            return _list(console, json=json)
        case ["fetch", *names] if names and not json:
            return _fetch(names, console)
        case ["import", file, target] if not json:
            return _import(file, target, console, trust_pickle=trust_pickle)
        case _:
            raise UsageError(f"models {' '.join(words or [])}: expected: codec models {USAGE}")


def _list(console: Console, *, json: bool) -> int:
    """A line for each model that is shipped."""
    models = _models()
    if not models:
        console.warn(
            "this version comes without a model: train one (codec train), and give its folder with -m"
        )
    for model in models:
        if json:
            print_json(model)
        else:
            print(printable(_line(model)))
    return 0


def _fetch(names: list[str], console: Console) -> int:
    """Downloads models, but for those that are here already."""
    from audiocodec.hub.download import fetch

    for name in names:
        _, pinned = fetch(name, download=True)
        console.say(f"{pinned} is here")
    return 0


def _import(file: str, target: str, console: Console, *, trust_pickle: bool) -> int:
    """Makes a model's folder from a pickled checkpoint."""
    if not trust_pickle:
        raise UsageError(
            f"{file}: reading a pickled checkpoint can run any code: say --trust-pickle if you trust it"
        )
    from audiocodec.hub.importing import import_pickle

    space = import_pickle(Path(file), Path(target)).code_space()
    console.say(f"{target}  {space.model}  {space.sample_rate} Hz  {space.n_q} levels  {space.id.hex()}")
    return 0


def _models() -> list[Facts]:
    """The facts about each shipped model."""
    from audiocodec.model.catalogue import DEFAULT_MODEL, shipped_models

    return [_facts(name, is_default=name == DEFAULT_MODEL) for name in shipped_models()]


def _facts(name: str, *, is_default: bool) -> Facts:
    """The facts about one model, from its files; its weights are not loaded."""
    from audiocodec.model.catalogue import PRIOR, model_folder

    folder = model_folder(name)
    space = _space(folder)
    return {
        "name": name,
        "default": is_default,
        "sample_rate": space.sample_rate,
        "levels": space.n_q,
        "kbps_min": round(space.kbps(1), 4),
        "kbps_max": round(space.kbps(), 4),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "prior": (folder / PRIOR).is_dir(),
        "code_space": space.id.hex(),
    }


def _space(folder: Path) -> "CodeSpace":
    """The code space that a model's files state."""
    import safetensors

    from audiocodec.codes import CodeSpace
    from audiocodec.model.catalogue import CONFIG, WEIGHTS
    from audiocodec.model.config import ModelConfig, from_dict

    values = json_text.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config = from_dict(ModelConfig, values, str(folder / CONFIG))
    with safetensors.safe_open(folder / WEIGHTS, "np") as file:
        id_ = bytes.fromhex(file.metadata()["code_space"])
    return CodeSpace(
        id=id_,
        model=config.name,
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        delay=config.delay,
        codebook_sizes=config.quantizer.codebook_sizes,
        frames_per_code=config.quantizer.frames_per_code,
    )


def _line(model: Facts) -> str:
    """One model for a person."""
    mark, prior = "*" if model["default"] else " ", "  with a prior" if model["prior"] else ""
    return (
        f"{mark} {model['name']:<20}  {model['sample_rate'] / 1000:g} kHz  {model['levels']} levels  "
        f"{model['kbps_min']:g}-{model['kbps_max']:g} kbps  {size(model['bytes'])}  {model['code_space']}{prior}"
    )
