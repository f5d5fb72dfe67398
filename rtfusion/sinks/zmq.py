"""Publishing over ZeroMQ in the wire format (docs/wire-format.md). Never blocks: a slow subscriber loses frames."""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import time

import cv2
import numpy as np
import zmq

from rtfusion.errors import ConfigError, SinkError
from rtfusion.sinks.base import SinkContext
from rtfusion.types import FusedFrame
from rtfusion.wire import BGR8, JPEG, TOPIC, encode_header

_log = logging.getLogger(__name__)

JPEG_QUALITY = 90
HIGH_WATER_MARK = 2
"""Messages kept for each subscriber. One more frame of age for each; beyond, the subscriber loses the newest ones."""
LINGER_MS = 1000
"""Longest wait at the end for subscribers to take the last frames."""
GREETING_MS = 250
"""Longest wait at the start of a recording: a subscriber that was there first knocks again within 200 ms."""

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


class ZmqSink:
    """Publishes every frame, as long as somebody subscribes to the topic.

    Raw pixels are sent from the frame's own memory: pyzmq keeps the array until the last subscriber has it, and frames
    are never written again after they are made.
    """

    def __init__(
        self,
        address: str,
        *,
        context: SinkContext,
        uri: str | None = None,
        encoding: str = "raw",
        quality: int | None = None,
        topic: str = TOPIC,
        hwm: int = HIGH_WATER_MARK,
        insecure: bool = False,
    ) -> None:
        self.uri = uri if uri is not None else f"zmq:{address}"
        if encoding == "raw" and quality is not None:
            raise ConfigError(f"{self.uri}: quality belongs to encoding=jpeg; raw pixels have none")
        _check_address(address, uri=self.uri, insecure=insecure)
        self._run = context
        self._encoding = BGR8 if encoding == "raw" else JPEG
        self._quality = JPEG_QUALITY if quality is None else quality
        self._topic = topic.encode()
        self._subscriptions: set[bytes] = set()
        self._skipped = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, hwm)
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        self._bind(address)
        if not context.live:
            self._socket.poll(GREETING_MS)

    @property
    def endpoint(self) -> str:
        """Where it publishes, with the port that was taken for ``:*``."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def has_subscribers(self) -> bool:
        """Whether anybody listens to the topic now."""
        # XPUB hands over the first subscription to each prefix, and its last cancellation.
        while self._socket.poll(0):
            message = self._socket.recv(zmq.NOBLOCK)
            kind, prefix = message[:1], message[1:]
            if kind == _SUBSCRIBE and self._topic.startswith(prefix):
                self._subscriptions.add(prefix)
            elif kind == _UNSUBSCRIBE:
                self._subscriptions.discard(prefix)
        return bool(self._subscriptions)

    def write(self, frame: FusedFrame) -> None:
        """Publish one frame, or do nothing when nobody listens.

        Raises:
            SinkError: the frame cannot be encoded.
        """
        if not self.has_subscribers():
            return
        payload = self._payload(frame)
        header = encode_header(
            frame,
            session=self._run.session,
            encoding=self._encoding,
            published_ns=time.monotonic_ns(),
            published_unix_ns=time.time_ns(),
            live=self._run.live,
            drops=self._drops(),
        )
        try:
            self._socket.send_multipart([self._topic, header, payload], flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._skipped += 1
        except zmq.ZMQError as error:
            raise SinkError(f"{self.uri}: publishing failed: {error}") from error

    def close(self, *, aborted: bool) -> None:
        """Give subscribers a second to take the last frames, unless an error ended the run, and free the address."""
        self._socket.close(linger=0 if aborted else LINGER_MS)
        self._context.term()

    def _bind(self, address: str) -> None:
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            self._context.term()
            if error.errno == errno.EADDRINUSE:
                reason = "the address is in use, perhaps by another run; end that one or choose another port"
            else:
                reason = f"cannot publish there: {error}; expected an address such as tcp://127.0.0.1:5555"
            raise ConfigError(f"{self.uri}: {reason}") from None
        _log.info("publishing at %s, topic %s", self.endpoint, self._topic.decode())

    def _payload(self, frame: FusedFrame) -> memoryview | bytes:
        if self._encoding == BGR8:
            return np.ascontiguousarray(frame.image).data
        return cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()

    def _drops(self) -> dict[str, int]:
        upstream = self._run.drops() if self._run.drops is not None else {}
        return {**upstream, "publisher": self._skipped} if self._skipped else dict(upstream)


def _check_address(address: str, *, uri: str, insecure: bool) -> None:
    if re.fullmatch(r"ipc://.+", address):
        return
    match = re.fullmatch(r"tcp://(.+):([0-9]{1,5}|\*)", address)
    if match is None or (match[2] != "*" and not 0 <= int(match[2]) <= 65535):
        raise ConfigError(f"{uri}: {address!r} is not an address; expected tcp://127.0.0.1:5555 or ipc:///tmp/name")
    if not (insecure or _is_loopback(match[1])):
        raise ConfigError(
            f"{uri}: {match[1]} can be reached from other machines, and everybody there could watch, unencrypted; "
            "publish at 127.0.0.1, or add ?insecure=true if that network is trusted "
            "(encrypted publishing with CURVE keys is not there yet)"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
