"""``rtfusion view``: a window on a stream that a run publishes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug


def view(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the run publishes.", show_default=False)],
    *,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", metavar="S", help="Give up when no frame comes for this long.")
    ] = 10.0,
    server_key: Annotated[
        str | None, typer.Option("--server-key", metavar="FILE", help="The publisher's .pub file, or the key itself.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="Your own key file.")] = None,
    debug: Debug = False,
) -> None:
    """Watch the fused stream of a run in a window.

    In one terminal:
      rtfusion run ... --sink zmq:tcp://127.0.0.1:5555
    In another one:
      rtfusion view tcp://127.0.0.1:5555

    A run that publishes with keys (rtfusion keys) lets in those on its list:
      rtfusion view tcp://camera:5555 --server-key camera.pub --keys viewer.key

    Keys: q quit, space pause, s snapshot.
    """
    from rtfusion.cli.stopping import Stopping
    from rtfusion.window.sink import view_stream

    with Stopping() as stopping:
        view_stream(url, stop=stopping.event, timeout_s=timeout_s, server_key=server_key, keys=keys)
    sys.exit(stopping.exit_code)
