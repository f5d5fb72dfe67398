"""``rtfusion config``: every setting, its value and where it comes from; and a file of them to begin with."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import ConfigFile, Debug, Overwrite, takes_settings

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


def init(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.", show_default=False)] = Path(
        "rtfusion.toml"
    ),
    *,
    ir: Annotated[str | None, typer.Option("--ir", metavar="SRC", help="Thermal source, to be set in it.")] = None,
    vis: Annotated[str | None, typer.Option("--vis", metavar="SRC", help="Visible source, to be set in it.")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write a settings file with every setting in it, explained and commented out.

      rtfusion config init
      rtfusion config init --ir /dev/video2 --vis /dev/video0

    What stands in a line without its # holds. A run in the same folder reads rtfusion.toml by itself.
    """
    from rtfusion.cli import console
    from rtfusion.config import load
    from rtfusion.files import check_output, write_whole

    check_output(out, overwrite=overwrite, taken={})
    text = commented_file({name: value for name, value in (("ir", ir), ("vis", vis)) if value is not None})
    write_whole(out, text)
    load({}, file=out, environ={})  # what was written is read again, and so is a source that nobody could read
    console.show_text(f"{out}: every setting, commented out; take the # away where one is to hold\n")


def commented_file(given: Mapping[str, str]) -> str:
    """A settings file with every setting, its help, its values and its default; those that are given are set."""
    from rtfusion.cli.options import choices
    from rtfusion.config import Settings

    lines = ["# Settings of rtfusion, as rtfusion run --help explains them. A line without its # holds.", ""]
    group = None
    for name, field in Settings.model_fields.items():
        setting = Settings.declared()[name]
        if setting.group != group:
            group = setting.group
            lines += [f"# -- {group} " + "-" * (76 - len(group)), ""]
        values = choices(field.annotation)
        told = f"{str(field.description).rstrip('.')}: {', '.join(values)}." if values else str(field.description)
        lines += [f"# {line}" for line in textwrap.wrap(told, 98)]
        default = setting.metavar if field.default is None else _toml(field.default)
        lines += [f"{name} = {_toml(given[name])}" if name in given else f"# {name} = {default}", ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(str(value), ensure_ascii=False)


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
