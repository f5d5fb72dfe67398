"""Networks that look for targets: the head that ships, its contract, and detectors of the YOLOX layout."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from rtfusion.errors import ConfigError, EngineError, ModelError
from rtfusion.focus import map_shape
from rtfusion.focus.detector import Detector, read_detector_spec
from rtfusion.focus.head import Head
from rtfusion.focus.opening import open_focus
from rtfusion.focus.spec import KEY, MAPS, SHIPPED, read_head_spec
from rtfusion.focus.yolox import COCO_NAMES, classes_of
from rtfusion.models.onnx_file import declared_ports
from rtfusion.telemetry import Telemetry
from tests.focus.networks import CELLS, detector, head
from tests.focus.test_focus import registered
from tests.support import MS

PATIENCE_S = 30.0


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_the_ports_of_a_graph_are_read_without_the_onnx_package(tmp_path: Path) -> None:
    path = detector(tmp_path / "d.onnx")
    assert declared_ports(path) == ({"images": (1, 3, 64, 64)}, {"output": (1, CELLS, 85)})
    inputs, outputs = declared_ports(head(tmp_path / "h.onnx"))
    assert inputs == {"visible_y": (1, 1, None, None), "thermal": (1, 1, None, None)}
    assert outputs == {MAPS: (1, 2, None, None)}


# -- the head -----------------------------------------------------------------------------------------------------------


def test_the_head_sees_both_bands_at_a_quarter_and_gives_a_map_for_each_target(tmp_path: Path) -> None:
    pair = registered(shape=(50, 66))
    found = Head(model=head(tmp_path / "h.onnx"), threads=1).maps(pair)
    assert {name: one.shape for name, one in found.items()} == dict.fromkeys(("people", "vehicles"), (13, 17))
    means = {"people": pair.thermal.mean(), "vehicles": pair.visible.mean()}
    for name, one in found.items():
        assert one.mean() * 255 == pytest.approx(means[name], abs=1)
        assert one.dtype == np.float32


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch", "onnxruntime:cuda"])
def test_the_head_runs_on_both_engines_beside_any_other(tmp_path: Path, engine: str) -> None:
    found = Head(model=head(tmp_path / "h.onnx"), engine=engine, threads=1).maps(registered())
    assert found["people"].max() == pytest.approx((90 + 49) / 255, abs=0.01)


def test_the_head_looks_at_every_so_many_frames_and_says_how_old_its_maps_are(tmp_path: Path) -> None:
    looking = Head(model=head(tmp_path / "h.onnx"), threads=1, every=3)
    ages = []
    for step in range(7):
        looking.maps(registered(step * 40 * MS))
        ages.append(looking.age_ns)
    assert ages == [0, 40 * MS, 80 * MS, 0, 40 * MS, 80 * MS, 0]
    assert looking.runs == 3
    looking.maps(registered(0))
    assert (looking.runs, looking.age_ns) == (4, 0), "time went back"
    looking.maps(registered(40 * MS, shape=(40, 40)))
    assert looking.runs == 5, "another size"
    looking.close()
    looking.close()


def test_of_a_slow_stream_the_head_sees_more_unless_it_was_told_how_often(tmp_path: Path) -> None:
    path = head(tmp_path / "h.onnx")
    for every, runs in ((None, 5), (3, 2)):
        looking = Head(model=path, threads=1, every=every)
        for step in range(5):
            looking.maps(registered(step * 250 * MS))
        assert looking.runs == runs


def test_a_map_that_is_held_does_not_change_with_the_next_look(tmp_path: Path) -> None:
    looking = Head(model=head(tmp_path / "h.onnx"), threads=1, every=1)
    pair = registered(0)
    held = looking.maps(pair)["people"]
    kept = held.copy()
    pair.thermal[:] = 255
    assert looking.maps(pair)["people"].min() == 1
    assert np.array_equal(held, kept)


def test_a_closed_head_says_so(tmp_path: Path) -> None:
    looking = Head(model=head(tmp_path / "h.onnx"), threads=1)
    looking.close()
    with pytest.raises(EngineError, match="closed"):
        looking.maps(registered())


def test_the_head_that_ships_has_a_contract_that_holds() -> None:
    spec = read_head_spec(SHIPPED)
    assert spec.targets[0] == "people"
    assert spec.license == "Apache-2.0"
    assert spec.data
    assert spec.scores["people"] > 0.3
    assert SHIPPED.stat().st_size < 1 << 20
    stored = {entry.key: entry.value for entry in onnx.load(SHIPPED).metadata_props}
    assert stored == spec.metadata(), "as it is written"


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no head that finds targets"):
        read_head_spec(detector(tmp_path / "d.onnx"))
    with pytest.raises(ModelError, match="No such file"):
        Head(model=tmp_path / "gone.onnx")
    path = head(tmp_path / "h.onnx")
    model = onnx.load(path)
    model.graph.name = "edited"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="edited"):
        read_head_spec(path)
    model = onnx.load(head(tmp_path / "h.onnx"))
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = entry.value.replace('"schema":1', '"schema":2')
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="contract that does not hold"):
        read_head_spec(path)


def test_a_head_whose_graph_gives_something_else_is_refused(tmp_path: Path) -> None:
    looking = Head(model=head(tmp_path / "h.onnx", targets=("people",)), threads=1)
    with pytest.raises(ModelError):
        looking.maps(registered())


# -- detectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_what_a_detector_finds_is_where_it_found_it(tmp_path: Path, engine: str) -> None:
    boxes = ((0, (16, 8, 32, 40), 0.9), (2, (40, 16, 60, 30), 0.8), (16, (2, 30, 14, 46), 0.9))
    path = detector(tmp_path / "d.onnx", found=boxes)
    looking = Detector(path, engine=engine, threads=1, every=1, classes=["dogs"])
    assert looking.targets == ("people", "vehicles", "dogs")
    found = looking.maps(registered(shape=(96, 128)))  # twice the square
    for name, (_, (left, top, right, bottom), _) in zip(looking.targets, boxes, strict=True):
        rows, columns = np.nonzero(found[name] >= 0.5)
        assert (rows.min(), rows.max()) == pytest.approx((top / 2, bottom / 2 - 1), abs=1)
        assert (columns.min(), columns.max()) == pytest.approx((left / 2, right / 2 - 1), abs=1)
    looking.close()
    looking.close()


def test_a_detection_counts_as_it_is_sure(tmp_path: Path) -> None:
    boxes = ((0, (0, 0, 24, 40), 0.3), (2, (40, 16, 60, 30), 0.15))
    looking = Detector(detector(tmp_path / "d.onnx", found=boxes), threads=1, every=1)
    found = looking.maps(registered(shape=(96, 128)))
    assert found["people"].max() == pytest.approx(0.5, abs=0.01)
    assert "vehicles" not in found


def test_a_detector_of_its_own_classes_names_them(tmp_path: Path) -> None:
    said = detector(tmp_path / "a.onnx", classes=2, names="{0: 'Drone', 1: 'person'}", found=[(0, (0, 0, 24, 40), 0.9)])
    looking = Detector(said, threads=1, every=1, classes=["drones"])
    assert looking.targets == ("people", "drones")
    assert set(looking.maps(registered(shape=(96, 128)))) == {"drones"}
    with pytest.raises(ConfigError, match="no class 'bicycles'"):
        Detector(said, threads=1, classes=["bicycles"])
    with pytest.raises(ModelError, match="does not say which"):
        Detector(detector(tmp_path / "b.onnx", classes=2), threads=1)
    with pytest.raises(ModelError, match="names others"):
        Detector(detector(tmp_path / "c.onnx", classes=2, names='["one"]'), threads=1)


def test_what_is_no_detector_of_this_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a YOLOX of fixed size"):
        read_detector_spec(head(tmp_path / "h.onnx"))
    with pytest.raises(ModelError, match="No such file"):
        read_detector_spec(tmp_path / "gone.onnx")


def test_recordings_are_looked_at_at_once_every_so_many_frames(tmp_path: Path) -> None:
    looking = Detector(detector(tmp_path / "d.onnx"), threads=1, every=4)
    ages = []
    for step in range(9):
        looking.maps(registered(step * 40 * MS))
        ages.append(looking.age_ns)
    assert ages == [0, 40 * MS, 80 * MS, 120 * MS] * 2 + [0]
    assert looking.runs == 3


def test_boxes_of_slow_streams_hold_until_the_next_look(tmp_path: Path) -> None:
    looking = Detector(detector(tmp_path / "d.onnx"), threads=1, every=4)
    peaks = [float(looking.maps(registered(step * 500 * MS))["people"].max()) for step in range(4, 12)]
    assert peaks[4:] == [1, 1, 1, 1]


def test_live_it_looks_beside_the_frames_and_newest_wins(tmp_path: Path) -> None:
    looking = Detector(detector(tmp_path / "d.onnx"), threads=1, every=1, live=True)
    entered, go_on = threading.Event(), threading.Event()
    run = looking._network._engine.run

    def slow(**inputs):
        entered.set()
        assert go_on.wait(PATIENCE_S)
        return run(**inputs)

    looking._network._engine.run = slow
    assert looking.maps(registered(0)) == {}, "nothing is known yet, and nobody waited"
    assert entered.wait(PATIENCE_S)
    for step in range(1, 6):
        assert looking.maps(registered(step * 10 * MS)) == {}
    assert looking.skipped == 4, "one is being looked at, and one waits"
    go_on.set()
    until(lambda: looking.runs == 2)
    assert looking.maps(registered(60 * MS))["people"].max() == 1
    assert looking.age_ns == 10 * MS, "the newest of those that came meanwhile"
    looking.close()
    assert not looking._thread.is_alive()


def test_a_detector_that_breaks_beside_the_frames_ends_the_run(tmp_path: Path) -> None:
    looking = Detector(detector(tmp_path / "d.onnx"), threads=1, every=1, live=True)
    looking._network._engine.close()
    looking.maps(registered(0))
    until(lambda: not looking._thread.is_alive())
    with pytest.raises(EngineError, match="closed"):
        looking.maps(registered(40 * MS))
    looking.close()


@pytest.mark.parametrize(
    ("word", "classes"),
    [
        ("people", ["person"]),
        ("vehicles", ["car", "motorcycle", "bus", "truck"]),
        ("dogs", ["dog"]),
        ("bicycles", ["bicycle"]),
        ("buses", ["bus"]),
        ("Traffic lights", ["traffic_light"]),
        ("sheep", ["sheep"]),
    ],
)
def test_classes_are_named_as_people_name_them(word: str, classes: list[str]) -> None:
    assert [COCO_NAMES[index] for index in classes_of(word, names=COCO_NAMES)] == classes


# -- the focus of a run -------------------------------------------------------------------------------------------------


def test_a_class_needs_a_detector_and_people_have_an_axis(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing here finds dogs"):
        open_focus(telemetry=Telemetry(), classes=["dogs"])
    with pytest.raises(ConfigError, match="--intent people=1"):
        open_focus(telemetry=Telemetry(), classes=["people"], detector=detector(tmp_path / "d.onnx"))


def test_a_class_that_is_named_is_looked_for_whatever_is_wanted(tmp_path: Path) -> None:
    path = detector(tmp_path / "d.onnx", found=[(16, (16, 16, 48, 40), 0.9)])
    focus = open_focus(telemetry=Telemetry(), classes=["dogs"], detector=path, threads=1, still=True)
    assert focus.maps(registered())["dogs"].max() == 1
    focus.close()


def test_without_head_and_detector_people_are_not_found_and_that_is_said() -> None:
    telemetry = Telemetry()
    focus = open_focus(telemetry=telemetry, head=False, publish=True)
    assert focus.maps(registered()) == {}
    (note,) = telemetry.notes
    assert "looks for people" in note


def test_nothing_is_opened_while_nothing_is_wanted() -> None:
    focus = open_focus(telemetry=Telemetry(), threads=1)
    focus.prepare((48, 64))
    (looking,) = (one for one in focus._providers if isinstance(one, Head))
    assert looking._opened is None
    focus.prepare((48, 64), wanted=["people"])
    assert looking._opened is not None
    assert looking._opened.shape == map_shape((48, 64))
    focus.close()
