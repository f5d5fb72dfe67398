"""Checkpoints: everything that a run needs to go on as if it had not stopped."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rtfusion.errors import ConfigError
from rtfusion.files import write_whole

SCHEMA = 1
CHECKPOINT = "checkpoint.pt"
"""Name of the file in the folder of a run."""
UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)
"""Errors of `torch.load` for a file that is not what it should be."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a student's run after ``step`` finished steps."""

    step: int
    config: dict[str, Any]
    model: dict[str, Any]
    average: dict[str, Any]
    """The weights' moving average, the ones to export."""
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    """Scale of the loss, where the run computes in f16."""
    teachers: list[str] = field(default_factory=list)
    """The teachers that it was distilled from."""
    curriculum: dict[str, Any] = field(default_factory=dict)
    """Where the difficulty stood, where it was followed."""


def write(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values to ``path``, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # by way of memory: into a file PyTorch writes the file's name too, and equal states would be other bytes each time
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(path, content.getvalue())
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises the latter where the folder cannot be written
        raise ConfigError(f"cannot write {path}: {error}; choose another folder or free some space") from error


def read(path: Path, *, schema: int) -> dict[str, Any]:
    """Read a file of `write` onto the CPU, without its schema; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read or is no checkpoint of this schema.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; the checkpoint of a training is the file {path / CHECKPOINT} in it")
    try:
        values: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(values, dict) or values.pop("schema", None) != schema:
        raise ConfigError(f"{path} is no checkpoint of schema {schema}; train again or use the version that wrote it")
    return values


def load(path: Path) -> Checkpoint:
    """Read ``path`` onto the CPU; nothing in it is executed.

    Raises:
        ConfigError: it cannot be read or is no checkpoint of this version.
    """
    return Checkpoint(**read(path, schema=SCHEMA))


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The settings, of nested tables, in which two runs differ: ``schedule.seed: 1 there, 2 here``."""
    found = []
    for name, value in ours.items():
        other = theirs.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found += [f"{name}.{text}" for text in differences(value, other)]
        elif value != other:
            found.append(f"{name}: {other} there, {value} here")
    return found
