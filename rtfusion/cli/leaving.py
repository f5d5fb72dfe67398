"""The end of the process while a thread still hangs in a library, in a read of a mute camera for example.

The interpreter would end such a thread when it comes back, in the middle of C++ that is not to be ended so, and the process would
abort (SIGABRT) instead of ending with its exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from pathlib import Path


def leave_hanging_threads(code: object) -> None:
    """End the process at once where a thread hangs and the process is this program's; else do nothing.

    Args:
        code: that of the `SystemExit` which is on its way.
    """
    hanging = [thread for thread in threading.enumerate() if thread.daemon and thread is not threading.main_thread()]
    if not hanging or not _is_own_process():
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no other name for it
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _is_own_process() -> bool:
    """False where somebody else's program called `rtfusion.cli.main`."""
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    return main.name == "rtfusion" or main.parts[-2:] == ("rtfusion", "__main__.py")
