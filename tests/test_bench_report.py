"""The benchmark's report: what is on the page, and what that does in a real browser. All figures are made up here."""

import json
import math
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiocodec.bench.report import build, plots, tables
from audiocodec.bench.report.listening import audio_path
from audiocodec.bench.results import Mean, Measurement, Unavailable
from audiocodec.errors import AudioError, CodecError

pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install 'audiocodec[bench]'")

RATE = 24000
TONE_SECONDS = 4.0  # longer than a busy machine needs between two clicks
CLIPS = {"speech/one": "speech", "music/two": "music"}
KBPS = {("ours", "3"): 3.0, ("ours", "6"): 6.0, ("opus", "6"): 5.6}
METRICS = (
    {"name": "pesq_wb", "title": "PESQ-WB", "unit": "", "higher_is_better": True, "kinds": ["speech"]},
    {"name": "mel12", "title": "mel distance", "unit": "", "higher_is_better": False, "kinds": list(CLIPS.values())},
    {"name": "si_sdr", "title": "SI-SDR", "unit": "dB", "higher_is_better": True, "kinds": ["speech"]},
)  # fmt: skip
FIGURES = {
    ("ours", "3"): {"pesq_wb": 2.1, "mel12": 0.30},
    ("ours", "6"): {"pesq_wb": 2.9, "mel12": 0.21},
    ("opus", "6"): {"pesq_wb": 2.3, "mel12": 0.40},
}
VOID = {"meta", "img", "br", "path", "line", "polygon", "use", "rect", "circle"}


def made_up_results() -> dict[str, Any]:
    """Everything that results.json may hold; SI-SDR is a metric that has no figures."""
    means = []
    measurements = []
    for (codec, setting), kbps in KBPS.items():
        for clip, kind in CLIPS.items():
            figures = {n: v for n, v in FIGURES[codec, setting].items() if n == "mel12" or kind == "speech"}
            missing = {"si_sdr": "silence"} if kind == "speech" else {}
            measurements.append(
                Measurement(clip, kind, TONE_SECONDS, codec, setting, kbps, kbps + 0.2, figures, missing)
            )
            means += [
                Mean(kind, codec, setting, name, 4, kbps, v, v - 0.02, v + 0.02, v - 0.1)
                for name, v in figures.items()
            ]
    settings = {"ours": ["3", "6"], "opus": ["6"]}
    return {
        "format": 1,
        "date": "2026-01-02",
        "version": "0.1.0",
        "commit": "abc1234",
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "platform": "Linux"},
        "data": "clips",
        "command": "codec bench clips --against opus,evs",
        "clips": [{"name": name, "kind": kind, "seconds": TONE_SECONDS} for name, kind in CLIPS.items()],
        "listening": list(CLIPS),
        "codecs": [
            {
                "name": name,
                "about": f"about {name}",
                "kinds": list(CLIPS.values()),
                "settings": settings[name],
            }
            for name in settings
        ],
        "skipped": ["evs: not known"],
        "metrics": list(METRICS),
        "means": [asdict(mean) for mean in means],
        "measurements": [asdict(measurement) for measurement in measurements],
        "speed": {
            "ours": {"setting": "6", "encode_x_real_time": 20.0, "latency_ms": 53.3, "model_mb": 48.0},
            "opus": {"setting": "6", "encode_x_real_time": 200.0, "latency_ms": None, "model_mb": None},
        },
        "growth": [
            {"seconds": 60, "encode_cpu_seconds": 3.0, "decode_cpu_seconds": 1.5, "peak_mb": 400.0},
            {"seconds": 3600, "encode_cpu_seconds": 180.0, "decode_cpu_seconds": None, "peak_mb": 410.0},
        ],
        "correlations": {"pesq_wb": -0.1, "mel12": -0.64},
    }


def tone(hz: float) -> np.ndarray[Any, Any]:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(TONE_SECONDS * RATE)) / RATE)


def write(folder: Path, results: dict[str, Any]) -> Path:
    """The folder that a benchmark leaves: results.json, and a tone of another pitch for every codec and setting."""
    for clip in results["listening"]:
        paths = [folder / "audio" / "original" / f"{clip.replace('/', '__')}.flac"]
        for codec in results["codecs"]:
            paths += [audio_path(folder / "audio", codec["name"], s, clip) for s in codec["settings"]]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(500 + 500 * number), RATE, subtype="PCM_16")
    (folder / "results.json").write_text(json.dumps(results))
    return folder


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


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven as a user would."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium to look at the page with: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, freshly opened from disk; whatever is done with it, the console stays silent."""
    browser.get(report.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def wait(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What the condition gives as soon as it holds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def press(page: Any, selector: str) -> None:
    """A click in the middle of the first element that fits, as by a mouse."""
    element = page.find_element("css selector", selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_plots_and_pictures_are_there(page: Any) -> None:
    boxes = page.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map(svg => svg.getBoundingClientRect().width)"
    )
    assert len(boxes) == 3 and all(width > 200 for width in boxes)
    pictures = page.execute_script(
        "return [...document.querySelectorAll('.track img')].map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
    )
    assert pictures == [[True, 400, 120]] * 8
    colour = "return getComputedStyle(document.querySelector('.series-0 use')).fill"
    assert page.execute_script(colour) == "rgb(213, 94, 0)"  # the page's own, by name


def test_a_phone_does_not_scroll_sideways_and_dark_is_dark(page: Any) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") == 400
        paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", paper)) < 64
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_player_loads(page: Any) -> None:
    page.execute_script("document.querySelectorAll('audio').forEach(a => { a.preload = 'auto'; a.load(); })")
    state = "return [...document.querySelectorAll('.track audio')].map(a => [a.readyState, a.duration])"
    wait(lambda: all(ready >= 2 for ready, _ in page.execute_script(state)))
    assert [duration for _, duration in page.execute_script(state)] == [
        pytest.approx(TONE_SECONDS, abs=0.01)
    ] * 8


def test_a_click_plays_and_another_player_goes_on_from_there(page: Any) -> None:
    track = ".track[data-clip='0'][data-track='{}'] {}"
    first, second = (f'document.querySelector("{track.format(n, "audio")}")' for n in ("original", "opus 6"))
    press(page, track.format("original", ".play"))
    at = wait(lambda: page.execute_script(f"const t = {first}.currentTime; return t > 0.2 ? t : null"))
    press(page, track.format("opus 6", ".play"))
    wait(lambda: page.execute_script(f"return !{second}.paused && {second}.currentTime >= {at}"))
    assert page.execute_script(f"return {first}.paused")
    pressed = "return [...document.querySelectorAll('.play[aria-pressed=true]')].map(b => b.ariaLabel)"
    assert page.execute_script(pressed) == ["Play opus 6"]
    wait(lambda: page.execute_script(f"return {second}.ended"))
    assert page.execute_script(pressed) == []


def test_a_click_on_a_picture_plays_from_there(page: Any) -> None:
    press(page, ".track[data-track='ours 6'] .spectrogram")
    state = (
        "const a = document.querySelector(\"[data-track='ours 6'] audio\"); return [a.currentTime, a.paused]"
    )
    wait(lambda: page.execute_script(state)[0] >= TONE_SECONDS / 2 - 0.1)
    at, paused = page.execute_script(state)
    assert at < TONE_SECONDS / 2 + 1.5 and not paused


def test_a_chip_shows_its_codec_beside_ours(page: Any) -> None:
    opacity = "return [0, 1].map(n => getComputedStyle(document.querySelector('.series-' + n)).opacity)"
    for number, expected, n_rows in ((1, ["1", "1"], 2), (0, ["1", "0.12"], 4)):
        press(page, f".chip[data-codec='{number}']")
        wait(lambda expected=expected: page.execute_script(opacity) == expected)
        assert len(page.find_elements("css selector", "tr.shown")) == n_rows
    press(page, ".chip[data-codec='0']")
    wait(lambda: page.execute_script(opacity) == ["1", "1"])
    assert not page.find_elements("css selector", ".shown")


def fixed_lot(page: Any, number: float) -> None:
    """Sets what the page's dice show: below .5 X is A. It holds from the next trial on."""
    page.execute_script("Math.random = () => arguments[0]", number)


def tally(page: Any) -> list[list[str]]:
    rows = page.find_elements("css selector", ".tally tbody tr")
    return [[cell.text for cell in row.find_elements("css selector", "td")] for row in rows]


def test_the_blind_test_counts_right_and_wrong_answers(page: Any) -> None:
    from selenium.webdriver.support.select import Select

    n_right = 0
    for number, (lot, said) in enumerate(((0.1, "a"), (0.9, "b"), (0.9, "a"), (0.1, "a"), (0.9, "b"))):
        fixed_lot(page, lot)
        if number == 0:
            Select(page.find_element("name", "b")).select_by_visible_text("opus 6")
        else:
            press(page, "[data-next]")
        answer = page.find_element("css selector", f"[data-answer={said}]")
        assert not answer.is_enabled()  # X was not heard yet
        press(page, "[data-play=x]")
        wait(answer.is_enabled)
        press(page, f"[data-answer={said}]")
        right = (lot < 0.5) == (said == "a")
        n_right += right
        verdict = page.find_element("css selector", ".verdict").text
        assert verdict.startswith("Right: " if right else "Wrong: ")
        assert verdict.endswith("X was A, original." if lot < 0.5 else "X was B, opus 6.")
        assert not answer.is_enabled()  # once for each trial
    p = sum(math.comb(5, k) for k in range(n_right, 6)) / 2**5
    assert tally(page) == [["original", "opus 6", "4", "5", f"{p:.3f}"]]
    press(page, "[data-reset]")
    assert tally(page) == [["no trial yet"]]


def test_the_blind_test_works_by_keys(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    fixed_lot(page, 0.9)
    page.execute_script("document.querySelector('[data-play=a]').focus()")
    ActionChains(page).send_keys("x").perform()
    wait(page.find_element("css selector", "[data-answer=b]").is_enabled)
    ActionChains(page).send_keys("2").perform()
    ActionChains(page).send_keys("n").perform()  # the focus went to where the next trial is
    assert tally(page)[0][3] == "1"
    assert page.find_element("css selector", ".verdict").text == "Play A, B and X."


def test_nothing_tells_which_one_x_is(page: Any) -> None:
    def html() -> str:
        return str(page.execute_script("return document.querySelector('#abx').innerHTML"))

    seen = set()
    for lot in (0.1, 0.9):
        fixed_lot(page, lot)
        page.execute_script("document.querySelector('[name=b]').dispatchEvent(new Event('change'))")
        seen.add(html())
        press(page, "[data-play=x]")
        wait(page.find_element("css selector", "[data-answer=a]").is_enabled)
        press(page, "[data-play=x]")
        wait(lambda: "true" not in html())
        seen.add(html())
    # the page before and after hearing X: the same two, whatever the lot
    assert len(seen) == 2


def test_x_is_the_audio_of_the_one_that_the_verdict_names(page: Any) -> None:
    page.execute_script("""
        window.blobs = [];
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blobs.push(blob); return make(blob); };
    """)
    equal = """
        const done = arguments[0];
        Promise.all(blobs.splice(0).map((blob) => blob.arrayBuffer())).then((buffers) => {
          const [a, b, x] = buffers.map((buffer) => new Uint8Array(buffer).join());
          done([x === a, x === b]);
        });
    """
    for lot, expected in ((0.1, [True, False]), (0.9, [False, True])):
        fixed_lot(page, lot)
        page.execute_script("document.querySelector('[name=b]').dispatchEvent(new Event('change'))")
        assert page.execute_async_script(equal) == expected


def test_two_that_are_one_cannot_be_told_apart(page: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find_element("name", "b")).select_by_visible_text("original")
    assert page.find_element("css selector", ".verdict").text == "Choose two different ones."
    assert not page.find_element("css selector", "[data-play=x]").is_enabled()
