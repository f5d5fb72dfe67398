from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.visibility import SUITE, table
from rtfusion.errors import ConfigError
from rtfusion.evaluate import timing
from rtfusion.evaluate.detector import CANDIDATE_SCORE, COCO, Detector
from rtfusion.evaluate.visibility import BLIND, LABELS, Label, LabelSet, measure, methods, read_labels
from rtfusion.focus.yolox import STRIDES, decode, letterbox
from tests import onnx_models
from tests.capture.clips import write_clip

SIDE_PX = 416
PERSON, CAR, BUS = 5 + 0, 5 + 2, 5 + 5
SIZE_PX = (64, 48)
TARGET = (24, 12, 34, 36)


def raw_output() -> np.ndarray:
    return np.zeros((sum((SIDE_PX // stride) ** 2 for stride in STRIDES), 85), np.float32)


def put(raw: np.ndarray, box_px: tuple[float, float, float, float], *, kind: int, cell: tuple[int, int]) -> None:
    """Writes one detection as the network would: at stride 8, in ``cell`` (column, row)."""
    x0, y0, x1, y1 = box_px
    row = raw[cell[1] * (SIDE_PX // 8) + cell[0]]
    row[:2] = (x0 + x1) / 16 - cell[0], (y0 + y1) / 16 - cell[1]
    row[2:4] = np.log(((x1 - x0) / 8, (y1 - y0) / 8))
    row[4], row[kind] = 0.8, 0.5


@given(
    size_px=st.tuples(st.integers(40, 1500), st.integers(40, 1500)),
    corner=st.tuples(st.floats(0.0, 0.6), st.floats(0.0, 0.6)),
    extent=st.tuples(st.floats(0.1, 0.4), st.floats(0.1, 0.4)),
)
def test_a_box_survives_the_letterbox_and_back(
    size_px: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    width, height = size_px
    tensor, scale = letterbox(np.zeros((height, width, 3), np.uint8), side_px=SIDE_PX)
    assert tensor.shape == (1, 3, SIDE_PX, SIDE_PX)
    box = np.array([corner[0], corner[1], corner[0] + extent[0], corner[1] + extent[1]]) * (
        width,
        height,
        width,
        height,
    )
    raw = raw_output()
    put(raw, tuple((box * scale).tolist()), kind=PERSON, cell=(3, 5))
    boxes, scores = decode(
        raw, side_px=SIDE_PX, scale=scale, size_px=size_px, classes=COCO, least_score=CANDIDATE_SCORE
    )["person"]
    assert boxes == pytest.approx(box[None], abs=0.01 * max(size_px) / SIDE_PX)
    assert scores == pytest.approx([0.4])


def test_the_letterbox_keeps_the_shape_and_pads_with_gray() -> None:
    image = np.full((240, 320, 3), (10, 20, 30), np.uint8)
    tensor, scale = letterbox(image, side_px=SIDE_PX)
    assert scale == 1.3
    assert tensor[0, :, :312].reshape(3, -1).T.tolist() == [[10, 20, 30]] * (312 * 416), "BGR, 0..255"
    assert (tensor[0, :, 312:] == 114).all()


def test_decoding_suppresses_class_by_class_and_joins_the_kinds_of_vehicles() -> None:
    raw = raw_output()
    put(raw, (100, 100, 180, 180), kind=PERSON, cell=(10, 10))
    put(raw, (104, 100, 184, 180), kind=PERSON, cell=(11, 10))
    put(raw, (100, 100, 180, 180), kind=BUS, cell=(12, 10))
    put(raw, (300, 300, 340, 340), kind=CAR, cell=(30, 30))
    found = decode(
        raw, side_px=SIDE_PX, scale=1.0, size_px=(SIDE_PX, SIDE_PX), classes=COCO, least_score=CANDIDATE_SCORE
    )
    assert found["person"][0].round().tolist() == [[100, 100, 180, 180]]
    assert sorted(found["vehicle"][0].round().tolist()) == [[100, 100, 180, 180], [300, 300, 340, 340]]


def test_boxes_are_cut_at_the_image() -> None:
    raw = raw_output()
    put(raw, (-20, -20, 60, 500), kind=PERSON, cell=(0, 0))
    boxes, _ = decode(raw, side_px=SIDE_PX, scale=1.0, size_px=(416, 312), classes=COCO, least_score=CANDIDATE_SCORE)[
        "person"
    ]
    assert boxes.round().tolist() == [[0, 0, 60, 312]]


def test_the_labels_are_whole() -> None:
    data = json.loads(LABELS.read_text())
    assert data["schema"] == 1
    assert set(data["classes"]) == set(COCO)
    sets = read_labels(LABELS)
    assert len({labels.name for labels in sets}) == len(sets)
    listed = [
        (entry["source"], frame.get("stem", frame.get("index"))) for entry in data["sets"] for frame in entry["frames"]
    ]
    assert len(listed) == len(set(listed)) >= 150, "every frame once"
    assert sum(len(labels.frames) for labels in sets) == len(listed)
    for labels in sets:
        assert set(labels.kinds) <= set(COCO)
        assert len({type(key) for key in labels.frames}) == 1, "indices or stems, not both"
        for key, entries in labels.frames.items():
            for label in entries:
                x0, y0, x1, y1 = label.box
                assert 0 <= x0 < x1 <= labels.size_px[0], (labels.name, key, label)
                assert 0 <= y0 < y1 <= labels.size_px[1], (labels.name, key, label)
                assert label.kind in labels.kinds
                assert isinstance(label.ignore, bool)
            assert len({label.box for label in entries if label.kind == "person"}) == sum(
                label.kind == "person" for label in entries
            ), (labels.name, key, "a box drawn twice")


def bright_spot(image: np.ndarray) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """A detector for these tests: the box around everything bright is a person."""
    rows, columns = np.nonzero(image[..., 1] > 128)
    box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if len(rows) else []
    person = np.array(box, np.float64).reshape(-1, 4), np.full(len(box), 0.9)
    return {"person": person, "vehicle": (np.empty((0, 4)), np.empty(0))}


def pair(*, warm: bool) -> tuple[np.ndarray, np.ndarray]:
    """A dark visible image, and a thermal one with a bright target or without."""
    thermal = np.full(SIZE_PX[::-1], 20, np.uint8)
    x0, y0, x1, y1 = TARGET
    thermal[y0:y1, x0:x1] = 220 if warm else 20
    return np.full((*SIZE_PX[::-1], 3), 30, np.uint8), thermal


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    for stem, warm in {"a": True, "b": False, "unlabeled": True}.items():
        for band, image in zip(("vi", "ir"), pair(warm=warm), strict=True):
            folder = tmp_path / "eval" / "yard" / band
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{stem}.png"), image)
    return tmp_path


YARD = LabelSet(
    name="yard",
    source="eval/yard",
    size_px=SIZE_PX,
    kinds=("person",),
    frames={"a": (Label(kind="person", box=TARGET, ignore=False),), "b": ()},
)


def test_a_target_that_only_one_band_shows(stills: Path) -> None:
    shown = methods(fusers=["maximum", "overlay"], models={})
    rows = measure(data=stills, detector=bright_spot, methods=shown, sets=[YARD])
    by_case = {row["case"]: row for row in rows if row["class"] == "person"}
    assert list(by_case) == ["visible", "thermal", "maximum", "overlay", "maximum, look detector"]
    for case, recall in {"visible": 0.0, "thermal": 1.0, "maximum": 1.0}.items():
        assert by_case[case]["recall"] == by_case[case]["f1"] == by_case[case]["average_precision"] == recall
    assert by_case["visible"]["contrast"] == 0.0
    assert by_case["thermal"]["contrast"] == pytest.approx(200)
    assert by_case["maximum"]["contrast"] == pytest.approx(190)
    assert (by_case["thermal"]["frames"], by_case["thermal"]["boxes"]) == (2, 1)


def test_several_sets_get_a_row_over_all_and_a_table(stills: Path) -> None:
    again = dataclasses.replace(YARD, name="again")
    shown = methods(fusers=["maximum"], models={})
    rows = measure(data=stills, detector=bright_spot, methods=shown, sets=[YARD, again])
    of_persons = [row for row in rows if row["class"] == "person"]
    assert [row["set"] for row in of_persons if row["case"] == "maximum"] == ["yard", "again", "all"]
    assert of_persons[-1]["boxes"] == 2
    data = timing.result("visibility", settings={"least_score": 0.4}, rows=rows)
    lines = table(data).splitlines()
    assert lines[0] == "person: F1 at score 0.4 by set, and over all (boxes: yard 1, again 1, all 2)"
    assert "| maximum | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |" in lines
    assert "| visible | 0.00 | 0.00 | 0.00 | - | 0.00 | 0.00 |" in lines
    assert "| maximum | 190.0 | 190.0 | 190.0 |" in lines
    assert "vehicle" not in table(data)


def test_a_video_is_fused_whole_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "video" / "yard"
    folder.mkdir(parents=True)
    for band, place in (("vi", 0), ("ir", 1)):
        write_clip(folder / f"{band}.mp4", [pair(warm=index in (2, 3))[place] for index in range(6)])
    seen: list[tuple[bool, int]] = []

    def with_memory(still: bool, stack: ExitStack):
        def render(*, visible: np.ndarray, thermal: np.ndarray, timestamp_ns: int) -> np.ndarray:
            seen.append((still, timestamp_ns))
            return thermal

        return render

    person = Label(kind="person", box=TARGET, ignore=False)
    clip = LabelSet(
        name="clip", source="video/yard", size_px=SIZE_PX, kinds=("person",), frames={1: (), 3: (person,), 4: ()}
    )
    rows = measure(data=tmp_path, detector=bright_spot, methods={"memory": with_memory}, sets=[clip])
    assert [still for still, _ in seen] == [False] * 5, "every frame up to the last labeled one"
    assert [stamp for _, stamp in seen] == sorted({stamp for _, stamp in seen})
    assert (rows[0]["precision"], rows[0]["recall"]) == (1.0, 1.0)


def test_labeled_frames_that_are_not_there_are_named(stills: Path) -> None:
    more = dataclasses.replace(YARD, frames={**YARD.frames, "gone": ()})
    with pytest.raises(ConfigError, match=r"yard lacks the labeled frames \['gone'\]"):
        measure(data=stills, detector=bright_spot, methods=methods(fusers=[], models={}), sets=[more])


def test_images_of_another_size_than_their_labels_are_refused(stills: Path) -> None:
    other = dataclasses.replace(YARD, size_px=(640, 480))
    with pytest.raises(ConfigError, match=r"frame a is not \(640, 480\)"):
        measure(data=stills, detector=bright_spot, methods=methods(fusers=[], models={}), sets=[other])


def test_the_dial_of_a_learned_fuser_makes_a_case_of_every_value(
    stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the visible band is blank here, and yet the model is to be seen
    monkeypatch.setattr("rtfusion.fusion.trust.BLANK_LEVELS", -2.0)
    monkeypatch.setattr("rtfusion.fusion.trust.SHOWING_LEVELS", -1.0)
    model = onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    named = ["visible", "thermal", "dial", "dial, look detector"]
    assert list(methods(fusers=[], models={"dial": model}, enhance=[])) == named
    shown = methods(fusers=[], models={"dial": model}, enhance=[0.0, 0.25, 1.0])
    rows = measure(data=stills, detector=bright_spot, methods=shown, sets=[YARD])
    rows = {row["case"]: row for row in rows if row["class"] == "person"}
    found = {case: rows[case]["recall"] for case in list(rows)[2:-1]}
    assert found == {"dial, enhance 0": 0.0, "dial, enhance 0.25": 0.0, "dial, enhance 1": 1.0}
    assert rows["dial, enhance 0.25"]["contrast"] == pytest.approx(50, abs=1), "a quarter of the thermal step"


def test_what_is_kept_where_the_visible_camera_is_blind(stills: Path) -> None:
    shown = methods(fusers=["average", "maximum"], models={})
    rows = measure(data=stills, detector=bright_spot, methods=shown, sets=[YARD])
    kept = {row["case"]: row["kept"] for row in rows if row["class"] == BLIND}
    assert kept["visible"] == 0.0
    assert kept["thermal"] == 1.0
    assert kept["average"] == pytest.approx(0.5, abs=0.01)
    assert kept["maximum"] == pytest.approx(0.95, abs=0.01), "190 of 200 gray levels"
    (blind,) = {row["blind"] for row in rows if row["class"] == BLIND}
    assert 0.05 < blind < 0.5, "around the target of the one frame of two that has it"
    data = timing.result("visibility", settings={"least_score": 0.4}, rows=rows)
    assert "| maximum | 0.95 |" in table(data).splitlines()


def test_the_look_for_detectors_is_gray_with_the_base_of_the_mean(stills: Path) -> None:
    shown = methods(fusers=["average", "maximum", "overlay"], models={})
    assert list(shown)[-2:] == ["average, look detector", "maximum, look detector"]
    visible, thermal = np.full((48, 64, 3), (20, 80, 60), np.uint8), np.full((48, 64), 200, np.uint8)
    with ExitStack() as stack:
        for case in list(shown)[-2:]:
            picture = shown[case](True, stack)(visible=visible, thermal=thermal, timestamp_ns=0)
            np.testing.assert_array_equal(picture, np.full((48, 64), (67 + 200 + 1) // 2, np.uint8))


def test_a_missing_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", str(tmp_path), "--detector", str(tmp_path / "none.onnx")]
    assert SUITE.main(common) == 2
    assert "there is no such file; expected a YOLOX model" in capsys.readouterr().err


@pytest.mark.shared
def test_two_real_frames_from_end_to_end(shared_data: Path) -> None:
    detector = Detector(shared_data.parent / "weights" / "yolox_nano" / "yolox_nano.onnx")
    wanted = {"smoke": 108, "msrs-day": "00186D"}
    sets = [
        dataclasses.replace(labels, frames={wanted[labels.name]: labels.frames[wanted[labels.name]]})
        for labels in read_labels(LABELS)
        if labels.name in wanted
    ]
    shown = methods(fusers=["pyramid"], models={})
    rows = measure(data=shared_data, detector=detector, methods=shown, sets=sets)
    recall = {(row["case"], row["set"]): row["recall"] for row in rows if row["class"] == "person"}
    assert recall["thermal", "smoke"] == 1.0, "both men in the smoke are plain in the thermal image"
    assert recall["visible", "smoke"] == 0.0, "and hidden in the visible one"
    assert recall["visible", "msrs-day"] == 1.0
    counted = [row for row in rows if row["class"] != BLIND]
    assert all(row["frames"] == (2 if row["set"] == "all" else 1) for row in counted)
    kept = {(row["case"], row["set"]): row["kept"] for row in rows if row["class"] == BLIND}
    assert kept["thermal", "smoke"] == 1.0
    assert kept["visible", "smoke"] < 0.05 < 0.5 < kept["pyramid", "smoke"]
