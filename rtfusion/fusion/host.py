"""The fuser of the host: OpenCV for the pixels, and a CPU engine where the luminance is fused by a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import cv2

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Luminance
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import as_bgr, compose, luminance, over_mean
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.fusion.overlay import Overlay
from rtfusion.fusion.tone import GainControl
from rtfusion.registration import Calibration, Registration, Warp, Weights, register
from rtfusion.registration.refine import Refiner
from rtfusion.telemetry import Telemetry
from rtfusion.types import FramePair, FusedFrame, Image8, PixelFormat

SizesPx = tuple[tuple[int, int], tuple[int, int]]
"""(width, height) of the visible and of the thermal frames."""


class HostFuser:
    """register → tone → fuse → compose, each timed as a stage.

    ``method`` fuses two luminance images, or paints (`Overlay`). The registration is made for the sizes that come, anew when
    one changes. ``calibration`` None takes both cameras to have the same view; ``refine`` follows it when it drifts; ``look`` is
    whom the fused luminance is for, `eye` or `detector` (`over_mean`, without colors). `change`
    may be called by any thread, all else by one. Frames own their pixels: a buffer is used again only when nobody holds it.
    """

    def __init__(
        self,
        *,
        name: str,
        method: Luminance | Overlay,
        gain: GainControl,
        calibration: Calibration | None,
        grid: str,
        telemetry: Telemetry,
        refine: bool = False,
        look: str = "eye",
    ) -> None:
        self.name = name
        self._method = method
        self._gain = gain
        self._calibration = calibration
        self._grid = grid
        self._telemetry = telemetry
        self._sizes_px: SizesPx | None = None
        self._registration: Registration | None = None
        self._look = look
        self._refiner = Refiner(grid=grid) if refine else None
        self._pool = Pool()
        self._changing = threading.Lock()
        """Held as long as a change is being prepared: they come one after the other."""
        self._swapping = threading.Lock()
        """Held only while what follows is handed over, so that no frame waits."""
        self._next_method: LearnedLuminance | None = None
        self._next_registration: tuple[SizesPx, Registration] | None = None
        self._closed = False

    @property
    def calibration(self) -> Calibration | None:
        """The one in use, or about to be."""
        return self._calibration

    @property
    def scalars(self) -> Mapping[str, float]:
        """The dials of the model and where they stand; empty without a model."""
        method = self._next_method or self._method
        return method.scalars if isinstance(method, LearnedLuminance) else {}

    @property
    def palette(self) -> str | None:
        """The palette of the overlay; None for the other fusers."""
        return self._method.palette if isinstance(self._method, Overlay) else None

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        """Use these from the next frame on; see `rtfusion.fusion.base.Control`."""
        with self._changing:
            method = self._next_method or self._method
            if palette is not None and not isinstance(method, Overlay):
                raise ConfigError(f"the palette cannot be changed: the fuser is {self.name}, which paints no colors")
            if (model is not None or scalars) and not isinstance(method, LearnedLuminance):
                wish = ", ".join(["model"] * (model is not None) + list(scalars))
                raise ConfigError(f"{wish} cannot be changed: the fuser is {self.name}, which has no model")
            sizes_px = self._sizes_px
            registration = None
            if calibration is not None and sizes_px is not None:
                registration = self._registration_of(calibration, sizes_px)
            if palette is not None and isinstance(method, Overlay):
                method.paint(palette)
            if isinstance(method, LearnedLuminance):
                if model is not None:
                    self._hand_over(method.successor(model=model, scalars=scalars))
                else:
                    method.turn(scalars)
            with self._swapping:
                if calibration is not None:
                    self._calibration = calibration
                if registration is not None and sizes_px is not None:
                    self._next_registration = sizes_px, registration

    def _hand_over(self, method: LearnedLuminance) -> None:
        """Let the next frame be fused by ``method``."""
        with self._swapping:
            replaced, self._next_method = self._next_method, method
            if self._closed:
                replaced, self._next_method = method, None
        if replaced is not None:  # nobody ever used it
            replaced.close()

    def _swap(self) -> None:
        """Between two frames: take what was prepared."""
        with self._swapping:
            replaced = self._method
            if self._next_method is not None:
                self._method, self._next_method = self._next_method, None
            if self._next_registration is not None:
                self._sizes_px, self._registration = self._next_registration
                self._next_registration = None
        if replaced is not self._method and not isinstance(replaced, Overlay):
            replaced.close()

    @property
    def engine(self) -> str | None:
        """What runs the network; None for methods without one."""
        return getattr(self._method, "engine_description", None)

    def __call__(self, pair: FramePair) -> FusedFrame:
        """Fuse one pair.

        Raises:
            CalibrationError: a size came that the calibration is not for.
            EngineError: the network failed.
        """
        if pair.visible.pixel_format is PixelFormat.GRAY16:
            raise ConfigError("the visible source gives 16-bit counts; are --ir and --vis exchanged?")
        self._swap()
        started_ns = time.perf_counter_ns()
        thermal = self._gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns, hold=pair.thermal.shutter)
        toned_ns = time.perf_counter_ns()
        registration = self._register(pair.visible.size_px, pair.thermal.size_px)
        if self._refiner is not None:
            registration = self._refiner.registration(registration, timestamp_ns=pair.timestamp_ns)
        visible = self._warped(registration.visible, cast(Image8, pair.visible.image))
        thermal = self._warped(registration.thermal, thermal)
        registered_ns = time.perf_counter_ns()
        image, fused_ns = self._render(visible, thermal, registration, pair.timestamp_ns)
        composed_ns = time.perf_counter_ns()
        for stage, duration_ns in (
            ("tone", toned_ns - started_ns),
            ("register", registered_ns - toned_ns),
            ("fuse", fused_ns - registered_ns),
            ("compose", composed_ns - fused_ns),
        ):
            self._telemetry.stage(stage).record(duration_ns)
        if self._refiner is not None and pair.degraded is None and not pair.thermal.shutter:
            self._refiner.observe(visible=visible, thermal=thermal, timestamp_ns=pair.timestamp_ns)
            self._telemetry.refinement = self._refiner.state
            self._telemetry.stage("refine").record(time.perf_counter_ns() - composed_ns)
        return FusedFrame(
            image=image,
            visible=visible,
            thermal=thermal,
            timestamp_ns=pair.timestamp_ns,
            thermal_timestamp_ns=pair.thermal.timestamp_ns,
            received_ns=pair.received_ns,
            sequence=pair.sequence,
            fuser=self.name,
            model_id=getattr(self._method, "model_id", None),
            calibration_id=registration.calibration_id,
            thermal_state=self._gain.state,
            name=pair.visible.name,
        )

    def prepare(self, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]) -> None:
        """Make the registration and open the engine ahead of the first pair: what is wrong is found early, no frame waits.

        Raises:
            CalibrationError: the calibration is for cameras of another aspect.
            ModelError, EngineError: the model cannot be used for this size.
        """
        registration = self._register(visible_size_px, thermal_size_px)
        if isinstance(self._method, LearnedLuminance):
            self._method.prepare(size_px=registration.size_px)

    def close(self) -> None:
        """Release the engine, where there is one; may be called twice."""
        with self._swapping:
            self._closed = True
            methods, self._next_method = [self._method, self._next_method], None
        for method in methods:
            if method is not None and not isinstance(method, Overlay):
                method.close()

    def _warped(self, warp: Warp, image: Image8) -> Image8:
        if warp.is_identity:
            return image
        width, height = self._registration.size_px if self._registration is not None else image.shape[1::-1]
        return cast(Image8, warp(image, out=self._pool.take((height, width, *image.shape[2:]))))

    def _register(self, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]) -> Registration:
        sizes_px = visible_size_px, thermal_size_px
        if self._registration is None or sizes_px != self._sizes_px:
            self._registration = self._registration_of(self._calibration, sizes_px)
            self._sizes_px = sizes_px
            self._pool.clear()
        return self._registration

    def _registration_of(self, calibration: Calibration | None, sizes_px: SizesPx) -> Registration:
        visible_size_px, thermal_size_px = sizes_px
        return register(
            visible_size_px=visible_size_px,
            thermal_size_px=thermal_size_px,
            calibration=calibration,
            grid=self._grid,
        )

    def _render(
        self, visible: Image8, thermal: Image8, registration: Registration, timestamp_ns: int
    ) -> tuple[Image8, int]:
        """The fused BGR image, and the moment between fusing and composing."""
        if isinstance(self._method, Overlay):
            if registration.valid is not None:
                thermal = cast(Image8, cv2.bitwise_and(thermal, registration.valid))
            image = self._method(visible=visible, thermal=thermal)
            return image, time.perf_counter_ns()
        weights = registration.weights
        if weights is not None and self._grid == "thermal" and visible.ndim == 3:
            # the repeated edge of the visible image must not color what only the thermal camera sees
            visible = self._blend(visible, as_bgr(thermal), weights)
        visible_y = luminance(visible, take=self._pool.take)
        fused_y = self._method(visible_y=visible_y, thermal=thermal, timestamp_ns=timestamp_ns)
        if self._look == "detector":
            fused_y = over_mean(fused_y=fused_y, visible_y=visible_y, thermal=thermal, take=self._pool.take)
        if weights is not None:
            # where only one camera sees, its picture alone is shown
            fused_y = self._blend(fused_y, visible_y if self._grid == "visible" else thermal, weights)
        fused_ns = time.perf_counter_ns()
        colors = visible_y if self._look == "detector" else visible
        return compose(visible=colors, visible_y=visible_y, fused_y=fused_y, take=self._pool.take), fused_ns

    def _blend(self, inside: Image8, outside: Image8, weights: tuple[Weights, Weights]) -> Image8:
        """``inside`` where both cameras see, ``outside`` elsewhere, with the soft border of the registration."""
        return cast(Image8, cv2.blendLinear(inside, outside, *weights, self._pool.take(inside.shape)))
