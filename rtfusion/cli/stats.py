"""``--stats-json``: what a run did, how it was set and how it ended, for another program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtfusion import __version__
from rtfusion.cli.config import settings_with_origins
from rtfusion.config import Loaded
from rtfusion.errors import SinkError
from rtfusion.files import write_whole


def write_stats(path: Path, *, snapshot: Mapping[str, Any], loaded: Loaded, ending: Mapping[str, Any]) -> None:
    """Write the file completely or not at all.

    Raises:
        SinkError: it cannot be written, or is there by now while nothing was to be replaced.
    """
    if path.is_file() and not loaded.settings.overwrite:
        raise SinkError(
            f"the statistics were not written: by now {path} exists; choose another name, or use --overwrite"
        )
    stats = {**snapshot, "version": __version__, "settings": settings_with_origins(loaded), "ending": ending}
    try:
        write_whole(path, json.dumps(stats, indent=2) + "\n")
    except OSError as error:
        raise SinkError(f"cannot write the statistics to {path}: {error.strerror}") from error
