"""A trained matcher as an ONNX file with its contract inside, compared with PyTorch before it is kept."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from rtfusion.engines import open_engine_for
from rtfusion.errors import ModelError
from rtfusion.files import replacing
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.registration.descriptors import THERMAL, VISIBLE, MatcherSpec
from rtfusion_trainer.export import OPSET, commit
from rtfusion_trainer.matcher.network import Matcher
from rtfusion_trainer.matcher.training import MATCHER

MOST_DIFFERENCE = 5e-3
"""Of numbers of descriptors, whose length is three to six."""
SIZES_PX = ((64, 48), (160, 120), (52, 40))


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
    model = _traced(network)
    spec = MatcherSpec(
        name=config.name,
        channels=config.channels,
        training_commit=commit(),
        data=tuple(trained_on),
        license=license_id,
        scores={name: round(value, 4) for name, value in (scores or {}).items()},
        checksum=graph_checksum(model.SerializeToString()),
    )
    onnx.helper.set_model_props(model, spec.metadata())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"matcher-{config.name}.onnx"
    with replacing(target) as part:
        part.write_bytes(model.SerializeToString())
        _compare(part, spec, network)
    return target


def _traced(network: Matcher) -> onnx.ModelProto:
    stream = io.BytesIO()
    free = {name: {2: "height", 3: "width"} for name in ("visible_y", "thermal")}
    free |= {name: {2: "rows", 3: "columns"} for name in (VISIBLE, THERMAL)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            network,
            (torch.rand(1, 1, 48, 64), torch.rand(1, 1, 48, 64)),
            stream,  # type: ignore[arg-type]  # a stream is taken, though not declared
            input_names=["visible_y", "thermal"],
            output_names=[VISIBLE, THERMAL],
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(stream.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def _compare(path: Path, spec: MatcherSpec, network: Matcher) -> None:
    """Hold the file against PyTorch on random scenes.

    Raises:
        ModelError: it gives something else.
    """
    random = np.random.default_rng(0)
    for size_px in SIZES_PX:
        fed = {name: random.random((1, 1, *size_px[::-1]), np.float32) for name in spec.inputs}
        with torch.no_grad():
            expected = network(*(torch.from_numpy(array) for array in fed.values()))
        engine = open_engine_for("openvino", model=path, contract=spec, size_px=size_px, threads=1)
        made = engine.run(inputs=fed)
        pairs = zip((VISIBLE, THERMAL), expected, strict=True)
        difference = max(float(np.abs(made[name] - tensor.numpy()).max()) for name, tensor in pairs)
        engine.close()
        if not difference <= MOST_DIFFERENCE:
            raise ModelError(f"{path}: {difference:.4f} away from PyTorch; expected at most {MOST_DIFFERENCE}")
