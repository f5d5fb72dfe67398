"""A quantized student on a CPU in few passes: its learned part by OpenVINO in INT8, its fixed part by a compiled kernel.

As one graph, a student moves float32 planes of the size of the picture more than half of its time. A file that says how it
splits and mixes its pictures (`rtfusion.models.layers`) is cut where the numbers are few: both images go in as blocks of
4 x 4 pixels in 8 bits, which is how the first convolution takes them, and the gains of pixels come out in 8 bits. The
layers are those of the very file; the file as a whole graph is the reference, and `rtfusion.engines.parity` says how far
from it this may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as ops

from rtfusion.engines.base import Tensor
from rtfusion.engines.gray import GrayEngine, InputTensors, check_images
from rtfusion.engines.openvino import WHITE, OpenVinoGray, Request, fixed_network, the_core
from rtfusion.errors import EngineError, EngineUnavailable
from rtfusion.kernels.layers import GAIN_CHANNELS, HEAD_CHANNELS, PIXELS, SEEN_CHANNELS, CompiledLayers
from rtfusion.models.layers import Layers, find_layers
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, ModelSpec
from rtfusion.types import Image8

ENTER = "/trunk/enter/Conv/WithoutBiases"
"""The convolution that takes the blocks."""
FINE = ("/fine_visible/Conv", "/fine_thermal/Conv")
HEADS = "/heads/Conv"
FED = ("enhance", "visible_mean", "thermal_mean")
"""The inputs that the fixed part knows."""
WIDER = 2.0
"""Features for what is said of blocks are quantized over so much more than those for pixels: a base is far from the other, and
suffers from a feature that is cut off more than from one that is rounded."""

RESTS = {4: 5, 6: 7}
"""Logits of the base and of the offset move whole areas, so what rounding takes from their weights is said in another channel:
that of the other base, which is the same with the other sign, and an unused one."""

SEEN, GAINS, SAID = "layers:seen", "layers:gains", "layers:heads"
"""What the learned part takes and gives, by names that no contract has."""

Nodes = Mapping[str, Any]
Plane = npt.NDArray[np.float32]


def open_layered(*, model: Path, spec: ModelSpec, size_px: tuple[int, int], threads: int, precision: str) -> GrayEngine:
    """Load a model for images of any ``size_px`` in OpenVINO: in few passes where file and machine allow it, else as one graph.

    Raises:
        ModelError: other inputs or outputs than the contract says, or not for this size.
        EngineError: it fails to compile.
        ConfigError: no such precision on this processor.
    """
    opened: dict[str, Any] = {"model": model, "spec": spec, "size_px": size_px, "threads": threads}
    layers = find_layers(model)
    if layers is None:
        return OpenVinoGray(**opened, precision=precision)
    try:
        return LayeredGray(layers, **opened)
    except EngineUnavailable:
        whole = OpenVinoGray(**opened, precision=precision)
        whole.description += ", without kernels"
        return whole


class LayeredGray:
    """A `rtfusion.engines.gray.GrayEngine` of one student in two parts.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: the graph is not what its layers say, or fails to compile.
    """

    def __init__(self, layers: Layers, *, model: Path, spec: ModelSpec, size_px: tuple[int, int], threads: int) -> None:
        padded_px = spec.padded_px(size_px)
        self._layers = CompiledLayers(layers, size_px=size_px, padded_px=padded_px)
        network, ports = fixed_network(model, spec=spec, size_px=padded_px)
        self._tensors = InputTensors({name: shape for name, shape in ports.inputs.items() if name not in IMAGE_INPUTS})
        self._shape = size_px[::-1]
        grid = 1, *self._layers.grid
        self._seen = np.zeros((*grid, SEEN_CHANNELS), np.uint8)
        self._gains = np.zeros((*grid, GAIN_CHANNELS), np.uint8)
        self._heads = np.zeros((*grid, HEAD_CHANNELS), np.float32)
        others = {name: np.zeros(shape, np.float32) for name, shape in ports.outputs.items() if name != OUTPUT}
        made: dict[str, npt.NDArray[Any]] = {GAINS: self._gains, SAID: self._heads, **others}
        try:
            learned = learned_part(network, layers=layers)
        except (KeyError, ValueError, IndexError) as error:
            raise EngineError(f"{model} is not the graph that its layers are of: {error}") from error
        self._request = Request(learned, model=model, threads=threads, precision="f32", outputs=made)
        self._request.feed(SEEN, self._seen)
        self._takes = {port.any_name for port in learned.inputs}
        self._outputs = {OUTPUT: np.zeros(self._shape, np.uint8), **others}
        self.description = f"{self._request.description}, with kernels"

    def run(
        self, *, images: Mapping[str, Image8], inputs: Mapping[str, float | Tensor]
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Run the network once; see `rtfusion.engines.gray.GrayEngine`."""
        self._request.check_open()
        check_images(images, shape=self._shape)
        tensors = self._tensors.by_name(inputs)
        enhance, *means = (float(tensors[name].item()) for name in FED)
        self._layers.split(
            visible=images["visible_y"],
            thermal=images["thermal"],
            means=(means[0], means[1]),
            enhance=enhance,
            seen=self._seen,
        )
        for name, array in tensors.items():
            if name in self._takes:
                self._request.feed(name, array)
        self._request.infer()
        self._layers.join(gains=self._gains, heads=self._heads, fused=self._outputs[OUTPUT])
        return self._outputs

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._request.close()


def learned_part(network: openvino.Model, *, layers: Layers) -> openvino.Model:
    """Cut the learned part out of a quantized student, which it changes.

    Takes `SEEN`, (1, h, w, 40) uint8, and what else the learned part takes; gives `GAINS` of the pixels of both bands,
    (1, h, w, 32) uint8, over the ranges of the layers, `SAID`, the 8 numbers of a block, and every output beside the picture.

    Raises:
        KeyError, ValueError: a part is missing.
    """
    if missing := {*FED} - {port.any_name for port in network.inputs}:
        raise ValueError(f"it does not take {', '.join(sorted(missing))}")
    nodes = {node.get_friendly_name(): node for node in network.get_ordered_ops()}
    if _source(nodes[ENTER], 1, "Constant").get_element_type() != openvino.Type.i8:
        raise ValueError("its weights are not INT8")
    rows, columns = nodes[ENTER].output(0).shape[2:]
    seen = ops.parameter([1, rows, columns, SEEN_CHANNELS], np.uint8)
    seen.output(0).set_names({SEEN})
    unit = _moved(ops.multiply(ops.convert(seen, "f32"), _number(1 / WHITE)), 0, 3, 1, 2)
    # a quantization that changes nothing: with it, OpenVINO takes the bytes as they lie
    nodes[ENTER].input(0).replace_source_output(_quantized(unit, 0.0, 1.0).output(0))
    low, high = np.repeat(np.array([layers.visible_gains, layers.thermal_gains]), PIXELS, axis=0).T
    features = nodes[f"{FINE[0]}/WithoutBiases"].input_value(0)
    high_feature = float(_constant(_source(features.get_node(), 0, "FakeQuantize"), 2).item())
    gains = _head(features, nodes, FINE)
    levels = ops.fake_quantize(
        gains, *(_number(end.reshape(1, -1, 1, 1)) for end in (low, high)), _number(0), _number(WHITE), 256
    )
    wide = _quantized(nodes[f"{HEADS}/WithoutBiases"].input_value(0), 0.0, WIDER * high_feature)
    results = [
        _result(GAINS, ops.convert(_moved(levels, 0, 2, 3, 1), "u8")),
        _result(SAID, _moved(_head(wide, nodes, (HEADS,), rests=RESTS), 0, 2, 3, 1)),
        *(result for result in network.get_results() if OUTPUT not in result.input_value(0).get_names()),
    ]
    images = {*IMAGE_INPUTS}
    others = [port for port in network.get_parameters() if not images & port.output(0).get_names()]
    return openvino.Model(results, [seen, *(port for port in others if _is_used(port, results))])


def _is_used(port: Any, results: list[Any]) -> bool:
    """Ask whether a result depends on an input."""
    waiting, met = [*results], set()
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() == port.get_friendly_name():
            return True
        for value in node.input_values():
            source = value.get_node()
            if source.get_friendly_name() not in met:
                met.add(source.get_friendly_name())
                waiting.append(source)
    return False


def _head(features: Any, nodes: Nodes, names: tuple[str, ...], *, rests: Mapping[int, int] | None = None) -> Any:
    """Several convolutions of the features as one, in INT8; ``rests`` are channels for what rounding takes from others."""
    convolutions = [nodes[f"{name}/WithoutBiases"] for name in names]
    weights = np.concatenate([_value(layer.input_value(1)) for layer in convolutions])
    biases = np.concatenate([_source(nodes[name], 1, "Constant").get_data().ravel() for name in names])
    for channel, rest in (rests or {}).items():
        levels, scale = _in_8_bits(weights)
        weights[rest] = (weights - levels * scale)[channel]
        biases[rest] = 0
    levels, scale = _in_8_bits(weights)
    exact = ops.multiply(ops.convert(ops.constant(levels.astype(np.int8)), "f32"), _number(scale))
    pad = [weights.shape[2] // 2] * 2
    return ops.add(ops.convolution(features, exact, [1, 1], pad, pad, [1, 1]), _number(biases.reshape(1, -1, 1, 1)))


def _in_8_bits(weights: Plane) -> tuple[Plane, Plane]:
    """Whole numbers from -127 to 127, and for each channel the weight that one of them is."""
    scale = np.maximum(np.abs(weights).max(axis=(1, 2, 3), keepdims=True), 1e-9) / 127
    return np.rint(weights / scale), scale


def _source(node: Any, port: int, kind: str) -> Any:
    """The node of this kind that an input comes from, by its first inputs."""
    found = node.input_value(port).get_node()
    while found.get_type_name() != kind:
        found = found.input_value(0).get_node()
    return found


def _constant(node: Any, port: int) -> npt.NDArray[Any]:
    """The constant at one input of a node."""
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant":
        raise ValueError(f"{node.get_friendly_name()} takes no constant at {port}")
    return np.asarray(source.get_data())


def _value(output: Any) -> npt.NDArray[np.float32]:
    """Compute what does not depend on any input."""
    compiled = the_core().compile_model(openvino.Model([ops.result(output)], []), "CPU")
    return np.array(compiled([])[0], np.float32)


def _result(name: str, node: Any) -> Any:
    node.output(0).set_names({name})
    return ops.result(node)


def _number(value: float | npt.NDArray[Any]) -> Any:
    return ops.constant(np.asarray(value, np.float32))


def _moved(node: Any, *order: int) -> Any:
    return ops.transpose(node, ops.constant(np.array(order, np.int64)))


def _quantized(node: Any, low: float, high: float) -> Any:
    return ops.fake_quantize(node, _number(low), _number(high), _number(low), _number(high), 256)
