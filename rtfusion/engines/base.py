"""What every engine is: run, close; and what is checked alike in all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rtfusion.errors import EngineError, ModelError
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT

Tensor = npt.NDArray[np.float32]
Shape = tuple[int, ...]


class Engine(Protocol):
    """One network, ready to run for images of one size on one device. Used by one thread at a time."""

    @property
    def name(self) -> str:
        """The name it is opened by."""
        ...

    @property
    def description(self) -> str:
        """What runs: ``OpenVINO 2026.4.1 CPU f32, 2 threads``."""
        ...

    def run(self, *, inputs: Mapping[str, Tensor]) -> Tensor:
        """Fuse once.

        Args:
            inputs: every input of the model by name, writable C-contiguous float32 of the model's shape: (1, 1, H, W) for images,
                (1, 1, 1, 1) for scalars. Nothing is copied where the engine can help it, so reuse the same arrays.

        Returns:
            The fused luminance, float32 (1, 1, H, W); the engine's own buffer, valid until the next run.

        Raises:
            EngineError: inputs do not fit, the engine failed, or it is closed.
        """
        ...

    def close(self) -> None:
        """Release the network; may be called twice."""
        ...


class DeviceNetwork(Protocol):
    """One network for images of one size, as the fuser of a device runs it: between its own kernels, on its stream.

    Loaded by any thread; all calls come from the one thread that owns the device.
    """

    @property
    def description(self) -> str:
        """What runs: ``TensorRT 10.15.1``."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be part of a CUDA graph."""
        ...

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where in device memory every input and the output stand: float32, at multiples of 256 bytes.

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
        """Release the network; may be called twice."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStatus:
    """Whether an engine can be used here."""

    name: str
    version: str | None
    """Of the installed package; None where there is none."""
    install: str
    """The command that installs it."""

    @property
    def available(self) -> bool:
        """True where it is installed."""
        return self.version is not None


def image_shape(size_px: tuple[int, int]) -> Shape:
    """(1, 1, H, W) of a (width, height)."""
    return 1, 1, size_px[1], size_px[0]


def check_interface(*, model: Path, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Hold the names of a network against the contract: both images among the inputs, one output.

    Raises:
        ModelError: other names.
    """
    inputs, outputs = list(inputs), list(outputs)
    if not set(IMAGE_INPUTS) <= set(inputs) or outputs != [OUTPUT]:
        raise ModelError(
            f"{model} has the inputs {', '.join(inputs) or 'none'} and the outputs {', '.join(outputs) or 'none'}; "
            f"expected {', '.join(IMAGE_INPUTS)} (and scalars) and {OUTPUT}"
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


def describe(product: str, version: str, *, precision: str, threads: int) -> str:
    """One line for tables and headers."""
    return f"{product} {version} CPU {precision}, {threads} thread{'' if threads == 1 else 's'}"
