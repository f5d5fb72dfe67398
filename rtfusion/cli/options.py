"""Every setting as a flag. Names and panels stand here, the help text stands with the fields of `rtfusion.config.Settings`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong option, settings file or output, 3 a source cannot be opened, 4 model or engine, "
    "5 a stream or an output broke, 130 interrupted, 143 terminated, 1 a bug in rtfusion."
)
PANELS = {
    "Input": ("ir", "vis", "loop", "pace"),
    "Pairing": ("pair", "tolerance_ms", "thermal_delay_ms"),
    "Registration": ("calibration", "distance_m", "grid", "refine"),
    "Fusion": (
        "fuser",
        "look",
        "palette",
        "threshold",
        "opacity",
        "gain",
        "gain_low",
        "gain_high",
        "polarity",
        "units",
        "model",
        "precision",
        "enhance",
        "engine",
        "threads",
    ),
    "Output": ("sink", "overwrite", "stats_json"),
    "Run": ("on_loss", "max_frames"),
}
SWITCHES = ("pace", "refine", "overwrite")
METAVARS = {
    "pace": "",
    "refine": "",
    "overwrite": "",
    "pair": "NAME",
    "grid": "NAME",
    "fuser": "NAME",
    "look": "NAME",
    "palette": "NAME",
    "gain": "NAME",
    "polarity": "NAME",
    "units": "NAME",
    "on_loss": "NAME",
    "engine": "NAME",
    "ir": "SRC",
    "vis": "SRC",
    "sink": "URI",
    "calibration": "FILE",
    "model": "NAME|FILE",
    "precision": "NAME",
    "stats_json": "FILE",
    "loop": "N",
    "threads": "N",
    "max_frames": "N",
    "distance_m": "M",
    "tolerance_ms": "MS",
    "thermal_delay_ms": "MS",
    "enhance": "0..1",
    "threshold": "0..1",
    "opacity": "0..1",
    "gain_low": "COUNTS",
    "gain_high": "COUNTS",
}

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel="Run",
        help="Settings file (TOML). Without it: $RTFUSION_CONFIG, ./rtfusion.toml, ~/.config/rtfusion/config.toml.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", metavar="", help="Show the traceback when something goes wrong."),
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", metavar="", rich_help_panel="Run", help="Messages as JSON, one object a line."),
]


class SettingsCommand(TyperCommand):
    """A command whose flags are settings: their help, choices and defaults are looked up when help is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in what `Settings` says, then show the help."""
        from rtfusion.config import Settings

        parameters: list[Any] = self.params  # of typer's own option class, which is not public
        for parameter in parameters:
            field = Settings.model_fields.get(parameter.name or "")
            if field is None:
                continue
            parameter.help = field.description
            choices = _choices(field.annotation)
            if choices:
                parameter.help = f"{str(field.description).rstrip('.')}: {', '.join(choices)}."
            if field.default not in (None, False, ()):
                parameter.default, parameter.show_default = field.default, True
        super().format_help(ctx, formatter)


def _choices(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal, or of a Literal that may be None."""
    return next((get_args(a) for a in (annotation, *get_args(annotation)) if get_origin(a) is Literal), ())


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every setting as a flag; those that were given arrive as its first argument, by field name."""
    return _with_flags(command, names=[name for names in PANELS.values() for name in names])


def takes_settings_but(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same without some settings, for a command that decides these itself."""
    names = [name for names in PANELS.values() for name in names if name not in left_out]
    return functools.partial(_with_flags, names=names)


def _with_flags(command: Callable[..., None], *, names: Collection[str]) -> Callable[..., None]:
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def with_flags(**values: Any) -> None:
        flags = {name: values.pop(name) for name in names}
        if "sink" in flags:
            flags["sink"] = tuple(flags["sink"] or ()) or None
        command({name: value for name, value in flags.items() if value is not None}, **values)

    with_flags.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(name, panel) for panel, panel_names in PANELS.items() for name in panel_names if name in names]
        + [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY) for parameter in own]
    )
    return with_flags


def _parameter(name: str, panel: str) -> inspect.Parameter:
    """A flag. Its text is not interpreted here: `rtfusion.config.load` judges it, as it judges the environment."""
    flag = "--" + name.replace("_", "-")
    declaration = f"{flag}/--no{flag[1:]}" if name in SWITCHES else flag
    kind: Any = bool if name in SWITCHES else list[str] if name == "sink" else str
    option = typer.Option(declaration, metavar=METAVARS[name], rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
