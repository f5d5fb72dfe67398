"""The policy for the time in which one of the two cameras is lost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.watchdog import watched_sources
from rtfusion.types import Band, Degraded, Frame, FramePair

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
    ends the run. While both are lost nothing is shown, and the run waits. Pure but for looking at the sources.
    """

    def __init__(self, policy: str, sources: Mapping[Band, Source]) -> None:
        self._policy = policy
        self._sources = sources
        self._last: dict[Band, Frame] = {}
        self._alone: Band | None = None
        self.any_lost = False
        """At least one camera is lost."""

    def refresh(self) -> None:
        """See how the cameras are.

        Raises:
            StreamLost: one is lost and the policy is to stop.
        """
        watched = watched_sources(self._sources)
        losses = {band: source.loss for band, source in watched.items() if source.loss is not None}
        if losses and self._policy == "stop":
            raise next(iter(losses.values()))
        self.any_lost = bool(losses)
        self._alone = next(iter(losses)).other if len(losses) == 1 else None

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
            degraded=_DEGRADED[self._policy, lost],
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
