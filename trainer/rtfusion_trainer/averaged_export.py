"""The small networks of `rtfusion_trainer.averaged` as ONNX files with their contract inside, held against PyTorch before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from rtfusion.engines import open_engine_for
from rtfusion.errors import ModelError
from rtfusion.files import replacing
from rtfusion.focus.spec import HeadSpec
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.registration.descriptors import MatcherSpec
from rtfusion_trainer.export import commit, traced

SIZES_PX = ((64, 48), (160, 120), (52, 40))
UNKNOWN = "0" * 64
"""The checksum of a graph that is not made yet."""
Spec = HeadSpec | MatcherSpec


def write_averaged(
    target: Path,
    network: nn.Module,
    make_spec: Callable[..., Spec],
    *,
    trained_on: Sequence[str],
    license_id: str,
    scores: Mapping[str, float],
    most_difference: float,
) -> None:
    """Trace a network, and write it with its contract; the folder is made if need be.

    Args:
        target: the file.
        network: takes and gives the ports of the contract by position, in their order; ready for use.
        make_spec: its contract, of what all contracts have: ``training_commit``, ``data``, ``license``, ``scores``, ``checksum``.
        trained_on: the data sets, each with its terms.
        license_id: of the weights.
        scores: what was measured on pairs held out.
        most_difference: largest difference to PyTorch.

    Raises:
        ModelError: the file does not give what PyTorch gives.
    """
    spec = make_spec(
        training_commit=commit(),
        data=tuple(trained_on),
        license=license_id,
        scores={name: round(value, 4) for name, value in scores.items()},
        checksum=UNKNOWN,
    )
    model = traced(network, inputs=spec.inputs, outputs=spec.outputs)
    spec = spec.model_copy(update={"checksum": graph_checksum(model.SerializeToString())})
    onnx.helper.set_model_props(model, spec.metadata())
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        part.write_bytes(model.SerializeToString())
        difference = _difference(part, spec, network)
        if not difference <= most_difference:
            raise ModelError(f"{target}: {difference:.4f} away from PyTorch; expected at most {most_difference}")


def _difference(path: Path, spec: Spec, network: nn.Module) -> float:
    """The largest difference of the file to PyTorch on random scenes; NaN where one is not finite."""
    random, differences = np.random.default_rng(0), []
    for size_px in SIZES_PX:
        fed = {name: random.random(port.shape(size_px), np.float32) for name, port in spec.inputs.items()}
        with torch.no_grad():
            expected = network(*(torch.from_numpy(array) for array in fed.values()))
        engine = open_engine_for("openvino", model=path, contract=spec, size_px=size_px, threads=1)
        made = engine.run(inputs=fed)
        tensors = expected if isinstance(expected, tuple) else (expected,)
        differences += [
            np.abs(made[name] - tensor.numpy()).max() for name, tensor in zip(spec.outputs, tensors, strict=True)
        ]
        engine.close()
    return float(np.max(differences))
