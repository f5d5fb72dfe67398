"""TensorRT: networks built on this device, for this device, kept in the store, checked with a golden input when loaded.

Networks are strongly typed: the precision is the model file's, so that one way of building serves TensorRT 10 and 11.
A build goes through TensorRT's own ONNX parser, or through torch_tensorrt; both end in one raw engine that needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion.cuda.device import SETUP_TIMEOUT_S, Device
from rtfusion.engines.base import FLOAT, Port, Ports, Tensor, check_inputs, check_ports, contract_ports
from rtfusion.engines.host import open_host_engine, resolve
from rtfusion.engines.parity import check, golden_inputs
from rtfusion.engines.store import EngineStore, Stored
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.installing import install
from rtfusion.models import ModelSpec, ScalarInput, read_spec
from rtfusion.portable import usable_cores

ARITHMETIC = "tf32"
"""The arithmetic of float32 layers where the device has it; float16 and INT8 are allowed as much (`parity.TOLERANCES`)."""
WORKSPACE_BYTES = 1 << 30
VIAS = ("onnx", "torch")
L4T = Path("/etc/nv_tegra_release")
Progress = Callable[[str, int, int], None]
"""Called with the phase of a build, the step and the number of steps."""
_logger = logging.getLogger(__name__)


class TensorRtNetwork:
    """An engine and its one execution context (`rtfusion.engines.base.DeviceNetwork`).

    Raises:
        EngineError: it is for another device or version, or does not fit into memory.
        ModelError: it has other inputs or outputs than the contract of its model says.
    """

    capturable = True

    def __init__(self, plan: bytes, *, model: Path, spec: ModelSpec, size_px: tuple[int, int]) -> None:
        trt = _tensorrt()
        self._runtime = trt.Runtime(_trt_logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError("it was built for another device or version of TensorRT")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError("there is no room for it on the device")
        self._names: dict[str, str] = {}
        """Names in the engine by names in the contract."""
        self.ports = self._checked(trt, model=model, spec=spec, size_px=size_px)
        self.description = f"TensorRT {trt.__version__}"

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where inputs and outputs stand."""
        if addresses.keys() != self._names.keys():
            raise EngineError(f"bound {', '.join(addresses)}; the network has {', '.join(self._names)}")
        for name, shape in self.ports.inputs.items():
            if not self._context.set_input_shape(self._names[name], shape):
                raise EngineError(f"TensorRT refuses the shape {shape} of {name}")
        for name, address in addresses.items():
            if not self._context.set_tensor_address(self._names[name], address):
                raise EngineError(f"TensorRT refuses the address of {name}")

    def enqueue(self, stream: int) -> None:
        """Put one run on a CUDA stream."""
        if self._context is None:
            raise EngineError("the TensorRT network is closed; open it anew")
        if not self._context.execute_async_v3(stream):
            raise EngineError("TensorRT refused to run; what it said stands in the log above")

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._context = self._engine = self._runtime = None

    def _checked(self, trt: Any, *, model: Path, spec: ModelSpec, size_px: tuple[int, int]) -> Ports:
        inputs: dict[str, Port] = {}
        outputs: dict[str, Port] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dims = tuple(None if length < 0 else length for length in self._engine.get_tensor_shape(name))
            dtype = self._engine.get_tensor_dtype(name)
            is_output = self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
            (outputs if is_output else inputs)[name] = Port(dims, FLOAT if dtype == trt.float32 else str(dtype))
        # torch_tensorrt calls them output0, output1 and so on, in the order that they were given in: that of the contract
        given = list(outputs) if outputs.keys() == spec.outputs.keys() else list(spec.outputs)
        self._names = {**{name: name for name in inputs}, **dict(zip(given, outputs, strict=False))}
        if len(given) == len(outputs):
            outputs = dict(zip(given, outputs.values(), strict=True))
        return check_ports(model=model, spec=spec, size_px=size_px, inputs=inputs, outputs=outputs)


class TensorRtEngine:
    """A network with inputs and outputs in host memory: for the golden check, for parity, and for the fuser of the host."""

    name = "tensorrt"

    def __init__(self, *, model: Path, size_px: tuple[int, int], precision: str, device: Device | None = None) -> None:
        if precision != "f32":
            raise ConfigError(f"no precision {precision!r} in TensorRT, which computes as the model file says; use f32")
        self._device = device or Device()
        self._owns_device = device is None
        self._runner: _Runner | None = None
        try:
            network = open_stored(model=model, size_px=size_px, device=self._device)
            self._runner = _Runner(self._device, network)
        except BaseException:
            self.close()
            raise
        self.description = f"{network.description} on {self._device.description}"

    def run(self, *, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the network once; see `Engine`."""
        if self._runner is None:
            raise EngineError("the TensorRT engine is closed; open it anew")
        return self._runner.run(inputs)

    def close(self) -> None:
        """Release the network and the device. Idempotent."""
        if self._runner is not None:
            self._runner.close(with_network=True)
            self._runner = None
        if self._owns_device:
            self._device.close()


def open_stored(
    *, model: Path, size_px: tuple[int, int], device: Device, store: EngineStore | None = None
) -> TensorRtNetwork:
    """The network of a model for images of one size, from the store, or built now, which takes minutes.

    Raises:
        EngineError: it cannot be built, or what was built does not give what it should.
    """
    return build(model=model, size_px=size_px, device=device, store=store)


def build(
    *,
    model: Path,
    size_px: tuple[int, int],
    device: Device,
    store: EngineStore | None = None,
    via: str = "onnx",
    force: bool = False,
    progress: Progress | None = None,
) -> TensorRtNetwork:
    """Open the network as `open_stored` does.

    ``via`` is one of `VIAS`, ``force`` builds anew, and ``progress`` is told how a build goes on.
    """
    if via not in VIAS:
        raise ConfigError(f"no way {via!r} to build; there are {', '.join(VIAS)}")
    store = store or EngineStore()
    parts = key_parts(model, size_px=size_px, device=device, via=via)
    with store.locked(parts):
        stored = None if force else store.get(parts)
        if stored is not None:
            try:
                return _checked(stored, model=model, size_px=size_px, device=device)
            except EngineError as error:
                store.drop(parts, reason=str(error))
        _logger.info("building %s for %dx%d images through %s; this takes minutes", model, *size_px, via)
        started_s = time.monotonic()
        make = _build_from_onnx if via == "onnx" else _build_through_torch
        stored = Stored(plan=make(model, size_px, progress), golden=_golden(model, size_px))
        try:
            network = _checked(stored, model=model, size_px=size_px, device=device)
        except EngineError as error:
            raise EngineError(f"{model} was built, but {error}") from error
        build_s = time.monotonic() - started_s
        path = store.put(parts, stored, build_s=build_s)
        _logger.info("built in %.0f s: %s (%.1f MB)", build_s, path, len(stored.plan) / 1e6)
        return network


def key_parts(model: Path, *, size_px: tuple[int, int], device: Device, via: str) -> dict[str, str]:
    """Name everything that can change an engine."""
    trt = _tensorrt()
    return {
        **device.identity,
        "model": hashlib.sha256(model.read_bytes()).hexdigest(),
        "size": f"{size_px[0]}x{size_px[1]}",
        "tensorrt": str(trt.__version__),
        "torch_tensorrt": _torch_tensorrt().__version__ if via == "torch" else "",
        "l4t": L4T.read_text(encoding="utf-8").strip() if L4T.exists() else "",
        "flags": f"strongly typed, {WORKSPACE_BYTES} bytes of workspace, {via}",
    }


def _checked(stored: Stored, *, model: Path, size_px: tuple[int, int], device: Device) -> TensorRtNetwork:
    """The network of an entry, after it gave for the golden input what it has to."""
    spec = read_spec(model)
    network = TensorRtNetwork(stored.plan, model=model, spec=spec, size_px=size_px)
    runner = _Runner(device, network)
    try:
        got = runner.run(golden_inputs(spec, size_px=size_px))
        check(got, stored.golden, arithmetic=ARITHMETIC)
    except BaseException:
        runner.close(with_network=True)
        raise
    runner.close(with_network=False)
    return network


def _golden(model: Path, size_px: tuple[int, int]) -> dict[str, Tensor]:
    """Let a CPU engine run the golden input."""
    spec, threads = read_spec(model), len(usable_cores())
    engine = open_host_engine(
        resolve("auto"), model=model, spec=spec, size_px=size_px, threads=threads, precision="f32"
    )
    try:
        outputs = engine.run(inputs=golden_inputs(spec, size_px=size_px))
        return {name: output.copy() for name, output in outputs.items()}
    finally:
        engine.close()


class _Runner:
    """Runs a network from arrays to arrays, one step after the other."""

    def __init__(self, device: Device, network: TensorRtNetwork) -> None:
        self._device, self._network = device, network
        self._outputs = {name: np.zeros(shape, np.float32) for name, shape in network.ports.outputs.items()}
        self._allocations: dict[str, Any] = {}
        self._stream: Any = None
        device.call(self._open, timeout_s=SETUP_TIMEOUT_S)

    def run(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        check_inputs(inputs, shapes=self._network.ports.inputs)
        self._device.call(self._run, inputs, timeout_s=SETUP_TIMEOUT_S)  # the first run may load kernels
        return self._outputs

    def close(self, *, with_network: bool) -> None:
        self._device.call(self._free, with_network)

    def _open(self) -> None:
        cuda = self._device.cuda
        self._stream = cuda.Stream(1)
        ports = self._network.ports
        for name, shape in {**ports.inputs, **ports.outputs}.items():
            self._allocations[name] = cuda.mem_alloc(int(np.prod(shape)) * np.dtype(np.float32).itemsize)
        self._network.bind({name: int(allocation) for name, allocation in self._allocations.items()})

    def _run(self, inputs: Mapping[str, Tensor]) -> None:
        cuda = self._device.cuda
        for name, array in inputs.items():
            cuda.memcpy_htod(self._allocations[name], array)
        cuda.Context.synchronize()  # the copy may be on its way still, and the stream does not wait for it
        self._network.enqueue(self._stream.handle)
        self._stream.synchronize()
        for name, array in self._outputs.items():
            cuda.memcpy_dtoh(array, self._allocations[name])

    def _free(self, with_network: bool) -> None:
        if with_network:
            self._network.close()
        for allocation in self._allocations.values():
            allocation.free()
        self._allocations.clear()
        self._stream = None


# --- building ---


def _build_from_onnx(model: Path, size_px: tuple[int, int], progress: Progress | None) -> bytes:
    trt = _tensorrt()
    logger = _trt_logger(trt)
    builder = trt.Builder(logger)
    # of no effect in TensorRT 11, where every network is strongly typed
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.read_bytes()):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ModelError(f"TensorRT cannot read {model}: {errors or 'no reason given'}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    profile = builder.create_optimization_profile()
    for name, port in read_spec(model).inputs.items():
        if not isinstance(port, ScalarInput):
            profile.set_shape(name, *[port.shape(size_px)] * 3)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT failed to build {model}; what it said stands in the log above")
    return bytes(plan)


def _build_through_torch(model: Path, size_px: tuple[int, int], progress: Progress | None) -> bytes:
    """Make the file an exported program, and that one raw engine; every operator has to convert."""
    torch_tensorrt = _torch_tensorrt()
    import torch

    from rtfusion.engines import pytorch

    spec = read_spec(model)
    shapes = contract_ports(spec, size_px=size_px).inputs
    module = pytorch.Listed(pytorch.load(model, device="cuda", precision="auto"), names=list(spec.outputs))
    inputs = {name: torch.zeros(shape, device="cuda") for name, shape in shapes.items()}
    try:
        with torch.inference_mode():
            exported = torch.export.export(module, (), kwargs=inputs)
        plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            exported,
            arg_inputs=[],
            kwarg_inputs={name: torch_tensorrt.Input(shape, dtype=torch.float32) for name, shape in shapes.items()},
            workspace_size=WORKSPACE_BYTES,
            require_full_compilation=True,
        )
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise EngineError(f"torch_tensorrt failed to build {model}: {error}") from error
    return bytes(plan)


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # TensorRT has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 0)
            progress(phase_name, steps, steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step, self._steps.get(phase_name, 0))
            return True  # go on

    return Monitor()


def _trt_logger(trt: Any) -> Any:
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # TensorRT has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            _logger.log(levels.get(severity, logging.DEBUG), "TensorRT: %s", message)

    return Logger()


def _tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise EngineUnavailable(
            f"TensorRT does not load ({error}); on a Jetson it comes with JetPack, elsewhere run pip install tensorrt"
        ) from error
    return tensorrt


def _torch_tensorrt() -> Any:
    try:
        import torch_tensorrt
    except Exception as error:  # a bare one, where TensorRT's library is missing
        raise EngineUnavailable(
            f"torch_tensorrt does not load ({error}); run {install('tensorrt')}, or build with --via onnx"
        ) from error
    return torch_tensorrt
