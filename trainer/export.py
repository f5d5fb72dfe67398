"""A trained student as an ONNX file with its contract inside.

::

    python -m trainer.export --checkpoint FILE --out FILE.onnx [--precision float32|float16|int8] [--data DIR]

The file is compared with PyTorch before it is kept. INT8 (by nncf: Q/DQ nodes) is calibrated on pairs of ``--data``.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch.onnx import symbolic_helper
from torch.onnx.utils import register_custom_op_symbolic

from rtfusion.engines import open_engine
from rtfusion.errors import ConfigError, FusionError, ModelError
from rtfusion.models.spec import ModelSpec, ScalarInput, graph_checksum
from trainer import checkpoint
from trainer.config import config_from_dict
from trainer.data import Pair, load_pairs
from trainer.distill import load_average
from trainer.student import STRIDE_PX, Student

OPSET = 17
PRECISIONS = ("float32", "float16", "int8")
TOLERANCES = {"float32": 2e-3, "float16": 1e-2, "int8": 2e-2}
"""Largest allowed mean difference to PyTorch; float32 engines may round a selection the other way, so it is not 1e-6."""
CALIBRATION_PAIRS = 50
CALIBRATION_SIZE_PX = (320, 240)
NOT_STATED = "not stated"

DEFAULT_MEANS = {"visible_mean": 0.4, "thermal_mean": 0.4}
"""For a caller that does not keep them."""

Array = npt.NDArray[np.float32]


def export(
    source: Path,
    target: Path,
    *,
    precision: str = "float32",
    pairs: Sequence[Pair] = (),
    scores: Mapping[str, Mapping[str, float]] | None = None,
    trained_on: Sequence[str] = (NOT_STATED,),
    license_id: str = NOT_STATED,
) -> float:
    """Write the averaged student of the checkpoint ``source`` to ``target``; gives the mean difference to PyTorch.

    Args:
        source: a checkpoint of `trainer.distill`.
        target: the ONNX file; written only if it agrees with PyTorch.
        precision: one of `PRECISIONS`. Inputs and output are float32 in all of them.
        pairs: to calibrate INT8 on.
        scores: set to metric to value, for the contract.
        trained_on: the data sets, each with its terms, for the contract.
        license_id: of the weights, for the contract.

    Raises:
        ConfigError: the checkpoint cannot be read, or INT8 is asked for without pairs.
        ModelError: the exported network does not give what PyTorch gives.
    """
    if precision == "int8" and not pairs:
        raise ConfigError("INT8 is calibrated on images: pass --data with the training pairs")
    student = load_average(source)
    config = config_from_dict(checkpoint.load(source).config)
    defaults = {"enhance": config.enhance_default, **DEFAULT_MEANS}
    model = to_onnx(student)
    if precision == "float16":
        model = _halved(model)
    elif precision == "int8":
        model = _quantized(model, pairs, enhance=config.enhance_default)
    spec = ModelSpec(
        name=config.network.name,
        scalars={name: ScalarInput(default=value, minimum=0.0, maximum=1.0) for name, value in defaults.items()},
        stride=STRIDE_PX,
        training_commit=_commit(),
        data=tuple(trained_on),
        license=license_id,
        scores={name: dict(values) for name, values in (scores or {}).items()},
        checksum=graph_checksum(model.SerializeToString()),
    )
    onnx.helper.set_model_props(model, spec.metadata())
    part = target.with_suffix(".part.onnx")
    part.write_bytes(model.SerializeToString())
    try:
        difference = parity(part, student)
        if not difference <= TOLERANCES[precision]:
            raise ModelError(f"{target}: {difference:.4f} away from PyTorch; expected at most {TOLERANCES[precision]}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return difference


def to_onnx(student: Student) -> onnx.ModelProto:
    """The graph in float32, height and width dynamic, clipped to [0, 1]."""
    wrapped = _Clipped(student).eval()
    image, scalar = torch.rand(1, 1, 64, 64), torch.full((1, 1, 1, 1), 0.5)
    names = ["visible_y", "thermal", "enhance", "visible_mean", "thermal_mean"]
    free = {name: {2: "height", 3: "width"} for name in ("visible_y", "thermal", "fused_y")}
    stream = io.BytesIO()
    register_custom_op_symbolic("aten::pixel_unshuffle", _space_to_depth, OPSET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            wrapped,
            (image, image, scalar, scalar, scalar),
            stream,  # type: ignore[arg-type]  # a stream is taken, though not declared
            input_names=names,
            output_names=["fused_y"],
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(stream.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


class _Clipped(torch.nn.Module):
    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.student(*inputs).clamp(0, 1)


@symbolic_helper.parse_args("v", "i")
def _space_to_depth(graph: Any, image: Any, factor: int) -> Any:
    """Of one channel, pixel-unshuffle is ONNX's SpaceToDepth."""
    return graph.op("SpaceToDepth", image, blocksize_i=factor)


def parity(path: Path, student: Student) -> float:
    """Mean |engine - PyTorch| over three sizes and three positions of the dial, smooth random scenes with noise."""
    random = torch.Generator().manual_seed(0)
    differences = []
    for (width, height), value in zip(((64, 48), (320, 240), (104, 136)), (0.0, 0.5, 1.0), strict=True):
        coarse = torch.rand(2, 1, height // 8, width // 8, generator=random)
        scene = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
        scene = (scene + 0.02 * torch.randn(scene.shape, generator=random)).clamp(0, 1)
        inputs = {"visible_y": scene[:1], "thermal": scene[1:]}
        for name, scalar in {"enhance": value, "visible_mean": 0.5, "thermal_mean": 0.4}.items():
            inputs[name] = torch.full((1, 1, 1, 1), scalar)
        with torch.no_grad():
            expected = student(**inputs).clamp(0, 1).numpy()
        engine = open_engine("openvino", model=path, size_px=(width, height), threads=1)
        arrays = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
        differences.append(float(np.abs(engine.run(inputs=arrays) - expected).mean()))
        engine.close()
    return max(differences)


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stored as FP16, each followed by a cast, as OpenVINO's own compression does: half the file, same arithmetic."""
    halves: list[onnx.TensorProto] = []
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            halves.append(tensor)
            continue
        name = tensor.name + ".half"
        halves.append(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(halves)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _quantized(model: onnx.ModelProto, pairs: Sequence[Pair], *, enhance: float) -> onnx.ModelProto:
    """The trunk in INT8; the pyramid and the head, which carry the picture itself, stay float32."""
    try:
        import nncf
    except ImportError as error:
        raise ConfigError("INT8 needs nncf, which is not installed; run pip install 'rtfusion[quant]'") from error

    step = max(1, len(pairs) // CALIBRATION_PAIRS)
    dataset = nncf.Dataset([_calibration_inputs(pair, enhance) for pair in pairs[::step]])
    fixed = [node.name for node in model.graph.node if "/trunk/" not in node.name]
    quantized: onnx.ModelProto = nncf.quantize(
        model,
        dataset,
        subset_size=CALIBRATION_PAIRS,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=fixed, validate=False),
    )
    return quantized


def _calibration_inputs(pair: Pair, enhance: float) -> dict[str, Array]:
    width, height = CALIBRATION_SIZE_PX

    def unit(image: npt.NDArray[np.uint8]) -> Array:
        part = image[:height, :width]
        whole = np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1])), mode="edge")
        return (whole / 255).astype(np.float32)[None, None]

    scalars = {"enhance": enhance, "visible_mean": pair.visible.mean() / 255, "thermal_mean": pair.thermal.mean() / 255}
    images = {"visible_y": unit(pair.visible), "thermal": unit(pair.thermal)}
    return images | {name: np.full((1, 1, 1, 1), value, np.float32) for name, value in scalars.items()}


def _commit() -> str:
    """The commit of the code that exports, or ``unknown`` outside a checkout."""
    folder = Path(__file__).parent
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.export", description="Export a trained student to ONNX.")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of python -m trainer.distill")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the ONNX file to write")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--data", type=Path, metavar="DIR", help="training pairs, to calibrate INT8 on")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="JSON of set, metric and value, for the contract")
    parser.add_argument(
        "--trained-on",
        nargs="+",
        required=True,
        metavar="SET",
        help="every data set with its terms: 'M3SVD, 168 pairs (MIT)'",
    )
    parser.add_argument("--license", required=True, metavar="ID", help="of the weights, such as Apache-2.0")
    options = parser.parse_args(arguments)
    try:
        scores = json.loads(options.scores.read_text(encoding="utf-8")) if options.scores else {}
        pairs = load_pairs(options.data) if options.data else []
        difference = export(
            options.checkpoint,
            options.out,
            precision=options.precision,
            pairs=pairs,
            scores=scores,
            trained_on=options.trained_on,
            license_id=options.license,
        )
    except FusionError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stderr.write(f"{options.out}: mean difference to PyTorch {difference:.5f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
