"""What a benchmark measures with: codecs and metrics, built anew in every worker process."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audiocodec.bench import store
from audiocodec.bench.metrics import METRICS, available
from audiocodec.bench.results import Competitor, Metric
from audiocodec.model.catalogue import DEFAULT_MODEL, TABLES, WEIGHTS, model_folder

OURS = "ours"


@dataclass(frozen=True)
class Equipment:
    """competitors: ours first; skipped: a line for each that is missing here.

    stamps: by a codec's name, what its output depends on besides its `about`; it becomes part of measurements' keys.
    """

    competitors: Sequence[Competitor]
    metrics: Sequence[Metric]
    skipped: Sequence[str] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)


Equip = Callable[[], Equipment]  # a name that another process can import, or a `partial` of one


def equip(model: str | None, against: Sequence[str], *, quick: bool) -> Equipment:
    """Ours with a model (a name or folder, None: the default one), and the codecs named as in `--against`.

    quick: without slow metrics. Raises CodecError for an unknown codec, ModelError for an unknown model.
    """
    import torch

    from audiocodec.bench import competitors

    torch.set_flush_denormal(True)  # as the command does
    found, skipped = competitors.build(against, model or DEFAULT_MODEL)
    metrics, lacking = available([metric for metric in METRICS if not (quick and metric.slow)])
    stamps = {OURS: model_stamp(model or DEFAULT_MODEL)}
    for name in against:
        kind, _, argument = name.partition(":")
        if kind == "ours":
            stamps[competitors.ours.shown_name(argument)] = model_stamp(argument)
        if kind == "vbr":
            shown = competitors.ours.shown_name(argument) or OURS
            stamps[f"{shown}-vbr"] = model_stamp(argument or model or DEFAULT_MODEL)
        if kind == "decoded":
            folder = competitors.decoded.build(argument)
            stamps[folder.name] = _files_stamp(folder.files.values())
    return Equipment(found, metrics, skipped + lacking, stamps)


def model_stamp(model: str) -> str:
    """Hashes of the weights (a decoder that was trained further has the same code space), and of tables, if any."""
    folder = model_folder(model)
    names = (WEIGHTS, TABLES) if (folder / TABLES).exists() else (WEIGHTS,)
    return " ".join(store.file_hash(folder / name) for name in names)


def _files_stamp(paths: Iterable[Path]) -> str:
    """A hash of files' names, sizes and times."""
    files = [(str(path), path.stat()) for path in paths]
    return store.key(files=[(name, stat.st_size, stat.st_mtime_ns) for name, stat in files])
