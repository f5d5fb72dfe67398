"""Calibrations from and for other programs: OpenCV's FileStorage and ROS camera_info.

OpenCV: one YAML, XML or JSON file with the names of OpenCV's own stereo sample. Camera 1 is the thermal one, camera 2 the visible
one: M1 D1 M2 D2, R and T with X2 = R X1 + T (T in meters), and size1, size2, which the sample leaves out.

ROS: two camera_info files as camera_calibration_parsers writes them. The pose is in them as for any stereo pair, in the
rectification and projection matrices; two monocular files hold none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import yaml

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, CameraModel, Pose
from rtfusion.registration.calibration import Matrix, rows_3x3
from rtfusion.types import Band

OPENCV_NUMBERS = {Band.THERMAL: 1, Band.VISIBLE: 2}
ROS_MODELS = {0: "plumb_bob", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}

MATRICES = ("camera_matrix", "distortion_coefficients", "rectification_matrix", "projection_matrix")


def write_opencv(path: Path, calibration: Calibration) -> None:
    """Write a FileStorage; its kind is that of the suffix: .yml, .yaml, .xml or .json.

    Raises:
        CalibrationError: the calibration has no intrinsics, or the file cannot be written.
    """
    cameras = _cameras(calibration)
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    except cv2.error:
        raise CalibrationError(f"{path}: no file of OpenCV's; end its name in .yml, .yaml, .xml or .json") from None
    if not storage.isOpened():
        raise CalibrationError(f"{path}: cannot be written")
    for band, camera in cameras.items():
        number = OPENCV_NUMBERS[band]
        storage.write(f"size{number}", np.array([camera.size_px], dtype=np.int32))
        storage.write(f"M{number}", np.array(camera.intrinsics))
        storage.write(f"D{number}", np.array([camera.distortion or (0.0,) * 5]))
    if calibration.visible_from_thermal is not None:
        storage.write("R", np.array(calibration.visible_from_thermal.rotation))
        storage.write("T", np.array([calibration.visible_from_thermal.translation_m]).T)
    storage.release()


def read_opencv(
    path: Path,
    *,
    distance_m: float,
    visible_size_px: tuple[int, int] | None = None,
    thermal_size_px: tuple[int, int] | None = None,
) -> Calibration:
    """Read a FileStorage; the sizes are needed where it has no size1 and size2.

    Raises:
        CalibrationError: not such a file, or something is missing in it.
    """
    if not path.is_file():
        raise CalibrationError(f"{path}: there is no such file")
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError):
        raise CalibrationError(f"{path}: not a FileStorage of OpenCV") from None
    given = {Band.VISIBLE: visible_size_px, Band.THERMAL: thermal_size_px}
    cameras = {}
    for band, number in OPENCV_NUMBERS.items():
        matrix, distortion = (_node(storage, path, f"{letter}{number}") for letter in "MD")
        size = storage.getNode(f"size{number}").mat()
        size_px = given[band] if size is None else (int(np.ravel(size)[0]), int(np.ravel(size)[1]))
        if size_px is None:
            raise CalibrationError(
                f"{path}: no size{number} in it, the size of the {band.value} pictures; give --{band.value}-size WxH"
            )
        cameras[band] = _camera(path, size_px, matrix, distortion)
    pose = _node(storage, path, "R"), _node(storage, path, "T")
    return _calibration(path, cameras, pose, distance_m=distance_m)


def _node(storage: Any, path: Path, name: str) -> Matrix:
    node = storage.getNode(name)
    matrix = None if node.empty() or not node.isMap() else node.mat()
    if matrix is None:
        raise CalibrationError(
            f"{path}: no matrix {name} in it; expected M1 D1 of the thermal camera, M2 D2 of the visible one, R and T"
        )
    return np.asarray(matrix, dtype=np.float64)


def write_ros(folder: Path, calibration: Calibration) -> tuple[Path, Path]:
    """Write visible.yaml and thermal.yaml into a folder; the paths of both.

    Raises:
        CalibrationError: the calibration has no intrinsics or no pose, or the files cannot be written.
    """
    cameras, pose = _cameras(calibration), calibration.visible_from_thermal
    if pose is None:
        raise CalibrationError(
            "the calibration holds no pose, which camera_info of a pair is made of; calibrate with a board"
        )
    thermal, visible = cameras[Band.THERMAL], cameras[Band.VISIBLE]
    there, shift = np.array(pose.rotation), np.array([pose.translation_m]).T
    rectified = cv2.stereoRectify(*thermal.optics, *visible.optics, visible.size_px, there, shift, flags=0)
    parts = {Band.THERMAL: rectified[0:4:2], Band.VISIBLE: rectified[1:4:2]}
    paths = {band: folder / f"{band.value}.yaml" for band in Band}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for band, (rotation, projection) in parts.items():
            paths[band].write_text(_camera_info(band, cameras[band], rotation, projection), encoding="utf-8")
    except OSError as error:
        raise CalibrationError(f"{folder}: cannot be written ({error.strerror})") from error
    return paths[Band.VISIBLE], paths[Band.THERMAL]


def _camera_info(band: Band, camera: CameraModel, rotation: Any, projection: Any) -> str:
    coefficients = camera.distortion or (0.0,) * 5
    if len(coefficients) == 4:
        coefficients = (*coefficients, 0.0)

    def written(matrix: Any) -> dict[str, Any]:
        rows, columns = np.shape(matrix)
        return {"rows": rows, "cols": columns, "data": np.asarray(matrix, np.float64).ravel().tolist()}

    info = {
        "image_width": camera.width_px,
        "image_height": camera.height_px,
        "camera_name": band.value,
        "camera_matrix": written(camera.intrinsics),
        "distortion_model": ROS_MODELS[len(coefficients)],
        "distortion_coefficients": written([coefficients]),
        "rectification_matrix": written(rotation),
        "projection_matrix": written(projection),
    }
    text: str = yaml.safe_dump(info, sort_keys=False, default_flow_style=None, width=math.inf)
    return text


def read_ros(*, visible: Path, thermal: Path, distance_m: float) -> Calibration:
    """Read the camera_info files of both cameras.

    Raises:
        CalibrationError: not such files, something is missing in them, or they were not calibrated as a pair.
    """
    paths = {Band.VISIBLE: visible, Band.THERMAL: thermal}
    infos = {band: _parsed(path) for band, path in paths.items()}
    cameras, offsets_m = {}, {}
    for band, info in infos.items():
        size_px = int(info["image_width"]), int(info["image_height"])
        cameras[band] = _camera(paths[band], size_px, info["camera_matrix"], info["distortion_coefficients"])
        offsets_m[band] = _offset_m(paths[band], info["projection_matrix"])
    shift_m = offsets_m[Band.VISIBLE] - offsets_m[Band.THERMAL]
    if np.linalg.norm(shift_m) < 1e-6:
        raise CalibrationError(
            f"{visible} and {thermal} are of two single cameras: their projection matrices hold no baseline, so where one "
            "camera is from the other is not in them; calibrate them as a stereo pair, or with rtfusion calibrate board"
        )
    back = infos[Band.VISIBLE]["rectification_matrix"].T
    pose = back @ infos[Band.THERMAL]["rectification_matrix"], back @ shift_m
    return _calibration(visible, cameras, pose, distance_m=distance_m)


def _offset_m(path: Path, projection: Matrix) -> Matrix:
    """The place of a camera in the coordinates of the rectified pair: P = K [I | offset]."""
    if projection.shape != (3, 4) or abs(np.linalg.det(projection[:, :3])) < 1e-9:
        raise CalibrationError(
            f"{path}: the projection matrix is {projection.shape} or singular; expected K [I | t], 3x4"
        )
    return cast(Matrix, np.linalg.solve(projection[:, :3], projection[:, 3]))


def _parsed(path: Path) -> dict[str, Any]:
    """Read a camera_info file: scalars as text, and matrices of rows, cols and data as arrays."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read ({error})") from error
    try:
        # This loader makes nothing but text, lists and dicts; a number such as 1e-5 is none to YAML 1.1.
        loaded = yaml.load(text.removeprefix("%YAML:1.0"), Loader=yaml.BaseLoader)  # noqa: S506
    except yaml.YAMLError:
        loaded = None
    values = loaded if isinstance(loaded, dict) else {}
    info = {name: _array(path, name, value) if isinstance(value, dict) else value for name, value in values.items()}
    missing = [name for name in ("image_width", "image_height", *MATRICES) if name not in info]
    if missing:
        raise CalibrationError(f"{path}: no {', '.join(missing)} in it; expected a camera_info file of ROS")
    for name in ("image_width", "image_height"):
        if not str(info[name]).isdecimal():
            raise CalibrationError(f"{path}: {name} is {info[name]!r}; expected a whole number")
    model = str(info.get("distortion_model", "plumb_bob"))
    if model not in ROS_MODELS.values():
        raise CalibrationError(f"{path}: the distortion model is {model}; expected plumb_bob or rational_polynomial")
    return info


def _array(path: Path, name: str, value: Mapping[str, Any]) -> Matrix:
    try:
        return np.array([float(number) for number in value["data"]]).reshape(int(value["rows"]), int(value["cols"]))
    except (KeyError, ValueError, TypeError):
        shape = f"{value.get('rows')}x{value.get('cols')}"
        raise CalibrationError(f"{path}: {name} is not a matrix of {shape} numbers") from None


def _cameras(calibration: Calibration) -> Mapping[Band, CameraModel]:
    if calibration.visible.intrinsics is None or calibration.thermal.intrinsics is None:
        raise CalibrationError(
            "the calibration holds only a homography, no intrinsics that another program could use; calibrate with a board"
        )
    return {Band.VISIBLE: calibration.visible, Band.THERMAL: calibration.thermal}


def _camera(path: Path, size_px: tuple[int, int], matrix: Any, distortion: Any) -> CameraModel:
    coefficients = [float(value) for value in np.ravel(distortion)]
    while len(coefficients) > 4 and len(coefficients) not in (5, 8) and coefficients[-1] == 0:
        coefficients.pop()  # OpenCV pads its vectors to 12 or 14
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.shape != (3, 3) or (coefficients and len(coefficients) not in (4, 5, 8)):
        raise CalibrationError(
            f"{path}: camera matrix {rows.shape} and {len(coefficients)} distortion coefficients; expected 3x3, and 4, 5 or 8"
        )
    lens = tuple(coefficients) if any(coefficients) else None
    try:
        return CameraModel(width_px=size_px[0], height_px=size_px[1], intrinsics=rows_3x3(rows), distortion=lens)
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}") from error


def _calibration(
    path: Path, cameras: Mapping[Band, CameraModel], pose: tuple[Matrix, Matrix], *, distance_m: float
) -> Calibration:
    try:
        return Calibration.from_pose(
            visible=cameras[Band.VISIBLE],
            thermal=cameras[Band.THERMAL],
            pose=Pose.nearest(*pose),  # files hold few digits
            distance_m=distance_m,
            provenance={"method": f"imported from {path.name}", "tool": "rtfusion calibrate import"},
        )
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}") from error
