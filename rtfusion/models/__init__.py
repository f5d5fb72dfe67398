"""Model files: the contract they carry, and those that come with the package."""

from __future__ import annotations

from rtfusion.models.shipping import FILES, FOR_GPU, PRECISIONS, file_name, find_model, shipped, shipped_names
from rtfusion.models.spec import (
    ImageInput,
    MapInput,
    ModelSpec,
    Output,
    ScalarInput,
    StateInput,
    find_spec,
    read_spec,
)

__all__ = [
    "FILES",
    "FOR_GPU",
    "PRECISIONS",
    "ImageInput",
    "MapInput",
    "ModelSpec",
    "Output",
    "ScalarInput",
    "StateInput",
    "file_name",
    "find_model",
    "find_spec",
    "read_spec",
    "shipped",
    "shipped_names",
]
