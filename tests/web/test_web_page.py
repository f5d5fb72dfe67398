"""The page of the browser view in a real browser, at the sizes of a desktop and of a phone."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtfusion.intents import Intents
from rtfusion.models import shipped_names
from rtfusion.registration import Calibration
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Degraded
from rtfusion.web.sink import WebSink
from tests.support import RecordingControl, ScriptedSource

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install playwright")

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
RATIO = "document.getElementById('picture').naturalWidth / document.getElementById('picture').naturalHeight"
PATIENCE_S = 20.0
SIZES = {
    "desktop": {"viewport": {"width": 1280, "height": 760}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium here; playwright install chromium, or name one in CHROMIUM")
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


class Run:
    """Frames, thirty times a second, for as long as the page is looked at."""

    def __init__(self, make_frame, record: Path | None) -> None:
        self.control = RecordingControl()
        self.control.inputs = {"enhance": 0.5}
        self.control.model, self.control.look = Path("small"), "eye"
        telemetry = Telemetry()
        telemetry.sources = {band: ScriptedSource(band, ()).info for band in Band}
        context = SinkContext(
            rate_hz=30.0,
            live=False,
            session="run",
            control=self.control,
            snapshot=telemetry.snapshot,
            sizes_px=dict.fromkeys(Band, (640, 480)),
        )
        self.token: str | None = None
        self._record, self._context = record, context
        self.sink = self._open(port=0)
        self.degraded: Degraded | None = None
        self._frame = make_frame(0, size_px=(640, 480))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        sequence = 0
        while not self._stop.wait(1 / 30):
            sequence += 1
            stamp_ns = sequence * 33_333_333
            self.sink.write(replace(self._frame, sequence=sequence, timestamp_ns=stamp_ns, degraded=self.degraded))

    def _open(self, *, port: int) -> WebSink:
        given = {"record": self._record, "token": self.token}
        query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        sink = open_sink(f"web://127.0.0.1:{port}{f'?{query}' if query else ''}", context=self._context)
        assert isinstance(sink, WebSink)
        return sink

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.sink.close(aborted=False)

    def begin_again(self) -> None:
        """Another run at the same address."""
        self.sink = self._open(port=self.sink.port)
        self._stop.clear()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()


@pytest.fixture
def run(make_frame, tmp_path) -> Iterator[Run]:
    running = Run(make_frame, tmp_path)
    yield running
    running.close()


@pytest.fixture(params=SIZES)
def page(request, browser, run) -> Iterator[Any]:
    context = browser.new_context(**SIZES[request.param])
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.goto(f"http://127.0.0.1:{run.sink.port}/")
    opened.wait_for_selector("#picture:visible")
    yield opened
    context.close()
    assert wrong == []


def test_pictures_follow_each_other_in_every_view(page):
    shapes = {"Fused": 640 / 480, "Thermal": 640 / 480, "Visible": 640 / 480}
    upright = page.viewport_size["width"] < 760
    for name, shape in {**shapes, "All three": (640 / 1440 if upright else 1920 / 480)}.items():
        page.click(f"text={name}")
        page.wait_for_function(f"() => Math.abs({RATIO} - {shape}) < 0.01")
        before = page.get_attribute("#picture", "src")
        page.wait_for_function("src => document.getElementById('picture').src !== src", arg=before)


def test_nothing_is_wider_than_the_screen_and_every_button_is_large_enough_for_a_finger(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heights = page.eval_on_selector_all(
        "button, select, .check", "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 38


def test_the_slider_and_the_palette_change_the_run(page, run):
    page.wait_for_selector("#dial-enhance")
    page.eval_on_selector(
        "#dial-enhance", "one => { one.value = 0.8; one.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    page.wait_for_function("() => document.querySelector('#dial-enhance').dataset.held === undefined")
    assert run.control.inputs == {"enhance": 0.8}
    page.select_option("#palette", "rainbow")
    page.wait_for_function("async () => (await (await fetch('/state')).json()).palette === 'rainbow'")


def test_snapshot_and_record(page, tmp_path):
    with page.expect_download() as download:
        page.click("#snapshot")
    assert re.fullmatch(r"rtfusion-\d{8}-\d{6}-\d+-fused\.png", download.value.suggested_filename)
    page.click("#record")
    page.wait_for_selector("#recording:visible")
    page.click("text=Stop")
    page.wait_for_selector("text=/recorded rtfusion-.*mp4: [0-9]+ frames/")
    assert len(list(tmp_path.glob("*.mp4"))) == 1


def test_record_rests_where_no_folder_was_named(page, run):
    run.sink._recorder = None
    page.wait_for_selector("#record:disabled")
    assert "?record=FOLDER" in page.get_attribute("#record", "title")


def test_what_is_wished_stands_beside_the_sentence(page, run):
    page.wait_for_selector("#saying:visible")
    assert not page.is_visible("#wished")
    run.control.intents = Intents(people=0.6, clear_haze=-0.3)
    page.wait_for_selector("#wished:visible")
    assert set(page.inner_text("#wished").removeprefix("wished: ").split(", ")) == {"people +0.6", "clear haze -0.3"}


def test_a_lost_camera_is_said(page, run):
    run.degraded = Degraded.NO_THERMAL
    page.wait_for_selector("#banner.bad >> text=a camera is lost: visible picture alone")


def test_the_picture_is_as_high_as_the_page_or_as_wide(page):
    picture, stage, wide, whole = page.evaluate("""() => {
        const box = (one) => document.querySelector(one).getBoundingClientRect().toJSON();
        return [box("#picture"), box(".stage"), innerWidth, innerHeight];
    }""")
    assert abs(picture["height"] - stage["height"]) < 1
    if page.viewport_size["width"] < 760:
        assert picture["width"] == wide
    else:
        assert abs(stage["bottom"] - whole) < 1


def test_what_this_run_can_change_is_offered_and_changes_it(page, run):
    page.wait_for_selector("#model:visible")
    assert page.eval_on_selector_all("#model option", "all => all.map(one => one.value)") == shipped_names()
    page.select_option("#model", "large")
    page.wait_for_function("() => !document.getElementById('model').disabled")
    assert run.control.model == Path("large")
    page.select_option("#look", "detector")
    page.wait_for_function("() => !document.getElementById('look').disabled")
    assert run.control.look == "detector"
    page.select_option("#palette", "rainbow")
    page.check("#reversed")
    page.wait_for_function("async () => (await (await fetch('/state')).json()).palette === 'rainbow-reversed'")


def test_what_this_run_cannot_change_is_not_there(page, run):
    page.wait_for_selector("#model:visible")
    run.control.model = run.control.look = run.control.intents = run.control.regions = None
    for one in ("#model", "#look", "#wishes", "#saying", "#marking"):
        page.wait_for_selector(one, state="hidden")


def test_the_registration_is_moved_by_buttons_gone_back_on_and_kept(page, run):
    page.click("text=Registration")
    for name in ("Right", "Right", "Down", "Turn left", "Larger", "Smaller"):
        page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_function("""async () => document.getElementById('message').hidden""")

    def middle() -> tuple[float, float]:
        calibration = run.control.calibration
        x, y, w = (319.5, 239.5, 1.0) if calibration is None else calibration.homography_px @ (319.5, 239.5, 1.0)
        return round(x / w, 3), round(y / w, 3)

    until(lambda: middle() == (321.5, 240.5))
    with page.expect_download() as download:
        page.click("#keep")
    assert Calibration.load(Path(download.value.path())) == run.control.calibration
    page.click("#back")
    until(lambda: middle() == (319.5, 239.5))


def test_a_button_that_is_held_repeats(page, run):
    page.click("text=Registration")
    page.dispatch_event("[aria-label=Right]", "pointerdown")
    until(lambda: run.control.changes > 3)
    page.dispatch_event("[aria-label=Right]", "pointerup")
    page.dispatch_event("[aria-label=Right]", "click")


def test_the_end_of_the_run_is_said_and_a_new_run_is_taken_up(browser, run):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{run.sink.port}/")
    page.wait_for_selector("#picture:visible")
    page.wait_for_selector("#snapshot:enabled")
    dot = "getComputedStyle(document.querySelector('.source'), '::before').backgroundColor"
    good = page.evaluate(dot)
    run.close()
    page.wait_for_selector("#banner.bad >> text=/the run has ended/")
    for control in ("#snapshot", "#record", "#palette", "#model", "#sentence", "#dial-enhance", "[data-view=fused]"):
        page.wait_for_selector(f"{control}:disabled", state="attached")
    assert page.evaluate(dot) != good
    run.begin_again()
    page.wait_for_selector("#snapshot:enabled")
    page.wait_for_selector("#banner", state="hidden")
    assert page.evaluate(dot) == good
    page.close()


def test_a_page_that_the_run_does_not_know_any_more_asks_for_the_token(browser, run):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{run.sink.port}/")
    page.wait_for_selector("#picture:visible")
    run.close()
    run.token = "correct-horse-battery"  # noqa: S105 - of the tests
    run.begin_again()
    page.fill("#token", "wrong-horse-battery")
    page.click("text=Open")
    page.wait_for_selector("text=That is not the token of this run.")
    page.fill("#token", run.token)
    page.click("text=Open")
    page.wait_for_selector("#picture:visible")
    page.close()
