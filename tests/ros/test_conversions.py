"""Messages by their published definitions, to arrays and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
import standins
from rtfusion_ros import conversions as convert

from rtfusion import Band, Calibration, ConfigError, PixelFormat, WireError
from rtfusion.registration import CameraModel

RANDOM = np.random.default_rng(0)
BGR = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GRAY = RANDOM.integers(0, 256, (6, 8), dtype=np.uint8)
COUNTS = RANDOM.integers(0, 65536, (6, 8), dtype=np.uint16)
STAMP_NS = 1_764_000_000_123_456_789
MESSAGES = {
    "builtin_interfaces/msg/Time": standins.Time,
    "std_msgs/msg/Header": standins.Header,
    "sensor_msgs/msg/Image": standins.Image,
    "sensor_msgs/msg/CompressedImage": standins.CompressedImage,
    "sensor_msgs/msg/RegionOfInterest": standins.RegionOfInterest,
    "sensor_msgs/msg/CameraInfo": standins.CameraInfo,
    "diagnostic_msgs/msg/KeyValue": standins.KeyValue,
    "diagnostic_msgs/msg/DiagnosticStatus": standins.DiagnosticStatus,
    "diagnostic_msgs/msg/DiagnosticArray": standins.DiagnosticArray,
}


@pytest.mark.parametrize(
    ("encoding", "sent", "shown"),
    [
        ("bgr8", BGR, BGR),
        ("rgb8", BGR[..., ::-1], BGR),
        ("bgra8", np.dstack([BGR, GRAY]), BGR),
        ("rgba8", np.dstack([BGR[..., ::-1], GRAY]), BGR),
        ("mono8", GRAY, GRAY),
        ("8UC1", GRAY, GRAY),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_a_visible_picture_is_read_to_the_bit(encoding: str, sent: Any, shown: Any, padding: int) -> None:
    message = standins.picture(sent, encoding=encoding, stamp_ns=STAMP_NS, padding=padding)
    read = convert.read_image(message, band=Band.VISIBLE)
    assert np.array_equal(read.image, shown)
    assert read.pixel_format is (PixelFormat.BGR8 if shown.ndim == 3 else PixelFormat.GRAY8)
    assert read.note is None


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("other_end", [False, True])
def test_counts_are_read_to_the_bit_whatever_their_byte_order(encoding: str, other_end: bool) -> None:
    message = standins.picture(COUNTS, encoding=encoding, stamp_ns=STAMP_NS, padding=4)
    if other_end:
        message = standins.picture(COUNTS.byteswap(), encoding=encoding, stamp_ns=STAMP_NS, padding=4)
        message.is_bigendian = 1 - message.is_bigendian
    read = convert.read_image(message, band=Band.THERMAL)
    assert np.array_equal(read.image, COUNTS)
    assert read.pixel_format is PixelFormat.GRAY16


@pytest.mark.parametrize(
    ("encoding", "conversion"),
    [("yuv422", cv2.COLOR_BGR2YUV_UYVY), ("yuv422_yuy2", cv2.COLOR_BGR2YUV_YUYV), ("yuyv", cv2.COLOR_BGR2YUV_YUYV)],
)
def test_packed_yuv_has_its_colors(encoding: str, conversion: int) -> None:
    flat = np.full((6, 8, 3), (40, 90, 200), np.uint8)
    message = standins.picture(cv2.cvtColor(flat, conversion), encoding=encoding, stamp_ns=STAMP_NS)
    read = convert.read_image(message, band=Band.VISIBLE)
    assert np.abs(read.image.astype(int) - flat).max() <= 3


@pytest.mark.parametrize(
    ("pattern", "places"), [("rggb", (0, 0)), ("bggr", (1, 1)), ("grbg", (0, 1)), ("gbrg", (1, 0))]
)
def test_a_bayer_pattern_says_where_red_is(pattern: str, places: tuple[int, int]) -> None:
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[places[0] :: 2, places[1] :: 2] = 200
    read = convert.read_image(
        standins.picture(mosaic, encoding=f"bayer_{pattern}8", stamp_ns=STAMP_NS), band=Band.VISIBLE
    )
    blue, green, red = read.image[4:-4, 4:-4].reshape(-1, 3).mean(axis=0)
    assert red > 150 and blue == 0 and green < 60


def test_thermal_pictures_in_color_are_taken_by_their_luminance_and_it_is_said() -> None:
    read = convert.read_image(standins.picture(BGR, encoding="bgr8", stamp_ns=STAMP_NS), band=Band.THERMAL)
    assert np.array_equal(read.image, cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY))
    assert read.note == "thermal pictures come in color (bgr8); their luminance is taken as the level of heat"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1' is not read; expected one of mono8"),
        ({"step": 7}, "in rows of 7; expected rows of 8 or more"),
        ({"data": b"\0" * 40}, "has 40 bytes in rows of 8"),
        ({"height": 0}, "an image of 8x0"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    message = dataclasses.replace(standins.picture(GRAY, encoding="mono8", stamp_ns=STAMP_NS), **change)
    with pytest.raises(WireError, match=said.replace("(", r"\(")):
        convert.read_image(message, band=Band.VISIBLE)


def test_visible_pictures_of_sixteen_bits_are_refused() -> None:
    with pytest.raises(WireError, match="visible pictures of 16 bits"):
        convert.read_image(standins.picture(COUNTS, encoding="mono16", stamp_ns=STAMP_NS), band=Band.VISIBLE)


@pytest.mark.parametrize(("suffix", "image"), [(".png", COUNTS), (".png", GRAY)])
def test_a_compressed_thermal_picture_is_read_to_the_bit(suffix: str, image: Any) -> None:
    message = standins.CompressedImage(format="png", data=cv2.imencode(suffix, image)[1].tobytes())
    assert np.array_equal(convert.read_compressed(message, band=Band.THERMAL).image, image)


def test_a_compressed_picture_that_is_none_is_refused() -> None:
    with pytest.raises(WireError, match="3 bytes of format 'jpeg' are no picture"):
        convert.read_compressed(standins.CompressedImage(format="jpeg", data=b"abc"), band=Band.VISIBLE)


@pytest.mark.parametrize("image", [BGR, GRAY])
def test_an_image_goes_out_and_comes_back_the_same(image: Any) -> None:
    message = convert.fill_image(standins.Image(), image, stamp_ns=STAMP_NS, frame_id="left")
    assert convert.stamp_ns(message.header.stamp) == STAMP_NS
    assert message.header.frame_id == "left"
    assert np.array_equal(convert.read_image(message, band=Band.VISIBLE).image, image)


def test_a_compressed_image_goes_out_as_image_transport_names_it() -> None:
    smooth = cv2.resize(BGR, (64, 48), interpolation=cv2.INTER_CUBIC)
    message = convert.fill_compressed(
        standins.CompressedImage(), smooth, quality=95, stamp_ns=STAMP_NS, frame_id="left"
    )
    assert message.format == "bgr8; jpeg compressed bgr8"
    read = convert.read_compressed(message, band=Band.VISIBLE)
    assert np.abs(read.image.astype(int) - smooth).mean() < 6


@pytest.mark.parametrize(
    ("count", "model"), [(0, "plumb_bob"), (4, "plumb_bob"), (5, "plumb_bob"), (8, "rational_polynomial")]
)
def test_camera_info_is_that_of_the_calibration(count: int, model: str) -> None:
    camera = CameraModel(
        width_px=640,
        height_px=480,
        intrinsics=((500.0, 0.0, 320.0), (0.0, 510.0, 240.0), (0.0, 0.0, 1.0)),
        distortion=tuple(0.01 * number for number in range(1, count + 1)) or None,
    )
    info = convert.fill_camera_info(standins.CameraInfo(), camera, stamp_ns=STAMP_NS, frame_id="left")
    assert (info.width, info.height, info.distortion_model) == (640, 480, model)
    assert len(info.d) == (8 if count == 8 else 5)
    assert info.k == [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    assert info.p == [500.0, 0.0, 320.0, 0.0, 0.0, 510.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def test_camera_info_without_a_lens_is_refused() -> None:
    calibration = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(64, 48), thermal_size_px=(64, 48)
    )
    with pytest.raises(ConfigError, match="no camera matrix"):
        convert.fill_camera_info(standins.CameraInfo(), calibration.visible, stamp_ns=0, frame_id="")


SNAPSHOT: dict[str, Any] = {
    "fused": 90, "fps_recent": 29.5, "pairs": 91, "fuser": "learned", "engine": None, "notes": ["noise"],
    "sources": {"visible": {"lost": None}, "thermal": {"lost": None}},
    "age_ms": {"ros:": {"count": 9, "p50": 12.0}}, "skew_ms": {"count": 9, "p50": 3.0},
    "frames_read": {"visible": 92, "thermal": 93}, "drops": {"visible": {"too_old": 2, "queue_full": 0}},
}  # fmt: skip


def test_diagnostics_tell_how_it_goes() -> None:
    good = convert.diagnose(SNAPSHOT)
    assert (good.level, good.message) == ("OK", "29.5 frames/s")
    assert good.values["visible drops"] == "2 too_old"
    assert good.values["note 1"] == "noise"
    lost = {**SNAPSHOT, "sources": {"visible": {"lost": None}, "thermal": {"lost": "silent"}}}
    assert convert.diagnose(lost)[:2] == ("WARN", "the thermal stream is lost: silent")
    both = {**SNAPSHOT, "sources": {"visible": {"lost": "gone"}, "thermal": {"lost": "silent"}}}
    assert convert.diagnose(both).level == "ERROR"
    assert convert.diagnose({**SNAPSHOT, "fps_recent": 0.0}).level == "WARN"


# -- the stand-ins are what is published, and what is made of them can be sent ----------------------------------------


@pytest.fixture(scope="module")
def store() -> Any:
    rosbags = pytest.importorskip("rosbags.typesys", reason="the published definitions come with: pip install rosbags")
    return rosbags.get_typestore(rosbags.Stores.ROS2_JAZZY)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_stand_ins_have_the_published_fields(name: str, store: Any) -> None:
    published = [field for field, _ in store.fielddefs[name][1]]
    assert [one.name for one in dataclasses.fields(MESSAGES[name])] == published


def as_published(message: Any, name: str, store: Any) -> Any:
    """A stand-in as the type of the store, whose serialization is checked."""
    (_, fields) = store.fielddefs[name]
    values = {}
    for field, (kind, detail) in fields:
        value = getattr(message, field)
        if kind.name == "NAME":
            value = as_published(value, detail, store)
        elif kind.name in ("ARRAY", "SEQUENCE"):
            (inner, inner_detail), _ = detail
            if inner.name == "NAME":
                value = [as_published(one, inner_detail, store) for one in value]
            else:
                base = inner_detail[0]
                dtype = {"octet": np.uint8, "byte": np.uint8}.get(base) or np.dtype(base)
                value = np.frombuffer(value, np.uint8) if base == "uint8" else np.asarray(value, dtype)
        elif isinstance(value, bytes):
            value = value[0]
        values[field] = value
    return store.types[name](**values)


def test_what_is_published_can_be_sent_and_is_the_same_when_it_arrives(store: Any) -> None:
    image = convert.fill_image(standins.Image(), BGR, stamp_ns=STAMP_NS, frame_id="left")
    camera = CameraModel(
        width_px=8, height_px=6, intrinsics=((5.0, 0.0, 4.0), (0.0, 5.0, 3.0), (0.0, 0.0, 1.0)), distortion=(0.1,) * 5
    )
    info = convert.fill_camera_info(standins.CameraInfo(), camera, stamp_ns=STAMP_NS, frame_id="left")
    status = convert.fill_status(
        standins.DiagnosticStatus(),
        convert.diagnose(SNAPSHOT),
        name="fusion",
        hardware_id="",
        new_value=standins.KeyValue,
    )
    jpeg = convert.fill_compressed(standins.CompressedImage(), BGR, quality=90, stamp_ns=STAMP_NS, frame_id="left")
    for message, name in (
        (image, "sensor_msgs/msg/Image"),
        (info, "sensor_msgs/msg/CameraInfo"),
        (jpeg, "sensor_msgs/msg/CompressedImage"),
        (standins.DiagnosticArray(status=[status]), "diagnostic_msgs/msg/DiagnosticArray"),
    ):
        sent = as_published(message, name, store)
        arrived = store.deserialize_cdr(store.serialize_cdr(sent, name), name)
        assert store.serialize_cdr(arrived, name) == store.serialize_cdr(sent, name)
        if name == "sensor_msgs/msg/Image":
            assert np.array_equal(convert.read_image(arrived, band=Band.VISIBLE).image, BGR)
            assert convert.stamp_ns(arrived.header.stamp) == STAMP_NS
