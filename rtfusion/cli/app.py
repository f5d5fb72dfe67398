"""The tree of commands."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer
from typer.core import TyperCommand

from rtfusion import __version__
from rtfusion.cli import (
    calibrate_board,
    calibrate_delay,
    calibrate_files,
    calibrate_scene,
    completion,
    config,
    evaluate_model,
    export,
    train,
    version,
)
from rtfusion.cli.options import EXIT_CODES, Commands, PlainCommand, SettingsCommand

COMMANDS = (
    "run", "record", "replay", "demo", "samples", "view", "keys", "batch", "report", "bench", "evaluate", "say", "sources",
    "devices", "engines", "build", "doctor",
)  # fmt: skip
"""Commands that are the function of their module's name, in the order of the help."""

app = typer.Typer(
    cls=Commands,
    help="Fuse a thermal and a visible camera into one picture, live or from recordings.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(cls=Commands, help="Look at the settings, and begin a file of them.", no_args_is_help=True)
app.add_typer(config_app, name="config")
train_app = typer.Typer(cls=Commands, help=train.HELP, no_args_is_help=True)
app.add_typer(train_app, name="train")
calibrate_app = typer.Typer(cls=Commands, help="Make two cameras agree, in space and in time.", no_args_is_help=True)
app.add_typer(calibrate_app, name="calibrate")

for _name in COMMANDS:
    _command = getattr(importlib.import_module(f"rtfusion.cli.{_name}"), _name)
    if hasattr(_command, "with_flags"):
        app.command(cls=SettingsCommand, epilog=EXIT_CODES)(_command)
    else:
        app.command()(_command)
app.command("distill", help=train.DISTILL_HELP)(train.distill)
app.command("export", help=export.HELP)(export.export_student)
app.command()(version.version)
app.command()(completion.completion)
app.command()(completion.man)
config_app.command("show", cls=SettingsCommand)(config.show)
config_app.command("init")(config.init)
train_app.command(help=train.TEACHER_HELP)(train.teacher)
train_app.command(help=train.STUDENT_HELP)(train.student)
train_app.command(help=train.CACHE_HELP)(train.cache)
train_app.command(help=train.RECIPE_HELP)(train.recipe)
train_app.command(help=train.ENCODER_HELP)(train.encoder)
train_app.command(help=train.FOCUS_HELP)(train.focus)
train_app.command(help=train.MATCHER_HELP)(train.matcher)
train_app.command("evaluate", help=evaluate_model.HELP)(evaluate_model.evaluate_model)
calibrate_app.command("board", help=calibrate_board.BOARD_HELP)(calibrate_board.board)
calibrate_app.command("scene", help=calibrate_scene.HELP)(calibrate_scene.scene)
calibrate_app.command("delay", help=calibrate_delay.HELP)(calibrate_delay.delay)
calibrate_app.command("check", help=calibrate_board.CHECK_HELP)(calibrate_board.check)
calibrate_app.command("export", help=calibrate_files.EXPORT_HELP)(calibrate_files.export_calibration)
calibrate_app.command("import", help=calibrate_files.IMPORT_HELP)(calibrate_files.import_calibration)
for _group in (app, config_app, train_app, calibrate_app):
    for _info in _group.registered_commands:
        _info.cls = PlainCommand if _info.cls in (None, TyperCommand) else _info.cls


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rtfusion {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass
