"""The map of parallax over the wire: of an output that was asked for it, and never what does not fit in a header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rtfusion
from rtfusion.errors import ConfigError
from rtfusion.publish.parallax import (
    MAX_MAP_BYTES,
    SURE_PX,
    decode_displacement,
    encode_displacement,
    is_displacement,
)
from rtfusion.publish.sink import ZmqSink
from rtfusion.publish.wire import MAX_HEADER_BYTES
from rtfusion.sinks import open_sink
from rtfusion.sinks.base import SinkContext
from rtfusion.types import Displacement
from tests.publish.test_targets import PATIENCE_S, frame, wait_for_subscriber

CELLS_PX = np.linspace(-4, 18, 120 * 160, dtype=np.float32).reshape(120, 160)
DOUBT_PX = np.zeros((120, 160), np.float32)
DOUBT_PX[:, :20] = SURE_PX + 0.1
KNOWN = Displacement(CELLS_PX, farthest_px=-4.2, nearest_px=18.2, direction=(-0.6, 0.8), doubt_px=DOUBT_PX)


@contextmanager
def publisher(options: str, **settings: Any) -> Iterator[ZmqSink]:
    context = SinkContext(rate_hz=30.0, live=True, session="first", publish_mask=True, settings=settings)
    sink = open_sink(f"zmq:tcp://127.0.0.1:*{options}", context=context)
    assert isinstance(sink, ZmqSink)
    try:
        yield sink
    finally:
        sink.close(aborted=True)


def test_a_map_survives_the_wire_within_a_tenth_of_a_pixel_and_says_where_it_is_not_sure() -> None:
    value = encode_displacement(KNOWN)
    assert is_displacement(value)
    got = decode_displacement(value)
    assert got.doubt_px is not None
    np.testing.assert_array_equal(got.doubt_px[:, :20], np.inf)
    np.testing.assert_array_equal(got.doubt_px[:, 20:], 0)
    assert np.abs(got.cells_px - CELLS_PX)[:, 20:].max() < 0.05
    assert (got.farthest_px, got.nearest_px) == pytest.approx((-4.2, 18.2))
    assert got.direction == (-0.6, 0.8)
    again = encode_displacement(got)
    assert again["map"] == value["map"], "it can be published again"


def test_a_map_of_noise_is_made_small_enough_beside_everything_else() -> None:
    noise = np.random.default_rng(0).uniform(-4, 18, (400, 400)).astype(np.float32)
    value = encode_displacement(KNOWN._replace(cells_px=noise, doubt_px=None))
    assert len(value["map"]) <= MAX_MAP_BYTES < MAX_HEADER_BYTES / 2
    assert decode_displacement(value).cells_px.shape[1] < 400


@pytest.mark.parametrize(
    "changed",
    [
        {"map": b"no picture"},
        {"map": None},
        {"px_per_level": "1"},
        {"px_at_level_1": float("nan")},
        {"direction": [1.0]},
        {"direction": [True, 0.0]},
        {"direction": None},
    ],
)
def test_what_is_no_map_is_refused(changed: dict[str, Any]) -> None:
    value = encode_displacement(KNOWN)
    assert not is_displacement({**value, **changed})
    assert not is_displacement({name: value[name] for name in value if name not in changed})
    assert is_displacement({**value, "of_a_later_publisher": 1})


def test_a_subscriber_gets_the_map_where_the_output_sends_it() -> None:
    shown = replace(frame(0), displacement=KNOWN)
    with (
        publisher("?parallax=true", parallax="dense") as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames,
    ):
        wait_for_subscriber(sink)
        sink.write(shown)
        got = next(frames).displacement
        assert got is not None
        assert np.abs(got.cells_px - CELLS_PX)[:, 20:].max() < 0.05
        sink.write(frame(1))
        received = next(frames)
        assert received.displacement is None, "not known yet"
        assert received.as_fused().displacement is None
    with publisher("", parallax="dense") as sink, rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        wait_for_subscriber(sink)
        sink.write(shown)
        assert next(frames).displacement is None, "not asked for"


def test_a_run_without_parallax_has_no_map_to_send() -> None:
    with pytest.raises(ConfigError, match="--parallax layers or dense"), publisher("?parallax=true", parallax="off"):
        pass
