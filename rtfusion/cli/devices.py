"""``rtfusion devices``: which cameras there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rich.table import Table

    from rtfusion.capture.devices import Device

NO_CAMERA = """\
No camera was found.

Plug one in and look again: a USB camera appears as /dev/videoN within seconds.
If it does not, `dmesg` tells why; in a container or a virtual machine the
device has to be passed through (docker run --device /dev/video0 ...).

Without a camera, `rtfusion demo` works all the same, and so does
rtfusion run --ir 'synthetic:?scene=night' --vis 'synthetic:?scene=night'
"""
HINT = """
The band is a guess by the name. A path below /dev/v4l/by-id stays with its
camera when it is plugged in again: use that one in a settings file.

rtfusion run --ir {thermal} --vis {visible}
"""


def devices(*, debug: Debug = False) -> None:
    """List the cameras of this machine, with the paths that --ir and --vis take."""
    from rtfusion.capture.devices import list_devices
    from rtfusion.cli.console import show, show_text

    cameras = [device for device in list_devices() if device.capture]
    if not cameras:
        show_text(NO_CAMERA)
        return
    show(_table(cameras))
    show_text(HINT.format(thermal=_example(cameras, "thermal"), visible=_example(cameras, "visible")))


def _table(cameras: list[Device]) -> Table:
    from rich.markup import escape

    from rtfusion.cli.console import table

    rows = table("camera", "band", "name")
    for camera in cameras:
        paths = camera.path if camera.stable_path is None else f"{camera.path}\n{camera.stable_path}"
        rows.add_row(paths, "?" if camera.band is None else camera.band.value, escape(camera.name))
    return rows


def _example(cameras: list[Device], band: str) -> str:
    """A camera of the band, or what its path would look like."""
    return next((camera.path for camera in cameras if camera.band == band), "/dev/videoN")
