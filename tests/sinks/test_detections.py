"""Boxes in fused pictures, as a file of COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ModelError, SinkError
from rtfusion.sinks.detections import DetectionsSink, join_detections
from tests.focus.networks import SIDE_PX, detector

FOUND = ((0, (16, 16, 48, 40), 0.9), (2, (8, 8, 24, 32), 0.5))
"""A person and a car, in the square of the detector."""


def written(path: Path, model: Path, make_frame, *, count: int = 3, begin: int = 0, **more) -> dict:
    sink = DetectionsSink(path, model=model, **more)
    for sequence in range(count):
        image = np.zeros((2 * SIDE_PX, 2 * SIDE_PX, 3), np.uint8)
        stamp_ns = (begin + sequence) * NS_PER_S // 10
        sink.write(make_frame(sequence, image=image, timestamp_ns=stamp_ns))
    sink.close(aborted=False)
    return json.loads(path.read_text())


def test_boxes_are_where_the_detector_found_them_in_the_fused_picture(tmp_path, make_frame):
    said = written(tmp_path / "d.json", detector(tmp_path / "d.onnx", found=FOUND), make_frame, file_name="fused.mp4")
    names = {category["id"]: category["name"] for category in said["categories"]}
    assert len(names) == 80
    assert [image["frame"] for image in said["images"]] == [0, 1, 2]
    assert said["images"][2] == {
        "file_name": "fused.mp4", "width": 2 * SIDE_PX, "height": 2 * SIDE_PX, "frame": 2, "time_s": 0.2, "id": 3
    }  # fmt: skip
    boxes = [(names[one["category_id"]], one["bbox"], one["score"]) for one in said["annotations"]]
    assert [name for name, _, _ in boxes] == ["person", "car"] * 3
    assert boxes[0][1] == pytest.approx([32, 32, 64, 48], abs=0.1)
    assert boxes[0][2] == pytest.approx(0.9, abs=1e-3)
    assert said["annotations"][0]["area"] == pytest.approx(64 * 48, abs=10)
    assert [one["id"] for one in said["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert {one["image_id"] for one in said["annotations"]} == {1, 2, 3}


def test_it_looks_so_many_times_a_second_by_the_stamps(tmp_path, make_frame):
    said = written(tmp_path / "d.json", detector(tmp_path / "d.onnx"), make_frame, count=25, hz=2)
    assert [image["frame"] for image in said["images"]] == [0, 5, 10, 15, 20]
    assert [image["file_name"] for image in said["images"]][:2] == ["000000", "000005"]


def test_pieces_are_joined_to_what_the_whole_would_say(tmp_path, make_frame):
    model = detector(tmp_path / "d.onnx", found=FOUND)
    whole = written(tmp_path / "whole.json", model, make_frame, count=30, file_name="fused.mp4", hz=3)
    for index in (0, 1):
        written(
            tmp_path / f"{index}.json", model, make_frame, count=(10, 20)[index], begin=10 * index,
            file_name="fused.mp4", hz=3,
        )  # fmt: skip
    join_detections([tmp_path / "0.json", tmp_path / "1.json"], tmp_path / "joined.json", frames=[10, 20])
    assert json.loads((tmp_path / "joined.json").read_text()) == whole


def test_nothing_found_is_a_whole_file_too(tmp_path, make_frame):
    said = written(tmp_path / "d.json", detector(tmp_path / "d.onnx", found=()), make_frame)
    assert (len(said["images"]), said["annotations"]) == (3, [])


def test_what_cannot_be_used_or_written_says_so(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        DetectionsSink(tmp_path / "d.json", model=tmp_path / "no.onnx")
    with pytest.raises(SinkError, match="No such file or directory"):
        DetectionsSink(tmp_path / "gone" / "d.json", model=detector(tmp_path / "d.onnx"))
    (tmp_path / "half.json").write_text('{"info": ')
    with pytest.raises(SinkError, match="cannot be read"):
        join_detections([tmp_path / "half.json"], tmp_path / "joined.json", frames=[1])
