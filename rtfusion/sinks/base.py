"""The interface of every sink: write, close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rtfusion.types import Band, FusedFrame

if TYPE_CHECKING:
    from rtfusion.fusion.base import Control
    from rtfusion.telemetry import Histogram


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkContext:
    """Facts of the run that a sink may need before its first frame."""

    rate_hz: float
    """Nominal frames per second of the run."""
    live: bool
    session: str
    """A random name of this run; subscribers see a restart by it."""
    overwrite: bool = False
    drops: Callable[[], Mapping[str, int]] | None = None
    """Frames lost so far in the run before the sinks, by cause, for sinks that tell their readers; called per frame."""
    control: Control | None = None
    """Lets a person change the run from a sink, by a slider or a key."""
    snapshot: Callable[[], Mapping[str, Any]] | None = None
    """Gives all measurements of the run (`rtfusion.telemetry.Telemetry.snapshot`); any thread may call it."""
    durations: Callable[[], Mapping[str, Mapping[str, Histogram]]] | None = None
    """Gives the histograms of the run (`rtfusion.telemetry.Telemetry.durations`); any thread may call it."""
    sizes_px: Mapping[Band, tuple[int, int]] = field(default_factory=dict)
    """(width, height) of the streams."""
    note: Callable[[str], None] | None = None
    """Keeps a sentence for the person who reads the table at the end."""
    publish_mask: bool = False
    """Subscribers get the map of people with every frame."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the run, JSON-able, for sinks that keep them."""
    streams: Mapping[Band, Mapping[str, Any]] = field(default_factory=dict)
    """Description of both streams, JSON-able."""


class Sink(Protocol):
    """One destination. All calls come from one thread of its own, made for it by the pipeline.

    A sink may also have ``drops`` (frames that it lost on purpose so far, by cause), and ``capacity_frames``: so many frames of
    cameras wait for it, where it is to get every one. ``lost`` is asked after ``close``: frames that it took and that went with
    a failure. ``keeps_all`` says that what it misses is missing for good, so that a person is told when it is too slow.
    """

    @property
    def uri(self) -> str:
        """The address as the user gave it; it names the sink in tables and messages."""
        ...

    def write(self, frame: FusedFrame) -> bool | None:
        """Take one frame. False says that it was left out, and counted in ``drops``: it is not written.

        Raises:
            SinkError: the destination broke.
            StopRequested: the user asked here to stop the run (a window was closed).
        """
        ...

    def close(self, *, aborted: bool) -> None:
        """Finish the output; with ``aborted`` an error ended the run and what is there so far is kept playable.

        Raises:
            SinkError: the output could not be finished.
        """
        ...


class StopRequested(Exception):  # noqa: N818 - a wish, not a failure
    """The user asked a sink to end the run."""


def socket_path(address: str) -> Path | None:
    """The file of a socket ``ipc://PATH``; None for an address that has none."""
    path = address.removeprefix("ipc://")
    return None if path in (address, "*") or path.startswith("@") else Path(path)
