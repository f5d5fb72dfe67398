"""Verdicts: good calibrations pass, useless ones that look good do not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rtfusion_calibration.detect import View
from rtfusion_calibration.evidence import Evidence, Level, gather, judge, marked, parallax_px
from rtfusion_calibration.guidance import Coverage
from rtfusion_calibration.report import checkerboard, edges_over, write_report
from rtfusion_calibration.rig import focal_px, pose_of

from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.fusion.color import as_bgr
from rtfusion.registration import Calibration, Quality
from rtfusion.types import Band, FramePair
from tests.calibration.rigs import Placement, make_rig, make_views, placements, render
from tests.support import make_frame


def rig_known_to(deviation_px: float, *, views: int = 20, rms_px: float = 0.3) -> Calibration:
    quality = Quality(
        rms_px=rms_px,
        views=views,
        uncertainty_px=tuple((distance, deviation_px) for distance in (1.0, 2.0, 8.0, 1000.0)),
    )
    return make_rig().model_copy(update={"quality": quality})


def verdict_of(calibration: Calibration, views: list[View]) -> tuple[Level, str]:
    verdict = judge(gather(calibration, views))
    return verdict.level, verdict.sentence


GOOD_VIEWS = make_views(make_rig(), placements(16), noise_px=0.1)


def test_a_good_calibration_is_called_good() -> None:
    level, sentence = verdict_of(rig_known_to(0.4), GOOD_VIEWS)
    assert level is Level.GOOD
    assert sentence.startswith("Good: at 8 m the thermal picture lies within 0.4 visible pixels")


@pytest.mark.parametrize(
    ("calibration", "views", "level", "said"),
    [
        (rig_known_to(30.0), GOOD_VIEWS, Level.BAD, r"although its error of 0\.\d\d px looks good: with other views"),
        (rig_known_to(0.4, views=3), GOOD_VIEWS, Level.BAD, "rests on 3 views, where 10 or more are needed"),
        (rig_known_to(0.4, views=7), GOOD_VIEWS, Level.CARE, "rests on 7 views"),
        (
            rig_known_to(0.4),
            make_views(make_rig(), [Placement((0.0, float(i), 0.0), (0.02 * i, 0.0, 1.0)) for i in range(-4, 5)]),
            Level.BAD,
            "never tilted by more than 8°.*cannot be told apart",
        ),
        (
            rig_known_to(0.4),
            make_views(make_rig(), [Placement((20.0 * (-1) ** i, 10.0, 0.0), (0.0, 0.0, 2.8)) for i in range(9)]),
            Level.BAD,
            "covers only . % of the (visible|thermal) picture",
        ),
        (make_rig(), GOOD_VIEWS, Level.CARE, "nothing in the file says how far the registration would move"),
    ],
    ids=["uncertain", "three views", "seven views", "no tilt", "no coverage", "unknown"],
)
def test_a_useless_one_is_found_out(calibration: Calibration, views: list[View], level: Level, said: str) -> None:
    found, sentence = verdict_of(calibration, views)
    assert found is level
    assert re.search(said, sentence), sentence


def test_a_wrong_calibration_misses_the_board() -> None:
    wrong = rig_known_to(0.4).model_copy(
        update={"visible_from_thermal": make_rig(turn_deg=(0.8, -1.0, 1.2)).visible_from_thermal}
    )
    evidence = gather(wrong, GOOD_VIEWS)
    assert evidence.epipolar_px is not None
    assert evidence.rms_px is not None
    worse = wrong.model_copy(update={"visible_from_thermal": make_rig(turn_deg=(3, 3, 9)).visible_from_thermal})
    level, sentence = verdict_of(worse, GOOD_VIEWS)
    assert level is Level.BAD
    assert "it misses the points of the board" in sentence


def test_one_from_a_scene_speaks_of_no_board() -> None:
    from_scene = rig_known_to(0.4).model_copy(
        update={
            "visible_from_thermal": None,
            "visible_from_thermal_px": np.eye(3).tolist(),
            "quality": Quality(rms_px=3.0, views=15),
            "provenance": {"how": "calibrate scene"},
        }
    )
    sentence = judge(gather(from_scene, [])).sentence
    assert "it misses what the two pictures share by 3.0 px" in sentence
    told = Quality(rms_px=0.5, views=15, standard_deviations={"picture_px": 9.0, "corner_px": 12.0})
    verdict = judge(gather(from_scene.model_copy(update={"quality": told}), []))
    assert verdict.level is Level.BAD
    assert "the scene leaves it uncertain by 9.0 px" in verdict.sentence


def test_evidence_measures_the_views() -> None:
    evidence = gather(rig_known_to(0.4), GOOD_VIEWS)
    both = [view for view in GOOD_VIEWS if view.both]
    assert set(evidence.by_view_px) == {view.name for view in both}
    assert evidence.rms_px == pytest.approx(0.14, abs=0.03)
    assert evidence.tilt_deg is not None
    assert 30 < evidence.tilt_deg < 90
    assert all(0.6 < distance < 1.5 for distance in evidence.distances_m.values())
    # 1150 px over 620 px of focal length
    assert evidence.thermal_pixel_px == pytest.approx(1150 / 620, rel=0.03)


def test_parallax_is_baseline_times_focal_length_over_distance() -> None:
    rig = make_rig(
        turn_deg=(0.0, 0.0, 0.0), translation_m=(0.06, 0.0, 0.0), visible_distortion=None, thermal_distortion=None
    )
    assert parallax_px(rig, 8.0) == pytest.approx(0.0, abs=1e-9)
    assert parallax_px(rig, 4.0) == pytest.approx(1150 * 0.06 * (1 / 4 - 1 / 8), rel=1e-6)
    assert parallax_px(rig, np.inf) == pytest.approx(1150 * 0.06 / 8, rel=1e-6)


def test_uncertainty_between_and_beyond_the_distances_told() -> None:
    variance = {distance: 0.04 + 0.5 / distance**2 for distance in (1.0, 2.0, 4.0, 8.0, 1000.0)}
    quality = Quality(rms_px=0.2, views=9, uncertainty_px=tuple((d, float(np.sqrt(v))) for d, v in variance.items()))
    assert quality.uncertainty_at_px(3.0) == pytest.approx(np.sqrt(0.04 + 0.5 / 9), rel=1e-6)
    assert quality.uncertainty_at_px(None) == pytest.approx(0.2, rel=1e-4)
    assert Quality(rms_px=0.2, views=9).uncertainty_at_px(3.0) is None


def test_coverage_is_the_share_of_the_picture() -> None:
    coverage = Coverage()
    assert coverage.share == 0.0
    coverage.add(np.array([[0.0, 0.0], [319.0, 0.0], [319.0, 479.0], [0.0, 479.0]]), (640, 480))
    assert coverage.share == pytest.approx(0.5, abs=0.02)
    assert "right" in coverage.wish(0)


def test_checkerboard_and_edges() -> None:
    visible, thermal = np.zeros((40, 80, 3), np.uint8), np.full((40, 80), 200, np.uint8)
    mixed = checkerboard(visible=visible, thermal=thermal)
    assert set(np.unique(mixed)) == {0, 200}
    assert mixed[0, 0, 0] != mixed[0, 8, 0] != mixed[8, 8, 0]
    thermal[:, 40:] = 20
    edges = edges_over(visible=visible, thermal=thermal, valid=None)
    assert (edges[20, 38:42, 2] > 150).any()
    assert (edges[20, :20] == 0).all()


def test_the_report_is_one_file_with_pictures_and_the_verdict(tmp_path: Path) -> None:
    rig = rig_known_to(0.4)
    straight = Placement((10.0, 20.0, 5.0), (0.0, 0.0, 1.0))
    pair = FramePair(
        visible=make_frame(Band.VISIBLE, 0, image=as_bgr(render(rig, straight, Band.VISIBLE)), name="003"),
        thermal=make_frame(Band.THERMAL, 0, image=render(rig, straight, Band.THERMAL, thermal_like=True)),
        sequence=0,
    )  # fmt: skip
    evidence = gather(rig, GOOD_VIEWS)
    verdict = judge(evidence)
    page = tmp_path / "rig.html"
    write_report(page, evidence, verdict, pairs=[pair], outliers={"<b>": "it moved"}, notes=["a note"])
    text = page.read_text()
    assert verdict.sentence in text
    assert "set for the board at" in text
    assert text.count("data:image/jpeg;base64,") == 6  # three pictures of it as four images, two maps of coverage
    assert "http" not in text  # nothing is fetched
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert re.search(r"Set for 8 m:\s\d+\.\d px off at 4 m", text)
    assert "$" not in text
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(tmp_path / "no" / "rig.html", evidence, verdict, pairs=[])


def test_a_homography_alone_is_measured_in_visible_pixels() -> None:
    rig = Calibration.from_homography(
        visible_from_thermal_px=np.array([[2.0, 0, 5], [0, 2.0, -3], [0, 0, 1]]),
        visible_size_px=(1280, 960),
        thermal_size_px=(640, 512),
    )
    view = next(view for view in GOOD_VIEWS if view.both)
    evidence: Evidence = gather(rig, [view])
    assert view.visible is not None
    assert view.thermal is not None
    off = view.thermal.points_px * 2 + (5, -3) - view.visible.points_px
    assert evidence.rms_px == pytest.approx(np.sqrt(np.mean(np.sum(off**2, axis=1))))
    assert not evidence.has_pose
    assert evidence.tilt_deg is None


def test_what_needs_a_pose_or_a_lens_says_so_where_there_is_only_a_homography() -> None:
    flat = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(640, 480), thermal_size_px=(320, 240)
    )
    with pytest.raises(CalibrationError, match="no pose, only one homography"):
        pose_of(flat)
    with pytest.raises(CalibrationError, match="no camera matrix"):
        focal_px(flat.thermal)


def test_a_useless_calibration_says_so_in_its_file() -> None:
    for rig, said in ((rig_known_to(0.4), None), (rig_known_to(0.4, views=3), "it rests on 3 views")):
        kept = marked(rig, judge(gather(rig, GOOD_VIEWS)))
        assert kept.quality is not None
        assert (kept.quality.do_not_use or "").startswith(said or "")
        assert (kept.quality.do_not_use is None) == (said is None)
