"""``rtfusion sources``: what --ir and --vis take, with every parameter; and what --sink takes."""

from __future__ import annotations

from typing import Annotated

import typer

from rtfusion.cli.options import Debug


def sources(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="One kind alone, such as synthetic or outputs.", show_default=False),
    ] = None,
    *,
    debug: Debug = False,
) -> None:
    """List everything that --ir, --vis and --sink take, with the parameters of each.

      rtfusion sources
      rtfusion sources synthetic
      rtfusion sources outputs

    Parameters follow a question mark, those of network cameras a #, and several are joined by &: quote them in a shell.
    """
    from rtfusion.capture.catalog import catalog
    from rtfusion.cli.console import show_text
    from rtfusion.errors import ConfigError
    from rtfusion.text import did_you_mean

    kinds = catalog()
    known = (*kinds, "outputs")
    if kind is not None and kind not in known:
        raise ConfigError(f"there is no kind {kind!r}; expected one of {', '.join(known)}{did_you_mean(kind, known)}")
    for name, entry in kinds.items():
        if kind in (None, name):
            examples = f": {', '.join(entry.examples)}" if entry.examples else ""
            rows = [(f"{entry.mark}{parameter.written}", parameter.what) for parameter in entry.parameters]
            show_text(_section(entry.title + examples, rows))
    if kind in (None, "outputs"):
        show_text(_section("outputs, for --sink", _outputs()))


def _outputs() -> list[tuple[str, str]]:
    from rtfusion.sinks import KINDS

    rows = []
    for kind in KINDS.values():
        settings = ", ".join(kind.options) or "-"
        rows.append((kind.example, f"takes {settings}" if kind.options else "takes no parameters"))
    return rows


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    """A title, and below it two columns that fit 80 characters where they can."""
    import textwrap

    width = min(max((len(written) for written, _ in rows), default=0), 30)
    lines = [title]
    for written, what in rows:
        told = textwrap.wrap(what, 80 - width - 4) or [""]
        head = f"  {written:<{width}}  "
        if len(written) > width:
            lines.append(head.rstrip())
            head = " " * (width + 4)
        lines.append(head + told[0])
        lines += [" " * (width + 4) + line for line in told[1:]]
    return "\n".join(lines) + "\n\n"
