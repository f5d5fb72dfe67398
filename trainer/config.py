"""Settings of a training run: frozen dataclasses, read from TOML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rtfusion.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Network:
    """Size of the student."""

    name: str = "small"
    width: int = 24
    """Channels at quarter resolution."""
    context: int = 24
    """Channels at an eighth."""
    dilations: tuple[int, ...] = (1, 1, 1)
    """Of the convolutions at an eighth; they set how far it sees."""


@dataclass(frozen=True)
class Weights:
    """What each term of the loss counts; the terms are those of `trainer.losses.fidelity`."""

    gradient: float = 12.0
    sharpness: float = 2.0
    edges: float = 1.5
    ssim: float = 1.6
    vif: float = 1.8
    correlation: float = 1.5
    scd: float = 0.7
    sources: float = 0.2
    base: float = 15.0
    contrast: float = 1.5
    halo: float = 400.0
    dip: float = 200.0
    seam: float = 10.0
    steadiness: float = 15.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int = 8000
    batch: int = 8
    crop_px: int = 128
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    save_every: int = 200
    seed: int = 3407


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what comes out of a run, but the data."""

    network: Network = field(default_factory=Network)
    weights: Weights = field(default_factory=Weights)
    schedule: Schedule = field(default_factory=Schedule)
    enhance_default: float = 0.5
    degraded_share: float = 0.4
    """Share of the training pairs that the student sees degraded."""
    clip_share: float = 0.25
    """Share of the training pairs that are two consecutive frames."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a checkpoint."""
        return asdict(self)


def load_config(preset: str) -> TrainingConfig:
    """A preset by name, or a TOML file by its path.

    Raises:
        ConfigError: there is no such preset or file, it is no TOML, or it has an unknown or ill-typed setting.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in PRESETS.glob("*.toml")))
        raise ConfigError(f"cannot read the preset {path}: {error.strerror}; known: {known}") from error
    try:
        return config_from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def config_from_dict(values: Mapping[str, Any]) -> TrainingConfig:
    """The configuration of a TOML file or of a checkpoint; what is absent keeps its default."""
    sections = {"network": Network, "weights": Weights, "schedule": Schedule}
    made = {
        name: _section(sections[name], value, name) if name in sections else value for name, value in values.items()
    }
    return _section(TrainingConfig, made, "the preset")


def _section(kind: Any, values: Mapping[str, Any], name: str) -> Any:
    known = {entry.name: entry.type for entry in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{name} has no setting {key!r}; it has {', '.join(known)}")
        expected = known[key]
        right = isinstance(value, int) if expected == "int" else isinstance(value, (int, float))
        if expected in ("int", "float") and (not right or isinstance(value, bool)):
            raise ConfigError(f"{name}: {key} is {value!r}; expected a number of type {expected}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
