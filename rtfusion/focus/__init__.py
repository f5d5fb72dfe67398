"""Where people, vehicles and other targets are: maps over the picture, and who makes them."""

from rtfusion.focus.base import PEOPLE, SCALE, VEHICLES, FocusProvider, Map, Maps, map_shape
from rtfusion.focus.boxes import Box
from rtfusion.focus.focus import Focus

__all__ = ["PEOPLE", "SCALE", "VEHICLES", "Box", "Focus", "FocusProvider", "Map", "Maps", "map_shape"]
