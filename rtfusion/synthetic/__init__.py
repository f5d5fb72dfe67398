"""The synthetic street that both cameras of a pair see."""

from __future__ import annotations

from rtfusion.synthetic.scene import COUNTS_PER_LEVEL, KINDS, PERIOD_S, Scene, Target, scaling

__all__ = ["COUNTS_PER_LEVEL", "KINDS", "PERIOD_S", "Scene", "Target", "scaling"]
