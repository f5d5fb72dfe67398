"""Floods: whoever has the token is served while others try to take everything."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil
import pytest

from rtfusion.web import door
from rtfusion.web.sink import WebSink
from tests.web.test_web import TOKEN, ask, raw, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ASKED = 40


@pytest.fixture
def owned() -> Iterator[WebSink]:
    with serving(f"?token={TOKEN}") as sink:
        yield sink


def answered(sink: WebSink) -> int:
    """How many of so many requests with the token are answered as they should be."""
    return sum(ask(sink, "/state", headers=BEARER)[0].status == 200 for _ in range(ASKED))


def test_guests_that_read_slowly_lock_nobody_out(owned: WebSink) -> None:
    request = b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    with contextlib.ExitStack() as crowd:
        for _ in range(2 * door.MAX_GUESTS):
            crowd.enter_context(raw(owned, request, receive_bytes=2048))
        assert answered(owned) == ASKED


def test_known_clients_are_not_turned_out_by_guests(owned: WebSink) -> None:
    head = f"GET /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with raw(owned, head) as known, contextlib.ExitStack() as crowd:
        assert known.recv(12) == b"HTTP/1.1 200"
        for _ in range(3 * door.MAX_GUESTS):
            crowd.enter_context(raw(owned))
        known.sendall(head)
        seen = known.recv(1 << 20)
        while b"HTTP/1.1 200" not in seen:
            seen += known.recv(1 << 20)


def test_who_asks_for_what_is_open_is_not_known_by_that(owned: WebSink) -> None:
    head = f"GET /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with raw(owned, head) as known, contextlib.ExitStack() as crowd:
        assert known.recv(12) == b"HTTP/1.1 200"
        for _ in range(2 * door.MAX_KNOWN):
            guest = crowd.enter_context(raw(owned, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            assert guest.recv(12) == b"HTTP/1.1 200"
        known.sendall(head)
        seen = known.recv(1 << 20)
        while b"HTTP/1.1 200" not in seen:
            part = known.recv(1 << 20)
            assert part, "the known connection was cut for guests"
            seen += part


def test_a_flood_that_does_not_end(owned: WebSink) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), raw(owned, b"GET / HTTP/1.1\r\n"):
                pass

    crowd = [threading.Thread(target=flood) for _ in range(4)]
    for one in crowd:
        one.start()
    try:
        assert answered(owned) >= 0.9 * ASKED
    finally:
        over.set()
        for one in crowd:
            one.join()


def test_large_heads_cost_little_memory(owned: WebSink) -> None:
    memory = psutil.Process().memory_info
    before_bytes = memory().rss
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 8_000_000
    with contextlib.ExitStack() as crowd:
        for _ in range(31):
            connection = crowd.enter_context(raw(owned))
            with contextlib.suppress(OSError):  # it hangs up before it has everything
                connection.sendall(head)
            assert memory().rss - before_bytes < 100_000_000
        assert answered(owned) == ASKED


def test_a_body_is_never_read_as_a_request(owned: WebSink) -> None:
    """A proxy that keeps the connection must not get an answer to what a client hid in the body of a GET."""
    hidden = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    asked = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}"
    with raw(owned, asked.encode()) as connection:
        seen = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                seen += part
    assert seen.count(b"HTTP/1.1 ") == 1
    assert seen.startswith(b"HTTP/1.1 400 ")


def test_a_proxy_may_keep_its_connection(owned: WebSink) -> None:
    head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with raw(owned, 5 * head) as connection:
        seen = b""
        while seen.count(b"HTTP/1.1 200 ") < 5:
            seen += connection.recv(65536)


def test_the_form_lets_in_who_knows_the_token(owned: WebSink) -> None:
    person = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}
    answer, page = ask(owned, "/", headers=person)
    assert (answer.status, b'action="/login"' in page, b"not the token" in page) == (401, True, False)
    assert ask(owned, "/page.css")[0].status == 200
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer, page = ask(owned, "/login", method="POST", body=b"token=wrong", headers={**person, **form})
    assert (answer.status, b"not the token" in page, answer.headers["Set-Cookie"]) == (401, True, None)
    answer, _ = ask(owned, "/login", method="POST", body=f"token={TOKEN}".encode(), headers={**person, **form})
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    # a cookie that another program on this host has set, of a form that the standard library gives up at
    assert ask(owned, "/", headers={"Cookie": f'p={{"a":1}}; {cookie}'})[0].status == 200
    foreign = {**form, "Origin": "http://evil.example"}
    assert ask(owned, "/login", method="POST", body=f"token={TOKEN}".encode(), headers=foreign)[0].status == 403


def test_head_is_a_get_without_a_body(owned: WebSink) -> None:
    for path, status in (("/healthz", 200), ("/state", 401), ("/nothing", 401)):
        answer, body = ask(owned, path, method="HEAD")
        assert (answer.status, body) == (status, b"")
    answer, body = ask(owned, "/stream", method="HEAD", headers=BEARER)
    assert (answer.status, body) == (200, b"")


def test_cookies_of_others_hide_nobodys(owned: WebSink) -> None:
    name = f"rtfusion-{owned.port}"
    for cookies in (
        f"{name}=theirs; {name}={TOKEN}",
        f"{name}={TOKEN}; {name}=theirs",
        f'{name}="theirs"; {name}="{TOKEN}"; p={{"a":1}}',
    ):
        assert ask(owned, "/state", headers={"Cookie": cookies})[0].status == 200, cookies
    assert ask(owned, "/state", headers={"Cookie": f"{name}=theirs; {name}=; {name}"})[0].status == 401
    assert ask(owned, "/state", headers={"Cookie": f"not-{name}={TOKEN}"})[0].status == 401
