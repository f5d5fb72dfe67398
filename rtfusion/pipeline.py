"""Pairs → fuse → sinks: the page to read first.

The stream of pairs reads both sources (`rtfusion.pairs`), the main thread fuses, one thread per sink writes. An error anywhere
ends the run: every thread is joined, every output finished, and the error is raised. Cameras are fused on when an output breaks.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from rtfusion.advice import advice_on_view
from rtfusion.capture import source_path
from rtfusion.capture.base import StreamInfo
from rtfusion.clock import MONOTONIC, NS_PER_MS
from rtfusion.config import Settings
from rtfusion.errors import ConfigError, EndOfStream, FusionError, StreamLost
from rtfusion.fusion import Control
from rtfusion.fusion.base import Change
from rtfusion.fusion.fuser import PairFuser, open_fuser
from rtfusion.fusion.saying import tell
from rtfusion.intents import Said
from rtfusion.kernels import are_here
from rtfusion.memory import return_freed_memory
from rtfusion.pairs import PairStream, open_pairs
from rtfusion.registration import Calibration, PairShape, load_calibration
from rtfusion.sinks import check_sinks, open_again, open_sinks
from rtfusion.sinks.base import Sink, SinkContext
from rtfusion.sinks.thread import SinkThread
from rtfusion.types import Band, FramePair, FusedFrame

TICK_S = 0.1
FINISH_S = 10.0, 2.0
"""Longest wait for the outputs to write what waits and to be finished, and, where that was too short, without what waits."""
INTERRUPTED_FINISH_S = 1.5, 0.5
"""Longest waits after a request to stop: two seconds in all."""
RETURN_MEMORY_S = 60.0


class Pipeline:
    """A stream of pairs, a fuser and any number of sinks, run once. The counters of all are in ``telemetry``."""

    def __init__(
        self,
        *,
        pairs: PairStream,
        fuser: PairFuser[Any],
        sinks: list[Sink],
        reopen: Sequence[Callable[[], Sink] | None] | None = None,
    ) -> None:
        """``reopen`` opens each of the sinks again when it broke while cameras are fused; without one, that ends the run."""
        self.telemetry = telemetry = pairs.telemetry
        self._pairs = pairs
        self._fuser = fuser
        self._stop = threading.Event()
        self._on_tick: Callable[[], None] | None = None
        self._ticked_s = self._returned_s = time.monotonic()
        self._sinks = [
            SinkThread(sink, live=pairs.live, telemetry=telemetry, stop=self._request_stop, reopen=again)
            for sink, again in zip(sinks, reopen or repeat(None, len(sinks)), strict=True)
        ]
        self._spent: str | None = None
        telemetry.fuser = fuser.name
        telemetry.sources = {Band.VISIBLE: pairs.visible, Band.THERMAL: pairs.thermal}

    def run(
        self,
        *,
        stop: threading.Event | None = None,
        on_tick: Callable[[], None] | None = None,
        on_pair: Callable[[FramePair], None] | None = None,
    ) -> None:
        """Run until both recordings are over, ``stop`` is set, or something breaks.

        ``on_tick`` is called about ten times a second from this thread, ``on_pair`` with every pair before it is fused.

        Raises:
            ConfigError: it ran before, was closed, or has no sink.
            FusionError: what broke, after every thread has ended and every output is finished.
        """
        if not self._sinks:
            raise ConfigError(
                "this pipeline has no sink, so its frames would go nowhere; name one, null: discards them"
            )
        self._spend("has run")
        self._stop = stop if stop is not None else self._stop
        self._on_tick = on_tick
        with ExitStack() as stack:
            stack.callback(self._end)
            for sink in self._sinks:
                sink.start()
            for pair in self._each_pair():
                if on_pair is not None:
                    on_pair(pair)
                fused = self._fuser(pair)
                captured_ns = fused.timestamp_ns if self._pairs.live else fused.received_ns
                self.telemetry.fused_one(age_ns=MONOTONIC.now_ns() - captured_ns)
                self._deliver(fused)
        self._raise_sink_error()
        if not self.telemetry.pairs and not self._stop.is_set():
            raise StreamLost(f"no pair was made, so there is nothing: {self._pairs.explain()}")

    @property
    def control(self) -> Control:
        """The control of the fuser while it runs: inputs of the model, the model, the calibration. Any thread may use it."""
        return self._fuser

    def change(self, change: Change) -> None:
        """Use this from the next frame on, without losing one; see `rtfusion.fusion.base.Control`.

        The delay between the streams stays the one that the run began with.
        """
        self._fuser.change(change)

    def say(self, text: str) -> Said:
        """Ask in a sentence for what the picture is to show, and be told what it was taken for; what is refused changes nothing.

        Raises:
            ConfigError: the sentence is too long, or the fuser takes no intents.
        """
        return tell(self._fuser, text)

    def close(self) -> None:
        """Release a pipeline that does not run, or ask one that does to stop. Idempotent."""
        self._request_stop()
        if self._spent is None:
            self._spend("was closed")
            for sink in self._sinks:
                sink.start()
            self._end()

    def _spend(self, how: str) -> None:
        if self._spent is not None:
            raise ConfigError(f"this pipeline {self._spent}; a pipeline runs once: build another one of the settings")
        self._spent = how

    def _each_pair(self) -> Iterator[FramePair]:
        """The pairs, one by one, as long as the run goes on."""
        while self._goes_on():
            try:
                pair = self._pairs.poll(timeout_s=TICK_S)
            except EndOfStream:
                return
            if pair is not None:
                yield pair

    def _deliver(self, fused: FusedFrame) -> None:
        """Hand a frame to every sink; a recording waits for its slowest one, but hears a request to stop."""
        for sink in self._sinks:
            while not sink.put(fused, timeout_s=TICK_S) and self._goes_on():
                pass

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
        self._pairs.end()
        for sink in self._sinks:
            sink.finish()
        self._finish_sinks(*(INTERRUPTED_FINISH_S if self._stop.is_set() else FINISH_S))
        self._pairs.close()
        self._fuser.close()
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
        telemetry, pairs = self.telemetry, self._pairs
        telemetry.engine = self._fuser.engine
        telemetry.faults = dict(pairs.faults)
        telemetry.lost = dict(pairs.lost)
        telemetry.outages = dict(pairs.outages)
        telemetry.rates_hz = dict(pairs.measured_hz)
        for note in pairs.notes:
            telemetry.note(note)
        drops = {band.value: causes for band, causes in pairs.drops.items()}
        telemetry.drops = {**drops, "sinks": {sink.uri: sink.drops for sink in self._sinks if sink.drops}}


def build(
    settings: Settings,
    *,
    stop: threading.Event | None = None,
    pairs: PairStream | None = None,
    sinks: Sequence[Sink] = (),
    registers: bool = False,
) -> Pipeline:
    """Open everything that the settings name; ``stop`` ends the opening of cameras, which may take long.

    ``pairs`` is a stream of the caller in place of the two sources that the settings name, and ``sinks`` are outputs of the
    caller beside those of the settings. The pipeline closes both; when this raises, they are still the caller's. ``registers``
    says that the caller does what ``auto_register`` asks for, as the command does while it runs.

    Raises:
        ConfigError: a setting, a calibration or an output is wrong, or ``auto_register`` is set and nobody does it. Nothing
            stays open.
        CaptureError: a source cannot be opened.
        EndOfStream: ``stop`` was set while a camera was opened.
    """
    if settings.auto_register and not registers:
        raise ConfigError(
            "auto_register is done by the command rtfusion run alone; estimate the registration with rtfusion calibrate scene "
            "first, and name its file as calibration"
        )
    check_sinks(settings.sink, inputs=inputs_of(settings))
    calibration = load_calibration(settings.calibration, distance_m=settings.distance_m)
    with ExitStack() as opened:
        if pairs is None:
            pairs, fuser = open_path(settings, calibration=calibration, stop=stop)
            opened.callback(pairs.close)
        else:
            fuser = _fuser_for(pairs, settings, calibration=calibration)
        opened.callback(fuser.close)
        # a recording says which precision was run, and how, so that a replay runs the same on any machine
        precision = fuser.precision or settings.precision
        used = settings.model_copy(update={"precision": precision, "kernels": settings.kernels and are_here()})
        context = _context(used, pairs=pairs, control=fuser)
        named = open_sinks(settings.sink, context=context, inputs=inputs_of(settings))
        again = [partial(open_again, uri, context=context) for uri in settings.sink]
        reopen = [*again, *repeat(None, len(sinks))]
        pipeline = Pipeline(pairs=pairs, fuser=fuser, sinks=[*named, *sinks], reopen=reopen)
        opened.pop_all()
    return pipeline


def open_path(
    settings: Settings, *, calibration: Calibration | None, stop: threading.Event | None = None
) -> tuple[PairStream, PairFuser[Any]]:
    """Open the sources that the settings name as a stream of pairs, and the fuser for it, ready for the first pair.

    ``stop`` ends the opening of cameras.

    Raises:
        ConfigError, CaptureError, CalibrationError, ModelError, EngineError: one of them cannot be opened. Nothing stays open.
    """
    if settings.ir is None or settings.vis is None:
        missing = "--ir" if settings.ir is None else "--vis"
        raise ConfigError(f"{missing} is missing: name both sources, for example --ir thermal.mp4 --vis visible.mp4")
    with ExitStack() as opened:
        pairs = pairs_of(settings, calibration=calibration, stop=stop)
        opened.callback(pairs.close)
        fuser = _fuser_for(pairs, settings, calibration=calibration)
        opened.pop_all()
    return pairs, fuser


def _fuser_for(pairs: PairStream, settings: Settings, *, calibration: Calibration | None) -> PairFuser[Any]:
    """The fuser for a stream of pairs, ready for the first one."""
    if calibration is None and (sentence := advice_on_view(visible=pairs.visible, thermal=pairs.thermal)):
        pairs.telemetry.note(sentence)
    fuser = open_fuser(
        settings,
        calibration=calibration,
        telemetry=pairs.telemetry,
        still=not pairs.visible.continuous,
        thermal_still=not pairs.thermal.continuous,
        live=pairs.live,
    )
    with ExitStack() as opened:
        opened.callback(fuser.close)
        fuser.prepare(PairShape.of_streams(visible=pairs.visible, thermal=pairs.thermal))
        opened.pop_all()
    return fuser


def pairs_of(settings: Settings, *, calibration: Calibration | None, stop: threading.Event | None = None) -> PairStream:
    """The pairs that a run with these settings fuses. Decoded ahead; a known delay may come from the calibration.

    Raises:
        ConfigError, CaptureError: as `rtfusion.pairs.open_pairs`.
    """
    delay_ms = settings.thermal_delay_ms
    if delay_ms is None:
        delay_ms = 0.0 if calibration is None else calibration.thermal_delay_ns / NS_PER_MS
    given = settings.arguments("pairs") | {"thermal_delay_ms": delay_ms}
    return open_pairs(**given, stop=stop, read_ahead=True)


def _stream(info: StreamInfo) -> dict[str, Any]:
    return {"uri": info.uri, "size": f"{info.width_px}x{info.height_px}", "pixel_format": info.pixel_format.value,
            "rate_hz": info.rate_hz, "continuous": info.continuous}  # fmt: skip


def _context(settings: Settings, *, pairs: PairStream, control: Control) -> SinkContext:
    telemetry = pairs.telemetry
    rates_hz = [pairs.visible.rate_hz] if settings.pair == "hold" else [pairs.visible.rate_hz, pairs.thermal.rate_hz]
    return SinkContext(
        rate_hz=min(rates_hz),
        live=pairs.live,
        session=uuid.uuid4().hex,
        overwrite=settings.overwrite,
        drops=telemetry.drops_by_cause,
        control=control,
        snapshot=telemetry.snapshot,
        durations=telemetry.durations,
        sizes_px={Band.VISIBLE: pairs.visible.size_px, Band.THERMAL: pairs.thermal.size_px},
        note=telemetry.note,
        publish_mask=settings.publish_mask,
        settings=settings.model_dump(mode="json"),
        streams={Band.VISIBLE: _stream(pairs.visible), Band.THERMAL: _stream(pairs.thermal)},
    )


def inputs_of(settings: Settings) -> list[Path]:
    """The files and folders that the run reads. A source that cannot be told is left out: opening it says what is wrong."""
    found = [path for path in (settings.calibration, settings.model) if path is not None and path.is_file()]
    for uri in (settings.vis, settings.ir):
        with suppress(FusionError):
            if uri is not None and (path := source_path(uri)) is not None:
                found.append(path)
    return found
