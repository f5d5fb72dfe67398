"""A trained matcher as an ONNX file with its contract inside, compared with PyTorch before it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rtfusion.registration.descriptors import MatcherSpec
from rtfusion_trainer.averaged_export import write_averaged
from rtfusion_trainer.matcher.training import MATCHER

MOST_DIFFERENCE = 5e-3
"""Of numbers of descriptors, whose length is three to six."""


def export_matcher(
    source: Path,
    folder: Path,
    *,
    trained_on: Sequence[str],
    license_id: str,
    scores: Mapping[str, float] | None = None,
) -> Path:
    """Write the averaged network of a checkpoint as ``matcher-NAME.onnx``, and give the file.

    Args:
        source: a checkpoint of `rtfusion_trainer.matcher.training`.
        folder: made if need be.
        trained_on: the data sets, each with its terms, for the contract.
        license_id: of the weights, for the contract.
        scores: what was measured on pairs held out, for the contract.

    Raises:
        ConfigError: the checkpoint cannot be read.
        ModelError: the file does not give what PyTorch gives.
    """
    network, config = MATCHER.load_average(source)
    target = folder / f"matcher-{config.name}.onnx"
    write_averaged(
        target,
        network,
        partial(MatcherSpec, name=config.name, channels=config.channels),
        trained_on=trained_on,
        license_id=license_id,
        scores=scores or {},
        most_difference=MOST_DIFFERENCE,
    )
    return target
