"""Network streams that PyAV reads, as packets: RTSP, MPEG-TS over UDP, HTTP that is no JPEG."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from fractions import Fraction
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.container import video_stream
from rtfusion.capture.delivery import ASSUMED_RATE_HZ, Delivered
from rtfusion.capture.playback import pts_to_ns
from rtfusion.capture.stamps import PtsClock, ReportClock
from rtfusion.capture.uri import SourceUri
from rtfusion.clock import NS_PER_S, Clock
from rtfusion.errors import CaptureError, StreamLost

POLL_S = 0.25
"""Longest that a read of RTSP goes on before it is seen whether the source was closed."""
REPORTS_WITHIN_NS = 6 * NS_PER_S
"""A camera that sends reports does so every five seconds, as the standard has it."""
LATE = 0.8
"""What takes nearly the whole time to fail ran out of it."""
SILENT = "the camera answers, but sends no pictures: it is silent; check what it is set to, and restart it"

_COMMON = {"fflags": "nobuffer", "probesize": "500000", "analyzeduration": "1000000"}
_OPTIONS = {
    "rtsp": {"protocol_whitelist": "rtsp,rtp,tcp,udp,srtp,crypto,tls,rtsps"},
    "http": {"protocol_whitelist": "http,https,tcp,tls,crypto"},
    "udp": {"protocol_whitelist": "udp", "overrun_nonfatal": "1", "fifo_size": "50000"},
}
"""No stream may lead to a file of this machine, as a playlist could."""
_HELD_BACK = {"rtsp": (1, ("h264", "hevc", "mpeg4")), "mpegts": (2, ("h264", "hevc", "mpeg4", "mpeg2video"))}
"""How many packets of some codecs FFmpeg holds back: one is given out when so many more have begun to arrive. A parser needs the
beginning of the next one to know an end, and a transport stream without lengths has that twice."""
_MUTE = (
    "it takes the connection and is mute; check that this is the port of the camera's stream, and restart the camera"
)
_REASONS: dict[type[Exception], str] = {
    av.error.ExitError: "the camera does not answer in time; check its address and the network",
    av.error.HTTPUnauthorizedError: "the camera wants another name or password; give them as in rtsp://NAME:PASSWORD@HOST/PATH",
    av.error.HTTPForbiddenError: "the camera forbids this; check the name and the password",
    av.error.HTTPNotFoundError: "the camera knows no such path; look up the path of its stream",
    av.error.InvalidDataError: "what arrives is not a video stream",
}


def open_packets(
    uri: SourceUri,
    *,
    kind: str,
    transport: str,
    rule: str,
    open_timeout_s: float,
    read_timeout_s: float,
    clock: Clock,
) -> Packets:
    """Open a stream; ``kind`` is rtsp, udp or http, ``transport`` that of RTSP, ``rule`` one of `rtfusion.capture.stamps.CLOCKS`.

    Raises:
        CaptureError: nobody answers, the stream is refused, or it is none.
    """
    options = _COMMON | _OPTIONS[kind] | ({"rtsp_transport": transport} if kind == "rtsp" else {})
    timeout = (open_timeout_s, POLL_S if kind == "rtsp" else read_timeout_s)
    began_ns = clock.now_ns()
    try:
        container = av.open(uri.target, container_options=options, timeout=timeout, metadata_errors="replace")
    except av.error.ExitError as error:
        reason = SILENT if kind == "rtsp" and _answers(uri.target) else _why(error)
    except (av.FFmpegError, OSError, ValueError) as error:
        # FFmpeg says so of a silence too
        is_late = (
            isinstance(error, av.error.InvalidDataError)
            and clock.now_ns() - began_ns > LATE * open_timeout_s * NS_PER_S
        )
        reason = _MUTE if is_late else _why(error)
    else:
        try:
            return Packets(container, uri=uri.text, kind=kind, rule=rule, read_timeout_s=read_timeout_s, clock=clock)
        except BaseException:
            container.close()
            raise
    # outside of the handler, so that no error that quotes the address hangs on to ours
    raise CaptureError(f"{uri.text}: {reason}")


def _answers(address: str) -> bool:
    """True when somebody listens there."""
    parts = urlsplit(address)
    with contextlib.suppress(OSError, ValueError):
        socket.create_connection((parts.hostname or "", parts.port or 554), timeout=1.0).close()
        return True
    return False


class Packets:
    """A `rtfusion.capture.delivery.Delivery` of packets."""

    def __init__(
        self, container: InputContainer, *, uri: str, kind: str, rule: str, read_timeout_s: float, clock: Clock
    ) -> None:
        """Take an open container; raises CaptureError for one without a video stream, or that ends."""
        self._uri, self._kind, self._read_timeout_s, self._clock = uri, kind, read_timeout_s, clock
        self._container = container
        if kind == "http" and container.duration:
            raise CaptureError(
                f"{uri}: a recording of {container.duration / av.time_base:.0f} s, not a live stream; "
                "download it and give the path of the file"
            )
        self._stream = video_stream(container, uri)
        codec = self._stream.codec_context
        codec.thread_count = 1  # more threads would each hold a frame back
        self.is_jpeg = codec.name == "mjpeg"
        self.stamps = PtsClock(trust_pts=True)
        self._reports = ReportClock(rule, clock=clock)
        self.rate_hz = float(self._stream.average_rate or ASSUMED_RATE_HZ)
        self.rate_is_told = bool(self._stream.average_rate)
        self.description = f"{codec.name} {codec.pix_fmt} over {kind}"
        layout = "mpegts" if container.format.name == "mpegts" else kind
        held, codecs = _HELD_BACK.get(layout, (0, ()))
        held = held if codec.name in codecs else 0
        self._began_ns: deque[int] = deque(maxlen=held + 1)
        self._heard_ns = self._opened_ns = clock.now_ns()
        self._closed = threading.Event()
        self.notes: tuple[str, ...] = ()
        """Sentences for the user."""
        self._told: tuple[bool | None] | None = None
        self._told_reordering = False

    def _note_clock(self, *, at_last: bool = False) -> None:
        """Say which clock the stream has, when that is known, and again when it changes."""
        reports, is_used = self._reports, self._reports.is_used
        is_decided = is_used is not None or at_last or self._clock.now_ns() - self._opened_ns > REPORTS_WITHIN_NS
        if not is_decided or self._told == (is_used,):
            return
        self._told = (is_used,)
        if is_used:
            self._note("stamped by the camera's own clock, which its reports (RTCP) give; #clock=arrival is without it")
        elif is_used is None:
            self._note(
                "stamped by when it arrives: what the camera takes to encode and to send cannot be known from here; "
                "`rtfusion calibrate delay` measures it"
            )
        else:
            self._note(
                f"the camera's own clock is {-reports.age_ns / NS_PER_S:+.2f} s off this machine's, so it is stamped by when it "
                "arrives; set both by NTP, or take it as it is by #clock=reports for both cameras"
            )

    def _note_reordering(self) -> None:
        """Say that pictures come late by what they are sent in."""
        if self._stream.codec_context.has_b_frames and not self._told_reordering:
            self._told_reordering = True
            self._note(
                "its encoder sends frames out of order (B-frames), so that a picture can be shown only some frames after it was "
                "captured; without B-frames, a setting of the camera, it comes sooner. Stamps are within a frame"
            )

    def _note(self, text: str) -> None:
        self.notes += (f"{self._uri}: {text}",)

    def read(self) -> Delivered | None:
        """The next packet, None after a moment without; raises StreamLost."""
        packet = self._next()
        if packet is None:
            return None
        arrived_ns = self._clock.now_ns()
        self._began_ns.append(arrived_ns)
        if packet.pts is not None and len(self._began_ns) == self._began_ns.maxlen:
            # what gave out the packet so many before this one was the beginning of this one
            self.stamps.observe(self._ns(packet.pts, packet.time_base), arrived_ns=self._began_ns[0])
        return Delivered(packet, arrived_ns)

    def _next(self) -> Packet[VideoStream] | None:
        reason = "the camera ended the stream"
        try:
            packet = next(self._container.demux(self._stream), None)
            if packet is not None and packet.size:
                self._heard_ns = self._clock.now_ns()
                return packet
        except av.error.ExitError as error:
            silent_s = (self._clock.now_ns() - self._heard_ns) / NS_PER_S
            if self._closed.is_set() or (self._kind == "rtsp" and silent_s < self._read_timeout_s):
                return None
            reason = f"the stream broke: {_why(error)}"
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = f"the stream broke: {_why(error)}"
        raise StreamLost(f"{self._uri}: {reason}")

    def captured(self, pts: int | None, time_base: Fraction | None) -> tuple[int | None, int | None]:
        """(the presentation time, the time of capture where reports tell it) of a decoded frame."""
        if pts is None:
            return None, None
        pts_ns = self._ns(pts, time_base)
        unix_us = self._container.start_time_realtime if self._kind == "rtsp" else None
        zero_ns = None if unix_us is None else unix_us * 1000
        captured_ns = self._reports.captured_ns(zero_ns, pts_ns, delay_ns=self.stamps.delay_ns)
        self._note_clock()
        self._note_reordering()
        return pts_ns, captured_ns

    def _ns(self, pts: int, time_base: Fraction | None) -> int:
        return pts_to_ns(pts, time_base or self._stream.time_base or Fraction(1, av.time_base))

    def close(self) -> None:
        """End reading, from any thread."""
        self._closed.set()

    def release(self) -> None:
        """Give the connection back."""
        self._note_clock(at_last=True)
        self._container.close()


def _why(error: Exception) -> str:
    """Explain an error in words that hold no address."""
    unknown = (
        f"{getattr(error, 'strerror', None) or type(error).__name__}; check the address, and that the camera is on"
    )
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), unknown)
