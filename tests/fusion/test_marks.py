"""Frames that say how warm the scene is, that the shutter is closed, and that a camera is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtfusion.fusion import open_method
from rtfusion.fusion.host import HostFuser
from rtfusion.fusion.marks import MarkedFuser
from rtfusion.fusion.tone import GainControl
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Degraded, FramePair
from tests.support import make_frame

COLD, WARM, MIDDLE = (6, 5), (50, 40), (32, 24)


def counts() -> np.ndarray:
    """300 K at 0.01 K a count, a cold point, a warm one, and 310 K in the middle."""
    image = np.full((48, 64), 30000, np.uint16)
    for (x, y), value in ((COLD, 27315), (WARM, 37315), (MIDDLE, 31000)):
        image[y, x] = value
    return image


def pair_of(*, kelvin_per_count: float | None = 0.01, image: np.ndarray | None = None) -> FramePair:
    thermal = make_frame(Band.THERMAL, 0, image=counts() if image is None else image)
    return FramePair(
        visible=make_frame(Band.VISIBLE, 0), thermal=replace(thermal, kelvin_per_count=kelvin_per_count), sequence=3
    )


def fuser(units: str | None, *, grid: str = "visible") -> MarkedFuser:
    host = HostFuser(
        name="average",
        method=open_method("average", still=False),
        gain=GainControl(),
        calibration=None,
        grid=grid,
        telemetry=Telemetry(),
    )
    return MarkedFuser(host, units=units, grid=grid)


@pytest.mark.parametrize(
    ("units", "spot", "low", "high"),
    [
        ("celsius", 36.85, 0.0, 100.0),
        ("fahrenheit", 98.33, 32.0, 212.0),
        ("kelvin", 310.0, 273.15, 373.15),
        ("counts", 31000, 27315, 37315),
    ],
)
def test_spot_coldest_and_warmest_are_published(units: str, spot: float, low: float, high: float) -> None:
    state = fuser(units)(pair_of()).thermal_state
    assert state["units"] == units
    assert (state["spot"], state["min"], state["max"]) == pytest.approx((spot, low, high), abs=0.01)
    assert state["gain"] == "percentile"


def test_they_are_drawn_where_they_are() -> None:
    plain, drawn = fuser(None)(pair_of()).image, fuser("celsius")(pair_of()).image
    changed = np.any(plain != drawn, axis=2)
    for x, y in (COLD, WARM, MIDDLE):
        assert changed[y, x]
    assert 0.01 < changed.mean() < 0.5


def test_a_camera_without_temperatures_gives_counts_only() -> None:
    assert "spot" not in fuser("celsius")(pair_of(kelvin_per_count=None)).thermal_state
    assert fuser("counts")(pair_of(kelvin_per_count=None)).thermal_state["spot"] == 31000
    eight = np.zeros((48, 64), np.uint8)
    assert fuser("counts")(pair_of(image=eight)).thermal_state == {}


def test_nothing_is_drawn_unless_asked() -> None:
    frame = fuser(None)(pair_of())
    assert set(frame.thermal_state) == {"gain", "low_counts", "high_counts"}
    assert frame.degraded is None


def test_a_held_thermal_image_is_marked() -> None:
    pair = pair_of()
    held = replace(pair, thermal=replace(pair.thermal, shutter=True))
    assert fuser(None)(held).thermal_state["shutter"] is True


def test_a_thermal_camera_that_is_lost_is_not_measured() -> None:
    frame = fuser("celsius")(replace(pair_of(), degraded=Degraded.NO_THERMAL))
    assert "spot" not in frame.thermal_state
    assert frame.degraded is Degraded.NO_THERMAL
    assert np.array_equal(frame.image, pair_of().visible.image)


def test_a_thermal_camera_alone_is_shown_and_measured() -> None:
    pair = replace(pair_of(), degraded=Degraded.NO_VISIBLE)
    frame = fuser("kelvin")(pair)
    assert frame.thermal_state["spot"] == 310.0
    plain = fuser(None)(pair)
    assert np.array_equal(plain.image[..., 0], plain.thermal)
    assert plain.thermal_state["gain"] == "percentile"


def test_readings_on_the_thermal_grid() -> None:
    frame = fuser("kelvin", grid="thermal")(pair_of())
    assert frame.thermal_state["max"] == 373.15


def test_what_is_inside_shows_through() -> None:
    marked = fuser(None)
    assert (marked.name, marked.engine, marked.calibration, dict(marked.scalars)) == ("average", None, None, {})
    marked.close()
