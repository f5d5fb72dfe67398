"""A subscriber that stops reading costs the publisher neither time nor memory, nor another subscriber its frames."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import rtfusion
from rtfusion.sinks import open_sink

PATIENCE_S = 30.0
FRAME_BYTES = 640 * 480 * 3

SUBSCRIBER = """
import sys, rtfusion
for frame in rtfusion.subscribe(sys.argv[1]):
    print(frame.sequence, frame.missed, flush=True)
"""


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.mark.timeout(60)  # a write that blocks would hang here
def test_a_stopped_subscriber_is_not_noticed(make_context, make_frame, child_environment):
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    written = 0

    def write(count: int) -> None:
        nonlocal written
        for _ in range(count):
            sink.write(make_frame(written, image=image.copy()))
            written += 1

    arguments = [sys.executable, "-c", SUBSCRIBER, sink.endpoint]
    with subprocess.Popen(arguments, env=child_environment, stdout=subprocess.PIPE, text=True) as stopped:
        until(sink.has_subscribers)
        write(1)
        assert stopped.stdout.readline().split() == ["0", "0"]
        stopped.send_signal(signal.SIGSTOP)
        try:
            write(50)
            before_bytes = psutil.Process().memory_info().rss
            write(600)
            grown_bytes = psutil.Process().memory_info().rss - before_bytes
            assert grown_bytes < 30 * FRAME_BYTES < 600 * FRAME_BYTES / 10

            with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as other:
                resumed_at = written
                until(lambda: (write(1), len(other._mailbox) > 0)[1])
                assert next(other).sequence >= resumed_at
        finally:
            stopped.send_signal(signal.SIGCONT)

        # What the sockets held comes first, then the newest again; all that was lost in between is counted.
        seen = 0
        while seen < resumed_at:
            write(1)
            sequence, missed = map(int, stopped.stdout.readline().split())
            assert sequence == seen + missed + 1
            seen = sequence
        stopped.kill()
    sink.close(aborted=True)
