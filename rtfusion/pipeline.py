"""Capture → pair → fuse → sinks: the page to read first.

One thread per source reads frames into a mailbox; the main thread pairs and fuses; one thread per sink writes. An error
anywhere ends the run: every mailbox is closed, every thread joined, every output finished, and the error is raised.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtfusion.capture import open_pair, source_path
from rtfusion.capture.base import Source
from rtfusion.capture.loss import LossPolicy
from rtfusion.capture.thread import CaptureThread
from rtfusion.capture.watchdog import watched_sources
from rtfusion.clock import NS_PER_MS
from rtfusion.config import Settings
from rtfusion.engines import NETWORKS
from rtfusion.errors import ConfigError, EndOfStream
from rtfusion.fusion import Control, Fuser, open_method
from rtfusion.fusion.host import HostFuser
from rtfusion.fusion.marks import MarkedFuser
from rtfusion.fusion.tone import TIME_CONSTANT_S, GainControl
from rtfusion.mailbox import Mailbox, Policy, wait_any
from rtfusion.memory import return_freed_memory
from rtfusion.pairing import Pairer
from rtfusion.registration import Calibration
from rtfusion.sinks import open_sinks
from rtfusion.sinks.base import Sink, SinkContext
from rtfusion.sinks.thread import SinkThread
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FramePair

if TYPE_CHECKING:
    from rtfusion.cuda.fuser import CudaFuser
    from rtfusion.session.source import SessionPairer

TICK_S = 0.1
FINISH_S = 10.0, 2.0
"""Longest wait for the outputs to write what waits and to be finished, and, where that was too short, without what waits."""
INTERRUPTED_FINISH_S = 1.5, 0.5
"""The same after a request to stop: two seconds in all."""
CAPTURE_FINISH_S = 0.5
LIVE_CAPACITY = 8
RECORDED_CAPACITY = 4
UNPAIRED_WARNING_S = 2.0
RETURN_MEMORY_S = 60.0


class Pipeline:
    """Two sources, a pairing rule, a fuser and any number of sinks, run once."""

    def __init__(
        self,
        *,
        visible: Source,
        thermal: Source,
        pairer: Pairer | SessionPairer,
        fuser: Fuser,
        sinks: list[Sink],
        telemetry: Telemetry,
        thermal_delay_ns: int = 0,
        max_frames: int | None = None,
        on_loss: str = "passthrough",
    ) -> None:
        self.telemetry = telemetry
        self._pairer = pairer
        self._fuser = fuser
        self._thermal_delay_ns = thermal_delay_ns
        self._max_frames = max_frames
        self._live = visible.info.live or thermal.info.live
        self._sources: Mapping[Band, Source] = {Band.VISIBLE: visible, Band.THERMAL: thermal}
        self._loss = LossPolicy(on_loss, self._sources)
        self._stop = threading.Event()
        self._on_tick: Callable[[], None] | None = None
        self._ticked_s = self._paired_s = self._returned_s = time.monotonic()
        arrival = threading.Condition()
        self._mailboxes: Mapping[Band, Mailbox[Frame]] = {
            band: Mailbox(
                capacity=LIVE_CAPACITY if self._live else RECORDED_CAPACITY,
                policy=Policy.LATEST if self._live else Policy.BLOCK,
                condition=arrival,
            )
            for band in Band
        }
        self._captures = [
            CaptureThread(source, self._mailboxes[band], telemetry=telemetry) for band, source in self._sources.items()
        ]
        self._sinks = [
            SinkThread(sink, live=self._live, telemetry=telemetry, stop=self._request_stop) for sink in sinks
        ]
        telemetry.fuser = fuser.name
        telemetry.sources = {band: source.info for band, source in self._sources.items()}

    def run(self, *, stop: threading.Event | None = None, on_tick: Callable[[], None] | None = None) -> None:
        """Run until both recordings are over, ``stop`` is set, or something breaks.

        ``on_tick`` is called about ten times a second from this thread.

        Raises:
            FusionError: what broke, after every thread has ended and every output is finished.
        """
        self._stop = stop if stop is not None else self._stop
        self._on_tick = on_tick
        with ExitStack() as stack:
            stack.callback(self._end)
            for sink in self._sinks:
                sink.start()
            for capture in self._captures:
                capture.start()
            pairs = self._live_pairs() if self._live else self._recorded_pairs()
            for pair in pairs:
                self.telemetry.paired(pair, thermal_delay_ns=self._thermal_delay_ns)
                fused = replace(self._fuser(pair), pair=pair)
                self.telemetry.fused_one()
                for sink in self._sinks:
                    while not sink.put(fused, timeout_s=TICK_S) and self._goes_on():
                        pass  # a recording waits for its slowest sink, but hears a request to stop
                if self._max_frames is not None and self.telemetry.fused >= self._max_frames:
                    break
        self._raise_sink_error()

    @property
    def control(self) -> Control:
        """What may be changed while it runs: dials of the model, the model, the calibration. Any thread may ask."""
        return self._fuser

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        """Use these from the next frame on, without losing one; see `rtfusion.fusion.base.Control`.

        The delay between the streams stays the one that the run began with.
        """
        self._fuser.change(calibration=calibration, model=model, palette=palette, **scalars)

    # -- pairs ------------------------------------------------------------------------------------------------------

    def _recorded_pairs(self) -> Iterator[FramePair]:
        """Every pair of two recordings; reads the stream that the pairing rule asks for, so neither runs ahead."""
        while self._goes_on() and not self._pairer.finished:
            band = self._pairer.wants
            try:
                frame = self._mailboxes[band].get(timeout_s=TICK_S)
            except EndOfStream:
                self._pairer.end(band)
            else:
                if frame is not None:
                    self._pairer.push(frame)
            while (pair := self._pairer.take()) is not None:
                yield pair

    def _live_pairs(self) -> Iterator[FramePair]:
        """The newest pair, as soon as there is one; while a camera is lost, each frame of the other one."""
        visible, thermal = self._mailboxes[Band.VISIBLE], self._mailboxes[Band.THERMAL]
        while self._goes_on() and not self._pairer.finished:
            wait_any(visible, thermal, timeout_s=TICK_S)
            self._loss.look()
            alone: FramePair | None = None
            for band, mailbox in self._mailboxes.items():
                try:
                    while (frame := mailbox.get(timeout_s=0.0)) is not None:
                        alone = self._take_live(frame, alone)
                except EndOfStream:
                    self._pairer.end(band)
            if alone is not None:
                alone = replace(alone, sequence=self._pairer.count())
            if (pair := alone or self._pairer.take()) is not None:
                self._paired_s = time.monotonic()
                yield pair
            elif time.monotonic() - self._paired_s > UNPAIRED_WARNING_S and not self._loss.any_lost:
                self.telemetry.note(f"no pair for {UNPAIRED_WARNING_S:.0f} s: {self._pairer.explain()}")

    def _take_live(self, frame: Frame, before: FramePair | None) -> FramePair | None:
        """Hand a frame to the pairing or, while the other camera is lost, make a pair of it alone; the newest of these."""
        alone = self._loss.alone(frame)
        if alone is None:
            self._pairer.push(frame)
            return before
        if before is not None:
            self._pairer.drops[frame.band]["superseded"] += 1
        return alone

    def _goes_on(self) -> bool:
        """False when the run was asked to stop; raises what broke a sink; ticks."""
        self._raise_sink_error()
        now_s = time.monotonic()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._update()
            if now_s - self._returned_s >= RETURN_MEMORY_S:
                self._returned_s = now_s
                return_freed_memory()
            if self._on_tick is not None:
                self._on_tick()
        return not self._stop.is_set()

    # -- the end ----------------------------------------------------------------------------------------------------

    def _request_stop(self) -> None:
        self._stop.set()

    def _raise_sink_error(self) -> None:
        for sink in self._sinks:
            if sink.error is not None:
                raise sink.error

    def _end(self) -> None:
        """Stop every thread and finish every output; on the way out of `run`, whatever the reason."""
        for capture in self._captures:
            capture.close()
        for sink in self._sinks:
            sink.finish()
        self._finish_sinks(*(INTERRUPTED_FINISH_S if self._stop.is_set() else FINISH_S))
        for capture in self._captures:
            if not capture.join(timeout_s=CAPTURE_FINISH_S):
                self.telemetry.note("a source did not close in time and was left behind")
        self._fuser.close()
        if not self._live and self.telemetry.pairs == 0:
            self.telemetry.note(f"no pair was made: {self._pairer.explain()}")
        self._update()
        self.telemetry.end()

    def _finish_sinks(self, wait_s: float, grace_s: float) -> None:
        """Wait for the outputs; those that are late lose what waits, and get some more time to end their files."""
        end_s = time.monotonic() + wait_s
        late = [sink for sink in self._sinks if not sink.join(timeout_s=max(0.0, end_s - time.monotonic()))]
        for sink in late:
            sink.discard()
        end_s = time.monotonic() + grace_s
        for sink in late:
            if not sink.join(timeout_s=max(0.0, end_s - time.monotonic())):
                self.telemetry.note(f"{sink.uri} did not finish in time and was left behind")

    def _update(self) -> None:
        """Bring the counters of all threads together."""
        self.telemetry.engine = self._fuser.engine
        for band, watched in watched_sources(self._sources).items():
            self.telemetry.faults[band] = dict(watched.faults)
            self.telemetry.lost[band] = None if watched.loss is None else str(watched.loss)
        for source in self._sources.values():
            for note in source.notes:
                self.telemetry.note(note)
        drops: dict[str, Mapping[str, object]] = {
            band.value: {
                **self._pairer.drops[band],
                **source.drops,
                "queue_full": self._mailboxes[band].dropped,
            }
            for band, source in self._sources.items()
        }
        drops["sinks"] = {sink.uri: sink.drops for sink in self._sinks if sink.drops}
        self.telemetry.drops = drops


def build(settings: Settings) -> Pipeline:
    """Open everything that the settings name.

    Raises:
        ConfigError: a setting, a calibration or an output is wrong. Nothing stays open.
        CaptureError: a source cannot be opened.
    """
    if settings.ir is None or settings.vis is None:
        missing = "--ir" if settings.ir is None else "--vis"
        raise ConfigError(f"{missing} is missing: name both sources, for example --ir thermal.mp4 --vis visible.mp4")
    calibration = None if settings.calibration is None else Calibration.load(settings.calibration)
    if calibration is not None and settings.distance_m is not None:
        calibration = calibration.at_distance(settings.distance_m)
    telemetry = Telemetry()
    with ExitStack() as opened:
        visible, thermal = open_pair(visible=settings.vis, thermal=settings.ir, loop=settings.loop, pace=settings.pace)
        opened.callback(visible.close)
        opened.callback(thermal.close)
        gain = GainControl(
            **settings.arguments("gain"),
            time_constant_s=TIME_CONSTANT_S if thermal.info.continuous else 0.0,
        )
        fuser = open_fuser(
            settings, gain=gain, calibration=calibration, telemetry=telemetry, still=not visible.info.continuous
        )
        opened.callback(fuser.close)
        fuser.prepare(visible_size_px=_size_px(visible), thermal_size_px=_size_px(thermal))
        marked = MarkedFuser(fuser, units=settings.units, grid=settings.grid)
        pipeline = Pipeline(
            visible=visible,
            thermal=thermal,
            pairer=_pairer(settings, visible=visible, thermal=thermal, calibration=calibration),
            fuser=marked,
            sinks=_open_sinks(settings, visible=visible, thermal=thermal, telemetry=telemetry, control=marked),
            telemetry=telemetry,
            thermal_delay_ns=_delay_ns(settings, calibration),
            max_frames=settings.max_frames,
            on_loss=settings.on_loss,
        )
        opened.pop_all()
    return pipeline


def open_fuser(
    settings: Settings, *, gain: GainControl, calibration: Calibration | None, telemetry: Telemetry, still: bool
) -> HostFuser | CudaFuser:
    """The fuser of the device that the engine is on."""
    if settings.fuser == "learned" and settings.engine in NETWORKS:
        from rtfusion.cuda.fuser import open_cuda_fuser

        return open_cuda_fuser(settings, gain=gain, calibration=calibration, telemetry=telemetry, still=still)
    method = open_method(settings.fuser, still=still, **settings.arguments("overlay"), **settings.arguments("learned"))
    return HostFuser(
        name=settings.fuser,
        method=method,
        gain=gain,
        calibration=calibration,
        grid=settings.grid,
        telemetry=telemetry,
        refine=settings.refine,
        look=settings.look,
    )


def _stream(source: Source) -> dict[str, Any]:
    info = source.info
    return {"uri": info.uri, "size": f"{info.width_px}x{info.height_px}", "pixel_format": info.pixel_format.value,
            "rate_hz": info.rate_hz, "continuous": info.continuous}  # fmt: skip


def _size_px(source: Source) -> tuple[int, int]:
    return source.info.width_px, source.info.height_px


def _delay_ns(settings: Settings, calibration: Calibration | None) -> int:
    if settings.thermal_delay_ms is not None:
        return round(settings.thermal_delay_ms * NS_PER_MS)
    return 0 if calibration is None else calibration.thermal_delay_ns


def _pairer(
    settings: Settings, *, visible: Source, thermal: Source, calibration: Calibration | None
) -> Pairer | SessionPairer:
    if thermal.info.uri.startswith("session:"):
        from rtfusion.session.source import SessionPairer, SessionSource

        if isinstance(thermal, SessionSource) and isinstance(visible, SessionSource):
            return SessionPairer(thermal.session)
    return Pairer(
        live=visible.info.live or thermal.info.live,
        rate_hz={Band.VISIBLE: visible.info.rate_hz, Band.THERMAL: thermal.info.rate_hz},
        thermal_delay_ns=_delay_ns(settings, calibration),
        tolerance_ns=None if settings.tolerance_ms is None else round(settings.tolerance_ms * NS_PER_MS),
        hold=settings.pair == "hold",
    )


def _open_sinks(
    settings: Settings, *, visible: Source, thermal: Source, telemetry: Telemetry, control: Control
) -> list[Sink]:
    rates_hz = [visible.info.rate_hz] if settings.pair == "hold" else [visible.info.rate_hz, thermal.info.rate_hz]
    context = SinkContext(
        rate_hz=min(rates_hz),
        live=visible.info.live or thermal.info.live,
        session=uuid.uuid4().hex,
        overwrite=settings.overwrite,
        drops=telemetry.drops_by_cause,
        control=control,
        snapshot=telemetry.snapshot,
        sizes_px={Band.VISIBLE: _size_px(visible), Band.THERMAL: _size_px(thermal)},
        note=telemetry.note,
        settings=settings.model_dump(mode="json"),
        streams={Band.VISIBLE: _stream(visible), Band.THERMAL: _stream(thermal)},
    )
    inputs = [path for uri in (settings.vis, settings.ir) if uri is not None and (path := source_path(uri)) is not None]
    return open_sinks(settings.sink, context=context, inputs=inputs)
