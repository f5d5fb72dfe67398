"""Which engines are installed, and those that need no device context of ours: OpenVINO, ONNX Runtime and PyTorch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rtfusion.engines.base import Contract, Engine, EngineStatus
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable
from rtfusion.installing import PYCUDA, install

T = TypeVar("T")
LOAD_S = 120.0
"""Longest time to load a model on a CPU: a minute is what the largest networks of the field take on one slow core."""

AUTO = ("openvino", "onnxruntime")
"""The engines that ``auto`` may choose, the preferred first: they need no device and no build."""
INSTALL = {
    "openvino": "pip install openvino",
    "onnxruntime": install("onnxruntime"),
    "onnxruntime:cuda": "pip install onnxruntime-gpu",
    "onnxruntime:tensorrt": "pip install onnxruntime-gpu tensorrt",
    "pytorch": "pip install torch onnx",
    "pytorch:cuda": f"pip install torch onnx (a CUDA build), and {PYCUDA}",
    "tensorrt": f"pip install tensorrt (on a Jetson it comes with JetPack), and {PYCUDA}",
}
"""How each engine is installed; a device other than the CPU stands after the colon."""
ENGINES = tuple(INSTALL)
_PACKAGES = {"openvino": ("openvino",), "pytorch": ("torch", "onnx"), "tensorrt": ("tensorrt", "pycuda")}
_CPU_BUILD = "+cpu"


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


def open_host_engine(
    name: str, *, model: Path, spec: Contract | None, size_px: tuple[int, int], threads: int, precision: str
) -> Engine:
    """Load ``model`` with one of these engines, which bears its ``name`` in full; see `rtfusion.engines.open_engine`.

    Raises:
        ConfigError: no precision of that name with this engine or processor.
        EngineUnavailable: the engine is installed but fails to load.
        ModelError: the file is no model, or does not take that size.
        EngineError: the engine failed to load it.
    """
    kind, _, device = name.partition(":")
    device = device or "cpu"
    with importing(name):
        if kind == "openvino":
            from rtfusion.engines.openvino import OpenVinoEngine

            return in_time(
                lambda: OpenVinoEngine(model=model, spec=spec, size_px=size_px, threads=threads, precision=precision),
                name=name,
                model=model,
            )
        if kind == "onnxruntime":
            from rtfusion.engines.onnxruntime import OnnxRuntimeEngine

            precision = "f32" if precision == "auto" else precision

            def open_onnxruntime() -> OnnxRuntimeEngine:
                return OnnxRuntimeEngine(
                    model=model, spec=spec, size_px=size_px, threads=threads, precision=precision, device=device
                )

            # on a GPU the thread that opens it is the one that runs it
            return in_time(open_onnxruntime, name=name, model=model) if device == "cpu" else open_onnxruntime()
        from rtfusion.engines.pytorch import PyTorchEngine

        return PyTorchEngine(
            model=model, spec=spec, size_px=size_px, threads=threads, precision=precision, device=device
        )


def in_time(work: Callable[[], T], *, name: str, model: Path) -> T:
    """Load a model by ``work`` for the engine ``name``, but wait no longer than `LOAD_S`: nobody can end what an engine began.

    Raises:
        EngineError: it took longer, or there is no memory for it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried to who waits
            errors.append(error)

    thread = threading.Thread(target=run, name=f"load-{name}", daemon=True)
    try:
        thread.start()
        thread.join(LOAD_S)
    except (MemoryError, RuntimeError) as error:  # the latter: no thread can be started
        raise EngineError(
            f"{name} cannot load {model}: {error or 'no memory is left'}; raise the limit of memory"
        ) from None
    if thread.is_alive():
        raise EngineError(f"{name} did not load {model} within {LOAD_S:g} s; choose a smaller model")
    if not errors:
        return results[0]
    if isinstance(errors[0], MemoryError):
        raise EngineError(
            f"{name} cannot load {model}: no memory is left; choose a smaller model, or raise the limit of memory"
        )
    if type(errors[0]) is RuntimeError:
        # of a library that ran short of memory or threads in a place where nobody expects it; its subclasses are bugs of ours
        raise EngineError(f"{name} cannot load {model}: {' '.join(str(errors[0]).split())}") from errors[0]
    raise errors[0]


@contextlib.contextmanager
def importing(name: str) -> Iterator[None]:
    """Import and open an engine in the block; where a package of it fails to load, say so and how it is installed.

    Raises:
        EngineUnavailable: the engine is installed but fails to load.
    """
    try:
        yield
    except EngineUnavailable:
        raise
    except ImportError as error:
        raise EngineUnavailable(f"{name} is installed but fails to load ({error}); run {INSTALL[name]}") from error


def _version(name: str) -> str | None:
    """Give the version of the package that the engine needs first; None where something is missing."""
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
