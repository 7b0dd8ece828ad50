"""The benchmark's report in a real browser. All figures are made up."""

import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_cases import TONE_SECONDS, made_up_results, write

from audiocodec.bench.report import build

pytest.importorskip("matplotlib", reason="the report needs matplotlib: pip install 'audiocodec[bench]'")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that there can be."""
    return build(write(tmp_path_factory.mktemp("report"), made_up_results()))


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
