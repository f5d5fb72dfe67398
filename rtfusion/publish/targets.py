"""Targets over the wire: the map of people that goes with a frame, and boxes that subscribers send back (docs/wire-format.md).

Like `rtfusion.publish.wire` this knows nothing of sockets: bytes in, checked values out, and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import msgpack
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError, WireError
from rtfusion.focus.boxes import MAX_BOXES, Box
from rtfusion.publish.ring import unpack_map
from rtfusion.types import Image8

MAX_MASK_BYTES = 32_768
"""The map in a header is made smaller until it fits: half of what a header may have."""
MAX_MASK_PX = 16_000_000
BOXES = b"rtfusion-boxes"
"""The beginning of a message of boxes; neither 0 nor 1, which begin subscriptions."""
MAX_BOXES_BYTES = 8192
BOXES_SCHEMA = 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR = 16
"""Offset of width and height in a PNG file."""


def encode_mask(plane: npt.NDArray[np.float32]) -> bytes:
    """A map from 0 to 1 as a PNG file of gray levels, 255 for 1; smaller by halves where it would be too long."""
    levels = cv2.convertScaleAbs(plane, alpha=255.0)
    while len(packed := cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()) > MAX_MASK_BYTES:
        levels = cv2.resize(levels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return packed


def is_mask(value: object) -> bool:
    """Tell what may be a map: a PNG file that says a size no larger than a picture's, before a decoder makes room for it."""
    if (
        not isinstance(value, bytes)
        or len(value) > MAX_MASK_BYTES
        or value[:8] != _SIGNATURE
        or len(value) < _IHDR + 10
    ):
        return False
    width, height = (int.from_bytes(value[at : at + 4], "big") for at in (_IHDR, _IHDR + 4))
    is_gray8 = value[_IHDR + 8 : _IHDR + 10] == b"\x08\x00"
    return is_gray8 and 1 <= width <= 16_384 and 1 <= height <= 16_384 and width * height <= MAX_MASK_PX


def decode_mask(packed: bytes) -> Image8:
    """(h, w) uint8 gray levels.

    Raises:
        WireError: it is no PNG file of gray levels.
    """
    image = cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_UNCHANGED) if is_mask(packed) else None
    if image is None or image.ndim != 2 or image.dtype != np.uint8:
        raise WireError("the map of people is no PNG of gray levels that can be decoded")
    return np.asarray(image, np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxReport:
    """What a subscriber found in a frame."""

    session: str
    """Of the frame."""
    timestamp_ns: int
    """Of the frame."""
    boxes: tuple[Box, ...]


def encode_boxes(report: BoxReport) -> bytes:
    """The message, in one part.

    Raises:
        ConfigError: there are too many boxes.
    """
    if len(report.boxes) > MAX_BOXES:
        raise ConfigError(f"{len(report.boxes)} boxes at a time; expected {MAX_BOXES} at most")
    rows = [[box.target, box.left, box.top, box.right, box.bottom, box.weight] for box in report.boxes]
    values = {
        "schema": BOXES_SCHEMA, "session": report.session, "timestamp_ns": report.timestamp_ns, "boxes": rows
    }  # fmt: skip
    return BOXES + bytes(msgpack.packb(values))


def decode_boxes(message: bytes) -> BoxReport:
    """Check and decode a message of boxes.

    Raises:
        WireError: it is anything else.
    """
    if not message.startswith(BOXES):
        raise WireError("a message that is neither a subscription nor boxes")
    values = unpack_map(memoryview(message)[len(BOXES) :], what="message of boxes", max_bytes=MAX_BOXES_BYTES)
    schema, session, timestamp_ns, rows = (values.get(key) for key in ("schema", "session", "timestamp_ns", "boxes"))
    if type(schema) is not int or schema != BOXES_SCHEMA:
        raise WireError(f"the boxes' schema is {schema!r}; expected {BOXES_SCHEMA}")
    if not isinstance(session, str) or type(timestamp_ns) is not int:
        raise WireError("boxes come with the session and the timestamp_ns of their frame")
    if not isinstance(rows, list) or len(rows) > MAX_BOXES:
        raise WireError(f"boxes are a list of at most {MAX_BOXES}")
    return BoxReport(session=session, timestamp_ns=timestamp_ns, boxes=tuple(map(_box, rows)))


def _box(row: object) -> Box:
    if not isinstance(row, Sequence) or len(row) not in (5, 6):
        raise WireError("a box is [target, left, top, right, bottom], and perhaps its weight")
    names = ("target", "left", "top", "right", "bottom", "weight")
    try:
        return Box(**dict(zip(names, row, strict=False)))
    except ConfigError as error:
        raise WireError(str(error)) from None
