from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtfusion_calibration.delay import DelayEstimate, measure_delay, watch, with_delay

from rtfusion.errors import CalibrationError, ConfigError, StreamLost
from rtfusion.registration import Calibration
from rtfusion.types import Band, Frame
from tests.support import MS, ScriptedSource, make_frame

SIZE_PX = (160, 120)
Path = Callable[[float], tuple[float, float]]


def wave(t: float) -> tuple[float, float]:
    """Uneven, back and forth, as a hand is waved."""
    return 80 + 34 * np.sin(2.1 * t) + 16 * np.sin(5.3 * t + 1), 60 + 22 * np.sin(3.7 * t + 2)


def still(_: float) -> tuple[float, float]:
    return 80.0, 60.0


def evenly(t: float) -> tuple[float, float]:
    return 80 + 40 * np.sin(2 * np.pi * t / 0.4), 60.0


def picture(band: Band, at: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A hand before a wall, bright before dark or the other way round, to a fraction of a pixel."""
    ground, hand = (60, 170) if band is Band.THERMAL else (180, 90)
    image = np.full(SIZE_PX[::-1], ground, np.uint8)
    cv2.rectangle(image, (8, 8), (40, 30), hand // 2, -1)
    center = tuple(round(16 * value) for value in at)
    cv2.ellipse(image, center, (16 * 14, 16 * 20), 20, 0, 360, hand, -1, cv2.LINE_AA, 4)  # type: ignore[call-overload]
    image = cv2.GaussianBlur(image, (0, 0), 1.0)
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


def source(
    band: Band, path: Path, *, rate_hz: float = 30.0, delay_ms: float = 0.0, seconds: float = 5.0, live: bool = False
) -> ScriptedSource:
    rng = np.random.default_rng(1 if band is Band.THERMAL else 2)
    script = []
    for index in range(int(seconds * rate_hz)):
        stamp_s = index / rate_hz + 1.0
        image = picture(band, path(stamp_s - delay_ms / 1000), rng)
        image = image if band is Band.THERMAL else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        script.append(make_frame(band, round(stamp_s * 1000 * MS), sequence=index, image=image))
    made = ScriptedSource(band, script, rate_hz=rate_hz, live=live)
    made.info = replace(made.info, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
    return made


def measure(path: Path, *, calibration: Calibration | None = None, **options: float) -> DelayEstimate:
    return measure_delay(
        visible=source(Band.VISIBLE, path),
        thermal=source(Band.THERMAL, path, **options),
        calibration=calibration,
        seconds=60.0,
        stop=threading.Event(),
    )


@settings(max_examples=4, deadline=None)
@given(delay_ms=st.floats(-180, 180))
def test_the_delay_of_a_waved_hand_is_found_to_a_millisecond(delay_ms: float) -> None:
    estimate = measure(wave, delay_ms=delay_ms)
    assert estimate.delay_ns / MS == pytest.approx(delay_ms, abs=1.0)
    assert estimate.uncertainty_ns < 4 * MS


def test_streams_of_unequal_rates_tell_it_too() -> None:
    estimate = measure(wave, delay_ms=47.0, rate_hz=12.5)
    assert estimate.delay_ns / MS == pytest.approx(47.0, abs=4.0)


def two_hands(band: Band, *, delays_ms: tuple[float, float]) -> ScriptedSource:
    """One in the upper half of the picture, another in the lower half, each late by its own time."""
    rng, script = np.random.default_rng(3 if band is Band.THERMAL else 4), []
    for index in range(150):
        moments_s = [index / 30 + begin - delay / 1000 for begin, delay in zip((1.0, 8.0), delays_ms, strict=True)]
        image = np.vstack([picture(band, wave(moment), rng)[30:90] for moment in moments_s])
        script.append(make_frame(band, round(index / 30 * 1000 * MS), sequence=index, image=image))
    made = ScriptedSource(band, script, rate_hz=30.0)
    made.info = replace(made.info, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
    return made


def test_what_parts_of_the_picture_differ_by_is_part_of_the_uncertainty() -> None:
    def told(delays_ms: tuple[float, float]) -> DelayEstimate:
        visible, thermal = (
            two_hands(Band.VISIBLE, delays_ms=(0.0, 0.0)),
            two_hands(Band.THERMAL, delays_ms=delays_ms),
        )
        return measure_delay(visible=visible, thermal=thermal, calibration=None, seconds=9, stop=threading.Event())

    alike, unlike = told((20.0, 20.0)), told((12.0, 28.0))
    assert alike.delay_ns / MS == pytest.approx(20.0, abs=1.0)
    assert abs(unlike.delay_ns / MS - 20.0) < 2 * unlike.uncertainty_ns / MS
    assert unlike.uncertainty_ns > max(3 * MS, 2 * alike.uncertainty_ns)


def test_where_nothing_moves_it_is_refused() -> None:
    with pytest.raises(CalibrationError, match="hardly anything moves"):
        measure(still)


def test_motion_that_repeats_itself_is_refused() -> None:
    with pytest.raises(CalibrationError, match="repeats itself"):
        measure(evenly)


def test_too_short_streams_are_refused() -> None:
    with pytest.raises(CalibrationError, match="3 s are needed"):
        measure(wave, seconds=1.5)
    with pytest.raises(CalibrationError, match="the thermal stream has 9 frames"):
        measure(wave, seconds=0.3)


def test_stills_have_no_delay() -> None:
    stills = source(Band.THERMAL, wave)
    stills.info = replace(stills.info, continuous=False)
    with pytest.raises(ConfigError, match="unrelated stills have no delay"):
        measure_delay(
            visible=source(Band.VISIBLE, wave), thermal=stills, calibration=None, seconds=9, stop=threading.Event()
        )


def test_a_source_that_breaks_ends_the_other_one() -> None:
    broken = ScriptedSource(Band.THERMAL, [StreamLost("unplugged")], live=True)
    waiting = ScriptedSource(Band.VISIBLE, [], live=True)  # never delivers
    with pytest.raises(StreamLost, match="unplugged"):
        measure_delay(visible=waiting, thermal=broken, calibration=None, seconds=60, stop=threading.Event())


def test_watching_ends_in_time_and_skips_the_shutter() -> None:
    frames: list[Frame] = [
        make_frame(Band.THERMAL, i * 100 * MS, sequence=i, image=np.full((32, 32), 9 * i, np.uint8)) for i in range(20)
    ]
    frames[3] = replace(frames[3], shutter=True)
    motion = watch(
        ScriptedSource(Band.THERMAL, frames),
        visible_from_source_px=np.eye(3),
        visible_size_px=(32, 32),
        seconds=1.0,
        stop=threading.Event(),
    )
    assert [stamp // MS for stamp in motion.stamps_ns] == [0, 100, 200, 400, 500, 600, 700, 800, 900, 1000]


def test_the_calibration_keeps_all_but_the_delay() -> None:
    estimate = DelayEstimate(delay_ns=21 * MS, uncertainty_ns=MS, correlation=0.5, seconds=9.0)
    rig = Calibration.from_homography(
        visible_from_thermal_px=np.array([[2.0, 0.0, 3.0], [0.0, 2.0, 4.0], [0.0, 0.0, 1.0]]),
        visible_size_px=(640, 480),
        thermal_size_px=(320, 240),
        distance_m=8.0,
        provenance={"how": "by hand"},
    )
    infos = {"visible": source(Band.VISIBLE, still).info, "thermal": source(Band.THERMAL, still).info}
    noted = with_delay(rig, estimate, **infos)
    assert noted.thermal_delay_ns == 21 * MS
    assert noted.provenance["how"] == "by hand"
    assert "21.0 ms late" in noted.provenance["delay"]
    assert (noted.visible_from_thermal_px, noted.distance_m) == (rig.visible_from_thermal_px, 8.0)
    assert np.allclose(with_delay(None, estimate, **infos).homography_px, np.eye(3))
