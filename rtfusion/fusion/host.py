"""The fuser of the host: OpenCV for the pixels, and a CPU engine where the luminance is fused by a network."""

from __future__ import annotations

import time
from typing import cast

import cv2

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Luminance
from rtfusion.fusion.color import as_bgr, compose, luminance
from rtfusion.fusion.overlay import Overlay
from rtfusion.registration import Calibration, Registration, Weights, register
from rtfusion.telemetry import Telemetry
from rtfusion.thermal import GainControl
from rtfusion.types import FramePair, FusedFrame, Image8, PixelFormat


class HostFuser:
    """register → tone → fuse → compose, each timed as a stage.

    ``method`` fuses two luminance images, or paints (`Overlay`). The registration is made for the sizes that come, anew when
    one changes. ``calibration`` None takes both cameras to have the same view.
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
    ) -> None:
        self.name = name
        self._method = method
        self._gain = gain
        self._calibration = calibration
        self._grid = grid
        self._telemetry = telemetry
        self._sizes_px: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._registration: Registration | None = None

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
        started_ns = time.perf_counter_ns()
        thermal = self._gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns)
        toned_ns = time.perf_counter_ns()
        registration = self._register(pair.visible.size_px, pair.thermal.size_px)
        visible = cast(Image8, registration.visible(pair.visible.image))
        thermal = cast(Image8, registration.thermal(thermal))
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
        """Make the registration for these sizes ahead of the first pair, so that a wrong calibration is found at the start.

        Raises:
            CalibrationError: the calibration is for cameras of another aspect.
        """
        self._register(visible_size_px, thermal_size_px)

    def close(self) -> None:
        """Release the engine, where there is one."""
        if not isinstance(self._method, Overlay):
            self._method.close()

    def _register(self, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]) -> Registration:
        sizes_px = visible_size_px, thermal_size_px
        if self._registration is None or sizes_px != self._sizes_px:
            self._registration = register(
                visible_size_px=visible_size_px,
                thermal_size_px=thermal_size_px,
                calibration=self._calibration,
                grid=self._grid,
            )
            self._sizes_px = sizes_px
        return self._registration

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
            visible = _blend(visible, as_bgr(thermal), weights)
        visible_y = luminance(visible)
        fused_y = self._method(visible_y=visible_y, thermal=thermal, timestamp_ns=timestamp_ns)
        if weights is not None:
            # where only one camera sees, its picture alone is shown
            fused_y = _blend(fused_y, visible_y if self._grid == "visible" else thermal, weights)
        fused_ns = time.perf_counter_ns()
        return compose(visible=visible, visible_y=visible_y, fused_y=fused_y), fused_ns


def _blend(inside: Image8, outside: Image8, weights: tuple[Weights, Weights]) -> Image8:
    """``inside`` where both cameras see, ``outside`` elsewhere, with the soft border of the registration."""
    return cast(Image8, cv2.blendLinear(inside, outside, *weights))
