"""Trains every recipe of the family on the same data for as many steps, and writes what came of it.

    python recipes/compare.py --data FOLDER_OR_TAR... --valid FOLDER

Each recipe and seed has a folder of its own in --runs. What is finished there is not trained again, and what was
stopped goes on, so the command can be given again at any time; it always writes what there is: the table in
recipes/README.md, family.json and family.png beside it, and the marked line in the README of each recipe.

    python recipes/compare.py --data FOLDER_OR_TAR... --pace

Seconds per step, of all recipes one after another in one process: runs that took place at different times and beside
other work tell nothing about that. To be given on an idle machine, when the runs are finished.
"""

import argparse
import dataclasses
import itertools
import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiocodec.train.recipe import Recipe, load_recipe

HERE = Path(__file__).parent
NAMES = (
    "ae",
    "vae",
    "vqvae",
    "vqvae_ema",
    "rqvae",
    "rqvae_concat",
    "rqvae_shrinking",
    "rqvae_normalised",
    "rqvae_gated",
    "rqvae_progressive",
    "rqvae_soft",
    "rqvae_adaptive",
    "rqvae_multiscale",
    "rqvae_attention",
    "rqvae_kmeans",
    "rqvae_strided",
    "rqvae_l2",
    "speech_4books",
)
SEEDS = {
    "rqvae": (1, 2, 3)
}  # the base: how far its seeds lie apart is the noise; all others have the first seed
BEGIN, END = "<!-- family: written by recipes/compare.py -->", "<!-- end of family -->"
MARK = "<!-- measured -->"
JUDGES = {"mel12": "mel12", "si_sdr": "SI-SDR", "stoi": "STOI", "pesq_wb": "PESQ-WB"}
TERMS = ("mel", "complex", "magnitude", "codebook", "commitment", "kl")
PACE = "pace.json"  # in the folder of the runs
WARM_STEPS, TIMED_STEPS = 3, 20


@dataclass(frozen=True)
class Run:
    """A recipe with the length and the seed that it is trained with, and its folder."""

    recipe: Recipe
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its folder ends with the validation of the last step."""
        return any("valid" in line and line["step"] == self.recipe.n_steps for line in self.log())

    def log(self) -> list[dict[str, Any]]:
        """Lines of its metrics.jsonl."""
        file = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main(args: Sequence[str] | None = None) -> None:
    """Trains what is not finished yet, and writes table, plot and lines."""
    options = arguments().parse_args(args)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("audiocodec").setLevel(logging.INFO)
    runs = {name: planned(name, options.steps, options.runs) for name in NAMES}
    for run in itertools.chain(*runs.values()):
        check_settings(run)
    if options.pace:
        measure_pace(runs, options)
        write(options.recipes, results(runs))
        return
    for run in itertools.chain(*(runs[name] for name in options.only or NAMES)):
        if options.data and not run.finished:
            train_run(run, options)
            write(options.recipes, results(runs))
    write(options.recipes, results(runs))


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description="Trains every recipe of the family on an equal budget and writes the table in recipes/README.md.",
        epilog="Without --data nothing is trained: the table is made of the runs that are finished.",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="PATH", help="folders or .tar archives of audio"
    )
    parser.add_argument("--valid", type=Path, metavar="DIR", help="audio to validate on")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/family"), metavar="DIR", help="the runs' folders"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each run, stages in proportion")
    parser.add_argument("--threads", type=int, metavar="N", help="threads on a CPU")
    parser.add_argument("--pace", action="store_true", help="measure seconds per step only")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help="these recipes only")
    parser.add_argument("--recipes", type=Path, default=HERE, metavar="DIR", help="where results are written")
    return parser


def planned(name: str, steps: int | None, folder: Path) -> list[Run]:
    """The runs of a recipe: one for each seed."""
    recipe = load_recipe(HERE / name)
    recipe = resized(recipe, recipe.n_steps if steps is None else steps)
    seeds = SEEDS.get(name, (recipe.seed,))
    return [Run(dataclasses.replace(recipe, seed=seed), folder / f"{name}-{seed}") for seed in seeds]


def resized(recipe: Recipe, n_steps: int) -> Recipe:
    """The recipe with stages that have n_steps together, in proportion; validated once, at the end."""
    share = n_steps / recipe.n_steps
    stages = [dataclasses.replace(stage, steps=max(1, round(stage.steps * share))) for stage in recipe.stages]
    others = sum(stage.steps for stage in stages[:-1])
    stages[-1] = dataclasses.replace(stages[-1], steps=max(1, n_steps - others))
    return dataclasses.replace(
        recipe,
        stages=tuple(stages),
        validate_every=n_steps,
        loss=dataclasses.replace(recipe.loss, kl_warmup_steps=round(recipe.loss.kl_warmup_steps * share)),
        optimizer=dataclasses.replace(
            recipe.optimizer, warmup_steps=max(1, round(recipe.optimizer.warmup_steps * share))
        ),
    )


def check_settings(run: Run) -> None:
    """Stops where a folder holds a run of other settings, which must not stand in one table with the others."""
    file = run.folder / "recipe.json"
    settings = json.loads(json.dumps(dataclasses.asdict(run.recipe)))
    if file.exists() and json.loads(file.read_text()) != settings:
        raise SystemExit(
            f"{run.folder}: made with other settings than now: remove it, or give another --runs"
        )


def train_run(run: Run, options: argparse.Namespace) -> None:
    """Trains a run to its end, from its checkpoint if it has one."""
    from audiocodec.train.loop import train

    resume = (run.folder / "checkpoint.pt").exists()
    print(f"{run.folder.name}: {run.recipe.n_steps} steps{', resumed' if resume else ''}", flush=True)
    train(run.recipe, options.data, run.folder, valid=options.valid, threads=options.threads, resume=resume)


def measure_pace(runs: Mapping[str, list[Run]], options: argparse.Namespace) -> None:
    """Writes the median seconds per step of each recipe's last stage into the folder of the runs."""
    import torch

    from audiocodec.train.data import load_clips
    from audiocodec.train.loop import choose_bf16
    from audiocodec.train.state import new_state
    from audiocodec.train.steps import train_step

    if not options.data:
        raise SystemExit("--pace: needs --data, audio to train on")
    torch.set_flush_denormal(True)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    clips, pace = None, {}
    for name, (run, *_) in runs.items():
        clips = clips or load_clips(options.data, run.recipe.model.sample_rate)
        state = new_state(run.recipe, torch.device("cpu"))
        bf16 = choose_bf16(state)
        state.step = run.recipe.n_steps - WARM_STEPS - TIMED_STEPS
        seconds = []
        for _ in range(WARM_STEPS + TIMED_STEPS):
            begun = time.perf_counter()
            train_step(state, clips, bf16=bf16)
            seconds.append(time.perf_counter() - begun)
        pace[name] = statistics.median(seconds[WARM_STEPS:])
        print(f"{name}: {pace[name]:.3f} s per step, bf16 {'on' if bf16 else 'off'}", flush=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    (options.runs / PACE).write_text(json.dumps(pace, indent=1) + "\n")


def results(runs: Mapping[str, list[Run]]) -> list[dict[str, Any]]:
    """Figures of every recipe with a finished run, means over its seeds; `spread`: how far those lie apart."""
    rows = []
    file = next(iter(runs.values()))[0].folder.parent / PACE
    pace = json.loads(file.read_text()) if file.exists() else {}
    for name, seeds in runs.items():
        finished = [run for run in seeds if run.finished]
        if finished:
            figures = [run_figures(run) for run in finished]
            means = {key: mean(known(figures, key)) for key in figures[0]}
            pairs = {key: known(figures, key) for key in JUDGES}
            spread = {key: max(values) - min(values) for key, values in pairs.items() if len(values) > 1}
            means["seconds_per_step"] = pace.get(name)
            rows.append({"recipe": name, "seeds": len(finished), **means, "spread": spread})
    return rows


def known(figures: Sequence[Mapping[str, float | None]], key: str) -> list[float]:
    """The values of `key` that are there."""
    return [value for each in figures if (value := each.get(key)) is not None]


def mean(values: list[float]) -> float | None:
    """Their mean; None of none."""
    return statistics.fmean(values) if values else None


def run_figures(run: Run) -> dict[str, float | None]:
    """What a finished run says: size, pace, last loss terms, validation at all levels."""
    from safetensors import safe_open

    lines, model = run.log(), run.recipe.model
    logged: dict[str, Any] = next((line for line in reversed(lines) if "loss" in line), {})
    valid = next(line["valid"] for line in reversed(lines) if "valid" in line)
    with safe_open(run.folder / "model" / "model.safetensors", "np") as file:
        n_weights = sum(file.get_tensor(key).size for key in file.keys())  # noqa: SIM118
    sizes, spans = model.quantizer.codebook_sizes, model.quantizer.frames_per_code
    bits = sum((size - 1).bit_length() / span for size, span in zip(sizes, spans, strict=True))
    label = str(len(sizes)) if model.has_codes else "latents"
    used = [valid[f"used_level{n}"] for n in range(len(sizes))] if model.has_codes else []
    perplexity = [valid[f"perplexity_level{n}"] for n in range(len(sizes))] if model.has_codes else []
    return {
        "steps": run.recipe.n_steps,
        "kbps": bits * model.sample_rate / model.hop_length / 1000 if model.has_codes else None,
        "weights": n_weights,
        **{term: logged.get(term) for term in TERMS},
        "left": valid.get(f"residual_energy_level{len(sizes) - 1}"),
        "used": min(used, default=None),
        "perplexity": mean([p / size for p, size in zip(perplexity, sizes, strict=False)]),
        **{judge: valid.get(f"{judge}_{label}") for judge in JUDGES},
    }


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Puts the results into the table, the lines of the READMEs, family.json and family.png."""
    if not rows:
        return
    (folder / "family.json").write_text(json.dumps(rows, indent=1) + "\n")
    readme = folder / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(rows)}{END}{after}")
    for row in rows:
        mark_line(folder / row["recipe"] / "README.md", row)
    plot(rows, folder / "family.png")


COLUMNS = (
    ("kbit/s", "kbps", "{:.2f}"),
    ("weights", "weights", "{:,.0f}"),
    ("s/step", "seconds_per_step", "{:.2f}"),
    *((term, term, "{:.4f}" if term in ("complex", "magnitude") else "{:.3f}") for term in TERMS),
    ("left over", "left", "{:.3f}"),
    ("used", "used", "{:.1%}"),
    ("perplexity / size", "perplexity", "{:.2f}"),
    ("mel12", "mel12", "{:.3f}"),
    ("SI-SDR", "si_sdr", "{:.2f}"),
    ("STOI", "stoi", "{:.3f}"),
    ("PESQ-WB", "pesq_wb", "{:.2f}"),
)


def shown(row: dict[str, Any], key: str, form: str) -> str:
    """A figure as text; a dash where there is none."""
    return "-" if row.get(key) is None else form.format(row[key])


def table(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown, and what lies between the base's seeds."""
    titles = [title for title, _, _ in COLUMNS]
    lines = [f"| recipe | steps | {' | '.join(titles)} |", f"|---|--:|{'--:|' * len(titles)}"]
    for row in rows:
        cells = [shown(row, key, form) for _, key, form in COLUMNS]
        lines.append(
            f"| [{row['recipe']}]({row['recipe']}/README.md) | {row['steps']:.0f} | {' | '.join(cells)} |"
        )
    noise = [
        f"{JUDGES[key]} {value:.3f}" for row in rows if row["spread"] for key, value in row["spread"].items()
    ]
    if noise:
        lines += ["", f"The seeds of rqvae, whose mean is shown, lie apart by: {', '.join(noise)}."]
    return "\n".join([*lines, "", "![mel12, STOI and PESQ-WB of each recipe](family.png)", ""])


def mark_line(readme: Path, row: dict[str, Any]) -> None:
    """Puts the recipe's figures into the marked line of its README."""
    figures = ", ".join(
        f"{title} {shown(row, key, form)}" for title, key, form in COLUMNS if row.get(key) is not None
    )
    line = f"Measured after {row['steps']:.0f} steps ([all results](../README.md)): {figures}. {MARK}"
    lines = readme.read_text().split("\n")
    readme.write_text("\n".join(line if MARK in each else each for each in lines))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A dot for each recipe and figure; the band is what lies between the base's seeds."""
    from matplotlib.figure import Figure

    judges = ("mel12", "stoi", "pesq_wb")
    figure = Figure(figsize=(11, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(judges), sharey=True, squeeze=False)[0]
    for axis, judge in zip(axes, judges, strict=True):
        points = [(row[judge], n) for n, row in enumerate(rows) if row.get(judge) is not None]
        axis.plot([x for x, _ in points], [y for _, y in points], "o", color="tab:blue")
        for row in rows:
            if judge in row["spread"]:
                half = row["spread"][judge] / 2
                axis.axvspan(row[judge] - half, row[judge] + half, color="tab:orange", alpha=0.3)
        better = "lower" if judge == "mel12" else "higher"
        axis.set(title=f"{JUDGES[judge]} ({better} is better)")
        axis.set_yticks(range(len(rows)), [row["recipe"] for row in rows])
        axis.grid(axis="both", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
