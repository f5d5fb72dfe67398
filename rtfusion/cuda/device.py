"""The CUDA device: pycuda on the primary context, owned by one thread; and CUDA graphs, which pycuda has not.

The primary context is the one that TensorRT and PyTorch use, so memory and streams are common to all. pycuda binds a context to
the thread that made it, and a network may be run by one thread only: so whatever touches the device runs in `Device.call`.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
from collections.abc import Callable
from importlib import resources
from typing import Any, TypeVar

from rtfusion.errors import EngineError, EngineUnavailable
from rtfusion.installing import PYCUDA

CALL_TIMEOUT_S = 20.0
"""A device that does not answer for so long hangs: no frame takes that long."""
SETUP_TIMEOUT_S = 180.0
"""The longest wait for what may compile: the kernels, and the graph of a network."""
BLOCK = (32, 8, 1)
# The compiler of the CUDA toolkit, which building pycuda has needed too; it keeps what it compiled.
COMPILER_FLAGS = ["--fmad=false"]
KERNELS = {"prepare": "PiPiiiPPPiiiiPPPP", "scene": "PPiiPPP", "compose": "PiPPiiiP"}
"""Types of the arguments, as `struct` writes them: P pointer, i int."""

_Result = TypeVar("_Result")
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may load models meanwhile


class Device:
    """The first CUDA device, its own thread, and the kernels.

    Raises:
        EngineUnavailable: pycuda, the driver, the device or the compiler is missing or too old.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lost: str | None = None
        self.cuda: Any = None
        """The module pycuda.driver."""
        self.description = ""
        self.identity: dict[str, str] = {}
        """The properties of the device that an engine built for it depends on."""
        self._context: Any = None
        self._module: Any = None
        self._kernels: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._own, name="cuda", daemon=True)
        self._thread.start()
        try:
            self.call(self._open, timeout_s=SETUP_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[..., _Result], *arguments: Any, timeout_s: float | None = None) -> _Result:
        """Run in the thread of the device, and wait for it.

        Raises:
            EngineError: the device failed, was lost before, does not answer, or is closed.
        """
        if threading.current_thread() is self._thread:
            return function(*arguments)
        if self._lost is not None:
            raise EngineError(f"the CUDA device was lost: {self._lost}; restart, and see `rtfusion doctor`")
        if not self._thread.is_alive():
            raise EngineError("the CUDA device is closed; open it anew")
        call = _Call(lambda: function(*arguments))
        self._calls.put(call)
        timeout_s = timeout_s or CALL_TIMEOUT_S
        if not call.done.wait(timeout_s):
            self._lost = f"no answer for {timeout_s:.0f} s"
            raise EngineError(f"the CUDA device does not answer ({self._lost}); restart, and see `rtfusion doctor`")
        if call.error is not None:
            raise call.error
        return call.result

    def close(self) -> None:
        """Let the device go. Idempotent. What was allocated must have been let go before."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join(CALL_TIMEOUT_S if self._lost is None else 0.0)

    def launch(
        self, kernel: str, stream: Any, *arguments: int, width: int = 1, height: int = 1, single: bool = False
    ) -> None:
        """Put a kernel on a stream: a thread per pixel of ``width`` x ``height``, or a ``single`` one."""
        block = (1, 1, 1) if single else BLOCK
        grid = (-(-width // block[0]), -(-height // block[1]))
        self._kernels[kernel].prepared_async_call(grid, block, stream, *arguments)

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Graph:
        """Record what ``enqueue`` puts on ``stream`` as a graph, without running it."""
        return Graph(stream, enqueue)

    # -- in the thread of the device --------------------------------------------------------------------------------

    def _open(self) -> None:
        cuda, compiler = _pycuda()
        self.cuda = cuda
        try:
            cuda.init()
            if cuda.Device.count() == 0:
                raise EngineUnavailable("no CUDA device; choose a CPU engine, as in --engine openvino")
            device = cuda.Device(0)
            context = device.retain_primary_context()
            context.push()
        except cuda.Error as error:
            raise EngineUnavailable(f"CUDA does not start: {error}; check the driver with nvidia-smi") from error
        self._context = context
        major, minor = device.compute_capability()
        self.description = f"{device.name()} (compute capability {major}.{minor})"
        processors = device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)
        self.identity = {
            "gpu": device.name(),
            "compute_capability": f"{major}.{minor}",
            "multiprocessors": str(processors),
            "cuda_driver": str(cuda.get_driver_version()),
        }
        source = resources.files("rtfusion.cuda").joinpath("kernels.cu").read_text(encoding="utf-8")
        try:
            self._module = compiler.SourceModule(source, options=COMPILER_FLAGS, no_extern_c=True)
        except (cuda.Error, OSError) as error:
            raise EngineUnavailable(
                f"the kernels do not compile: {error}; the CUDA toolkit (nvcc) has to be on the PATH and match the driver"
            ) from error
        for name, types in KERNELS.items():
            self._kernels[name] = self._module.get_function(name)
            self._kernels[name].prepare(types)

    def _own(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.result = call.function()
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                call.error = self._explained(error)
            call.done.set()
            del call
        if self._context is not None:
            self._kernels.clear()
            self._module = None
            with contextlib.suppress(self.cuda.Error):  # a device that was lost cannot be let go in order
                self._context.pop()
                self._context.detach()
            self._context = None

    def _explained(self, error: BaseException) -> BaseException:
        """An error of CUDA as one of ours; those after which the device cannot be used are remembered."""
        if self.cuda is None or not isinstance(error, self.cuda.Error):
            return error
        if isinstance(error, self.cuda.MemoryError):
            explained = EngineError(
                f"out of device memory ({error}); use smaller images, or close what else runs on it"
            )
        else:
            self._lost = str(error)
            explained = EngineError(f"the CUDA device failed: {error}; restart, and see `rtfusion doctor`")
        explained.__cause__ = error
        return explained


class Graph:
    """Work that was enqueued once, to be launched again and again: pointers are fixed, pixels are not."""

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        self._driver = _driver()
        self._graph, self._executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuStreamBeginCapture_v2", ctypes.c_void_p(stream.handle), _THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            self._driver.cuStreamEndCapture(ctypes.c_void_p(stream.handle), ctypes.byref(self._graph))
            raise
        self._do("cuStreamEndCapture", ctypes.c_void_p(stream.handle), ctypes.byref(self._graph))
        self._do("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), self._graph, ctypes.c_ulonglong(0))

    def launch(self, stream: Any) -> None:
        """Put all of it on a stream."""
        self._do("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Release it. Idempotent."""
        for function, handle in (("cuGraphExecDestroy", self._executable), ("cuGraphDestroy", self._graph)):
            if handle:
                self._do(function, handle)
                handle.value = None

    def _do(self, function: str, *arguments: Any) -> None:
        code = getattr(self._driver, function)(*arguments)
        if code != 0:
            raise EngineError(f"{function} failed with CUDA error {code}; see `rtfusion doctor`")


class _Call:
    """One thing to do, and what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()


def _driver() -> Any:
    """The driver's own library, which pycuda has loaded already."""
    return ctypes.CDLL("libcuda.so.1")


def _pycuda() -> tuple[Any, Any]:
    """pycuda.driver and pycuda.compiler; never pycuda.autoinit, which makes a context of its own."""
    try:
        from pycuda import compiler, driver
    except ImportError as error:
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"fails to load ({error})"
        raise EngineUnavailable(f"pycuda {reason}; run {PYCUDA}") from error
    return driver, compiler
