"""Network cameras: RTSP, MJPEG over HTTP, MPEG-TS over UDP, through PyAV.

A thread of its own reads and decodes, because a read of a network can be interrupted by nothing but its time-out; it ends
within `READ_TIMEOUT_S` of `NetworkSource.close`.

Frames are stamped with CLOCK_MONOTONIC. Where the stream carries presentation times (RTSP, MPEG-TS), those place the
frames, and the quickest delivery of the last seconds ties them to the clock: what the network adds on top of that is
taken off. What it always takes cannot be known here; `--thermal-delay-ms` is for that. MJPEG carries no times: there a
frame is stamped when it arrives.

An address may hold a name and a password. Nothing here puts it into a message: errors of PyAV, which quote it, are not
passed on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.buffers import JpegDecoder
from rtfusion.capture.container import video_stream
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.playback import pts_to_ns
from rtfusion.capture.uri import SourceUri, read_query
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream, StreamLost
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.types import Band, Frame

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
"""Longer than the watchdog waits for a camera of a usual rate, so that it is the one that says what is wrong."""
ASSUMED_RATE_HZ = 25.0
FRAMES_WAITING = 2
READY_NS = 2 * NS_PER_MS
"""A packet that takes less than this to come was waiting in the buffers of the system."""
BEHIND_PACKETS = 6
"""So many packets in a row that were waiting mean that reading is behind the stream: they are of the past."""

_COMMON = {"fflags": "nobuffer", "probesize": "500000", "analyzeduration": "1000000"}
_OPTIONS = {
    "rtsp": {"protocol_whitelist": "rtsp,rtp,tcp,udp,srtp,crypto,tls,rtsps"},
    "http": {"protocol_whitelist": "http,https,tcp,tls,crypto"},
    "udp": {"protocol_whitelist": "udp", "overrun_nonfatal": "1", "fifo_size": "50000"},
}
"""No stream may lead to a file of this machine, as a playlist could."""
_REASONS: dict[type[Exception], str] = {
    av.error.ExitError: "the camera does not answer in time; check its address and the network",
    av.error.HTTPUnauthorizedError: "the camera wants another name or password; give them as in rtsp://NAME:PASSWORD@HOST/PATH",
    av.error.HTTPForbiddenError: "the camera forbids this; check the name and the password",
    av.error.HTTPNotFoundError: "the camera knows no such path; look up the path of its stream",
    av.error.InvalidDataError: "what arrives is not a video stream",
}


def open_network(uri: SourceUri, *, band: Band, clock: Clock = MONOTONIC) -> NetworkSource:
    """Open a network camera; ``#transport=udp`` asks RTSP for UDP instead of TCP.

    Raises:
        ConfigError: a parameter after the # is wrong.
        CaptureError: nobody answers, the stream is refused, or nothing in it can be decoded.
    """
    kind = uri.target.partition(":")[0].lower()
    kind = {"rtsps": "rtsp", "https": "http"}.get(kind, kind)
    asked = read_query(uri, {"transport": _transport} if kind == "rtsp" else {})
    options = _COMMON | _OPTIONS[kind]
    if kind == "rtsp":
        options["rtsp_transport"] = asked.get("transport", "tcp")
    container = _open(uri, options)
    try:
        return NetworkSource(container, uri=uri.text, kind=kind, band=band, clock=clock)
    except BaseException:
        container.close()
        raise


def _open(uri: SourceUri, options: dict[str, str]) -> InputContainer:
    timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        return av.open(uri.target, container_options=options, timeout=timeout, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = _why(error)
    # outside of the handler, so that no error that quotes the address hangs on to ours
    raise CaptureError(f"{uri.text}: {reason}")


def camera_opener(uri: SourceUri, *, band: Band, clock: Clock) -> Callable[[], NetworkSource]:
    """Make a function that opens a network camera."""
    return lambda: open_network(uri, band=band, clock=clock)


class NetworkSource:
    """One stream, read by a thread of its own. Its frames are numbered here."""

    def __init__(self, container: InputContainer, *, uri: str, kind: str, band: Band, clock: Clock = MONOTONIC) -> None:
        """Take an open container, which is the source's from then on, and wait for its first frame."""
        self._uri = uri
        self._band = band
        self._clock = clock
        self._container = container
        if kind == "http" and container.duration:
            raise CaptureError(
                f"{uri}: a recording of {container.duration / av.time_base:.0f} s, not a live stream; "
                "download it and give the path of the file"
            )
        self._stream = video_stream(container, uri)
        codec = self._stream.codec_context
        codec.thread_count = 1  # more threads would each hold a frame back
        self._jpeg = JpegDecoder() if codec.name == "mjpeg" else None
        self._convert = PixelConverter(band)
        self._stamps = PtsClock(trust_pts=container.format.name != "mpjpeg")
        self._sequence = 0
        self._corrupt = self._behind = self._waiting = 0
        self.notes: tuple[str, ...] = ()
        self._mailbox: Mailbox[Frame] = Mailbox(capacity=FRAMES_WAITING, policy=Policy.LATEST)
        self._thread = threading.Thread(target=self._run, name=f"network-{band.value}", daemon=True)
        self.info = StreamInfo.like(
            self._first_frame(),
            uri=uri,
            rate_hz=float(self._stream.average_rate or ASSUMED_RATE_HZ),
            live=True,
            description=f"{codec.name} {codec.pix_fmt} over {kind}, stamped {self._stamps.description}",
        )
        self._thread.start()

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost, by cause.

        ``corrupt``: packets and frames that could not be decoded. ``behind``: passed over to catch up with the stream.
        ``network_queue``: nobody fetched them in time.
        """
        return {"corrupt": self._corrupt, "behind": self._behind, "network_queue": self._mailbox.dropped}

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`; the stream is lost when nothing was received for `READ_TIMEOUT_S`, too."""
        try:
            frame = self._mailbox.get(timeout_s=timeout_s)
        except Closed:
            raise EndOfStream("the source was closed") from None
        if frame is None:
            raise CaptureTimeout(f"{self._uri}: no frame within {timeout_s:g} s")
        return frame

    def close(self) -> None:
        """Let go of the stream, from any thread; its own thread ends by itself. Idempotent."""
        self._mailbox.close()

    def _run(self) -> None:
        try:
            while True:
                if (frame := self._next_frame()) is not None:
                    self._mailbox.put(frame)
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the reader, who raises it
            self._mailbox.fail(error)
        finally:
            self._container.close()

    def _first_frame(self) -> Frame:
        deadline_ns = self._clock.now_ns() + round(OPEN_TIMEOUT_S * NS_PER_S)
        try:
            while self._clock.now_ns() < deadline_ns:
                if (frame := self._next_frame()) is not None:
                    return frame
        except StreamLost as error:
            raise CaptureError(str(error)) from None
        raise CaptureError(f"{self._uri}: not one frame could be decoded within {OPEN_TIMEOUT_S:g} s; check the camera")

    def _next_frame(self) -> Frame | None:
        """The frame of the next packet, or None when it has none of use.

        What waits in the buffers of the system gets older and older when reading is slower than the stream. So when much is
        waiting, frames are passed over until none is; where each frame builds on the one before they are decoded all the same.
        """
        asked_ns = self._clock.now_ns()
        packet = self._next_packet()
        arrived_ns = self._clock.now_ns()
        self._waiting = self._waiting + 1 if arrived_ns - asked_ns < READY_NS else 0
        is_behind = self._waiting >= BEHIND_PACKETS
        try:
            decoded = None if is_behind and self._jpeg is not None else self._decoded(packet)
            if is_behind:
                self._behind += 1
                self._sequence += 1
                return None
            if decoded is None:
                return None
            image, pixel_format = self._convert(decoded)
        except (av.FFmpegError, OSError, ValueError):
            self._corrupt += 1
            self._sequence += 1
            return None
        time_base = decoded.time_base or self._stream.time_base or Fraction(1, av.time_base)
        pts_ns = None if decoded.pts is None else pts_to_ns(decoded.pts, time_base)
        frame = Frame(
            image=image,
            pixel_format=pixel_format,
            band=self._band,
            timestamp_ns=self._stamps.stamp(pts_ns, arrived_ns=arrived_ns),
            sequence=self._sequence,
            received_ns=arrived_ns,
        )
        self._sequence += 1
        return frame

    def _decoded(self, packet: Packet[VideoStream]) -> av.VideoFrame | None:
        """The newest frame of a packet, None when it completes none; damage is an error."""
        if packet.is_corrupt:
            raise ValueError("the packet is damaged")
        if self._jpeg is not None:
            return self._jpeg(bytes(packet))
        frames = packet.decode()
        if frames and frames[-1].is_corrupt:
            raise ValueError("the frame is damaged")
        return frames[-1] if frames else None

    def _next_packet(self) -> Packet[VideoStream]:
        reason = "the camera ended the stream"
        try:
            packet = next(self._container.demux(self._stream), None)
            if packet is not None and packet.size:
                return packet
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = f"the stream broke: {_why(error)}"
        raise StreamLost(f"{self._uri}: {reason}")


class PtsClock:
    """Presentation times on CLOCK_MONOTONIC: pts + the smallest (arrival - pts) of the last seconds, never after the arrival.

    A presentation time that jumps (the camera started anew) begins a new window. Stamps always increase.
    """

    WINDOW_NS = 10 * NS_PER_S
    JUMP_NS = NS_PER_S

    def __init__(self, *, trust_pts: bool) -> None:
        self._trust_pts = trust_pts
        self.description = "by its presentation times" if trust_pts else "on arrival"
        self._delays: deque[tuple[int, int]] = deque()
        """(arrival, arrival - pts), the second rising: the first entry is the smallest of the window."""
        self._last_ns = 0

    def stamp(self, pts_ns: int | None, *, arrived_ns: int) -> int:
        """Return the stamp of the next frame."""
        stamp_ns = arrived_ns
        if self._trust_pts and pts_ns is not None:
            delay_ns = arrived_ns - pts_ns
            if self._delays and abs(delay_ns - self._delays[0][1]) > self.JUMP_NS:
                self._delays.clear()
            while self._delays and self._delays[-1][1] >= delay_ns:
                self._delays.pop()
            self._delays.append((arrived_ns, delay_ns))
            while arrived_ns - self._delays[0][0] > self.WINDOW_NS:
                self._delays.popleft()
            stamp_ns = min(arrived_ns, pts_ns + self._delays[0][1])
        self._last_ns = max(stamp_ns, self._last_ns + 1)
        return self._last_ns


def _why(error: Exception) -> str:
    """Explain an error in words that hold no address."""
    unknown = (
        f"{getattr(error, 'strerror', None) or type(error).__name__}; check the address, and that the camera is on"
    )
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), unknown)


def _transport(text: str) -> str:
    if text not in ("tcp", "udp"):
        raise ValueError("expected tcp or udp")
    return text
