"""What libraries say when memory, or another thing that a limit is set to, is used up: no bug, and a person can do something."""

from __future__ import annotations

import re

from rtfusion.errors import EngineError, FusionError

_WORDS = re.compile(
    "can't start new thread|cannot allocate memory|insufficient memory|out of memory|bad_alloc|failed to map segment",
    re.IGNORECASE,
)


def named(error: Exception) -> Exception:
    """The error itself, or one of the engine where it says that memory is used up, whatever its type."""
    if isinstance(error, FusionError) or not (isinstance(error, MemoryError) or _WORDS.search(str(error))):
        return error
    text = str(error) or type(error).__name__
    return EngineError(
        f"no memory is left ({text:.200}); raise the limit of this process (ulimit -v), or choose a smaller model or picture"
    )
