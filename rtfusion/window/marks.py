"""Rectangles that are drawn in the window with the mouse: what is in them stands out. ``x`` takes them away."""

from __future__ import annotations

from rtfusion.errors import ConfigError
from rtfusion.focus.boxes import MARKED, Box
from rtfusion.fusion.base import Change, Control

CLEAR = "x"
Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in fractions of the picture."""


class Marker:
    """Turns rectangles and the key that clears them into regions of the run."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def press(self, key: str) -> str | None:
        """Take one key; gives what is to be told of it, None for keys of no meaning here."""
        return self._draw(()) if key == CLEAR else None

    def mark(self, corners: Corners) -> str:
        """Add a rectangle; gives what is to be told of it."""
        left, top, right, bottom = corners
        box = Box(target=MARKED, left=left, top=top, right=right, bottom=bottom)
        return self._draw((*(self._control.regions or ()), box))

    def _draw(self, boxes: tuple[Box, ...]) -> str:
        try:
            self._control.change(Change(regions=boxes))
        except ConfigError as error:
            return str(error)
        return f"{len(boxes)} marked, x clears" if boxes else "nothing marked"
