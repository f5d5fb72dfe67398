"""``--stats-json``: what a run did, how it was set and how it ended, for another program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtfusion import __version__
from rtfusion.cli.config import settings_with_origins
from rtfusion.config import Loaded
from rtfusion.errors import ConfigError, SinkError
from rtfusion.files import write_whole


def check_writable(path: Path) -> None:
    """Find out before the run that the file cannot be made after it.

    Raises:
        ConfigError: no such folder, no right to write there, or the path is a folder.
    """
    folder = path.resolve().parent
    for is_so, why in (
        (path.is_dir(), "it is a folder; name a file in it"),
        (not folder.is_dir(), f"there is no folder {folder}; make it first"),
        (not os.access(folder, os.W_OK), f"the folder {folder} is not writable"),
    ):
        if is_so:
            raise ConfigError(f"cannot write the statistics to {path}: {why}")


def write_stats(path: Path, *, snapshot: Mapping[str, Any], loaded: Loaded, ending: Mapping[str, Any]) -> None:
    """Write the file completely or not at all.

    Raises:
        SinkError: it cannot be written.
    """
    stats = {**snapshot, "version": __version__, "settings": settings_with_origins(loaded), "ending": ending}
    try:
        write_whole(path, json.dumps(stats, indent=2) + "\n")
    except OSError as error:
        raise SinkError(f"cannot write the statistics to {path}: {error.strerror}") from error
