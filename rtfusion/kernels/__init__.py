"""Compiled loops for what OpenCV has no call for, or only several: C, built when rtfusion is installed, each with a twin.

``hatch_build.py`` compiles `SOURCES` where there is a C compiler. Without it nothing is missing but speed: whoever asks gets
a `EngineUnavailable` that says why, and runs something else.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rtfusion.errors import EngineUnavailable

SOURCES = tuple(sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".c", ".h")))
LIBRARY = Path(__file__).with_name("libkernels.so")
REBUILD = "run pip install again, with a C compiler (Debian, Ubuntu: apt install gcc libc6-dev)"


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; calling them lets other threads run.

    Raises:
        EngineUnavailable: they were not compiled, of other sources than are here, or do not load.
    """
    if not LIBRARY.is_file():
        raise EngineUnavailable(f"the kernels were not compiled when rtfusion was installed; {REBUILD}")
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
        built_of = ctypes.c_char_p.in_dll(loaded, "rtfusion_source").value
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"the compiled kernels do not load ({error}); {REBUILD}") from error
    if built_of is None or built_of.decode() != fingerprint():
        raise EngineUnavailable(f"the kernels were compiled of other sources than are here; {REBUILD}")
    return loaded


def are_here() -> bool:
    """Ask whether `library` gives the kernels."""
    try:
        library()
    except EngineUnavailable:
        return False
    return True


def address(array: npt.NDArray[Any]) -> int:
    """The address of the first value of an array: as `numpy.ndarray.ctypes` gives it, in a third of the time where it can."""
    if array.flags.c_contiguous and array.flags.writeable and array.size:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return array.ctypes.data


def fingerprint() -> str:
    """SHA-256 of the sources, in hex, which a library bears that was compiled of them."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
