"""``rtfusion completion`` and ``man``: for the shell, and for who reads manual pages; both made of the commands themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rtfusion.cli.options import Debug

SHELLS = ("bash", "zsh", "fish")


def completion(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
    *,
    debug: Debug = False,
) -> None:
    r"""Print what makes a shell complete commands, options, their values and files.

    bash, for yourself; it works in the next shell:
      rtfusion completion bash \
        > ~/.local/share/bash-completion/completions/rtfusion
    zsh, into a folder of your fpath:
      rtfusion completion zsh > ~/.zfunc/_rtfusion
    fish:
      rtfusion completion fish > ~/.config/fish/completions/rtfusion.fish
    """
    import shtab

    from rtfusion.cli.console import show_text
    from rtfusion.cli.tree import parser_of
    from rtfusion.errors import ConfigError
    from rtfusion.text import did_you_mean

    if shell not in SHELLS:
        raise ConfigError(
            f"there is no completion for {shell!r}; expected one of {', '.join(SHELLS)}{did_you_mean(shell, SHELLS)}"
        )
    parser = parser_of(("rtfusion",), ctx.find_root().command, completes=True)
    show_text(shtab.complete(parser, shell=shell).rstrip("\n") + "\n")


def man(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of the pages, such as ~/.local/share/man/man1.", show_default=False),
    ],
    *,
    debug: Debug = False,
) -> None:
    """Write the manual pages: one of rtfusion, and one of every command.

      rtfusion man ~/.local/share/man/man1
      man rtfusion-run

    Pages that are there are replaced.
    """
    from argparse_manpage.manpage import Manpage

    from rtfusion import __version__
    from rtfusion.cli.console import show_text
    from rtfusion.cli.tree import each_command, parser_of, summary
    from rtfusion.errors import ConfigError
    from rtfusion.files import expanded, write_whole

    folder = expanded(str(out))
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for words, command in each_command(ctx.find_root().command):
            parser: Any = parser_of(words, command)
            parser.man_short_description = summary(command)
            page = Manpage(parser)
            page.prog, page.source, page.manual = "-".join(words), f"rtfusion {__version__}", "rtfusion"
            write_whole(folder / f"{page.prog}.1", str(page))
            count += 1
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror}; name another folder") from error
    show_text(f"{count} pages in {folder}\n")
