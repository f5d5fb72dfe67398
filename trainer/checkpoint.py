"""Checkpoints: everything that a run needs to go on as if it had not stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtfusion.errors import ConfigError

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """State after ``step`` finished steps."""

    step: int
    config: dict[str, Any]
    model: dict[str, Any]
    average: dict[str, Any]
    """The weights' moving average, the ones to export."""
    optimizer: dict[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"schema": SCHEMA, **vars(checkpoint)}, part)
    part.replace(path)


def load(path: Path) -> Checkpoint:
    """Read ``path`` onto the CPU; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read or is no checkpoint of this version.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        raise ConfigError(f"{path} is no checkpoint of schema {SCHEMA}; train again or use the version that wrote it")
    return Checkpoint(**values)
