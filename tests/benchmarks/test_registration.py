"""The suite of the registration: the knock, what was predicted, and the table."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import registration, street
from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.evaluate import schema, timing
from rtfusion.evaluate.clips import ClipPair
from rtfusion.synthetic import Scene
from rtfusion.types import Band
from tests.calibration.pictures import scene, view


def test_a_knock_is_measured_as_it_was_made() -> None:
    canvas = scene(1, shapes=140)
    pairs = [
        ClipPair(
            visible_y=view(canvas, None),
            thermal=view(canvas, np.eye(3)),
            timestamp_ns=round(index / 25 * NS_PER_S),
        )
        for index in range(150)
    ]
    knocked, alone = (registration._refined(pairs, knock_px=knock, at=50) for knock in ((5.2, 3.0), (0.0, 0.0)))
    assert knocked["left_px_after_3_s"] < 0.3
    assert knocked["largest_step_px"] < 0.4
    assert alone["left_px_at_end"] == alone["moved_px_before"] == 0.0
    assert alone["budget_share_at_rest"] > 0.0


def test_landmarks_set_by_eye_lie_in_their_pictures_and_count_by_what_they_tell() -> None:
    marks = registration._marks("FLIR_04424")
    assert registration._marks("no such pair") == {}
    for thermal_px, visible_px in marks.values():
        assert thermal_px.shape == visible_px.shape
        assert np.isfinite(thermal_px).all()
        assert np.isnan(visible_px).any()
        assert not np.isnan(visible_px).all(axis=1).any(), "each tells something"
    both, blind = (len(marks[key][0]) for key in ("by_eye_px", "by_blind_eye_px"))
    assert both > blind > 0, "a pair that both observers looked at"
    assert list(registration._marks("FLIR_07968")) == ["by_eye_px", "by_blind_eye_px"], "and one of the second alone"
    told = np.array([(3.0, np.nan), (1.0, 4.0), (np.nan, 2.0)])
    assert registration._off_marks_px(np.array([(1.0, 50.0), (1.0, 4.0), (70.0, 1.0)]), told) == 1.0


@pytest.mark.parametrize(("by_eye_px", "good", "nearer"), [(1.0, 2, 2), (1.9, 2, 1), (3.0, 1, 1)])
def test_what_is_far_from_the_hand_is_good_where_landmarks_say_that_it_is_nearer(
    by_eye_px: float, good: int, nearer: int
) -> None:
    rows = [
        {
            "accepted": True,
            "error_px": 2.5,
            "sigmas": 1.0,
            "by_eye_px": by_eye_px,
            "identity_by_eye_px": 2.2,
            "by_blind_eye_px": by_eye_px,
            "identity_by_blind_eye_px": 1.8,
        },
        {"accepted": True, "error_px": 1.5, "sigmas": 1.0},
        {"accepted": False, "reason": "no", "identity_by_eye_px": 1.0},
    ]
    found = registration._coverage("made", rows)
    assert (found["by_eye"], found["good"], found["good_or_nearer_by_eye"]) == (2, 1, nearer)
    assert found["identity_good_by_eye"] == 1
    assert (found["by_blind_eye"], found["good_by_blind_eye"]) == (1, good - 1)


def test_a_jump_is_how_far_off_a_thing_is_from_one_frame_to_the_next() -> None:
    followed = street._Followed()
    before = None
    for index in range(40):
        there = np.zeros((60, 90), bool)
        there[10:50, 10 + index : 40 + index] = True
        off_px = np.where(
            there, np.float32(3 if index < 30 else 5), np.float32(index)
        )  # what is behind is no part of it
        now = street._Thing(there, off_px, 25.0 + index, whole=True)
        followed.add(now, before)
        before = now
    followed.add(None, before)
    found = followed.figures()
    assert (found["off_px"], found["change_px"], found["change_most_px"], found["arriving_p95_px"]) == (3, 0, 2, 0)


def test_the_table_has_a_line_for_every_case() -> None:
    rows = [
        {"case": "delay/10 ms", "accepted": True, "error_ms": 1.25},
        {"case": "rig/8", "accepted": False, "reason": "no"},
    ]
    data = timing.result("registration", settings={}, rows=rows)
    schema.check(data, name="made")
    assert "| 10 ms | yes | 1.25 |" in registration.table(data)
    assert "| 8 | no | no |" in registration.table(data)


def test_an_error_beyond_the_predicted_uncertainty_is_overconfident() -> None:
    rows = [
        {"accepted": True, "error_px": 1.0, "sigmas": 1.0, "rough": False},
        {"accepted": True, "error_px": 1.9, "sigmas": 3.0, "rough": False},
        {"accepted": True, "error_px": 5.0, "sigmas": 1.5, "rough": True},
        {"accepted": True, "error_px": 3.0, "sigmas": 3.0, "rough": False},
        {"accepted": False, "reason": "no"},
    ]
    found = registration._coverage("made", rows)
    assert (found["given"], found["accepted"], found["good"], found["called_rough"]) == (5, 4, 2, 1)
    assert (found["within_2_sigmas"], found["overconfident"]) == (2, 1)
    assert found["rms_sigmas"] == pytest.approx(np.sqrt((1 + 9 + 2.25 + 9) / 4))


@pytest.mark.parametrize(("suite", "said"), [("landmarks", "cannot read"), ("marked", "is not there")])
def test_data_that_is_not_there_is_said(
    tmp_path: registration.Path, capsys: pytest.CaptureFixture[str], suite: str, said: str
) -> None:
    (tmp_path / "eval" / "roadscene" / "vi").mkdir(parents=True)
    assert registration.SUITE.main(["--data", str(tmp_path), "--suite", suite]) == ConfigError.exit_code
    assert said in capsys.readouterr().err


def test_an_edge_beside_its_place_is_a_ghost_and_one_in_its_place_is_none() -> None:
    film = Scene(walkers_m=(5.0,))
    at_s = next(
        index / 4
        for index in range(200)
        if any(one.distance_m == 5.0 and one.hidden < 0.1 for one in film.targets(index / 4))
    )
    visible, thermal = (film.render(band, at_s) for band in (Band.VISIBLE, Band.THERMAL))
    seen = street._Edges.of(film, at_s, visible, thermal, thermal)
    assert seen.ghost(thermal, 5.0) == 0.0
    assert seen.ghost(thermal, 2.0) is None, "nobody walks there"
    near, far = (seen.ghost(np.roll(thermal, shift_px, axis=1), 5.0) for shift_px in (1, 5))
    assert near is not None
    assert far is not None
    assert far > 10 * near
