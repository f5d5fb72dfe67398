from __future__ import annotations

import re
from pathlib import Path

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.errors import WireError
from rtfusion.publish.wire import BGR8, JPEG, MAX_HEADER_BYTES, Header, decode, encode_header
from rtfusion.types import Degraded, FusedFrame

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "wire-format.md"
I64 = st.integers(-(2**62), 2**62)
U64 = st.integers(0, 2**63 - 1)
TEXT = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT


@st.composite
def frames(draw: st.DrawFn) -> FusedFrame:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    image = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return FusedFrame(
        image=image,
        visible=image,
        thermal=image[:, :, 0],
        timestamp_ns=draw(I64),
        thermal_timestamp_ns=draw(I64),
        received_ns=draw(U64),
        sequence=draw(U64),
        fuser=draw(TEXT),
        model_id=draw(st.none() | TEXT),
        calibration_id=draw(st.none() | TEXT),
        thermal_state=draw(st.dictionaries(TEXT, SCALARS, max_size=4)),
        degraded=draw(st.none() | st.sampled_from(Degraded)),
        name=draw(st.none() | TEXT),
        intents=draw(st.dictionaries(TEXT, st.floats(-1, 1), max_size=4)),
        intents_version=draw(U64),
        thermal_delay_ns=draw(st.integers(-(10**10), 10**10)),
    )


def example_frame() -> FusedFrame:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    return FusedFrame(
        image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=100, thermal_timestamp_ns=90, received_ns=120,
        sequence=7, fuser="pyramid",
    )  # fmt: skip


def header_of(frame: FusedFrame, *, encoding: str = BGR8, **changes: object) -> bytes:
    packed = encode_header(
        frame,
        session="run",
        encoding=encoding,
        published_ns=130,
        published_unix_ns=10**18,
        live=True,
        drops={"late": 2},
    )
    return msgpack.packb({**msgpack.unpackb(packed), **changes}) if changes else packed


@given(frame=frames(), drops=st.dictionaries(TEXT, U64, max_size=3), live=st.booleans(), published_ns=U64, unix_ns=U64)
def test_round_trip(frame, drops, live, published_ns, unix_ns):
    packed = encode_header(
        frame, session="s", encoding=BGR8, published_ns=published_ns, published_unix_ns=unix_ns, live=live, drops=drops
    )
    message = decode([b"rtfusion", packed, frame.image.tobytes()])
    assert message.topic == "rtfusion"
    assert message.header == Header(
        schema=1,
        session="s",
        sequence=frame.sequence,
        timestamp_ns=frame.timestamp_ns,
        thermal_timestamp_ns=frame.thermal_timestamp_ns,
        skew_ns=frame.thermal_timestamp_ns - frame.timestamp_ns,
        received_ns=frame.received_ns,
        published_ns=published_ns,
        published_unix_ns=unix_ns,
        live=live,
        width_px=frame.image.shape[1],
        height_px=frame.image.shape[0],
        encoding=BGR8,
        fuser=frame.fuser,
        model_id=frame.model_id,
        calibration_id=frame.calibration_id,
        thermal_state=frame.thermal_state,
        degraded=None if frame.degraded is None else frame.degraded.value,
        name=frame.name,
        drops=drops,
        intents=frame.intents,
        intents_version=frame.intents_version,
        skew_after_delay_ns=frame.skew_ns - frame.thermal_delay_ns,
    )
    pixels = np.frombuffer(message.payload, np.uint8).reshape(frame.image.shape)
    np.testing.assert_array_equal(pixels, frame.image)


def test_numpy_numbers_travel_as_plain_ones():
    frame = example_frame()
    state = {"low": np.float32(0.5), "high": np.uint16(900)}
    frame = FusedFrame(
        image=frame.image, visible=frame.image, thermal=frame.thermal, timestamp_ns=0, thermal_timestamp_ns=0,
        received_ns=0, sequence=0, fuser="pyramid", thermal_state=state,
    )  # fmt: skip
    assert decode([b"t", header_of(frame), frame.image.tobytes()]).header.thermal_state == {"low": 0.5, "high": 900}


@given(parts=st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes_raise_only_wire_errors(parts):
    with pytest.raises(WireError):
        decode(parts)


@given(data=st.data())
def test_mutated_headers_decode_or_raise_only_wire_errors(data):
    packed = bytearray(header_of(example_frame()))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for header in (bytes(packed), bytes(packed[:cut]), bytes(packed) + b"\x00"):
        try:
            message = decode([b"rtfusion", header, example_frame().image.tobytes()])
        except WireError:
            continue
        assert len(message.payload) == message.header.width_px * message.header.height_px * 3


ANY_VALUE = st.recursive(
    SCALARS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@given(key=st.sampled_from(sorted(Header.__dataclass_fields__)), value=ANY_VALUE)
def test_any_value_under_any_key_decodes_or_raises_only_wire_errors(key, value):
    try:
        header = decode(
            [b"rtfusion", header_of(example_frame(), **{key: value}), example_frame().image.tobytes()]
        ).header
    except WireError:
        return
    assert getattr(header, key) == value


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema 2, this rtfusion reads up to 1; update the subscriber"),
        ({"schema": 0}, "schema is 0"),
        ({"schema": True}, "schema is True"),
        ({"session": ""}, "session is ''; expected 1 to 64 characters"),
        ({"sequence": -1}, "sequence is -1; expected a whole number, 0 or more"),
        ({"sequence": 1.0}, "sequence is 1.0"),
        ({"live": 1}, "live is 1; expected true or false"),
        ({"width_px": 0}, "width_px is 0; expected 1 to 65535"),
        ({"width_px": 65_536}, "width_px is 65536"),
        ({"width_px": 65_535, "height_px": 65_535}, "expected 12884508675 for 65535x65535"),
        ({"width_px": 4}, "the payload has 18 bytes; expected 24 for 4x2"),
        ({"encoding": "png"}, "encoding is 'png'; expected one of bgr8, jpeg"),
        ({"encoding": "jpeg"}, "not a JPEG image"),
        ({"skew_ns": 5}, "skew_ns is not thermal_timestamp_ns - timestamp_ns"),
        ({"thermal_state": {"low": [1]}}, "thermal_state is {'low': [1]}"),
        ({"drops": {"late": -1}}, "drops is {'late': -1}"),
        ({"fuser": "x" * MAX_HEADER_BYTES}, "expected at most 65536"),
        ({"model_id": ["x" * 200]}, "..."),
    ],
)
def test_says_what_is_wrong(changes, says):
    with pytest.raises(WireError) as caught:
        decode([b"rtfusion", header_of(example_frame(), **changes), example_frame().image.tobytes()])
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


def test_missing_keys_are_named():
    values = msgpack.unpackb(header_of(example_frame()))
    del values["drops"], values["live"]
    with pytest.raises(WireError, match="lacks live, drops"):
        decode([b"t", msgpack.packb(values), b""])


def test_earlier_publishers_know_no_intents():
    values = msgpack.unpackb(header_of(example_frame()))
    del values["intents"], values["intents_version"], values["skew_after_delay_ns"]
    header = decode([b"rtfusion", msgpack.packb(values), bytes(18)]).header
    assert (header.intents, header.intents_version, header.skew_after_delay_ns) == ({}, 0, None)


@pytest.mark.parametrize("intents", [{"people": 1.5}, {"people": None}, {"people": float("nan")}, [1]])
def test_intents_are_numbers_from_minus_1_to_1(intents):
    with pytest.raises(WireError, match=r"intents is .*; expected a map from text to numbers from -1 to 1"):
        decode([b"rtfusion", header_of(example_frame(), intents=intents), bytes(18)])


def test_keys_of_a_later_publisher_are_left_alone():
    header = header_of(example_frame(), humidity=0.5)
    assert decode([b"t", header, example_frame().image.tobytes()]).header.sequence == 7


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_number_of_parts(count):
    with pytest.raises(WireError, match=f"{count} parts; expected 3"):
        decode([b"x"] * count)


def test_topics_are_text():
    with pytest.raises(WireError, match="not UTF-8"):
        decode([b"\xff", header_of(example_frame()), example_frame().image.tobytes()])


def test_a_jpeg_must_have_the_size_of_the_header():
    image = np.zeros((20, 33, 3), np.uint8)
    frame = FusedFrame(
        image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=0, thermal_timestamp_ns=0, received_ns=0,
        sequence=0, fuser="pyramid",
    )  # fmt: skip
    for progressive in (0, 1):
        payload = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
        assert bytes(decode([b"t", header_of(frame, encoding=JPEG), payload]).payload) == payload
        with pytest.raises(WireError, match="a JPEG image of 33x20; expected a JPEG image of 34x20"):
            decode([b"t", header_of(frame, encoding=JPEG, width_px=34), payload])


@given(tail=st.binary(max_size=60))
def test_broken_jpegs_raise_only_wire_errors(tail):
    with pytest.raises(WireError):
        decode([b"t", header_of(example_frame(), encoding=JPEG), b"\xff\xd8" + tail])


def test_age_at_publish_counts_from_the_exposure_or_from_the_reading():
    message = decode([b"t", header_of(example_frame()), example_frame().image.tobytes()])
    assert message.header.age_at_publish_ns == 30
    recorded = decode([b"t", header_of(example_frame(), live=False), example_frame().image.tobytes()])
    assert recorded.header.age_at_publish_ns == 10


def test_the_dump_in_the_document_is_a_message():
    topic, header, payload = (
        bytes.fromhex(re.sub(r"\s", "", block))
        for block in re.findall(r"```hex\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[:3]
    )
    message = decode([topic, header, payload])
    assert (message.topic, message.header.session, message.header.sequence) == ("rtfusion", "5f0c9e1b2a7d4c38", 42)
    assert bytes(message.payload) == bytes(range(12))


def test_the_document_names_every_key():
    text = DOCUMENT.read_text()
    for key in Header.__dataclass_fields__:
        assert f"| `{key}` |" in text, key
