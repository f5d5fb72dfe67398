"""The programs under examples/ as their readers run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rtfusion
from rtfusion.publish.keys import load_pair, make_keys
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PATIENCE_S = 30.0


def frame_of(sequence: int, image: np.ndarray) -> FusedFrame:
    return FusedFrame(
        image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=2**60 + sequence, received_ns=time.monotonic_ns(),
        thermal_timestamp_ns=2**60 + sequence, sequence=sequence, fuser="pyramid",
    )  # fmt: skip


@pytest.fixture(scope="module")
def node() -> str:
    """Node with the two packages, installed anywhere that NODE_PATH names."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    packages = "require('zeromq'); require('@msgpack/msgpack')"
    if subprocess.run([program, "-e", packages], capture_output=True, check=False).returncode:
        pytest.skip("node has no zeromq and @msgpack/msgpack: npm install them and set NODE_PATH to their node_modules")
    return program


@pytest.mark.parametrize("query", ["encoding=raw", "encoding=jpeg", "encoding=shm", "keys"])
def test_a_subscriber_in_another_language(node, tmp_path, query):
    arguments: list[str] = []
    if query == "keys":
        for name in ("camera", "node"):
            make_keys(tmp_path / name)
        query = f"keys={tmp_path}/camera.key&clients={tmp_path}/node.pub"
        pair = load_pair(tmp_path / "node.key")
        arguments = [load_pair(tmp_path / "camera.key").public, pair.public, pair.secret]
    context = SinkContext(rate_hz=30.0, live=False, session="from-python")
    sink = open_sink(f"zmq:tcp://127.0.0.1:*?{query}", context=context)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with subprocess.Popen(
        [node, str(EXAMPLES / "subscriber.js"), sink.endpoint, *arguments], stdout=subprocess.PIPE, text=True
    ) as subscriber:
        deadline_s = time.monotonic() + PATIENCE_S
        while not sink.has_subscribers():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        for sequence in range(3):
            sink.write(frame_of(sequence, image))
            got = json.loads(subscriber.stdout.readline())
            expected = {"session": "from-python", "sequence": sequence, "missed": 0, "width_px": 64, "height_px": 48}
            assert {**got, **expected} == got
            assert got["timestamp_ns"] == str(2**60 + sequence)
            assert -1000 < got["age_ms"] < PATIENCE_S * 1000
            if "jpeg" not in query:
                assert (got["bytes"], got["sum"]) == (image.size, int(image.sum()))
        subscriber.kill()
    sink.close(aborted=True)


def test_the_detector_says_what_it_needs(tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), str(EXAMPLES.parent), *filter(None, sys.path)])
    pytest.importorskip("onnx")
    from tests.focus.networks import detector

    program = [sys.executable, str(EXAMPLES / "detect.py"), "--weights", str(detector(tmp_path / "yolox.onnx"))]
    result = subprocess.run(
        program, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("detect.py: onnxruntime is installed but fails to load (not here)")
    assert "pip install -e '.[onnxruntime]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.shared
@pytest.mark.parametrize("live", [True, False])
def test_the_detector_finds_and_publishes(shared_data, free_port, live):
    pytest.importorskip("onnxruntime")
    weights = shared_data.parent / "weights" / "yolox_nano" / "yolox_nano.onnx"
    if not weights.is_file():
        pytest.skip("no YOLOX weights beside the recordings")
    context = SinkContext(rate_hz=30.0, live=live, session="s")
    sink = open_sink("zmq:tcp://127.0.0.1:*", context=context)
    image = np.full((240, 320, 3), 90, np.uint8)
    url = f"tcp://127.0.0.1:{free_port}"
    command = [
        sys.executable,
        str(EXAMPLES / "detect.py"),
        "--weights",
        str(weights),
        "--url",
        sink.endpoint,
        "--out",
        url,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), *filter(None, sys.path)])}
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as detector,
        rtfusion.subscribe(url, timeout_s=PATIENCE_S) as drawn,
    ):
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            sequence = 0
            while len(drawn._mailbox) == 0:
                assert time.monotonic() < deadline_s
                sink.write(frame_of(sequence, image))
                sequence += 1
                time.sleep(0.05)
            frame = next(drawn)
            assert frame.image.shape == image.shape
            assert frame.header.live == live
            assert live or frame.age_ms < 1000 * PATIENCE_S
            boxes = json.loads(detector.stdout.readline())
            assert set(boxes) == {"session", "sequence", "timestamp_ns", "boxes"}
        finally:
            detector.terminate()
    sink.close(aborted=True)
