"""Cuts, lamps and tunnels: the picture must be right from the first frame of what is new, as if it had always been so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import rtfusion
from benchmarks.robust.pairs import Pair, pairs
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

RATE_HZ = 15
BEFORE_S, TUNNEL_S, AFTER_S = 1.5, 0.8, 0.8
DARK = 0.1
"""Light of a dark room or a tunnel, times that outside."""
BURNT_LEVEL = 250
BURNT_BAR, BRIGHTNESS_BAR = 0.02, 0.85

Clip = Sequence[tuple[Image8, Image8]]


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """The worst frame after each change, against the picture of that moment alone."""
    found = list(pairs(shared, "msrs", every=4))
    nights, days = ([pair for pair in found if pair.name.endswith(letter)] for letter in "ND")
    burnt: dict[str, float] = {}
    brightness: dict[str, float] = {}
    for night, day in zip(nights, days, strict=False):
        for case, (before, after) in _changes(night=night, day=day).items():
            alone = [
                luminance(rtfusion.fuse(visible=visible, thermal=thermal, model=model)) for visible, thermal in after
            ]
            shown = list(_shown([*before, *after], model=model))[len(before) :]
            for frame, settled in zip(shown, alone, strict=True):
                more = float((frame >= BURNT_LEVEL).mean() - (settled >= BURNT_LEVEL).mean())
                burnt[case] = max(burnt.get(case, 0.0), more)
                brightness[case] = min(brightness.get(case, 1.0), float(frame.mean() / settled.mean()))
    rows = [
        {"case": case, "figure": "burnt out beyond the settled picture, worst", "value": burnt[case], "bar": BURNT_BAR}
        for case in burnt
    ]
    rows = [{**row, "mean": None, "better": "lower"} for row in rows]
    for case, value in brightness.items():
        figure = {"figure": "of the settled brightness, worst", "value": value, "mean": None}
        rows.append({"case": case, **figure, "bar": BRIGHTNESS_BAR, "better": "higher"})
    return rows


def _changes(*, night: Pair, day: Pair) -> dict[str, tuple[Clip, Clip]]:
    """What is seen before and after each change."""
    still = round(BEFORE_S * RATE_HZ)
    ramp = np.linspace(DARK, 1.0, round(TUNNEL_S * RATE_HZ))
    lit, dim = [day[1:]] * still, [(_dimmed(day.visible, DARK), day.thermal)] * still
    after = round(AFTER_S * RATE_HZ)
    out = [(_dimmed(day.visible, light), day.thermal) for light in ramp]
    return {
        "cut, night to day": ([night[1:]] * still, lit[:after]),
        "cut, day to night": (lit, [night[1:]] * after),
        "light switched on": (dim, lit[:after]),
        "light switched off": (lit, dim[:after]),
        "out of a tunnel": (dim, [*out, *lit[:after]]),
        "into a tunnel": (lit, [*out[::-1], *dim[:after]]),
    }


def _dimmed(visible: Image8, light: float) -> Image8:
    return np.rint(visible * light).astype(np.uint8)


def _shown(clip: Clip, *, model: str) -> Iterator[Image8]:
    with rtfusion.Fuser(model=model) as fuse:
        for index, (visible, thermal) in enumerate(clip):
            yield luminance(fuse(visible=visible, thermal=thermal, timestamp_ns=index * 10**9 // RATE_HZ))
