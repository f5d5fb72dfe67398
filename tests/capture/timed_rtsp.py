"""An RTSP camera that draws the time of capture into every frame: H.264 and H.265, with and without B-frames and sender reports.

RTP is interleaved with the TCP connection, or sent by UDP where the client asks so. Each frame goes out as soon as it is encoded.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tests.rig.pictures import draw_code

SIZE_PX = 320, 96
CLOCK_HZ = 90_000
MTU = 1200
NTP_EPOCH_S = 2_208_988_800
X264_B = "bframes=3:b-adapt=0:rc-lookahead=0:sync-lookahead=0:sliced-threads=1:keyint=24:scenecut=0"
X265 = "log-level=none:keyint=24:bframes=0"
ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
    "h264b": ("libx264", {"preset": "veryfast", "x264-params": X264_B}),
    "hevc": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": X265}),
}


class TimedRtspServer:
    """One camera for any number of clients, one after the other or at once; each has a stream of its own."""

    def __init__(
        self, codec: str = "h264", *, rate_hz: float = 50.0, reports: bool = False, clock_error_s: float = 0.0
    ) -> None:
        self.epoch_ns = time.monotonic_ns()
        """The time of CLOCK_MONOTONIC from which the codes in pictures count."""
        self.silent = False
        self._codec, self._rate_hz, self._reports, self._clock_error_s = codec, rate_hz, reports, clock_error_s
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """The address of the stream."""
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"

    def close(self) -> None:
        """Drop all clients and end."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(0.2)
        with client, contextlib.suppress(OSError, ValueError):
            _Session(self, client).talk()


class _Session:
    """One client: what it asks, and the stream that it gets."""

    def __init__(self, server: TimedRtspServer, client: socket.socket) -> None:
        self._server, self._client = server, client
        self._udp: tuple[socket.socket, socket.socket, tuple[int, int]] | None = None
        self._number = self._packets = self._octets = 0
        self._lock = threading.Lock()
        self._gone = threading.Event()

    def talk(self) -> None:
        sender: threading.Thread | None = None
        try:
            for method, headers in self._requests():
                self._answer(method, headers)
                if method == "PLAY" and sender is None:
                    sender = threading.Thread(target=self._stream, daemon=True)
                    sender.start()
                if method == "TEARDOWN":
                    return
        finally:
            self._gone.set()
            if sender is not None:
                sender.join(10)
            for end in self._udp[:2] if self._udp else ():
                end.close()

    def _requests(self) -> Iterator[tuple[str, dict[str, str]]]:
        data = b""
        while not self._server._closed.is_set():
            try:
                chunk = self._client.recv(4096)
            except TimeoutError:
                continue
            if not chunk:
                return
            data += chunk
            while data[:1] == b"$" and len(data) >= 4:  # what the client reports of the stream
                data = data[4 + int.from_bytes(data[2:4], "big") :]
            while b"\r\n\r\n" in data and data[:1] != b"$":
                head, _, data = data.partition(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                yield (
                    first.split()[0],
                    {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)},
                )

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        body, extra = (
            "",
            {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"} if method == "OPTIONS" else {},
        )
        if method == "DESCRIBE":
            name = "H265" if self._server._codec == "hevc" else "H264"
            mode = "" if name == "H265" else "a=fmtp:96 packetization-mode=1\r\n"
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 {name}/90000\r\n{mode}a=control:track0\r\n"
            )
            extra = {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        if method == "SETUP":
            extra = {"Transport": self._transport(headers.get("transport", ""))}
        lines = [
            f"{name}: {value}" for name, value in {"CSeq": headers.get("cseq", "0"), "Session": "1", **extra}.items()
        ]
        self._send("\r\n".join(["RTSP/1.0 200 OK", *lines, "", body]).encode())

    def _transport(self, asked: str) -> str:
        ports = re.search(r"client_port=(\d+)-(\d+)", asked)
        if ports is None:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        self._udp = (ends[0], ends[1], (int(ports[1]), int(ports[2])))
        own = "-".join(str(end.getsockname()[1]) for end in ends)
        return f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}"

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._client.sendall(data)

    def _send_channel(self, channel: int, packet: bytes) -> None:
        if self._udp is not None:
            self._udp[channel].sendto(packet, ("127.0.0.1", self._udp[2][channel]))
        else:
            self._send(b"$" + bytes([channel]) + struct.pack(">H", len(packet)) + packet)

    # -- the stream -----------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        server = self._server
        name, options = ENCODERS[server._codec]
        encoder: Any = av.CodecContext.create(name, "w")
        encoder.width, encoder.height, encoder.pix_fmt = *SIZE_PX, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, CLOCK_HZ), Fraction(round(server._rate_hz * 1000), 1000)
        encoder.options, encoder.thread_count, encoder.gop_size = options, 1, 24
        started_ns, due_ns, reported_ns = time.monotonic_ns(), time.monotonic_ns(), 0
        with contextlib.suppress(OSError):
            while not (self._gone.is_set() or server._closed.is_set()):
                due_ns += round(1e9 / server._rate_hz)
                self._gone.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                if server.silent:
                    continue
                captured_ns = time.monotonic_ns()
                image = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90, np.uint8)
                draw_code(image, (captured_ns - server.epoch_ns) // 1_000_000)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts = (captured_ns - started_ns) * CLOCK_HZ // 1_000_000_000
                if server._reports and captured_ns - reported_ns > 500_000_000:
                    reported_ns = captured_ns
                    self._report(frame.pts, captured_ns)
                for packet in encoder.encode(frame):
                    self._send_picture(bytes(packet), packet.pts)

    def _report(self, pts: int, captured_ns: int) -> None:
        """A sender report: which time of day a time stamp is."""
        age_s = (time.monotonic_ns() - captured_ns) / 1e9
        seconds = time.time() - age_s + NTP_EPOCH_S + self._server._clock_error_s
        fraction = int(seconds % 1 * (1 << 32))
        words = (0x80C80006, 7, int(seconds), fraction, pts & 0xFFFF_FFFF, self._packets, self._octets)
        self._send_channel(1, struct.pack(">7I", *words))

    def _send_picture(self, data: bytes, pts: int) -> None:
        units = [unit for unit in re.split(b"\x00\x00\x00?\x01", data) if unit]
        payloads = [payload for unit in units for payload in self._payloads(unit)]
        for index, payload in enumerate(payloads):
            is_last = index == len(payloads) - 1
            header = struct.pack(">BBHII", 0x80, 96 | is_last << 7, self._number & 0xFFFF, pts & 0xFFFF_FFFF, 7)
            self._number += 1
            self._packets, self._octets = self._packets + 1, self._octets + len(payload)
            self._send_channel(0, header + payload)

    def _payloads(self, unit: bytes) -> Iterator[bytes]:
        """A unit as it is, or in fragments: RFC 6184 and RFC 7798."""
        if len(unit) <= MTU:
            yield unit
            return
        is_hevc = self._server._codec == "hevc"
        size = 2 if is_hevc else 1
        kind = unit[0] >> 1 & 0x3F if is_hevc else unit[0] & 0x1F
        indicator = bytes([unit[0] & 0x81 | 49 << 1, unit[1]]) if is_hevc else bytes([unit[0] & 0xE0 | 28])
        for start in range(size, len(unit), MTU):
            first, last = start == size, start + MTU >= len(unit)
            yield indicator + bytes([first << 7 | last << 6 | kind]) + unit[start : start + MTU]
