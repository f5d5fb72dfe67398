"""The protocol of every engine, run and close, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rtfusion.errors import EngineError, ModelError
from rtfusion.models.onnx_file import is_quantized
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, ImageInput, Shape

Tensor = npt.NDArray[np.float32]
FLOAT = "float32"
"""The one type of whatever goes into a network and comes out of it."""


class Port(NamedTuple):
    """An input or an output as the network itself declares it."""

    dims: tuple[int | str | None, ...]
    """A dimension that is no number is free."""
    dtype: str = FLOAT


class Shaped(Protocol):
    """An input or an output whose shape follows from the size of the images."""

    def shape(self, size_px: tuple[int, int]) -> Shape:
        """The shape for images of this (width, height)."""
        ...


class Contract(Protocol):
    """What an engine has to know of a network: every input and every output by name. A `ModelSpec` is one."""

    @property
    def inputs(self) -> Mapping[str, Shaped]:
        """What goes in."""
        ...

    @property
    def outputs(self) -> Mapping[str, Shaped]:
        """What comes out."""
        ...


class Ports(NamedTuple):
    """The shape of every input and output of a network, by name, for images of one size."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


class Engine(Protocol):
    """One network, ready to run for images of one size on one device. Used by one thread at a time."""

    @property
    def name(self) -> str:
        """The name it is opened by."""
        ...

    @property
    def description(self) -> str:
        """Say what runs: ``OpenVINO 2026.4.1 CPU f32, 2 threads``."""
        ...

    def run(self, *, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the network once.

        Args:
            inputs: every input of the model by name, writable C-contiguous float32 of the model's shape: (1, 1, H, W) for images,
                (1, 1, 1, 1) for scalars, (1, C, H / k, W / k) for maps and states. Nothing is copied where the engine can help
                it, so reuse the same arrays.

        Returns:
            Every output by name, float32: ``fused_y`` (1, 1, H, W), and whatever else the model gives, (1, C, H / k, W / k). They
            are the engine's own buffers, valid until the next run, and never those of an input.

        Raises:
            EngineError: inputs do not fit, the engine failed, or it is closed.
        """
        ...

    def close(self) -> None:
        """Release the network. Idempotent."""
        ...


class DeviceNetwork(Protocol):
    """One network for images of one size, as the fuser of a device runs it: between its own kernels, on its stream.

    Loaded by any thread; all calls come from the one thread that owns the device.
    """

    @property
    def description(self) -> str:
        """Say what runs: ``TensorRT 10.15.1``."""
        ...

    @property
    def capturable(self) -> bool:
        """True if `enqueue` may be part of a CUDA graph."""
        ...

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where in device memory every input and every output stands: float32, at multiples of 256 bytes.

        Raises:
            EngineError: other names than the network has.
        """
        ...

    def enqueue(self, stream: int) -> None:
        """Put one run on a CUDA stream, by its handle; returns before it is done.

        Raises:
            EngineError: it was refused.
        """
        ...

    def close(self) -> None:
        """Release the network. Idempotent."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStatus:
    """The name of an engine, and the version that is installed here."""

    name: str
    version: str | None
    """The version of the installed package; None where there is none."""
    install: str
    """The command that installs it."""

    @property
    def available(self) -> bool:
        """True where it is installed."""
        return self.version is not None


def contract_ports(spec: Contract, *, size_px: tuple[int, int]) -> Ports:
    """Every shape that the contract says, for images of a (width, height) that is a multiple of its stride."""
    return Ports(
        inputs={name: port.shape(size_px) for name, port in spec.inputs.items()},
        outputs={name: port.shape(size_px) for name, port in spec.outputs.items()},
    )


def check_ports(
    *,
    model: Path,
    spec: Contract | None,
    size_px: tuple[int, int],
    inputs: Mapping[str, Port],
    outputs: Mapping[str, Port],
) -> Ports:
    """Hold what a network declares against its contract.

    Args:
        model: the file, for messages.
        spec: its contract. A model without one takes both images and perhaps more inputs of fixed shapes, and gives ``fused_y``.
        size_px: (width, height), a multiple of the stride.
        inputs: by name, in the order of the network.
        outputs: by name, in the order of the network.

    Returns:
        The shapes, in the same order.

    Raises:
        ModelError: other names, shapes or types.
    """
    shapes = _bare_ports(inputs, size_px=size_px) if spec is None else contract_ports(spec, size_px=size_px)
    if shapes.inputs.keys() != inputs.keys() or shapes.outputs.keys() != outputs.keys():
        others = " (and others of fixed shapes, without a contract)" if spec is None else ""
        wanted = IMAGE_INPUTS if spec is None else spec.inputs
        raise ModelError(
            f"{model} has the inputs {', '.join(inputs) or 'none'} and the outputs {', '.join(outputs) or 'none'}; "
            f"expected {', '.join(wanted)}{others} and {', '.join(shapes.outputs)}"
        )
    for name, port in {**inputs, **outputs}.items():
        shape = {**shapes.inputs, **shapes.outputs}[name]
        if port.dtype != FLOAT or not _fits(port.dims, shape):
            raise ModelError(f"{model}: {name} is {list(port.dims)} {port.dtype}; expected {list(shape)} {FLOAT}")
    return Ports(
        inputs={name: shapes.inputs[name] for name in inputs}, outputs={name: shapes.outputs[name] for name in outputs}
    )


def check_made(made: Mapping[str, Shape], *, ports: Ports, model: Path) -> None:
    """Hold the shapes of outputs, known only once the network was fixed to one size, against what they have to be.

    Raises:
        ModelError: another shape.
    """
    for name, shape in made.items():
        if shape != ports.outputs[name]:
            size = "x".join(map(str, ports.inputs[IMAGE_INPUTS[0]][:1:-1]))
            raise ModelError(f"{model} makes {name} {shape} of {size} images; expected {ports.outputs[name]}")


def _bare_ports(inputs: Mapping[str, Port], *, size_px: tuple[int, int]) -> Ports:
    image = ImageInput().shape(size_px)
    # a free dimension, which no contract fixes, becomes one that nothing has
    fixed = {name: tuple(dim if isinstance(dim, int) else 0 for dim in port.dims) for name, port in inputs.items()}
    return Ports(inputs={**fixed, **dict.fromkeys(IMAGE_INPUTS, image)}, outputs={OUTPUT: image})


def _fits(dims: tuple[int | str | None, ...], shape: Shape) -> bool:
    return len(dims) == len(shape) and all(
        dim == length if isinstance(dim, int) else length > 0 for dim, length in zip(dims, shape, strict=True)
    )


def check_inputs(inputs: Mapping[str, Tensor], *, shapes: Mapping[str, Shape]) -> None:
    """Hold what is fed against what the network takes.

    Raises:
        EngineError: a missing or unknown name, another shape or type, or an array with gaps.
    """
    if inputs.keys() != shapes.keys():
        raise EngineError(f"inputs are {', '.join(inputs) or 'none'}; the model takes {', '.join(shapes)}")
    for name, array in inputs.items():
        if array.shape != shapes[name] or array.dtype != np.float32 or not array.flags.carray:
            raise EngineError(
                f"input {name} is {array.shape} {array.dtype}{'' if array.flags.carray else ', read-only or with gaps'}; "
                f"expected writable, C-contiguous {shapes[name]} float32"
            )


def describe(product: str, version: str, *, model: Path, precision: str, threads: int) -> str:
    """One line for tables and headers. ``precision`` is that of the layers that a quantized model does not compute in int8."""
    computed = f"int8 and {precision}" if is_quantized(model) else precision
    return f"{product} {version} CPU {computed}, {threads} thread{'' if threads == 1 else 's'}"
