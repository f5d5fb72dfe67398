"""TensorRT as it is documented, in versions 10 and 11: what one of them has not is an AttributeError here too.

An "engine" is the ONNX file it was made of, run by onnx's own evaluator on the streams of the fake CUDA device.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tests.cuda import fake

MAGIC = b"FAKE-TENSORRT-PLAN"
PHASES = ("Parsing", "Building", "Timing")


class Logger:
    """ILogger: to be derived from, with its own __init__ called."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.made = True


class ProgressMonitor:
    def __init__(self) -> None:
        self.made = True


class TensorRt:
    """Stands for the module tensorrt of one version, on one device."""

    ILogger, IProgressMonitor = Logger, ProgressMonitor
    float32 = "float32"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, cuda: fake.FakeCuda, version: str, *, gpu: str = "Fake GPU") -> None:
        self.__version__ = version
        self.cuda = cuda
        self.gpu = gpu
        self.major = int(version.split(".", maxsplit=1)[0])
        self.refuses_enqueue = False
        self.wrong_by = 0.0
        self.names_outputs = True
        """False: as torch_tensorrt does, which calls them output0 and so on."""
        self.built = 0
        self.contexts = 0
        self.no_room = False
        self.fails_to_build = False
        # kept in 11 for compatibility, and ignored there
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1 if self.major == 10 else 0)
        flags = {"TF32": 0, "FP16": 1, "INT8": 2} if self.major == 10 else {"TF32": 0}
        self.BuilderFlag = SimpleNamespace(**flags)

    def _said(self, logger: Logger, severity: int, message: str) -> None:
        assert logger.made, "ILogger.__init__ was not called"
        logger.log(severity, message)  # type: ignore[attr-defined]

    # -- building --

    def Builder(self, logger: Logger) -> Builder:  # noqa: N802
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Logger) -> Parser:  # noqa: N802
        return Parser(network)

    # -- running --

    def Runtime(self, logger: Logger) -> Runtime:  # noqa: N802
        return Runtime(self, logger)


class Builder:
    def __init__(self, trt: TensorRt, logger: Logger) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Network:
        assert self._trt.major >= 11 or flags == 1 << 1, "weakly typed"
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
        assert network.model is not None
        assert config.pools["workspace"] > 0
        (profile,) = config.profiles
        graph = onnx.load_model_from_string(network.model).graph
        free = {port.name for port in graph.input if not all(dim.dim_value for dim in port.type.tensor_type.shape.dim)}
        assert profile.shapes.keys() == free
        monitor = config.progress_monitor
        for phase in PHASES if monitor is not None else ():
            monitor.phase_start(phase, None, 2)
            assert all(monitor.step_complete(phase, step) for step in range(2))
            monitor.phase_finish(phase)
        self._trt.built += 1
        if self._trt.fails_to_build:
            self._trt._said(self._logger, Logger.ERROR, "no implementation for node 7")
            return None
        about = {"version": self._trt.__version__, "gpu": self._trt.gpu, "shapes": profile.shapes}
        return memoryview(MAGIC + json.dumps(about).encode() + b"\n" + network.model)


class Network:
    model: bytes | None = None


class Config:
    """Refuses what it has not: no fp16 or int8 flags, no calibrator."""

    __slots__ = ("pools", "profiles", "progress_monitor")

    def __init__(self) -> None:
        self.pools: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: str, size_bytes: int) -> None:
        self.pools[pool] = size_bytes

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return 0


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        assert tuple(least) == tuple(best) == tuple(most)
        self.shapes[name] = tuple(best)


class Parser:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._errors: list[str] = []
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        graph = onnx.load_model_from_string(model).graph
        quantizing = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
        zeros = {node.input[2] for node in quantizing}
        values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer if one.name in zeros}
        shifted = [name for name, zero in values.items() if zero.any()]
        unsigned = [name for name, zero in values.items() if zero.dtype != np.int8]
        self._errors = ["no importer registered for op: Fuse" for node in graph.node if node.op_type == "Fuse"]
        self._errors += ["TRT only supports symmetric quantization - zeroPt must be all zeros" for _ in shifted]
        self._errors += [f"{name}: quantized values have to be INT8, and are not signed" for name in unsigned]
        try:  # every operator's inputs have to be of one type: a network casts nothing by itself
            onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model), check_type=True, strict_mode=True)
        except onnx.shape_inference.InferenceError as error:
            self._errors += [str(error)] if not self._errors else []
        self.num_errors = len(self._errors)
        self._network.model = model
        return not self._errors

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: self._errors[index])


class Runtime:
    def __init__(self, trt: TensorRt, logger: Logger) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(MAGIC):
            self._trt._said(self._logger, Logger.ERROR, "magicTag does not match")
            return None
        about, model = plan[len(MAGIC) :].split(b"\n", 1)
        told = json.loads(about)
        if (told["version"], told["gpu"]) != (self._trt.__version__, self._trt.gpu):
            self._trt._said(self._logger, Logger.ERROR, f"engine of {told['gpu']} {told['version']}")
            return None
        return Engine(self._trt, model, {name: tuple(shape) for name, shape in told["shapes"].items()})


class Engine:
    def __init__(self, trt: TensorRt, model: bytes, shapes: dict[str, tuple[int, ...]]) -> None:
        self._trt = trt
        self.evaluator = ReferenceEvaluator(onnx.load_model_from_string(model))
        graph = self.evaluator.proto_.graph
        self.shapes = {port.name: shapes.get(port.name, (1, 1, 1, 1)) for port in graph.input}
        self.outputs = [port.name if trt.names_outputs else f"output{index}" for index, port in enumerate(graph.output)]
        self._dims = {
            name: tuple(dim.dim_value or -1 for dim in port.type.tensor_type.shape.dim)
            for name, port in zip([*self.shapes, *self.outputs], [*graph.input, *graph.output], strict=True)
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._dims)

    def get_tensor_name(self, index: int) -> str:
        return list(self._dims)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.shapes else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._dims[name]

    def create_execution_context(self) -> ExecutionContext | None:
        self._trt.contexts += 1
        return None if self._trt.no_room else ExecutionContext(self._trt, self)


class ExecutionContext:
    def __init__(self, trt: TensorRt, engine: Engine) -> None:
        self._trt, self._engine = trt, engine
        self._addresses: dict[str, int] = {}
        self._set: set[str] = set()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._set.add(name)
        return tuple(shape) == self._engine.shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in self._engine._dims
        self._addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._trt.cuda.own()  # a context is of one thread
        assert self._set == self._engine.shapes.keys()
        assert self._addresses.keys() == self._engine._dims.keys()
        if self._trt.refuses_enqueue:
            return False
        addresses = dict(self._addresses)
        self._trt.cuda.streams[stream_handle].put("network", lambda: self._run(addresses))
        return True

    def _run(self, addresses: dict[str, int]) -> None:
        feeds = {
            name: fake.floats(addresses[name], int(np.prod(shape))).reshape(shape).copy()
            for name, shape in self._engine.shapes.items()
        }
        with np.errstate(over="ignore", invalid="ignore"):  # onnx's own sigmoid makes both of its branches everywhere
            results = self._engine.evaluator.run(None, feeds)
        for name, result in zip(self._engine.outputs, results, strict=True):
            fake.floats(addresses[name], result.size)[:] = result.ravel() + self._trt.wrong_by
