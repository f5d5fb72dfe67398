"""Whatever arrives from outside: a message or an error of our own, never anything else."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture.uri import parse_source
from rtfusion.config import Settings, load
from rtfusion.errors import CalibrationError, CaptureError, ConfigError, WireError
from rtfusion.publish.wire import BGR8, JPEG, decode, encode_header
from rtfusion.redaction import without_credentials
from rtfusion.registration import Calibration, register
from rtfusion.types import FusedFrame
from tests.fuzz.fuzzing import damaged, fuzzed

IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=30)
NESTED = st.recursive(
    PLAIN | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


STRANGE_NUMBERS = st.sampled_from([0, -1, 1, 1e-300, 1e300, 2**63, 10**400, float("nan"), float("inf"), -0.0, True])


def header(encoding: str = BGR8) -> bytes:
    frame = FusedFrame(
        image=IMAGE, visible=IMAGE, thermal=IMAGE[..., 0], timestamp_ns=5, thermal_timestamp_ns=4, received_ns=6,
        sequence=7, fuser="pyramid", thermal_state={"gain": "percentile", "low_counts": 1.5},
    )  # fmt: skip
    return encode_header(
        frame, session="s", encoding=encoding, published_ns=8, published_unix_ns=9, live=True, drops={"late": 1}
    )


KEYS = sorted(msgpack.unpackb(header()))


@fuzzed
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_messages_of_any_bytes(parts: list[bytes]) -> None:
    with contextlib.suppress(WireError):
        decode(parts)


@fuzzed
@given(packed=damaged(header()), payload=st.just(IMAGE.tobytes()) | st.binary(max_size=40))
def test_messages_with_damage(packed: bytes, payload: bytes) -> None:
    try:
        message = decode([b"rtfusion", packed, payload])
    except WireError:
        return
    assert len(message.payload) == len(payload)


@fuzzed
@given(
    changes=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), NESTED, max_size=4),
    data=st.binary(max_size=60),
)
def test_messages_with_strange_headers(changes: dict[str, Any], data: bytes) -> None:
    values = {**msgpack.unpackb(header(JPEG)), **changes}
    with contextlib.suppress(WireError):
        decode([b"rtfusion", msgpack.packb(values), b"\xff\xd8" + data])


def calibration_values() -> dict[str, Any]:
    calibration = Calibration.from_homography(
        visible_from_thermal_px=np.array([[2.0, 0.1, 5.0], [0.0, 2.0, 3.0], [0.0, 0.0, 1.0]]),
        visible_size_px=(640, 480),
        thermal_size_px=(320, 240),
        distance_m=5.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.json"
        calibration.save(path)
        return dict(json.loads(path.read_text()))


CALIBRATION = calibration_values()


def load_calibration(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.json"
        path.write_bytes(data)
        with contextlib.suppress(CalibrationError):
            calibration = Calibration.load(path)
            for grid in ("visible", "thermal"):
                register(visible_size_px=(32, 24), thermal_size_px=(16, 12), calibration=calibration, grid=grid)


@fuzzed
@given(st.binary(max_size=300) | damaged(json.dumps(CALIBRATION).encode()))
def test_calibrations_of_any_bytes(data: bytes) -> None:
    load_calibration(data)


@fuzzed
@given(st.dictionaries(st.sampled_from(sorted(CALIBRATION)) | st.text(max_size=6), JSON, min_size=1, max_size=4))
def test_calibrations_with_strange_values(changes: dict[str, Any]) -> None:
    load_calibration(json.dumps({**CALIBRATION, **changes}).encode())


@fuzzed
@given(path=st.lists(st.integers(0, 50), min_size=1, max_size=4), value=JSON | STRANGE_NUMBERS)
def test_calibrations_with_one_strange_value_inside(path: list[int], value: Any) -> None:
    values = json.loads(json.dumps(CALIBRATION))
    place = values
    for step in path:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[step % len(keys)]
        if not isinstance(place[key], (dict, list)) or not place[key]:
            break
        place, parent = place[key], place
    else:
        place = parent
    place[key] = value
    load_calibration(json.dumps(values).encode())


def load_settings(text: bytes, environ: dict[str, str], flags: dict[str, object] | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rtfusion.toml"
        path.write_bytes(text)
        with contextlib.suppress(ConfigError):
            load(flags or {}, file=path, environ=environ)


TOML = b'ir = "a.mp4"\nvis = "b.mp4"\nfuser = "pyramid"\nloop = 2\nthreshold = 0.5\nsink = ["out.mp4", "null:"]\npace = true\n'


NASTY = st.sampled_from(
    [
        "~",
        "~/x",
        "~nobody-is-called-so/x",
        "a\0b",
        "\udcff",
        "-1",
        "-0.0",
        "1e999",
        "nan",
        "9" * 5000,
        "[" * 3000,
        "'",
        "/",
    ]
)
TEXTS = st.text(max_size=30) | NASTY
NAMES = sorted(Settings.model_fields)


@fuzzed
@given(st.dictionaries(st.sampled_from(NAMES) | st.just("x"), TEXTS | JSON | st.tuples(TEXTS, TEXTS), max_size=5))
def test_settings_of_any_flags(flags: dict[str, object]) -> None:
    load_settings(b"", {}, flags)


@fuzzed
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS | st.lists(TEXTS, max_size=3) | JSON, max_size=5))
def test_settings_files_with_strange_values(values: dict[str, Any]) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    load_settings("\n".join(lines).encode(), {})


@pytest.mark.parametrize("text", ["ir = " + "[" * 5000, "loop = " + "9" * 5000, "a." * 5000 + "b = 1"])
def test_settings_files_that_are_too_much(text: str) -> None:
    load_settings(text.encode(), {})


@fuzzed
@given(st.binary(max_size=200) | damaged(TOML))
def test_settings_files_of_any_bytes(text: bytes) -> None:
    load_settings(text, {})


@fuzzed
@given(
    st.dictionaries(
        st.sampled_from([f"RTFUSION_{name.upper()}" for name in Settings.model_fields]) | st.just("RTFUSION_X"),
        (st.text(st.characters(codec="utf-8"), max_size=30) | NASTY).map(lambda text: text.replace("\0", "")),
        max_size=5,
    )
)
def test_settings_of_any_environment(environ: dict[str, str]) -> None:
    load_settings(b"", environ)


SCHEMES = ("file:", "video:", "images:", "v4l2:", "usb:", "synthetic:", "rtsp://", "http://", "udp://", "srt://", "")


@fuzzed
@given(st.sampled_from(SCHEMES), st.text(max_size=60))
def test_sources_of_any_text(scheme: str, rest: str) -> None:
    with contextlib.suppress(ConfigError, CaptureError):
        parse_source(scheme + rest)


SECRET = st.text("abcdefXYZ0123456789!$%&()+,:;=?@/ ", min_size=4, max_size=20)


@fuzzed
@given(scheme=st.sampled_from(["rtsp", "http", "https"]), name=st.text("abc", min_size=1), password=SECRET)
def test_no_password_is_ever_shown(scheme: str, name: str, password: str) -> None:
    marked = f"s3cret{password}"
    for text in (
        f"{scheme}://{name}:{marked}@camera/1",
        f"{scheme}:/{name}:{marked}@camera/1",
        f"{scheme}://camera/1?user={name}&password={marked}",
        f"{scheme}://camera/1/{name}:{marked}",
    ):
        assert "s3cret" not in without_credentials(text)
        with contextlib.suppress(ConfigError):  # it need not be an address
            assert "s3cret" not in repr(parse_source(text))
