"""``rtfusion version``: what is installed, for a bug report."""

from __future__ import annotations

from rtfusion import __version__
from rtfusion.cli.options import Debug

PARTS = ("numpy", "opencv-python", "av", "pyzmq", "openvino", "onnxruntime")


def version(*, debug: Debug = False) -> None:
    """Show the versions of rtfusion, of Python and of what does the work."""
    import platform
    from importlib import metadata

    from rich.table import Table

    from rtfusion.cli.console import show

    table = Table.grid(padding=(0, 2))
    table.add_row("rtfusion", __version__)
    table.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for part in PARTS:
        try:
            table.add_row(part, metadata.version(part))
        except metadata.PackageNotFoundError:
            table.add_row(part, "not installed")
    show(table)
