"""Fakes and builders that several tests share. No mocks: real objects of the library's own protocols."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from rtfusion.capture.base import StreamInfo
from rtfusion.errors import CaptureTimeout, EndOfStream
from rtfusion.focus import Box, Focus
from rtfusion.fusion import LuminanceFuser, Painter, open_method
from rtfusion.fusion.base import Change
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady, HostRenderer
from rtfusion.fusion.tone import GainControl
from rtfusion.intents import NEUTRAL, PRESETS, Intents
from rtfusion.kernels import are_here
from rtfusion.registration import Calibration
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FusedFrame, InputValue, PixelFormat

MS = 1_000_000


needs_kernels = pytest.mark.skipif(not are_here(), reason="the kernels are not compiled: python hatch_build.py")
_PLAIN = {Band.VISIBLE: np.full((48, 64, 3), 100, dtype=np.uint8), Band.THERMAL: np.full((48, 64), 100, dtype=np.uint8)}


def make_frame(
    band: Band, timestamp_ns: int, *, sequence: int = 0, image: np.ndarray | None = None, name: str | None = None
) -> Frame:
    """A small frame; visible is BGR8 and thermal GRAY8 unless an image says otherwise."""
    if image is None:
        image = _PLAIN[band]
    pixel_format = PixelFormat.BGR8 if image.ndim == 3 else PixelFormat.GRAY8
    if image.dtype == np.uint16:
        pixel_format = PixelFormat.GRAY16
    return Frame(
        image=image,
        pixel_format=pixel_format,
        band=band,
        timestamp_ns=timestamp_ns,
        sequence=sequence,
        received_ns=0,
        name=name,
    )


class ScriptedSource:
    """A source that plays a script: each step is a frame, an exception to raise, or a callable to run first."""

    def __init__(
        self,
        band: Band,
        script: Iterable[Frame | BaseException | Callable[[], None]],
        *,
        live: bool = False,
        rate_hz: float = 30.0,
    ) -> None:
        self._script = iter(script)
        self._closed = threading.Event()
        self.drops: dict[str, int] = {}
        self.notes: tuple[str, ...] = ()
        self.info = StreamInfo(
            uri=f"script:{band.value}",
            band=band,
            width_px=64,
            height_px=48,
            pixel_format=PixelFormat.BGR8 if band is Band.VISIBLE else PixelFormat.GRAY8,
            rate_hz=rate_hz,
            live=live,
        )

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def read(self, *, timeout_s: float) -> Frame:
        if self._closed.is_set():
            raise EndOfStream("closed")
        for step in self._script:
            if isinstance(step, Frame):
                return step
            if isinstance(step, BaseException):
                raise step
            step()
            if self._closed.is_set():
                raise EndOfStream("closed")
        if not self.info.live:
            raise EndOfStream("script is over")
        if self._closed.wait(timeout_s):
            raise EndOfStream("closed")
        raise CaptureTimeout("script is over")

    def close(self) -> None:
        self._closed.set()


class CollectingSink:
    """Keeps what it gets; can be told to break or to block at a frame."""

    def __init__(
        self, *, fail_at: int | None = None, error: BaseException | None = None, gate: threading.Event | None = None
    ) -> None:
        self.uri = "collect:"
        self.frames: list[FusedFrame] = []
        self.closed: list[bool] = []
        self._fail_at = fail_at
        self._error = error
        self._gate = gate

    def write(self, frame: FusedFrame) -> None:
        if self._gate is not None:
            self._gate.wait(30)
        if self._fail_at is not None and len(self.frames) == self._fail_at and self._error is not None:
            raise self._error
        self.frames.append(frame)

    def close(self, *, aborted: bool) -> None:
        self.closed.append(aborted)


class RecordingControl:
    """A control that uses what it is told to."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration
        self.inputs: Mapping[str, InputValue] = {}
        self.model: Path | None = None
        self.look: str | None = None
        self.palette: str | None = None
        self.intents: Intents | None = NEUTRAL
        self.presets: Mapping[str, Intents] = PRESETS
        self.regions: Sequence[Box] | None = ()
        self.reports: list[tuple[Sequence[Box], int]] = []
        self.changes = 0

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        self.reports.append((boxes, timestamp_ns))

    def change(self, change: Change) -> None:
        self.calibration = change.calibration or self.calibration
        self.model, self.look = change.model or self.model, change.look or self.look
        self.palette = change.palette or self.palette
        self.inputs = {**self.inputs, **change.inputs}
        if isinstance(change.intents, str):
            self.intents = Intents.parse(change.intents)
        elif isinstance(change.intents, Mapping):
            self.intents = (self.intents or NEUTRAL).changed(change.intents)
        elif change.intents is not None:
            self.intents = change.intents
        self.regions = self.regions if change.regions is None else change.regions
        self.changes += 1


def host_fuser(
    name: str = "average",
    *,
    method: LuminanceFuser | Painter | None = None,
    telemetry: Telemetry | None = None,
    gain: GainControl | None = None,
    calibration: Calibration | None = None,
    grid: str = "visible",
    look: str = "eye",
    upsample: str = "auto",
    color: str = "seen",
    trust: bool = True,
    refine: bool = False,
    parallax: str = "off",
    units: str | None = None,
    focus: Focus | None = None,
    wish: Intents | None = None,
) -> PairFuser[HostReady]:
    """A fuser of the host, of small parts; the method is the one of that name, without memory, unless another is given."""
    telemetry = telemetry or Telemetry()
    method = method or open_method(name, still=True)
    return PairFuser(
        HostRenderer(
            name=name,
            method=method,
            telemetry=telemetry,
            grid=grid,
            look=look,
            upsample=upsample,
            color=color,
            trust=trust,
            focus=focus,
        ),
        gain=gain or GainControl(),
        telemetry=telemetry,
        calibration=calibration,
        refine=refine,
        parallax=parallax,
        units=units,
        wish=wish,
    )


def stream(band: Band, stamps_ms: Iterable[float]) -> list[Frame]:
    return [make_frame(band, round(stamp * MS), sequence=i) for i, stamp in enumerate(stamps_ms)]
