"""Pairs of two cameras or recordings, one by one, through the pipeline of a run: pairing, windows and endings as there."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from rtfusion.capture import open_pair
from rtfusion.clock import NS_PER_MS
from rtfusion.errors import ConfigError
from rtfusion.pairing import Pairer
from rtfusion.pipeline import Pipeline
from rtfusion.registration import Calibration
from rtfusion.sinks import open_sinks
from rtfusion.sinks.base import SinkContext
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, FusedFrame, Image8

Look = Callable[[FramePair], Image8]
"""Takes a pair, gives the (H, W, 3) BGR picture to show for it."""


class _Fuser:
    """A `Look` as the pipeline knows it."""

    name = "calibrate"
    engine: str | None = None
    calibration: Calibration | None = None
    scalars: Mapping[str, float] = {}
    palette: str | None = None

    def __init__(self, look: Look) -> None:
        self._look = look

    def __call__(self, pair: FramePair) -> FusedFrame:
        image = self._look(pair)
        return FusedFrame(
            image=image,
            visible=image,
            thermal=image[:, :, 1],
            timestamp_ns=pair.timestamp_ns,
            thermal_timestamp_ns=pair.thermal.timestamp_ns,
            received_ns=pair.received_ns,
            sequence=pair.sequence,
            fuser=self.name,
        )

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        raise ConfigError("nothing can be changed while a calibration is being made")

    def close(self) -> None:
        pass


def run_over(
    *,
    visible: str,
    thermal: str,
    look: Callable[..., Look],
    live_sinks: tuple[str, ...] = (),
    live_pairs: int | None = None,
    thermal_delay_ms: float = 0.0,
    stop: threading.Event | None = None,
) -> None:
    """Show every pair of two sources to what ``look(visible=, thermal=)`` makes of their two descriptions (`StreamInfo`).

    ``live_sinks`` and ``live_pairs`` (how many at most) apply where a camera is among the sources.

    Raises:
        ConfigError: a URI or a sink is wrong.
        CaptureError: a source cannot be opened, or broke.
    """
    delay_ns = round(thermal_delay_ms * NS_PER_MS)
    with ExitStack() as opened:
        visible_source, thermal_source = open_pair(visible=visible, thermal=thermal)
        opened.callback(visible_source.close)
        opened.callback(thermal_source.close)
        infos = {Band.VISIBLE: visible_source.info, Band.THERMAL: thermal_source.info}
        live = any(info.live for info in infos.values())
        rates_hz = {band: info.rate_hz for band, info in infos.items()}
        context = SinkContext(rate_hz=min(rates_hz.values()), live=live, session=uuid.uuid4().hex)
        pipeline = Pipeline(
            visible=visible_source,
            thermal=thermal_source,
            pairer=Pairer(live=live, rate_hz=rates_hz, thermal_delay_ns=delay_ns),
            fuser=_Fuser(look(visible=visible_source.info, thermal=thermal_source.info)),
            sinks=open_sinks(live_sinks if live else (), context=context),
            telemetry=Telemetry(),
            thermal_delay_ns=delay_ns,
            max_frames=live_pairs if live else None,
        )
        opened.pop_all()
    pipeline.run(stop=stop)
