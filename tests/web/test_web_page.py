"""The page of the browser view in a real browser, at the sizes of a desktop and of a phone."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtfusion.sinks import SinkContext, open_sink
from rtfusion.telemetry import Telemetry
from rtfusion.types import Degraded
from rtfusion.web.sink import WebSink
from tests.support import RecordingControl

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install playwright")

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
RATIO = "document.getElementById('picture').naturalWidth / document.getElementById('picture').naturalHeight"
SIZES = {
    "desktop": {"viewport": {"width": 1280, "height": 760}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}


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
        context = SinkContext(
            rate_hz=30.0, live=False, session="run", control=self.control, snapshot=Telemetry().snapshot
        )
        sink = open_sink(f"web://127.0.0.1:0{f'?record={record}' if record else ''}", context=context)
        assert isinstance(sink, WebSink)
        self.sink = sink
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

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.sink.close(aborted=False)


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
    heights = page.eval_on_selector_all("button, select", "all => all.map(one => one.getBoundingClientRect().height)")
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


def test_a_lost_camera_is_said(page, run):
    run.degraded = Degraded.NO_THERMAL
    page.wait_for_selector("#banner.bad >> text=a camera is lost: visible picture alone")


def test_the_end_of_the_run_is_said(browser, run):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{run.sink.port}/")
    page.wait_for_selector("#picture:visible")
    run.close()
    page.wait_for_selector("#banner.bad >> text=the run has ended")
    page.close()
