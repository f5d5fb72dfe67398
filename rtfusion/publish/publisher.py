"""The publishing socket and its authenticator: who may connect, how many, and what they may send.

ZeroMQ asks the authenticator about every connection (ZAP, RFC 27), encrypted or not. It knows how many there are, since a
subscriber that stops reading holds a few frames in memory: their number has an end. Connections that only stand there, without a
handshake, are ended by ZeroMQ after `HANDSHAKE_MS`, and take nobody's place; when they are too many, nobody new is heard until
most of them are gone, so that they do not take the descriptors of the process either. Subscriptions are messages too, and
what is subscribed to is remembered by ZeroMQ until the connection ends: `Publisher.flooded` says when that gets too much.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from rtfusion.errors import ConfigError
from rtfusion.files import expanded
from rtfusion.publish.door import Door
from rtfusion.publish.keys import load_allowed, load_pair

_log = logging.getLogger(__name__)

ANYBODY = "any"
MAX_CONNECTIONS = 32
MAX_PREFIX_BYTES = 65_536
"""Limit of all subscribed prefixes together; ZeroMQ needs many times as much memory for them."""
MAX_REQUESTS = 1000
"""Subscriptions that may wait between two frames."""
MAX_REQUEST_BYTES = 16_384
MAX_STANDING, FEW_STANDING = 256, 64
"""Connections without a handshake: with more than these nobody new is heard, until there are less than those."""
MAX_MESSAGES = 8
"""Other messages of subscribers that may wait between two frames; the newest stay."""
HANDSHAKE_MS = 5000
POLL_MS = 50
KEEPALIVE_S = 10

SUBSCRIBE, UNSUBSCRIBE = b"\x01", b"\x00"
_ZAP = "inproc://zeromq.zap.01"
_MONITOR = "inproc://monitor"


@dataclass(frozen=True, slots=True)
class CurveAuth:
    """The publisher's key and the clients that may connect."""

    secret: str = field(repr=False)
    allowed: frozenset[bytes] | None
    """Public keys in their 32 bytes; None: whoever has the publisher's public key."""


class Publisher:
    """A bound XPUB socket with its authenticator. Used by one thread."""

    def __init__(self, address: str, *, topic: bytes, hwm: int, auth: CurveAuth | None) -> None:
        """Bind.

        Raises:
            zmq.ZMQError: the address cannot be bound. Nothing stays open.
        """
        self._topic = topic
        self._prefixes: set[bytes] = set()
        self._prefix_bytes = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.authenticator = ZapAuthenticator(self._context, allowed=None if auth is None else auth.allowed)
        self.socket = self._context.socket(zmq.XPUB)
        self.messages: deque[bytes] = deque(maxlen=MAX_MESSAGES)
        """What subscribers sent that is no subscription; whoever reads it takes it out."""
        self.flooded = False
        """Somebody sent more subscriptions than anybody needs."""
        options: dict[int, int | bytes] = {
            zmq.SNDHWM: hwm, zmq.RCVHWM: 16, zmq.MAXMSGSIZE: MAX_REQUEST_BYTES, zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            zmq.IPV6: "[" in address, zmq.ZAP_DOMAIN: b"rtfusion",
        }  # fmt: skip
        if auth is not None:
            options |= {zmq.CURVE_SERVER: 1, zmq.CURVE_SECRETKEY: auth.secret.encode()}
        set_options(self.socket, options, keepalive_s=KEEPALIVE_S)
        self.socket.monitor(_MONITOR, zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.authenticator.start()
        try:
            self.socket.bind(address)
        except zmq.ZMQError:
            self.close(linger_ms=0)
            raise

    @property
    def endpoint(self) -> str:
        """The bound address, with the port that was taken for ``:*``."""
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def has_subscribers(self) -> bool:
        """True while somebody subscribes to the topic."""
        # XPUB hands over the first subscription to each prefix, and its last cancellation.
        for _ in range(MAX_REQUESTS):
            if self._prefix_bytes > MAX_PREFIX_BYTES:
                self.flooded = True
            if self.flooded or not self.socket.poll(0):
                break
            message = self.socket.recv(zmq.NOBLOCK)
            kind, prefix = message[:1], message[1:]
            if kind == SUBSCRIBE and prefix not in self._prefixes:
                self._prefixes.add(prefix)
                self._prefix_bytes += len(prefix)
            elif kind == UNSUBSCRIBE and prefix in self._prefixes:
                self._prefixes.remove(prefix)
                self._prefix_bytes -= len(prefix)
            elif kind not in (SUBSCRIBE, UNSUBSCRIBE):
                self.messages.append(message)
        else:
            self.flooded = True
        return any(self._topic[:length] in self._prefixes for length in range(len(self._topic) + 1))

    def close(self, *, linger_ms: int) -> None:
        """Close the socket, giving subscribers so long to take what waits, and wait until the address is free."""
        self.socket.disable_monitor()
        self.socket.close(linger=linger_ms)
        self.authenticator.close()
        self._context.term()


class ZapAuthenticator:
    """Answers ZeroMQ's question about every connection, in a thread of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *, allowed: frozenset[bytes] | None) -> None:
        self.refused = 0
        """Connections that were turned away: not on the list, or too many."""
        self._context = context
        self._allowed = allowed
        self._connections: dict[int, float] = {}
        """When each connection was made, by its number."""
        self._door: Door | None = None
        """Where connections come in, over TCP."""
        self._approved_s: deque[float] = deque(maxlen=2 * MAX_CONNECTIONS)
        self._stop = threading.Event()
        self._questions = context.socket(zmq.REP)
        self._questions.bind(_ZAP)
        self._events = context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.RCVHWM, 0)  # an end that is missed would be counted as a connection for ever
        self._thread = threading.Thread(target=self._run, name="publisher-zap", daemon=True)

    def start(self) -> None:
        """Begin to answer; the monitor is there by now."""
        self._events.connect(_MONITOR)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()
        if self._door is not None:
            self._door.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._events, self._questions):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stop.is_set():
                ready = dict(poller.poll(POLL_MS))
                # events first: a connection is announced before the question about it
                while self._events.poll(0):
                    self._count(parse_monitor_message(self._events.recv_multipart()))
                    if len(self._connections) > MAX_STANDING:  # in a flood, one event follows the other for long
                        self._watch_door()
                self._watch_door()
                if self._questions in ready:
                    self._answer(self._questions.recv_multipart())
        finally:
            self._events.close(linger=0)
            self._questions.close(linger=0)

    def _watch_door(self) -> None:
        """Close it while too many connections say nothing."""
        standing = len(self._connections) - self._subscribers()
        if self._door is None or FEW_STANDING <= standing <= MAX_STANDING:
            return
        if self._door.set_open(standing < FEW_STANDING) and standing > MAX_STANDING:
            _log.warning("%d connections say nothing; nobody new is heard until most of them are gone", standing)

    def _count(self, event: Mapping[str, object]) -> None:
        connection = event["value"]
        if not isinstance(connection, int):
            return
        if event["event"] == zmq.EVENT_LISTENING:
            self._door = Door.of(connection)
        elif event["event"] == zmq.EVENT_ACCEPTED:
            self._connections[connection] = time.monotonic()
        else:
            self._connections.pop(connection, None)

    def _answer(self, question: list[bytes]) -> None:
        version, request = question[:2]
        code, reason = self._judgment(question)
        if reason:
            self.refused += 1
            if self.refused == 1:
                _log.warning("a connection was refused: %s; more of them are only counted", reason)
        self._questions.send_multipart([version, request, code, reason.encode(), b"", b""])

    def _judgment(self, question: list[bytes]) -> tuple[bytes, str]:
        """The status of this connection, and why it may not be. The question ends with the mechanism and its keys."""
        if self._allowed is not None and (question[5] != b"CURVE" or question[6] not in self._allowed):
            return b"400", "its key is not on the list"
        if self._subscribers() >= MAX_CONNECTIONS:
            return b"300", f"there are {MAX_CONNECTIONS} already"  # it may try again
        self._approved_s.append(time.monotonic())
        return b"200", ""

    def _subscribers(self) -> int:
        """Connections that were let in: those that have outlived a handshake, and of the younger ones as many as were approved.

        ZeroMQ does not say which connection it asks about.
        """
        since_s = time.monotonic() - HANDSHAKE_MS / 1000
        young = sum(made_s > since_s for made_s in self._connections.values())
        approved = sum(at_s > since_s for at_s in self._approved_s)
        return len(self._connections) - young + min(young, approved)


def set_options(socket: zmq.Socket[bytes], options: Mapping[int, int | bytes], *, keepalive_s: int) -> None:
    """Set options of a socket; a peer whose machine went away is given up after ``keepalive_s`` and three more tries."""
    keepalive: dict[int, int | bytes] = {
        zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: keepalive_s, zmq.TCP_KEEPALIVE_INTVL: keepalive_s,
        zmq.TCP_KEEPALIVE_CNT: 3,
    }  # fmt: skip
    for option, value in {**options, **keepalive}.items():
        socket.setsockopt(option, value)


def curve_auth(*, keys: str | None, clients: str | None, uri: str) -> CurveAuth | None:
    """The keys and clients that a sink was asked for, or None where it is open.

    Raises:
        ConfigError: one half of the settings is missing, or a file cannot be used.
    """
    if keys is None and clients is None:
        return None
    if keys is None:
        raise ConfigError(f"{uri}: clients needs keys too, the publisher's own: keys=FILE.key, made with rtfusion keys")
    if clients is None:
        raise ConfigError(
            f"{uri}: keys needs clients too: clients=FOLDER with the .pub files of those who may watch, or clients="
            f"{ANYBODY} for everybody who has the publisher's public key"
        )
    allowed = None if clients == ANYBODY else frozenset(map(z85.decode, load_allowed(expanded(clients))))
    return CurveAuth(load_pair(expanded(keys)).secret, allowed)
