"""Every setting as a flag, made of what the fields of `rtfusion.config.Settings` declare; and the options that commands share."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from rtfusion.redaction import without_credentials

EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong option, settings file or output, 3 a source cannot be opened, 4 model or engine, "
    "5 a stream or an output broke, 130 interrupted, 143 terminated, 1 a bug in rtfusion."
)
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel="Run",
        help="Settings file (TOML). Without it: $RTFUSION_CONFIG, ./rtfusion.toml, ~/.config/rtfusion/config.toml.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback when something goes wrong.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace outputs that exist.")]
LogJson = Annotated[
    bool, typer.Option("--log-json", metavar="", rich_help_panel="Run", help="Messages as JSON, one object a line.")
]


UsageError: Any = typer.BadParameter.__base__
"""Of click, or of the copy of it that newer versions of typer have."""
USAGE_EXIT_CODE = 2


class _PlainHelp:
    """Shows ``--help`` as the other switches are shown, without a word for a value that it does not take."""

    def get_help_option(self, ctx: Any) -> Any:
        """Give the option of the help."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class PlainCommand(_PlainHelp, TyperCommand):
    """A command."""


class Commands(_PlainHelp, TyperGroup):
    """The commands. What is wrong with a command line is said without the secrets in it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            error.message += _hint(error)
            error.message = re.sub(r"[^\s()'\"]+", lambda word: without_credentials(word[0]), error.message)
            raise


def _hint(error: Any) -> str:
    """What a command that fuses calls its sources and outputs, for those who named them otherwise."""
    command = None if error.ctx is None else error.ctx.command
    if not isinstance(command, SettingsCommand):
        return ""
    if re.search(r"option:? '?(-o|--out|--output|--outfile)\b", error.message):
        return "; an output is named with --sink"
    if "unexpected extra argument" in error.message:
        return "; sources are named with --ir and --vis, an output with --sink"
    return ""


class SettingsCommand(_PlainHelp, TyperCommand):
    """A command made by `takes_settings`. Its flags are made when it is used, so that listing commands loads no settings."""

    def whole(self) -> Any:
        """The command with all of its flags, of typer's own class."""
        app = typer.Typer(add_completion=False)
        app.command()(self.callback.with_flags())  # type: ignore[union-attr]
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **keywords: Any) -> Any:
        """Make the flags, then read the command line."""
        whole = self.whole()
        self.params, self._with_flags = whole.params, whole.callback
        return super().make_context(*arguments, **keywords)

    def invoke(self, ctx: Any) -> Any:
        """Run the command with all of its flags."""
        return ctx.invoke(self._with_flags, **ctx.params)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help with the defaults of the settings; elsewhere a flag without a value was not given."""
        from rtfusion.config import Settings

        parameters: list[Any] = self.params  # of typer's own option class, which is not public
        for parameter in parameters:
            field = Settings.model_fields.get(parameter.name or "")
            if field is not None and field.default not in (None, False, ()):
                parameter.default, parameter.show_default = field.default, True
        super().format_help(ctx, formatter)


def takes_settings(*, decider: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every setting, but for those that the ``decider`` among the commands decides itself.

    The flags that were given arrive as the first argument of the command, by the names of the settings.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def without_flags(**values: Any) -> None:
            command({}, **values)

        without_flags.__signature__ = inspect.Signature(_own(command))  # type: ignore[attr-defined]
        without_flags.with_flags = functools.partial(_with_flags, command, decider=decider)  # type: ignore[attr-defined]
        return without_flags

    return decorate


def _own(command: Callable[..., None]) -> list[inspect.Parameter]:
    """Give the parameters of a command that are no settings."""
    hints = get_type_hints(command, include_extras=True)
    parameters = list(inspect.signature(command).parameters.values())[1:]
    return [
        parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY) for parameter in parameters
    ]


def _with_flags(command: Callable[..., None], *, decider: str | None) -> Callable[..., None]:
    from rtfusion.config import Settings

    names = [name for name, setting in Settings.declared().items() if decider not in setting.decided_by]

    def with_flags(**values: Any) -> None:
        flags = {name: values.pop(name) for name in names}
        command({name: value for name, value in flags.items() if value not in (None, [])}, **values)

    with_flags.__signature__ = inspect.Signature([*map(_flag, names), *_own(command)])  # type: ignore[attr-defined]
    return with_flags


def _flag(name: str) -> inspect.Parameter:
    """Make a flag. Its text is not interpreted here: `rtfusion.config.load` judges it, as it judges the environment."""
    from rtfusion.config import Settings

    field, setting = Settings.model_fields[name], Settings.declared()[name]
    flag = "--" + name.replace("_", "-")
    is_switch = field.annotation is bool
    kind: Any = bool if is_switch else list[str] if get_origin(field.annotation) is tuple else str
    values = choices(field.annotation)
    option = typer.Option(
        f"{flag}/--no{flag[1:]}" if is_switch else flag,
        metavar=setting.metavar,
        rich_help_panel=setting.group,
        show_default=False,
        help=f"{str(field.description).rstrip('.')}: {', '.join(values)}." if values else field.description,
    )
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def choices(annotation: Any) -> tuple[str, ...]:
    """Give the values of a Literal, or of a Literal that may be None."""
    return next((get_args(a) for a in (annotation, *get_args(annotation)) if get_origin(a) is Literal), ())
