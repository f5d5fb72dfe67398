"""How what is missing gets installed: the one owner of that sentence, as long as rtfusion is on no index."""

from __future__ import annotations


def install(*extras: str) -> str:
    """The command that adds extras of rtfusion to the environment, and where it is run.

    From the clone, since no index has rtfusion before a release; editable, since else a copy would take the place of the clone,
    in which edits have no effect any more.
    """
    return f"pip install -e '.[{','.join(extras)}]' in the clone of rtfusion"


PYCUDA = f"{install('cuda')} (pycuda, built with the CUDA toolkit; see docs/gpu.md)"
"""What the engines that work on a CUDA device need beside their own package."""
