"""``rtfusion run``: fuse two cameras or two recordings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rtfusion.cli.options import ConfigFile, Debug, LogJson, takes_settings


@takes_settings()
def run(
    flags: Mapping[str, object], *, config: ConfigFile = None, log_json: LogJson = False, debug: Debug = False
) -> None:
    r"""Fuse a thermal and a visible source and send the result to any number of outputs.

    Two recordings to a video:
      rtfusion run --ir thermal.mp4 --vis visible.mp4 --sink fused.mp4
    Two cameras, in a window:
      rtfusion run --ir /dev/video2 --vis /dev/video0
    Two cameras, for a detector that listens on ZeroMQ, and recorded:
      rtfusion run --ir /dev/video2 --vis /dev/video0 \
        --sink zmq:tcp://127.0.0.1:5555 --sink fused.mp4
    The two cameras that are plugged in, once you have agreed:
      rtfusion run
    Two folders of images, matched by name:
      rtfusion run --ir ir/ --vis vi/ --sink images:fused/

    Every option is also a key of rtfusion.toml, as in max_frames = 300,
    and an environment variable, as in RTFUSION_MAX_FRAMES=300;
    [bold]rtfusion config show[/bold] tells which value comes from where.
    Ctrl-C finishes the outputs and prints the table.
    """
    from rtfusion.cli.job import run_job
    from rtfusion.config import load

    sys.exit(run_job(load(flags, file=config, environ=os.environ)))
