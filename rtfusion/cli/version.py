"""``rtfusion version``: what is installed, for a bug report."""

from __future__ import annotations

from rtfusion import __version__
from rtfusion.cli.options import Debug

PARTS = ("numpy", "opencv-python", "av", "pyzmq", "openvino", "onnxruntime")


def version(*, debug: Debug = False) -> None:
    """Show the versions of rtfusion, of Python and of what does the work."""
    import platform

    from rich.table import Table

    from rtfusion.cli.console import show

    table = Table.grid(padding=(0, 2))
    table.add_row("rtfusion", __version__)
    table.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for part in PARTS:
        table.add_row(part, _installed_version(part))
    show(table)


def _installed_version(distribution: str) -> str:
    """The version of an installed distribution, or ``not installed``."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
