"""``rtfusion engines``: what can run a model here."""

from __future__ import annotations

from rtfusion.cli.options import Debug


def engines(*, debug: Debug = False) -> None:
    """List what can run a model here, and what to install for the rest."""
    from rich.markup import escape

    from rtfusion.cli.console import show, table
    from rtfusion.engines import available

    rows = table("engine", "version", "to install it")
    for status in available():
        rows.add_row(status.name, status.version or "not installed", "" if status.available else escape(status.install))
    show(rows)
