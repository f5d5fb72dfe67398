"""Runtimes of one network on one device: one file each, imported on use, never installing anything."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from rtfusion.engines.base import Engine, EngineStatus, Tensor
from rtfusion.errors import ConfigError, EngineUnavailable
from rtfusion.models.spec import check_onnx

INSTALL = {"openvino": "pip install openvino", "onnxruntime": "pip install 'rtfusion[onnxruntime]'"}
"""Every engine, the preferred first; its package bears the same name."""
ENGINES = tuple(INSTALL)

__all__ = ["ENGINES", "Engine", "EngineStatus", "Tensor", "available", "open_engine", "resolve"]


def available() -> list[EngineStatus]:
    """Every engine, and whether it is installed; nothing is imported to find out."""
    return [EngineStatus(name=name, version=_version(name), install=command) for name, command in INSTALL.items()]


def resolve(name: str) -> str:
    """The engine that ``name`` stands for: ``auto`` is the first of `ENGINES` that is installed.

    Raises:
        ConfigError: no engine of that name.
        EngineUnavailable: it is not installed.
    """
    if name != "auto" and name not in ENGINES:
        raise ConfigError(f"no engine {name!r}; there are auto, {', '.join(ENGINES)}")
    wanted = [status for status in available() if name in ("auto", status.name)]
    for status in wanted:
        if status.available:
            return status.name
    names = " nor ".join(status.name for status in wanted)
    commands = " or ".join(status.install for status in wanted)
    raise EngineUnavailable(f"{'neither ' if len(wanted) > 1 else ''}{names} is installed here; run {commands}")


def open_engine(
    name: str, *, model: Path, size_px: tuple[int, int], threads: int | None = None, precision: str = "f32"
) -> Engine:
    """Load ``model`` for images of ``size_px`` (width, height).

    Args:
        name: one of `ENGINES`, or ``auto``.
        model: ONNX file with the inputs and the output of `rtfusion.models.spec`.
        size_px: a multiple of the model's stride; another size needs an engine of its own.
        threads: None for every core this process may use.
        precision: ``f32``, or ``bf16`` and ``f16`` where engine and processor have them: floating point that the
            engine computes in. Integer precision is a property of the model file.

    Raises:
        ConfigError: no engine or precision of that name, or not with this engine or processor.
        EngineUnavailable: the engine is not installed.
        ModelError: the file is no model, has other inputs, or does not take that size.
        EngineError: the engine failed to load it.
    """
    name = resolve(name)
    check_onnx(model)
    threads = threads if threads is not None else len(os.sched_getaffinity(0))
    try:
        if name == "openvino":
            from rtfusion.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(model=model, size_px=size_px, threads=threads, precision=precision)
        from rtfusion.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model=model, size_px=size_px, threads=threads, precision=precision)
    except ImportError as error:
        raise EngineUnavailable(f"{name} is installed but fails to load ({error}); run {INSTALL[name]}") from error


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
