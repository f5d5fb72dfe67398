"""Two cameras that can be made to fail, the run they feed, and the faults: what a run of faults plays with."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rtfusion.capture.network import open_network
from rtfusion.capture.uri import parse_source
from rtfusion.capture.v4l2 import open_v4l2
from rtfusion.capture.v4l2_device import Mode
from rtfusion.capture.watchdog import SHUTTER_S, WatchedSource
from rtfusion.config import Settings
from rtfusion.fusion.fuser import open_fuser
from rtfusion.pairs import PairStream
from rtfusion.pipeline import Pipeline
from rtfusion.sinks import open_sinks
from rtfusion.sinks.base import SinkContext
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FusedFrame
from tests.rig.cameras import FakeCamera, FakeKernel, MjpegServer
from tests.rig.disk import Disk, Recording, is_of_band

RATE_HZ = 30.0
VISIBLE_SIZE_PX = 640, 480
SLOW_HZ = 10.0
NOTICED_S = 2.0
RATE_NOTICED_S = 6.5
"""Two windows of two seconds in a row have to agree, after the one in which the rate changed."""
SUBSCRIBER = """
import pathlib, sys, rtfusion
for frame in rtfusion.subscribe(sys.argv[1]):
    pathlib.Path(sys.argv[2]).write_text(str(frame.sequence))
"""

LEAST_RECORDED = 30
RECORDED_IN_S = 20.0
POLL_S = 0.02
_NEVER = threading.Event()


def _nothing() -> None:
    """Most faults need nothing at their end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    start: Callable[[], None]
    stop: Callable[[], None]
    noticed: Callable[[], bool]
    """Asked until it is true; what it compares with is fixed when the fault is made."""
    limit_s: float = NOTICED_S
    """The time within which it has to be noticed."""
    hold_s: float = 0.0
    """The time that it lasts once it was noticed."""
    recovered: Callable[[], bool] = lambda: True
    """Asked until it is true, besides that whole frames go on."""
    end: Callable[[], None] = _nothing
    """Called once it was got over."""


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
        shown = {Band.VISIBLE: frame.visible, Band.THERMAL: frame.thermal}
        self.swapped += sum(not is_of_band(image, band) for band, image in shown.items() if band is not lost)
        self.held += bool(frame.thermal_state.get("shutter"))
        if frame.degraded is None:
            self.whole += 1
        else:
            self.degraded[frame.degraded.value] += 1

    def close(self, *, aborted: bool) -> None:
        """Nothing to finish."""


class Rig:
    """Both cameras, the run they feed, and the faults that can be put in."""

    def __init__(self, *, folder: Path, disk: Path | None = None) -> None:
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
        self.disk = None if disk is None else Disk(disk)
        self.video = folder / "fused.mkv"
        self._address = f"ipc://{folder / 'fused'}"
        self._received = folder / "received"
        self._telemetry = Telemetry()
        self._context = self._make_context()
        self.recording = Recording(self._context)
        self.pipeline = self._pipeline()
        self._subscriber = self._subscribe()

    def close(self) -> None:
        """End the subscriber and the cameras."""
        self._subscriber.kill()
        self._subscriber.wait()
        self.visible.close()

    def _make_context(self) -> SinkContext:
        streams = {
            band: {"uri": source.info.uri, "rate_hz": RATE_HZ, "continuous": True}
            for band, source in self.sources.items()
        }
        return SinkContext(
            rate_hz=RATE_HZ,
            live=True,
            session="faults",
            drops=self._telemetry.drops_by_cause,
            note=self._telemetry.note,
            streams=streams,
        )

    def _pipeline(self) -> Pipeline:
        fuser = open_fuser(Settings(fuser="pyramid"), telemetry=self._telemetry)
        sinks = open_sinks([f"zmq:{self._address}", str(self.video)], context=self._context, inputs=[])
        return Pipeline(
            pairs=PairStream(
                visible=self.sources[Band.VISIBLE], thermal=self.sources[Band.THERMAL], telemetry=self._telemetry
            ),
            fuser=fuser,
            sinks=[*sinks, self.recording, self.checker],
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
        """Name every fault, with the function that makes it."""
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
        back = before + 2 if cause == "rate" else before  # the old rate is another one again, and noticed too
        return Fault(
            name=f"{band.value} {cause}",
            start=start,
            stop=stop,
            noticed=lambda: source.faults[cause] > before,
            limit_s=_limit_s(band, cause),
            hold_s=0.5,
            recovered=lambda: source.faults[cause] >= back,
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
            hold_s=1.0,
        )

    def _subscriber_hangs(self) -> Fault:
        process = self._subscriber
        return self._subscriber_fault(
            "subscriber hangs",
            start=lambda: process.send_signal(signal.SIGSTOP),
            stop=lambda: process.send_signal(signal.SIGCONT),
            hold_s=3.0,
        )

    def _subscriber_killed(self) -> Fault:
        def again() -> None:
            self._subscriber.wait()
            self._subscriber = self._subscribe()

        return self._subscriber_fault("subscriber killed", start=self._subscriber.kill, stop=again, hold_s=0.0)

    def _subscriber_fault(
        self, name: str, *, start: Callable[[], None], stop: Callable[[], None], hold_s: float
    ) -> Fault:
        """Nothing in the run notices it: what is to be seen is that frames go on, and that they arrive again afterwards."""
        before, received = self.checker.whole, [0]

        def stopped() -> None:
            received[0] = self._received_ns()
            stop()

        return Fault(
            name=name,
            start=start,
            stop=stopped,
            noticed=lambda: self.checker.whole > before + 10,
            hold_s=hold_s,
            recovered=lambda: self._received_ns() > received[0],
        )

    def _received_ns(self) -> int:
        """When the subscriber had its last frame."""
        return self._received.stat().st_mtime_ns if self._received.exists() else 0

    def _subscribe(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", SUBSCRIBER, self._address, str(self._received)]
        return subprocess.Popen(words)

    def disk_full(self) -> Fault:
        """The disk of a recording gets full: recording stops, fusing does not; with room again it goes on."""
        disk, recording, lines = self.disk, self.recording, [0]
        assert disk is not None

        def start() -> None:
            recording.begin(disk.folder)
            wait(lambda: recording.lines > LEAST_RECORDED, limit_s=RECORDED_IN_S)
            disk.fill()

        def stop() -> None:
            lines[0] = recording.lines
            disk.empty()

        return Fault(
            name="disk full",
            start=start,
            stop=stop,
            noticed=lambda: recording.drops.get("disk_full", 0) > 0,
            hold_s=2.0,
            recovered=lambda: recording.lines > lines[0] + LEAST_RECORDED,
            end=recording.end,
        )


def wait(condition: Callable[[], bool], *, limit_s: float, stop: threading.Event = _NEVER) -> float | None:
    """Seconds until something is so; None when it was not in time."""
    started_s = time.monotonic()
    while not stop.is_set():
        passed_s = time.monotonic() - started_s
        if condition():
            return round(passed_s, 3)
        if passed_s > limit_s:
            return None
        stop.wait(POLL_S)
    return None


def _limit_s(band: Band, cause: str) -> float:
    """The time within which a fault of a camera has to be noticed: a thermal camera may be behind its shutter for 3 s."""
    if (band, cause) == (Band.THERMAL, "frozen"):
        return SHUTTER_S + 0.3
    return RATE_NOTICED_S if cause == "rate" else NOTICED_S


Switches = dict[str, tuple[Callable[[], None], Callable[[], None]]]


def _thermal_switches(camera: FakeCamera) -> Switches:
    def put(name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(camera, name, value)

    return {
        "unplugged": (put("plugged", False), put("plugged", True)),
        "silent": (put("silent", True), put("silent", False)),
        "frozen": (put("frozen", True), put("frozen", False)),
        "corrupt": (put("broken", True), put("broken", False)),
        "rate": (put("rate_hz", SLOW_HZ), put("rate_hz", None)),
    }


def _visible_switches(server: MjpegServer) -> Switches:
    def put(name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(server, name, value)

    return {
        "unplugged": (server.unplug, server.plug),
        "silent": (put("silent", True), put("silent", False)),
        "frozen": (put("frozen", True), put("frozen", False)),
        "corrupt": (put("damage", lambda data: data[: len(data) // 3]), put("damage", None)),
        "rate": (put("rate_hz", SLOW_HZ), put("rate_hz", RATE_HZ)),
    }
