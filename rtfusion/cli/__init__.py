"""The command line. One file per command; what is heavy is imported inside the command that needs it."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any

from rtfusion.errors import EXIT_BUG, EXIT_INTERRUPTED, FusionError


def main() -> None:
    """Entry point of the console script: one clear line and the documented exit code for everything that goes wrong."""
    try:
        _run()
    except SystemExit as ending:
        from rtfusion.cli.leaving import leave_hanging_threads

        leave_hanging_threads(ending.code)
        raise


def _run() -> None:
    from rtfusion.cli.console import keep_streams, log_to_stderr, logs_json

    keep_streams()
    log_to_stderr(verbose=_debugging())
    try:
        from rtfusion.cli.app import app
        from rtfusion.cli.steps import shown_steps

        with shown_steps():
            if not logs_json():
                app(prog_name="rtfusion")
            _run_for_a_program(app)
    except FusionError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a bug of ours: said in one line, whatever it is
        from rtfusion.cli.shortage import named

        if isinstance(shortage := named(error), FusionError):
            _fail(str(shortage), shortage.exit_code)
        again = "" if _debugging() else "; run again with --debug for the traceback, and please report it"
        _fail(f"this is a bug in rtfusion: {type(error).__name__}: {error}{again}", EXIT_BUG)


def _run_for_a_program(app: Any) -> None:
    """Run a command so that what is wrong with the command line is a line of the log too."""
    from rtfusion.cli.options import USAGE_EXIT_CODE, UsageError

    try:
        code = app(prog_name="rtfusion", standalone_mode=False)
    except UsageError as error:
        _fail(error.format_message(), USAGE_EXIT_CODE)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, exit_code: int) -> None:
    from rtfusion.cli.console import say

    if _debugging():
        with contextlib.suppress(OSError):
            traceback.print_exc()
    say(message, level="error")
    sys.exit(exit_code)


def _debugging() -> bool:
    """Say if --debug was given. It is read here because an error may come before or after any command."""
    return "--debug" in sys.argv
