"""What is said of two streams before they are fused, by themselves and in a whole run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtfusion.advice import advice_on_bands, advice_on_lengths, advice_on_rates, advice_on_view
from rtfusion.capture.base import StreamInfo
from rtfusion.config import Settings
from rtfusion.mailbox import Mailbox
from rtfusion.pipeline import build
from rtfusion.types import Band, PixelFormat
from tests.capture.clips import patterns, write_clip

VISIBLE = StreamInfo(
    uri="v.mp4",
    band=Band.VISIBLE,
    width_px=640,
    height_px=480,
    pixel_format=PixelFormat.BGR8,
    rate_hz=30,
    live=False,
    duration_s=10.0,
)
THERMAL = replace(VISIBLE, uri="t.mp4", band=Band.THERMAL, pixel_format=PixelFormat.GRAY8)


def said(*, pair: str = "once", visible: dict | None = None, thermal: dict | None = None) -> list[str]:
    infos = {"visible": replace(VISIBLE, **(visible or {})), "thermal": replace(THERMAL, **(thermal or {}))}
    found = (advice_on_lengths(**infos), advice_on_rates(**infos, pair=pair), advice_on_bands(**infos))
    return [sentence for sentence in found if sentence is not None]


def test_two_that_fit_need_no_word() -> None:
    assert said() == []
    assert said(visible={"duration_s": 10.2, "rate_hz": 29.97}, thermal={"rate_hz": 25}) == []
    assert advice_on_view(visible=VISIBLE, thermal=replace(THERMAL, width_px=160, height_px=120)) is None


def test_lengths_that_differ() -> None:
    (sentence,) = said(thermal={"duration_s": 4.0})
    assert sentence.startswith("v.mp4 is 10.0 s long and t.mp4 4.0 s: 6.0 s of the visible recording are left; if both")
    (sentence,) = said(visible={"duration_s": 4.0})
    assert "6.0 s of the thermal recording are left" in sentence
    assert said(thermal={"duration_s": None}) == []


def test_a_slow_thermal_camera() -> None:
    (sentence,) = said(thermal={"rate_hz": 9.0})
    assert sentence.startswith("of 30 visible frames a second, 9 are paired")
    assert "--pair hold" in sentence
    assert said(thermal={"rate_hz": 9.0}, pair="hold") == []
    assert said(visible={"rate_hz": 9.0}) == []


def test_another_aspect_without_a_calibration() -> None:
    sentence = advice_on_view(visible=replace(VISIBLE, width_px=1920, height_px=1080), thermal=THERMAL)
    assert sentence is not None
    assert "640x480 is not of the aspect of 1920x1080" in sentence


def test_bands_that_may_be_exchanged() -> None:
    (sentence,) = said(visible={"looks_like": Band.THERMAL}, thermal={"looks_like": Band.VISIBLE})
    assert sentence == (
        "the two may be exchanged: t.mp4 has natural colors and v.mp4 has no color, or that of a thermal camera; "
        "--ir is the thermal source, --vis the visible one"
    )
    large = {"width_px": 1920, "height_px": 1440}
    assert "t.mp4 is much larger" in said(visible={"looks_like": Band.THERMAL}, thermal=large)[0]
    assert said(thermal=large) == []
    assert said(visible={"looks_like": Band.THERMAL}) == said(thermal={"looks_like": Band.VISIBLE}) == []


def natural(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), (0, 0), 3)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def notes_of(visible: object, thermal: object) -> tuple[list[str], dict]:
    pipeline = build(Settings(ir=str(thermal), vis=str(visible), sink=("null:",), fuser="average"))
    pipeline.run()
    snapshot = pipeline.telemetry.snapshot()
    return snapshot["notes"], snapshot


def test_sources_that_are_exchanged_in_a_whole_run(tmp_path: Path) -> None:
    color = write_clip(tmp_path / "color.mkv", [natural(index) for index in range(5)], codec="ffv1", pix_fmt="bgr0")
    gray = write_clip(
        tmp_path / "gray.mp4", [cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in patterns(5, channels=1)]
    )
    assert not any("exchanged" in note for note in notes_of(color, gray)[0])
    assert any("may be exchanged" in note for note in notes_of(gray, color)[0])


@pytest.mark.parametrize(("seen", "warm"), [(60, 20), (20, 60)])
def test_every_frame_that_was_read_is_in_the_table(tmp_path: Path, seen: int, warm: int) -> None:
    visible = write_clip(tmp_path / "v.mp4", patterns(seen))
    thermal = write_clip(tmp_path / "t.mp4", patterns(warm))
    notes, snapshot = notes_of(visible, thermal)
    assert snapshot["pairs"] == 20
    assert any("1.3 s of the" in note for note in notes)
    for band in ("visible", "thermal"):
        assert snapshot["frames_read"][band] == 20 + sum(snapshot["drops"][band].values())
    assert snapshot["skew_ms"]["max"] <= snapshot["tolerance_ms"] == pytest.approx(20.0)


@pytest.mark.parametrize("decode_s", [0.0, 0.02])
def test_what_is_longer_without_saying_so_is_told_at_the_end(
    tmp_path: Path, decode_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Mailbox.put

    def put_slowly(box: Mailbox[Any], item: Any, **named: Any) -> bool:
        if getattr(item, "band", None) is Band.VISIBLE:
            time.sleep(decode_s)
        return put(box, item, **named)

    monkeypatch.setattr(Mailbox, "put", put_slowly)
    visible = write_clip(tmp_path / "v.ts", patterns(60))
    thermal = write_clip(tmp_path / "t.ts", patterns(20))
    notes, snapshot = notes_of(visible, thermal)
    assert snapshot["pairs"] == 20
    assert f"{visible} goes on after 0.6 s, where {thermal} ended: the rest was not read" in notes
    equal = write_clip(tmp_path / "e.ts", patterns(60))
    assert not any("goes on" in note for note in notes_of(visible, equal)[0])
