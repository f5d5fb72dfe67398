"""Parameters of the node: every setting of `rtfusion run` under its own name, and what only a node needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rtfusion import ConfigError, Settings
from rtfusion.config import load
from rtfusion.fusion.base import Change

TRANSPORTS = ("raw", "compressed")
CHANGEABLE = ("calibration", "enhance", "intent", "model", "palette", "precision", "say")
"""Settings that may be changed while the node fuses; the others hold from its start."""


class Parameter(NamedTuple):
    """One parameter of the node."""

    name: str
    default: bool | int | float | str
    """``""`` stands for a setting that is not given."""
    description: str


OWN = (
    Parameter(
        "config", "", "Settings file of rtfusion (TOML); parameters that differ from their defaults win over it."
    ),
    Parameter("visible_transport", "raw", "What the visible topic is: raw, or compressed (JPEG, PNG)."),
    Parameter("thermal_transport", "raw", "What the thermal topic is: raw, or compressed (JPEG, PNG of 8 or 16 bits)."),
    Parameter(
        "frame_id", "", "Frame of what is published. Without it, that of the camera whose pixels the fused image has."
    ),
    Parameter("jpeg_quality", 90, "Quality of the compressed fused image, 1 to 100."),
)


def parameters() -> list[Parameter]:
    """Every parameter: the node's own, and those of the settings, in the order of the help of ``rtfusion run``."""
    return [*OWN, *map(_of_setting, Settings.model_fields)]


def _of_setting(name: str) -> Parameter:
    field = Settings.model_fields[name]
    default = field.default
    value = default if isinstance(default, (bool, int, float)) else "" if default in (None, ()) else str(default)
    return Parameter(name, value, str(field.description))


def settings_of(get: Callable[[str], Any]) -> Settings:
    """The settings that parameters, the settings file, and RTFUSION_* variables make.

    Args:
        get: gives the value of a parameter by its name.

    Raises:
        ConfigError: a value is not legal, or the file cannot be read.
    """
    config = get("config")
    given = {parameter.name: get(parameter.name) for parameter in map(_of_setting, Settings.model_fields)}
    flags = {
        parameter.name: _as_flag(given[parameter.name], parameter.name)
        for parameter in map(_of_setting, Settings.model_fields)
        if given[parameter.name] != parameter.default
    }
    # without a file that is named none is read: the folder that a launch file happens to start in means nothing
    file = Path(config).expanduser() if config else Path(os.devnull)
    return load(flags, file=file, environ=os.environ).settings


def check_own(get: Callable[[str], Any]) -> None:
    """Refuse values of the node's own parameters that mean nothing.

    Raises:
        ConfigError: a transport or the quality is not what it should be.
    """
    for name in ("visible_transport", "thermal_transport"):
        if get(name) not in TRANSPORTS:
            raise ConfigError(f"{name} is {get(name)!r}; expected one of {', '.join(TRANSPORTS)}")
    if not isinstance(get("jpeg_quality"), int) or not 1 <= get("jpeg_quality") <= 100:
        raise ConfigError(f"jpeg_quality is {get('jpeg_quality')!r}; expected a whole number from 1 to 100")


def change_of(name: str, value: Any) -> Change:
    """What a running fuser is to be changed to, by a parameter of `CHANGEABLE` other than ``say``.

    Raises:
        ConfigError: the value cannot be that of the setting.
    """
    flag = _as_flag(value, name)
    settings = load({name: flag}, file=Path(os.devnull), environ={}).settings
    if name == "calibration":
        from rtfusion.registration import load_calibration

        return Change(calibration=load_calibration(settings.calibration))
    if name == "enhance":
        return Change(inputs={"enhance": float(settings.enhance or 0.0)})
    if name == "intent":
        return Change(intents=settings.intent or "")
    return Change(**{name: getattr(settings, name)})


def _as_flag(value: Any, name: str) -> Any:
    """As `rtfusion.config.load` takes it of a command line."""
    if Settings.model_fields[name].default == ():
        return [value] if isinstance(value, str) else [str(item) for item in value]
    return value if isinstance(value, bool) else str(value)
