"""Two cameras that can be made to fail, the run they feed, and the faults: what `benchmarks.faults` plays with."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.cameras import FakeCamera, FakeKernel, MjpegServer
from rtfusion.capture.network import open_network
from rtfusion.capture.uri import parse_source
from rtfusion.capture.v4l2 import open_v4l2
from rtfusion.capture.v4l2_device import Mode
from rtfusion.capture.watchdog import WatchedSource
from rtfusion.fusion import open_method
from rtfusion.fusion.host import HostFuser
from rtfusion.fusion.marks import MarkedFuser
from rtfusion.pairing import Pairer
from rtfusion.pipeline import Pipeline
from rtfusion.sinks import open_sinks
from rtfusion.sinks.base import SinkContext
from rtfusion.telemetry import Telemetry
from rtfusion.thermal import GainControl
from rtfusion.types import Band, FusedFrame

RATE_HZ = 30.0
VISIBLE_SIZE_PX = 640, 480
RATE_NOTICED_S = 10.0
SUBSCRIBER = """
import sys, rtfusion
for frame in rtfusion.subscribe(sys.argv[1]):
    pass
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    start: Callable[[], None]
    stop: Callable[[], None]
    noticed: Callable[[], bool]
    """Asked until it is true; what it compares with is fixed when the fault is made."""
    limit_s: float
    hold_s: float = 0.0
    """How much longer it lasts once it was noticed."""


class Checker:
    """A sink that looks at every frame: which pictures they are, and what is marked."""

    uri = "check:"

    def __init__(self) -> None:
        self.whole = 0
        self.held = 0
        self.swapped = 0
        self.degraded: Counter[str] = Counter()

    def write(self, frame: FusedFrame) -> None:
        """Count one frame. The visible camera's left half is the bright one, the thermal camera's upper half the warm one."""
        lost = None if frame.degraded is None else frame.degraded.lost
        if lost is not Band.VISIBLE and not _is_brighter(frame.visible, axis=1):
            self.swapped += 1
        if lost is not Band.THERMAL and not _is_brighter(frame.thermal, axis=0):
            self.swapped += 1
        self.held += bool(frame.thermal_state.get("shutter"))
        if frame.degraded is None:
            self.whole += 1
        else:
            self.degraded[frame.degraded.value] += 1

    def close(self, *, aborted: bool) -> None:
        """Nothing to finish."""


def _is_brighter(image: Any, *, axis: int) -> bool:
    """Whether the first half along an axis is."""
    first, second = np.array_split(image[::8, ::8], 2, axis=axis)
    return float(first.mean()) > float(second.mean())


class Rig:
    """Both cameras, the run they feed, and the faults that can be put in."""

    def __init__(self, *, folder: Path) -> None:
        self._noise = np.random.default_rng(0).integers(0, 8, (64, *VISIBLE_SIZE_PX[::-1], 3), dtype=np.uint8)
        self.visible_size_px = VISIBLE_SIZE_PX
        self.repeats = 1
        self.shutter = False
        mode = Mode(fourcc="Y16", width_px=160, height_px=122, rates_hz=(RATE_HZ,))
        self.thermal = FakeCamera(modes=[mode], content=self._thermal_buffer)
        self.visible = MjpegServer(self._visible_jpeg, rate_hz=RATE_HZ)
        kernel = FakeKernel({"/dev/video0": self.thermal})
        thermal_uri = parse_source("v4l2:/dev/video0?profile=lepton")
        visible_uri = parse_source(self.visible.url)
        self.sources = {
            Band.VISIBLE: WatchedSource(lambda: open_network(visible_uri, band=Band.VISIBLE)),
            Band.THERMAL: WatchedSource(lambda: open_v4l2(thermal_uri, band=Band.THERMAL, kernel=kernel)),
        }
        self.checker = Checker()
        self.address = f"ipc://{folder / 'fused'}"
        self.pipeline = self._pipeline(folder)
        self._subscriber = self._subscribe()

    def close(self) -> None:
        """End the subscriber and the cameras."""
        self._subscriber.kill()
        self._subscriber.wait()
        self.visible.close()

    def _pipeline(self, folder: Path) -> Pipeline:
        telemetry = Telemetry()
        host = HostFuser(
            name="pyramid",
            method=open_method("pyramid", still=False),
            gain=GainControl(),
            calibration=None,
            grid="visible",
            telemetry=telemetry,
        )
        context = SinkContext(rate_hz=RATE_HZ, live=True, session="faults", drops=telemetry.drops_by_cause)
        sinks = open_sinks([f"zmq:{self.address}", str(folder / "fused.mkv")], context=context, inputs=[])
        return Pipeline(
            visible=self.sources[Band.VISIBLE],
            thermal=self.sources[Band.THERMAL],
            pairer=Pairer(live=True, rate_hz=dict.fromkeys(Band, RATE_HZ)),
            fuser=MarkedFuser(host),
            sinks=[*sinks, self.checker],
            telemetry=telemetry,
            on_loss="passthrough",
        )

    # -- pictures ---------------------------------------------------------------------------------------------------

    def _visible_jpeg(self, number: int) -> bytes:
        image = self._noise[number % len(self._noise)].copy()
        image[:, : image.shape[1] // 2] += 120
        if self.visible_size_px != VISIBLE_SIZE_PX:
            image = cv2.resize(image, self.visible_size_px).astype(np.uint8)
        return bytes(cv2.imencode(".jpg", image)[1].tobytes())

    def _thermal_buffer(self, mode: Mode, number: int) -> bytes:
        number //= self.repeats
        counts = 29_000 + self._noise[number % len(self._noise), :120, :160, 0].astype(np.uint16)
        counts[:60] += 800
        if self.shutter:
            counts[:] = 29_500
        words = [0] * 320
        words[3] = (2 if self.shutter else 3) << 4
        words[20], words[21], words[24] = number & 0xFFFF, number >> 16 & 0xFFFF, 30_000
        return counts.tobytes() + struct.pack("<320H", *words)

    # -- faults -----------------------------------------------------------------------------------------------------

    def faults(self) -> dict[str, Callable[[], Fault]]:
        """How to make each of them."""
        made = {
            "subscriber hangs": self._subscriber_hangs,
            "subscriber killed": self._subscriber_killed,
            "thermal repeated": self._repeated,
            "thermal shutter": self._shutter,
            "visible size": lambda: self._camera_fault(Band.VISIBLE, "size", self._resize, self._resize_back),
        }
        for band, switches in (
            (Band.THERMAL, _thermal_switches(self.thermal)),
            (Band.VISIBLE, _visible_switches(self.visible)),
        ):
            for cause, (start, stop) in switches.items():
                made[f"{band.value} {cause}"] = lambda b=band, c=cause, on=start, off=stop: self._camera_fault(
                    b, c, on, off
                )  # type: ignore[misc]
        return made

    def is_whole(self) -> bool:
        """Both cameras deliver."""
        return all(source.loss is None for source in self.sources.values())

    def _camera_fault(self, band: Band, cause: str, start: Callable[[], None], stop: Callable[[], None]) -> Fault:
        source, before = self.sources[band], self.sources[band].faults[cause]
        limit_s = RATE_NOTICED_S if cause == "rate" else source.limit_s + 1.0
        return Fault(
            name=f"{band.value} {cause}",
            start=start,
            stop=stop,
            noticed=lambda: source.faults[cause] > before,
            limit_s=limit_s,
            hold_s=0.5,
        )

    def _resize(self) -> None:
        self.visible_size_px = 320, 240

    def _resize_back(self) -> None:
        self.visible_size_px = VISIBLE_SIZE_PX

    def _repeated(self) -> Fault:
        source = self.sources[Band.THERMAL]
        before = source.drops["duplicate"]

        def set_repeats(repeats: int) -> None:
            self.repeats = repeats

        return Fault(
            name="thermal repeated",
            start=lambda: set_repeats(3),
            stop=lambda: set_repeats(1),
            noticed=lambda: source.drops["duplicate"] > before + 5,
            limit_s=2.0,
            hold_s=1.0,
        )

    def _shutter(self) -> Fault:
        before = self.checker.held

        def set_shutter(closed: bool) -> None:
            self.shutter = closed

        return Fault(
            name="thermal shutter",
            start=lambda: set_shutter(True),
            stop=lambda: set_shutter(False),
            noticed=lambda: self.checker.held > before,
            limit_s=2.0,
            hold_s=1.0,
        )

    def _subscriber_hangs(self) -> Fault:
        process, before = self._subscriber, self.checker.whole
        return Fault(
            name="subscriber hangs",
            start=lambda: process.send_signal(signal.SIGSTOP),
            stop=lambda: process.send_signal(signal.SIGCONT),
            noticed=lambda: self.checker.whole > before + 10,  # nobody else notices: frames go on
            limit_s=5.0,
            hold_s=3.0,
        )

    def _subscriber_killed(self) -> Fault:
        before = self.checker.whole

        def again() -> None:
            self._subscriber.wait()
            self._subscriber = self._subscribe()

        return Fault(
            name="subscriber killed",
            start=self._subscriber.kill,
            stop=again,
            noticed=lambda: self.checker.whole > before + 10,
            limit_s=5.0,
        )

    def _subscribe(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", SUBSCRIBER, self.address])  # noqa: S603 - our own words


Switches = dict[str, tuple[Callable[[], None], Callable[[], None]]]


def _thermal_switches(camera: FakeCamera) -> Switches:
    def put(name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(camera, name, value)

    return {
        "unplugged": (put("plugged", False), put("plugged", True)),
        "silent": (put("silent", True), put("silent", False)),
        "frozen": (put("frozen", True), put("frozen", False)),
        "corrupt": (put("broken", True), put("broken", False)),
        "rate": (put("rate_hz", 15.0), put("rate_hz", None)),
    }


def _visible_switches(server: MjpegServer) -> Switches:
    def put(name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(server, name, value)

    return {
        "unplugged": (server.unplug, server.plug),
        "silent": (put("silent", True), put("silent", False)),
        "frozen": (put("frozen", True), put("frozen", False)),
        "corrupt": (put("damage", lambda data: data[: len(data) // 3]), put("damage", None)),
        "rate": (put("rate_hz", 15.0), put("rate_hz", RATE_HZ)),
    }
