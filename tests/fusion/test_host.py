from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.config import PAINTERS
from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.fusion import FUSERS, open_method
from rtfusion.fusion.color import as_bgr, color_kept, colorize, luminance, palette_bgr, rebase_on_mean
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady, HostRenderer
from rtfusion.fusion.tone import GainControl
from rtfusion.registration import Calibration, PairShape
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, Image
from tests import onnx_models
from tests.support import MS, host_fuser, make_frame


def pair_of(visible: Image, thermal: Image, *, timestamp_ms: float = 0.0) -> FramePair:
    return FramePair(
        visible=make_frame(Band.VISIBLE, round(timestamp_ms * MS), image=visible, name="street"),
        thermal=make_frame(Band.THERMAL, round((timestamp_ms + 5) * MS), image=thermal),
        sequence=7,
    )


def fuser(
    name: str = "average", *, calibration: Calibration | None = None, grid: str = "visible", **options: object
) -> PairFuser[HostReady]:
    return host_fuser(
        name,
        method=open_method(name, still=True, **options),  # type: ignore[arg-type]
        calibration=calibration,
        grid=grid,
    )


def shifted(dx: float) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=np.array([[1.0, 0.0, dx], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        visible_size_px=(64, 48),
        thermal_size_px=(64, 48),
    )


def test_everything_is_carried_through() -> None:
    calibration = shifted(0.0)
    fused = fuser(calibration=calibration)(
        pair_of(np.full((48, 64, 3), 100, np.uint8), np.full((48, 64), 50, np.uint8), timestamp_ms=40)
    )
    assert fused.sequence == 7
    assert fused.timestamp_ns == 40 * MS
    assert fused.skew_ns == 5 * MS
    assert fused.fuser == "average"
    assert fused.name == "street"
    assert fused.calibration_id == calibration.id
    assert fused.thermal_state == {}
    assert (fused.image == 75).all()


@pytest.mark.parametrize("name", ["maximum", "pyramid"])
def test_for_detectors_the_detail_of_the_fuser_stands_on_the_mean_without_colors(name: str) -> None:
    rng = np.random.default_rng(1)
    visible = cv2.resize(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    thermal = cv2.resize(rng.integers(0, 256, (12, 16)).astype(np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    fused = host_fuser(
        name,
        method=open_method(name, still=True),
        look="detector",
    )(pair_of(visible, thermal))
    visible_y = luminance(visible)
    alone = open_method(name, still=True)(visible_y=visible_y, thermal=thermal, timestamp_ns=0)  # type: ignore[operator, call-arg]
    expected = rebase_on_mean(fused_y=alone, visible_y=visible_y, thermal=thermal)
    np.testing.assert_array_equal(fused.image, as_bgr(expected))
    assert np.abs(expected.astype(int) - alone).max() > 10


@pytest.mark.parametrize("name", [name for name in FUSERS if name != "learned"])
@pytest.mark.parametrize("thermal_size", [(48, 64), (24, 32), (96, 128)])
@pytest.mark.parametrize("gray_visible", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_fuser_gives_bgr_on_the_visible_grid(
    name: str, thermal_size: tuple[int, int], gray_visible: bool, bits: int
) -> None:
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 256, (48, 64) if gray_visible else (48, 64, 3)).astype(np.uint8)
    thermal = rng.integers(0, 256, thermal_size).astype(np.uint8)
    if bits == 16:
        thermal = thermal.astype(np.uint16) * 8 + 7000
    fused = fuser(name)(pair_of(visible, thermal))
    assert fused.image.shape == (48, 64, 3)
    assert fused.thermal.shape == (48, 64)
    if gray_visible and name not in PAINTERS:
        assert (fused.image[..., 0] == fused.image[..., 2]).all()
    if bits == 16:
        assert fused.thermal_state["low_counts"] >= 7000


def test_where_the_thermal_camera_does_not_see_the_visible_image_is_untouched() -> None:
    visible = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    thermal = np.full((48, 64), 200, np.uint8)
    for name in ("average", "maximum", "pyramid", "overlay"):
        fused = fuser(name, calibration=shifted(30.0))(pair_of(visible, thermal))
        np.testing.assert_array_equal(fused.image[:, :29], visible[:, :29], err_msg=name)
        assert np.abs(fused.image[:, 45:].astype(int) - visible[:, 45:]).mean() > 10, name


def test_on_the_thermal_grid_what_only_the_thermal_camera_sees_is_shown_gray() -> None:
    visible = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    thermal = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    fused = fuser("average", calibration=shifted(30.0), grid="thermal")(pair_of(visible, thermal))
    assert fused.image.shape == (48, 64, 3)
    alone = fused.image[:, 35:]
    for channel in range(3):
        np.testing.assert_allclose(alone[..., channel], thermal[:, 35:], atol=1)


def test_a_new_size_in_mid_stream_gets_its_own_registration() -> None:
    fuse = fuser("average")
    first = fuse(pair_of(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8))).image
    assert first.shape == (48, 64, 3)
    kept = weakref.ref(first)
    del first
    assert kept() is not None, "its pixels are for the next frame of that size"
    assert fuse(pair_of(np.zeros((96, 128, 3), np.uint8), np.zeros((48, 64), np.uint8))).image.shape == (96, 128, 3)
    assert kept() is None


def test_a_calibration_of_other_cameras_is_refused() -> None:
    with pytest.raises(CalibrationError, match="another aspect"):
        fuser(calibration=shifted(0.0)).prepare(PairShape((48, 100, 3), (48, 64), 1))


def test_counts_in_the_visible_stream_are_refused() -> None:
    with pytest.raises(ConfigError, match="exchanged"):
        fuser()(pair_of(np.zeros((48, 64), np.uint16), np.zeros((48, 64), np.uint8)))


def test_unknown_fuser_and_missing_model() -> None:
    with pytest.raises(ConfigError, match="there are average"):
        open_method("average2", still=True)
    with pytest.raises(ConfigError, match="--model"):
        open_method("learned", still=True)


def test_overlay_paints_only_what_is_warm() -> None:
    visible = np.full((48, 64, 3), (40, 80, 120), np.uint8)
    thermal = np.full((48, 64), 60, np.uint8)
    thermal[10:20, 10:20] = 250
    fused = fuser("overlay", palette="white-hot", threshold=0.6, opacity=0.5)(pair_of(visible, thermal))
    np.testing.assert_array_equal(fused.image[30:], visible[30:])
    np.testing.assert_allclose(fused.image[15, 15], (np.array([40, 80, 120]) + 250) / 2, atol=1)


def edges_seen(visible: np.ndarray, thermal: np.ndarray, *, palette: str = "ironbow", frames: int = 1) -> np.ndarray:
    """The last picture of ``edges``, less the palette alone: what was drawn into it, (H, W, 3)."""
    fuse = fuser("edges", palette=palette)
    for _ in range(frames):
        image = fuse(pair_of(visible, thermal)).image
    return image.astype(int) - colorize(thermal, palette_bgr(palette))


def test_edges_are_drawn_into_the_palette_and_nothing_else_is() -> None:
    rng = np.random.default_rng(0)
    visible = np.full((96, 128), 100, np.float64)
    visible[:, 64:] = 140
    noisy = np.clip(visible + rng.normal(0, 1, visible.shape), 0, 255).astype(np.uint8)
    drawn = edges_seen(noisy, np.full((96, 128), 90, np.uint8))
    step = np.abs(drawn[:, 58:70]).max(axis=2)
    assert step.max(axis=1).min() > 20, "the edge is drawn in every row"
    away = np.delete(drawn, np.s_[58:70], axis=1)
    assert (away != 0).mean() < 0.03, "and the noise is not"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_visible_picture_that_shows_nothing_leaves_the_palette_alone(level: int) -> None:
    thermal = np.random.default_rng(1).integers(0, 256, (96, 128), dtype=np.uint8)
    assert not edges_seen(np.full((96, 128, 3), level, np.uint8), thermal).any()


def test_the_threshold_of_edges_adapts_to_the_light() -> None:
    """A street by day and the same at dusk, with a tenth of its contrast, are drawn about alike."""
    rng = np.random.default_rng(2)
    day = cv2.resize(rng.integers(0, 256, (12, 16), dtype=np.uint8), (128, 96), interpolation=cv2.INTER_NEAREST)
    dusk = np.rint(20 + day * 0.1).astype(np.uint8)
    thermal = np.full((96, 128), 120, np.uint8)
    strengths = [np.abs(edges_seen(visible, thermal)).mean() for visible in (day, dusk)]
    assert 0.3 < strengths[1] / strengths[0] < 1.5


def test_stages_are_timed() -> None:
    telemetry = Telemetry()
    fuse = host_fuser(
        "pyramid",
        method=open_method("pyramid", still=False),
        telemetry=telemetry,
    )
    for i in range(3):
        fuse(pair_of(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8), timestamp_ms=i * 33))
    stages = telemetry.snapshot()["stages_ms"]
    assert {"tone", "register", "fuse", "compose"} <= set(stages)
    assert all(stages[stage]["count"] == 3 for stage in ("tone", "register", "fuse", "compose"))


@pytest.mark.parametrize("name", ["average", "maximum", "learned"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_no_frame_allocates_an_image(name: str, calibrated: bool, tmp_path: Path) -> None:
    options: dict[str, object] = {}
    if name == "learned":
        options = {"model": onnx_models.write(tmp_path / "model.onnx", onnx_models.average()), "threads": 1}
    fuse = fuser(name, calibration=shifted(30.0) if calibrated else None, **options)
    rng = np.random.default_rng(0)
    pair = pair_of(
        rng.integers(0, 256, (480, 640, 3)).astype(np.uint8), rng.integers(0, 256, (480, 640)).astype(np.uint8)
    )
    for _ in range(3):
        fuse(pair)
    tracemalloc.start()
    for _ in range(3):
        fuse(pair)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    fuse.close()
    # the two that are arithmetic make their own luminance; beside it there are only small planes
    assert peak_bytes < 480 * 640 * (1.1 if name == "learned" else 2.1)


def test_what_the_visible_camera_sees_is_judged_anew_in_time_and_in_another_light(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[int] = []

    def counted(**bands: np.ndarray) -> np.ndarray:
        judged.append(1)
        return color_kept(**bands)  # type: ignore[arg-type]

    monkeypatch.setattr("rtfusion.fusion.host.color_kept", counted)
    visible = np.random.default_rng(0).integers(0, 200, (48, 64, 3)).astype(np.uint8)
    thermal = np.random.default_rng(1).integers(0, 200, (48, 64)).astype(np.uint8)
    fuse = host_fuser("pyramid", method=open_method("pyramid", still=False))
    for time_ms, image, expected in ((0, visible, 1), (33, visible, 1), (101, visible, 2), (110, visible // 2, 3)):
        fuse(
            FramePair(
                visible=make_frame(Band.VISIBLE, time_ms * MS, image=image),
                thermal=make_frame(Band.THERMAL, time_ms * MS, image=thermal),
                sequence=0,
            )
        )
        assert len(judged) == expected, time_ms


def test_of_unrelated_visible_stills_each_is_judged_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a thermal stream, too: two pictures that are about as bright need have nothing in common."""
    judged: list[int] = []
    monkeypatch.setattr("rtfusion.fusion.host.color_kept", lambda **bands: judged.append(1) or color_kept(**bands))
    render = HostRenderer(
        name="pyramid", method=open_method("pyramid", still=True), telemetry=Telemetry(), visible_still=True
    )
    fuse = PairFuser(render, gain=GainControl(), telemetry=Telemetry())
    for time_ms in (0, 33):
        image = np.random.default_rng(time_ms).integers(0, 200, (48, 64, 3)).astype(np.uint8)
        fuse(
            FramePair(
                visible=make_frame(Band.VISIBLE, time_ms * MS, image=image),
                thermal=make_frame(Band.THERMAL, time_ms * MS, image=image[..., 0]),
                sequence=0,
            )
        )
    assert len(judged) == 2


def test_where_the_visible_camera_is_blind_the_picture_loses_its_color_and_not_its_contrast() -> None:
    """A person in smoke is as bright beside its surround as the fuser made it, at whatever share of the color."""
    visible = np.full((240, 320, 3), (150, 140, 110), np.uint8)
    thermal = np.full((240, 320), 60, np.uint8)
    thermal[60:200, 140:180] = 170  # no channel is cut off at white
    gray, colored = (
        host_fuser("pyramid", color=color)(pair_of(visible, thermal)).image for color in ("seen", "everywhere")
    )
    person, beside = np.s_[100:160, 150:170], np.s_[100:160, 60:80]
    contrasts = [luminance(image)[person].mean() - luminance(image)[beside].mean() for image in (gray, colored)]
    assert contrasts[0] == pytest.approx(contrasts[1], abs=2)
    assert np.ptp(gray[person].astype(int), axis=2).max() < np.ptp(colored[person].astype(int), axis=2).max() / 3
