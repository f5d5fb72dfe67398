"""A small HTTP server that no client can hold up: everything that a client decides has a bound.

A connection has a thread; there are at most `MAX_CONNECTIONS`, and when they are taken, the one that has been silent for
longest makes room. A request has to be whole within `REQUEST_S`, an answer to be taken within `SEND_S`.

Who may ask: only requests that name this machine (``Host``), so that a page of another name that resolves to this address
gets nothing (DNS rebinding); none that a page of another origin makes; and, with a token, only those that know it, from the
query (once: the page then gets a cookie), the cookie, or ``Authorization: Bearer``.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
REQUEST_S = 5.0
"""Limit for a whole request, and between two of them."""
SEND_S = 5.0
"""Limit for the client to take an answer, or one picture of a stream."""
MAX_BODY_BYTES = 4096
SEND_BUFFER_BYTES = 256 * 1024
"""Bytes that the system may hold for one client that does not read."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A checked request of a client."""

    method: str
    """``GET`` or ``POST``."""
    path: str
    query: Mapping[str, str]
    body: Any = None
    """Decoded JSON of a POST."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer to a client: a body, or parts that follow each other until the client goes away."""

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Iterator[bytes] | None = None


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """The request gets this answer instead."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.answer = Answer(
            status=status, body=f"{text}\n".encode(), headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def json_answer(value: object) -> Answer:
    """``value`` as JSON."""
    return Answer(content_type="application/json", body=json.dumps(value, allow_nan=False).encode())


class Server(socketserver.ThreadingTCPServer):
    """Listens at once; answers what ``respond`` says, in a thread for each connection, until `stop`."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        *,
        respond: Callable[[Request], Answer],
        token: str | None = None,
        names: frozenset[str] = frozenset(),
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        """Listen.

        ``names`` are those that a request may call this machine by, besides its addresses and localhost; ``open_paths``
        need no token.

        Raises:
            OSError: the address is in use, or not one of this machine.
        """
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.respond = respond
        self.token = token
        self.names = names | {"localhost"}
        self.open_paths = open_paths
        self.cookie = f"rtfusion-{address[1]}"
        self._lock = threading.Lock()
        self._silent_since_s: dict[socket.socket, float | None] = {}
        """Time since which each connection is silent; None while a request of it is being answered."""
        super().__init__(address, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="web", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens at; for port 0 the one that the system chose."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Free the address and cut every connection. Idempotent."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._silent_since_s:
                _cut(connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Admit one more connection if there is room; the one that has been silent for longest is cut for it."""
        with self._lock:
            if len(self._silent_since_s) >= MAX_CONNECTIONS:
                silent = {one: since_s for one, since_s in self._silent_since_s.items() if since_s is not None}
                if not silent:
                    return False
                oldest = min(silent, key=silent.__getitem__)
                _cut(oldest)
                del self._silent_since_s[oldest]
            self._silent_since_s[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        """The connection is over."""
        with self._lock:
            self._silent_since_s.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away at any time; what is wrong here itself is logged, without what was asked."""
        _log.debug("a request could not be answered", exc_info=True)

    def mark(self, connection: socket.socket, *, silent: bool) -> None:
        """Note that a connection waits for a request, or is being answered."""
        with self._lock:
            if connection in self._silent_since_s:
                self._silent_since_s[connection] = time.monotonic() if silent else None


class _Timed(RawIOBase):
    """Reads a connection; all that is read between two calls of `restart` has to come within `REQUEST_S`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.restart()

    def restart(self) -> None:
        self._end_s = time.monotonic() + REQUEST_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining_s = self._end_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(remaining_s)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """One connection: request after request."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "rtfusion", ""
    default_request_version = "HTTP/1.0"  # so that whatever comes is answered with a status
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Read under a deadline, and let the system hold little for a client that does not."""
        super().setup()
        self.rfile.close()
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._timed = _Timed(self.request)
        self.rfile = BufferedReader(self._timed)

    def handle_one_request(self) -> None:
        """Read one request and answer it."""
        self._timed.restart()
        self.server.mark(self.connection, silent=True)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request, which http.server itself found, and repeat nothing of it."""
        known = {HTTPStatus.NOT_IMPLEMENTED: HTTPStatus.METHOD_NOT_ALLOWED}
        status = HTTPStatus(code) if code < 500 else known.get(HTTPStatus(code), HTTPStatus.BAD_REQUEST)
        self.close_connection = True
        self._send(Answer(status=status, body=f"{status.phrase}\n".encode()))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they may hold the token."""

    def _answer(self) -> None:
        try:
            request = self._request()
            self.server.mark(self.connection, silent=False)
            answer = self.server.respond(request)
        except Refused as refused:
            answer = refused.answer
            self.close_connection = True  # its body may not have been read
        self._send(answer)

    def _request(self) -> Request:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "this is no address") from None
        self._check_origin(parts.path)
        try:
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=16))
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "too many settings in the address") from None
        self._check_token(parts.path, query)
        body = self._body() if self.command == "POST" else None
        return Request(method=self.command, path=parts.path, query=query, body=body)

    def _check_origin(self, path: str) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _names_this_machine(hosts[0], self.server.names):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this name is not one of this machine's: use its address, or start it with ?name=NAME",
            )
        is_foreign = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        is_visit = path == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        origin = self.headers.get("Origin")
        is_from_elsewhere = origin is not None and origin.partition("://")[2].lower() != hosts[0].lower()
        if is_from_elsewhere or (is_foreign and not is_visit):
            raise Refused(HTTPStatus.FORBIDDEN, "another site asks for this")

    def _check_token(self, path: str, query: dict[str, str]) -> None:
        token = self.server.token
        given = query.pop("token", None)
        if token is None or path in self.server.open_paths:
            return
        if given is not None and _equal(given, token):
            if path == "/" and self.command == "GET":
                cookie = f"{self.server.cookie}={token}; Path=/; HttpOnly; SameSite=Lax"
                place = f"/?{urlencode(query)}" if query else "/"
                raise Refused(HTTPStatus.SEE_OTHER, "come in", Location=place, Set_Cookie=cookie)
            return
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not any(_equal(offered, token) for offered in (self._cookie_token(), bearer)):
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "This page needs its token: open it with /?token=... at the end of the address.",
                WWW_Authenticate="Bearer",
            )

    def _cookie_token(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return "" if morsel is None else morsel.value

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request with a body needs its Content-Length")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
        body = self.rfile.read(int(length))
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is not JSON") from None

    def _send(self, answer: Answer) -> None:
        self.connection.settimeout(SEND_S)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in {**_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        if answer.parts is None:
            self.send_header("Content-Length", str(len(answer.body)))
        if answer.parts is not None or self.close_connection:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
        for part in answer.parts or ():
            self.wfile.write(part)


def _names_this_machine(host: str, names: frozenset[str]) -> bool:
    """Addresses cannot be rebound; names only when they are known. The port is whatever a tunnel made of it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def _equal(offered: str, token: str) -> bool:
    return hmac.compare_digest(offered.encode(errors="replace"), token.encode())


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it went away by itself
        connection.shutdown(socket.SHUT_RDWR)
