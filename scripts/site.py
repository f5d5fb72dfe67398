"""What the documentation site has beside the pages in docs/: pages made from the code, and the files that pages link to.

A hook of MkDocs, named in mkdocs.yml. Pages in docs/ link to files by their place in the repository; what lies outside of docs/
is put into the site below ``files/``. `GENERATED` are the pages that are made here, so that no copy of a setting or an option can
grow old.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CODE = re.compile(r"^<!-- code: (\S+) -->$", re.MULTILINE)
"""Where a page shows a file of the repository whole, on the site alone: elsewhere the link beside it leads there."""
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")
NAMED = re.compile(r"\[([\w./-]+\.md)\]\(([^)\s#]+)((?:#[^)]*)?)\)")
PAGES_OF_FILES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
"""Pages of the site that stand for a file of the repository."""


def settings_page() -> str:
    """Every setting by its group: flag, key, variable, default, values and what it does, from `rtfusion.config.Settings`."""
    from rtfusion.config import PREFIX, Settings

    lines = [
        "# Settings",
        "",
        "Each setting is a flag, a key of `rtfusion.toml` and an environment variable; the default is overruled by the file,",
        "the file by the variable, the variable by the flag. The file is the one that `--config` or `RTFUSION_CONFIG` names,",
        "else `rtfusion.toml` in the current folder, else `~/.config/rtfusion/config.toml`. `rtfusion config show` tells which",
        "value holds and where it came from.",
        "This page is made from `rtfusion/config.py`.",
    ]
    group = None
    for name, setting in Settings.declared().items():
        field = Settings.model_fields[name]
        if setting.group != group:
            group = setting.group
            lines += ["", f"## {group}"]
        flag = "--" + name.replace("_", "-")
        flags = f"`{flag}` or `--no{flag[1:]}`" if field.annotation is bool else f"`{flag} {setting.metavar}`"
        values = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
        named = f"{flags} · `{name}` in the file · `{PREFIX}{name.upper()}`"
        limits = f"Default: {_default(field.default)}." + (f" One of {values}." if values else "")
        lines += ["", f"### {name}", "", named, "", str(field.description), "", limits]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its arguments and options, from the commands themselves."""
    lines = [
        "# Commands",
        "",
        "Every command of `rtfusion`, as `--help` shows it. Commands that take settings have, beside their own options, a flag",
        "for every [setting](settings.md) that they do not decide themselves. The [exit codes](../conventions.md#exit-codes)",
        "are the same for all.",
    ]
    for words, command in commands():
        lines += ["", f"## {words}", "", _plain(command.help or "")]
        own = [item for item in command.params if not _is_setting(item.name) and item.name != "help"]
        rows = [
            f"| {_signature(item)} | {_cell(_plain(getattr(item, 'help', None) or ''))} |"
            for item in own
            if not getattr(item, "hidden", False)
        ]
        lines += ["", "| option | |", "|---|---|", *rows] if rows else []
        taken = sorted({_group(item.name) for item in command.params if _is_setting(item.name)})
        if taken:
            lines += ["", f"And the [settings](settings.md) of {', '.join(taken)}."]
    return "\n".join(lines) + "\n"


GENERATED: Mapping[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "changelog.md": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    "contributing.md": lambda: (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
}
"""Pages that are made when the site is built, by their place in docs/, where they are not."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its words, such as ``rtfusion calibrate board``; its parameters are complete."""
    import typer

    from rtfusion.cli.app import app

    def below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                yield from below(f"{words} {name}", child)
        else:
            command.make_context(words, [], resilient_parsing=True)  # flags of settings are made when a command is used
            yield words, command

    yield from below("rtfusion", typer.main.get_command(app))


# -- the hook -----------------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here, and the files that pages link to."""
    from mkdocs.structure.files import File

    for place, made in GENERATED.items():
        files.append(File.generated(config, place, content=made()))
    linked = {
        target
        for page in [*DOCS.rglob("*.md")]
        for target in _outside(page.read_text(encoding="utf-8"), page.parent)
        if target not in PAGES_OF_FILES
    }
    for target in sorted(linked):
        files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of docs/ to where their files are in the site."""
    del config, files
    place = page.file.src_uri
    source = {name: file for file, name in PAGES_OF_FILES.items() if file != "README.md"}.get(place)
    folder = ROOT if source else (DOCS / place).parent
    here = posixpath.dirname(place)

    def led(match: re.Match[str]) -> str:
        target = _in_repository(match[1], folder)
        if target is None:
            return match[1]
        where = (
            target.removeprefix("docs/")
            if target.startswith("docs/")
            else PAGES_OF_FILES.get(target, f"files/{target}")
        )
        return posixpath.relpath(where, here or ".")

    def titled(match: re.Match[str]) -> str:
        """A link that is named after its file, by the title of that page."""
        target = _in_repository(match[2], folder)
        path = ROOT / (target or "")
        return f"[{_title(path)}]({match[2]}{match[3]})" if path.suffix == ".md" and path.is_file() else match[0]

    return CODE.sub(_shown, LINK.sub(led, NAMED.sub(titled, markdown)))


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _shown(match: re.Match[str]) -> str:
    code = (ROOT / match[1]).read_text(encoding="utf-8").strip()
    return f"```{Path(match[1]).suffix.removeprefix('.').replace('py', 'python')}\n{code}\n```"


def _outside(markdown: str, folder: Path) -> Iterator[str]:
    """The files outside of docs/ that a page links to, as places in the repository."""
    for target in LINK.findall(markdown):
        place = _in_repository(target, folder)
        if place is not None and not place.startswith("docs/") and (ROOT / place).is_file():
            yield place


def _in_repository(target: str, folder: Path) -> str | None:
    """The place in the repository that a link leads to from a page in this folder, None where it leads out of it."""
    path = (folder / target).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None


# -- words --------------------------------------------------------------------------------------------------------------


def _choices(annotation: Any) -> tuple[str, ...]:
    from typing import Literal

    return next((get_args(kind) for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal), ())


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _is_setting(name: str) -> bool:
    from rtfusion.config import Settings

    return name in Settings.model_fields


def _group(name: str) -> str:
    from rtfusion.config import Settings

    return Settings.declared()[name].group


def _signature(item: Any) -> str:
    if item.param_type_name == "argument":
        return f"`{item.metavar or item.name.upper()}`"
    flags = "/".join([*item.opts, *item.secondary_opts])
    return f"`{flags}{' ' + item.metavar if item.metavar else ''}`"


def _plain(text: str) -> str:
    """Help without the markup of the terminal; its indented examples as code."""
    text = re.sub(r"\[/?(?:bold|italic|dim)\]", "**", text).replace("\\[", "[").replace("\b", "")
    parts = []
    for is_code, lines in groupby(text.splitlines(), key=lambda line: line.startswith("  ")):
        part = "\n".join(lines)
        parts.append(f"\n```text\n{dedent(part)}\n```\n" if is_code else part)
    return "\n".join(parts).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
