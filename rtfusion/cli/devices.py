"""``rtfusion devices``: which cameras there are, and what they can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rich.table import Table

    from rtfusion.capture.survey import Camera

NO_CAMERA = """\
No camera was found.

Plug one in and look again: a USB camera appears as /dev/videoN within seconds.
If it does not, `dmesg` tells why; in a container or a virtual machine the
device has to be passed through (docker run --device /dev/video0 ...).

Without a camera, `rtfusion demo` works all the same, and so does
rtfusion run --ir 'synthetic:?scene=night' --vis 'synthetic:?scene=night'
"""
HINT = """
The band is a guess by the name and the formats. A number changes when cameras
are plugged in again; a path below /dev/v4l/by-id and usb:... stay with their
camera: use those in a settings file.

rtfusion run --ir {thermal} --vis {visible}
"""


def devices(
    *,
    formats: Annotated[bool, typer.Option("--formats", metavar="", help="Show every format, size and rate.")] = False,
    debug: Debug = False,
) -> None:
    """List the cameras of this machine: the paths that --ir and --vis take, formats and rates."""
    from rtfusion.capture.survey import ask_cameras
    from rtfusion.cli.console import show, show_text
    from rtfusion.portable import needs

    needs("linux", what="listing cameras", instead="network cameras work here too: --ir rtsp://ADDRESS")
    cameras = ask_cameras()
    if not cameras:
        show_text(NO_CAMERA)
        return
    show(_table(cameras, all_modes=formats))
    show_text(HINT.format(thermal=_example(cameras, "thermal"), visible=_example(cameras, "visible")))


def _table(cameras: list[Camera], *, all_modes: bool) -> Table:
    from rich.markup import escape

    from rtfusion.cli.console import table

    rows = table("camera", "band", "name", "formats")
    for camera in cameras:
        modes = camera.problem or (_all_modes(camera) if all_modes else _summary(camera))
        band = "?" if camera.band is None else camera.band.value
        rows.add_row("\n".join(_names(camera)), band, escape(camera.device.name), escape(modes))
    return rows


def _names(camera: Camera) -> list[str]:
    """All that may be given for it."""
    device = camera.device
    identity = device.usb_id and ":".join(filter(None, ["usb", device.usb_id, device.serial]))
    return [name for name in (device.path, identity, device.stable_path) if name]


def _all_modes(camera: Camera) -> str:
    lines = []
    for mode in camera.modes:
        rates = ", ".join(f"{rate:g}" for rate in mode.rates_hz)
        lines.append(f"{mode.fourcc} {mode.width_px}x{mode.height_px}{f' at {rates} Hz' if rates else ''}")
    return "\n".join(lines) or "none"


def _summary(camera: Camera) -> str:
    """One line for each pixel format: how many sizes, the largest one, the highest rate."""
    lines = []
    for fourcc in dict.fromkeys(mode.fourcc for mode in camera.modes):
        modes = [mode for mode in camera.modes if mode.fourcc == fourcc]
        sizes = sorted({mode.size_px for mode in modes}, key=lambda size: size[0] * size[1])
        low, high = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
        fastest = max((mode.rate_hz for mode in modes if mode.rate_hz is not None), default=None)
        span = low if len(sizes) == 1 else f"{low} to {high}"
        lines.append(f"{fourcc} {span}" + (f", {fastest:g} Hz" if fastest is not None else ""))
    return "\n".join(lines) or "none"


def _example(cameras: list[Camera], band: str) -> str:
    """A camera of the band, or what its path would look like."""
    return next((camera.device.path for camera in cameras if camera.band == band), "/dev/videoN")
