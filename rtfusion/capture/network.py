"""Network cameras: packets by `rtfusion.capture.packets`, JPEG images over HTTP by `rtfusion.capture.http_camera`.

A thread of its own reads and decodes. A read of RTSP is interrupted again and again, one of HTTP ends with its connection:
`NetworkSource.close` waits for the thread, and so does the end of the process.

Frames are stamped with CLOCK_MONOTONIC. Where the stream carries presentation times (RTSP, MPEG-TS), those place the frames, and
the quickest delivery of the last seconds ties them to the clock, by the first data of each packet: neither the jitter of the
network, nor a parser that gives a frame out when the next one begins, nor an encoder that sends frames out of order is in the
stamps. What the camera always takes to encode and to send is; `rtfusion calibrate delay` measures it. It is not where the camera
reports (RTCP) when its frames were captured, by a clock that is ours. JPEG images over HTTP carry no times: each is stamped when
its first byte arrives.

An address may hold a name and a password. Nothing here puts it into a message: errors of PyAV, which quote it, are not
passed on.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import av
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.buffers import JpegDecoder, JpegRules, jpeg_image
from rtfusion.capture.delivery import ASSUMED_RATE_HZ, Delivered, Delivery
from rtfusion.capture.http_camera import HttpCamera
from rtfusion.capture.packets import SILENT, open_packets
from rtfusion.capture.palette import AUTO, ThermalColors, looks_like, palette_name
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.stamps import CLOCKS, PtsClock
from rtfusion.capture.uri import SourceUri, rate_hz, read_query
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream, StreamLost
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.types import Band, Frame

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
"""Longer than the watchdog waits for a camera of a usual rate, so that it is the one that says what is wrong."""
CLOSE_S = 0.6
"""Longest that `NetworkSource.close` waits for its thread; a silent stream by UDP is left to end by its time-out."""
FRAMES_WAITING = 2
READY_NS = 2 * NS_PER_MS
"""A packet that takes less than this to come was waiting in the buffers of the system."""
BEHIND_PACKETS = 6
"""So many packets in a row that were waiting mean that reading is behind the stream: they are of the past."""


def open_network(
    uri: SourceUri, *, band: Band, clock: Clock = MONOTONIC, jpeg: JpegRules | None = None
) -> NetworkSource:
    """Open a network camera.

    After the ``#``, ``transport=udp`` asks RTSP for UDP instead of TCP, ``clock`` says what ties its times to ours (`CLOCKS`),
    ``palette`` names the palette of thermal pictures, and ``poll_hz`` how often a snapshot is fetched. ``jpeg`` is what is known
    of the camera's JPEG images from before.

    Raises:
        ConfigError: a parameter after the # is wrong.
        CaptureError: nobody answers, the stream is refused, or nothing in it can be decoded.
    """
    kind = uri.target.partition(":")[0].lower()
    kind = {"rtsps": "rtsp", "https": "http"}.get(kind, kind)
    if kind == "http":
        uri = _with_poll_of_query(uri)
    takes: dict[str, dict[str, Callable[[str], object]]] = {
        "rtsp": {"transport": _transport, "clock": _clock},
        "http": {"poll_hz": rate_hz},
    }
    asked = read_query(uri, takes.get(kind, {}) | {"palette": palette_name})
    jpeg = JpegRules() if jpeg is None else jpeg
    delivery: Delivery
    if kind == "http" and (camera := _open_http(uri, asked.get("poll_hz"), clock)) is not None:
        delivery = _Images(camera, uri=uri.text, asked_poll="poll_hz" in asked)
    else:
        delivery = open_packets(
            uri,
            kind=kind,
            transport=asked.get("transport", "tcp"),
            rule=asked.get("clock", "auto"),
            open_timeout_s=OPEN_TIMEOUT_S,
            read_timeout_s=READ_TIMEOUT_S,
            clock=clock,
        )
    try:
        palette = asked.get("palette", AUTO)
        return NetworkSource(delivery, uri=uri.text, kind=kind, band=band, palette=palette, clock=clock, jpeg=jpeg)
    except BaseException:
        delivery.close()
        delivery.release()
        raise


def camera_opener(uri: SourceUri, *, band: Band, clock: Clock) -> Callable[[], NetworkSource]:
    """Make a function that opens a network camera."""
    jpeg = JpegRules()
    return lambda: open_network(uri, band=band, clock=clock, jpeg=jpeg)


def _open_http(uri: SourceUri, poll_hz: float | None, clock: Clock) -> HttpCamera | None:
    """The camera at an address of HTTP; None where something else than JPEG images comes, which is for PyAV."""
    camera = HttpCamera(
        uri.target,
        shown=uri.text,
        poll_hz=poll_hz,
        open_timeout_s=OPEN_TIMEOUT_S,
        read_timeout_s=READ_TIMEOUT_S,
        clock=clock,
    )
    if camera.is_stream or camera.is_snapshot:
        return camera
    camera.release()
    return None


def _with_poll_of_query(uri: SourceUri) -> SourceUri:
    """The address without ``poll_hz`` in its query, which no camera knows: written there it is meant for us."""
    parts = urlsplit(uri.target)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    ours = {key: value for key, value in pairs if key == "poll_hz"}
    if not ours:
        return uri
    query = urlencode([(key, value) for key, value in pairs if key != "poll_hz"])
    return replace(uri, target=urlunsplit(parts._replace(query=query)), query={**ours, **uri.query})


class _Images:
    """JPEG images over HTTP."""

    is_jpeg = True

    def __init__(self, camera: HttpCamera, *, uri: str, asked_poll: bool) -> None:
        self._camera, self._uri, self._asked_poll = camera, uri, asked_poll
        self.stamps = PtsClock(trust_pts=False)
        self.rate_hz = camera.poll_hz or ASSUMED_RATE_HZ
        self.rate_is_told = camera.poll_hz is not None
        self.description = "snapshots over http" if camera.is_snapshot else "mjpeg over http"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._camera.is_snapshot:
            return (f"{self._uri}: a stream, so poll_hz means nothing to it",) if self._asked_poll else ()
        return (f"{self._uri}: a snapshot: it is fetched {self.rate_hz:g} times a second (#poll_hz=)",)

    def read(self) -> Delivered:
        return self._camera.read()

    def captured(self, pts: int | None, time_base: Fraction | None) -> tuple[int | None, int | None]:
        return None, None

    def close(self) -> None:
        self._camera.close()

    def release(self) -> None:
        self._camera.release()


class NetworkSource:
    """One stream, read by a thread of its own. Its frames are numbered here."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        uri: str,
        kind: str,
        band: Band,
        palette: str = AUTO,
        clock: Clock = MONOTONIC,
        jpeg: JpegRules | None = None,
    ) -> None:
        """Take an open delivery, which is the source's from then on, and wait for its first frame."""
        self._uri = uri
        self._band = band
        self._clock = clock
        self._delivery = delivery
        self._jpeg = JpegDecoder(jpeg) if delivery.is_jpeg else None
        self._colors = ThermalColors(palette, mark="#")
        self._convert = PixelConverter(band, colors=self._colors)
        self._sequence = 0
        self._corrupt = self._behind = self._duplicate = self._waiting = self._unread = 0
        self._heard = False
        self._started = False
        self._mailbox: Mailbox[Frame] = Mailbox(capacity=FRAMES_WAITING, policy=Policy.LATEST)
        self._thread = threading.Thread(target=self._run, name=f"network-{band.value}", daemon=True)
        first = self._first_frame()
        self.info = StreamInfo.like(
            first,
            uri=uri,
            rate_hz=delivery.rate_hz,
            rate_is_told=delivery.rate_is_told,
            looks_like=looks_like(first, self._colors),
            live=True,
            description=f"{delivery.description}, stamped {delivery.stamps.description}",
        )
        _RUNNING.add(self)
        self._thread.start()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about this camera."""
        lenient = None if self._jpeg is None else self._jpeg.note
        own = (f"{self._uri}: {note}" for note in (lenient, self._colors.note) if note)
        return (*self._delivery.notes, *own)

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost, by cause.

        ``corrupt``: packets and frames that could not be decoded. ``behind``: passed over to catch up with the stream.
        ``duplicate``: a snapshot that was fetched before. ``network_queue``: nobody fetched them in time. What came before the
        first was asked for is no loss.
        """
        waited = self._mailbox.dropped - self._unread if self._started else 0
        lost = {"corrupt": self._corrupt, "behind": self._behind, "duplicate": self._duplicate}
        return {**lost, "network_queue": waited}

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`; the stream is lost when nothing was received for `READ_TIMEOUT_S`, too."""
        try:
            if not self._started:
                self._start()
            frame = self._mailbox.get(timeout_s=timeout_s)
        except Closed:
            raise EndOfStream("the source was closed") from None
        if frame is None:
            raise CaptureTimeout(f"{self._uri}: no frame within {timeout_s:g} s")
        return frame

    def _start(self) -> None:
        """Leave out what came before anybody asked, but for the last frame."""
        while len(self._mailbox) > 1:
            self._mailbox.get(timeout_s=0.0)
        self._unread = self._mailbox.dropped
        self._started = True

    def close(self) -> None:
        """Let go of the stream, from any thread, and wait for the one that reads. Idempotent."""
        self._mailbox.close()
        self._delivery.close()
        self._join(CLOSE_S)

    def _join(self, timeout_s: float) -> None:
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while True:
                if (frame := self._next_frame()) is not None:
                    self._mailbox.put(frame)
                elif self._mailbox.closed:
                    return
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the reader, who raises it
            self._mailbox.fail(error)
        finally:
            self._delivery.release()

    def _first_frame(self) -> Frame:
        deadline_ns = self._clock.now_ns() + round(OPEN_TIMEOUT_S * NS_PER_S)
        try:
            while self._clock.now_ns() < deadline_ns:
                if (frame := self._next_frame()) is not None:
                    return frame
        except StreamLost as error:
            raise CaptureError(str(error)) from None
        nothing = f"not one frame could be decoded within {OPEN_TIMEOUT_S:g} s; check the camera"
        raise CaptureError(f"{self._uri}: {nothing if self._heard else SILENT}")

    def _next_frame(self) -> Frame | None:
        """The frame of the next packet, or None when it has none of use.

        What waits in the buffers of the system gets older and older when reading is slower than the stream. So when much is
        waiting, frames are passed over until none is; where each frame builds on the one before they are decoded all the same.
        """
        asked_ns = self._clock.now_ns()
        delivered = self._delivery.read()
        if delivered is None:
            return None
        self._heard = True
        self._behind += delivered.passed_over
        self._sequence += delivered.passed_over
        if delivered.is_repeated:
            self._duplicate += 1
            self._sequence += 1
            return None
        is_waiting = delivered.arrived_ns - asked_ns < READY_NS and isinstance(delivered.data, Packet)
        self._waiting = self._waiting + 1 if is_waiting else 0
        is_behind = self._waiting >= BEHIND_PACKETS
        try:
            decoded = None if is_behind and self._jpeg is not None else self._decoded(delivered.data)
            if is_behind:
                self._behind += 1
                self._sequence += 1
                return None
            if decoded is None:
                return None
            if self._jpeg is not None:
                image, pixel_format = jpeg_image(decoded, convert=self._convert, band=self._band)
            else:
                image, pixel_format = self._convert(decoded)
        except (av.FFmpegError, OSError, ValueError):
            self._corrupt += 1
            self._sequence += 1
            return None
        pts_ns, captured_ns = self._delivery.captured(decoded.pts, decoded.time_base)
        arrived_ns = delivered.arrived_ns
        frame = Frame(
            image=image,
            pixel_format=pixel_format,
            band=self._band,
            timestamp_ns=self._delivery.stamps.stamp(pts_ns, arrived_ns=arrived_ns, captured_ns=captured_ns),
            sequence=self._sequence,
            received_ns=arrived_ns,
        )
        self._sequence += 1
        return frame

    def _decoded(self, data: Packet[VideoStream] | bytes) -> av.VideoFrame | None:
        """The newest frame of a packet, None when it completes none; damage is an error."""
        if not isinstance(data, Packet):
            return None if self._jpeg is None else self._jpeg(data)
        if data.is_corrupt:
            raise ValueError("the packet is damaged")
        if self._jpeg is not None:
            frame = self._jpeg(bytes(data))
            frame.pts, frame.time_base = data.pts, data.time_base
            return frame
        frames = data.decode()
        if frames and frames[-1].is_corrupt:
            raise ValueError("the frame is damaged")
        return frames[-1] if frames else None


_RUNNING: weakref.WeakSet[NetworkSource] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End every thread that reads before the interpreter ends: none may come back from a network to one that is gone."""
    running = list(_RUNNING)
    for source in running:
        source.close()
    for source in running:
        source._join(READ_TIMEOUT_S + 1.0)  # noqa: SLF001 - same module


def _transport(text: str) -> str:
    if text not in ("tcp", "udp"):
        raise ValueError("expected tcp or udp")
    return text


def _clock(text: str) -> str:
    if text not in CLOCKS:
        raise ValueError(f"expected one of {', '.join(CLOCKS)}")
    return text
