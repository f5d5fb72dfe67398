"""The models that come with the package, by name."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from rtfusion.errors import ConfigError

PRECISIONS = ("f32", "f16", "int8")
"""The precisions of the numbers in a model file; an engine may compute in another one."""
FOR_GPU = {"f16": "gpu-f16", "int8": "gpu-int8"}
"""The files that a GPU takes in place of those for a CPU: they compute in float16, or in signed, symmetric INT8."""
FILES = (*PRECISIONS, *FOR_GPU.values())
FOLDER = Path(str(importlib.resources.files("rtfusion.models")))
_STEM = "student-"


def file_name(name: str, *, precision: str) -> str:
    """``student-small.onnx``, ``student-small-int8.onnx``: the file of a model in one of `FILES`."""
    return f"{_STEM}{name}{'' if precision == 'f32' else f'-{precision}'}.onnx"


def shipped_names() -> list[str]:
    """The models that are in the package, in any precision."""
    stems = {path.stem.removeprefix(_STEM) for path in FOLDER.glob(f"{_STEM}*.onnx")}
    for precision in reversed(FILES):
        stems = {stem.removesuffix(f"-{precision}") for stem in stems}
    return sorted(stems)


def shipped(name: str, *, precision: str = "f32") -> Path:
    """The file of the model ``name``.

    Raises:
        ConfigError: no such precision, or no model of that name and precision comes with the package.
    """
    if precision not in FILES:
        raise ConfigError(f"no precision {precision!r} of a model; there are {', '.join(FILES)}")
    path = FOLDER / file_name(name, precision=precision)
    if not path.is_file():
        names = ", ".join(shipped_names()) or "none in this version"
        raise ConfigError(
            f"no model {name!r} in {precision} comes with rtfusion (there is: {names}); or name an ONNX file"
        )
    return path


def is_name(model: Path) -> bool:
    """Tell a name from the path of a file: ``small`` is a name, ``small.onnx`` and ``models/small`` are paths."""
    return len(model.parts) == 1 and not model.suffix


def find_model(model: Path, *, precision: str = "f32") -> Path:
    """The file of a model that is named or given as a path; whether there is a file is for its reader to say.

    ``precision`` is of a named one; a path says it itself.

    Raises:
        ConfigError: it is a name, and no model of that name and precision comes with the package.
    """
    return shipped(str(model), precision=precision) if is_name(model) else model
