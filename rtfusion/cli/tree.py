"""The commands and their options as argparse has them: of these, completion of shells and manual pages are made."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

FILES = ("FILE", "SRC", "PATH", "NAME|FILE", "URI")
"""Words for values that are, or may be, files."""
FOLDERS = ("DIR",)


def each_command(command: Any, words: tuple[str, ...] = ("rtfusion",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, groups of commands before those in them."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from each_command(below, (*words, name))


def parser_of(words: tuple[str, ...], command: Any, *, completes: bool = False) -> argparse.ArgumentParser:
    """One command as a parser: for shtab (``completes``) with all below it, else with their names."""
    parser = argparse.ArgumentParser(
        prog=" ".join(words),
        description=_in_paragraphs(plain(command.help or "").strip()),
        epilog=plain(command.epilog or "") or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    _fill(parser, words, command, completes=completes)
    return parser


def _fill(parser: argparse.ArgumentParser, words: tuple[str, ...], command: Any, *, completes: bool) -> None:
    panels: dict[str, Any] = {}
    for parameter in parameters_of(command):
        if parameter.hidden:
            continue
        panel = parameter.rich_help_panel
        if panel is not None and panel not in panels:
            panels[panel] = parser.add_argument_group(panel)
        _add(panels.get(panel, parser), parameter, completes=completes)
    parser.add_argument("-h", "--help", action="help", help="Show the help and exit.")
    if below := getattr(command, "commands", {}):
        commands = parser.add_subparsers(metavar="COMMAND")
        for name, one in below.items():
            short = summary(one)
            inner = commands.add_parser(name, help=short.replace("%", "%%"), description=short, add_help=False)
            if completes:  # a page names the commands below, which have pages of their own
                _fill(inner, (*words, name), one, completes=True)


def _add(group: Any, parameter: Any, *, completes: bool) -> None:
    described = plain(parameter.help or "").replace("%", "%%")
    if not parameter.opts[0].startswith("-"):
        words = {} if parameter.required else {"nargs": "?"}
        action = group.add_argument(parameter.name, metavar=parameter.metavar, help=described, **words)
    elif parameter.is_flag:
        action = group.add_argument(*parameter.opts, *parameter.secondary_opts, action="store_true", help=described)
    else:
        known = {"choices": choices} if (choices := _choices(parameter.name)) and completes else {}
        default = "" if parameter.default in (None, [], ()) else f" [default: {parameter.default}]".replace("%", "%%")
        action = group.add_argument(*parameter.opts, metavar=parameter.metavar, help=described + default, **known)
    if completes and (completed := _completed(parameter.metavar)) is not None:
        action.complete = completed


def _choices(name: str) -> tuple[str, ...]:
    from rtfusion.cli.options import choices
    from rtfusion.config import Settings

    field = Settings.model_fields.get(name)
    return () if field is None else choices(field.annotation)


def _completed(metavar: str | None) -> Any:
    """What shtab completes a value with; nothing where it is neither file nor folder."""
    import shtab

    return shtab.FILE if metavar in FILES else shtab.DIRECTORY if metavar in FOLDERS else None


def parameters_of(command: Any) -> list[Any]:
    """Options and arguments of a command, with those that the settings declare."""
    own: list[Any] = command.params
    return command.whole().params if hasattr(command, "whole") else own


def _in_paragraphs(text: str) -> str:
    """Help with an empty line wherever an example begins or ends, which else runs into the text in a manual page."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and lines[-1] and line and line.startswith(" ") != lines[-1].startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def summary(command: Any) -> str:
    """The first sentence of the help."""
    return plain(command.short_help or command.help or "").strip().partition("\n\n")[0].replace("\n", " ")


def plain(text: str) -> str:
    """Help without its markup."""
    from rich.text import Text

    return Text.from_markup(text).plain.replace("\b\n", "")
