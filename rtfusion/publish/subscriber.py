"""`subscribe`: the fused frames of a run in another process, as an iterator."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import zmq

from rtfusion.clock import NS_PER_MS
from rtfusion.errors import CaptureTimeout, ConfigError, WireError
from rtfusion.focus.base import PEOPLE
from rtfusion.focus.boxes import Box
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.publish.keys import load_pair, load_public, make_pair
from rtfusion.publish.parallax import decode_displacement
from rtfusion.publish.publisher import SUBSCRIBE, set_options
from rtfusion.publish.ring import Overrun, RingReader
from rtfusion.publish.targets import BoxReport, decode_mask, encode_boxes
from rtfusion.publish.wire import BGR8, SHM, TOPIC, Header, Message, decode
from rtfusion.redaction import without_credentials
from rtfusion.types import Degraded, Displacement, FusedFrame, Image8

_log = logging.getLogger(__name__)

EVERY_FRAME_CAPACITY = 8
POLL_MS = 50
RECONNECT_MS = 50
HIGH_WATER_MARK = 4
MAX_MESSAGE_BYTES = 1 << 28
"""A connection that sends more at once is dropped: 256 MiB is a raw frame of 12000x7000."""
KEEPALIVE_S = 5
"""See `set_options`; the publisher is looked for again afterwards."""


_FRAME_FIELDS = {field.name for field in fields(FusedFrame)} & {field.name for field in fields(Header)}


@dataclass(frozen=True, kw_only=True, eq=False)
class ReceivedFrame:
    """One fused frame from a publisher."""

    image: Image8
    """(H, W, 3) BGR, contiguous; this frame's own memory."""
    header: Header
    """Everything else that the publisher said: stamps, skew, session, model, thermal state, drops."""
    received_ns: int
    """CLOCK_MONOTONIC of this machine at arrival."""
    age_ms: float
    """Time from the exposure (live) or the reading of the file (recorded) to the arrival here. Between two machines it is
    as good as their clocks agree (NTP)."""
    missed: int
    """Frames of this session between the frame yielded before and this one; 0 for the first frame of a session."""

    @property
    def sequence(self) -> int:
        """Counts fused frames within the session."""
        return self.header.sequence

    @property
    def timestamp_ns(self) -> int:
        """Capture of the visible frame."""
        return self.header.timestamp_ns

    @property
    def session(self) -> str:
        """Another value than before: the publisher was started again."""
        return self.header.session

    @functools.cached_property
    def people_mask(self) -> Image8 | None:
        """(h, w) uint8: where people are, 0 to 255, at about a quarter of the resolution; None where the run does not send it.

        Raises:
            WireError: the publisher sent something that is no map.
        """
        return None if self.header.people_mask is None else decode_mask(self.header.people_mask)

    @functools.cached_property
    def displacement(self) -> Displacement | None:
        """By how much the thermal image was moved for what is nearer or farther; None where the output does not send it.

        Its ``doubt_px`` are infinite where the publisher is not sure, and 0 elsewhere.

        Raises:
            WireError: the publisher sent something that is no map.
        """
        return None if self.header.parallax is None else decode_displacement(self.header.parallax)

    def as_fused(self) -> FusedFrame:
        """Make a frame that sinks take, to show, write or publish it again; stamps stay, the single images are not there."""
        told = {name: getattr(self.header, name) for name in _FRAME_FIELDS}
        told["degraded"] = next((state for state in Degraded if state.value == self.header.degraded), None)
        after_ns = self.header.skew_after_delay_ns
        told["thermal_delay_ns"] = 0 if after_ns is None else self.header.skew_ns - after_ns
        mask = self.people_mask
        if mask is not None:
            told["targets"] = {PEOPLE: (mask / 255).astype(np.float32)}
        told["displacement"] = self.displacement
        return FusedFrame(image=self.image, visible=self.image, thermal=self.image[:, :, 1], **told)

    def __repr__(self) -> str:
        return (
            f"ReceivedFrame(#{self.sequence} {self.header.width_px}x{self.header.height_px} "
            f"t={self.timestamp_ns / NS_PER_MS:.3f} ms age={self.age_ms:.1f} ms missed={self.missed})"
        )


class Subscription:
    """Frames from one publisher: an iterator and a context manager. Made by `subscribe`.

    A thread receives all the time, so that nothing old waits in the sockets. It ends when the subscription is closed or
    no longer referenced.
    """

    def __init__(
        self, url: str, *, topic: str, timeout_s: float | None, newest: bool, curve: Mapping[int, int | bytes]
    ) -> None:
        self.url = without_credentials(url)
        self.restarts = 0
        """Number of times that the publisher was seen to start again."""
        self.lapped = 0
        """Frames that were overwritten in shared memory before they were read."""
        self._encrypted = bool(curve)
        self._ring = RingReader()
        self._topic = topic
        self._timeout_s = timeout_s
        self._session: str | None = None
        self._sequence = 0
        self._bad_images = 0
        self._mailbox: Mailbox[_Arrival] = (
            Mailbox(capacity=1, policy=Policy.LATEST)
            if newest
            else Mailbox(capacity=EVERY_FRAME_CAPACITY, policy=Policy.BLOCK)
        )
        # The thread holds the receiver, not this object, which could not be collected otherwise.
        self._receiver = _Receiver(url, topic=topic, mailbox=self._mailbox, curve=curve)
        self._close = weakref.finalize(self, self._receiver.stop)
        self._close_ring = weakref.finalize(self, self._ring.close)
        self._thread = threading.Thread(target=self._receiver.run, name=f"subscription-{self.url}", daemon=True)
        self._thread.start()

    @property
    def bad_messages(self) -> int:
        """Messages skipped because they were not of the wire format."""
        return self._receiver.bad_messages + self._bad_images

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> ReceivedFrame:
        """The next frame; ends when the subscription is closed.

        Raises:
            CaptureTimeout: no frame came within ``timeout_s``; going on is possible.
        """
        while True:
            try:
                arrival = self._mailbox.get(timeout_s=self._timeout_s)
            except Closed:
                raise StopIteration from None
            if arrival is None:
                raise CaptureTimeout(self._silence())
            try:
                return self._received(arrival, image=_decoded_image(arrival.message, self._ring))
            except Overrun:
                self.lapped += 1
            except WireError as error:
                self._bad_images += 1
                _log.warning("%s: a message was skipped: %s", self.url, error)

    def report(self, frame: ReceivedFrame, boxes: Sequence[Box]) -> None:
        """Tell the publisher what was found in a frame, which it brings out while that is fresh. Newest wins, and nothing waits.

        The publisher takes boxes where its sink says so (``boxes=true``); whether it does is not heard back. Any thread may call.

        Raises:
            ConfigError: there are more than 64 boxes, or the subscription is closed.
        """
        found = BoxReport(session=frame.session, timestamp_ns=frame.timestamp_ns, boxes=tuple(boxes))
        message = encode_boxes(found)
        try:
            self._receiver.reports.put(message)
        except Closed:
            raise ConfigError("this subscription was closed; subscribe anew") from None

    def close(self) -> None:
        """End the iteration and free the sockets. Idempotent; any thread may call it."""
        self._close()
        self._thread.join()
        self._close_ring()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _received(self, arrival: _Arrival, *, image: Image8) -> ReceivedFrame:
        header = arrival.message.header
        missed = 0
        if header.session == self._session:
            missed = max(0, header.sequence - self._sequence - 1)
        elif self._session is not None:
            self.restarts += 1
            _log.info("%s: the publisher was started again", self.url)
        self._session, self._sequence = header.session, header.sequence
        underway_ns = arrival.unix_ns - header.published_unix_ns
        return ReceivedFrame(
            image=image,
            header=header,
            received_ns=arrival.monotonic_ns,
            age_ms=(header.age_at_publish_ns + underway_ns) / NS_PER_MS,
            missed=missed,
        )

    def _silence(self) -> str:
        """Say that no frame came, and what that may mean."""
        if self._session is None:
            return f"no frame from {self.url} (topic {self._topic!r}) within {self._timeout_s:g} s{self._hint()}"
        return (
            f"no more frames from {self.url} for {self._timeout_s:g} s, the last was number {self._sequence}: the run is over or "
            "stands still; whoever asks on gets those of the next one"
        )

    def _hint(self) -> str:
        if self.bad_messages:
            return f"; {self.bad_messages} messages were not of the wire format: does another program publish there?"
        if self.lapped:
            return f"; {self.lapped} frames were gone from shared memory: is the publisher on this machine, and alive?"
        allowed = ", with that server key, and is this public key on its list" if self._encrypted else ""
        return f"; is a run publishing there (--sink zmq:{self.url}){allowed}?"


def subscribe(
    url: str,
    *,
    topic: str = TOPIC,
    timeout_s: float | None = None,
    newest: bool = True,
    server_key: str | Path | None = None,
    keys: str | Path | None = None,
) -> Subscription:
    """Receive the frames that a run publishes with ``--sink zmq:...``.

    Args:
        url: where it publishes, for example ``tcp://127.0.0.1:5555``. It may start later, and again.
        topic: the publisher's topic.
        timeout_s: raise `CaptureTimeout` when no frame comes for so long; None waits for ever.
        newest: yield the newest frame there is and skip older ones, so that a slow reader is never behind. False
            yields every frame that arrives; a reader slower than the stream is then behind by some frames, and the
            publisher drops what is too much.
        server_key: the publisher's public key, or its ``.pub`` file, where it publishes with keys.
        keys: this side's key file, made with ``rtfusion keys``. Without one a pair is made up, which only a publisher
            with ``clients=any`` lets in.

    Returns:
        An iterator of `ReceivedFrame`, also a context manager.

    Raises:
        ConfigError: the URL is not one that can be connected to, or a key cannot be used.
    """
    if not re.fullmatch(r"tcp://.+:[0-9]+|ipc://.+", url):
        raise ConfigError(f"{without_credentials(url)!r} is not an address; expected for example tcp://127.0.0.1:5555")
    curve = _curve_options(server_key=server_key, keys=keys)
    return Subscription(url, topic=topic, timeout_s=timeout_s, newest=newest, curve=curve)


def _curve_options(*, server_key: str | Path | None, keys: str | Path | None) -> dict[int, int | bytes]:
    if server_key is None:
        if keys is not None:
            raise ConfigError("keys without the publisher's key encrypt nothing; give server_key too, its .pub file")
        return {}
    pair = make_pair() if keys is None else load_pair(Path(keys))
    return {
        zmq.CURVE_SERVERKEY: load_public(server_key).encode(),
        zmq.CURVE_PUBLICKEY: pair.public.encode(),
        zmq.CURVE_SECRETKEY: pair.secret.encode(),
    }


class _Arrival(NamedTuple):
    message: Message
    monotonic_ns: int
    unix_ns: int


class _Receiver:
    """The thread's side: takes messages off the socket until it is told to stop."""

    def __init__(self, url: str, *, topic: str, mailbox: Mailbox[_Arrival], curve: Mapping[int, int | bytes]) -> None:
        self.bad_messages = 0
        self.reports: Mailbox[bytes] = Mailbox(capacity=1, policy=Policy.LATEST)
        """What is to be sent to the publisher."""
        self._url = without_credentials(url)
        self._topic = topic
        self._mailbox = mailbox
        self._stop = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XSUB)
        options: dict[int, int | bytes] = {
            zmq.RCVHWM: HIGH_WATER_MARK, zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES, zmq.RECONNECT_IVL: RECONNECT_MS,
            zmq.IPV6: "[" in url,
        }  # fmt: skip
        set_options(self._socket, {**options, **curve}, keepalive_s=KEEPALIVE_S)
        try:
            self._socket.connect(url)
            self._socket.send(SUBSCRIBE + topic.encode())
        except zmq.ZMQError as error:
            self._end()
            raise ConfigError(
                f"{without_credentials(url)!r} cannot be connected to: {error}; expected for example tcp://127.0.0.1:5555"
            ) from None

    def stop(self) -> None:
        """Wake both sides for good."""
        self._stop.set()
        self.reports.close()
        self._mailbox.close()

    def run(self) -> None:
        """Receive until `stop`; the body of the thread."""
        try:
            while not self._stop.is_set():
                if self._socket.poll(POLL_MS):
                    self._receive()
                if len(self.reports) and (message := self.reports.get(timeout_s=0)) is not None:
                    self._send(message)
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the reader, which raises it
            self._mailbox.fail(error)
        finally:
            self._end()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(zmq.Again):  # a publisher that is not there now gets the next one
            self._socket.send(message, zmq.NOBLOCK)

    def _end(self) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def _receive(self) -> None:
        parts = [part.buffer for part in self._socket.recv_multipart(copy=False)]
        monotonic_ns, unix_ns = time.monotonic_ns(), time.time_ns()
        if bytes(parts[0]) != self._topic.encode():  # ZeroMQ matches beginnings: another topic that starts like ours
            return
        try:
            message = decode(parts)
        except WireError as error:
            self.bad_messages += 1
            if self.bad_messages == 1:
                _log.warning("%s: a message was skipped: %s; more of them are only counted", self._url, error)
            return
        self._mailbox.put(_Arrival(message, monotonic_ns, unix_ns))


def _decoded_image(message: Message, ring: RingReader) -> Image8:
    """(H, W, 3) BGR in memory of its own."""
    header = message.header
    if header.encoding == SHM:
        return ring.read(message.payload, width_px=header.width_px, height_px=header.height_px)
    pixels = np.frombuffer(message.payload, np.uint8)
    if header.encoding == BGR8:
        return pixels.reshape(header.height_px, header.width_px, 3).copy()
    import cv2

    try:
        image = cv2.imdecode(pixels, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise WireError(f"the payload is a JPEG image that cannot be decoded: {error.err}") from None
    if image is None or image.shape != (header.height_px, header.width_px, 3):
        raise WireError("the payload is a JPEG image that cannot be decoded")
    return np.ascontiguousarray(image, np.uint8)
