"""How a model splits and mixes its pictures, for a host that does that part itself: `Layers`, stored in the model file.

A student computes much of a picture by fixed formulas (`rtfusion_trainer.student`). A file that says their constants can be
run in two parts: the formulas by a compiled kernel (`rtfusion.kernels`), the learned part by an engine
(`rtfusion.engines.layered`). The whole graph in the file says the same, and every other engine runs that.

The constants stand in the ``metadata_props`` as JSON, under `KEY`, beside the contract and not in it: a version that does
not know them runs the graph. docs/model-contract.md says what such a graph has to look like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rtfusion.errors import ModelError
from rtfusion.models import onnx_file

KEY = "rtfusion-layers"
BLOCK_PX = 4

Positive = Annotated[float, Field(gt=0)]
Range = tuple[float, float]


class Layers(BaseModel):
    """The constants of the fixed part of a student; gray levels are of 255."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    slopes_per_gray: tuple[Positive, Positive, Positive]
    """How fast the preference for the stronger band grows with its lead in d0, d1 and d2."""
    coring_gray: Annotated[float, Field(ge=0)]
    """From so much detail on, a gain that amplifies counts in full; 0: always."""
    pick_gain: Positive
    detail_scale: Positive
    base_scale: Positive
    """The network sees the strength of details, and the distance of a base from the mean of its scene, times these."""
    floor_gray: Positive
    """Added to the distance of either base before they are compared."""
    offset_gray: Annotated[float, Field(ge=0)]
    faint_gray: float
    clear_gray: float
    """Mean strength of d0 in a block from which on it is shown at the far end of the dial, and in full."""
    far_from: Annotated[float, Field(ge=0, lt=1)]
    far_gain: Annotated[float, Field(ge=0)]
    """Where on the dial its far end begins, and by how much d1 and d2 grow at 1."""
    visible_gains: Range
    thermal_gains: Range
    """The gains of pixels that 8 bits tell apart: nearly all that the network gives on real pictures."""


def find_layers(path: Path) -> Layers | None:
    """Read the constants of a model file; None where it says none.

    Raises:
        ModelError: it is no ONNX model, or what it says does not hold.
    """
    text = onnx_file.load(path).metadata.get(KEY)
    if text is None:
        return None
    try:
        return Layers.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ModelError(f"{path}: the value of {KEY} does not hold: {problems}") from error
