"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(text: str | Path) -> Path:
    """The path with its ``~`` replaced. The home of nobody (``~nobody/x``) stays as it is: a file that is not there."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's own raises RuntimeError for it
