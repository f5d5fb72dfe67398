"""Model files: the contract they carry, and those that come with the package."""

from __future__ import annotations

from rtfusion.models.shipping import PRECISIONS, file_name, find_model, shipped, shipped_names
from rtfusion.models.spec import ModelSpec, ScalarInput, read_spec

__all__ = [
    "PRECISIONS",
    "ModelSpec",
    "ScalarInput",
    "file_name",
    "find_model",
    "read_spec",
    "shipped",
    "shipped_names",
]
