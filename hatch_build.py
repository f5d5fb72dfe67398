"""Compiles the kernels of rtfusion when it is installed, where there is a C compiler; ``python hatch_build.py`` does it in place.

A wheel with kernels in it is of one platform, one without is of any. Which of both it is, `rtfusion doctor` tells.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # in place, without hatchling
    BuildHookInterface = object

FOLDER = Path(__file__).resolve().parent / "rtfusion" / "kernels"
SOURCES = tuple(sorted(path for path in FOLDER.iterdir() if path.suffix in (".c", ".h")))
LIBRARY = "libkernels.so"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden"),
    "-ffp-contract=off",  # the same bits with every set of instructions, and in the twin
    # no number here is none, infinite or a zero whose sign matters: without this, a minimum is a branch
    *("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"),
)


class KernelHook(BuildHookInterface):  # type: ignore[misc,unused-ignore]
    """Puts the compiled kernels into a wheel, or beside their source for an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is put together; without a compiler the wheel is of Python alone."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            library = FOLDER / LIBRARY
        else:
            self._folder = tempfile.TemporaryDirectory()
            library = Path(self._folder.name) / LIBRARY
        if (problem := compiled(library)) is not None:
            self.app.display_warning(f"rtfusion is installed without kernels, and is slower for it: {problem}")
            return
        if version != "editable":
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
            build_data["force_include"][str(library)] = f"rtfusion/kernels/{library.name}"


def compiled(library: Path) -> str | None:
    """Compile the kernels into this file; None where that worked, else what hindered it."""
    named = os.environ.get("CC", "").split()
    found = named or [path for path in map(shutil.which, COMPILERS) if path is not None][:1]
    if not found:
        return f"there is no C compiler ({', '.join(COMPILERS)})"
    problem = compiled_by(found, library)
    # a compiler may not know how to choose among instructions when a library is loaded
    return None if problem is None or compiled_by(found, library, "-DVECTORIZED=") is None else problem


def compiled_by(compiler: Sequence[str], library: Path, *flags: str) -> str | None:
    """Compile with this command and more flags; as `compiled`."""
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        part = Path(folder) / library.name
        files = [str(path) for path in SOURCES if path.suffix == ".c"]
        command = [*compiler, *FLAGS, *flags, f'-DSOURCE_FINGERPRINT="{fingerprint}"', *files, "-o", str(part)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError as error:
            return f"{command[0]} does not run: {error.strerror}"
        if done.returncode:
            return f"{command[0]} failed: {(done.stderr.strip().splitlines() or ['without a word'])[0]}"
        part.replace(library)  # whole or not at all: the old one may be in use
    return None


if __name__ == "__main__":
    sys.exit(compiled(FOLDER / LIBRARY))
