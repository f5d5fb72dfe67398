"""The pair of cameras that a run without sources proposes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rtfusion.cli.console import say
from rtfusion.config import Loaded
from rtfusion.errors import ConfigError

if TYPE_CHECKING:
    from rtfusion.capture.survey import Camera

NOTHING = (
    "--ir and --vis are missing: name both sources, for example --ir thermal.mp4 --vis visible.mp4; "
    "`rtfusion demo` works without any"
)


def with_sources(loaded: Loaded) -> Loaded:
    """The settings with two cameras of this machine, where they name no source at all and a person agrees.

    Raises:
        ConfigError: no source is named, and nobody is there to be asked, or there is no such pair.
    """
    if loaded.settings.ir is not None or loaded.settings.vis is not None:
        return loaded
    pair = _pair()
    if pair is None:
        raise ConfigError(NOTHING)
    thermal, visible = pair
    proposal = f"--ir {thermal.device.path} --vis {visible.device.path}"
    told = f"{thermal.device.name} is taken for thermal, {visible.device.name} for visible"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"--ir and --vis are missing; of the cameras that are here: {proposal} ({told})")
    say(f"no --ir and no --vis; of the cameras that are here: {proposal} ({told})")
    if not _agrees():
        raise ConfigError("--ir and --vis are missing: name both sources; `rtfusion devices` lists the cameras")
    sources = {"ir": thermal.device.path, "vis": visible.device.path}
    origins = {**loaded.origins, **dict.fromkeys(sources, "the cameras that are here")}
    return replace(loaded, settings=loaded.settings.model_copy(update=sources), origins=origins)


def _pair() -> tuple[Camera, Camera] | None:
    """The first thermal camera, and the first visible one: one that is known to be, or the only other one there is."""
    from rtfusion.capture.survey import ask_cameras
    from rtfusion.types import Band

    cameras = [camera for camera in ask_cameras() if camera.problem is None]
    thermal = next((camera for camera in cameras if camera.band is Band.THERMAL), None)
    others = [camera for camera in cameras if camera.band is not Band.THERMAL]
    visible = next(
        (camera for camera in others if camera.band is Band.VISIBLE), others[0] if len(others) == 1 else None
    )
    return None if thermal is None or visible is None else (thermal, visible)


def _agrees() -> bool:
    """Ask; no answer is none."""
    sys.stderr.write("use them? [Y/n] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("", "y", "yes") and answer != ""
