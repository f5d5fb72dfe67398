"""The report of a calibration: one HTML file with everything in it, for a person who wants to know whether to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from rtfusion import __version__
from rtfusion.fusion.color import as_bgr, luminance
from rtfusion.fusion.tone import GainControl
from rtfusion.page import write_page
from rtfusion.registration import Calibration, register
from rtfusion.types import FramePair, Image8
from rtfusion_calibration.detect import as_detected
from rtfusion_calibration.evidence import DISTANCES_M, Evidence, Verdict, parallax_px
from rtfusion_calibration.rig import parameters

TILES = 10
"""Number of tiles of the checkerboard along its longer side."""
LARGEST_WIDTH_PX = 960
EDGE_COLOR = (60, 140, 255)
HEAT_WIDTH_PX = 360
TEMPLATE = Path(__file__).with_name("report.html")


def write_report(
    path: Path,
    evidence: Evidence,
    verdict: Verdict,
    *,
    pairs: Sequence[FramePair],
    outliers: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report; complete or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    calibration = evidence.calibration
    set_m = calibration.distance_m
    write_page(
        path,
        template=TEMPLATE,
        title=path.stem,
        evidence=evidence,
        verdict=verdict,
        notes=notes,
        outliers=outliers or {},
        pictures=[_picture(pair, evidence) for pair in pairs],
        largest_error_px=max((max(errors.values()) for errors in evidence.by_view_px.values()), default=0.0),
        coverage=_coverage(evidence),
        parallax=_parallax(evidence) if evidence.has_pose else {},
        set_for=_at(math.inf if set_m is None else set_m),
        near_m=max((d for d in DISTANCES_M if set_m is None or d < set_m), default=DISTANCES_M[0]),
        parameters=parameters(calibration),
        deviations=calibration.quality.standard_deviations if calibration.quality else {},
        footer=f"rtfusion {__version__} · calibration {calibration.id}",
    )


def _at(distance_m: float) -> str:
    return "far away" if math.isinf(distance_m) else f"{distance_m:g} m"


def _parallax(evidence: Evidence) -> dict[float, dict[str, object]]:
    """Tell by distance how far off a thing is there, and how well that is known, in visible pixels."""
    quality = evidence.calibration.quality
    return {
        distance_m: {
            "at": _at(distance_m),
            "off_px": parallax_px(evidence.calibration, distance_m),
            "known_px": quality.uncertainty_at_px(None if math.isinf(distance_m) else distance_m) if quality else None,
        }
        for distance_m in DISTANCES_M
    }


def _picture(pair: FramePair, evidence: Evidence) -> dict[str, object]:
    """One pair in the three ways in which the report shows it, set for the distance of the board, where there is one."""
    name = pair.visible.name or f"{pair.sequence:06d}"
    calibration = evidence.calibration
    where = "as it is set" if calibration.distance_m is None else f"set for {calibration.distance_m:g} m"
    distance_m = evidence.distances_m.get(name)
    if distance_m is not None:
        calibration, where = calibration.at_distance(distance_m), f"set for the board at {distance_m:.2f} m"
    visible, thermal, valid = _registered(pair, calibration, faint=name in evidence.by_view_px)
    return {
        "name": name,
        "where": where,
        "checkerboard": checkerboard(visible=visible, thermal=thermal),
        "edges": edges_over(visible=visible, thermal=thermal, valid=valid),
        "visible": visible,
        "thermal": thermal,
    }


def checkerboard(*, visible: Image8, thermal: Image8) -> Image8:
    """Tiles of both by turns; (H, W, 3) BGR and (H, W) in, (H, W, 3) out."""
    height_px, width_px = thermal.shape
    tile_px = max(8, max(height_px, width_px) // TILES)
    y, x = np.ogrid[0:height_px, 0:width_px]
    mine = ((y // tile_px + x // tile_px) % 2 == 0)[:, :, None]
    return np.where(mine, visible, as_bgr(thermal)).astype(np.uint8)


def edges_over(*, visible: Image8, thermal: Image8, valid: Image8 | None) -> Image8:
    """The edges of the thermal picture in color over the darkened visible one."""
    smooth = cv2.GaussianBlur(cv2.createCLAHE(3.0, (8, 8)).apply(thermal), (0, 0), 2.0)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    if valid is not None:
        slope[cv2.erode(valid, np.ones((9, 9), np.uint8)) == 0] = 0
    weight = np.clip(slope / max(float(np.percentile(slope, 98)), 1e-6), 0.0, 1.0)[:, :, None]
    weight = np.where(weight > 0.25, weight, 0.0)
    gray = as_bgr(luminance(visible)).astype(np.float32) * 0.8
    return ((1 - weight) * gray + weight * np.array(EDGE_COLOR)).astype(np.uint8)


def _registered(pair: FramePair, calibration: Calibration, *, faint: bool) -> tuple[Image8, Image8, Image8 | None]:
    """Visible (H, W, 3), thermal (H, W) and where the thermal camera sees, on the visible grid, of a size for a page.

    ``faint`` shows the thermal picture by its local contrast, as the detector of boards sees it.
    """
    registration = register(
        visible_size_px=pair.visible.size_px, thermal_size_px=pair.thermal.size_px, calibration=calibration
    )
    thermal = as_detected(pair.thermal.image) if faint else GainControl()(pair.thermal.image, timestamp_ns=0)
    thermal = cast(Image8, registration.thermal(thermal))
    visible = as_bgr(cast(Image8, pair.visible.image))
    factor = min(1.0, LARGEST_WIDTH_PX / visible.shape[1])

    def small(image: Image8) -> Image8:
        return cast(Image8, cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))

    if registration.valid is None:
        return small(visible), small(thermal), None
    return small(visible), small(np.where(registration.valid, thermal, 0).astype(np.uint8)), small(registration.valid)


def _coverage(evidence: Evidence) -> dict[str, Image8]:
    """Caption to where the board was seen in the picture of each band."""
    found = {}
    for band, coverage in evidence.coverage.items():
        width_px, height_px = getattr(evidence.calibration, band.value).size_px
        size_px = HEAT_WIDTH_PX, round(HEAT_WIDTH_PX * height_px / width_px)
        heat = cv2.applyColorMap(cv2.resize(coverage.heat, size_px), cv2.COLORMAP_VIRIDIS)
        found[f"{band.value}: {100 * coverage.share:.0f} % of the picture"] = cast(Image8, heat)
    return found
