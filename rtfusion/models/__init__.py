"""Model files and the contract they carry."""

from __future__ import annotations

from rtfusion.models.spec import ModelSpec, ScalarInput, read_spec

__all__ = ["ModelSpec", "ScalarInput", "read_spec"]
