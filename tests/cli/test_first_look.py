"""The first look at a run: what is said of pictures that do not agree, and what is done about them where that was asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from rtfusion_calibration import scene

from rtfusion.cli.first_look import PAIRS, FirstLook, first_look
from rtfusion.config import Settings
from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.fusion.base import Change
from rtfusion.library import open as open_stream
from rtfusion.pairs import open_pairs
from rtfusion.pipeline import build
from rtfusion.registration.rough import apart_px
from rtfusion.types import FramePair

SIZE_PX = (480, 360)
MOVED = "synthetic:?size=480x360&fps=2&frames=5&misalign=34,-16,2,1.05"
SAME = "synthetic:?size=480x360&fps=2&frames=5"


def seen(source: str) -> Sequence[FramePair]:
    with open_pairs(ir=source, vis=source) as pairs:
        return list(pairs)


def looked(source: str, *, auto_register: bool = False) -> tuple[list[str], list[Change]]:
    """What was noted, and what was changed."""
    notes: list[str] = []
    changes: list[Change] = []
    look = FirstLook(note=notes.append, auto_register=auto_register, still=False, use=changes.append)
    for pair in seen(source):
        look(pair)
    assert look._thread is not None
    look._thread.join()
    look.close()
    return notes, changes


def test_pictures_that_do_not_agree_are_said_to_and_those_that_do_are_not() -> None:
    notes, changes = looked(MOVED)
    assert len(notes) == 1
    assert notes[0].startswith("these pictures do not agree: the thermal one lies about ")
    assert notes[0].endswith("px elsewhere; run rtfusion calibrate scene, or pass --auto-register")
    assert changes == []
    assert looked(SAME) == ([], [])


def test_they_are_registered_where_that_was_asked_for() -> None:
    notes, changes = looked(MOVED, auto_register=True)
    assert len(changes) == 1, notes
    calibration = changes[0].calibration
    assert calibration is not None
    off_px = apart_px(calibration.homography_px, visible_px=SIZE_PX, thermal_px=SIZE_PX)
    assert off_px == pytest.approx(np.hypot(34, 16), abs=6.0)
    assert notes[0].startswith("auto-register: the thermal picture was moved by ")


def test_short_runs_and_small_pictures_are_not_looked_at() -> None:
    for source in ("synthetic:?size=480x360&fps=30&frames=20", "synthetic:?size=72x56&fps=2&frames=8"):
        look = FirstLook(note=pytest.fail, auto_register=False, still=False, use=pytest.fail)
        for pair in seen(source):
            look(pair)
        look.close()
        assert look._thread is None
        assert len(look._pairs) < PAIRS


def test_who_asks_for_a_registration_is_told_when_none_could_be_made() -> None:
    for source, came in (("synthetic:?size=480x360&fps=30&frames=20", 2), ("synthetic:?size=72x56&fps=2&frames=8", 0)):
        notes: list[str] = []
        look = FirstLook(note=notes.append, auto_register=True, still=False, use=pytest.fail)
        for pair in seen(source):
            look(pair)
        look.close()
        assert notes == [
            "auto-register: nothing was registered, since that takes 4 pairs of at least 60 px a side, 0.5 s apart, "
            f"and {came} came; run rtfusion calibrate scene"
        ]


def test_what_is_known_when_the_run_is_over_is_not_said_to_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def estimate_late(_pairs: object) -> SimpleNamespace:
        goes_on.wait()
        return SimpleNamespace(visible_from_thermal_px=np.array([[1.0, 0.0, 30.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))

    monkeypatch.setattr(scene, "estimate_scene", estimate_late)
    notes: list[str] = []
    look = FirstLook(note=notes.append, auto_register=True, still=False, use=pytest.fail)
    for pair in seen(MOVED):
        look(pair)
    look.close(patience_s=0.0)
    assert notes == [
        "auto-register: nothing was registered, since the run was over before it was known how; run rtfusion calibrate scene"
    ]
    goes_on.set()
    assert look._thread is not None
    look._thread.join()
    assert len(notes) == 2
    assert notes[1].startswith("auto-register: the thermal picture lies 30 px elsewhere, but the run was over")


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_recording_waits_until_it_is_registered_or_interrupted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, interrupted: bool
) -> None:
    caplog.set_level("INFO")
    ends = threading.Event()

    def estimate(_pairs: object) -> object:
        if interrupted:
            ends.wait()
        raise CalibrationError("nothing to see")

    monkeypatch.setattr(scene, "estimate_scene", estimate)
    notes: list[str] = []
    look = FirstLook(
        note=notes.append,
        auto_register=True,
        still=False,
        use=pytest.fail,
        waits=True,
        interrupted=lambda: interrupted,
    )
    for pair in seen(MOVED)[:PAIRS]:
        look(pair)
    assert notes == ([] if interrupted else ["auto-register: nothing was registered: nothing to see"])
    assert "the recordings wait while the registration is estimated" in caplog.text
    ends.set()
    look.close()
    assert len(notes) == 1


def test_a_mirrored_camera_is_named() -> None:
    notes: list[str] = []
    look = FirstLook(note=notes.append, auto_register=False, still=False, use=pytest.fail)
    with open_pairs(ir=SAME + "&flip=h", vis=SAME) as pairs:
        for pair in pairs:
            look(pair)
    look.close(patience_s=60.0)
    assert [note.partition(":")[0] for note in notes] == [
        "the thermal picture is mirrored or turned against the visible one"
    ]
    assert "?flip=h" in notes[0]
    assert "if flip or rotate is there already, take that out" in notes[0], "as here: the pictures agreed before"


def test_a_run_with_a_calibration_is_not_looked_at(tmp_path: object) -> None:
    settings = Settings(ir=SAME, vis=SAME, sink="null:", fuser="average")
    pipeline = build(settings)
    assert first_look(pipeline, settings) is not None
    assert first_look(pipeline, settings.model_copy(update={"calibration": tmp_path})) is None
    pipeline.close()


def test_what_the_command_alone_does_is_refused_elsewhere() -> None:
    settings = Settings(ir=SAME, vis=SAME, sink="null:", fuser="average", auto_register=True)
    with pytest.raises(ConfigError, match="auto_register is done by the command"):
        build(settings)
    build(settings, registers=True).close()
    with pytest.raises(ConfigError, match="auto_register is a setting of the command"):
        open_stream(ir=SAME, vis=SAME, fuser="average", auto_register=True)
