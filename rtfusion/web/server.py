"""The web server: uvicorn and starlette, with bounds on everything that a client decides.

Connections are bounded by who asks (`rtfusion.web.door`), heads and bodies at once. Whoever is let in is answered in a thread.

Who may ask: only requests that name this machine (``Host``), so that a page of another name that resolves to this address
gets nothing (DNS rebinding); none that a page of another origin makes; and, with a token, only those that know it, from the
form or the query (once: the page then gets a cookie), the cookie, or ``Authorization: Bearer``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import uvicorn
from starlette import requests, responses
from starlette.types import Receive, Scope, Send

from rtfusion.web import door
from rtfusion.web.door import Door

_access = logging.getLogger("rtfusion.web.access")

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 4096
STOP_S = 5.0
"""Longest wait for the thread of the server to end."""
FAREWELL_S = 0.25
"""At the end, who is connected has so long to ask once more: a page hears that the run is over."""
ROUNDS = 6
LOGIN = "/login"
_LOGIN_PAGE = Path(__file__).resolve().parent / "page" / "login.html"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers call the origin of the form null
    "X-Content-Type-Options": "nosniff",
}
_HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A checked request of a client."""

    method: str
    """``GET`` or ``POST``; a HEAD is a GET whose answer has no body."""
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


class Server:
    """Listens at once; answers what ``respond`` says, in a thread for each request, until `stop`."""

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
        listening = _listening(address)
        self.port: int = listening.getsockname()[1]
        """The port that it listens at; for port 0 the one that the system chose."""
        self._door = Door()
        checks = _Checks(
            token=token, names=names | {"localhost"}, open_paths=open_paths, cookie=f"rtfusion-{self.port}"
        )
        app = _App(respond=respond, checks=checks, door=self._door)
        self._server = _Uvicorn(
            listening,
            uvicorn.Config(
                app,
                http=self._door.protocol(),
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=door.BACKLOG,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ),
        )
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="web", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._door)

    def stop(self) -> None:
        """Free the address and cut every connection. Idempotent."""
        self._server.end()
        self._thread.join(STOP_S)


class _Uvicorn(uvicorn.Server):
    """Serves until it is told to end, and then waits for no client."""

    def __init__(self, listening: socket.socket, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listening = listening
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    def end(self) -> None:
        """Cut all and return from `run`. Any thread may call it."""
        self._ready.wait(STOP_S)
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    async def main_loop(self) -> None:
        """Wait for the end."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        self._listening.listen(door.QUEUE)  # asyncio has made it as short as what it takes at once
        await self.on_tick(0)
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Free the address, answer who is connected for a moment longer, and cut every connection."""
        with contextlib.suppress(NotImplementedError):  # the loop of Windows has none: its sockets are closed below
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
        if self.server_state.connections:
            await asyncio.sleep(FAREWELL_S)
        for _ in range(ROUNDS):  # what was taken just now becomes a connection only a few turns of the loop later
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        tasks = list(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S / 2)


class _App:
    """The ASGI application: checks in the event loop, answers in threads."""

    def __init__(self, *, respond: Callable[[Request], Answer], checks: _Checks, door: Door) -> None:
        self._respond = respond
        self._checks = checks
        self._door = door
        self._threads: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = requests.Request(scope, receive)
        is_last = False
        try:
            answer = await self._answer(asked)
        except Refused as refused:
            answer, is_last = refused.answer, True  # its body may not have been read
        except (requests.ClientDisconnect, TimeoutError):
            return
        _access.debug("%s %s %s %d", scope["client"][0], scope["method"], _path_of(asked), answer.status)
        await self._response(answer, asked, is_last=is_last)(scope, receive, send)

    async def _answer(self, asked: requests.Request) -> Answer:
        checks = self._checks
        if asked.scope["http_version"] not in ("1.0", "1.1"):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is asked with HTTP/1.1")
        if sum(len(name) + len(value) + len(": \r\n") for name, value in asked.scope["headers"]) > MAX_HEAD_BYTES:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEAD_BYTES} bytes")
        checks.check_origin(asked)
        if asked.method not in ("GET", "HEAD", "POST"):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this is asked with GET or POST")
        if asked.method != "POST" and _announces_body(asked):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is asked without a body")
        if asked.scope["path"] == LOGIN and asked.method == "POST":
            checks.log_in(await _body(asked, kind="application/x-www-form-urlencoded"))
        query = checks.check_token(asked)
        if not checks.is_for_guests(asked) and not self._door.admit(asked.scope["client"]):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{door.MAX_KNOWN} others ask at this moment")
        body = _decoded(await _body(asked, kind="application/json")) if asked.method == "POST" else None
        method = "POST" if asked.method == "POST" else "GET"
        request = Request(method=method, path=asked.scope["path"], query=query, body=body)
        return await self._in_thread(self._respond, request)

    async def _in_thread(self, call: Callable[..., Any], *given: Any) -> Any:
        self._threads = self._threads or anyio.CapacityLimiter(door.MAX_KNOWN)
        return await anyio.to_thread.run_sync(call, *given, limiter=self._threads)

    def _response(self, answer: Answer, asked: requests.Request, *, is_last: bool) -> responses.Response:
        headers = {**_HEADERS, **answer.headers, "Content-Type": answer.content_type}
        if is_last or answer.parts is not None:
            headers["Connection"] = "close"
        if answer.parts is None:
            return responses.Response(answer.body, answer.status, headers)
        streamed = self._streamed(answer.body, answer.parts, is_wanted=asked.method == "GET")
        return responses.StreamingResponse(streamed, answer.status, headers)

    async def _streamed(self, body: bytes, parts: Iterator[bytes], *, is_wanted: bool) -> AsyncIterator[bytes]:
        try:
            yield body
            while is_wanted and (part := await self._in_thread(next, parts, None)) is not None:
                yield part
        finally:
            if hasattr(parts, "close"):
                parts.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Checks:
    """Who may ask; see the module."""

    token: str | None
    names: frozenset[str]
    open_paths: frozenset[str]
    cookie: str

    def check_origin(self, asked: requests.Request) -> None:
        """Refuse who calls this machine by a name that it does not have, and what another site asks for."""
        headers = asked.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not _names_this_machine(hosts[0], self.names):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this name is not one of this machine's: use its address, or start it with ?name=NAME",
            )
        is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        is_visit = asked.scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        origin = headers.get("origin")
        is_from_elsewhere = origin is not None and origin.partition("://")[2].lower() != hosts[0].lower()
        if is_from_elsewhere or (is_foreign and not is_visit):
            raise Refused(HTTPStatus.FORBIDDEN, "another site asks for this")

    def is_for_guests(self, asked: requests.Request) -> bool:
        """True for what is answered without the token; whoever asks for it is not known by that."""
        return self.token is not None and asked.scope["path"] in self.open_paths

    def check_token(self, asked: requests.Request) -> dict[str, str]:
        """Let in who knows the token; gives the query without it."""
        try:
            query = dict(
                parse_qsl(asked.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=16)
            )
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "too many settings in the address") from None
        given = query.pop("token", None)
        path = asked.scope["path"]
        if self.token is None or self.is_for_guests(asked):
            return query
        if given is not None and _equal(given, self.token):
            if path == "/" and asked.method == "GET":
                raise self._welcome(f"/?{urlencode(query)}" if query else "/")
            return query
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if not any(_equal(offered, self.token) for offered in (*_cookies(asked, self.cookie), bearer)):
            raise _stranger(asked)
        return query

    def log_in(self, form: bytes) -> None:
        """Answer the form: a cookie for who knows the token."""
        try:
            given = dict(parse_qsl(form.decode("latin-1"), max_num_fields=4)).get("token", "")
        except ValueError:
            given = ""
        if self.token is None or _equal(given.strip(), self.token):
            raise self._welcome("/")
        raise _LoginPage(wrong=True)

    def _welcome(self, place: str) -> Refused:
        """Send a browser on, with the token in a cookie."""
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        cookies = {} if self.token is None else {"Set_Cookie": cookie}
        return Refused(HTTPStatus.SEE_OTHER, "come in", Location=place, **cookies)


class _LoginPage(Refused):
    """A form for the token."""

    def __init__(self, *, wrong: bool) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, "a form for the token")
        alert = "<p role='alert'>That is not the token of this run.</p>" if wrong else ""
        page = _LOGIN_PAGE.read_text(encoding="utf-8").replace("<!-- wrong -->", alert)
        self.answer = Answer(status=HTTPStatus.UNAUTHORIZED, content_type=_HTML, body=page.encode())


def _stranger(asked: requests.Request) -> Refused:
    """Say that the token is needed: a person gets a form."""
    is_person = asked.method == "GET" and "text/html" in asked.headers.get("accept", "")
    if is_person:
        return _LoginPage(wrong=False)
    return Refused(
        HTTPStatus.UNAUTHORIZED,
        "This page needs its token: open it in a browser, or send Authorization: Bearer TOKEN.",
        WWW_Authenticate="Bearer",
    )


def _cookies(asked: requests.Request, wanted: str) -> Iterator[str]:
    """Every cookie of this name: another server of this machine can set one beside ours, and must not hide it."""
    for header in asked.headers.getlist("cookie"):
        for cookie in header.split(";"):
            name, _, value = cookie.partition("=")
            if name.strip() == wanted:
                yield value.strip().strip('"')


def _announces_body(asked: requests.Request) -> bool:
    return "transfer-encoding" in asked.headers or asked.headers.get("content-length", "0") != "0"


async def _body(asked: requests.Request, *, kind: str) -> bytes:
    """Read the body of a POST within its limits."""
    length = asked.headers.get("content-length", "")
    if "transfer-encoding" in asked.headers or not (length.isascii() and length.isdigit()):
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request with a body needs its Content-Length")
    if len(length) > 9 or int(length) > MAX_BODY_BYTES:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes")
    if asked.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type: {kind}")
    try:
        with anyio.fail_after(door.REQUEST_S):
            return await asked.body()
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the rest of the request did not come") from None


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(HTTPStatus.BAD_REQUEST, "this is not JSON") from None


def _path_of(asked: requests.Request) -> str:
    """The path, for the log: what it is asked with may be the token."""
    return ascii(asked.scope["path"][:80])


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


def _listening(address: tuple[str, int]) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: the address is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(door.BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
