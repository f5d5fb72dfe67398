"""``rtfusion keys``: a key pair for encrypted publishing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug


def keys(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Of the files, without ending.", show_default=False)],
    *,
    debug: Debug = False,
) -> None:
    """Make a key pair for encrypted publishing: NAME.key, secret, and NAME.pub.

    On the machine with the cameras, and on that of each subscriber:
      rtfusion keys camera
      rtfusion keys viewer
    Exchange the .pub files, then publish to those in the folder clients/ alone:
      rtfusion run ... --sink 'zmq:tcp://0.0.0.0:5555?keys=camera.key&clients=clients'
      rtfusion view tcp://camera:5555 --server-key camera.pub --keys viewer.key
    """
    from rtfusion.cli.console import show_text
    from rtfusion.publish.keys import make_keys

    key_path, public_path = make_keys(name)
    show_text(f"{key_path}   secret: keep it on this machine\n{public_path}   public: give it to the other side\n")
