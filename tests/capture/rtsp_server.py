"""The least RTSP server that a client plays: one MPEG-TS stream, RTP interleaved with the TCP connection."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
from fractions import Fraction

import av
import numpy as np

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=rtpmap:33 MP2T/90000\r\na=control:track0\r\n"
TS_BYTES = 7 * 188


def mpegts(frames: int, *, rate_hz: int = 25) -> bytes:
    """A gray picture that gets brighter, as MPEG-TS."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=rate_hz)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 5
        stream.codec_context.time_base = Fraction(1, rate_hz)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + number % 200, np.uint8), format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


class RtspServer:
    """Serves one client at a time; `credentials` is the NAME:PASSWORD that it wants, where it wants one."""

    def __init__(self, *, credentials: str | None = None) -> None:
        self._authorization = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self._data = mpegts(250)
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT/PATH."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}/live"

    def close(self) -> None:
        """Drop the client and end."""
        self._closed.set()
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(5)
                try:
                    self._talk(client)
                except OSError:
                    continue

    def _talk(self, client: socket.socket) -> None:
        lines = client.makefile("rb")
        while not self._closed.is_set():
            request = lines.readline().decode().split()
            if not request:
                return
            headers = {}
            while (line := lines.readline().decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            method, sequence = request[0], headers.get("cseq", "0")
            if self._authorization is not None and headers.get("authorization") != self._authorization:
                answer = f'RTSP/1.0 401 Unauthorized\r\nCSeq: {sequence}\r\nWWW-Authenticate: Basic realm="cam"\r\n\r\n'
                client.sendall(answer.encode())
                continue
            client.sendall(self._answer(method, sequence).encode())
            if method == "PLAY":
                self._play(client)
                return

    def _answer(self, method: str, sequence: str) -> str:
        body = SDP if method == "DESCRIBE" else ""
        extra = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        }.get(method, "")
        return f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\nSession: 1\r\n{extra}\r\n{body}"

    def _play(self, client: socket.socket) -> None:
        for number, start in enumerate(range(0, len(self._data), TS_BYTES)):
            header = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 3600, 7)
            packet = header + self._data[start : start + TS_BYTES]
            client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
            if self._closed.wait(0.005):
                return
