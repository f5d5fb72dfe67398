"""Cameras over HTTP: streams of JPEG images, and snapshots that are fetched again and again.

The images are told apart by their own marks, not by what stands between them: servers that name no type and no length, that
write text before the first boundary or that use another one than they announced are read all the same, and every image is whole
as soon as its last byte is here.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from rtfusion.capture.delivery import Delivered
from rtfusion.clock import NS_PER_S, Clock
from rtfusion.errors import CaptureError, StreamLost

CHUNK_BYTES = 1 << 20
MOST_BYTES = 1 << 25
"""No image is larger."""
SNIFF_BYTES = 1 << 16
DEFAULT_POLL_HZ = 5.0
SNAPSHOT_TYPES = ("image/jpeg", "image/jpg", "image/pjpeg")
NO_VIDEO_TYPES = ("text/html", "application/json", "application/xml", "text/xml")

_OTHER_MARKS = (b"G", b"FLV", b"#EXT", b"OggS", b"\x1aE\xdf\xa3", b"<")
"""What MPEG-TS, FLV, a playlist, Ogg, Matroska and pages begin with."""
_SOI = b"\xff\xd8\xff"
_NEXT_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_REASONS = {
    401: "the camera wants another name or password; give them as in http://NAME:PASSWORD@HOST/PATH",
    403: "the camera forbids this; check the name and the password",
    404: "the camera knows no such path; look up the path of its stream",
}


class JpegSplitter:
    """Finds the images in what arrives. Bytes go in as they come; images come out as soon as they are whole.

    An image that another one begins in, or that has no structure, comes out too: whether it is damaged is for the decoder to say.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        """What is before it has been looked at: the position of a mark, or within a scan."""
        self._in_scan = False
        self._began_ns = 0

    def feed(self, data: bytes, *, arrived_ns: int) -> list[tuple[bytes, int]]:
        """Take what arrived; give the images that are whole now, and when each began to arrive."""
        found: list[tuple[bytes, int]] = []
        self._data += data
        while True:
            if self._at == 0 and not self._begin(arrived_ns):
                return found
            end = self._end_of_image()
            if end is None:
                if len(self._data) > MOST_BYTES:
                    self._cut(len(self._data))
                return found
            found.append((bytes(self._data[:end]), self._began_ns))
            self._cut(end)

    def _begin(self, arrived_ns: int) -> bool:
        """Go to the beginning of an image; False when there is none."""
        start = self._data.find(_SOI)
        if start < 0:
            del self._data[: max(0, len(self._data) - 2)]
            return False
        del self._data[:start]
        self._at, self._in_scan, self._began_ns = 2, False, arrived_ns
        return True

    def _cut(self, end: int) -> None:
        del self._data[:end]
        self._at = 0

    def _end_of_image(self) -> int | None:
        """The position behind the image, None while more of it is to come."""
        data = self._data
        while True:
            if self._in_scan:
                mark = _NEXT_MARK.search(data, self._at)
                if mark is None:
                    self._at = max(self._at, len(data) - 1)
                    return None
                self._at, self._in_scan = mark.start(), False
            while self._at + 1 < len(data) and data[self._at] == data[self._at + 1] == 0xFF:  # fill bytes
                self._at += 1
            if self._at + 4 > len(data) and bytes(data[self._at : self._at + 2]) != b"\xff\xd9":
                return None
            kind = data[self._at + 1]
            if data[self._at] != 0xFF or kind == 0xD8:  # no structure, or another image
                return self._at
            if kind == 0xD9:
                return self._at + 2
            if kind in _WITHOUT_LENGTH:
                self._at += 2
                continue
            self._at += 2 + int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            self._in_scan = kind == 0xDA


class HttpCamera:
    """One address, asked by HTTP; its images by `read`. `close` may come from any thread and ends a read at once."""

    def __init__(
        self,
        address: str,
        *,
        shown: str,
        poll_hz: float | None,
        open_timeout_s: float,
        read_timeout_s: float,
        clock: Clock,
    ) -> None:
        """Ask for the address.

        Raises:
            CaptureError: nobody answers, or not with pictures.
        """
        self._shown = shown
        self._clock = clock
        self._open_timeout_s, self._read_timeout_s = open_timeout_s, read_timeout_s
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._opener, self._address = _opener(address, self._sockets)
        self._splitter = JpegSplitter()
        self._first = b""
        """What was read to see whether it is a stream."""
        self._last: bytes | None = None
        self._due_ns = clock.now_ns()
        self._response: Any = None
        reason = ""
        try:
            self._response = self._get()
            kind = self._response.headers.get_content_type() if "Content-Type" in self._response.headers else ""
            self.is_snapshot = kind in SNAPSHOT_TYPES
            self.is_stream = not self.is_snapshot and self._is_stream(kind)
            if kind in NO_VIDEO_TYPES and not self.is_stream:
                reason = f"{shown}: what arrives is not a video stream but {kind}; look up the path of its stream"
        except StreamLost as error:
            reason = str(error)
        if reason:  # outside of the handler, so that no error that quotes the address hangs on to ours
            self.release()
            raise CaptureError(reason)
        self.poll_hz = (poll_hz or DEFAULT_POLL_HZ) if self.is_snapshot else None

    def _is_stream(self, kind: str) -> bool:
        """True for images one after the other; without a type that says so, by the first that arrives."""
        if kind.startswith("multipart/"):
            return True
        if kind.startswith(("video/", "audio/")):
            return False
        while len(self._first) < SNIFF_BYTES and not self._first.startswith(_OTHER_MARKS):
            if self._first.lstrip().startswith(b"--") or _SOI in self._first:
                return True
            self._first += self._read_chunk()
        return False

    def read(self) -> Delivered:
        """Wait for the next image, and give the newest of those that are here.

        Raises:
            StreamLost: the camera does not answer in time or ended the stream, or this was closed.
        """
        return self._snapshot() if self.is_snapshot else self._next_of_stream()

    def close(self) -> None:
        """End every read. Idempotent."""
        self._closed.set()
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the connections back; by the thread that reads, or when none does."""
        self.close()
        with contextlib.suppress(OSError, AttributeError, ValueError):
            self._response.close()
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()

    def _next_of_stream(self) -> Delivered:
        while True:
            data, self._first = self._first or self._read_chunk(), b""
            found = self._splitter.feed(data, arrived_ns=self._clock.now_ns())
            if found:
                return Delivered(*found[-1], len(found) - 1)

    def _read_chunk(self) -> bytes:
        reason = "the camera ended the stream"
        try:
            data: bytes = self._response.read1(CHUNK_BYTES)
        except TimeoutError:
            reason = "the stream broke: the camera does not answer in time; it is silent"
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = f"the stream broke: {type(error).__name__}"
        else:
            if data:
                return data
        raise StreamLost(f"{self._shown}: {reason}")

    def _snapshot(self) -> Delivered:
        """Fetch the picture again when it is time to."""
        if self._response is None:
            period_ns = round(NS_PER_S / (self.poll_hz or DEFAULT_POLL_HZ))
            self._due_ns = max(self._due_ns + period_ns, self._clock.now_ns())
            if not self._clock.sleep_until_ns(self._due_ns, wake=self._closed):
                raise StreamLost(f"{self._shown}: it was closed")
            self._response = self._get()
        arrived_ns = self._clock.now_ns()
        data = self._whole()
        is_repeated, self._last = data == self._last, data
        return Delivered(data, arrived_ns, is_repeated=is_repeated)

    def _whole(self) -> bytes:
        response, self._response = self._response, None
        try:
            with response:
                data: bytes = response.read(MOST_BYTES)
                return data
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = type(error).__name__
        raise StreamLost(f"{self._shown}: the picture did not come whole ({reason})")

    def _get(self) -> Any:
        """Ask for the address once more: the response, as urllib gives it."""
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()
        try:
            response = self._opener(self._address, timeout=self._open_timeout_s)
        except urllib.error.HTTPError as error:
            reason = _REASONS.get(error.code, f"the camera answers {error.code} {error.reason}")
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                reason = "the camera does not answer in time; check its address and the network"
            else:
                what = getattr(cause, "strerror", None) or type(cause).__name__
                reason = f"{what}; check the address, and that the camera is on"
        else:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # one that asked for the password is closed already
                    connection.settimeout(self._read_timeout_s)
            return response
        raise StreamLost(f"{self._shown}: {reason}")


def _opener(address: str, sockets: list[socket.socket]) -> tuple[Callable[..., Any], str]:
    """What asks an address, with the name and the password in it, and the address without them; http and https alone."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    director = urllib.request.OpenerDirector()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(
            None, f"{parts.scheme}://{host}/", unquote(parts.username), unquote(parts.password or "")
        )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # cameras sign their certificates themselves
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(sockets),
        _Https(sockets, context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    ):
        director.add_handler(handler)
    return director.open, plain


def _recording(kind: type[http.client.HTTPConnection], sockets: list[socket.socket]) -> Callable[..., Any]:
    """Make connections whose sockets are known, so that they can be shut down from another thread."""

    class Recorded(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    return Recorded


class _Http(urllib.request.HTTPHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._connection = _recording(http.client.HTTPConnection, sockets)

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, sockets: list[socket.socket], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._connection = functools.partial(_recording(http.client.HTTPSConnection, sockets), context=context)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection, request)
