"""The benchmark's report: what is on the page. All figures are made up."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_cases import METRICS, TONE_SECONDS, made_up_results, write

from audiocodec.bench.report import build, plots, tables
from audiocodec.bench.results import Mean, Unavailable
from audiocodec.errors import AudioError, CodecError

pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install 'audiocodec[bench]'")

VOID = {"meta", "img", "br", "path", "line", "polygon", "use", "rect", "circle"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that there can be."""
    return build(write(tmp_path_factory.mktemp("report"), made_up_results()))


class Checker(HTMLParser):
    """Reads a page; raises where tags do not nest. found: (tag, attributes) of all; text: without scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def sections(page: str) -> list[str]:
    return [attributes["id"] for tag, attributes in Checker(page).found if tag == "section"]


def test_a_page_holds_all_that_was_measured_and_needs_nothing_else(report: Path) -> None:
    page = report.read_text()
    checker = Checker(page)
    assert sections(page) == ["speech", "music", "listening", "abx", "speed", "listeners", "missing"]
    for attribute in ("src", "href"):
        sources = [attributes[attribute] for _, attributes in checker.found if attribute in attributes]
        assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"https?://|url\((?!#)|@import|<link", page)
    for text in (
        "2026-01-02",
        "a processor",
        "codec bench clips --against opus,evs",
        "evs: not known",
        "silence",
    ):
        assert text in checker.text
    ids = [attributes["id"] for _, attributes in checker.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["alt"] for tag, attributes in checker.found if tag == "img")
    assert all("scope" in attributes for tag, attributes in checker.found if tag == "th")


def test_a_plot_for_each_kind_and_metric_that_has_figures(report: Path) -> None:
    names = sorted(path.name for path in (report.parent / "plots").iterdir())
    assert names == ["music-mel12.png", "speech-mel12.png", "speech-pesq_wb.png"]
    found = Checker(report.read_text()).found
    assert sum(attributes.get("class") == "plot" for _, attributes in found) == 3
    # a line and a band, or a bar of one point, of two codecs in three plots
    assert sum(attributes.get("class", "").startswith("series ") for _, attributes in found) == 12
    assert "higher is better" in report.read_text() and "lower is better" in report.read_text()


def test_the_best_of_a_band_of_rates_is_marked_in_the_metrics_direction() -> None:
    names = ("ours", "opus", "lc3", "mp3")
    figures = {"ours": (6.0, 0.20), "opus": (5.6, 0.30), "lc3": (6.4, 0.21), "mp3": (16.0, 0.10)}
    means = [
        Mean("speech", n, "x", "mel12", 4, kbps, v, v - 0.02, v + 0.02, v) for n, (kbps, v) in figures.items()
    ]
    html = tables.quality_table("speech", [METRICS[1]], means, plots.all_series(names))
    marks = dict(re.findall(r'(ours|opus|lc3|mp3) <b>x</b>.*?</td><td class="(\w*)"', html))
    # mp3 is alone in its band: nothing to be better than
    assert marks == {"ours": "best", "opus": "", "lc3": "close", "mp3": ""}


def test_the_page_has_every_colour_for_light_and_for_dark(report: Path) -> None:
    page = report.read_text()
    for number, colour in enumerate(plots.COLOURS):
        light, dark = re.findall(rf"--colour-{number}: (#\w+);", page)
        assert light == colour and dark != colour


def test_speed_has_the_columns_that_were_measured(report: Path) -> None:
    text = Checker(report.read_text()).text
    assert "encode, x real time" in text and "200.0" in text and "53.3" in text
    assert "decode, x real time" not in text


def test_names_from_files_are_text_and_not_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>&amp;'
    results = json.loads(json.dumps(made_up_results()).replace("opus", evil.replace('"', r"\"")))
    results["listening"] = []
    results |= {"data": evil, "command": evil, "skipped": [evil]}
    results["metrics"][0]["title"] = evil
    results["measurements"][0]["missing"] = {"mel12": evil}
    checker = Checker(build(write(tmp_path, results)).read_text())
    assert sum(tag == "script" for tag, _ in checker.found) == 1
    assert checker.text.count(evil) > 10


def test_what_was_not_measured_is_not_there(tmp_path: Path) -> None:
    results = made_up_results()
    for row in results["means"]:
        row["mean"] = None if row["kind"] == "music" else row["mean"]
    for row in results["measurements"]:
        row["missing"] = {}
    results |= {
        "listening": [],
        "speed": {},
        "growth": [],
        "correlations": None,
        "skipped": [],
        "commit": None,
    }
    page = build(write(tmp_path, results)).read_text()
    assert sections(page) == ["speech"]
    assert "skipped" not in Checker(page).text and "None" not in Checker(page).text


def test_a_page_without_any_figures(tmp_path: Path) -> None:
    results = made_up_results() | {"means": [], "measurements": [], "metrics": [], "listening": []}
    results |= {"speed": {}, "correlations": {}}
    assert sections(build(write(tmp_path, results)).read_text()) == []


def test_a_clip_whose_audio_is_not_there_has_no_player(tmp_path: Path) -> None:
    write(tmp_path, made_up_results())
    shutil.rmtree(tmp_path / "audio" / "opus")
    page = build(tmp_path).read_text()
    tracks = {attributes["data-track"] for _, attributes in Checker(page).found if "data-track" in attributes}
    assert tracks == {"original", "ours 3", "ours 6"}
    shutil.rmtree(tmp_path / "audio" / "original")
    assert "listening" not in sections(build(tmp_path).read_text())


def test_a_large_page_keeps_a_clip_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiocodec.bench.report.listening.MAX_BYTES", 1)
    results = made_up_results()
    results["clips"].append({"name": "speech/three", "kind": "speech", "seconds": TONE_SECONDS})
    results["listening"] = ["speech/one", "speech/three", "music/two"]
    page = build(write(tmp_path, results)).read_text()
    heads = re.findall(r"<h3>(.*?)</h3>", page)
    assert heads == ["speech/one", "music/two"]
    assert "but in audio/: speech/three" in page


def test_results_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"results\.json"):
        build(tmp_path)
    write(tmp_path, made_up_results())
    (tmp_path / "audio" / "original" / "music__two.flac").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"music__two\.flac"):
        build(tmp_path)


def test_without_matplotlib_the_report_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Unavailable, match=r"pip install 'audiocodec\[bench\]'"):
        build(tmp_path)
