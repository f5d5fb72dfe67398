"""A trained student as ONNX files with their contract inside: f32, f16, int8 (by nncf: Q/DQ nodes), and two for GPUs.

A file is compared with PyTorch before it is kept. `export`, which ``rtfusion export`` calls, names the files as the package
ships them; `stamp_scores` adds the scores that are measured later, since the contract's checksum is of the graph alone.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from rtfusion.engines import open_engine, open_gray_engine
from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ConfigError, ModelError
from rtfusion.files import replacing, write_whole
from rtfusion.installing import install
from rtfusion.models import FILES, FOR_GPU, ImageInput, ModelSpec, Output, ScalarInput, file_name, find_model, read_spec
from rtfusion.models.layers import KEY as LAYERS
from rtfusion.models.layers import find_layers
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, Input, implied_feeder
from rtfusion_trainer import checkpoint, for_gpu
from rtfusion_trainer.config import Variation
from rtfusion_trainer.distill import is_model, load_average
from rtfusion_trainer.inference import Inference, layers_of
from rtfusion_trainer.pairs import Pair, load_pairs
from rtfusion_trainer.student import STRIDE_PX, Student
from rtfusion_trainer.variation import vary

OPSET = 17
TRACED_PX = 64, 64
"""The size of the pictures that a graph is traced with; it takes any."""
TOLERANCES = {"f32": 2e-3, "f16": 1e-2, "int8": 2e-2, "gpu-f16": 5e-3, "gpu-int8": 2e-2}
"""Largest allowed mean difference to PyTorch; f32 engines may round a selection the other way, so it is not 1e-6."""
QUANTIZED = ("/enter/", "/body", "/down/", "/middle", "/up/", "/merge/", "/fine_")
"""Convolutions that INT8 is for, by their names. The layers, which carry the picture itself, scalars and sums stay float32."""
QUANTIZED_ON_GPU = QUANTIZED[1:]
"""On a GPU the first convolution, which sees the picture itself, stays in float16: OpenVINO 2026.4, which is asked what an engine
for a GPU should give, computes it wrongly from signed INT8, and the picture keeps its levels."""
CALIBRATION_PAIRS = 60
CALIBRATION_SIZE_PX = (320, 240)
NOT_STATED = "not stated"

DEFAULT_MEANS = {"visible_mean": 0.4, "thermal_mean": 0.4}
"""Defaults for a caller that does not keep the means of the scene."""

Array = npt.NDArray[np.float32]
Fuse = Callable[..., torch.Tensor]
"""Fuses tensors that are given by the names of the inputs."""


def export(
    source: Path,
    folder: Path,
    *,
    precisions: Sequence[str] = ("f32",),
    data: Path | None = None,
    trained_on: Sequence[str] = (NOT_STATED,),
    license_id: str = NOT_STATED,
    enhance: float | None = None,
) -> dict[Path, float]:
    """Write the averaged student of a checkpoint as ``student-NAME[-PRECISION].onnx`` for each precision.

    Args:
        source: a checkpoint of `rtfusion_trainer.distill`; or, for the files of GPUs, a float32 model file or the name of one
            that comes with rtfusion, whose contract they take over.
        folder: made if need be. A file is written only if it agrees with PyTorch.
        precisions: of `rtfusion.models.FILES`. Inputs and output are float32 in all of them.
        data: training pairs SET/vi and SET/ir, to calibrate INT8 on, and to see that float16 holds all values.
        trained_on: the data sets, each with its terms, for the contract.
        license_id: of the weights, for the contract.
        enhance: where the dial stands unless turned; as in the training if None.

    Returns:
        The mean difference to PyTorch by file.

    Raises:
        ConfigError: no such precision, the checkpoint or the data cannot be read, the folder cannot be made, or a file that is
            calibrated is asked for without data, or INT8 without nncf.
        ModelError: an exported network does not give what PyTorch gives.
    """
    for precision in precisions:
        if precision not in FILES:
            raise ConfigError(f"no precision {precision!r} to export; there are {', '.join(FILES)}")
    if (calibrated := [name for name in precisions if name in ("int8", *FOR_GPU.values())]) and data is None:
        raise ConfigError(f"{calibrated[0]} is calibrated on images: pass --data with the training pairs")
    if is_model(source):
        model, spec, fuse = _of_file(source, precisions)
    else:
        model, spec, fuse = _of_checkpoint(source, trained_on=trained_on, license_id=license_id, enhance=enhance)
    dial = spec.scalars["enhance"].default
    pairs = load_pairs(data) if data is not None and calibrated else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; name another one with --out") from error
    differences = {}
    for precision, made in _made(model, precisions, pairs=pairs, enhance=dial):
        target = folder / file_name(spec.name, precision=precision)
        if precision == "int8" and isinstance(fuse, Student):
            onnx.helper.set_model_props(
                made, {LAYERS: layers_of(fuse, _calibration(pairs, enhance=dial)).model_dump_json()}
            )
        differences[target] = _write(target, with_contract(made, spec), fuse, most=TOLERANCES[precision])
    return differences


def _of_checkpoint(
    source: Path, *, trained_on: Sequence[str], license_id: str, enhance: float | None
) -> tuple[onnx.ModelProto, ModelSpec, Fuse]:
    student, state = load_average(source), checkpoint.load(source)
    model = to_onnx(student)
    spec = ModelSpec(
        name=student.network.name,
        inputs=student_inputs(enhance=float(state.config["enhance_default"]) if enhance is None else enhance),
        stride=STRIDE_PX,
        training_commit=commit(),
        data=tuple(trained_on),
        teachers=tuple(state.teachers),
        license=license_id,
        checksum=graph_checksum(model.SerializeToString()),
    )
    return model, spec, student


def _of_file(source: Path, precisions: Sequence[str]) -> tuple[onnx.ModelProto, ModelSpec, Fuse]:
    if others := [name for name in precisions if name not in FOR_GPU.values()]:
        raise ConfigError(
            f"{others[0]} is made of a checkpoint; of a model file there are {', '.join(FOR_GPU.values())}"
        )
    path = find_model(source)
    module = OnnxModule(path)
    # scores were measured with the file itself
    return onnx.load(path), read_spec(path).model_copy(update={"scores": {}}), lambda **inputs: module(**inputs)[OUTPUT]


def _made(
    model: onnx.ModelProto, precisions: Sequence[str], *, pairs: Sequence[Pair], enhance: float
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each precision, and the model in it."""
    ranges: dict[str, for_gpu.Range] = {}
    for precision in precisions:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        if precision in FOR_GPU.values():
            made = for_gpu.simplified(made)
            ranges = ranges or for_gpu.measured_ranges(made, _calibration(pairs, enhance=enhance))
        if precision == "f16":
            made = _halved(made)
        elif precision == "int8":
            made = _quantized(made, pairs, enhance=enhance)
        elif precision == "gpu-f16":
            made = for_gpu.in_half(made, ranges=ranges)
        elif precision == "gpu-int8":
            made = for_gpu.in_int8(made, ranges=ranges, parts=QUANTIZED_ON_GPU)
        yield precision, made


def _write(target: Path, model: onnx.ModelProto, fuse: Fuse, *, most: float) -> float:
    with replacing(target) as part:
        part.write_bytes(model.SerializeToString())
        difference = parity(part, fuse)
        if not difference <= most:
            raise ModelError(f"{target}: {difference:.4f} away from PyTorch; expected at most {most}")
    return difference


def stamp_scores(path: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Put set, metric and value into the contract of a model file, instead of those that it has.

    Raises:
        ModelError: it is no model with a contract.
    """
    spec = read_spec(path).model_copy(update={"scores": {name: dict(values) for name, values in scores.items()}})
    write_whole(path, with_contract(onnx.load(path), spec).SerializeToString())


def student_inputs(*, enhance: float) -> dict[str, Input]:
    """The inputs of a student for its contract, in the order in which it takes them; ``enhance`` is the default of the dial."""
    defaults = {"enhance": enhance, **DEFAULT_MEANS}
    scalars = {
        name: ScalarInput(default=value, minimum=0.0, maximum=1.0, fed_by=implied_feeder(name))
        for name, value in defaults.items()
    }
    return {**{name: ImageInput() for name in IMAGE_INPUTS}, **scalars}


def to_onnx(student: Student) -> onnx.ModelProto:
    """The graph in float32, height and width dynamic, clipped to [0, 1], as `rtfusion_trainer.inference` has it."""
    return traced(Inference(student).eval(), inputs=student_inputs(enhance=0.5), outputs={OUTPUT: Output(kind="image")})


def traced(module: nn.Module, *, inputs: Mapping[str, Input], outputs: Mapping[str, Output]) -> onnx.ModelProto:
    """The graph of a module for a contract with these ports, height and width dynamic.

    The module takes its inputs by position and gives its outputs, one or a tuple, both in the order in which they are named here.
    """
    free = {name: _free_axes(port) for name, port in {**inputs, **outputs}.items()}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            module,
            tuple(torch.full(port.shape(TRACED_PX), 0.5) for port in inputs.values()),
            stream,  # type: ignore[arg-type]  # a stream is taken, though not declared
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: axes for name, axes in free.items() if axes},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(stream.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def with_contract(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """The model with this contract and its checksum inside, instead of all metadata that it has but the layers."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    layers = {entry.key: entry.value for entry in model.metadata_props if entry.key == LAYERS}
    del stamped.metadata_props[:]
    spec = spec.model_copy(update={"checksum": graph_checksum(model.SerializeToString())})
    onnx.helper.set_model_props(stamped, {**spec.metadata(), **layers})
    return stamped


def _free_axes(port: Input | Output) -> dict[int, str]:
    """The axes of a port that grow with the picture, by name."""
    if isinstance(port, ScalarInput):
        return {}
    scale = 1 if isinstance(port, ImageInput) else port.scale
    return {2: "height", 3: "width"} if scale == 1 else {2: f"height_{scale}", 3: f"width_{scale}"}


def parity(path: Path, fuse: Fuse) -> float:
    """Mean |engine - PyTorch| over three sizes and three positions of the dial, smooth random scenes with noise.

    A file that says its layers is compared as the host runs it too; the larger difference is given.
    """
    random = torch.Generator().manual_seed(0)
    differences = []
    for (width, height), value in zip(((64, 48), (320, 240), (104, 136)), (0.0, 0.5, 1.0), strict=True):
        coarse = torch.rand(2, 1, height // 8, width // 8, generator=random)
        scene = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
        scene = ((scene + 0.02 * torch.randn(scene.shape, generator=random)).clamp(0, 1) * 255).round() / 255
        inputs = {"visible_y": scene[:1], "thermal": scene[1:]}
        for name, scalar in {"enhance": value, "visible_mean": 0.5, "thermal_mean": 0.4}.items():
            inputs[name] = torch.full((1, 1, 1, 1), scalar)
        with torch.no_grad():
            expected = fuse(**inputs).clamp(0, 1).numpy()
        engine = open_engine("openvino", model=path, size_px=(width, height), threads=1)
        arrays = {name: tensor.contiguous().numpy() for name, tensor in inputs.items()}
        differences.append(float(np.abs(engine.run(inputs=arrays)["fused_y"] - expected).mean()))
        engine.close()
        if find_layers(path) is not None:
            differences.append(_parity_in_gray(path, arrays, expected))
    return max(differences)


def _parity_in_gray(path: Path, arrays: dict[str, Array], expected: Array) -> float:
    """Mean |engine of gray levels - PyTorch|, which runs a file in parts where it says how."""
    images = {name: (255 * arrays[name][0, 0]).round().astype(np.uint8) for name in IMAGE_INPUTS}
    size_px = images[IMAGE_INPUTS[0]].shape[::-1]
    engine = open_gray_engine("openvino", model=path, size_px=size_px, threads=1)
    fused = engine.run(images=images, inputs={name: arrays[name] for name in arrays if name not in IMAGE_INPUTS})
    difference = float(np.abs(fused[OUTPUT] / 255 - expected[0, 0]).mean())
    engine.close()
    return difference


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stored as FP16, each followed by a cast, as OpenVINO's own compression does: half the file, same arithmetic."""
    casts = []
    for tensor in model.graph.initializer:
        values, name = onnx.numpy_helper.to_array(tensor), tensor.name
        if values.dtype == np.float32 and values.size >= 64:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + ".half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _quantized(model: onnx.ModelProto, pairs: Sequence[Pair], *, enhance: float) -> onnx.ModelProto:
    """The wide convolutions in INT8; the layers, which carry the picture itself, and the scalars stay float32."""
    try:
        import nncf
    except ImportError as error:
        raise ConfigError(f"INT8 needs nncf, which is not installed; run {install('quant')}") from error

    chosen = _calibration(pairs, enhance=enhance)
    dataset = nncf.Dataset(chosen)
    fixed = [node.name for node in model.graph.node if not any(part in node.name for part in QUANTIZED)]
    if len(fixed) == len(model.graph.node):
        raise ConfigError(f"the student has no part named {' or '.join(QUANTIZED)}, and that is what INT8 is for")
    nncf.set_log_level(logging.ERROR)  # it names every node that it leaves alone
    with contextlib.redirect_stdout(sys.stderr):  # for its progress
        quantized: onnx.ModelProto = nncf.quantize(
            model,
            dataset,
            subset_size=len(chosen),
            # symmetric, as TensorRT wants it; OpenVINO leaves a convolution of asymmetric input in floating point
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(names=fixed, validate=False),
        )
    return quantized


def _calibration(pairs: Sequence[Pair], *, enhance: float) -> list[dict[str, Array]]:
    """Inputs to calibrate with: about `CALIBRATION_PAIRS`, spread over the data and the dial."""
    random, step = np.random.default_rng(0), max(1, len(pairs) // CALIBRATION_PAIRS)
    # as in training: the few scenes of a training set do not show all brightnesses and contrasts that there are
    chosen = [vary(random, pair, pair, Variation())[0] for pair in pairs[::step]]
    dials = itertools.cycle((0.0, enhance, 1.0))
    return [_calibration_inputs(pair, dial) for pair, dial in zip(chosen, dials, strict=False)]


def _calibration_inputs(pair: Pair, enhance: float) -> dict[str, Array]:
    width, height = CALIBRATION_SIZE_PX

    def unit(image: npt.NDArray[np.uint8]) -> Array:
        part = image[:height, :width]
        whole = np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1])), mode="edge")
        return (whole / 255).astype(np.float32)[None, None]

    scalars = {"enhance": enhance, "visible_mean": pair.visible.mean() / 255, "thermal_mean": pair.thermal.mean() / 255}
    images = {"visible_y": unit(pair.visible), "thermal": unit(pair.thermal)}
    return images | {name: np.full((1, 1, 1, 1), value, np.float32) for name, value in scalars.items()}


def commit() -> str:
    """The commit of the code that exports, or ``unknown`` outside a checkout."""
    folder = Path(__file__).parent
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607
    return result.stdout.strip() if result.returncode == 0 else "unknown"
