"""The report of a calibration: one HTML file with everything in it, for a person who wants to know whether to trust it."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import cast

import cv2
import numpy as np

from rtfusion import __version__
from rtfusion.errors import ConfigError
from rtfusion.files import write_whole
from rtfusion.fusion.color import as_bgr, luminance
from rtfusion.fusion.tone import GainControl
from rtfusion.registration import Calibration, Registration, register
from rtfusion.types import Band, FramePair, Image8
from rtfusion_calibration.detect import as_detected
from rtfusion_calibration.evidence import DISTANCES_M, Evidence, Level, Verdict, parallax_px

TILES = 10
"""Of the checkerboard, along the longer side."""
LARGEST_WIDTH_PX = 960
EDGE_COLOR = (60, 140, 255)
_LEVELS = {Level.GOOD: "good", Level.CARE: "care", Level.BAD: "bad"}


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
    template = Template(resources.files("rtfusion_calibration").joinpath("report.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(path.stem),
        level=_LEVELS[verdict.level],
        verdict=escape(verdict.sentence),
        findings=_findings(verdict),
        notes=_notes(outliers or {}, notes),
        pictures=_pictures(evidence, pairs),
        errors=_errors(evidence),
        coverage=_coverage(evidence),
        parallax=_parallax(evidence),
        parameters=_parameters(evidence.calibration),
        footer=f"rtfusion {__version__} · calibration {evidence.calibration.id}",
    )
    try:
        write_whole(path, page)
    except OSError as error:
        raise ConfigError(f"cannot write the report {path}: {error.strerror}") from error


# -- words and tables ---------------------------------------------------------------------------------------------------


def _findings(verdict: Verdict) -> str:
    rows = [
        (f'<span class="dot {_LEVELS[finding.level]}"></span>{escape(finding.what)}', escape(finding.value),
         escape(finding.why) if finding.level is not Level.GOOD else "")
        for finding in verdict.findings
    ]  # fmt: skip
    return _table(("", "found", "what it means"), rows)


def _notes(outliers: Mapping[str, str], notes: Sequence[str]) -> str:
    parts = [f"<p>{escape(note)}.</p>" for note in notes]
    if outliers:
        rows = [(escape(view), escape(why)) for view, why in outliers.items()]
        parts += ["<h2>Left out</h2>", _table(("view", "why"), rows)]
    return "\n".join(parts)


def _errors(evidence: Evidence) -> str:
    if not evidence.by_view_px:
        return ""
    largest = max(max(errors.values()) for errors in evidence.by_view_px.values()) or 1.0
    rows = [
        (escape(name), f"{errors[Band.VISIBLE]:.2f}", f"{errors[Band.THERMAL]:.2f}",
         "".join(f'<span class="bar {band.value}" style="width:{100 * errors[band] / largest:.0f}%"></span>' for band in Band))
        for name, errors in evidence.by_view_px.items()
    ]  # fmt: skip
    what = (
        "How far the points of the board lie from where the calibration puts them, root mean square, each in pixels of its own "
        "camera. Small figures are needed, but prove little alone: few views of one kind always give small figures."
    )
    return f"<h2>Error by view</h2><p>{what}</p>" + _table(
        ("view", "visible px", "thermal px", ""), rows, numbers=(1, 2)
    )


def _parallax(evidence: Evidence) -> str:
    if not evidence.has_pose:
        return ""
    calibration = evidence.calibration
    set_m = calibration.distance_m
    off_px = {distance_m: parallax_px(calibration, distance_m) for distance_m in DISTANCES_M}
    largest = max(off_px.values()) or 1.0
    rows = []
    for distance_m, off in off_px.items():
        far = math.isinf(distance_m)
        known_px = calibration.quality.uncertainty_at_px(None if far else distance_m) if calibration.quality else None
        rows.append(
            ("far away" if far else f"{distance_m:g} m", f"{off:.1f}", f"{off / evidence.thermal_pixel_px:.1f}",
             f'<span class="bar thermal" style="width:{100 * off / largest:.0f}%"></span>',
             "" if known_px is None else f"± {known_px:.2f}")
        )  # fmt: skip
    here = "far away" if set_m is None else f"{set_m:g} m"
    near_m = max((d for d in DISTANCES_M if set_m is None or d < set_m), default=DISTANCES_M[0])
    what = (
        f"Two cameras side by side cannot agree at all distances at once. Set for {here}: {off_px[near_m]:.1f} px off at "
        f"{near_m:g} m. Choose another distance with --distance-m; the wider the cameras are apart, the more it matters."
    )
    table = _table(("thing at", "off, visible px", "thermal px", "", "known to, visible px"), rows, numbers=(1, 2, 4))
    what += (
        " The last column is how far the registration, set for that distance, would move with other views of the board."
    )
    return f"<h2>Parallax by distance</h2><p>{what}</p>{table}"


def _parameters(calibration: Calibration) -> str:
    rows = []
    deviations = calibration.quality.standard_deviations if calibration.quality else {}
    for name, value in _values(calibration).items():
        deviation = f"± {deviations[name]:.3g}" if name in deviations else ""
        words, _, unit = name.replace(".", " ").rpartition("_")
        rows.append(
            (
                f"{escape(words.replace('_', ' '))}, {unit}",
                f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}",
                deviation,
            )
        )
    for band in Band:
        camera = getattr(calibration, band.value)
        if camera.distortion:
            rows.append((f"{band.value} distortion", " ".join(f"{value:.4f}" for value in camera.distortion), ""))
    for row, values in enumerate(calibration.visible_from_thermal_px):
        rows.append((f"homography, row {row + 1}", " ".join(f"{value:.6g}" for value in values), ""))
    what = (
        "The standard deviations are from calibrating again and again with a part of the views left out."
        if deviations
        else ""
    )
    return f"<h2>Parameters</h2><p>{what}</p>" + _table(("", "value", "standard deviation"), rows)


def _values(calibration: Calibration) -> dict[str, float]:
    values: dict[str, float] = {}
    for band in Band:
        camera = getattr(calibration, band.value)
        if camera.intrinsics is not None:
            values[f"{band.value}.focal_px"] = camera.intrinsics[0][0]
            values[f"{band.value}.center_x_px"] = camera.intrinsics[0][2]
            values[f"{band.value}.center_y_px"] = camera.intrinsics[1][2]
    pose = calibration.visible_from_thermal
    if pose is not None:
        turn_deg = np.degrees(cv2.Rodrigues(np.array(pose.rotation))[0].ravel())
        for axis, degrees, meters in zip("xyz", turn_deg, pose.translation_m, strict=True):
            values[f"rotation_{axis}_deg"] = float(degrees)
            values[f"translation_{axis}_mm"] = 1000 * meters
    return values


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        marks = ["n" if index in numbers else "w" if index == 3 else "" for index in range(len(values))]
        return "".join(f'<{tag} class="{mark}">{value}</{tag}>' for mark, value in zip(marks, values, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', headers)}</tr>{body}</table>"


# -- pictures -----------------------------------------------------------------------------------------------------------


def _pictures(evidence: Evidence, pairs: Sequence[FramePair]) -> str:
    if not pairs:
        return ""
    parts = ["<h2>How the pictures meet</h2>",
             "<p>Left: tiles of both cameras; lines have to run on across their borders. Middle: edges of the thermal picture "
             "drawn over the visible one. Right: one after the other; nothing may jump (stops under the mouse).</p>"]  # fmt: skip
    for pair in pairs:
        name = pair.visible.name or f"{pair.sequence:06d}"
        calibration, where = _set_for(evidence, name)
        visible, thermal, valid = _registered(pair, calibration, faint=name in evidence.by_view_px)
        figures = (
            _figure(_img(checkerboard(visible=visible, thermal=thermal)), f"{name}: checkerboard, {where}"),
            _figure(
                _img(edges_over(visible=visible, thermal=thermal, valid=valid)), f"{name}: thermal edges over visible"
            ),
            _figure(f'<div class="flicker">{_img(visible)}{_img(as_bgr(thermal))}</div>', f"{name}: visible, thermal"),
        )
        parts.append(f'<div class="row">{"".join(figures)}</div>')
    return "\n".join(parts)


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


def _set_for(evidence: Evidence, name: str) -> tuple[Calibration, str]:
    """The calibration for the distance at which things are: that of the board, where there is one."""
    distance_m = evidence.distances_m.get(name)
    if distance_m is None or not evidence.has_pose:
        set_m = evidence.calibration.distance_m
        return evidence.calibration, "as it is set" if set_m is None else f"set for {set_m:g} m"
    return evidence.calibration.at_distance(distance_m), f"set for the board at {distance_m:.2f} m"


def _registered(pair: FramePair, calibration: Calibration, *, faint: bool) -> tuple[Image8, Image8, Image8 | None]:
    """Visible (H, W, 3), thermal (H, W) and where the thermal camera sees, on the visible grid, of a size for a page.

    ``faint`` shows the thermal picture by its local contrast, as the detector of boards sees it.
    """
    registration: Registration = register(
        visible_size_px=pair.visible.size_px, thermal_size_px=pair.thermal.size_px, calibration=calibration
    )
    thermal = as_detected(pair.thermal.image) if faint else GainControl()(pair.thermal.image, timestamp_ns=0)
    visible = as_bgr(cast(Image8, registration.visible(cast(Image8, pair.visible.image))))
    thermal = cast(Image8, registration.thermal(thermal))
    if registration.valid is not None:
        thermal = cast(Image8, cv2.bitwise_and(thermal, registration.valid))
    factor = min(1.0, LARGEST_WIDTH_PX / visible.shape[1])
    images = [visible, thermal] + ([registration.valid] if registration.valid is not None else [])
    small = [
        cast(Image8, cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)) for image in images
    ]
    return small[0], small[1], small[2] if len(small) > 2 else None


def _coverage(evidence: Evidence) -> str:
    if not evidence.coverage:
        return ""
    figures = []
    for band in Band:
        coverage = evidence.coverage[band]
        size_px = getattr(evidence.calibration, band.value).size_px
        height_px = round(360 * size_px[1] / size_px[0])
        heat = cv2.resize(coverage.heat, (360, height_px), interpolation=cv2.INTER_LINEAR)
        colored = cv2.applyColorMap(heat, cv2.COLORMAP_VIRIDIS)
        figures.append(
            _figure(_img(cast(Image8, colored)), f"{band.value}: {100 * coverage.share:.0f} % of the picture")
        )
    what = "Where the board was seen; the brighter the more often. In the dark parts the lens is only guessed."
    return f'<h2>Coverage</h2><p>{what}</p><div class="row">{"".join(figures)}</div>'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _img(picture: Image8) -> str:
    encoded = base64.b64encode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{encoded}">'
