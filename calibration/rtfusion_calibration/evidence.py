"""The evidence for and against a calibration, and the verdict.

A small reprojection error alone proves little: a few views, all alike, are fitted to a tenth of a pixel by cameras that do not
exist. What counts is how far the registration would move with other views, and whether the views could tell at all.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from rtfusion.registration import Calibration
from rtfusion.registration.maps import visible_from_thermal
from rtfusion.types import Band
from rtfusion_calibration.board import Points
from rtfusion_calibration.detect import Sighting, View
from rtfusion_calibration.guidance import Coverage
from rtfusion_calibration.rig import epipolar_px, matched_px, pose_of, rms, view_errors

DISTANCES_M = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)


class Level(enum.IntEnum):
    """The grade of a finding, and of a calibration as a whole."""

    GOOD = 0
    CARE = 1
    BAD = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    value: str
    why: str
    """The consequence where it is not good; a clause that can follow a colon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The findings in one sentence."""

    level: Level
    sentence: str
    why: str
    """The consequence of the finding that weighs most; empty where all is good."""
    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Figures of a calibration and of views of a board that it was made from or is held against."""

    calibration: Calibration
    rms_px: float | None = None
    epipolar_px: float | None = None
    uncertainty_px: float | None = None
    views: int = 0
    by_view_px: Mapping[str, Mapping[Band, float]] = field(default_factory=dict)
    """Root mean square error by view and band: of the reprojection with a pose, of the homography without one."""
    coverage: Mapping[Band, Coverage] = field(default_factory=dict)
    tilt_deg: float | None = None
    """Largest angle between the board in two views."""
    distances_m: Mapping[str, float] = field(default_factory=dict)
    """Distance from the thermal camera to the middle of the board, by view."""

    @property
    def thermal_pixel_px(self) -> float:
        """Side of a thermal pixel in the visible picture."""
        middle = np.array(self.calibration.thermal.size_px) / 2
        corners = middle + np.array([[0, 0], [1, 0], [0, 1]])
        placed = visible_from_thermal(self.calibration, thermal_px=corners)
        return math.sqrt(abs(float(np.linalg.det(placed[1:] - placed[0]))))

    @property
    def has_pose(self) -> bool:
        """True when the registration can be set for any distance."""
        return self.calibration.has_pose


def gather(calibration: Calibration, views: Sequence[View]) -> Evidence:
    """The figures of a calibration, with those that views of a board give, where there are some."""
    quality = calibration.quality
    evidence = Evidence(calibration=calibration)
    if quality is not None:
        uncertainty_px = quality.uncertainty_at_px(
            calibration.distance_m
        )  # of a board; that of a scene is over the picture
        evidence = replace(
            evidence,
            rms_px=quality.rms_px,
            epipolar_px=quality.epipolar_px,
            uncertainty_px=quality.standard_deviations.get("picture_px") if uncertainty_px is None else uncertainty_px,
            views=quality.views,
        )
    seen = {view.name: view.sightings for view in views if view.both}
    if not seen:
        return evidence
    coverage = {band: Coverage() for band in Band}
    for sightings in seen.values():
        for band, sighting in sightings.items():
            coverage[band].add(sighting.points_px, getattr(calibration, band.value).size_px)
    evidence = replace(evidence, views=evidence.views or len(seen), coverage=coverage, epipolar_px=None)
    return _held_against(evidence, seen) if evidence.has_pose else _held_against_homography(evidence, seen)


def _held_against(evidence: Evidence, seen: Mapping[str, Mapping[Band, Sighting]]) -> Evidence:
    calibration = evidence.calibration
    places = {name: _board_place(calibration, sightings[Band.THERMAL]) for name, sightings in seen.items()}
    normals = np.array([normal for normal, _ in places.values()])
    errors_px = {name: view_errors(calibration, sightings) for name, sightings in seen.items()}
    by_view_px = {name: {band: rms(errors) for band, errors in both.items()} for name, both in errors_px.items()}
    return replace(
        evidence,
        rms_px=rms(np.array([by_view_px[name][band] for band in Band for name in seen])),
        epipolar_px=rms(np.concatenate([epipolar_px(calibration, sightings) for sightings in seen.values()])),
        by_view_px=by_view_px,
        tilt_deg=float(np.degrees(np.arccos(np.clip(np.abs(normals @ normals.T), 0.0, 1.0).min()))),
        distances_m={name: distance_m for name, (_, distance_m) in places.items()},
    )


def _held_against_homography(evidence: Evidence, seen: Mapping[str, Mapping[Band, Sighting]]) -> Evidence:
    by_view_px = {}
    for name, sightings in seen.items():
        visible_px, thermal_px = matched_px(sightings)
        placed = visible_from_thermal(evidence.calibration, thermal_px=thermal_px)
        error_px = rms(np.linalg.norm(placed - visible_px, axis=1))
        by_view_px[name] = {Band.VISIBLE: error_px, Band.THERMAL: error_px / evidence.thermal_pixel_px}
    rms_px = rms(np.array([errors[Band.VISIBLE] for errors in by_view_px.values()]))
    return replace(evidence, rms_px=rms_px, by_view_px=by_view_px)


def _board_place(calibration: Calibration, sighting: Sighting) -> tuple[Points, float]:
    """Normal of the board, and the distance of its middle from the thermal camera, which saw it, in meters."""
    _, turn, shift = cv2.solvePnP(sighting.points_m, sighting.points_px, *calibration.thermal.optics)
    rotation = np.asarray(cv2.Rodrigues(turn)[0], dtype=np.float64)
    middle = rotation @ sighting.board.points_m.mean(axis=0) + shift.ravel()
    return rotation[:, 2], float(middle[2])


def parallax_px(calibration: Calibration, distance_m: float) -> float:
    """Distance in visible pixels by which the middle of the thermal picture is off at ``distance_m``, as the file is set."""
    middle = (np.array([calibration.thermal.size_px], dtype=np.float64) - 1) / 2
    there = calibration.at_distance(distance_m if math.isfinite(distance_m) else 1e9)
    step = visible_from_thermal(there, thermal_px=middle) - visible_from_thermal(calibration, thermal_px=middle)
    return float(np.linalg.norm(step))


# -- verdict ------------------------------------------------------------------------------------------------------------


_CAUSES = ("tilt", "views", "coverage", "error", "registration", "distance")
"""In the order in which one explains the others."""


def judge(evidence: Evidence) -> Verdict:
    """Judge the figures."""
    judged = (_uncertainty, _error, _views, _tilt, _covered, _reach)
    findings = [finding for finding in (one(evidence) for one in judged) if finding is not None]
    level = max(finding.level for finding in findings)
    worst = min((finding for finding in findings if finding.level is level), key=lambda one: _CAUSES.index(one.what))
    return Verdict(level=level, sentence=_sentence(evidence, level, worst), why=worst.why, findings=findings)


def marked(calibration: Calibration, verdict: Verdict) -> Calibration:
    """The calibration as it is saved: one that must not be used says so in its file, to whoever uses it."""
    if verdict.level is not Level.BAD or calibration.quality is None:
        return calibration
    quality = calibration.quality.model_copy(update={"do_not_use": verdict.why})
    return calibration.model_copy(update={"quality": quality})


def _sentence(evidence: Evidence, level: Level, worst: Finding) -> str:
    where = _where(evidence.calibration.distance_m)
    if level is Level.GOOD and evidence.uncertainty_px is not None:  # unknown would not be good
        return (
            f"Good: {where} the thermal picture lies within {evidence.uncertainty_px:.1f} visible pixels of where it "
            f"belongs ({evidence.uncertainty_px / evidence.thermal_pixel_px:.1f} thermal ones, one standard deviation)."
        )
    if level is Level.CARE:
        return f"Usable with care: {worst.why}."
    looks_good = evidence.rms_px is not None and evidence.rms_px <= evidence.thermal_pixel_px and worst.what != "error"
    although = f", although its error of {evidence.rms_px:.2f} px looks good" if looks_good else ""
    return f"Do not use it{although}: {worst.why}."


def _where(distance_m: float | None) -> str:
    return "far away" if distance_m is None else f"at {distance_m:g} m"


def _level(value: float, *, good: float, bad: float) -> Level:
    """Grade a value by thresholds, whichever way they go."""
    if good > bad:
        value, good, bad = -value, -good, -bad
    return Level.GOOD if value <= good else Level.CARE if value <= bad else Level.BAD


def _uncertainty(evidence: Evidence) -> Finding | None:
    value_px, where = evidence.uncertainty_px, _where(evidence.calibration.distance_m)
    if value_px is None:
        why = "nothing in the file says how far the registration would move with other views"
        unknown = Finding(level=Level.CARE, what="registration", value="unknown", why=why)
        return unknown if evidence.has_pose else None
    in_thermal = value_px / evidence.thermal_pixel_px
    why = f"the scene leaves it uncertain by {value_px:.1f} px"
    if evidence.has_pose:
        why = f"with other views the thermal picture would lie {value_px:.1f} px elsewhere {where}"
    value = f"± {value_px:.2f} px {where + ' ' if evidence.has_pose else ''}({in_thermal:.2f} thermal pixels)"
    return Finding(level=_level(in_thermal, good=1.0, bad=3.0), what="registration", value=value, why=why)


def _error(evidence: Evidence) -> Finding | None:
    if evidence.rms_px is None:
        return None
    level = _level(evidence.rms_px / max(1.0, evidence.thermal_pixel_px), good=1.0, bad=2.0)
    epipolar = f", epipolar {evidence.epipolar_px:.2f} px" if evidence.epipolar_px is not None else ""
    of_scene = evidence.calibration.provenance.get("how") == "calibrate scene"
    what = "what the two pictures share" if of_scene else "the points of the board"
    why = f"it misses {what} by {evidence.rms_px:.1f} px"
    return Finding(level=level, what="error", value=f"{evidence.rms_px:.2f} px{epipolar}", why=why)


def _views(evidence: Evidence) -> Finding:
    if evidence.views == 0:
        why = "the file does not say what it was made from; hold it against a board (--board)"
        return Finding(level=Level.CARE, what="views", value="unknown", why=why)
    good, bad = (10, 5) if evidence.has_pose else (2, 1)
    why = f"it rests on {evidence.views} view, so it holds at the place and the distance of what was seen there"
    if evidence.has_pose:
        why = f"it rests on {evidence.views} views, where {good} or more are needed"
    return Finding(level=_level(evidence.views, good=good, bad=bad), what="views", value=str(evidence.views), why=why)


def _tilt(evidence: Evidence) -> Finding | None:
    if evidence.tilt_deg is None:
        return None
    tilt = f"{evidence.tilt_deg:.0f}°"
    why = f"the board is never tilted by more than {tilt} between two views, so focal length and distance cannot be told apart"
    return Finding(level=_level(evidence.tilt_deg, good=25.0, bad=12.0), what="tilt", value=tilt, why=why)


def _covered(evidence: Evidence) -> Finding | None:
    if not evidence.coverage:
        return None
    # of the camera that sees less of the world: the other one's picture is needed only as far
    narrow = max(Band, key=lambda band: evidence.coverage[band].share)
    share = evidence.coverage[narrow].share
    level = _level(share, good=0.5, bad=0.2)
    if not evidence.has_pose:
        level = min(level, Level.CARE)
    value = ", ".join(f"{band.value} {100 * evidence.coverage[band].share:.0f} %" for band in Band)
    why = (
        f"the board covers only {100 * share:.0f} % of the {narrow.value} picture, the one of the narrower view; elsewhere the "
        "lens is guessed"
    )
    return Finding(level=level, what="coverage", value=value, why=why)


def _reach(evidence: Evidence) -> Finding:
    if evidence.has_pose:
        baseline_mm = 1000 * float(np.linalg.norm(pose_of(evidence.calibration).translation_m))
        value = f"any; the cameras are {baseline_mm:.0f} mm apart"
        return Finding(level=Level.GOOD, what="distance", value=value, why="")
    known = evidence.calibration.distance_m
    why = f"it holds {_where(known) if known else 'at the distance it was made at'} only; nearer and farther things are doubled"
    return Finding(level=Level.CARE, what="distance", value="one only", why=why)
