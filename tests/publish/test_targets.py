"""The map of people that goes out with a frame, and boxes that come back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

import rtfusion
from rtfusion.errors import ConfigError, WireError
from rtfusion.focus import Box
from rtfusion.publish.keys import make_keys
from rtfusion.publish.sink import ZmqSink
from rtfusion.publish.targets import (
    BOXES,
    MAX_MASK_BYTES,
    BoxReport,
    decode_boxes,
    decode_mask,
    encode_boxes,
    encode_mask,
    is_mask,
)
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame
from tests.publish.test_subscriber import PATIENCE_S, until, wait_for_subscriber
from tests.support import RecordingControl

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "wire-format.md"
PERSON = Box(target="people", left=0.25, top=0.125, right=0.5, bottom=0.75)


def frame(sequence: int, *, people: np.ndarray | None = None) -> FusedFrame:
    image = np.full((48, 64, 3), 7, np.uint8)
    return FusedFrame(
        image=image,
        visible=image,
        thermal=image[:, :, 0],
        timestamp_ns=sequence * 1000,
        thermal_timestamp_ns=sequence * 1000,
        received_ns=0,
        sequence=sequence,
        fuser="pyramid",
        targets={} if people is None else {"people": people},
    )


@contextmanager
def publisher(options: str, *, control: RecordingControl | None = None, mask: bool = False) -> Iterator[ZmqSink]:
    notes: list[str] = []
    context = SinkContext(
        rate_hz=30.0, live=True, session="first", control=control, publish_mask=mask, note=notes.append
    )
    sink = open_sink(f"zmq:tcp://127.0.0.1:*{options}", context=context)
    assert isinstance(sink, ZmqSink)
    sink.said = notes  # type: ignore[attr-defined]
    try:
        yield sink
    finally:
        sink.close(aborted=True)


def test_a_mask_survives_the_wire_within_a_step_and_stays_small() -> None:
    plane = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(12, 16)
    packed = encode_mask(plane)
    assert np.abs(decode_mask(packed) / 255 - plane).max() <= 0.5 / 255 + 1e-6
    noise = np.random.default_rng(0).random((540, 960), np.float32)
    assert len(encode_mask(noise)) <= MAX_MASK_BYTES
    assert decode_mask(encode_mask(noise)).shape[1] < 960


@pytest.mark.parametrize("value", [None, "text", b"", b"\x89PNG", encode_mask(np.zeros((4, 4), np.float32))[:20]])
def test_what_is_no_mask_is_none(value: object) -> None:
    assert not is_mask(value)


def test_a_mask_of_monstrous_size_is_never_decoded() -> None:
    packed = bytearray(encode_mask(np.zeros((4, 4), np.float32)))
    packed[16:20] = (1 << 30).to_bytes(4, "big")
    assert not is_mask(bytes(packed))
    with pytest.raises(WireError, match="no PNG"):
        decode_mask(bytes(packed))


def test_boxes_survive_the_wire() -> None:
    report = BoxReport(
        session="s", timestamp_ns=-5, boxes=(PERSON, Box(target="dogs", left=0, top=0, right=1, bottom=1))
    )
    assert decode_boxes(encode_boxes(report)) == report
    with pytest.raises(ConfigError, match="64 at most"):
        encode_boxes(BoxReport(session="s", timestamp_ns=0, boxes=(PERSON,) * 65))


@pytest.mark.parametrize(
    "values",
    [
        {"schema": 2},
        {"schema": True},
        {"session": 5},
        {"timestamp_ns": 1.5},
        {"boxes": "many"},
        {"boxes": [["people", 0, 0, 1]]},
        {"boxes": [["people", 0.5, 0, 0.25, 1]]},
        {"boxes": [["people", 0, 0, 1, "1"]]},
        {"boxes": [["people", 0, 0, 1, float("nan")]]},
        {"boxes": [[5, 0, 0, 1, 1]]},
        {"boxes": [["people", 0, 0, 1, 1, 2]]},
        {"boxes": [["people", 0, 0, 1, 1]] * 65},
    ],
)
def test_boxes_that_are_none_are_refused(values: dict[str, object]) -> None:
    good = {"schema": 1, "session": "s", "timestamp_ns": 0, "boxes": [["people", 0, 0, 1, 1]]}
    assert len(decode_boxes(BOXES + msgpack.packb(good)).boxes) == 1
    with pytest.raises(WireError):
        decode_boxes(BOXES + msgpack.packb({**good, **values}))


@pytest.mark.parametrize("message", [b"", BOXES, BOXES + b"\xc1", BOXES + b"\x80" * 9000, b"other" + b"x" * 50])
def test_bytes_that_are_no_boxes_are_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        decode_boxes(message)


def test_a_subscriber_gets_the_map_of_people_where_the_run_sends_it() -> None:
    people = np.zeros((12, 16), np.float32)
    people[3:6, 4:8] = 1
    with publisher("?hwm=100", mask=True) as sink, rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        wait_for_subscriber(sink)
        sink.write(frame(0, people=people))
        got = next(frames)
        assert np.array_equal(got.people_mask, (people * 255).astype(np.uint8))
        assert np.array_equal(got.as_fused().targets["people"], people)
        sink.write(frame(1))
        assert next(frames).people_mask.max() == 0, "nobody is there, which is known"
    with publisher("") as sink, rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        wait_for_subscriber(sink)
        sink.write(frame(0, people=people))
        assert next(frames).people_mask is None, "not asked for"


@pytest.mark.parametrize("encrypted", [False, True])
def test_boxes_come_back_and_count_for_the_frame_that_they_were_found_in(tmp_path: Path, encrypted: bool) -> None:
    control, options, keys = RecordingControl(), "?boxes=true", {}
    if encrypted:
        ours, public = make_keys(tmp_path / "publisher")
        theirs, _ = make_keys(tmp_path / "clients" / "one") if (tmp_path / "clients").mkdir() is None else None
        options += f"&keys={ours}&clients={tmp_path / 'clients'}"
        keys = {"server_key": public, "keys": theirs}
    with (
        publisher(options, control=control) as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, **keys) as frames,
    ):
        wait_for_subscriber(sink)
        sink.write(frame(3))
        frames.report(next(frames), [PERSON])

        def taken() -> bool:
            sink.write(frame(4))
            return bool(control.reports)

        until(taken)
        assert control.reports == [((PERSON,), 3000)]
        assert sink.reports == {"taken": 1}


def test_boxes_are_left_out_and_told_of_where_they_are_not_wanted_old_or_broken() -> None:
    context: zmq.Context = zmq.Context()
    for options, message, cause, told in (
        ("", encode_boxes(BoxReport(session="first", timestamp_ns=0, boxes=(PERSON,))), "unwanted", "boxes=true"),
        ("?boxes=true", encode_boxes(BoxReport(session="x", timestamp_ns=0, boxes=(PERSON,))), "stale", "another run"),
        ("?boxes=true", b"hello", "bad", "neither a subscription nor boxes"),
    ):
        control = RecordingControl()
        with publisher(options, control=control) as sink, context.socket(zmq.XSUB) as socket:
            socket.connect(sink.endpoint)
            socket.send(b"\x01rtfusion")
            wait_for_subscriber(sink)
            for _ in range(3):
                socket.send(message)

            def came(sink: ZmqSink = sink, cause: str = cause) -> bool:
                sink.write(frame(0))
                return sink.reports[cause] == 3

            until(came)
            assert control.reports == []
            (note,) = sink.said
            assert told in note
    context.term()


def test_a_flood_of_boxes_is_bounded_and_ends_no_run() -> None:
    context: zmq.Context = zmq.Context()
    message = encode_boxes(BoxReport(session="first", timestamp_ns=0, boxes=(PERSON,)))
    control = RecordingControl()
    with publisher("?boxes=true", control=control) as sink, context.socket(zmq.XSUB) as socket:
        socket.connect(sink.endpoint)
        socket.send(b"\x01rtfusion")
        wait_for_subscriber(sink)
        for _ in range(500):
            socket.send(message)

        def came() -> bool:
            sink.write(frame(0))
            return len(control.reports) > 0

        until(came)
        assert len(control.reports) <= 500
        assert len(sink.publisher.messages) == 0
    context.term()


def test_the_message_of_boxes_in_the_document_is_what_is_read() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Boxes from subscribers")[2]
    packed = bytes.fromhex(re.search(r"```hex\n(.*?)```", text, re.S)[1])
    said = json.loads(re.search(r"```json\n(.*?)```", text, re.S)[1])
    report = decode_boxes(packed)
    assert (report.session, report.timestamp_ns) == (said["session"], said["timestamp_ns"])
    assert [[b.target, b.left, b.top, b.right, b.bottom, b.weight] for b in report.boxes] == said["boxes"]
