"""``rtfusion config show``: every setting, its value and where it comes from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import ConfigFile, Debug, takes_settings

if TYPE_CHECKING:
    from rich.table import Table

    from rtfusion.config import Loaded


@takes_settings()
def show(
    flags: Mapping[str, object],
    *,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel="Run", metavar="", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show every setting, its value and where it comes from.

    Defaults give way to the settings file, the file to RTFUSION_* variables, and
    those to flags. Give it the flags of [bold]run[/bold] to see what a run would use.
    """
    from rtfusion.cli import console
    from rtfusion.config import load

    loaded = load(flags, file=config, environ=os.environ)
    if as_json:
        console.show_text(json.dumps(settings_with_origins(loaded), indent=2) + "\n")
    else:
        console.show(_table(loaded))
        if loaded.file is None and sys.stdout.isatty():
            console.say("no settings file: ./rtfusion.toml or --config FILE would be read")


def settings_with_origins(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Give ``value`` (addresses without their passwords) and ``origin`` of every setting, as values for JSON."""
    values = loaded.settings.model_dump(mode="json")
    return {name: {"value": value, "origin": loaded.origins[name]} for name, value in values.items()}


def _table(loaded: Loaded) -> Table:
    from rich.markup import escape

    from rtfusion.cli.console import table

    rows = table("setting", "value", "origin")
    for name, entry in settings_with_origins(loaded).items():
        style = "dim" if entry["origin"] == "default" else None
        rows.add_row(name, escape(_as_text(entry["value"])), escape(entry["origin"]), style=style)
    return rows


def _as_text(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return "\n".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
