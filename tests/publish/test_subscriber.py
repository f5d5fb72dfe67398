from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

import rtfusion
from rtfusion.errors import CaptureTimeout, ConfigError
from rtfusion.publish.sink import ZmqSink
from rtfusion.publish.wire import encode_header
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "wire-format.md"
PATIENCE_S = 30.0


def make_frame(sequence: int, *, size_px: tuple[int, int] = (64, 48), received_ns: int = 0) -> FusedFrame:
    image = np.full((size_px[1], size_px[0], 3), sequence % 251, np.uint8)
    image[0, 0] = (1, 2, 3)
    return FusedFrame(
        image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=sequence * 1000,
        thermal_timestamp_ns=sequence * 1000 + 5, received_ns=received_ns, sequence=sequence, fuser="pyramid",
    )  # fmt: skip


@contextmanager
def publisher(uri: str = "zmq:tcp://127.0.0.1:*", *, session: str = "first", live: bool = True) -> Iterator[ZmqSink]:
    sink = open_sink(uri, context=SinkContext(rate_hz=30.0, live=live, session=session))
    assert isinstance(sink, ZmqSink)
    try:
        yield sink
    finally:
        sink.close(aborted=True)


def wait_for_subscriber(sink: ZmqSink) -> None:
    until(sink.has_subscribers)


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_frames_arrive_whole(encoding):
    with (
        publisher(f"zmq:tcp://127.0.0.1:*?encoding={encoding}&hwm=100") as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, newest=False) as frames,
    ):
        wait_for_subscriber(sink)
        for sequence in range(5):
            sink.write(make_frame(sequence))
        for sequence in range(5):
            frame = next(frames)
            expected = make_frame(sequence)
            if encoding == "raw":
                np.testing.assert_array_equal(frame.image, expected.image)
            else:
                np.testing.assert_allclose(frame.image[20, 20].astype(int), expected.image[20, 20], atol=3)
            assert frame.image.flags.c_contiguous
            assert frame.image.flags.writeable
            assert (frame.sequence, frame.timestamp_ns, frame.session) == (sequence, sequence * 1000, "first")
            assert (frame.header.skew_ns, frame.header.fuser, frame.missed) == (5, "pyramid", 0)


def test_age_counts_from_the_reading_of_the_file():
    with publisher(live=False) as sink, rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        wait_for_subscriber(sink)
        sink.write(make_frame(0, received_ns=time.monotonic_ns() - 7_000_000_000))
        assert 7000 <= next(frames).age_ms < 7000 + PATIENCE_S * 1000


def test_a_slow_reader_gets_the_newest_frame_and_knows_what_it_missed():
    with (
        publisher("zmq:tcp://127.0.0.1:*?hwm=100") as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as newest,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, newest=False) as every,
    ):
        for frames in (newest, every):  # both are subscribed when both have got a frame
            until(lambda: (sink.write(make_frame(0)), has_frame(frames))[1])  # noqa: B023 - called at once
        assert next(newest).sequence == 0
        for sequence in range(1, 51):
            sink.write(make_frame(sequence))
        assert [frame.sequence for frame in up_to(every, 50)][-50:] == list(range(1, 51))
        seen = [frame for frame in up_to(newest, 50) if frame.sequence]  # some of the first were sent twice
        assert seen[-1].sequence == 50
        assert len(seen) < 50
        assert sum(frame.missed + 1 for frame in seen) == 50


def has_frame(frames: rtfusion.Subscription) -> bool:
    return len(frames._mailbox) > 0


def up_to(frames: rtfusion.Subscription, sequence: int) -> Iterator[rtfusion.ReceivedFrame]:
    for frame in frames:
        yield frame
        if frame.sequence == sequence:
            return


def test_a_restarted_publisher_is_noticed(free_port):
    uri = f"zmq:tcp://127.0.0.1:{free_port}"
    with rtfusion.subscribe(f"tcp://127.0.0.1:{free_port}", timeout_s=PATIENCE_S) as frames:
        for session in ("first", "second"):
            with publisher(uri, session=session) as sink:
                wait_for_subscriber(sink)
                sink.write(make_frame(7))
                frame = next(frames)
                assert (frame.session, frame.sequence, frame.missed) == (session, 7, 0)
        assert frames.restarts == 1


def test_no_frame_in_time():
    with publisher() as sink, rtfusion.subscribe(sink.endpoint, timeout_s=0.05) as frames:
        with pytest.raises(
            CaptureTimeout, match=r"no frame from tcp://127.0.0.1:\d+ \(topic 'rtfusion'\) within 0.05 s"
        ):
            next(frames)
        until(lambda: (sink.write(make_frame(3)), has_frame(frames))[1])
        assert next(frames).sequence == 3
        with pytest.raises(CaptureTimeout, match=r"no more frames from .* the last was number 3: the run is over"):
            list(frames)  # it was sent until it came, so perhaps more than once


@pytest.mark.parametrize(
    "url", ["", "5555", "tcp://127.0.0.1", "zmq:tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "ipc://"]
)
def test_bad_addresses(url):
    with pytest.raises(ConfigError, match=r"expected for example tcp://127.0.0.1:5555"):
        rtfusion.subscribe(url)


def test_bad_messages_are_counted_and_skipped():
    jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    with (
        publisher("zmq:tcp://127.0.0.1:*?encoding=jpeg&hwm=100") as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, newest=False) as frames,
    ):
        wait_for_subscriber(sink)
        socket = sink.publisher.socket
        socket.send_multipart([b"rtfusion", b"nonsense", b""])
        socket.send_multipart([b"rtfusion"])
        socket.send_multipart([b"rtfusion-left", b"", b""])
        sink.write(make_frame(0))
        assert next(frames).sequence == 0
        assert frames.bad_messages == 2
        header = encode_header(
            make_frame(1), session="first", encoding="jpeg", published_ns=0, published_unix_ns=0, live=True, drops={}
        )
        socket.send_multipart([b"rtfusion", header, jpeg[:200]])  # the size is there, the pixels are not
        sink.write(make_frame(2))
        found = next(frames)
        assert (found.sequence, frames.bad_messages) == (2, 3)


def test_topics_keep_streams_apart():
    with (
        publisher("zmq:tcp://127.0.0.1:*?topic=rtfusion-left") as sink,
        rtfusion.subscribe(sink.endpoint, timeout_s=0.05) as other,
        rtfusion.subscribe(sink.endpoint, topic="rtfusion-left", timeout_s=PATIENCE_S) as left,
    ):
        until(lambda: (sink.write(make_frame(1)), has_frame(left))[1])
        assert next(left).sequence == 1
        with pytest.raises(CaptureTimeout):
            next(other)
        assert other.bad_messages == 0


def test_closing_from_another_thread_ends_the_iteration():
    frames = rtfusion.subscribe("tcp://127.0.0.1:9")
    closer = threading.Timer(0.05, frames.close)
    closer.start()
    assert list(frames) == []
    closer.join()
    frames.close()
    assert not frames._thread.is_alive()


def test_a_forgotten_subscription_ends_its_thread():
    frames = rtfusion.subscribe("tcp://127.0.0.1:9")
    thread = frames._thread
    del frames
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


SCRIPT = """
import rtfusion
for frame in rtfusion.subscribe("{url}"):
    print(frame.sequence, frame.image.shape, flush=True)
    break
"""


def test_a_script_may_just_break_off():
    with publisher() as sink:
        code = ["-W", "error", "-c", SCRIPT.format(url=sink.endpoint)]
        with subprocess.Popen(
            [sys.executable, *code], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as script:
            until(lambda: (sink.write(make_frame(4)), script.poll() is not None)[1])
            assert script.communicate() == ("4 (48, 64, 3)\n", "")
            assert script.returncode == 0


def test_the_plain_subscriber_of_the_document_works():
    code = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[-1]
    with publisher() as sink:
        code = code.replace("tcp://127.0.0.1:5555", sink.endpoint).replace("print(", "print(flush=True, *(") + ")\n"
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
        ) as plain:
            wait_for_subscriber(sink)
            sink.write(make_frame(9, size_px=(8, 4)))
            assert plain.stdout.readline().startswith("first 9 (4, 8, 3)")
            plain.kill()


PUBLISHER = """
import sys, time
import numpy as np
from rtfusion.clock import MONOTONIC
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

sink = open_sink(sys.argv[1], context=SinkContext(rate_hz=60.0, live=False, session="paced"))
while not sink.has_subscribers():
    time.sleep(0.001)
start_ns = time.monotonic_ns()
for sequence in range(int(sys.argv[2])):
    due_ns = start_ns + sequence * 1_000_000_000 // 60
    time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
    image = np.full((480, 640, 3), sequence % 251, np.uint8)
    sink.write(FusedFrame(image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=sequence * 16_666_667,
                          thermal_timestamp_ns=sequence * 16_666_667 + 5, received_ns=time.monotonic_ns(),
                          sequence=sequence, fuser="pyramid"))
sys.stdin.read()  # until the subscriber has them all, however slow the machine is
sink.close(aborted=False)
"""


def test_every_frame_of_a_paced_run_arrives_in_another_process(free_port):
    url = f"tcp://127.0.0.1:{free_port}"
    with rtfusion.subscribe(url, timeout_s=PATIENCE_S, newest=False) as frames:
        arguments = [sys.executable, "-c", PUBLISHER, f"zmq:{url}?hwm=90", "90"]
        with subprocess.Popen(arguments, env=environment(), stdin=subprocess.PIPE) as run:
            got = [next(frames) for _ in range(90)]
            run.communicate()
        assert run.returncode == 0
    assert [frame.sequence for frame in got] == list(range(90))
    assert [frame.timestamp_ns for frame in got] == [sequence * 16_666_667 for sequence in range(90)]
    assert [int(frame.image[240, 320, 1]) for frame in got] == [sequence % 251 for sequence in range(90)]
    assert sum(frame.missed for frame in got) == 0
    assert {frame.session for frame in got} == {"paced"}


SUBSCRIBER = """
import sys, rtfusion
for frame in rtfusion.subscribe(sys.argv[1]):
    print(frame.sequence, flush=True)
"""


def test_a_subscriber_that_was_killed_and_started_again_gets_the_newest_frames():
    with publisher() as sink:
        written = 0

        def write_until(condition) -> None:
            nonlocal written
            deadline_s = time.monotonic() + PATIENCE_S
            while not condition():
                assert time.monotonic() < deadline_s
                sink.write(make_frame(written))
                written += 1
                time.sleep(0.002)

        for _ in range(2):
            before = written
            arguments = [sys.executable, "-c", SUBSCRIBER, sink.endpoint]
            with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, text=True) as subscriber:
                lines: list[str] = []
                reader = threading.Thread(target=lambda: lines.extend(iter(subscriber.stdout.readline, "")))  # noqa: B023
                reader.start()
                write_until(lambda: len(lines) >= 5)  # noqa: B023 - called at once
                subscriber.send_signal(signal.SIGKILL)
                reader.join()
            sequences = [int(line) for line in lines]
            assert sequences == sorted(set(sequences))
            assert sequences[0] >= before
            write_until(lambda: not sink.has_subscribers())
