"""The command line. One file per command; what is heavy is imported inside the command that needs it."""

from __future__ import annotations

import contextlib
import sys
import traceback

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
    from rtfusion.cli.console import keep_streams, log_to_stderr

    keep_streams()
    log_to_stderr(verbose=_debugging())
    try:
        from rtfusion.cli.app import app

        app(prog_name="rtfusion")
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
