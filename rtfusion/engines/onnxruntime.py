"""ONNX Runtime on the CPU, on CUDA and through TensorRT: the second engine, and the one with the most operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from rtfusion.engines.base import FLOAT, Contract, Port, Tensor, check_inputs, check_ports, describe
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError

FATAL_ONLY = 4
"""Log severity: what fails is raised, no need to print it as well."""
# The library's own exceptions have no common base, and a bound run raises the built-in one.
_OWN = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
_ERRORS: tuple[type[Exception], ...] = (RuntimeError, *_OWN)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Execution providers by device; a step that one cannot run falls to those before it."""


class OnnxRuntimeEngine:
    """A session with its inputs and outputs bound in place, for one size. Arrays stay on the host; providers copy."""

    def __init__(
        self,
        *,
        model: Path,
        spec: Contract | None,
        size_px: tuple[int, int],
        threads: int,
        precision: str,
        device: str,
    ) -> None:
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime:{device}"
        if precision != "f32":
            raise ConfigError(f"no precision {precision!r} in ONNX Runtime, which computes as the model says; use f32")
        self._session: Any = _open(model, threads=threads, device=device)
        self._ports = check_ports(
            model=model,
            spec=spec,
            size_px=size_px,
            inputs=_declared(self._session.get_inputs()),
            outputs=_declared(self._session.get_outputs()),
        )
        self._binding = self._session.io_binding()
        self._outputs = {name: np.zeros(shape, np.float32) for name, shape in self._ports.outputs.items()}
        for name, array in self._outputs.items():
            self._binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._fed: dict[str, Tensor] = {}
        version = onnxruntime.__version__
        self.description = (
            describe("ONNX Runtime", version, model=model, precision=precision, threads=threads)
            if device == "cpu"
            else f"ONNX Runtime {version} {PROVIDERS[device].removesuffix('ExecutionProvider')} {precision}"
        )
        self._try(model, size_px=size_px)

    def run(self, *, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the network once; see `Engine`."""
        if self._session is None:
            raise EngineError("the ONNX Runtime engine is closed; open it anew")
        check_inputs(inputs, shapes=self._ports.inputs)
        for name, array in inputs.items():
            if self._fed.get(name) is not array:
                self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
                self._fed[name] = array
        try:
            self._session.run_with_iobinding(self._binding)
        except _ERRORS as error:
            raise EngineError(f"ONNX Runtime failed to run the model: {error}") from error
        return self._outputs

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._session = self._binding = None
        self._fed.clear()

    def _try(self, model: Path, *, size_px: tuple[int, int]) -> None:
        """Run once on black images: a session learns only then whether it can take a size."""
        try:
            self.run(inputs={name: np.zeros(shape, np.float32) for name, shape in self._ports.inputs.items()})
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
    return session


def _declared(ports: Sequence[Any]) -> dict[str, Port]:
    """Read what a session says of its inputs, or of its outputs."""
    return {port.name: Port(tuple(port.shape), FLOAT if port.type == "tensor(float)" else port.type) for port in ports}
