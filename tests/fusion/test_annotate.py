"""Frames that say how warm the scene is, that the shutter is closed, and that a camera is lost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtfusion.config import Settings
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady
from rtfusion.pipeline import build
from rtfusion.registration import Calibration
from rtfusion.registration.refine import Refiner
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Degraded, FramePair
from tests.calibration.pictures import scene, similarity, view
from tests.support import host_fuser, make_frame

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


def fuser(units: str | None, *, grid: str = "visible") -> PairFuser[HostReady]:
    return host_fuser(units=units, grid=grid)


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
    assert state["gain"] == "scene"


@pytest.mark.parametrize(
    ("units", "pair", "note"),
    [
        (
            "celsius",
            pair_of(kelvin_per_count=None),
            "nothing is measured in celsius: .* no temperatures; use units counts",
        ),
        ("counts", pair_of(image=np.zeros((48, 64), np.uint8)), "nothing is measured in counts: .* gray levels"),
        ("counts", pair_of(kelvin_per_count=None), None),
        (None, pair_of(kelvin_per_count=None), None),
    ],
)
def test_a_source_that_cannot_be_measured_is_noted_once(units: str | None, pair: FramePair, note: str | None) -> None:
    telemetry = Telemetry()
    fuser = host_fuser(units=units, telemetry=telemetry)
    for _ in range(3):
        assert "units" not in fuser(pair).thermal_state or note is None
    assert len(telemetry.notes) == (note is not None)
    assert all(re.match(str(note), text) for text in telemetry.notes)


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


def test_the_refinement_sees_no_picture_of_another_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Refiner, "observe", lambda _, *, timestamp_ns, **__: seen.append(timestamp_ns))
    fuse, pair = host_fuser(refine=True), pair_of()
    fuse(replace(pair, thermal=replace(pair.thermal, shutter=True)))
    fuse(replace(pair, degraded=Degraded.NO_THERMAL))
    assert seen == []
    fuse(pair)
    assert seen == [pair.timestamp_ns]


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
    assert plain.thermal_state["gain"] == "scene"


def test_readings_on_the_thermal_grid() -> None:
    frame = fuser("kelvin", grid="thermal")(pair_of())
    assert frame.thermal_state["max"] == 373.15


# --- the registration that is measured in is the one that was fused with ---


def last_frame(settings: Settings, video: Path) -> np.ndarray:
    """Run with a lossless video as output; the last fused image."""
    build(settings.model_copy(update={"sink": (f"video:{video}?codec=ffv1",)})).run()
    with av.open(str(video)) as container:
        *_, image = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
    return image


def recorded(folder: Path, *, visible: np.ndarray, thermal: np.ndarray) -> dict[str, str]:
    """Two folders with one picture each, played again and again."""
    for band, image in (("vi", visible), ("ir", thermal)):
        (folder / band).mkdir()
        assert cv2.imwrite(str(folder / band / "street.png"), image)
    return {"vis": str(folder / "vi"), "ir": str(folder / "ir")}


def test_a_calibrated_run_is_measured(tmp_path: Path) -> None:
    visible, thermal = np.full((48, 64, 3), 90, np.uint8), counts()
    calibration = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(64, 48), thermal_size_px=(64, 48)
    )
    calibration.save(tmp_path / "rig.json")
    sources = recorded(tmp_path, visible=visible, thermal=thermal)
    settings = Settings(**sources, fuser="average", units="counts", calibration=tmp_path / "rig.json", loop=3)
    drawn = last_frame(settings, tmp_path / "drawn.mkv")
    plain = last_frame(settings.model_copy(update={"units": None}), tmp_path / "plain.mkv")
    changed = np.any(drawn != plain, axis=2)
    assert all(changed[y, x] for x, y in (COLD, WARM, MIDDLE))


def test_the_mark_sits_on_the_heat_of_a_refined_picture(tmp_path: Path) -> None:
    canvas, off = scene(1, shapes=140), similarity(shift_px=(7.0, 0.0))
    visible, thermal = view(canvas, None, noise=0.0), view(canvas, off, noise=0.0)
    x, y = np.linalg.inv(off)[:2] @ (134.5, 104.5, 1.0)
    hot = 7000 + 10 * thermal.astype(np.uint16)
    hot[round(y) - 4 : round(y) + 6, round(x) - 4 : round(x) + 6] = 12000
    sources = recorded(tmp_path, visible=cv2.merge([visible] * 3), thermal=hot)
    settings = Settings(**sources, fuser="average", units="counts", refine=True, loop=150)
    image = last_frame(settings, tmp_path / "drawn.mkv").astype(int)
    red = image[..., 2] - image[..., 0] > 100  # the cross on the warmest point, and its number up to the right
    left = int(np.nonzero(red.any(axis=0))[0][0])
    assert 124 <= left <= 130, (
        "the square is at 130 to 139, and the arm of the cross begins 4 px left of its first pixel"
    )
