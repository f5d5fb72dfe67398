"""Messages to arrays and back, by the published definitions of sensor_msgs, std_msgs and diagnostic_msgs.

Nothing of ROS is imported: messages are read and filled by the names of their fields, so that tests need no ROS. The encodings
are those of sensor_msgs/image_encodings.hpp.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtfusion import Band, ConfigError, PixelFormat, WireError
from rtfusion.registration import CameraModel
from rtfusion.types import Image, Image8

NS_PER_S = 1_000_000_000
LUMINANCE = "thermal pictures come in color ({encoding}); their luminance is taken as the level of heat"


class Encoding(NamedTuple):
    """How the pixels of a message lie in memory."""

    dtype: type[np.uint8] | type[np.uint16]
    channels: int
    to_bgr: int | None = None
    """OpenCV's conversion to BGR; None for BGR itself, and for one channel."""


ENCODINGS: Mapping[str, Encoding] = {
    "mono8": Encoding(np.uint8, 1),
    "8UC1": Encoding(np.uint8, 1),
    "mono16": Encoding(np.uint16, 1),
    "16UC1": Encoding(np.uint16, 1),
    "bgr8": Encoding(np.uint8, 3),
    "rgb8": Encoding(np.uint8, 3, cv2.COLOR_RGB2BGR),
    "bgra8": Encoding(np.uint8, 4, cv2.COLOR_BGRA2BGR),
    "rgba8": Encoding(np.uint8, 4, cv2.COLOR_RGBA2BGR),
    "yuv422": Encoding(np.uint8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": Encoding(np.uint8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": Encoding(np.uint8, 2, cv2.COLOR_YUV2BGR_YUYV),
    "yuyv": Encoding(np.uint8, 2, cv2.COLOR_YUV2BGR_YUYV),
    "bayer_rggb8": Encoding(np.uint8, 1, cv2.COLOR_BayerRGGB2BGR),
    "bayer_bggr8": Encoding(np.uint8, 1, cv2.COLOR_BayerBGGR2BGR),
    "bayer_gbrg8": Encoding(np.uint8, 1, cv2.COLOR_BayerGBRG2BGR),
    "bayer_grbg8": Encoding(np.uint8, 1, cv2.COLOR_BayerGRBG2BGR),
}
"""Every encoding that is read."""


class Picture(NamedTuple):
    """What a message shows."""

    image: Image
    """(H, W) uint8 or uint16, or (H, W, 3) BGR uint8."""
    pixel_format: PixelFormat
    note: str | None = None
    """An assumption that a person should know of."""


def read_image(message: Any, *, band: Band) -> Picture:
    """The picture of a sensor_msgs/Image, in memory of its own.

    Raises:
        WireError: its encoding is not read, not of this band, or its fields contradict each other.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise WireError(f"encoding {message.encoding!r} is not read; expected one of {', '.join(ENCODINGS)}")
    height, width, step = int(message.height), int(message.width), int(message.step)
    item = np.dtype(encoding.dtype).itemsize
    row = width * encoding.channels * item
    data = np.frombuffer(message.data, np.uint8)
    if not (height and width) or step < row or data.size < step * (height - 1) + row:
        raise WireError(
            f"an image of {width}x{height} {message.encoding} has {data.size} bytes in rows of {step}; "
            f"expected rows of {row} or more"
        )
    padded = np.zeros(step * height, np.uint8)  # the last row may lack its padding
    padded[: min(data.size, padded.size)] = data[: padded.size]
    pixels = padded.reshape(height, step)[:, :row]
    image: Any = np.ascontiguousarray(pixels).view(encoding.dtype)
    if item > 1 and bool(message.is_bigendian) != (sys.byteorder == "big"):
        image = image.byteswap()
    if encoding.channels > 1:
        image = image.reshape(height, width, encoding.channels)
    if encoding.to_bgr is not None:
        image = cv2.cvtColor(image, encoding.to_bgr)
    return _of_band(image, band=band, encoding=message.encoding)


def read_compressed(message: Any, *, band: Band) -> Picture:
    """The picture of a sensor_msgs/CompressedImage (JPEG or PNG, of 16 bits too).

    Raises:
        WireError: it cannot be decoded, or is not of this band.
    """
    image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise WireError(f"{len(message.data)} bytes of format {message.format!r} are no picture; expected jpeg or png")
    if image.ndim == 3 and image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return _of_band(image, band=band, encoding=message.format or "compressed")


def _of_band(image: Any, *, band: Band, encoding: str) -> Picture:
    if band is Band.VISIBLE:
        if image.dtype != np.uint8:
            raise WireError(f"visible pictures of 16 bits ({encoding}) are not read; publish them in 8 bits")
        return Picture(image, PixelFormat.BGR8 if image.ndim == 3 else PixelFormat.GRAY8)
    if image.ndim == 2:
        return Picture(image, PixelFormat.GRAY16 if image.dtype == np.uint16 else PixelFormat.GRAY8)
    if image.dtype != np.uint8:
        raise WireError(f"thermal pictures in colors of 16 bits ({encoding}) are not read; publish mono16")
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return Picture(gray, PixelFormat.GRAY8, LUMINANCE.format(encoding=encoding))


def stamp_ns(time: Any) -> int:
    """A builtin_interfaces/Time in nanoseconds."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def fill_header(header: Any, *, stamp_ns: int, frame_id: str) -> None:
    """Fill a std_msgs/Header."""
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
    header.frame_id = frame_id


def fill_image(message: Any, image: Image8, *, stamp_ns: int, frame_id: str) -> Any:
    """Fill a sensor_msgs/Image with (H, W, 3) BGR or (H, W) gray, and give it back."""
    fill_header(message.header, stamp_ns=stamp_ns, frame_id=frame_id)
    message.height, message.width = image.shape[:2]
    message.encoding = "bgr8" if image.ndim == 3 else "mono8"
    message.is_bigendian = 0
    message.step = image.shape[1] * (3 if image.ndim == 3 else 1)
    message.data = _octets(np.ascontiguousarray(image).data.cast("B"))
    return message


def fill_compressed(message: Any, image: Image8, *, quality: int, stamp_ns: int, frame_id: str) -> Any:
    """Fill a sensor_msgs/CompressedImage with a JPEG, as image_transport's plugin does, and give it back."""
    fill_header(message.header, stamp_ns=stamp_ns, frame_id=frame_id)
    encoding = "bgr8" if image.ndim == 3 else "mono8"
    message.format = f"{encoding}; jpeg compressed {encoding}"
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message.data = _octets(jpeg.data)
    return message


def _octets(data: memoryview) -> array.array[int]:
    """An array of this type is taken over by a message as it is; anything else it looks at byte by byte."""
    octets = array.array("B")
    octets.frombytes(data)
    return octets


def fill_camera_info(message: Any, camera: CameraModel, *, stamp_ns: int, frame_id: str) -> Any:
    """Fill a sensor_msgs/CameraInfo with the lens of a calibrated camera, and give it back.

    Raises:
        ConfigError: the calibration says nothing of the lens.
    """
    if camera.intrinsics is None:
        raise ConfigError("the calibration has no camera matrix, which camera_info is made of; calibrate with a board")
    fill_header(message.header, stamp_ns=stamp_ns, frame_id=frame_id)
    message.width, message.height = camera.size_px
    coefficients = list(camera.distortion or ())
    coefficients += [0.0] * ((5 if len(coefficients) <= 5 else 8) - len(coefficients))
    message.distortion_model = "plumb_bob" if len(coefficients) == 5 else "rational_polynomial"
    rows = np.array(camera.intrinsics)
    message.d = coefficients
    message.k = rows.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([rows, np.zeros((3, 1))]).ravel().tolist()
    return message


def copy_camera_info(message: Any, given: Any, *, stamp_ns: int, frame_id: str) -> Any:
    """Fill a sensor_msgs/CameraInfo with what another one says, for a frame of another moment, and give it back."""
    fill_header(message.header, stamp_ns=stamp_ns, frame_id=frame_id)
    for name in ("width", "height", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y", "roi"):
        setattr(message, name, getattr(given, name))
    return message


class Diagnosis(NamedTuple):
    """What a diagnostic_msgs/DiagnosticStatus says."""

    level: str
    """``OK``, ``WARN``, ``ERROR`` or ``STALE``: a constant of the message."""
    message: str
    values: Mapping[str, str]


def diagnose(snapshot: Mapping[str, Any]) -> Diagnosis:
    """Judge the measurements of a run (`rtfusion.telemetry.Telemetry.snapshot`)."""
    lost = [
        f"the {band} stream is lost: {reason}"
        for band, source in snapshot["sources"].items()
        if (reason := source["lost"])
    ]
    rate_hz = snapshot["fps_recent"]
    level = "WARN" if lost or not rate_hz else "OK"
    if lost and len(lost) == len(snapshot["sources"]):
        level = "ERROR"
    message = "; ".join(lost) or (f"{rate_hz:.1f} frames/s" if rate_hz else "no frame was fused in the last seconds")
    ages = [age["p50"] for age in snapshot["age_ms"].values() if age["count"]]
    values = {
        "frames fused": str(snapshot["fused"]),
        "frames/s": f"{rate_hz:.1f}",
        "pairs": str(snapshot["pairs"]),
        "fuser": str(snapshot["fuser"]),
        "engine": str(snapshot["engine"] or "none"),
        "age, ms": f"{max(ages):.1f}" if ages else "-",
        "skew, ms": f"{snapshot['skew_ms']['p50']:.1f}" if snapshot["skew_ms"]["count"] else "-",
    }
    for band in Band:
        values[f"{band.value} frames"] = str(snapshot["frames_read"][band.value])
        values[f"{band.value} drops"] = _counts(snapshot["drops"].get(band.value, {}))
    for number, note in enumerate(snapshot["notes"], start=1):
        values[f"note {number}"] = note
    return Diagnosis(level, message, values)


def _counts(causes: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in causes.items() if count) or "0"


def fill_status(status: Any, diagnosis: Diagnosis, *, name: str, hardware_id: str, new_value: Any) -> Any:
    """Fill a diagnostic_msgs/DiagnosticStatus, and give it back; ``new_value`` makes a diagnostic_msgs/KeyValue."""
    status.level = getattr(status, diagnosis.level)
    status.name, status.message, status.hardware_id = name, diagnosis.message, hardware_id
    values = []
    for key, text in diagnosis.values.items():
        value = new_value()
        value.key, value.value = key, text
        values.append(value)
    status.values = values
    return status
