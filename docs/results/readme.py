"""Writes the results in README.md: a table for speech and one for the rest, and the plots, from a benchmark's folder.

    codec bench CLIPS --full --against ... --out report/
    python docs/results/readme.py report/

Copies results.json and the plots to this folder.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
MARKERS = "<!-- results -->", "<!-- /results -->"
PLOTS = ("speech-mel12", "speech-pesq_wb", "music-mel_multiscale")
COLUMNS = {
    "speech": {"pesq_wb": 2, "stoi": 3, "visqol_speech": 2, "zimtohrli": 4, "mel12": 3},
    "music": {"visqol_audio": 2, "zimtohrli": 4, "mel_multiscale": 2, "mel12": 3},
    "sounds": {"visqol_audio": 2, "zimtohrli": 4, "mel_multiscale": 2, "mel12": 3},
}
OURS = ("0.75", "1.5", "3", "6", "7.5", "12")  # of all that are measured
VARIABLE = "ours-vbr"
MAX_KBPS = 17


def table(results: Mapping[str, Any], kind: str) -> str:
    """Means of a kind, a row for each codec and setting by rate, ours in bold."""
    names = {results["codecs"][0]["name"]: "audiocodec", VARIABLE: "audiocodec vbr"}
    metrics = {one["name"]: one for one in results["metrics"]}
    columns = COLUMNS[kind]
    titles = [
        f"{metrics[name]['title']} {'↑' if metrics[name]['higher_is_better'] else '↓'}" for name in columns
    ]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for mean in results["means"]:
        if mean["kind"] == kind:
            rows.setdefault((mean["codec"], mean["setting"]), {})[mean["metric"]] = mean
    lines = [f"| {kind} | kbit/s | {' | '.join(titles)} |", "|---|" + "--:|" * (1 + len(columns))]
    for (codec, setting), found in sorted(rows.items(), key=lambda row: next(iter(row[1].values()))["kbps"]):
        kbps = next(iter(found.values()))["kbps"]
        ours = codec in names
        if kbps > MAX_KBPS or (ours and codec != VARIABLE and setting not in OURS):
            continue
        figures = [
            f"{found[name]['mean']:.{places}f}" if name in found else "-" for name, places in columns.items()
        ]
        cells = [f"{names.get(codec, codec)} {setting}", f"{kbps:.2f}", *figures]
        lines.append("| " + " | ".join(f"**{cell}**" if ours else cell for cell in cells) + " |")
    return "\n".join(lines)


def caption(results: Mapping[str, Any]) -> str:
    """Data, model, machine and command in a paragraph."""
    kinds = [clip["kind"] for clip in results["clips"]]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in COLUMNS)
    return (
        f"Means over clips of validation ({counts}; listed in `recipes/default/data/clips.csv`), "
        f"{results['codecs'][0]['about']}, {results['date'][:10]}, {results['machine']['cpu']}. "
        "Rates are of the packets alone; audiocodec is named by the rate of raw codes, or of what vbr was asked for. "
        f"By `{results['command']}` and `python docs/results/readme.py report/`."
    )


def main(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    for name in PLOTS:
        shutil.copyfile(report / "plots" / f"{name}.png", HERE / f"{name}.png")
    (HERE / "against.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    plots = "\n".join(f"![{name.replace('-', ': ')} by rate](docs/results/{name}.png)" for name in PLOTS)
    tables = "\n\n".join(table(results, kind) for kind in COLUMNS)
    before, _, rest = README.read_text().partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    if not after:
        sys.exit(f"{README}: the markers {' and '.join(MARKERS)} are missing")
    text = f"{plots}\n\n{tables}\n\n{caption(results)}"
    README.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
