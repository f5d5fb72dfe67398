"""The ZeroMQ wire format, version 1: three message parts, ``[topic, header, payload]``. See docs/wire-format.md.

This file knows nothing of sockets: bytes in, a checked `Message` out, and back. Whatever the bytes are, `decode` gives
a message that fits together or raises `WireError`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeGuard, cast

import msgpack
import numpy as np

from rtfusion.errors import WireError
from rtfusion.publish.jpeg import jpeg_frame
from rtfusion.publish.parallax import is_displacement
from rtfusion.publish.ring import Place, unpack_map
from rtfusion.publish.targets import is_mask
from rtfusion.types import FusedFrame

SCHEMA = 1
TOPIC = "rtfusion"
BGR8 = "bgr8"
"""Raw pixels: row after row from the top, blue green red, one byte each, nothing between rows."""
JPEG = "jpeg"
SHM = "shm"
"""The payload says where in shared memory the raw pixels are (`rtfusion.publish.ring`)."""
ENCODINGS = (BGR8, JPEG, SHM)

MAX_HEADER_BYTES = 65_536
MAX_SIDE_PX = 65_535
MAX_PX = (1 << 28) // 3
"""Of a frame: as many as a message of 256 MiB holds raw, however it is encoded."""

Part = bytes | bytearray | memoryview
Scalar = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Description of one published frame. The fields are the keys on the wire."""

    schema: int
    session: str
    """Random name of the publisher's run: another one means that it was started again."""
    sequence: int
    """Counts fused frames from 0 within a session; a gap is frames this reader did not get."""
    timestamp_ns: int
    """Capture of the visible frame: the publisher's CLOCK_MONOTONIC when ``live``, else time in the recording."""
    thermal_timestamp_ns: int
    skew_ns: int
    """Thermal minus visible."""
    received_ns: int
    """The publisher's CLOCK_MONOTONIC when the frames came from the driver or file."""
    published_ns: int
    """The publisher's CLOCK_MONOTONIC just before sending."""
    published_unix_ns: int
    """The moment of ``published_ns`` in nanoseconds since 1970, UTC."""
    live: bool
    """True for cameras, false for recordings."""
    width_px: int
    height_px: int
    encoding: str
    """``bgr8``, ``jpeg`` or ``shm``."""
    fuser: str
    model_id: str | None
    calibration_id: str | None
    thermal_state: Mapping[str, Scalar]
    """Gain control: ``gain``, ``low_counts``, ``high_counts``; ``shutter`` while the thermal image is held; with units ``units``,
    ``spot``, ``min`` and ``max``. Empty for an 8-bit thermal camera."""
    degraded: str | None
    """Nil while both cameras deliver; else ``no-visible``, ``no-thermal``, ``held-visible`` or ``held-thermal``."""
    name: str | None
    """Stem of the visible image file, where it came from a folder."""
    drops: Mapping[str, int]
    """Frames lost by the publisher so far in this session, by cause."""
    intents: Mapping[str, float] = field(default_factory=dict)
    """The intents that the frame was made with, those that are not at 0. Empty from publishers that do not know them."""
    people_mask: bytes | None = None
    """The map of people as a PNG file (`rtfusion.publish.targets`); None where the run does not send it."""
    skew_after_delay_ns: int | None = None
    """``skew_ns`` without the known delay of the thermal stamps: how far apart the two frames are. None from publishers that do
    not tell it."""
    parallax: Mapping[str, Any] | None = None
    """The map of parallax (`rtfusion.publish.parallax`); None where the output does not send it, or it is not known yet."""
    intents_version: int = 0
    """How often they were changed before this frame, in this session."""

    @property
    def age_at_publish_ns(self) -> int:
        """Time from the exposure (live) or the reading of the file (recorded) to the sending, on the publisher's clock."""
        return self.published_ns - (self.timestamp_ns if self.live else self.received_ns)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Message:
    """One decoded message; the payload is a view of the part it came in."""

    topic: str
    header: Header
    payload: memoryview


def encode_header(
    frame: FusedFrame,
    *,
    session: str,
    encoding: str,
    published_ns: int,
    published_unix_ns: int,
    live: bool,
    drops: Mapping[str, int],
    people_mask: bytes | None = None,
    parallax: Mapping[str, Any] | None = None,
) -> bytes:
    """The second part of a message, msgpack."""
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "session": session,
        "published_ns": published_ns,
        "published_unix_ns": published_unix_ns,
        "live": live,
        "encoding": encoding,
        "thermal_state": dict(frame.thermal_state),
        "intents": dict(frame.intents),
        "people_mask": people_mask,
        "parallax": parallax,
        "degraded": None if frame.degraded is None else frame.degraded.value,
        "drops": dict(drops),
    }
    ordered = {key: values[key] if key in values else getattr(frame, key) for key in _KEYS}
    packed: bytes = msgpack.packb(ordered, default=_plain_number)
    return packed


def decode(parts: Sequence[Part]) -> Message:
    """Check and decode one message.

    Raises:
        WireError: anything else than a message of this version whose parts fit together.
    """
    if len(parts) != 3:
        raise WireError(f"a message has {len(parts)} parts; expected 3: topic, header, payload")
    topic, packed, payload = (memoryview(part).cast("B") for part in parts)
    header = _checked(unpack_map(packed, what="header", max_bytes=MAX_HEADER_BYTES))
    _check_payload(header, payload)
    try:
        name = str(topic, "utf-8")
    except UnicodeDecodeError:
        raise WireError(f"the topic {bytes(topic[:64])!r} is not UTF-8") from None
    return Message(topic=name, header=header, payload=payload)


def _checked(values: dict[str, Any]) -> Header:
    """Keys that are not known are left out: a later publisher of the same schema may send more."""
    schema = values.get("schema")
    if not _is_int(schema, low=1):
        raise WireError(f"the header's schema is {schema!r}; expected {SCHEMA}")
    if schema > SCHEMA:
        raise WireError(
            f"the publisher sends schema {schema}, this rtfusion reads up to {SCHEMA}; update the subscriber"
        )
    values = {**{name: make() for name, make in _DEFAULTS.items()}, **values}
    missing = [name for name in _KEYS if name not in values]
    if missing:
        raise WireError(f"the header lacks {', '.join(missing)}")
    for names, fits, expected in _RULES:
        for name in names:
            if not fits(values[name]):
                raise WireError(f"the header's {name} is {_short(values[name])}; expected {expected}")
    if values["skew_ns"] != values["thermal_timestamp_ns"] - values["timestamp_ns"]:
        raise WireError("the header's skew_ns is not thermal_timestamp_ns - timestamp_ns")
    return Header(**{name: values[name] for name in _KEYS})


def _check_payload(header: Header, payload: memoryview) -> None:
    if header.encoding == BGR8:
        expected = header.width_px * header.height_px * 3
        if len(payload) != expected:
            raise WireError(
                f"the payload has {len(payload)} bytes; expected {expected} for {header.width_px}x{header.height_px} bgr8"
            )
        return
    if header.width_px * header.height_px > MAX_PX:
        raise WireError(f"the header says {header.width_px}x{header.height_px}; a frame has {MAX_PX} pixels at most")
    if header.encoding == SHM:
        Place.parse(payload)
        return
    frame = jpeg_frame(payload)
    if frame is None or frame.size_px != (header.width_px, header.height_px):
        found = "not a JPEG image" if frame is None else "a JPEG image of {}x{}".format(*frame.size_px)
        raise WireError(f"the payload is {found}; expected a JPEG image of {header.width_px}x{header.height_px}")
    if len(payload) < frame.least_bytes:
        raise WireError(
            f"the payload has {len(payload)} bytes, and no image of its size has less than {frame.least_bytes}"
        )


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a header cannot carry {value!r} of type {type(value).__name__}")


def _is_int(value: object, *, low: int | None = None, high: int = 2**64) -> TypeGuard[int]:
    return type(value) is int and (low is None or low <= value <= high)


def _is_map(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and fits(v) for k, v in value.items())


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and -1 <= cast("float", value) <= 1


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


_KEYS = tuple(field.name for field in fields(Header))
_DEFAULTS: Mapping[str, Callable[[], Any]] = {"intents": dict, "intents_version": int, "people_mask": lambda: None,
                                                    "parallax": lambda: None, "skew_after_delay_ns": lambda: None}  # fmt: skip
"""Keys that earlier publishers of this schema do not send."""
_is_count = functools.partial(_is_int, low=0)
_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("session",), lambda v: isinstance(v, str) and 1 <= len(v) <= 64, "1 to 64 characters"),
    (
        ("sequence", "received_ns", "published_ns", "published_unix_ns", "intents_version"),
        _is_count,
        "a whole number, 0 or more",
    ),
    (("timestamp_ns", "thermal_timestamp_ns", "skew_ns"), _is_int, "a whole number"),
    (("live",), lambda v: isinstance(v, bool), "true or false"),
    (("width_px", "height_px"), lambda v: _is_int(v, low=1, high=MAX_SIDE_PX), f"1 to {MAX_SIDE_PX}"),
    (("encoding",), lambda v: v in ENCODINGS, f"one of {', '.join(ENCODINGS)}"),
    (("fuser",), lambda v: isinstance(v, str), "text"),
    (("model_id", "calibration_id", "name", "degraded"), lambda v: v is None or isinstance(v, str), "text or nil"),
    (
        ("thermal_state",),
        lambda v: _is_map(v, lambda x: x is None or isinstance(x, (bool, int, float, str))),
        "a map from text to nil, a number, a truth value or text",
    ),
    (("drops",), lambda v: _is_map(v, _is_count), "a map from text to whole numbers, 0 or more"),
    (("skew_after_delay_ns",), lambda v: v is None or _is_int(v), "nil or a whole number"),
    (("people_mask",), lambda v: v is None or is_mask(v), "nil or a PNG file"),
    (("parallax",), lambda v: v is None or is_displacement(v), "nil or a map of parallax"),
    (("intents",), lambda v: _is_map(v, _is_share), "a map from text to numbers from -1 to 1"),
)
