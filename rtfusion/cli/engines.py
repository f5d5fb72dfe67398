"""``rtfusion engines``: what can run a model here."""

from __future__ import annotations

from pathlib import Path

from rtfusion.cli.options import Debug

SIZE_PX = 640, 480
"""Size of the images for which the precision of the models is told."""


def engines(*, debug: Debug = False) -> None:
    """List what can run a model here, and what to install for the rest."""
    from rich.markup import escape

    from rtfusion.cli.console import show, table
    from rtfusion.engines import available, choose_precision
    from rtfusion.errors import FusionError
    from rtfusion.models import shipped_names

    rows = table("engine", "version", "to install it")
    for status in available():
        rows.add_row(status.name, status.version or "not installed", "" if status.available else escape(status.install))
    show(rows)
    for name in shipped_names():
        try:
            show(f"{name}: {choose_precision(Path(name), precision='auto', engine='auto', size_px=SIZE_PX)}")
        except FusionError as error:
            show(f"{name}: {error}")
