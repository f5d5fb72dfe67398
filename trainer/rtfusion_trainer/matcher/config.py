"""Settings of the matcher's training, read from TOML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtfusion_trainer.averaged import AveragedConfig

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class MatcherConfig(AveragedConfig):
    """Everything that decides what comes out of a run, but the data."""

    name: str = "small"
    width: int = 40
    """Channels of the body, at a cell of `CELL_PX` pixels a side."""
    channels: int = 32
    """Numbers of a descriptor."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 2, 1)
    """Dilations of the body's convolutions; they set how far a descriptor sees."""
    steps: int = 1800
    batch: int = 6
    crop_px: tuple[int, int] = (192, 144)
    """(width, height) of the views: multiples of `CELL_PX`."""
    asked: int = 512
    """Cells of each view, drawn anew in every step, that are looked for in the other one."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    ema: float = 0.995
    save_every: int = 100
    seed: int = 3407
    zoom: tuple[float, float] = (0.4, 1.2)
    """Pixels of a view for one of the picture, least and most."""
    near: float = 0.5
    """Share of the views in which both cameras hardly differ by turn, scale and slant."""
    turn_deg: float = 14.0
    scale: float = 1.35
    """One camera may see things larger than the other by up to this factor."""
    shift: float = 0.35
    """Share of the view, by which they differ in any case."""
    keystone: float = 0.06
    """Share of the view by which each corner may be elsewhere."""
    depth: float = 0.5
    """Share of the views in which what is near lies elsewhere than what is far."""
    depth_px: float = 4.0
    inverted: float = 0.2
    """Share in which cold is bright."""
    degraded: float = 0.4
    """Share in which camera or weather spoil a band."""
