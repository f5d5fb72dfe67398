"""OpenVINO on the CPU: the default engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Importing OpenVINO starts a thread that reports the import to its makers. rtfusion reports nothing to anybody: without that
# package, OpenVINO does without it, by its own fallback.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

from rtfusion.engines.base import Shape, Tensor, check_inputs, check_interface, describe, image_shape  # noqa: E402
from rtfusion.errors import ConfigError, EngineError, ModelError  # noqa: E402
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT  # noqa: E402

CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
NOT_TELLING = ("Exception from", "Check '", "While validating", "FrontEnd API failed")


class OpenVinoEngine:
    """A network compiled for one size; inputs and output are used in place, nothing is copied."""

    name = "openvino"

    def __init__(self, *, model: Path, size_px: tuple[int, int], threads: int, precision: str) -> None:
        core = openvino.Core()
        _check_precision(core, precision)
        network = _read(core, model)
        self._shapes = _fix_shapes(network, model=model, size_px=size_px)
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
        self._output = np.zeros(image_shape(size_px), np.float32)
        self._request.set_tensor(OUTPUT, openvino.Tensor(self._output, shared_memory=True))
        self._fed: dict[str, Tensor] = {}
        # It takes no more threads than there are cores.
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        version = openvino.__version__.split("-")[0]
        self.description = describe("OpenVINO", version, precision=precision, threads=threads)

    def run(self, *, inputs: Mapping[str, Tensor]) -> Tensor:
        """Fuse once; see `Engine`."""
        if self._request is None:
            raise EngineError("the OpenVINO engine is closed; open it anew")
        check_inputs(inputs, shapes=self._shapes)
        for name, array in inputs.items():
            if self._fed.get(name) is not array:
                self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
                self._fed[name] = array
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed to run the model: {_reason(error)}") from error
        return self._output

    def close(self) -> None:
        """Release the network; may be called twice."""
        self._request = None
        self._fed.clear()


def _check_precision(core: openvino.Core, precision: str) -> None:
    if precision not in CAPABILITIES:
        raise ConfigError(f"no precision {precision!r} in OpenVINO; there are {', '.join(CAPABILITIES)}")
    has = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if CAPABILITIES[precision] not in has:
        raise ConfigError(f"this processor does not compute in {precision}; use f32 (OpenVINO names {', '.join(has)})")


def _read(core: openvino.Core, model: Path) -> openvino.Model:
    try:
        network = core.read_model(str(model))
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot read {model}: {_reason(error)}") from error
    check_interface(
        model=model,
        inputs=[port.any_name for port in network.inputs],
        outputs=[port.any_name for port in network.outputs],
    )
    return network


def _fix_shapes(network: openvino.Model, *, model: Path, size_px: tuple[int, int]) -> dict[str, Shape]:
    """Make the network static for one size; gives the shape of every input."""
    wanted = image_shape(size_px)
    try:
        network.reshape({name: list(wanted) for name in IMAGE_INPUTS})
    except RuntimeError as error:
        raise ModelError(f"{model} does not take {size_px[0]}x{size_px[1]} images: {_reason(error)}") from error
    for port in [*network.inputs, *network.outputs]:
        if port.partial_shape.is_dynamic or port.element_type != openvino.Type.f32:
            raise ModelError(
                f"{model}: {port.any_name} is {port.partial_shape} {port.element_type}; expected static f32"
            )
    if tuple(network.output(OUTPUT).shape) != wanted:
        raise ModelError(
            f"{model} makes {tuple(network.output(OUTPUT).shape)} of {wanted} images; expected the same size"
        )
    return {port.any_name: tuple(port.shape) for port in network.inputs}


def _reason(error: RuntimeError) -> str:
    """The telling line of an OpenVINO message, which comes with source files and line numbers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(NOT_TELLING)]
    return (telling or lines or ["unknown reason"])[0]
