"""A trained head as an ONNX file with its contract inside, compared with PyTorch before it is kept."""

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
from rtfusion.focus.spec import MAPS, HeadSpec
from rtfusion.models.onnx_file import graph_checksum
from rtfusion_trainer.export import OPSET, commit
from rtfusion_trainer.focus.network import STRIDE, Inference
from rtfusion_trainer.focus.training import HEAD

MOST_DIFFERENCE = 1e-3
SIZES_PX = ((64, 48), (160, 120), (52, 40))


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
    maps = Inference(head).eval()
    model = _traced(maps)
    spec = HeadSpec(
        name=config.name,
        targets=config.targets,
        stride=STRIDE,
        training_commit=commit(),
        data=tuple(trained_on),
        license=license_id,
        scores={name: round(value, 4) for name, value in (scores or {}).items()},
        checksum=graph_checksum(model.SerializeToString()),
    )
    onnx.helper.set_model_props(model, spec.metadata())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"focus-{config.name}.onnx"
    with replacing(target) as part:
        part.write_bytes(model.SerializeToString())
        _compare(part, spec, maps)
    return target


def _traced(maps: Inference) -> onnx.ModelProto:
    stream = io.BytesIO()
    free = {name: {2: "height", 3: "width"} for name in ("visible_y", "thermal", MAPS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            maps,
            (torch.rand(1, 1, 48, 64), torch.rand(1, 1, 48, 64)),
            stream,  # type: ignore[arg-type]  # a stream is taken, though not declared
            input_names=["visible_y", "thermal"],
            output_names=[MAPS],
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(stream.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def _compare(path: Path, spec: HeadSpec, maps: Inference) -> None:
    """Hold the file against PyTorch on random scenes.

    Raises:
        ModelError: it gives something else.
    """
    random = np.random.default_rng(0)
    for width, height in SIZES_PX:
        fed = {name: random.random((1, 1, height, width), np.float32) for name in spec.inputs}
        with torch.no_grad():
            expected = maps(*(torch.from_numpy(array) for array in fed.values())).numpy()
        engine = open_engine_for("openvino", model=path, contract=spec, size_px=(width, height), threads=1)
        difference = float(np.abs(engine.run(inputs=fed)[MAPS] - expected).max())
        engine.close()
        if not difference <= MOST_DIFFERENCE:
            raise ModelError(f"{path}: {difference:.4f} away from PyTorch; expected at most {MOST_DIFFERENCE}")
