"""The policy for the time in which one of the two cameras is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.watchdog import Outage, WatchedSource, watched_sources
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.types import Band, Degraded, Frame, FramePair

_log = logging.getLogger(__name__)

POLICIES = ("passthrough", "hold", "stop")
_DEGRADED = {
    ("passthrough", Band.VISIBLE): Degraded.NO_VISIBLE,
    ("passthrough", Band.THERMAL): Degraded.NO_THERMAL,
    ("hold", Band.VISIBLE): Degraded.HELD_VISIBLE,
    ("hold", Band.THERMAL): Degraded.HELD_THERMAL,
}


class LossPolicy:
    """Decides what becomes of the frames of one camera while the other one is lost.

    ``passthrough`` shows the camera that is left alone, ``hold`` fuses it with the last frame of the lost one, ``stop``
    ends the run. While both are lost nothing is shown, and the run waits. Every loss is logged as it begins and as it ends: which
    camera, since when, why, and what is shown meanwhile.
    """

    def __init__(self, policy: str, sources: Mapping[Band, Source], *, clock: Clock = MONOTONIC) -> None:
        self._policy = policy
        self._sources = sources
        self._clock = clock
        self._told: dict[Band, Outage] = {}
        self._open: set[Band] = set()
        self._last: dict[Band, Frame] = {}
        self._alone: Band | None = None
        self.any_lost = False
        """At least one camera is lost."""

    @property
    def shown(self) -> str | None:
        """What is shown while a camera is lost, in words; None while both deliver."""
        if not self.any_lost:
            return None
        if self._alone is None:
            return "nothing is shown"
        if self._policy == "hold":
            return f"{self._alone.value} with the last {self._alone.other.value} picture"
        return f"{self._alone.value} alone"

    def refresh(self) -> None:
        """See how the cameras are.

        Raises:
            StreamLost: one is lost and the policy is to stop; of one that may still come back by itself this is not yet said.
        """
        watched = watched_sources(self._sources)
        losses = {band: source for band, source in watched.items() if source.loss is not None}
        self.any_lost = bool(losses)
        self._alone = next(iter(losses)).other if len(losses) == 1 else None
        for band, source in watched.items():
            self._tell(band, source)
        given_up = [source.loss for source in losses.values() if source.is_closed and source.loss is not None]
        if given_up and self._policy == "stop":
            raise given_up[0]

    def _tell(self, band: Band, source: WatchedSource) -> None:
        """Log what became of a camera since it was looked at last."""
        outage, told = source.outage, self._told.get(band)
        if outage is None:
            return
        if outage is not told:
            self._tell_back(band, self._clock.now_ns())
            self._told[band] = outage
            self._open.add(band)
            ago = timedelta(microseconds=(self._clock.now_ns() - outage.since_ns) // 1000)
            since = (datetime.now().astimezone() - ago).strftime("%H:%M:%S")
            shown = self.shown or "both are shown again"
            if self._policy == "stop":
                shown = "the run ends" if source.is_closed else f"{shown}, and the run ends if it does not come back"
            _log.warning("the %s camera is lost since %s (%s): %s; %s",
                         band.value, since, outage.cause, outage.error, shown)  # fmt: skip
        if outage.until_ns is not None:
            self._tell_back(band, outage.until_ns)

    def _tell_back(self, band: Band, until_ns: int) -> None:
        if band in self._open:
            self._open.remove(band)
            seconds = (until_ns - self._told[band].since_ns) / NS_PER_S
            _log.info("the %s camera is back, after %.1f s", band.value, seconds)

    def is_alone(self, frame: Frame) -> bool:
        """Remember a frame; True while the other camera is lost, so that the frame makes a pair by itself (`pair`)."""
        self._last[frame.band] = frame
        return frame.band is self._alone

    def pair(self, frame: Frame, *, sequence: int) -> FramePair:
        """The pair of a frame that is alone with what stands in for the lost camera."""
        lost = frame.band.other
        both = {frame.band: frame, lost: self._last.get(lost) or _blank(self._sources[lost].info, frame)}
        return FramePair(
            visible=both[Band.VISIBLE],
            thermal=both[Band.THERMAL],
            sequence=sequence,
            degraded=_DEGRADED["hold" if self._policy == "hold" else "passthrough", lost],
        )


def _blank(info: StreamInfo, beside: Frame) -> Frame:
    """A black frame of a camera that never gave one."""
    channels = (info.pixel_format.channels,) if info.pixel_format.channels > 1 else ()
    return Frame(
        image=np.zeros((info.height_px, info.width_px, *channels), info.pixel_format.dtype),
        pixel_format=info.pixel_format,
        band=info.band,
        timestamp_ns=beside.timestamp_ns,
        sequence=0,
        received_ns=beside.received_ns,
    )
