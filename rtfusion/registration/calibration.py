"""The calibration file of one rig: two camera models, and the transform from the thermal picture to the visible one."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.files import expanded, write_whole

Matrix = npt.NDArray[np.float64]
Bounded = Annotated[float, Field(ge=-1e9, le=1e9)]
"""Nothing of a camera lies beyond this, and products would overflow."""
Row3 = tuple[Bounded, Bounded, Bounded]
Rows3x3 = tuple[Row3, Row3, Row3]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(gt=0, le=1 << 16)]
SCHEMA: Literal[1] = 1
SAME_ASPECT = 0.01
"""Relative difference of width/height up to which a stream counts as a scaled version of the calibrated one."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CameraModel(_Strict):
    """One camera: the size it was calibrated at and, where known, its lens."""

    width_px: Side
    height_px: Side
    intrinsics: Rows3x3 | None = None
    """Camera matrix in pixels, pixel centers at integer coordinates."""
    distortion: tuple[Bounded, ...] | None = None
    """OpenCV's coefficients k1 k2 p1 p2 [k3 [k4 k5 k6]]; needs the intrinsics."""
    name: str = ""

    @model_validator(mode="after")
    def _lens_is_whole(self) -> CameraModel:
        if self.distortion is not None:
            if self.intrinsics is None:
                raise ValueError("distortion is given without intrinsics")
            if len(self.distortion) not in (4, 5, 8):
                raise ValueError(f"distortion has {len(self.distortion)} coefficients; expected 4, 5 or 8")
        if self.intrinsics is not None:
            (f_x, _, _), (shear, f_y, _), last = self.intrinsics
            if f_x <= 0 or f_y <= 0:
                raise ValueError("focal lengths must be above 0")
            if shear != 0 or last != (0, 0, 1):
                raise ValueError("the intrinsics are no camera matrix; expected rows fx s cx, 0 fy cy, 0 0 1")
        return self

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width_px, self.height_px

    def scaled(self, size_px: tuple[int, int]) -> CameraModel:
        """Give the camera as it delivers another size of the same aspect; the half-pixel term is applied."""
        intrinsics = self.intrinsics
        if size_px != self.size_px and intrinsics is not None:
            intrinsics = rows_3x3(scale_px(from_px=self.size_px, to_px=size_px) @ np.array(intrinsics))
        return self.model_copy(update={"width_px": size_px[0], "height_px": size_px[1], "intrinsics": intrinsics})

    @property
    def optics(self) -> tuple[Matrix, Matrix]:
        """Camera matrix (3, 3) and distortion (4, 5 or 8,), as OpenCV takes them; a lens without distortion has 4 zeros.

        Raises:
            CalibrationError: the calibration says nothing of the lens.
        """
        if self.intrinsics is None:
            raise CalibrationError(
                f"the calibration has no camera matrix of {self.name or 'the camera'}; calibrate with a board"
            )
        return np.array(self.intrinsics), np.array(self.distortion or (0.0, 0.0, 0.0, 0.0))


class Pose(_Strict):
    """The place of the thermal camera: X_visible = rotation X_thermal + translation_m."""

    rotation: Rows3x3
    translation_m: Row3

    @classmethod
    def nearest(cls, rotation: npt.ArrayLike, translation_m: npt.ArrayLike) -> Pose:
        """Make a pose of the rotation that is nearest to a (3, 3) matrix, and of three meters in an array of any shape."""
        u, _, v = np.linalg.svd(np.asarray(rotation))
        x, y, z = (float(value) for value in np.ravel(translation_m))
        return cls(rotation=rows_3x3(u @ v), translation_m=(x, y, z))

    @field_validator("rotation")
    @classmethod
    def _is_rotation(cls, rows: Rows3x3) -> Rows3x3:
        rotation = np.array(rows)
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) or np.linalg.det(rotation) < 0:
            raise ValueError("rotation is not orthonormal with determinant +1")
        return rows


class Quality(_Strict):
    """Figures of how good the calibration was found to be."""

    rms_px: NotNegative
    """Reprojection error over all points of both cameras."""
    views: Annotated[int, Field(ge=1)]
    epipolar_px: NotNegative | None = None
    """Distance of points from the epipolar lines of their partners."""
    uncertainty_px: tuple[tuple[Positive, NotNegative], ...] = ()
    """Standard deviation of the place of a thermal pixel in the visible picture, in visible pixels: pairs of (meters, pixels)."""
    standard_deviations: dict[str, NotNegative] = Field(default_factory=dict)
    """Standard deviations of the parameters; each name ends with the unit."""
    do_not_use: str | None = None
    """Why it must not be used, by the verdict of whoever made it; None where nothing was found against it."""

    def uncertainty_at_px(self, distance_m: float | None) -> float | None:
        """`uncertainty_px` at a distance, None for far away; None where nothing is known.

        Pixels move with 1 / distance, so their variance is a parabola over it.
        """
        if len(self.uncertainty_px) < 3:
            return None
        distances_m, deviations_px = np.array(self.uncertainty_px).T
        parabola = np.polyfit(1 / distances_m, deviations_px**2, 2)
        variance = float(np.polyval(parabola, 0.0 if distance_m is None else 1 / distance_m))
        return math.sqrt(max(variance, 0.0))


class Calibration(_Strict):
    """One rig. Read strictly: an unknown key, another schema or an impossible value is an error.

    ``visible_from_thermal_px`` maps a thermal pixel to the visible pixel of the same scene point at ``distance_m``; between
    undistorted pixels where a camera's distortion is given. Pixel centers are at integer coordinates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    visible: CameraModel
    thermal: CameraModel
    visible_from_thermal_px: Rows3x3
    distance_m: Positive | None = None
    """The plane at which the homography holds; None for far away or unknown."""
    visible_from_thermal: Pose | None = None
    thermal_delay_ns: int = 0
    """Thermal stamp minus visible stamp of one event."""
    quality: Quality | None = None
    provenance: dict[str, str] = Field(default_factory=dict)

    @field_validator("visible_from_thermal_px")
    @classmethod
    def _is_homography(cls, rows: Rows3x3) -> Rows3x3:
        homography = np.array(rows)
        if abs(homography[2, 2]) < 1e-12 or abs(np.linalg.det(homography / homography[2, 2])) < 1e-9:
            raise ValueError("the homography cannot be inverted")
        return rows_3x3(homography / homography[2, 2])

    @field_validator("thermal_delay_ns")
    @classmethod
    def _is_short(cls, delay_ns: int) -> int:
        if abs(delay_ns) >= 10_000_000_000:
            raise ValueError(f"thermal_delay_ns is {delay_ns}; expected less than ten seconds")
        return delay_ns

    @classmethod
    def from_homography(
        cls,
        *,
        visible_from_thermal_px: Matrix,
        visible_size_px: tuple[int, int],
        thermal_size_px: tuple[int, int],
        distance_m: float | None = None,
        thermal_delay_ns: int = 0,
        provenance: dict[str, str] | None = None,
    ) -> Calibration:
        """A calibration that knows only the homography."""
        try:
            return cls(
                visible=CameraModel(width_px=visible_size_px[0], height_px=visible_size_px[1]),
                thermal=CameraModel(width_px=thermal_size_px[0], height_px=thermal_size_px[1]),
                visible_from_thermal_px=rows_3x3(np.asarray(visible_from_thermal_px, dtype=np.float64)),
                distance_m=distance_m,
                thermal_delay_ns=thermal_delay_ns,
                provenance=provenance or {},
            )
        except ValidationError as error:
            raise CalibrationError(f"calibration: {_first_problem(error)}") from error

    @classmethod
    def from_pose(
        cls, *, visible: CameraModel, thermal: CameraModel, pose: Pose, distance_m: float, provenance: dict[str, str]
    ) -> Calibration:
        """A calibration of two cameras with known lenses and pose; its homography is for a plane at ``distance_m``."""
        rig = {"visible": visible, "thermal": thermal, "visible_from_thermal": pose, "provenance": provenance}
        return cls.model_validate({**rig, "visible_from_thermal_px": rows_3x3(np.eye(3))}).at_distance(distance_m)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a calibration file.

        Raises:
            CalibrationError: missing, not JSON, of an unknown schema, or with a key or value that does not belong there.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise CalibrationError(f"{path}: there is no such file; expected a calibration file of rtfusion") from error
        except (OSError, ValueError) as error:  # the latter for no text, and for a name that no file can have
            raise CalibrationError(f"{path}: cannot be read as a calibration file ({error})") from error
        return cls.from_json(text, name=str(path))

    @classmethod
    def from_json(cls, text: str, *, name: str = "calibration") -> Calibration:
        """Read the text of a calibration file; ``name`` stands in the messages.

        Raises:
            CalibrationError: as `load`.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{name}: not JSON ({error}); expected a calibration file of rtfusion") from error
        if not isinstance(data, dict) or "schema" not in data:
            raise CalibrationError(
                f'{name}: no "schema" in it; expected a calibration file of rtfusion, schema {SCHEMA}'
            )
        if data["schema"] != SCHEMA or isinstance(data["schema"], bool):
            raise CalibrationError(
                f"{name}: schema {data['schema']!r}; this version of rtfusion reads schema {SCHEMA}. "
                "Calibrate again, or use the version that wrote the file"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise CalibrationError(f"{name}: {_first_problem(error)}") from error

    def save(self, path: Path) -> None:
        """Write the file; complete or not at all."""
        try:
            write_whole(path, self.to_json() + "\n")
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self._values(), indent=2)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that change with any value in the file; carried by every fused frame."""
        canonical = json.dumps(self._values(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def _values(self) -> dict[str, Any]:
        values = self.model_dump(by_alias=True, mode="json")
        if self.quality is not None and self.quality.do_not_use is None:
            del values["quality"]["do_not_use"]  # files without a verdict keep their text, and so their id
        return values

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever uses the calibration has to know: sentences for a person, none where nothing is assumed."""
        found = [] if self.warning is None else [self.warning]
        if self.has_pose and self.distance_m is not None:
            found.append(
                f"the registration is set for {self.distance_m:g} m, and nearer and farther things are displaced; --distance-m "
                "(in Python distance_m) sets another distance"
            )
        return tuple(found)

    @property
    def warning(self) -> str | None:
        """Why the calibration should not be used, as a sentence, where it was judged so when it was made."""
        if self.quality is None or self.quality.do_not_use is None:
            return None
        return f"do not use this calibration, so it was judged when it was made: {self.quality.do_not_use}; calibrate again"

    @property
    def has_pose(self) -> bool:
        """True where the place of the cameras and both lenses are known, so that any distance can be set."""
        return None not in (self.visible_from_thermal, self.visible.intrinsics, self.thermal.intrinsics)

    @property
    def homography_px(self) -> Matrix:
        """``visible_from_thermal_px`` as an array."""
        return np.array(self.visible_from_thermal_px, dtype=np.float64)

    def scaled(self, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]) -> Calibration:
        """Give the rig as it delivers other sizes of the same aspect.

        Raises:
            CalibrationError: a stream has another aspect, so it is another camera or a cropped mode.
        """
        sizes_px = {"visible": (self.visible, visible_size_px), "thermal": (self.thermal, thermal_size_px)}
        for word, (camera, size_px) in sizes_px.items():
            calibrated, actual = camera.width_px / camera.height_px, size_px[0] / size_px[1]
            if abs(actual / calibrated - 1.0) > SAME_ASPECT:
                raise CalibrationError(
                    f"the calibration is for a {word} camera of {camera.width_px}x{camera.height_px}, the stream is "
                    f"{size_px[0]}x{size_px[1]}: another aspect, so another camera or a cropped mode. "
                    "Calibrate this camera, or choose the mode that was calibrated"
                )
        new_from_visible = scale_px(from_px=self.visible.size_px, to_px=visible_size_px)
        thermal_from_new = scale_px(from_px=thermal_size_px, to_px=self.thermal.size_px)
        return self._mapped(
            new_from_visible @ self.homography_px @ thermal_from_new,
            visible=self.visible.scaled(visible_size_px),
            thermal=self.thermal.scaled(thermal_size_px),
        )

    def at_distance(self, distance_m: float) -> Calibration:
        """Set the rig for a plane ``distance_m`` in front of the thermal camera.

        H = K_visible (R + t nᵀ / d) K_thermal⁻¹ with n = (0, 0, 1): Hartley and Zisserman, 2nd edition, section 13.1.

        Raises:
            CalibrationError: the file holds no pose or no intrinsics.
        """
        if self.visible_from_thermal is None or self.visible.intrinsics is None or self.thermal.intrinsics is None:
            raise CalibrationError(
                "the calibration holds no pose, only one homography: it cannot be moved to another distance. "
                "Calibrate with a board, or leave --distance-m out"
            )
        rotation = np.array(self.visible_from_thermal.rotation)
        translation_m = np.array(self.visible_from_thermal.translation_m)
        plane = rotation + np.outer(translation_m, (0.0, 0.0, 1.0)) / distance_m
        homography = np.array(self.visible.intrinsics) @ plane @ np.linalg.inv(np.array(self.thermal.intrinsics))
        return self._mapped(homography, distance_m=distance_m)

    def nudged(
        self, *, shift_px: tuple[float, float] = (0.0, 0.0), turn_deg: float = 0.0, scale: float = 1.0
    ) -> Calibration:
        """The thermal picture moved by hand: scaled and turned about its middle in the visible picture, then shifted.

        Shifts are in visible pixels, x to the right and y down; angles turn from x to y, which is clockwise as one looks at it.
        The pose is given up, because it does not say this any more: another distance needs another nudge.
        """
        width_px, height_px = self.thermal.size_px
        center = self.homography_px @ ((width_px - 1) / 2, (height_px - 1) / 2, 1.0)
        c_x, c_y = center[:2] / center[2]
        cosine, sine = scale * math.cos(math.radians(turn_deg)), scale * math.sin(math.radians(turn_deg))
        right = c_x - cosine * c_x + sine * c_y + shift_px[0]
        down = c_y - sine * c_x - cosine * c_y + shift_px[1]
        moved = np.array([[cosine, -sine, right], [sine, cosine, down], [0.0, 0.0, 1.0]])
        provenance = {**self.provenance, "nudged": "by hand"}
        return self._mapped(moved @ self.homography_px, visible_from_thermal=None, quality=None, provenance=provenance)

    def _mapped(self, homography: Matrix, **changes: Any) -> Calibration:
        return self.model_copy(update={"visible_from_thermal_px": rows_3x3(homography / homography[2, 2]), **changes})


def scale_px(*, from_px: tuple[int, int], to_px: tuple[int, int]) -> Matrix:
    """(3, 3) matrix that takes pixel coordinates of one size to another: x -> s x + (s - 1) / 2.

    Convention: pixel centers at integer coordinates, so the corner of the picture is at -0.5 in both sizes.
    """
    s_x, s_y = to_px[0] / from_px[0], to_px[1] / from_px[1]
    return np.array([[s_x, 0.0, (s_x - 1.0) / 2.0], [0.0, s_y, (s_y - 1.0) / 2.0], [0.0, 0.0, 1.0]])


def rows_3x3(matrix: Matrix) -> Rows3x3:
    """Give a (3, 3) matrix as the numbers that stand in a file."""
    if matrix.shape != (3, 3):
        raise CalibrationError(f"a matrix has shape {matrix.shape}; expected (3, 3)")
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in matrix.tolist())
    return a, b, c


def _first_problem(error: ValidationError) -> str:
    problem: Any = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}; remove it, or check its spelling"
    if problem["type"] == "missing":
        return f"{where!r} is missing"
    return f"{where!r}: {problem['msg']}"


def load_calibration(
    calibration: Calibration | str | Path | None, *, distance_m: float | None = None
) -> Calibration | None:
    """Give a calibration, read from its file where a file is named, for a distance of the scene where one is given.

    Raises:
        ConfigError: there is a distance, but no calibration to apply it to.
        CalibrationError: the file is no calibration, or the calibration does not know the pose of the cameras.
    """
    if calibration is None:
        if distance_m is not None:
            raise ConfigError("distance_m needs a calibration to apply to; name one with --calibration")
        return None
    loaded = calibration if isinstance(calibration, Calibration) else Calibration.load(expanded(calibration))
    return loaded if distance_m is None else loaded.at_distance(distance_m)
