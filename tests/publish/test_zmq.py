from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import rtfusion
from rtfusion.errors import ConfigError
from rtfusion.sinks import open_sink

PATIENCE_S = 30.0


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://192.168.1.5:5555", "tcp://[::]:5555", "tcp://camera.local:5555"]
)
def test_addresses_that_others_can_reach_need_a_word(address, make_context):
    with pytest.raises(ConfigError, match=r"rtfusion keys.*insecure=true"):
        open_sink(f"zmq:{address}", context=make_context())


def test_insecure_is_such_a_word(make_context):
    open_sink("zmq:tcp://0.0.0.0:*?insecure=true", context=make_context(live=True)).close(aborted=True)


@pytest.mark.parametrize("address", ["tcp://localhost:*", "tcp://127.1.2.3:*", "tcp://[::1]:*"])
def test_loopback_is_free(address, make_context):
    sink = open_sink(f"zmq:{address}", context=make_context(live=True))
    assert sink.endpoint.startswith("tcp://")
    sink.close(aborted=True)


def test_address_in_use(make_context):
    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    with pytest.raises(ConfigError, match="the address is in use"):
        open_sink(f"zmq:{sink.endpoint}", context=make_context(live=True))
    sink.close(aborted=False)
    open_sink(f"zmq:{sink_endpoint(sink)}", context=make_context(live=True)).close(aborted=False)


def sink_endpoint(sink) -> str:
    return sink.uri.removeprefix("zmq:").replace("*", "0")


def test_an_address_of_another_machine_cannot_be_bound(make_context):
    with pytest.raises(ConfigError, match="cannot publish there"):
        open_sink("zmq:tcp://192.0.2.1:5555?insecure=true", context=make_context(live=True))


def test_nothing_is_made_while_nobody_subscribes(make_context, make_frame):
    asked = []

    def drops() -> dict[str, int]:
        asked.append(True)
        return {"visible.corrupt": 3}

    notes: list[str] = []
    context = replace(make_context(live=True, drops=drops), note=notes.append)
    sink = open_sink("zmq:tcp://127.0.0.1:*?topic=left", context=context)
    with rtfusion.subscribe(sink.endpoint, topic="right", timeout_s=PATIENCE_S):
        for sequence in range(20):
            sink.write(make_frame(sequence))
        assert asked == []
        with rtfusion.subscribe(sink.endpoint, topic="left", timeout_s=PATIENCE_S) as frames:
            until(sink.has_subscribers)
            sink.write(make_frame(20))
            frame = next(frames)
            assert (frame.sequence, frame.header.drops, len(asked)) == (20, {"visible.corrupt": 3}, 1)
        until(lambda: not sink.has_subscribers())
        sink.write(make_frame(21))
        assert len(asked) == 1
    sink.close(aborted=False)
    assert notes == [f"{sink.uri}: nobody listened to topic left during 21 of 22 frames"]


def test_the_last_frames_of_a_finished_run_arrive(make_context, make_frame):
    notes: list[str] = []
    sink = open_sink("zmq:tcp://127.0.0.1:*?hwm=50", context=replace(make_context(live=True), note=notes.append))
    big = np.random.default_rng(0).integers(0, 256, (1024, 1280, 3), dtype=np.uint8)
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, newest=False) as frames:
        until(sink.has_subscribers)
        for sequence in range(6):
            sink.write(make_frame(sequence, image=big))
        sink.close(aborted=False)
        assert notes == []
        for sequence in range(6):
            frame = next(frames)
            assert frame.sequence == sequence
            np.testing.assert_array_equal(frame.image, big)


def test_a_subscriber_that_was_there_first_gets_the_first_frame(free_port, make_context, make_frame):
    with rtfusion.subscribe(f"tcp://127.0.0.1:{free_port}", timeout_s=PATIENCE_S) as frames:
        knocked = threading.Event()

        def publish() -> None:
            sink = open_sink(f"zmq:tcp://127.0.0.1:{free_port}", context=make_context(live=False))
            sink.write(make_frame(0))
            knocked.set()
            sink.close(aborted=False)

        publisher = threading.Thread(target=publish)
        publisher.start()
        assert next(frames).sequence == 0
        publisher.join()
        assert knocked.is_set()


def test_strange_subscribers_do_no_harm(make_context, make_frame):
    import zmq

    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    context = zmq.Context()
    stranger = context.socket(zmq.XSUB)
    stranger.connect(sink.endpoint)
    for message in (b"", b"\x00rtfusion", b"\x02what", b"\x01" + b"x" * 10_000):
        stranger.send(message)
    stranger.send(b"\x01rt")  # a prefix of the topic is a subscription to it
    until(sink.has_subscribers)
    sink.write(make_frame(5))
    assert stranger.recv_multipart()[0] == b"rtfusion"
    sink.close(aborted=False)
    stranger.close(linger=0)
    context.term()
