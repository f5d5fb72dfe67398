from __future__ import annotations

import os
import subprocess
import sys
import time

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtfusion
from rtfusion.errors import ConfigError, SinkError, WireError
from rtfusion.publish.ring import FOLDER, PREFIX, SLOTS, Overrun, Place, RingReader, RingWriter, sweep
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

PATIENCE_S = 30.0
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="this system has no /dev/shm")


def picture(number: int, *, size_px: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)


def read(reader: RingReader, payload: bytes, *, size_px: tuple[int, int] = (64, 48)) -> np.ndarray:
    return reader.read(memoryview(payload), width_px=size_px[0], height_px=size_px[1])


def test_what_is_written_is_read_until_it_is_overwritten(tmp_path):
    writer, reader = RingWriter(folder=tmp_path), RingReader(folder=tmp_path)
    payloads = [writer.put(picture(number)) for number in range(SLOTS - 1)]
    for number, payload in enumerate(payloads):
        np.testing.assert_array_equal(read(reader, payload), picture(number))
    writer.put(picture(100))
    with pytest.raises(Overrun):
        read(reader, payloads[0])
    np.testing.assert_array_equal(read(reader, payloads[1 + 1]), picture(2))
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_another_size_is_another_ring(tmp_path):
    writer, reader = RingWriter(folder=tmp_path), RingReader(folder=tmp_path)
    first = writer.put(picture(0))
    read(reader, first)
    second = writer.put(picture(1, size_px=(100, 80)))
    np.testing.assert_array_equal(read(reader, second, size_px=(100, 80)), picture(1, size_px=(100, 80)))
    with pytest.raises(Overrun, match="gone with its writer"):
        read(reader, first)
    assert len(list(tmp_path.iterdir())) == 1
    writer.close()


KILLED = """
import os, signal, sys, numpy as np
from pathlib import Path
from rtfusion.publish.ring import RingWriter
RingWriter(folder=Path(sys.argv[1])).put(np.zeros((48, 64, 3), np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 1
    alive = RingWriter(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    payload = alive.put(picture(0))
    assert sweep(tmp_path) == 0
    np.testing.assert_array_equal(read(RingReader(folder=tmp_path), payload), picture(0))
    alive.close()


def test_no_room(tmp_path):
    with pytest.raises(ConfigError, match="encoding=raw"):
        RingWriter(folder=tmp_path / "none")
    writer = RingWriter(folder=tmp_path)
    with pytest.raises(SinkError, match="encoding=raw"):
        writer.put(np.broadcast_to(np.zeros(1, np.uint8), (1 << 22, 1 << 22, 3)))
    assert list(tmp_path.iterdir()) == []


@given(
    st.one_of(
        st.binary(max_size=300),
        st.dictionaries(
            st.sampled_from(["name", "offset_bytes", "ticket", "x"]),
            st.one_of(
                st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=5), st.binary(max_size=5)
            ),
        ).map(msgpack.packb),
    )
)
def test_bad_places_are_wire_errors(payload):
    with pytest.raises(WireError):
        Place.parse(memoryview(payload))


@pytest.mark.parametrize("offset", [64, 10**9, 2**63])
def test_places_beyond_the_ring(tmp_path, offset):
    writer = RingWriter(folder=tmp_path)
    values = msgpack.unpackb(writer.put(picture(0)))
    payload = msgpack.packb({**values, "offset_bytes": values["offset_bytes"] + offset})
    with pytest.raises((WireError, Overrun)):
        read(RingReader(folder=tmp_path), payload)
    writer.close()


def test_frames_arrive_through_shared_memory():
    sink = open_sink("zmq:tcp://127.0.0.1:*?encoding=shm", context=SinkContext(rate_hz=30.0, live=True, session="s"))
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        deadline_s = time.monotonic() + PATIENCE_S
        while not sink.has_subscribers():
            assert time.monotonic() < deadline_s
        for number in range(20):
            image = picture(number)
            sink.write(
                FusedFrame(
                    image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=number, thermal_timestamp_ns=number,
                    received_ns=0, sequence=number, fuser="average",
                )
            )  # fmt: skip
            frame = next(frames)
            assert (frame.sequence, frame.header.encoding) == (number, "shm")
            np.testing.assert_array_equal(frame.image, image)
        assert frames.lapped == 0
    sink.close(aborted=False)


def test_shared_memory_is_for_this_machine():
    with pytest.raises(ConfigError, match="shared memory ends with this machine"):
        open_sink(
            "zmq:tcp://0.0.0.0:*?encoding=shm&insecure=true",
            context=SinkContext(rate_hz=30.0, live=True, session="s"),
        )


NAME = f"{PREFIX}{'a' * 32}"


def place_at(offset: int = 0) -> bytes:
    packed: bytes = msgpack.packb({"name": NAME, "offset_bytes": offset, "ticket": 1})
    return packed


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "device", "empty", "short"])
def test_what_is_no_ring_is_a_wire_error_and_never_waited_for(tmp_path, what):
    path = tmp_path / NAME
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what in ("link", "device"):
        path.symlink_to("/etc/passwd" if what == "link" else "/dev/zero")
    else:
        path.write_bytes((1).to_bytes(8, "little") + bytes(100) if what == "short" else b"")
    reader = RingReader(folder=tmp_path)
    with pytest.raises(WireError):
        read(reader, place_at())
    reader.close()


@pytest.mark.parametrize("left_bytes", [0, 4, 64, 5000])
def test_a_ring_that_is_cut_off_while_it_is_read_is_a_wire_error(tmp_path, left_bytes, monkeypatch):
    """A mapped file would end the process here (SIGBUS)."""
    path = tmp_path / NAME
    path.write_bytes((1).to_bytes(8, "little") + bytes(56 + 64 * 48 * 3))
    reader = RingReader(folder=tmp_path)
    read(reader, place_at())
    status = os.fstat

    def cut_after_looking(file):
        found = status(file)
        os.truncate(path, left_bytes)
        return found

    monkeypatch.setattr(os, "fstat", cut_after_looking)
    with pytest.raises(WireError, match="was cut off"):
        read(reader, place_at())
    reader.close()
