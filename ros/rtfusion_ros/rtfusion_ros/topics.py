"""Two topics as sources of rtfusion, and its frames back to messages. Nothing of ROS is imported.

Stamps of messages are of ROS's clock, which may be simulated; those of live sources are of the monotonic clock. One constant,
taken with the first message, leads from one to the other and back to the nanosecond, so that pairs are made by the stamps of the
headers and a fused image bears the stamp of its visible one.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from rtfusion import (
    Band,
    CaptureTimeout,
    ConfigError,
    EndOfStream,
    Frame,
    FusionError,
    PairStream,
    PixelFormat,
    Settings,
    StreamLost,
)
from rtfusion.capture.base import StreamInfo
from rtfusion.capture.watchdog import WatchedSource
from rtfusion.redaction import without_credentials
from rtfusion_ros.conversions import NS_PER_S, Picture, stamp_ns

WAITING = 4
"""Messages that wait to be read; of more, the oldest is dropped and counted."""
MEASURED = 8
"""Messages by whose stamps the rate of a topic is measured before fusing begins."""
MEASURED_S = 2.0
"""Longest time after the first message for that."""
POLL_S = 0.1
NO_STAMP = "messages without a stamp in their header are taken as of the moment of their arrival"


class RosTime:
    """Leads between the clock of ROS and the monotonic one, by one constant."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """``now_ns`` reads the clock of ROS."""
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._offset_ns: int | None = None

    def monotonic_ns(self, ros_ns: int) -> int:
        """The moment on the monotonic clock."""
        return ros_ns + self._offset()

    def ros_ns(self, monotonic_ns: int) -> int:
        """The moment on the clock of ROS: the stamp that came, to the nanosecond."""
        return monotonic_ns - self._offset()

    def _offset(self) -> int:
        with self._lock:
            if self._offset_ns is None:
                self._offset_ns = time.monotonic_ns() - self._now_ns()
            return self._offset_ns


class Topic:
    """The messages of one topic, in a bounded queue. `receive` is called by ROS's thread, the rest by a reader's."""

    def __init__(self, name: str, *, band: Band, read: Callable[..., Picture], ros_time: RosTime) -> None:
        """``read`` makes a picture of a message (`rtfusion_ros.conversions.read_image`)."""
        self.name = name
        self.band = band
        self.frame_id = ""
        """Of the newest message."""
        self.dropped: Counter[str] = Counter()
        """``queue_full``: nobody read in time; ``corrupt``: what could not be read."""
        self.notes: list[str] = []
        self._read = read
        self._ros_time = ros_time
        self._waiting: deque[tuple[Any, int]] = deque()
        self._condition = threading.Condition()
        self._sequence = 0

    def receive(self, message: Any) -> None:
        """Take a message; never waits."""
        with self._condition:
            if len(self._waiting) >= WAITING:
                self._waiting.popleft()
                self.dropped["queue_full"] += 1
            self._waiting.append((message, time.monotonic_ns()))
            self._condition.notify_all()

    def next(self, *, timeout_s: float) -> Frame | None:
        """The next frame; None where none came in time, or what came could not be read."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._waiting, timeout_s):
                return None
            message, arrived_ns = self._waiting.popleft()
        sequence, self._sequence = self._sequence, self._sequence + 1
        try:
            picture = self._read(message, band=self.band)
        except FusionError as error:
            self.dropped["corrupt"] += 1
            self._note(str(error))
            return None
        self._note(picture.note)
        self.frame_id = message.header.frame_id
        return Frame(
            image=picture.image,
            pixel_format=picture.pixel_format,
            band=self.band,
            timestamp_ns=self._stamp_ns(message, arrived_ns),
            sequence=sequence,
            received_ns=arrived_ns,
        )

    def forget(self) -> None:
        """Drop what came before fusing began, uncounted."""
        with self._condition:
            self._waiting.clear()
            self.dropped.clear()

    def wake(self) -> None:
        """Wake the reader, to let it see that it is to end."""
        with self._condition:
            self._condition.notify_all()

    def _stamp_ns(self, message: Any, arrived_ns: int) -> int:
        stamp = stamp_ns(message.header.stamp)
        if not stamp:
            self._note(NO_STAMP)
            return arrived_ns
        return self._ros_time.monotonic_ns(stamp)

    def _note(self, sentence: str | None) -> None:
        if sentence is not None and (told := f"{self.name}: {sentence}") not in self.notes:
            self.notes.append(told)


class TopicSource:
    """A topic as a live `rtfusion.capture.base.Source`. Made by `open_topic`."""

    def __init__(self, topic: Topic, info: StreamInfo) -> None:
        self.info = info
        self._topic = topic
        self._closed = threading.Event()

    @property
    def drops(self) -> dict[str, int]:
        """Messages that were not passed on, by cause."""
        return dict(self._topic.dropped)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the messages."""
        return tuple(self._topic.notes)

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame; see `rtfusion.capture.base.Source`."""
        deadline_s = time.monotonic() + timeout_s
        while not self._closed.is_set():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise CaptureTimeout(f"{self.info.uri}: no message within {timeout_s:g} s")
            frame = self._topic.next(timeout_s=min(left_s, POLL_S))
            if frame is None:
                continue
            if frame.pixel_format is not self.info.pixel_format:
                raise StreamLost(_other_format(self._topic, frame.pixel_format, self.info.pixel_format))
            return frame
        raise EndOfStream("the source was closed")

    def close(self) -> None:
        """Let go of the topic, from any thread. Idempotent."""
        self._closed.set()
        self._topic.wake()


def open_topic(topic: Topic, *, stop: threading.Event, first_timeout_s: float | None = None) -> TopicSource:
    """Wait for a topic's first messages, by which its size, format and rate are known.

    Raises:
        EndOfStream: ``stop`` was set meanwhile.
        StreamLost: nothing came within ``first_timeout_s``.
    """
    end_s = None if first_timeout_s is None else time.monotonic() + first_timeout_s
    stamps: list[int] = []
    while len(stamps) < MEASURED and (end_s is None or time.monotonic() < end_s):
        if stop.is_set():
            raise EndOfStream("asked to stop before a message came")
        frame = topic.next(timeout_s=POLL_S)
        if frame is None:
            continue
        if not stamps:
            first, end_s = frame, time.monotonic() + MEASURED_S
        stamps.append(frame.timestamp_ns)
    if not stamps:
        raise StreamLost(f"{topic.name}: no message within {first_timeout_s:g} s")
    info = StreamInfo.like(
        first,
        uri=f"ros:{topic.name}",
        rate_hz=_rate_hz(stamps),
        live=True,
        description=f"topic {topic.name}",
    )
    return TopicSource(topic, info)


def _rate_hz(stamps: list[int]) -> float:
    """Of the median period; what is too short to tell, or goes backwards, is taken as 30 Hz, from where the pairer adapts."""
    periods_ns = [after - before for before, after in itertools.pairwise(stamps) if after > before]
    return NS_PER_S / statistics.median(periods_ns) if periods_ns else 30.0


def open_topics(
    *, visible: Topic, thermal: Topic, settings: Settings, thermal_delay_ms: float, stop: threading.Event
) -> PairStream:
    """Both topics as one stream of pairs, as soon as both have sent; each is watched, and may come and go.

    Raises:
        EndOfStream: ``stop`` was set before both had sent.
    """
    sources = {topic.band: WatchedSource(_Opener(topic, stop=stop)) for topic in (visible, thermal)}
    for topic in (visible, thermal):
        topic.forget()
    return PairStream(
        visible=sources[Band.VISIBLE],
        thermal=sources[Band.THERMAL],
        pair=settings.pair,
        tolerance_ms=settings.tolerance_ms,
        thermal_delay_ms=thermal_delay_ms,
        on_loss=settings.on_loss,
        max_pairs=settings.max_frames,
        stop=stop,
    )


class _Opener:
    """Opens a topic again and again: at first it is waited for; when it was lost, a try at a time, and for the same pictures."""

    def __init__(self, topic: Topic, *, stop: threading.Event) -> None:
        self._topic = topic
        self._stop = stop
        self._first: StreamInfo | None = None

    def __call__(self) -> TopicSource:
        source = open_topic(self._topic, stop=self._stop, first_timeout_s=None if self._first is None else MEASURED_S)
        self._first = first = self._first or source.info
        if source.info.pixel_format is not first.pixel_format:
            raise StreamLost(_other_format(self._topic, source.info.pixel_format, first.pixel_format))
        return source


def _other_format(topic: Topic, now: PixelFormat, before: PixelFormat) -> str:
    return f"{topic.name}: {now.value} came after {before.value}; a topic keeps to one kind of picture"


def check_topics(settings: Settings) -> bool:
    """True where the pictures come from topics, False where the settings name both sources.

    Raises:
        ConfigError: only one of the two is named.
    """
    named = [name for name in ("ir", "vis") if getattr(settings, name) is not None]
    if len(named) == 1:
        shown = without_credentials(str(getattr(settings, named[0])))
        raise ConfigError(
            f"only {named[0]} is named ({shown}); name both sources, or none to subscribe to the two topics"
        )
    return not named
