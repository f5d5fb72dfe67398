"""PyTorch, on the CPU or a CUDA device: the reference of the others, and the way of a model to torch_tensorrt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor as TorchTensor

from rtfusion.engines.base import Contract, Ports, Tensor, check_inputs, check_made, check_ports, describe
from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.models import ModelSpec
from rtfusion.models.spec import Shape

PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
"""The types that all of a model is brought to when asked for; ``auto`` leaves the types of the file."""
WARM_UPS = 3

Forward = Callable[[], dict[str, TorchTensor]]
"""Runs a network over inputs that stand where they are, and gives its outputs by name."""


class PyTorchEngine:
    """A module with its inputs and its outputs in place; on CUDA, captured as a graph."""

    name = "pytorch"

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
        self.name = "pytorch" if device == "cpu" else f"pytorch:{device}"
        module = load(model, device=device, precision=precision)
        self._ports = ports_of(module, model=model, spec=spec, size_px=size_px)
        if device == "cpu":
            torch.set_num_threads(threads)
        self._staged = {
            name: torch.zeros(shape, dtype=torch.float32, device=device) for name, shape in self._ports.inputs.items()
        }
        self._outputs = {name: np.zeros(shape, np.float32) for name, shape in self._ports.outputs.items()}
        self._taken = {name: torch.from_numpy(array) for name, array in self._outputs.items()}
        self._run: Forward | None = None
        self._fed: dict[str, tuple[Tensor, TorchTensor]] = {}
        forward = _converted(module, self._staged, dtype=PRECISIONS.get(precision, torch.float32))
        _try(forward, ports=self._ports, model=model, size_px=size_px)
        self._run = forward if device == "cpu" else captured(forward)
        version = torch.__version__.split("+")[0]
        precision = module.precision if precision == "auto" else precision
        self.description = (
            describe("PyTorch", version, model=model, precision=precision, threads=threads)
            if device == "cpu"
            else f"PyTorch {version} {torch.cuda.get_device_name()} {precision}"
        )

    def run(self, *, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the network once; see `Engine`."""
        if self._run is None:
            raise EngineError("the PyTorch engine is closed; open it anew")
        check_inputs(inputs, shapes=self._ports.inputs)
        try:
            for name, array in inputs.items():
                if name not in self._fed or self._fed[name][0] is not array:
                    self._fed[name] = array, torch.from_numpy(array)
                self._staged[name].copy_(self._fed[name][1])
            for name, made in self._run().items():
                self._taken[name].copy_(made)
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed to run the model: {_first_line(error)}") from error
        return self._outputs

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._run = None
        self._staged.clear()
        self._fed.clear()


class PyTorchNetwork:
    """A network of the CUDA fuser (`rtfusion.engines.base.DeviceNetwork`): a CUDA graph of PyTorch's own."""

    capturable = False  # it is a graph already

    def __init__(self, *, model: Path, spec: ModelSpec, size_px: tuple[int, int]) -> None:
        self._module = load(model, device="cuda", precision="auto")
        self._ports = ports_of(self._module, model=model, spec=spec, size_px=size_px)
        self._replay: Forward | None = None
        self.description = f"PyTorch {torch.__version__.split('+')[0]} {self._module.precision}"

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where inputs and outputs stand; captures the graph."""
        shapes = {**self._ports.inputs, **self._ports.outputs}
        if addresses.keys() != shapes.keys():
            raise EngineError(f"bound {', '.join(addresses)}; the network has {', '.join(shapes)}")
        planes = {name: _at(addresses[name], shape) for name, shape in shapes.items()}
        forward = _converted(self._module, {name: planes[name] for name in self._ports.inputs}, dtype=torch.float32)

        def into_place() -> dict[str, TorchTensor]:
            return {name: planes[name].copy_(made) for name, made in forward().items()}

        try:
            self._replay = captured(into_place)
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed to capture the model: {_first_line(error)}") from error

    def enqueue(self, stream: int) -> None:
        """Replay on a CUDA stream."""
        if self._replay is None:
            raise EngineError("the PyTorch network is closed, or was never bound")
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
                self._replay()
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed to run the model: {_first_line(error)}") from error

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._replay = None


def load(model: Path, *, device: str, precision: str) -> OnnxModule:
    """The module of a model file on a device, with its weights in a precision; ``auto`` computes in the types of the file.

    Raises:
        ConfigError: no such precision, or not on that device.
        EngineUnavailable: PyTorch sees no CUDA device.
    """
    if precision not in (*PRECISIONS, "auto") or (device == "cpu" and precision == "f16"):
        names = [name for name in PRECISIONS if device != "cpu" or name != "f16"]
        raise ConfigError(f"no precision {precision!r} in PyTorch on {device}; there are {', '.join(names)}")
    if device != "cpu" and not torch.cuda.is_available():
        raise EngineUnavailable("PyTorch sees no CUDA device: a CPU build, or no driver; see `rtfusion doctor`")
    module = OnnxModule(model, typed=precision == "auto").eval().to(device=device, dtype=PRECISIONS.get(precision))
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # not declared


class Listed(torch.nn.Module):
    """A module whose outputs are a tuple, in the order of ``names``."""

    def __init__(self, module: OnnxModule, *, names: Sequence[str]) -> None:
        super().__init__()
        self._module, self._listed = module, names

    def forward(self, **inputs: TorchTensor) -> tuple[TorchTensor, ...]:
        """Every input by name to every output, in order."""
        made = self._module(**inputs)
        return tuple(made[name] for name in self._listed)


def ports_of(module: OnnxModule, *, model: Path, spec: Contract | None, size_px: tuple[int, int]) -> Ports:
    """The shapes of a module for images of one size; see `rtfusion.engines.base.check_ports`."""
    return check_ports(model=model, spec=spec, size_px=size_px, inputs=module.inputs, outputs=module.outputs)


def _converted(module: OnnxModule, inputs: Mapping[str, TorchTensor], *, dtype: torch.dtype) -> Forward:
    """The module over fixed float32 inputs, giving float32."""

    def forward() -> dict[str, TorchTensor]:
        with torch.inference_mode():
            made = module(**{name: value.to(dtype) for name, value in inputs.items()})
            return {name: value.float() for name, value in made.items()}

    return forward


def _try(forward: Forward, *, ports: Ports, model: Path, size_px: tuple[int, int]) -> None:
    """Run once, to learn whether the network can take the size, and what it makes of it."""
    try:
        made = forward()
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{model} does not take {size_px[0]}x{size_px[1]} images: {_first_line(error)}") from error
    check_made({name: tuple(value.shape) for name, value in made.items()}, ports=ports, model=model)


def captured(forward: Forward) -> Forward:
    """``forward`` as a CUDA graph: run a few times first, as capturing needs, then recorded."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            forward()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = forward()

    def replay() -> dict[str, TorchTensor]:
        graph.replay()
        return result

    return replay


class _Address:
    """Device memory of somebody else, as PyTorch takes it."""

    def __init__(self, address: int, shape: Shape) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}


def _at(address: int, shape: Shape) -> TorchTensor:
    return torch.as_tensor(_Address(address, shape), device="cuda")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unknown reason"])[0]
