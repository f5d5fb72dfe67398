"""Runtimes of one network on one device: one file each, imported on use, never installing anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtfusion.config import ON_DEVICE
from rtfusion.engines.base import Contract, DeviceNetwork, Engine, EngineStatus, Tensor
from rtfusion.engines.fastest import Choice, fastest
from rtfusion.engines.host import AUTO, ENGINES, available, importing, in_time, open_host_engine, resolve
from rtfusion.errors import ConfigError
from rtfusion.kernels import are_here
from rtfusion.models import FOR_GPU, find_model, find_spec, read_spec
from rtfusion.models.shipping import is_name
from rtfusion.portable import usable_cores

if TYPE_CHECKING:
    from rtfusion.cuda.device import Device
    from rtfusion.engines.gray import GrayEngine

NETWORKS = ON_DEVICE
"""The engines that the fuser of a CUDA device can run between its own kernels."""
_FILES = {"auto": "f32", "bf16": "f32"}
"""The precision of the model file, where it is not the one that is computed in."""
ON_GPU = "f16"
"""The precision that ``auto`` is on a GPU, by rule: half of the bytes, and the units for it are in every GPU since 2018."""
__all__ = [
    "AUTO",
    "ENGINES",
    "NETWORKS",
    "Choice",
    "Contract",
    "DeviceNetwork",
    "Engine",
    "EngineStatus",
    "Tensor",
    "available",
    "choose_precision",
    "default_threads",
    "model_file",
    "open_engine",
    "open_engine_for",
    "open_gray_engine",
    "open_network",
    "resolve",
    "runs_on_gpu",
]


def open_engine(
    name: str, *, model: Path, size_px: tuple[int, int], threads: int | None = None, precision: str = "auto"
) -> Engine:
    """Load ``model`` for images of ``size_px`` (width, height), with inputs and output in host memory.

    Args:
        name: one of `ENGINES`, or ``auto``.
        model: ONNX file with a contract (`rtfusion.models.spec`), or with both images, scalars, ``fused_y`` and none.
        size_px: a multiple of the model's stride; another size needs an engine of its own.
        threads: on the CPU; None for `default_threads`.
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
    threads = threads if threads is not None else default_threads()
    if name != "tensorrt":
        return open_host_engine(name, model=model, spec=spec, size_px=size_px, threads=threads, precision=precision)
    with importing(name):
        from rtfusion.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(model=model, size_px=size_px, precision="f32" if precision == "auto" else precision)


def open_engine_for(
    name: str, *, model: Path, contract: Contract, size_px: tuple[int, int], threads: int | None = None
) -> Engine:
    """Load ``model``, which fuses nothing, on the CPU: its inputs and outputs are those of ``contract`` at ``size_px``.

    ``name`` is an engine as for `open_engine`; where it is none of `AUTO`, which take any network, ``auto`` takes its place.

    Raises:
        As `open_engine`.
    """
    name = resolve("auto" if name in ENGINES and name not in AUTO else name)
    threads = threads if threads is not None else default_threads()
    return open_host_engine(name, model=model, spec=contract, size_px=size_px, threads=threads, precision="auto")


def open_gray_engine(
    name: str,
    *,
    model: Path,
    size_px: tuple[int, int],
    threads: int | None = None,
    precision: str = "auto",
    kernels: bool = True,
) -> GrayEngine:
    """Load ``model`` for images of any ``size_px``, as gray levels in host memory.

    They are padded to the model's stride, so it needs its contract. It computes in the precision of its weights, or for
    ``bf16`` in that. With ``kernels``, OpenVINO runs the learned part alone where the file and what is installed allow it
    (`rtfusion.engines.layered`); the description tells. The rest is as `open_engine` says.

    Raises:
        As `open_engine`, and ModelError: the file carries no contract.
    """
    name = resolve(name)
    spec = read_spec(model)
    computed = precision if precision == "bf16" else "auto"
    threads = threads if threads is not None else default_threads()
    if name == "openvino":
        with importing(name):
            from rtfusion.engines.layered import open_layered
            from rtfusion.engines.openvino import OpenVinoGray

            opened = open_layered if kernels else OpenVinoGray
            return in_time(
                lambda: opened(model=model, spec=spec, size_px=size_px, threads=threads, precision=computed),
                name=name,
                model=model,
            )
    from rtfusion.engines.gray import ConvertedEngine

    engine = open_engine(name, model=model, size_px=spec.padded_px(size_px), threads=threads, precision=computed)
    return ConvertedEngine(engine, spec=spec, size_px=size_px)


def open_network(name: str, *, model: Path, size_px: tuple[int, int], device: Device) -> DeviceNetwork:
    """Load ``model`` for the fuser of a CUDA device: `NETWORKS`.

    Raises:
        As `open_engine`.
    """
    name = resolve(name)
    spec = read_spec(model)
    with importing(name):
        if name == "tensorrt":
            from rtfusion.engines.tensorrt import open_stored

            return open_stored(model=model, size_px=size_px, device=device)
        if name == "pytorch:cuda":
            from rtfusion.engines.pytorch import PyTorchNetwork

            return PyTorchNetwork(model=model, spec=spec, size_px=size_px)
    raise ConfigError(f"{name} runs no network on a CUDA stream; choose {' or '.join(NETWORKS)}")


def default_threads() -> int:
    """All cores that this process may use but one, which is left for those that decode, compose and write.

    On two cores a second thread waits for that core in every layer: it costs more than it gives (docs/experiments.md).
    """
    return max(1, len(usable_cores()) - 1)


def runs_on_gpu(engine: str) -> bool:
    """Tell the engines that compute on a GPU; ``auto`` never does."""
    return engine == "tensorrt" or ":" in engine


def model_file(model: Path, *, precision: str = "auto", on_gpu: bool = False) -> Path:
    """The file of a model that is named or given as a path, for a precision.

    ``auto`` gives the float32 file, and for a GPU the one that computes in float16. A GPU takes other f16 and INT8 files than a
    CPU (docs/gpu.md).

    Raises:
        ConfigError: no model of that name and precision comes with the package, or not for a GPU.
    """
    if not on_gpu or not is_name(model):
        return find_model(model, precision=_FILES.get(precision, precision))
    if precision == "bf16":
        raise ConfigError("no precision 'bf16' on a GPU; there are f32, f16 and int8")
    precision = ON_GPU if precision == "auto" else precision
    return find_model(model, precision=FOR_GPU.get(precision, precision))


def choose_precision(
    model: Path,
    *,
    precision: str,
    engine: str,
    size_px: tuple[int, int],
    threads: int | None = None,
    kernels: bool = True,
) -> Choice:
    """The precision to open a model in: the one asked for, or for ``auto`` the fastest (`rtfusion.engines.fastest`).

    Only named models have files of several precisions, and only OpenVINO computes fast in several on a CPU; other engines have a
    rule, float16 on a GPU and float32 elsewhere. What a file says holds where it is given as a path.

    Raises:
        ConfigError: no model of that name comes with the package.
        EngineUnavailable: the engine is not installed.
    """
    if precision != "auto":
        return Choice(precision=precision, times_ms={}, why="asked")
    if not is_name(model):
        return Choice(precision="auto", times_ms={}, why="file")
    if resolve(engine) != "openvino":
        return Choice(precision=ON_GPU if runs_on_gpu(engine) else "f32", times_ms={}, why="rule")
    threads = threads if threads is not None else default_threads()
    with importing("openvino"):
        from rtfusion.engines.openvino import VERSION, admissible

    def open_in(tried: str, tried_px: tuple[int, int]) -> GrayEngine:
        file = model_file(model, precision=tried)
        return open_gray_engine(
            "openvino", model=file, size_px=tried_px, threads=threads, precision=tried, kernels=kernels
        )

    # with kernels and without, other precisions are the fastest
    version = f"{VERSION} {'with' if kernels and are_here() else 'without'} kernels"
    return fastest(model, size_px=size_px, threads=threads, open_in=open_in, capabilities=admissible(), version=version)
