"""Who may keep a connection, and for how long: no client of the web server can hold up another one.

A connection is a guest until a request of it was let in, with the token where there is one; then it is known. Both kinds have
their own room, so that any number of guests takes nothing from those that are known.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_log = logging.getLogger(__name__)
logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # what clients send is not worth a line on the terminal

MAX_GUESTS, MAX_KNOWN = 128, 32
BACKLOG, QUEUE = MAX_GUESTS // 8, 1024
"""Connections that are taken at once, few enough that no guest is turned out unheard, and that the system holds until then."""
REQUEST_S = 5.0
"""Limit for the head of a request, and between two of them; and for its body."""
SEND_S = 5.0
"""Limit for the client to take what was sent, but for what the system holds."""
SEND_BUFFER_BYTES = 256 * 1024
"""Bytes that wait for one client: in the server, and in the system."""

Address = tuple[str, int]


class Door:
    """Keeps count of the connections of one server. For the thread of its event loop."""

    def __init__(self) -> None:
        self._guests: dict[Address, Connection] = {}
        """In the order of their coming."""
        self._known: dict[Address, Connection] = {}

    def __len__(self) -> int:
        """All connections there are."""
        return len(self._guests) + len(self._known)

    def enter(self, connection: Connection) -> None:
        """A connection was made; where guests have no room, the one that has waited for longest goes."""
        if connection.client is None:  # it has gone already
            connection.cut()
            return
        if len(self._guests) >= MAX_GUESTS:
            self._guests.pop(next(iter(self._guests))).cut()
        self._guests[connection.client] = connection

    def admit(self, client: Address) -> bool:
        """A request of this client was let in: it is known from now on. False where there is no room.

        Of those that are known and ask for nothing, the one that was let in longest ago makes room.
        """
        if client in self._known:
            return True
        if client not in self._guests:
            return False
        if len(self._known) >= MAX_KNOWN:
            idle = next((one for one in self._known.values() if not one.is_busy), None)
            if idle is None:
                return False
            self.leave(idle)
            idle.cut()
        self._known[client] = self._guests.pop(client)
        return True

    def leave(self, connection: Connection) -> None:
        """A connection is over."""
        for room in (self._guests, self._known):
            if connection.client is not None and room.get(connection.client) is connection:
                del room[connection.client]

    def protocol(self) -> Any:
        """What makes a connection, as uvicorn takes it."""
        return functools.partial(Connection, self)


class Connection(H11Protocol):
    """One connection over HTTP/1.1, with limits of time."""

    def __init__(self, door: Door, **given: Any) -> None:
        super().__init__(**given)
        self.access_log = False
        self._door = door
        self._waiting: asyncio.TimerHandle | None = None
        """Cuts a client that takes too long to ask."""
        self._sending: asyncio.TimerHandle | None = None
        """Cuts one that takes too long to read."""

    @property
    def is_busy(self) -> bool:
        """True while a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def cut(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, and let nobody hold much for a client that does not read."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._wait()
        self._door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        _stop(self._waiting)
        _stop(self._sending)
        self._door.leave(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what came; a whole head ends the waiting for it."""
        super().handle_events()
        if self.is_busy:
            _stop(self._waiting)

    def on_response_complete(self) -> None:
        """An answer is given: wait for the next request."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        super().pause_writing()
        self._sending = self._sending or self.loop.call_later(SEND_S, self.cut)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        _stop(self._sending)
        self._sending = None

    def _wait(self) -> None:
        """Cut the connection if nothing happens on it: no request, and no more of the last answer is taken."""
        _stop(self._waiting)
        self._waiting = self.loop.call_later(REQUEST_S, self._waited, self.transport.get_write_buffer_size())

    def _waited(self, unsent_bytes: int) -> None:
        if self.transport.get_write_buffer_size() < unsent_bytes:
            self._wait()
        else:
            self.cut()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
