"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from rtfusion import __version__
from rtfusion.cli import config, demo, devices, engines, run, version, view
from rtfusion.cli.options import EXIT_CODES, SettingsCommand

app = typer.Typer(
    help="Fuse a thermal and a visible camera into one picture, live or from recordings.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

app.command(cls=SettingsCommand, help=run.HELP, epilog=EXIT_CODES)(run.run)
app.command(help=demo.HELP)(demo.demo)
app.command(help=view.HELP)(view.view)
app.command()(devices.devices)
app.command()(engines.engines)
app.command()(version.version)
config_app.command("show", cls=SettingsCommand, help=config.HELP)(config.show)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rtfusion {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass
