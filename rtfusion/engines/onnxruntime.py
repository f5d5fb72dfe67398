"""ONNX Runtime on the CPU, on CUDA and through TensorRT: the second engine, and the one with the most operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from rtfusion.engines.base import Shape, Tensor, check_inputs, check_interface, describe, image_shape
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT

FATAL_ONLY = 4
"""Log severity: what fails is raised, no need to print it as well."""
# The library's own exceptions have no common base, and a bound run raises the built-in one.
_OWN = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
_ERRORS: tuple[type[Exception], ...] = (RuntimeError, *_OWN)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""By device; what a provider cannot run falls to those before it."""


class OnnxRuntimeEngine:
    """A session with its inputs and output bound in place, for one size. Arrays stay on the host; providers copy."""

    def __init__(self, *, model: Path, size_px: tuple[int, int], threads: int, precision: str, device: str) -> None:
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime:{device}"
        if precision != "f32":
            raise ConfigError(f"no precision {precision!r} in ONNX Runtime, which computes as the model says; use f32")
        self._session: Any = _open(model, threads=threads, device=device)
        self._shapes = _shapes(self._session, model=model, size_px=size_px)
        self._binding = self._session.io_binding()
        self._output = np.zeros(image_shape(size_px), np.float32)
        self._binding.bind_ortvalue_output(OUTPUT, onnxruntime.OrtValue.ortvalue_from_numpy(self._output))
        self._fed: dict[str, Tensor] = {}
        version = onnxruntime.__version__
        self.description = (
            describe("ONNX Runtime", version, precision=precision, threads=threads)
            if device == "cpu"
            else f"ONNX Runtime {version} {PROVIDERS[device].removesuffix('ExecutionProvider')} {precision}"
        )
        self._try(model, size_px=size_px)

    def run(self, *, inputs: Mapping[str, Tensor]) -> Tensor:
        """Fuse once; see `Engine`."""
        if self._session is None:
            raise EngineError("the ONNX Runtime engine is closed; open it anew")
        check_inputs(inputs, shapes=self._shapes)
        for name, array in inputs.items():
            if self._fed.get(name) is not array:
                self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
                self._fed[name] = array
        try:
            self._session.run_with_iobinding(self._binding)
        except _ERRORS as error:
            raise EngineError(f"ONNX Runtime failed to run the model: {error}") from error
        return self._output

    def close(self) -> None:
        """Release the network; may be called twice."""
        self._session = self._binding = None
        self._fed.clear()

    def _try(self, model: Path, *, size_px: tuple[int, int]) -> None:
        """Run once on black images: a session learns only then whether it can take a size."""
        try:
            self.run(inputs={name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()})
        except EngineError as error:
            self.close()
            raise ModelError(f"{model} does not take {size_px[0]}x{size_px[1]} images: {error.__cause__}") from error


def _open(model: Path, *, threads: int, device: str) -> onnxruntime.InferenceSession:
    wanted = PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise EngineUnavailable(
            f"this ONNX Runtime has no {wanted} (it has {', '.join(onnxruntime.get_available_providers())}); "
            "run pip install onnxruntime-gpu in place of onnxruntime"
        )
    names = list(PROVIDERS.values())
    providers = names[names.index(wanted) :: -1]  # TensorRT leaves to CUDA, and CUDA to the CPU, what it cannot run
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    # Threads that spin while they wait take the core from the decoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    except _ERRORS as error:
        raise ModelError(f"ONNX Runtime cannot read {model}: {error}") from error
    if wanted not in session.get_providers():
        raise EngineError(
            f"ONNX Runtime fell back to {', '.join(session.get_providers())}: {wanted} does not start here; "
            "check the driver with nvidia-smi, and that CUDA and TensorRT are of the versions it was built for"
        )
    session.disable_fallback()
    check_interface(
        model=model,
        inputs=[port.name for port in session.get_inputs()],
        outputs=[port.name for port in session.get_outputs()],
    )
    return session


def _shapes(session: onnxruntime.InferenceSession, *, model: Path, size_px: tuple[int, int]) -> dict[str, Shape]:
    """The shape of every input for one size."""
    wanted = image_shape(size_px)
    shapes: dict[str, Shape] = {}
    for port in session.get_inputs():
        shape = wanted if port.name in IMAGE_INPUTS else tuple(port.shape)
        fits = len(shape) == len(port.shape) and all(
            not isinstance(declared, int) or declared == asked
            for declared, asked in zip(port.shape, shape, strict=True)
        )
        if not fits or port.type != "tensor(float)" or not all(isinstance(length, int) for length in shape):
            raise ModelError(f"{model}: {port.name} is {port.shape} {port.type}; expected {shape} float")
        shapes[port.name] = shape
    return shapes
