"""Runtimes of one network on one device: one file each, imported on use, never installing anything."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rtfusion.engines.base import DeviceNetwork, Engine, EngineStatus, Tensor
from rtfusion.errors import ConfigError, EngineUnavailable
from rtfusion.models import find_spec, read_spec

if TYPE_CHECKING:
    from rtfusion.cuda.device import Device
    from rtfusion.engines.gray import GrayEngine

AUTO = ("openvino", "onnxruntime")
"""What ``auto`` may choose, the preferred first: engines that need no device and no build."""
INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install 'rtfusion[onnxruntime]'",
    "onnxruntime:cuda": "pip install onnxruntime-gpu",
    "onnxruntime:tensorrt": "pip install onnxruntime-gpu tensorrt",
    "pytorch": "pip install torch onnx",
    "pytorch:cuda": "pip install torch onnx (a CUDA build)",
    "tensorrt": "pip install 'rtfusion[tensorrt,cuda]'",
}
"""How each engine is installed; a device other than the CPU stands after the colon."""
ENGINES = tuple(INSTALL)
NETWORKS = ("tensorrt", "pytorch:cuda")
"""Those that the fuser of a CUDA device can run between its own kernels."""
_PACKAGES = {"openvino": ("openvino",), "pytorch": ("torch", "onnx"), "tensorrt": ("tensorrt", "pycuda")}
_CPU_BUILD = "+cpu"

__all__ = [
    "AUTO",
    "ENGINES",
    "NETWORKS",
    "DeviceNetwork",
    "Engine",
    "EngineStatus",
    "Tensor",
    "available",
    "open_engine",
    "open_gray_engine",
    "open_network",
    "resolve",
]


def available() -> list[EngineStatus]:
    """Every engine, and whether it is installed; nothing is imported to find out, and no device is asked."""
    return [EngineStatus(name=name, version=_version(name), install=command) for name, command in INSTALL.items()]


def resolve(name: str) -> str:
    """The engine that ``name`` stands for: ``auto`` is the first of `AUTO` that is installed.

    Raises:
        ConfigError: no engine of that name.
        EngineUnavailable: it is not installed.
    """
    if name != "auto" and name not in ENGINES:
        raise ConfigError(f"no engine {name!r}; there are auto, {', '.join(ENGINES)}")
    wanted = [status for status in available() if status.name == name or (name == "auto" and status.name in AUTO)]
    for status in wanted:
        if status.available:
            return status.name
    names = " nor ".join(status.name for status in wanted)
    commands = " or ".join(status.install for status in wanted)
    missing = f"neither {names} is" if len(wanted) > 1 else f"{names} is not"
    raise EngineUnavailable(f"{missing} installed here; run {commands}")


def open_engine(
    name: str, *, model: Path, size_px: tuple[int, int], threads: int | None = None, precision: str = "auto"
) -> Engine:
    """Load ``model`` for images of ``size_px`` (width, height), with inputs and output in host memory.

    Args:
        name: one of `ENGINES`, or ``auto``.
        model: ONNX file with a contract (`rtfusion.models.spec`), or with both images, scalars, ``fused_y`` and none.
        size_px: a multiple of the model's stride; another size needs an engine of its own.
        threads: on the CPU; None for every core this process may use.
        precision: floating point that the engine computes in: ``f32``, or ``bf16`` and ``f16`` where engine and processor have
            them; ``auto`` is that of the model's weights where OpenVINO and the processor compute in it, and f32 elsewhere.
            Integer precision is a property of the model file; so is all of it for TensorRT.

    Raises:
        ConfigError: no engine or precision of that name, or not with this engine or processor.
        EngineUnavailable: the engine is not installed, or finds no device.
        ModelError: the file is no model, has other inputs or outputs than its contract says, or does not take that size.
        EngineError: the engine failed to load it.
    """
    name = resolve(name)
    spec = find_spec(model)
    threads = threads if threads is not None else len(os.sched_getaffinity(0))
    kind, _, device = name.partition(":")
    device = device or "cpu"
    try:
        if kind == "openvino":
            from rtfusion.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(model=model, spec=spec, size_px=size_px, threads=threads, precision=precision)
        precision = "f32" if precision == "auto" else precision
        if kind == "onnxruntime":
            from rtfusion.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(
                model=model, spec=spec, size_px=size_px, threads=threads, precision=precision, device=device
            )
        if kind == "pytorch":
            from rtfusion.engines.pytorch import PyTorchEngine

            return PyTorchEngine(
                model=model, spec=spec, size_px=size_px, threads=threads, precision=precision, device=device
            )
        from rtfusion.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(model=model, size_px=size_px, precision=precision)
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise _broken(name, error) from error


def open_gray_engine(name: str, *, model: Path, size_px: tuple[int, int], threads: int | None = None) -> GrayEngine:
    """Load ``model`` for images of any ``size_px``, as gray levels in host memory, in the precision of its weights.

    They are padded to the model's stride, so it needs its contract; the rest is as `open_engine` says.

    Raises:
        As `open_engine`, and ModelError: the file carries no contract.
    """
    name = resolve(name)
    spec = read_spec(model)
    threads = threads if threads is not None else len(os.sched_getaffinity(0))
    if name == "openvino":
        try:
            from rtfusion.engines.openvino import OpenVinoGray
        except ImportError as error:
            raise _broken(name, error) from error
        return OpenVinoGray(model=model, spec=spec, size_px=size_px, threads=threads, precision="auto")
    from rtfusion.engines.gray import ConvertedEngine

    engine = open_engine(name, model=model, size_px=spec.padded_px(size_px), threads=threads)
    return ConvertedEngine(engine, spec=spec, size_px=size_px)


def open_network(name: str, *, model: Path, size_px: tuple[int, int], device: Device) -> DeviceNetwork:
    """Load ``model`` for the fuser of a CUDA device: `NETWORKS`.

    Raises:
        As `open_engine`.
    """
    name = resolve(name)
    spec = read_spec(model)
    try:
        if name == "tensorrt":
            from rtfusion.engines.tensorrt import open_stored

            return open_stored(model=model, size_px=size_px, device=device)
        if name == "pytorch:cuda":
            from rtfusion.engines.pytorch import PyTorchNetwork

            return PyTorchNetwork(model=model, spec=spec, size_px=size_px, precision="f32")
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise _broken(name, error) from error
    raise ConfigError(f"{name} runs no network on a CUDA stream; choose {' or '.join(NETWORKS)}")


def _broken(name: str, error: ImportError) -> EngineUnavailable:
    return EngineUnavailable(f"{name} is installed but fails to load ({error}); run {INSTALL[name]}")


def _version(name: str) -> str | None:
    """Of what the engine needs first; None where something is missing."""
    kind, _, device = name.partition(":")
    packages = _PACKAGES.get(kind, (kind,))
    if any(importlib.util.find_spec(package) is None for package in packages):
        return None
    distributions = [f"{kind}-gpu"] if kind == "onnxruntime" and device else [packages[0], f"{packages[0]}-gpu"]
    for distribution in distributions:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return None if device and version.endswith(_CPU_BUILD) else version
    return None if device else "of unknown version"
