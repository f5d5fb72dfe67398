"""A street seen by two cameras: the visible and the thermal picture of one moment, and where everybody truly is.

The scene depends on its parameters and on time alone. It is drawn in layers: what never moves is painted once for each camera,
already through the geometry of that camera; walkers and vehicles are small cut-outs, painted once for each pose and warped to
where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, partial

import cv2
import numpy as np

from rtfusion.synthetic.camera import Camera, Cutout, Matrix, Placed, Response, similarity
from rtfusion.synthetic.canvas import Array, Look
from rtfusion.synthetic.climate import CLIMATES, Climate, Light
from rtfusion.synthetic.layout import SCENE_HEIGHT, ground_z_m, parallax, project, scale_at
from rtfusion.synthetic.movers import Mover, populate
from rtfusion.synthetic.props import Prop, street_props
from rtfusion.synthetic.smoke import Smoke
from rtfusion.synthetic.street import paint_street
from rtfusion.types import Band, Image

KINDS = tuple(CLIMATES)
PERIOD_S = 3600
"""The scene repeats after an hour, without a seam."""

# Both laws of temperature are constant: 7000 to 9500 counts from -10 to 40 degrees Celsius, levels 0 to 255 from -4 to 38.5.
_COUNTS = (50.0, 7500.0)
_LEVELS = (6.0, 24.0)
COUNTS_PER_LEVEL = _COUNTS[0] / _LEVELS[0]

_LIGHT_STEPS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The truth about one person or vehicle that the visible camera has in its picture."""

    identity: int
    """A number that stays with it from frame to frame."""
    kind: str
    """``person`` or ``vehicle``."""
    box_px: tuple[float, float, float, float]
    """(left, top, right, bottom) of its outline in the visible image; may reach beyond the image."""
    centroid_px: tuple[float, float]
    """Center of gravity of its outline, in the visible image."""
    distance_m: float
    hidden: float
    """Share of its outline that nearer things cover or that lies beyond the image, in [0, 1]. Smoke does not count."""


class Scene:
    """One street for both cameras.

    Args:
        kind: ``day``, ``night`` or ``smoke``.
        seed: chooses who walks and drives there, and every texture.
        visible_size_px: (width, height) of the visible camera.
        thermal_size_px: (width, height) of the thermal camera; None: as the visible one.
        visible_from_thermal_px: (3, 3) homography; a thermal pixel x appears in the visible image at H x. None: same view.
        thermal_bits: 8 for gray levels (GRAY8), 16 for counts (GRAY16), both by a constant law of temperature.
        empty: nobody walks or drives there; all else is the same.
        baseline_m: how far to the right of the visible camera the thermal one is. What is near then lies elsewhere than the
            homography says, which holds for what is infinitely far; see `displacement_px`.
        walkers_m: at each of these distances from the cameras one more person walks, on a walkway.
    """

    def __init__(
        self,
        *,
        kind: str = "day",
        seed: int = 7,
        visible_size_px: tuple[int, int] = (640, 480),
        thermal_size_px: tuple[int, int] | None = None,
        visible_from_thermal_px: Matrix | None = None,
        thermal_bits: int = 8,
        empty: bool = False,
        baseline_m: float = 0.0,
        walkers_m: tuple[float, ...] = (),
    ) -> None:
        self._climate = CLIMATES[kind]
        self._seed = seed
        self._visible_size_px = visible_size_px
        self._thermal_size_px = visible_size_px if thermal_size_px is None else thermal_size_px
        if visible_from_thermal_px is None:
            visible_from_thermal_px = scaling(dst_size_px=visible_size_px, src_size_px=self._thermal_size_px)
        self._thermal_from_visible_px: Matrix = np.asarray(np.linalg.inv(visible_from_thermal_px), np.float64)
        self._thermal_bits = thermal_bits
        width, height = visible_size_px
        scale = height / SCENE_HEIGHT
        self._visible_from_scene = similarity(scale, (width - 1) / 2, (scale - 1) / 2)
        self._baseline_m = baseline_m
        self._movers: tuple[Mover, ...] = ()
        if not empty:
            self._movers = populate(seed, scene_width=width / scale, period_s=PERIOD_S, walkers_m=walkers_m)

    def render(self, band: Band, time_s: float) -> Image:
        """The clean picture (no noise) of one moment.

        Returns:
            (H, W, 3) uint8 BGR for the visible band; (H, W) uint8 levels or uint16 counts for the thermal band.
        """
        return self._view_of(band).render(time_s)

    def prepare(self, band: Band) -> None:
        """Paint now what `render` would paint when first needed, so that the first frames take no longer than the others."""
        self._view_of(band).prepare()

    def targets(self, time_s: float) -> tuple[Target, ...]:
        """Everybody whose outline touches the visible image, nearest first."""
        return self._truth.targets(time_s)

    def distances_m(self, time_s: float) -> Array:
        """(H, W) float32: the distance of what every pixel of the visible picture shows; of all behind the houses, theirs."""
        return self._truth.distances_m(time_s)

    def displacement_px(self, distance_m: float | Array) -> float | Array:
        """By how many visible pixels what is at a distance lies farther left in the thermal picture than the homography says."""
        scale = self._visible_size_px[1] / SCENE_HEIGHT
        return scale * parallax(1.0, baseline_m=self._baseline_m) / distance_m

    def _view_of(self, band: Band) -> _View:
        return self._visible if band is Band.VISIBLE else self._thermal

    @cached_property
    def _visible(self) -> _View:
        response = Response(look=Look.VISIBLE, dtype=np.dtype(np.uint8), blur_px=0.45, glowing=self._climate.lamps_lit)
        view = self._view(response)
        if self._climate.fire:
            view.smoke = Smoke(size_px=self._visible_size_px, seed=self._seed, period_s=PERIOD_S)
        return view

    @cached_property
    def _thermal(self) -> _View:
        gain, offset = _LEVELS if self._thermal_bits == 8 else _COUNTS
        dtype = np.dtype(np.uint8 if self._thermal_bits == 8 else np.uint16)
        view = self._view(Response(look=Look.THERMAL, dtype=dtype, gain=gain, offset=offset, blur_px=0.8), thermal=True)
        pattern = _bolometer_pattern(self._thermal_size_px, self._seed)
        view.fixed_pattern = np.round(pattern * gain / _LEVELS[0]).astype(dtype)
        return view

    @cached_property
    def _truth(self) -> _View:
        """The outlines of bodies on the grid of the visible camera: thermal paint, which throws no shadows."""
        return self._view(Response(look=Look.THERMAL, dtype=np.dtype(np.uint8)))

    def _view(self, response: Response, *, thermal: bool = False) -> _View:
        grid_from_scene, size_px = self._visible_from_scene, self._visible_size_px
        if thermal:
            grid_from_scene, size_px = self._thermal_from_visible_px @ grid_from_scene, self._thermal_size_px
        camera = Camera(response, grid_from_scene=grid_from_scene, size_px=size_px)
        baseline_m = self._baseline_m if thermal else 0.0
        return _View(camera, self._climate, self._movers, seed=self._seed, baseline_m=baseline_m)


class _View:
    """The layers of the scene for one camera, and the poses it has painted so far."""

    def __init__(
        self, camera: Camera, climate: Climate, movers: tuple[Mover, ...], *, seed: int, baseline_m: float
    ) -> None:
        self._camera = camera
        self._baseline_m = baseline_m
        self._climate = climate
        self._seed = seed
        self._light = Light(climate)
        self._pose = cache(self._paint_pose)
        self._way_light = cache(self._light_along)
        props = ((prop.z_m, self._stand(prop)) for prop in street_props(climate, seed=seed))
        layers: list[tuple[float, Mover | Placed]] = [(z_m, placed) for z_m, placed in props if placed is not None]
        layers += [(mover.z_m, mover) for mover in movers]
        self._layers = sorted(layers, key=lambda item: -item[0])
        """Distance and thing, farthest first."""
        self.smoke: Smoke | None = None
        self.fixed_pattern: Array | None = None

    @cached_property
    def _background(self) -> Image:
        painter = partial(paint_street, climate=self._climate, seed=self._seed)
        image = self._camera.background(painter, light=self._light.at)
        return image if self._baseline_m == 0.0 else self._camera.sheared(image, self._shift_of_row)

    def _shift(self, z_m: float) -> float:
        """By how much this camera sees what is at a distance farther left."""
        return parallax(z_m, baseline_m=self._baseline_m)

    def _shift_of_row(self, scene_y: float) -> float:
        return self._shift(ground_z_m(scene_y))

    def render(self, time_s: float) -> Image:
        image = self._background.copy()
        left, _, right, _ = self._camera.box
        for z_m, layer in self._layers:
            if isinstance(layer, Placed):
                layer.blend(image)
                continue
            shift = self._shift(z_m)
            for pose, x in layer.places(time_s, left + min(shift, 0.0), right + max(shift, 0.0)):
                self._draw(image, layer, pose, x)
        if self.smoke is not None:
            self.smoke.cover(image, time_s)
        if self.fixed_pattern is not None:
            cv2.subtract(image, self.fixed_pattern, dst=image)
        return image

    def prepare(self) -> None:
        self.render(0.0)
        for _, layer in self._layers:
            if isinstance(layer, Mover):
                for pose in range(layer.figure.poses):
                    self._pose(layer, pose)

    def _draw(self, image: Image, mover: Mover, pose: int, x: float) -> None:
        placed = self._camera.place(self._pose(mover, pose), x - self._shift(mover.z_m), mover.ground_y)
        if placed is None:
            return
        if self._walks_in_lamplight(mover):
            left, _, right, _ = self._camera.box
            place = round((x - left) / (right - left) * (_LIGHT_STEPS - 1))
            cv2.multiply(placed.color, self._way_light(mover)[min(max(place, 0), _LIGHT_STEPS - 1)], dst=placed.color)
        placed.blend(image)

    def _walks_in_lamplight(self, mover: Mover) -> bool:
        """Vehicles give light of their own and are painted lit; walkers get the light of where they are."""
        return self._camera.response.glowing and mover.figure.kind == "person"

    def _paint_pose(self, mover: Mover, pose: int) -> Cutout:
        figure, phase, mirrored = mover.figure, pose / mover.figure.poses, mover.speed < 0
        mean_light = self._way_light(mover)[:, :3].mean(axis=0)
        return self._camera.cut_out(
            partial(figure.paint, climate=self._climate, phase=phase, mirrored=mirrored),
            box=figure.shadowed_box_m(self._climate, mirrored=mirrored),
            scene_per_unit=mover.scene_per_m,
            light=None if self._walks_in_lamplight(mover) else lambda _x, _y: mean_light,
        )

    def _light_along(self, mover: Mover) -> Array:
        """(steps, 4) factors on (B, G, R) along the way of a mover through the picture, and 1, which OpenCV wants as a fourth."""
        xs = np.linspace(self._camera.box[0], self._camera.box[2], _LIGHT_STEPS)[None, :]
        factors = self._light.at(xs, np.array([[mover.ground_y - 0.9 * mover.scene_per_m]]))[0]
        return np.column_stack([factors, np.ones(_LIGHT_STEPS)])

    def _stand(self, prop: Prop) -> Placed | None:
        (x, y), scale = project(prop.x_m, prop.z_m), scale_at(prop.z_m)
        x -= self._shift(prop.z_m)
        left, _, right, _ = self._camera.box
        if x + scale * prop.box_m[2] < left or x + scale * prop.box_m[0] > right:
            return None
        cutout = self._camera.cut_out(
            prop.painter,
            box=prop.box_m,
            scene_per_unit=scale,
            light=lambda xs, ys: self._light.at(xs + x, ys + y),
        )
        return self._camera.place(cutout, x, y)

    def targets(self, time_s: float) -> tuple[Target, ...]:
        left, _, right, _ = self._camera.box
        width, height = self._camera.size_px
        open_view = np.ones((height, width), np.float32)
        found: list[Target] = []
        for _, layer in reversed(self._layers):
            if isinstance(layer, Placed):
                open_view[layer.rows, layer.cols] *= layer.keep / np.float32(255.0)
                continue
            for pose, x in layer.places(time_s, left, right):
                placed = self._camera.place(self._pose(layer, pose), x, layer.ground_y, clipped=False)
                if placed is not None:
                    found += _measure(layer, placed, open_view)
        return tuple(found)

    def distances_m(self, time_s: float) -> Array:
        width, _ = self._camera.size_px
        scene_y = self._camera.rows_in_scene()
        rows_m = np.array([ground_z_m(float(y)) for y in scene_y], np.float32)
        distances_m = np.repeat(rows_m[:, None], width, axis=1)
        left, _, right, _ = self._camera.box
        for z_m, layer in self._layers:
            seen = [layer] if isinstance(layer, Placed) else [
                self._camera.place(self._pose(layer, pose), x, layer.ground_y) for pose, x in layer.places(time_s, left, right)
            ]  # fmt: skip
            for placed in seen:
                if placed is not None:
                    distances_m[placed.rows, placed.cols][placed.keep < 128] = z_m
        return distances_m


def _measure(mover: Mover, placed: Placed, open_view: Array) -> list[Target]:
    """The truth about one mover, none when it is out of the picture; takes its outline out of the view of what is behind."""
    outline = 1.0 - placed.keep / np.float32(255.0)
    top, left = placed.rows.start, placed.cols.start
    inside = outline[max(-top, 0) :, max(-left, 0) :]
    seen = open_view[max(top, 0) : max(placed.rows.stop, 0), max(left, 0) : max(placed.cols.stop, 0)]
    inside = inside[: seen.shape[0], : seen.shape[1]]
    if not inside.any():
        return []
    shown = float((inside * seen).sum())
    seen *= 1.0 - inside
    total = float(outline.sum())
    across, down = outline.sum(axis=0), outline.sum(axis=1)
    xs, ys = np.flatnonzero(outline.max(axis=0) > 0.5) + left, np.flatnonzero(outline.max(axis=1) > 0.5) + top
    return [
        Target(
            identity=mover.identity,
            kind=mover.figure.kind,
            box_px=(float(xs[0]) - 0.5, float(ys[0]) - 0.5, float(xs[-1]) + 0.5, float(ys[-1]) + 0.5),
            centroid_px=(
                left + float(across @ np.arange(across.size)) / total,
                top + float(down @ np.arange(down.size)) / total,
            ),
            distance_m=mover.z_m,
            hidden=1.0 - shown / total,
        )
    ]


def _bolometer_pattern(size_px: tuple[int, int], seed: int) -> Array:
    """Return what a microbolometer takes away, (H, W) gray levels: corners darker, columns and pixels slightly unequal."""
    width, height = size_px
    rng = np.random.default_rng((seed, 41))
    x, y = np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]
    pattern = 5.0 * (x**2 + y**2) + rng.normal(0.6, 0.45, (1, width)) + rng.normal(0.0, 0.3, (height, width))
    return np.maximum(pattern, 0.0)


def scaling(*, dst_size_px: tuple[int, int], src_size_px: tuple[int, int]) -> Matrix:
    """``dst_from_src`` of an image resized from one (width, height) to another; pixel centers are at integers."""
    scale_x, scale_y = dst_size_px[0] / src_size_px[0], dst_size_px[1] / src_size_px[1]
    return np.array([[scale_x, 0.0, (scale_x - 1) / 2], [0.0, scale_y, (scale_y - 1) / 2], [0.0, 0.0, 1.0]])
