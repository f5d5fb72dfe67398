"""A trained head as an ONNX file with its contract inside, compared with PyTorch before it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rtfusion.focus.spec import HeadSpec
from rtfusion_trainer.averaged_export import write_averaged
from rtfusion_trainer.focus.network import STRIDE, Inference
from rtfusion_trainer.focus.training import HEAD

MOST_DIFFERENCE = 1e-3


def export_head(
    source: Path,
    folder: Path,
    *,
    trained_on: Sequence[str],
    license_id: str,
    scores: Mapping[str, float] | None = None,
) -> Path:
    """Write the averaged head of a checkpoint as ``focus-NAME.onnx``, and give the file.

    Args:
        source: a checkpoint of `rtfusion_trainer.focus.training`.
        folder: made if need be.
        trained_on: the data sets, each with its terms, for the contract.
        license_id: of the weights, for the contract.
        scores: overlap by target, for the contract.

    Raises:
        ConfigError: the checkpoint cannot be read.
        ModelError: the file does not give what PyTorch gives.
    """
    head, config = HEAD.load_average(source)
    target = folder / f"focus-{config.name}.onnx"
    write_averaged(
        target,
        Inference(head).eval(),
        partial(HeadSpec, name=config.name, targets=config.targets, stride=STRIDE),
        trained_on=trained_on,
        license_id=license_id,
        scores=scores or {},
        most_difference=MOST_DIFFERENCE,
    )
    return target
