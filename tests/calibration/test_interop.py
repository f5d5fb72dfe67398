from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtfusion_calibration.interop import read_opencv, read_ros, write_opencv, write_ros

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration
from tests.calibration.rigs import make_rig


def assert_same(found: Calibration, rig: Calibration) -> None:
    for there, here in ((found.visible, rig.visible), (found.thermal, rig.thermal)):
        assert there.size_px == here.size_px
        np.testing.assert_allclose(there.intrinsics, here.intrinsics)
        padded = [*(there.distortion or ()), *[0.0] * 8][:8]
        np.testing.assert_allclose(padded, [*(here.distortion or ()), *[0.0] * 8][:8])
    np.testing.assert_allclose(found.homography_px, rig.homography_px, atol=1e-9)
    assert found.distance_m == rig.distance_m


lenses = st.sampled_from(
    [None, (-0.2, 0.1, 0.001, -0.001), (-0.2, 0.1, 0.0, 0.0, 0.05), (0.1, 0.2, 0.0, 0.0, 0.3, 0.1, 0.1, 0.1)]
)
poses = {
    "turn_deg": st.tuples(*[st.floats(-8, 8)] * 3),
    "translation_m": st.sampled_from([(0.06, 0.0, 0.0), (0.0, -0.05, 0.01)]),
}


@settings(max_examples=12, deadline=None)
@given(visible_distortion=lenses, thermal_distortion=lenses, **poses)
def test_round_trips(tmp_path_factory: pytest.TempPathFactory, **options: object) -> None:
    rig = make_rig(**options)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("rig")
    write_opencv(folder / "rig.yml", rig)
    assert_same(read_opencv(folder / "rig.yml", distance_m=8.0), rig)
    visible, thermal = write_ros(folder, rig)
    assert_same(read_ros(visible=visible, thermal=thermal, distance_m=8.0), rig)


def test_a_file_of_opencvs_own_sample_is_read(tmp_path: Path) -> None:
    rig = make_rig()
    storage = cv2.FileStorage(str(tmp_path / "stereo.yml"), cv2.FILE_STORAGE_WRITE)
    for number, camera in ((1, rig.thermal), (2, rig.visible)):
        storage.write(f"M{number}", np.array(camera.intrinsics))
        storage.write(f"D{number}", np.array([[*(camera.distortion or ()), *[0.0] * 10]]))  # padded to 14
    pose = rig.visible_from_thermal
    assert pose is not None
    storage.write("R", np.array(pose.rotation))
    storage.write("T", np.array(pose.translation_m))
    storage.release()
    with pytest.raises(CalibrationError, match="give --thermal-size WxH"):
        read_opencv(tmp_path / "stereo.yml", distance_m=8.0)
    found = read_opencv(
        tmp_path / "stereo.yml", distance_m=8.0, visible_size_px=(1280, 960), thermal_size_px=(640, 512)
    )
    np.testing.assert_allclose(found.homography_px, rig.homography_px, atol=1e-9)


def test_camera_info_of_ros_tools_is_read(tmp_path: Path) -> None:
    """Two monocular files, with the comments and the line breaks that they have in the wild."""
    text = """image_width: 640
image_height: 480   # pixels
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500.0, 0.0, 320.0,
         0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.1, 0.02, 0, 0, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [500, 0, 320, {shift}, 0, 500, 240, 0, 0, 0, 1, 0]
"""
    visible, thermal = tmp_path / "visible.yaml", tmp_path / "thermal.yaml"
    visible.write_text(text.format(shift=-30))
    thermal.write_text(text.format(shift=0))
    rig = read_ros(visible=visible, thermal=thermal, distance_m=4.0)
    assert rig.visible_from_thermal is not None
    np.testing.assert_allclose(rig.visible_from_thermal.translation_m, (-0.06, 0, 0), atol=1e-12)
    visible.write_text(text.format(shift=0))
    with pytest.raises(CalibrationError, match="two single cameras"):
        read_ros(visible=visible, thermal=thermal, distance_m=4.0)


def test_numbers_tags_and_a_head_as_other_programs_write_them(tmp_path: Path) -> None:
    visible, thermal = write_ros(tmp_path, make_rig(visible_distortion=None, thermal_distortion=None))
    text = visible.read_text(encoding="utf-8").replace("data: [0.0, 0.0,", "data: [1e-5, -2E-4,")
    text = text.replace("camera_matrix:", "camera_matrix: !!opencv-matrix")
    visible.write_text(f"%YAML:1.0\n---\n# by hand\n{text}", encoding="utf-8")
    found = read_ros(visible=visible, thermal=thermal, distance_m=8.0)
    assert found.visible.distortion == (1e-5, -2e-4, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image_width"),
        ("image_width: 640\n", "no image_height"),
        ("\0\xff", "no image_width"),
        ("- 1\n", "no image_width"),
        ("a: [1\n", "no image_width"),
        ("camera_matrix:\n  rows: 3\n  cols: 3\n  data: [1, 2]\n", "camera_matrix is not a matrix of 3x3 numbers"),
        ("camera_matrix:\n  rows: 3\n  data: 5\n", "camera_matrix is not a matrix"),
    ],
)
def test_what_is_no_camera_info_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match=message):
        read_ros(visible=path, thermal=path, distance_m=8.0)


def test_what_is_no_file_storage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("%YAML:1.0\n---\nx: 1\n")
    with pytest.raises(CalibrationError, match="no matrix M1"):
        read_opencv(tmp_path / "a.yml", distance_m=8.0)
    with pytest.raises(CalibrationError, match="there is no such file"):
        read_opencv(tmp_path / "b.yml", distance_m=8.0)


def test_a_homography_alone_cannot_be_exported(tmp_path: Path) -> None:
    rig = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(64, 48), thermal_size_px=(64, 48)
    )
    for write in (lambda: write_opencv(tmp_path / "rig.yml", rig), lambda: write_ros(tmp_path, rig)):
        with pytest.raises(CalibrationError, match="only a homography"):
            write()
    assert list(tmp_path.iterdir()) == []
