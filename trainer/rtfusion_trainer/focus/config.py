"""Settings of the head's training, read from TOML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtfusion_trainer.averaged import AveragedConfig

PRESETS = Path(__file__).parent / "presets"
CROP_STEP_PX = 16
"""The network halves a quarter of the resolution twice."""


@dataclass(frozen=True)
class FocusConfig(AveragedConfig):
    """Everything that decides what comes out of a run, but the data."""

    name: str = "small"
    targets: tuple[str, ...] = ("people", "vehicles")
    """The maps that it gives, in their order."""
    width: int = 32
    """Channels at an eighth of the picture."""
    depth: int = 48
    """Channels at a sixteenth."""
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    """Dilations of the convolutions at a sixteenth; they set how far the network sees."""
    steps: int = 3000
    batch: int = 8
    crop_px: tuple[int, int] = (512, 384)
    """(width, height) of the pictures that it learns from, in pixels of the cameras: multiples of `CROP_STEP_PX`."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    ema: float = 0.998
    save_every: int = 250
    seed: int = 3407
    zoom: float = 1.8
    """Pictures are seen from nearer or farther by up to this factor."""
    toned: float = 0.5
    """Share of the pictures in which a band has other tones."""
    inverted: float = 0.06
    """Share in which cold is bright."""
    blank: float = 0.08
    """Share in which one band shows nothing."""
    noise: float = 0.03
    """Largest deviation of noise, of full scale."""
    unsure: float = 0.5
    """Weight of what a detector calls empty: it misses some."""
