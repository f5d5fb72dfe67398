from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, CameraModel, Pose, Quality, scale_px

HOMOGRAPHY = np.array([[1.9, 0.04, 12.0], [-0.03, 2.1, -7.0], [1e-5, -2e-5, 1.0]])


def rig(**options: object) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=HOMOGRAPHY,
        visible_size_px=(640, 480),
        thermal_size_px=(320, 240),
        **options,  # type: ignore[arg-type]
    )


def posed() -> Calibration:
    def camera(width: int, height: int, focal: float) -> CameraModel:
        return CameraModel(
            width_px=width,
            height_px=height,
            intrinsics=((focal, 0.0, (width - 1) / 2), (0.0, focal, (height - 1) / 2), (0.0, 0.0, 1.0)),
        )

    return Calibration(
        visible=camera(640, 480, 600.0),
        thermal=camera(320, 240, 280.0),
        visible_from_thermal_px=((2.0, 0.0, 0.5), (0.0, 2.0, 0.5), (0.0, 0.0, 1.0)),
        visible_from_thermal=Pose(
            rotation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), translation_m=(0.05, 0.0, 0.0)
        ),
    )


def test_a_file_survives_the_round_trip(tmp_path: Path) -> None:
    calibration = rig(distance_m=8.0, thermal_delay_ns=21_000_000, provenance={"tool": "test"})
    calibration.save(tmp_path / "rig.json")
    again = Calibration.load(tmp_path / "rig.json")
    assert again == calibration
    assert again.id == calibration.id
    assert list(tmp_path.iterdir()) == [tmp_path / "rig.json"]


def test_the_id_changes_with_any_value() -> None:
    assert rig().id != rig(thermal_delay_ns=1).id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=7), "schema 7; this version of rtfusion reads schema 1"),
        (lambda d: d.pop("schema"), 'no "schema"'),
        (lambda d: d.update(visble={}), "unknown key 'visble'"),
        (lambda d: d.pop("thermal"), "'thermal' is missing"),
        (lambda d: d.update(visible_from_thermal_px=[[0, 0, 0]] * 3), "cannot be inverted"),
        (lambda d: d.update(visible_from_thermal_px=[[1e300, 0, 0], [0, 1, 0], [0, 0, 1]]), "less than or equal to"),
        (lambda d: d["visible"].update(width_px=10**400), "less than or equal to 65536"),
        (lambda d: d["visible"].update(intrinsics=[[9, 0, 0], [9, 9, 0], [0, 0, 1]]), "no camera matrix"),
        (lambda d: d["thermal"].update(intrinsics=[[9, 0, 0], [0, 9, 0], [0, 0, 0]]), "no camera matrix"),
        (lambda d: d["visible"].update(width_px=0), "visible.width_px"),
        (lambda d: d["visible"].update(distortion=[0.1, 0, 0, 0]), "without intrinsics"),
        (lambda d: d.update(distance_m=-1), "distance_m"),
        (lambda d: d.update(thermal_delay_ns=20_000_000_000), "less than ten seconds"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, change: object, message: str) -> None:
    data = json.loads(rig().to_json())
    change(data)  # type: ignore[operator]
    path = tmp_path / "rig.json"
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match=message) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": true}', b"[" * 100_000])
def test_what_is_not_a_calibration_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rig.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError):
        Calibration.load(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
def test_mutated_files_raise_only_calibration_errors(value: object) -> None:
    data = json.loads(rig().to_json())
    for key in data:
        if key == "schema":
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rig.json"
            path.write_text(json.dumps({**data, key: value}))
            with contextlib.suppress(CalibrationError):
                Calibration.load(path)


def test_scaling_has_the_half_pixel_term() -> None:
    matrix = scale_px(from_px=(320, 240), to_px=(640, 480))
    corner = matrix @ [-0.5, -0.5, 1.0]
    assert corner.tolist() == [-0.5, -0.5, 1.0]
    assert (matrix @ [319.5, 239.5, 1.0]).tolist() == [639.5, 479.5, 1.0]
    assert (matrix @ [0.0, 0.0, 1.0]).tolist() == [0.5, 0.5, 1.0]


@given(st.floats(0, 319), st.floats(0, 239))
def test_a_scaled_rig_maps_the_same_scene_point(x: float, y: float) -> None:
    original = rig()
    scaled = original.scaled(visible_size_px=(1280, 960), thermal_size_px=(160, 120))
    point = original.homography_px @ [x, y, 1.0]
    small = scale_px(from_px=(320, 240), to_px=(160, 120)) @ [x, y, 1.0]
    large = scaled.homography_px @ small
    expected = scale_px(from_px=(640, 480), to_px=(1280, 960)) @ (point / point[2])
    np.testing.assert_allclose(large / large[2], expected, atol=1e-6)


def test_another_aspect_is_another_camera() -> None:
    with pytest.raises(CalibrationError, match="visible camera of 640x480, the stream is 1920x1080"):
        rig().scaled(visible_size_px=(1920, 1080), thermal_size_px=(320, 240))


def test_a_pose_moves_to_another_distance() -> None:
    """Two parallel cameras 5 cm apart: a point at distance Z on the thermal axis lies f B / Z from the visible axis."""
    for distance_m in (2.0, 5.0, 20.0):
        homography = posed().at_distance(distance_m).homography_px
        x, y, w = homography @ [159.5, 119.5, 1.0]
        assert x / w == pytest.approx(319.5 + 600.0 * 0.05 / distance_m, abs=1e-9)
        assert y / w == pytest.approx(239.5, abs=1e-9)


def test_without_a_pose_the_distance_cannot_change() -> None:
    with pytest.raises(CalibrationError, match="no pose"):
        rig().at_distance(3.0)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be written"):
        rig().save(tmp_path / "missing" / "rig.json")


def test_what_its_user_has_to_know_is_said(tmp_path: Path) -> None:
    good = posed().at_distance(8.0).model_copy(update={"quality": Quality(rms_px=0.4, views=20)})
    (distance,) = good.remarks
    assert "set for 8 m" in distance
    assert "--distance-m" in distance
    assert "set for 3 m" in good.at_distance(3.0).remarks[0]
    assert "do_not_use" not in good.to_json()
    bad = good.model_copy(update={"quality": Quality(rms_px=0.4, views=2, do_not_use="it rests on 2 views")})
    bad.save(tmp_path / "rig.json")
    read = Calibration.load(tmp_path / "rig.json")
    assert read.warning is not None
    assert read.warning.startswith("do not use this calibration")
    assert "it rests on 2 views" in read.warning
    assert read.remarks == (read.warning, distance)
    assert read.id != good.id
    assert rig().remarks == ()
