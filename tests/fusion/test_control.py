"""Changes while frames flow: none is lost, and each is made by one model and one calibration."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtfusion.engines import open_gray_engine
from rtfusion.errors import CalibrationError, ConfigError, ModelError
from rtfusion.fusion import learned, open_method
from rtfusion.fusion.base import Change
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady
from rtfusion.models import PRECISIONS, file_name, shipping
from rtfusion.pairs import PairStream
from rtfusion.pipeline import Pipeline
from rtfusion.registration import Calibration, PairShape
from rtfusion.registration.calibration import CameraModel, Pose
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair
from tests import onnx_models
from tests.support import MS, CollectingSink, ScriptedSource, host_fuser, make_frame, stream

VISIBLE, THERMAL = 200, 100
"""Gray levels of the two pictures: what `dial` makes of them tells where it stood."""


def pair(sequence: int = 0, *, height_px: int = 48) -> FramePair:
    return FramePair(
        visible=make_frame(Band.VISIBLE, sequence * 33 * MS, image=np.full((height_px, 64, 3), VISIBLE, np.uint8)),
        thermal=make_frame(Band.THERMAL, sequence * 33 * MS, image=np.full((height_px, 64), THERMAL, np.uint8)),
        sequence=sequence,
    )


def shifted(dx: float) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=np.array([[1.0, 0.0, dx], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        visible_size_px=(64, 48),
        thermal_size_px=(64, 48),
    )


def dial(path: Path) -> Path:
    return onnx_models.write(path, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})


def thermal_only(path: Path) -> Path:
    return onnx_models.write(path, onnx_models.affine(visible=0, thermal=1))


def fuser_of(model: Path | None) -> PairFuser[HostReady]:
    name = "average" if model is None else "learned"
    return host_fuser(
        name,
        method=open_method(name, still=False, model=model, threads=1, trust=False),
    )


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[PairFuser[HostReady]]:
    opened = fuser_of(dial(tmp_path / "dial.onnx"))
    yield opened
    opened.close()


def level(fuse: PairFuser[HostReady]) -> int:
    image = fuse(pair()).image
    assert (image == image[0, 0, 0]).all()
    return int(image[0, 0, 0])


def test_a_model_that_ships_is_named(
    fuse: PairFuser[HostReady], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    for precision in PRECISIONS:
        thermal_only(tmp_path / file_name("other", precision=precision))
    assert level(fuse) != THERMAL
    fuse.change(Change(model=Path("other")))
    assert level(fuse) == THERMAL
    with pytest.raises(ConfigError, match="no model 'another'"):
        fuse.change(Change(model=Path("another")))
    assert level(fuse) == THERMAL


def test_another_model_comes_in_the_precision_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    for name in ("one", "other"):
        dial(tmp_path / file_name(name, precision="f32"))
        dial(tmp_path / file_name(name, precision="f16"))
        thermal_only(tmp_path / file_name(name, precision="int8"))
    method = open_method("learned", still=False, model=Path("one"), precision="int8", threads=1, trust=False)
    fuse = host_fuser("learned", method=method)
    assert level(fuse) == THERMAL
    fuse.change(Change(model=Path("other")))
    assert level(fuse) == THERMAL
    assert "student-other-int8.onnx" in (fuse.engine or "")
    fuse.change(Change(precision="f32"))
    assert level(fuse) == 175
    assert "student-other.onnx" in (fuse.engine or "")
    fuse.close()


def test_a_dial_turns_between_two_frames(fuse: PairFuser[HostReady]) -> None:
    assert fuse.inputs == {"enhance": 0.25}
    assert level(fuse) == 175
    fuse.change(Change(inputs={"enhance": 1.0}))
    assert level(fuse) == THERMAL
    assert fuse.inputs == {"enhance": 1.0}


def test_another_model_takes_over_with_the_dials_that_it_has(fuse: PairFuser[HostReady], tmp_path: Path) -> None:
    fuse.change(Change(inputs={"enhance": 1.0}))
    before = fuse(pair())
    fuse.change(Change(model=thermal_only(tmp_path / "thermal.onnx")))
    after = fuse(pair())
    assert before.model_id != after.model_id
    assert (after.image == THERMAL).all()
    assert fuse.inputs == {}
    fuse.change(Change(model=tmp_path / "dial.onnx", inputs={"enhance": 0.0}))
    assert level(fuse) == VISIBLE


def test_a_dial_turned_before_the_new_model_ran_is_the_new_models(
    fuse: PairFuser[HostReady], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level(fuse)
    opened = []
    monkeypatch.setattr(learned, "open_gray_engine", lambda *a, **k: opened.append(a) or open_gray_engine(*a, **k))
    fuse.change(Change(model=dial(tmp_path / "other.onnx")))
    fuse.change(Change(inputs={"enhance": 0.5}))
    assert level(fuse) == 150
    assert len(opened) == 1, "what was prepared is what runs: no frame waits for an engine"


def test_what_cannot_be_done_changes_nothing(fuse: PairFuser[HostReady], tmp_path: Path) -> None:
    kept = level(fuse)
    with pytest.raises(ConfigError, match="did you mean enhance"):
        fuse.change(Change(inputs={"enhanse": 1.0}))
    with pytest.raises(ConfigError, match=r"enhance is 1\.5"):
        fuse.change(Change(inputs={"enhance": 1.5}))
    with pytest.raises(ModelError, match="No such file"):
        fuse.change(Change(model=tmp_path / "gone.onnx", calibration=shifted(3), inputs={"enhance": 1.0}))
    other_cameras = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(100, 48), thermal_size_px=(64, 48)
    )
    with pytest.raises(CalibrationError, match="another aspect"):
        fuse.change(Change(calibration=other_cameras, inputs={"enhance": 1.0}))
    assert level(fuse) == kept
    assert fuse.calibration is None


def test_a_fuser_without_a_model_has_no_dials() -> None:
    fuse = fuser_of(None)
    assert fuse.inputs == {}
    with pytest.raises(ConfigError, match="the fuser is average, which has no model"):
        fuse.change(Change(inputs={"enhance": 0.5}))


def test_the_engine_is_open_before_the_first_frame(fuse: PairFuser[HostReady]) -> None:
    fuse.prepare(PairShape((48, 64, 3), (24, 32), 1))
    assert fuse.engine is not None
    assert level(fuse) == 175


def test_another_calibration_is_used_from_the_next_frame_on() -> None:
    fuse = fuser_of(None)
    fuse.prepare(PairShape.of(pair()))
    assert fuse(pair()).calibration_id is None
    fuse.change(Change(calibration=shifted(30.0)))
    frame = fuse(pair())
    assert frame.calibration_id == shifted(30.0).id
    assert (frame.image[:, :29] == VISIBLE).all()
    assert fuse.calibration is not None


def test_a_calibration_without_the_pose_that_parallax_needs_is_refused_and_the_run_goes_on() -> None:
    camera = CameraModel(width_px=64, height_px=48, intrinsics=((56.0, 0, 31.5), (0, 56.0, 23.5), (0, 0, 1)))
    pose = Pose(rotation=((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation_m=(0.12, 0, 0))
    board = Calibration.from_pose(visible=camera, thermal=camera, pose=pose, distance_m=8.0, provenance={})
    telemetry = Telemetry()
    fuse = host_fuser("average", calibration=board, parallax="dense", telemetry=telemetry)
    displacement = fuse(pair()).displacement
    assert displacement is not None
    assert displacement.farthest_px < 0 < displacement.nearest_px
    assert telemetry.snapshot()["parallax"]["measured"] == 1
    with pytest.raises(CalibrationError, match="holds no pose"):
        fuse.change(Change(calibration=board.nudged(shift_px=(1.0, 0.0))))
    assert fuse(pair(1)).calibration_id == board.id
    fuse.change(Change(calibration=board.at_distance(4.0)))
    assert fuse(pair(2)).calibration_id == board.at_distance(4.0).id


def test_a_calibration_made_ready_for_a_size_that_is_gone_is_made_again() -> None:
    fuse = fuser_of(None)
    fuse(pair())
    fuse.change(Change(calibration=shifted(30.0)))
    assert fuse(pair(height_px=48)).image.shape == (48, 64, 3)


def test_a_change_after_the_end_leaves_no_engine_open(fuse: PairFuser[HostReady], tmp_path: Path) -> None:
    level(fuse)
    fuse.close()
    fuse.change(Change(model=thermal_only(tmp_path / "thermal.onnx")))
    assert fuse._next is None


def test_changes_from_another_thread_lose_no_frame_and_mix_none(fuse: PairFuser[HostReady], tmp_path: Path) -> None:
    models = [tmp_path / "dial.onnx", thermal_only(tmp_path / "thermal.onnx")]
    stop = threading.Event()
    broken: list[BaseException] = []

    def turn() -> None:
        step = 0
        try:
            while not stop.is_set():
                fuse.change(Change(model=models[step % 2], calibration=shifted(float(step % 3))))
                if fuse.inputs:
                    fuse.change(Change(inputs={"enhance": float(step % 4 == 0)}))
                step += 1
        except BaseException as error:  # noqa: BLE001 - looked at below
            broken.append(error)

    level(fuse)
    thread = threading.Thread(target=turn)
    thread.start()
    levels: set[int] = set()
    for sequence in range(150):
        frame = fuse(pair(sequence))
        assert frame.sequence == sequence
        inner = frame.image[:, 40:]  # every calibration sees it whole
        assert (inner == inner[0, 0, 0]).all()
        levels.add(int(inner[0, 0, 0]))
    stop.set()
    thread.join(30)
    assert broken == []
    assert levels <= {VISIBLE, 175, THERMAL}


def test_a_run_is_changed_through_its_pipeline(fuse: PairFuser[HostReady]) -> None:
    sink = CollectingSink()
    visible = stream(Band.VISIBLE, range(0, 300, 33))
    steps = [*visible[:4], lambda: pipeline.change(Change(inputs={"enhance": 1.0})), *visible[4:]]
    pipeline = Pipeline(
        pairs=PairStream(
            visible=ScriptedSource(Band.VISIBLE, steps),
            thermal=ScriptedSource(Band.THERMAL, stream(Band.THERMAL, range(0, 300, 33))),
        ),
        fuser=fuse,
        sinks=[sink],
    )
    assert pipeline.control.inputs == {"enhance": 0.25}
    pipeline.run()
    assert [frame.sequence for frame in sink.frames] == list(range(len(visible)))
    assert pipeline.control.inputs == {"enhance": 1.0}


def test_a_buffer_is_used_again_when_nobody_holds_it_or_a_view_of_it() -> None:
    pool = Pool()
    held = pool.take((4, 5))
    other = pool.take((4, 5))
    assert not np.shares_memory(held, other)
    view, address = held[1:, 2:], held.ctypes.data
    del held
    assert pool.take((4, 5)).ctypes.data != address
    del view, other
    assert pool.take((4, 5)).ctypes.data == address


def test_frames_that_are_held_keep_their_pixels(fuse: PairFuser[HostReady]) -> None:
    frames = []
    for enhance in (0.0, 0.5, 1.0):
        fuse.change(Change(inputs={"enhance": enhance}))
        frames.append(fuse(pair()))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [200, 150, 100]


def test_the_look_changes_between_two_frames() -> None:
    fuse = host_fuser("maximum")
    colored = make_frame(Band.VISIBLE, 0, image=np.full((48, 64, 3), (200, 100, 50), np.uint8))
    one = replace(pair(), visible=colored)
    assert fuse.look == "eye"
    assert len(set(fuse(one).image[0, 0])) > 1
    fuse.change(Change(look="detector"))
    assert fuse.look == "detector"
    assert len(set(fuse(replace(one, sequence=1)).image[0, 0])) == 1, "for a detector it is gray"
    with pytest.raises(ConfigError, match="no look 'dog'"):
        fuse.change(Change(look="dog"))
    fuse.change(Change(look="eye"))
    assert len(set(fuse(replace(one, sequence=2)).image[0, 0])) > 1
    fuse.close()


def test_what_is_made_of_colors_has_no_look_and_any_palette_turned_round() -> None:
    fuse = host_fuser("overlay")
    assert (fuse.look, fuse.model) == (None, None)
    with pytest.raises(ConfigError, match="the look cannot be changed: the fuser is overlay"):
        fuse.change(Change(look="detector"))
    fuse.change(Change(palette="ironbow-reversed"))
    assert fuse.palette == "ironbow-reversed"
    with pytest.raises(ConfigError, match="no palette 'reversed'"):
        fuse.change(Change(palette="reversed"))
    fuse.close()


def test_the_model_is_told_as_it_was_named(fuse: PairFuser[HostReady], tmp_path: Path) -> None:
    assert fuse.model == tmp_path / "dial.onnx"
    fuse.change(Change(model=thermal_only(tmp_path / "other.onnx")))
    assert fuse.model == tmp_path / "other.onnx"
