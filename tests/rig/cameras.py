"""Cameras without hardware, for tests and fault runs: a V4L2 driver in memory, and an MJPEG server on the loopback interface.

Both go wrong on demand: they can be unplugged, freeze, fall silent, send damage, change their rate.
"""

from __future__ import annotations

import ctypes
import errno
import http.server
import select
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rtfusion.capture import v4l2_abi as abi
from rtfusion.capture.v4l2_device import Kernel, Mode
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock

T = TypeVar("T")
NEVER = threading.Event()


@dataclass
class FakeCamera:
    """One camera behind `FakeKernel`; its fields may be changed at any time."""

    modes: list[Mode]
    content: Callable[[Mode, int], bytes]
    """Gives the bytes of a buffer for a mode and the number of the frame."""
    name: str = "Fake camera"
    plugged: bool = True
    silent: bool = False
    frozen: bool = False
    damage: Callable[[bytes], bytes] | None = None
    """Applied to each buffer; the driver does not notice."""
    broken: bool = False
    """The driver marks buffers as broken."""
    rate_hz: float | None = None
    """Another rate than the one negotiated."""
    refuses: dict[int, int] = field(default_factory=dict)
    """Request number -> errno."""
    stamp_offset_ns: int = -10 * NS_PER_MS
    stamp_flags: int = abi.FLAG_TIMESTAMP_MONOTONIC | abi.FLAG_STAMP_START_OF_EXPOSURE
    capabilities: int = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
    stride_bytes: int | None = None
    commands: list[tuple[int, int]] = field(default_factory=list)
    opened: int = 0


@dataclass
class _Stream:
    """One open file descriptor."""

    camera: FakeCamera
    mode: Mode
    buffers: list[bytearray] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    streaming: bool = False
    due_ns: int = 0
    sequence: int = -1
    last: bytes = b""
    gone: bool = False


class FakeKernel(Kernel):
    """Stands where the operating system stands."""

    def __init__(self, cameras: dict[str, FakeCamera], *, clock: Clock = MONOTONIC) -> None:
        self._cameras = cameras
        self._clock = clock
        self._streams: dict[int, _Stream] = {}
        self._next_fd = 100

    @property
    def open_count(self) -> int:
        """File descriptors that nobody gave back."""
        return len(self._streams)

    def open(self, path: str) -> int:
        """A new descriptor of a camera."""
        camera = self._cameras.get(path)
        if camera is None or not camera.plugged:
            raise OSError(errno.ENOENT, "No such file or directory")
        if (refused := camera.refuses.get(0)) is not None:
            raise OSError(refused, "refused")
        camera.opened += 1
        self._next_fd += 1
        self._streams[self._next_fd] = _Stream(camera=camera, mode=camera.modes[0])
        return self._next_fd

    def close(self, fd: int) -> None:
        """Forget a descriptor."""
        del self._streams[fd]

    def map(self, fd: int, length: int, offset: int) -> bytearray:
        """The buffer whose number was given as its offset."""
        return self._streams[fd].buffers[offset]

    def wait(self, fd: int, timeout_s: float) -> int:
        """Stands for poll(2)."""
        stream = self._streams[fd]
        deadline_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        while True:
            if not stream.camera.plugged or stream.gone:
                stream.gone = True
                return select.POLLERR
            now_ns = self._clock.now_ns()
            if not stream.camera.silent and stream.queued and now_ns >= stream.due_ns:
                return select.POLLIN
            if now_ns >= deadline_ns:
                return 0
            until_ns = min(deadline_ns, max(stream.due_ns, now_ns + NS_PER_MS))
            self._clock.sleep_until_ns(until_ns, wake=NEVER)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> None:
        """One call of the driver."""
        stream = self._streams[fd]
        if (refused := stream.camera.refuses.get(request)) is not None:
            raise OSError(refused, "refused")
        if not stream.camera.plugged or stream.gone:
            raise OSError(errno.ENODEV, "No such device")
        _CALLS[request](self, stream, argument)

    def _query(self, stream: _Stream, capability: abi.Capability) -> None:
        capability.capabilities = abi.CAP_DEVICE_CAPS | stream.camera.capabilities
        capability.device_caps = stream.camera.capabilities
        _write(capability.card, stream.camera.name)
        _write(capability.driver, "fake")

    def _format(self, stream: _Stream, entry: abi.FormatDescription) -> None:
        names = list(dict.fromkeys(mode.fourcc for mode in stream.camera.modes))
        entry.pixelformat = abi.fourcc(_entry(names, entry.index))

    def _size(self, stream: _Stream, entry: abi.FrameSize) -> None:
        name = abi.fourcc_text(entry.pixel_format)
        sizes = list(dict.fromkeys(mode.size_px for mode in stream.camera.modes if mode.fourcc == name))
        entry.type = abi.DISCRETE
        entry.numbers[0], entry.numbers[1] = _entry(sizes, entry.index)

    def _interval(self, stream: _Stream, entry: abi.FrameInterval) -> None:
        asked = abi.fourcc_text(entry.pixel_format), (entry.width, entry.height)
        rates = [rate for mode in stream.camera.modes if (mode.fourcc, mode.size_px) == asked for rate in mode.rates_hz]
        entry.type = abi.DISCRETE
        entry.intervals[0] = abi.Fraction(1000, round(1000 * _entry(rates, entry.index)))

    def _get_format(self, stream: _Stream, wanted: abi.Format) -> None:
        _describe(stream, wanted.fmt.pix)

    def _set_format(self, stream: _Stream, wanted: abi.Format) -> None:
        pix = wanted.fmt.pix
        asked = abi.fourcc_text(pix.pixelformat), (pix.width, pix.height)
        fitting = [mode for mode in stream.camera.modes if (mode.fourcc, mode.size_px) == asked]
        fitting += [mode for mode in stream.camera.modes if mode.fourcc == asked[0]]
        stream.mode = (fitting or stream.camera.modes)[0]
        _describe(stream, pix)

    def _rate(self, stream: _Stream, wanted: abi.StreamParameters) -> None:
        capture = wanted.parameters.capture
        capture.capability = abi.CAP_TIMEPERFRAME
        if stream.mode.rate_hz is not None:
            capture.timeperframe = abi.Fraction(1000, round(1000 * stream.mode.rate_hz))

    def _request_buffers(self, stream: _Stream, request: abi.RequestBuffers) -> None:
        size = max(_stride(stream) * stream.mode.height_px * 2, 1 << 17)
        stream.buffers = [bytearray(size) for _ in range(request.count)]

    def _query_buffer(self, stream: _Stream, buffer: abi.Buffer) -> None:
        buffer.m.offset, buffer.length = buffer.index, len(stream.buffers[buffer.index])

    def _queue(self, stream: _Stream, buffer: abi.Buffer) -> None:
        stream.queued.append(buffer.index)

    def _start(self, stream: _Stream, _: ctypes.Structure) -> None:
        stream.streaming = True
        stream.due_ns = self._clock.now_ns() + _period_ns(stream)

    def _dequeue(self, stream: _Stream, buffer: abi.Buffer) -> None:
        now_ns, camera = self._clock.now_ns(), stream.camera
        if camera.silent or not stream.queued or now_ns < stream.due_ns:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        period_ns = _period_ns(stream)
        missed = max(0, (now_ns - stream.due_ns) // period_ns - len(stream.buffers) + 1)
        stream.sequence += missed + 1  # a driver without a free buffer counts on
        stream.due_ns += missed * period_ns
        if not camera.frozen or not stream.last:
            stream.last = camera.content(stream.mode, stream.sequence)
        data = stream.last if camera.damage is None else camera.damage(stream.last)
        buffer.index = stream.queued.pop(0)
        stream.buffers[buffer.index][: len(data)] = data
        buffer.bytesused, buffer.length = len(data), len(stream.buffers[buffer.index])
        buffer.sequence = stream.sequence % (1 << 32)
        buffer.flags = camera.stamp_flags | (abi.FLAG_ERROR if camera.broken else 0)
        stamp_ns = max(stream.due_ns + camera.stamp_offset_ns, 0)
        buffer.timestamp.seconds, rest_ns = divmod(stamp_ns, NS_PER_S)
        buffer.timestamp.microseconds = rest_ns // 1000
        stream.due_ns += period_ns

    def _control(self, stream: _Stream, control: abi.Control) -> None:
        stream.camera.commands.append((control.id, control.value))

    def _ignore(self, stream: _Stream, _: ctypes.Structure) -> None:
        stream.streaming = False


_CALLS: dict[int, Callable[..., None]] = {
    abi.QUERYCAP: FakeKernel._query,
    abi.ENUM_FMT: FakeKernel._format,
    abi.ENUM_FRAMESIZES: FakeKernel._size,
    abi.ENUM_FRAMEINTERVALS: FakeKernel._interval,
    abi.G_FMT: FakeKernel._get_format,
    abi.S_FMT: FakeKernel._set_format,
    abi.G_PARM: FakeKernel._rate,
    abi.S_PARM: FakeKernel._rate,
    abi.REQBUFS: FakeKernel._request_buffers,
    abi.QUERYBUF: FakeKernel._query_buffer,
    abi.QBUF: FakeKernel._queue,
    abi.DQBUF: FakeKernel._dequeue,
    abi.STREAMON: FakeKernel._start,
    abi.STREAMOFF: FakeKernel._ignore,
    abi.S_CTRL: FakeKernel._control,
}


def _entry(entries: Sequence[T], index: int) -> T:
    if index >= len(entries):
        raise OSError(errno.EINVAL, "Invalid argument")
    return entries[index]


def _write(target: ctypes.Array[ctypes.c_uint8], text: str) -> None:
    for index, byte in enumerate(text.encode()[: len(target) - 1]):
        target[index] = byte


def _stride(stream: _Stream) -> int:
    if stream.camera.stride_bytes is not None:
        return stream.camera.stride_bytes
    return stream.mode.width_px * {"YUYV": 2, "UYVY": 2, "Y16": 2, "MJPG": 0}.get(stream.mode.fourcc, 1)


def _describe(stream: _Stream, pix: abi.PixelFormat) -> None:
    pix.width, pix.height = stream.mode.size_px
    pix.pixelformat = abi.fourcc(stream.mode.fourcc)
    pix.bytesperline = _stride(stream)


def _period_ns(stream: _Stream) -> int:
    return round(NS_PER_S / (stream.camera.rate_hz or stream.mode.rate_hz or 30.0))


def _part_head(data: bytes) -> bytes:
    return f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()


class MjpegServer:
    """A network camera: HTTP, multipart/x-mixed-replace, one JPEG image each period.

    `image` makes the JPEG data of a frame number. Every field may be changed while it runs.
    """

    def __init__(self, image: Callable[[int], bytes], *, rate_hz: float, port: int = 0) -> None:
        self.image = image
        self.rate_hz = rate_hz
        self.silent = False
        self.frozen = False
        self.refusing = False
        self.damage: Callable[[bytes], bytes] | None = None
        self.credentials: str | None = None
        """The Authorization header that a client has to send."""
        self.content_type = "multipart/x-mixed-replace; boundary=frame"
        self.preamble = b""
        """Sent before the first boundary."""
        self.head: Callable[[bytes], bytes] = _part_head
        """Makes what stands before the data of an image."""
        self.sent_ns: dict[int, int] = {}
        """When the image of each number was sent: of the last ones."""
        self.asked: list[str] = []
        """Paths that were asked for."""
        self.connections = 0
        self._unplug = threading.Event()
        self._closed = threading.Event()
        self._sequence = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="mjpeg-server", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address at which it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/camera.mjpg"

    @property
    def snapshot_url(self) -> str:
        """The address at which it gives the picture of the moment."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/snap.jpg"

    def unplug(self) -> None:
        """Drop every connection and refuse new ones until `plug`."""
        self.refusing = True
        self._unplug.set()

    def plug(self) -> None:
        """Accept connections again."""
        self._unplug = threading.Event()
        self.refusing = False

    def close(self) -> None:
        """End all connections and the server."""
        self._closed.set()
        self._unplug.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                """Serve one client for as long as it stays."""
                server.asked.append(self.path)
                if server.refusing:
                    self.send_error(503)
                elif server.credentials not in (None, self.headers.get("Authorization")):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                elif self.path.startswith("/snap.jpg"):
                    server._sequence += 1
                    data = server.image(server._sequence)
                    self.send_response(200)
                    self.send_header("Content-Type", "image/jpeg")
                    self.end_headers()
                    self.wfile.write(data)
                else:
                    self.send_response(200)
                    self.send_header("Content-Type", server.content_type)
                    self.end_headers()
                    self.wfile.write(server.preamble)
                    server.connections += 1
                    server._stream(self.connection)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        return Handler

    def _stream(self, connection: socket.socket) -> None:
        unplug = self._unplug
        due_ns = MONOTONIC.now_ns()
        last = b""
        while not self._closed.is_set() and not unplug.is_set():
            if not self.silent:
                self._sequence += 1
                last = last if self.frozen and last else self.image(self._sequence)
                data = last if self.damage is None else self.damage(last)
                self.sent_ns = {
                    self._sequence: MONOTONIC.now_ns(),
                    self._sequence - 1: self.sent_ns.get(self._sequence - 1, 0),
                }
                try:
                    connection.sendall(self.head(data) + data + b"\r\n")
                except OSError:
                    return
            due_ns = max(due_ns + round(NS_PER_S / self.rate_hz), MONOTONIC.now_ns() - NS_PER_S)
            MONOTONIC.sleep_until_ns(due_ns, wake=unplug)
