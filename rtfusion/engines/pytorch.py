"""PyTorch, on the CPU or a CUDA device: the reference of the others, and the way of a model to torch_tensorrt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor as TorchTensor

from rtfusion.engines.base import Shape, Tensor, check_inputs, describe, image_shape
from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT

PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
WARM_UPS = 3


class PyTorchEngine:
    """A module with its inputs and its output in place; on CUDA, captured as a graph."""

    name = "pytorch"

    def __init__(self, *, model: Path, size_px: tuple[int, int], threads: int, precision: str, device: str) -> None:
        self.name = "pytorch" if device == "cpu" else f"pytorch:{device}"
        module = load(model, device=device, precision=precision)
        self._shapes = input_shapes(module.declared, model=model, size_px=size_px)
        if device == "cpu":
            torch.set_num_threads(threads)
        self._staged = {
            name: torch.zeros(shape, dtype=torch.float32, device=device) for name, shape in self._shapes.items()
        }
        self._output = np.zeros(image_shape(size_px), np.float32)
        self._run: Callable[[], TorchTensor] | None = None
        self._fed: dict[str, tuple[Tensor, TorchTensor]] = {}
        forward = _converted(module, self._staged, dtype=PRECISIONS[precision])
        try:
            made = tuple(forward().shape)
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"{model} does not take {size_px[0]}x{size_px[1]} images: {_first_line(error)}") from error
        if made != self._output.shape:
            raise ModelError(f"{model} makes {made} of {self._output.shape} images; expected the same size")
        self._run = forward if device == "cpu" else _captured(forward)
        version = torch.__version__.split("+")[0]
        self.description = (
            describe("PyTorch", version, precision=precision, threads=threads)
            if device == "cpu"
            else f"PyTorch {version} {torch.cuda.get_device_name()} {precision}"
        )

    def run(self, *, inputs: Mapping[str, Tensor]) -> Tensor:
        """Fuse once; see `Engine`."""
        if self._run is None:
            raise EngineError("the PyTorch engine is closed; open it anew")
        check_inputs(inputs, shapes=self._shapes)
        try:
            for name, array in inputs.items():
                if name not in self._fed or self._fed[name][0] is not array:
                    self._fed[name] = array, torch.from_numpy(array)
                self._staged[name].copy_(self._fed[name][1])
            torch.from_numpy(self._output).copy_(self._run())
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed to run the model: {_first_line(error)}") from error
        return self._output

    def close(self) -> None:
        """Release the network; may be called twice."""
        self._run = None
        self._staged.clear()
        self._fed.clear()


class PyTorchNetwork:
    """A network of the CUDA fuser (`rtfusion.engines.base.DeviceNetwork`): a CUDA graph of PyTorch's own."""

    capturable = False  # it is a graph already

    def __init__(self, *, model: Path, size_px: tuple[int, int], precision: str) -> None:
        self._module = load(model, device="cuda", precision=precision)
        self._shapes = input_shapes(self._module.declared, model=model, size_px=size_px)
        self._output_shape, self._dtype = image_shape(size_px), PRECISIONS[precision]
        self._replay: Callable[[], TorchTensor] | None = None
        self.description = f"PyTorch {torch.__version__.split('+')[0]} {precision}"

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where inputs and output stand; captures the graph."""
        if addresses.keys() != {*self._shapes, OUTPUT}:
            raise EngineError(f"bound {', '.join(addresses)}; the network has {', '.join([*self._shapes, OUTPUT])}")
        inputs = {name: _at(addresses[name], shape) for name, shape in self._shapes.items()}
        output = _at(addresses[OUTPUT], self._output_shape)
        forward = _converted(self._module, inputs, dtype=self._dtype)
        try:
            self._replay = _captured(lambda: output.copy_(forward()))
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
        """Release the network; may be called twice."""
        self._replay = None


def load(model: Path, *, device: str, precision: str) -> OnnxModule:
    """The module of a model file on a device, with its weights in a precision.

    Raises:
        ConfigError: no such precision, or not on that device.
        EngineUnavailable: PyTorch sees no CUDA device.
    """
    if precision not in PRECISIONS or (device == "cpu" and precision == "f16"):
        names = [name for name in PRECISIONS if device != "cpu" or name != "f16"]
        raise ConfigError(f"no precision {precision!r} in PyTorch on {device}; there are {', '.join(names)}")
    if device != "cpu" and not torch.cuda.is_available():
        raise EngineUnavailable("PyTorch sees no CUDA device: a CPU build, or no driver; see `rtfusion doctor`")
    module = OnnxModule(model).eval().to(device=device, dtype=PRECISIONS[precision])
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # not declared


def input_shapes(
    declared: Mapping[str, Sequence[int | str]], *, model: Path, size_px: tuple[int, int]
) -> dict[str, Shape]:
    """The shape of every input for images of one size.

    Raises:
        ModelError: the model is for another size, or a scalar has no fixed shape.
    """
    shapes: dict[str, Shape] = {}
    for name, dims in declared.items():
        shape = image_shape(size_px) if name in IMAGE_INPUTS else tuple(dim for dim in dims if isinstance(dim, int))
        fits = len(shape) == len(dims) and all(
            not isinstance(dim, int) or dim == asked for dim, asked in zip(dims, shape, strict=True)
        )
        if not fits:
            raise ModelError(f"{model}: {name} is {list(dims)}; expected {list(shape)}")
        shapes[name] = shape
    return shapes


def _converted(
    module: OnnxModule, inputs: Mapping[str, TorchTensor], *, dtype: torch.dtype
) -> Callable[[], TorchTensor]:
    """The module over fixed float32 inputs, giving float32."""

    def forward() -> TorchTensor:
        with torch.inference_mode():
            return module(**{name: value.to(dtype) for name, value in inputs.items()}).float()  # type: ignore[no-any-return]

    return forward


def _captured(forward: Callable[[], TorchTensor]) -> Callable[[], TorchTensor]:
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

    def replay() -> TorchTensor:
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
