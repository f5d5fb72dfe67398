"""Glare: pixels that headlights, lamps or the sun have burnt out in the visible band, in real pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtfusion
from benchmarks.robust.pairs import gradient_kept, pairs
from rtfusion.fusion.color import luminance

BURNT_LEVEL = 245
LEAST_SHARE = 0.002
DIAL = {"enhance 0": 0.0, "default": None, "enhance 1": 1.0}
STILL_BURNT_BAR = 0.10


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """Thermal gradient kept where the visible band is burnt out, and how much of that stays burnt out, along the dial."""
    kept: dict[str, list[float]] = {name: [] for name in (*DIAL, "mean")}
    burnt: dict[str, list[float]] = {name: [] for name in DIAL}
    for pair in pairs(shared, "vifb", "msrs", "roadscene", "llvip"):
        visible_y = luminance(pair.visible)
        area = visible_y >= BURNT_LEVEL
        inside = cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if area.mean() < LEAST_SHARE or gradient_kept(fused_y=visible_y, thermal=pair.thermal, area=inside) is None:
            continue
        bands: dict[str, Any] = {"visible": pair.visible, "thermal": pair.thermal}
        fused = {
            name: luminance(rtfusion.fuse(**bands, model=model, enhance=enhance)) for name, enhance in DIAL.items()
        }
        for name, fused_y in {**fused, "mean": luminance(rtfusion.fuse(**bands, fuser="average"))}.items():
            kept[name].append(gradient_kept(fused_y=fused_y, thermal=pair.thermal, area=inside) or 0.0)
        for name, fused_y in fused.items():
            burnt[name].append(float((fused_y[area] >= BURNT_LEVEL).mean()))
    mean = float(np.mean(kept["mean"]))
    found = {"case": f"glare, {len(kept['mean'])} pairs"}
    rows = [
        {**found, "figure": f"thermal gradient kept, {name}", "value": float(np.mean(kept[name])), "mean": mean}
        for name in DIAL
    ]
    rows = [{**row, "bar": mean, "better": "higher"} for row in rows]
    for name in DIAL:
        figure = {"figure": f"still burnt out, {name}", "value": float(np.mean(burnt[name])), "mean": None}
        rows.append({**found, **figure, "bar": STILL_BURNT_BAR, "better": "lower"})
    return rows
