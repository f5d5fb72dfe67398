"""Publishing over ZeroMQ in the wire format (docs/wire-format.md). Never blocks: a slow subscriber loses frames."""

from __future__ import annotations

import errno
import logging
import re
import socket
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zmq

from rtfusion.errors import ConfigError, SinkError, WireError
from rtfusion.focus.base import PEOPLE, map_shape
from rtfusion.publish.parallax import encode_displacement
from rtfusion.publish.publisher import Publisher, curve_auth
from rtfusion.publish.ring import RingWriter
from rtfusion.publish.targets import BoxReport, decode_boxes, encode_mask
from rtfusion.publish.wire import BGR8, JPEG, SHM, TOPIC, encode_header
from rtfusion.redaction import without_credentials
from rtfusion.sinks.base import SinkContext, socket_path
from rtfusion.text import is_loopback
from rtfusion.types import FusedFrame

_log = logging.getLogger(__name__)

JPEG_QUALITY = 90
HIGH_WATER_MARK = 2
"""Messages kept for each subscriber. One more frame of age for each; beyond, the subscriber loses the newest ones."""
LINGER_MS = 1000
"""Longest wait at the end for subscribers to take the last frames."""
GREETING_MS = 250
"""Longest wait at the start of a recording: a subscriber that was there first knocks again within 200 ms."""

_ENCODINGS = {"raw": BGR8, "jpeg": JPEG, "shm": SHM}


class ZmqSink:
    """Publishes every frame, as long as somebody subscribes to the topic.

    Raw pixels are sent from the frame's own memory: pyzmq keeps the array until the last subscriber has it, and frames
    are never written again after they are made.
    """

    def __init__(
        self,
        address: str,
        *,
        uri: str,
        context: SinkContext,
        encoding: str = "raw",
        quality: int | None = None,
        topic: str = TOPIC,
        hwm: int = HIGH_WATER_MARK,
        keys: str | None = None,
        clients: str | None = None,
        insecure: bool = False,
        boxes: bool = False,
        parallax: bool = False,
    ) -> None:
        self.uri = uri
        if encoding != "jpeg" and quality is not None:
            raise ConfigError(f"{self.uri}: quality belongs to encoding=jpeg; {encoding} pixels have none")
        self._auth = curve_auth(keys=keys, clients=clients, uri=self.uri)
        is_local = _is_local(address, uri=self.uri)
        if encoding == "shm" and not is_local:
            raise ConfigError(f"{self.uri}: shared memory ends with this machine; publish at 127.0.0.1 or ipc://PATH")
        if not (is_local or insecure or self._auth):
            raise ConfigError(_PUBLIC.format(uri=self.uri, address=without_credentials(address)))
        if parallax and context.settings.get("parallax") == "off":
            raise ConfigError(
                f"{self.uri}: parallax=true sends a map that there is with --parallax layers or dense alone"
            )
        self._run = context
        self._encoding = _ENCODINGS[encoding]
        self._quality = JPEG_QUALITY if quality is None else quality
        self._topic = topic.encode()
        self._hwm = hwm
        self._takes_boxes, self._tells_parallax = boxes, parallax
        self.reports: Counter[str] = Counter()
        """Messages of boxes that came: ``taken``, ``stale`` (of another run), ``bad``, and ``unwanted``."""
        self.drops: Counter[str] = Counter()
        """Frames lost here. ``publisher``: ZeroMQ would not take them; ``flood``: subscriptions were shaken off."""
        self._frames = self._unheard = 0
        """Frames that came, and those of them that went nowhere, since nobody subscribed to the topic."""
        self._ring = RingWriter() if self._encoding == SHM else None
        self.publisher = self._open(address)
        _log.info("publishing at %s, topic %s", self.endpoint, topic)
        if not context.live:
            self.publisher.socket.poll(GREETING_MS)

    @property
    def endpoint(self) -> str:
        """The address that it publishes at, with the port that was taken for ``:*``."""
        return self.publisher.endpoint

    def has_subscribers(self) -> bool:
        """True while somebody subscribes to the topic."""
        return self.publisher.has_subscribers()

    def write(self, frame: FusedFrame) -> bool:
        """Publish one frame, or do nothing when nobody listens; False when there was no way to, which ``drops`` tells.

        Raises:
            SinkError: the frame cannot be encoded.
        """
        dropped = self.drops.total()
        self._publish(frame)
        return self.drops.total() == dropped

    def _publish(self, frame: FusedFrame) -> None:
        self._frames += 1
        listened = self.has_subscribers()
        self._read_messages()
        if self.publisher.flooded:
            self._start_afresh()
            return
        if not listened:
            self._unheard += 1
            return
        try:
            payload = self._payload(frame)
        except SinkError as error:
            if not self._run.live:
                raise
            self._tell_failure(error)
            return
        header = encode_header(
            frame,
            session=self._run.session,
            encoding=self._encoding,
            published_ns=time.monotonic_ns(),
            published_unix_ns=time.time_ns(),
            live=self._run.live,
            drops={**(self._run.drops() if self._run.drops is not None else {}), **self.drops},
            people_mask=self._people_mask(frame),
            parallax=self._parallax(frame),
        )
        try:
            self.publisher.socket.send_multipart([self._topic, header, payload], flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.drops["publisher"] += 1
        except zmq.ZMQError as error:
            raise SinkError(f"{self.uri}: publishing failed: {error}") from error

    def close(self, *, aborted: bool) -> None:
        """Give subscribers a second to take the last frames, unless an error ended the run, and free the address."""
        if self._unheard and self._run.note is not None:
            self._run.note(
                f"{self.uri}: nobody listened to topic {self._topic.decode()} during {self._unheard} of {self._frames} frames"
            )
        self.publisher.close(linger_ms=0 if aborted else LINGER_MS)
        if self._ring is not None:
            self._ring.close()

    def _people_mask(self, frame: FusedFrame) -> bytes | None:
        if not self._run.publish_mask:
            return None
        nobody = np.zeros(map_shape(frame.image.shape), np.float32)
        return encode_mask(frame.targets.get(PEOPLE, nobody))

    def _parallax(self, frame: FusedFrame) -> dict[str, Any] | None:
        known = frame.displacement
        return encode_displacement(known) if self._tells_parallax and known is not None else None

    def _read_messages(self) -> None:
        """Hand on the boxes that subscribers sent since the last frame."""
        while self.publisher.messages:
            message = self.publisher.messages.popleft()
            try:
                self._take_boxes(decode_boxes(message))
            except (WireError, ConfigError) as error:
                self._refuse("bad", str(error))

    def _take_boxes(self, report: BoxReport) -> None:
        if not self._takes_boxes:
            self._refuse("unwanted", f"it takes none without boxes=true, as in {self.uri.split('?')[0]}?boxes=true")
        elif report.session != self._run.session:
            self._refuse("stale", "they are of another run of the publisher")
        elif self._run.control is None:
            self._refuse("unwanted", "nothing is fused here, so nothing can be brought out")
        else:
            self._run.control.report(report.boxes, timestamp_ns=report.timestamp_ns)
            self.reports["taken"] += 1

    def _refuse(self, cause: str, why: str) -> None:
        """Count boxes that are not taken, and say so the first time."""
        if not self.reports[cause] and self._run.note is not None:
            self._run.note(f"{self.uri}: boxes of a subscriber were left out: {why}")
        self.reports[cause] += 1

    def _open(self, address: str) -> Publisher:
        path = socket_path(address)
        if path is not None:
            _check_socket(path, uri=self.uri)
        try:
            return Publisher(address, topic=self._topic, hwm=self._hwm, auth=self._auth)
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "the address is in use, perhaps by another run; end that one or choose another port"
            else:
                reason = f"cannot publish there: {error}; expected an address such as tcp://127.0.0.1:5555"
            raise ConfigError(f"{self.uri}: {reason}") from None

    def _start_afresh(self) -> None:
        """Drop every connection, and with them what they subscribed to. Those who mean well come back by themselves."""
        endpoint = self.endpoint
        if not self.drops["flood"]:
            _log.warning(
                "%s: somebody floods it with subscriptions; all connections are dropped and made anew", self.uri
            )
        self.drops["flood"] += 1
        self.publisher.close(linger_ms=0)
        try:
            self.publisher = self._open(endpoint)
        except ConfigError as error:
            raise SinkError(str(error)) from None

    def _tell_failure(self, error: SinkError) -> None:
        """Count a frame for which there is no room; subscribers stay, and the next frame is tried."""
        if not self.drops["failed"]:
            _log.warning("%s: %s. The run goes on, and every frame is tried", self.uri, error)
            if self._run.note is not None:
                self._run.note(f"{self.uri}: {error}")
        self.drops["failed"] += 1

    def _payload(self, frame: FusedFrame) -> memoryview | bytes:
        if self._ring is not None:
            return self._ring.put(frame.image)
        if self._encoding == BGR8:
            return np.ascontiguousarray(frame.image).data
        return cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()


_PUBLIC = (
    "{uri}: {address} can be reached from other machines, and everybody there could watch, unencrypted; publish at "
    "127.0.0.1, or make keys with rtfusion keys and add ?keys=FILE.key&clients=FOLDER, or add ?insecure=true if that "
    "network is trusted"
)


def _check_socket(path: Path, *, uri: str) -> None:
    """Make sure that binding there, for which ZeroMQ removes what it finds, takes nothing from anybody.

    Raises:
        ConfigError: a file is there that is no socket, or one at which somebody listens.
    """
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # binding says what is wrong
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{uri}: {path} exists and is no socket; it is never replaced, choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return  # left behind by a run that was killed
        except OSError:
            pass  # busy, or not ours: somebody's
    raise ConfigError(f"{uri}: the address is in use, perhaps by another run; end that one or choose another path")


def _is_local(address: str, *, uri: str) -> bool:
    if re.fullmatch(r"ipc://.+", address):
        return True
    match = re.fullmatch(r"tcp://(.+):([0-9]{1,5}|\*)", address)
    if match is None or (match[2] != "*" and not 0 <= int(match[2]) <= 65535):
        shown = without_credentials(address)
        raise ConfigError(f"{uri}: {shown!r} is not an address; expected tcp://127.0.0.1:5555 or ipc:///tmp/name")
    return is_loopback(match[1])
