"""OpenVINO on the CPU: the default engine."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Importing OpenVINO starts a thread that reports the import to its makers. rtfusion reports nothing to anybody: without that
# package, OpenVINO does without it, by its own fallback.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino import opset13 as ops  # noqa: E402
from openvino import preprocess  # noqa: E402

from rtfusion.engines.base import (  # noqa: E402
    FLOAT,
    Contract,
    Port,
    Ports,
    Tensor,
    check_inputs,
    check_made,
    check_ports,
    describe,
)
from rtfusion.engines.gray import InputTensors, check_images, padded  # noqa: E402
from rtfusion.errors import ConfigError, EngineError, ModelError  # noqa: E402
from rtfusion.models.onnx_file import is_quantized  # noqa: E402
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, ModelSpec  # noqa: E402
from rtfusion.types import Image8  # noqa: E402

VERSION = openvino.__version__.split("-")[0]
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
WHITE = 255.0
NOT_TELLING = ("Exception from", "Check '", "While validating", "FrontEnd API failed")


class OpenVinoEngine:
    """A network compiled for one size; inputs and outputs are used in place, nothing is copied."""

    name = "openvino"

    def __init__(
        self, *, model: Path, spec: Contract | None, size_px: tuple[int, int], threads: int, precision: str
    ) -> None:
        network, self._ports = fixed_network(model, spec=spec, size_px=size_px)
        self._outputs = {name: np.zeros(shape, np.float32) for name, shape in self._ports.outputs.items()}
        self._request = Request(network, model=model, threads=threads, precision=precision, outputs=self._outputs)
        self.description = self._request.description

    def run(self, *, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the network once; see `Engine`."""
        self._request.check_open()
        check_inputs(inputs, shapes=self._ports.inputs)
        for name, array in inputs.items():
            self._request.feed(name, array)
        self._request.infer()
        return self._outputs

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._request.close()


class OpenVinoGray:
    """A `rtfusion.engines.gray.GrayEngine` whose network converts gray levels itself: frames go in without a copy."""

    def __init__(self, *, model: Path, spec: ModelSpec, size_px: tuple[int, int], threads: int, precision: str) -> None:
        padded_px = spec.padded_px(size_px)
        network, ports = fixed_network(model, spec=spec, size_px=padded_px)
        self._tensors = InputTensors({name: shape for name, shape in ports.inputs.items() if name not in IMAGE_INPUTS})
        self._padded = {name: np.zeros(padded_px[::-1], np.uint8) for name in IMAGE_INPUTS}
        outputs: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(shape, np.uint8 if name == OUTPUT else np.float32) for name, shape in ports.outputs.items()
        }
        self._shape = size_px[::-1]
        self._outputs = {**outputs, OUTPUT: outputs[OUTPUT][0, 0, : size_px[1], : size_px[0]]}
        network = _in_gray_levels(network)
        self._request = Request(network, model=model, threads=threads, precision=precision, outputs=outputs)
        self.description = self._request.description

    def run(
        self, *, images: Mapping[str, Image8], inputs: Mapping[str, float | Tensor]
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Run the network once; see `rtfusion.engines.gray.GrayEngine`."""
        self._request.check_open()
        check_images(images, shape=self._shape)
        for name, image in images.items():
            self._request.feed(name, padded(image, into=self._padded[name])[None, None])
        for name, array in self._tensors.by_name(inputs).items():
            self._request.feed(name, array)
        self._request.infer()
        return self._outputs

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._request.close()


class Request:
    """A compiled network whose inputs and outputs are arrays of ours."""

    def __init__(
        self,
        network: openvino.Model,
        *,
        model: Path,
        threads: int,
        precision: str,
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        core = the_core()
        if precision == "auto":
            # OpenVINO 2026.4 compiles nothing quantized in f16
            in_half = computes_in_half() and _is_half(network) and not is_quantized(model)
            precision = "f16" if in_half else "f32"
        _check_precision(core, precision)
        # Left to itself OpenVINO takes bf16 where the CPU has it. Pinned threads would fight the decoders for a core.
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = core.compile_model(network, "CPU", options)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed to compile {model}: {_reason(error)}") from error
        for name, array in outputs.items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._outputs = outputs  # kept as long as they may be written: OpenVINO does not hold them
        self._fed: dict[str, npt.NDArray[Any]] = {}
        # It takes no more threads than there are cores.
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        self.description = describe("OpenVINO", VERSION, model=model, precision=precision, threads=threads)

    def check_open(self) -> None:
        """Raise EngineError if it is closed."""
        if self._request is None:
            raise EngineError("the OpenVINO engine is closed; open it anew")

    def feed(self, name: str, array: npt.NDArray[Any]) -> None:
        """Let the network read this array, which is kept until another one comes."""
        if self._fed.get(name) is not array:
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
            self._fed[name] = array

    def infer(self) -> None:
        """Run the network on what it was fed.

        Raises:
            EngineError: the runtime failed.
        """
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed to run the model: {_reason(error)}") from error

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._request = None
        self._fed.clear()


@functools.cache
def the_core() -> openvino.Core:
    """The one core of this process, which is never let go.

    Every core makes a CPU plugin of its own, which gives the thread that made it an alternate signal stack and on its end puts
    back the one from before (seen in OpenVINO 2026.4.1). Ended in another order than made, they leave a stack that is freed,
    and the next Ctrl-C is a segmentation fault.
    """
    return openvino.Core()


def _let_idle_threads_go() -> None:
    """Keep a process that is about to be forked off from waiting for threads that it will not have.

    OpenVINO keeps the threads of a closed network for the next one like it (seen in 2026.4.1), which in the forked process
    would wait for them for ever. The end of any CPU plugin lets the idle ones go; this one is made and ended in one thread, so
    it leaves the signal stack as it was.
    """
    if the_core.cache_info().currsize:
        openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


os.register_at_fork(before=_let_idle_threads_go)


def computes_in_half() -> bool:
    """Ask whether this processor computes in f16 itself."""
    return CAPABILITIES["f16"] in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def admissible() -> tuple[str, ...]:
    """The precisions that a shipped model can be run in here, by what OpenVINO says of the processor; not all need be fast."""
    has = the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return (*(name for name, capability in CAPABILITIES.items() if capability in has), "int8")


def _is_half(network: openvino.Model) -> bool:
    """Ask whether the network has weights in f16."""
    return any(
        node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f16
        for node in network.get_ops()
    )


def _check_precision(core: openvino.Core, precision: str) -> None:
    if precision not in CAPABILITIES:
        raise ConfigError(f"no precision {precision!r} in OpenVINO; there are {', '.join(CAPABILITIES)}")
    has = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if CAPABILITIES[precision] not in has:
        raise ConfigError(f"this processor does not compute in {precision}; use f32 (OpenVINO names {', '.join(has)})")


def _in_gray_levels(network: openvino.Model) -> openvino.Model:
    """The network with images of uint8: the conversions run as part of its own first and last steps."""
    before = preprocess.PrePostProcessor(network)
    for name in IMAGE_INPUTS:
        before.input(name).tensor().set_element_type(openvino.Type.u8)
        before.input(name).preprocess().convert_element_type(openvino.Type.f32).scale(WHITE)
    network = before.build()
    result = next(result for result in network.get_results() if OUTPUT in result.input_value(0).get_names())
    levels = ops.multiply(result.input_value(0), ops.constant(np.float32(WHITE)))
    levels = ops.convert(ops.clamp(ops.round(levels, "half_to_even"), 0.0, WHITE), "u8")
    levels.output(0).set_names({OUTPUT})
    network.remove_result(result)
    network.add_results([ops.result(levels)])
    return network


def fixed_network(model: Path, *, spec: Contract | None, size_px: tuple[int, int]) -> tuple[openvino.Model, Ports]:
    """The network of a file, made static for one size, and its shapes."""
    try:
        network = the_core().read_model(str(model))
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot read {model}: {_reason(error)}") from error
    # images of one fixed size are no hindrance: they are reshaped below
    free = {name: Port((1, 1, None, None)) for name in IMAGE_INPUTS}
    inputs = {name: free.get(name, port) for name, port in _declared(network.inputs).items()}
    ports = check_ports(model=model, spec=spec, size_px=size_px, inputs=inputs, outputs=_declared(network.outputs))
    try:
        network.reshape({name: list(shape) for name, shape in ports.inputs.items()})
        check_made({name: tuple(network.output(name).shape) for name in ports.outputs}, ports=ports, model=model)
    except RuntimeError as error:
        raise ModelError(f"{model} does not take {size_px[0]}x{size_px[1]} images: {_reason(error)}") from error
    return network, ports


def _declared(ports: Sequence[Any]) -> dict[str, Port]:
    """Read what a network says of its inputs, or of its outputs."""
    found = {}
    for port in ports:
        dims = tuple(dim.get_length() if dim.is_static else None for dim in port.partial_shape)
        found[port.any_name] = Port(dims, FLOAT if port.element_type == openvino.Type.f32 else str(port.element_type))
    return found


def _reason(error: RuntimeError) -> str:
    """The telling line of an OpenVINO message, which comes with source files and line numbers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(NOT_TELLING)]
    return (telling or lines or ["unknown reason"])[0]
