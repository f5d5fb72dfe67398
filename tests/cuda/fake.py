"""A CUDA device that runs on the processor: the part of pycuda.driver and libcuda that is used, with its rules.

Work on a stream is done only when somebody waits for it, streams overtake each other wherever no event forbids it, device
memory starts as garbage, and only the thread that made the context current may call. The kernels are the real ones,
compiled for the processor.
"""

from __future__ import annotations

import ctypes
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

ALIGNMENT = 256


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class Token:
    """One recording of an event."""

    def __init__(self) -> None:
        self.done = False


class FakeCuda:
    """Stands for the module pycuda.driver."""

    Error, MemoryError = Error, MemoryError

    class device_attribute:  # noqa: N801 - as pycuda names it
        MULTIPROCESSOR_COUNT = 16

    class event_flags:  # noqa: N801 - as pycuda names it
        BLOCKING_SYNC = 1

    def __init__(self, kernels: ctypes.CDLL, *, devices: int = 1, seed: int = 0, memory_bytes: int = 1 << 40) -> None:
        self.kernels = kernels
        self.owner: int | None = None
        self.streams: dict[int, Stream] = {}
        self.live: dict[int, int] = {}
        self.log: list[str] = []
        self.memory_bytes = memory_bytes
        self.failing: Exception | None = None
        self.graphs: dict[int, list[Op]] = {}
        self._handles = itertools.count(1)
        self._random = random.Random(seed)
        self.default = Stream(self)
        self.Device, self.Context = _device(self, devices), _context(self)

    # -- rules --

    def own(self) -> None:
        if self.failing is not None:
            raise self.failing
        assert threading.get_ident() == self.owner, "cannot activate out-of-thread context"

    def drain(self, enough: Callable[[], bool]) -> None:
        """Do queued work, in any order that the events allow, until ``enough``."""
        while not enough():
            ready = [stream for stream in self.streams.values() if stream.queue and stream.queue[0].ready()]
            assert ready, "deadlock: somebody waits for work that cannot be done"
            self._random.choice(ready).queue.pop(0).work()

    # -- the module --

    def init(self) -> None:
        if self.failing is not None:
            raise self.failing

    def get_driver_version(self) -> int:
        return 13000

    def mem_alloc(self, size: int) -> Allocation:
        self.own()
        if sum(self.live.values()) + size > self.memory_bytes:
            raise MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self, size)

    def mem_get_info(self) -> tuple[int, int]:
        self.own()
        return self.memory_bytes - sum(self.live.values()), self.memory_bytes

    def pagelocked_empty(self, shape: int, dtype: Any) -> np.ndarray:
        self.own()
        assert dtype is np.uint8
        return np.asarray(Pinned(self, shape))

    def memset_d8(self, address: int, value: int, count: int) -> None:
        self.own()
        self.default.put("set", lambda: view(address, count).fill(value))

    def memcpy_htod(self, address: Any, source: np.ndarray) -> None:
        """Returns when the source was read; when it has arrived nobody knows, and no stream of ours waits for it."""
        self.own()
        assert source.flags.c_contiguous
        data = source.reshape(-1).view(np.uint8).copy()
        self.default.put("upload", lambda: np.copyto(view(int(address), data.nbytes), data))

    def memcpy_dtoh(self, destination: np.ndarray, address: Any) -> None:
        self.own()
        self.drain(lambda: not self.default.queue)
        destination.reshape(-1).view(np.uint8)[:] = view(int(address), destination.nbytes)

    def memcpy_htod_async(self, destination: Any, source: np.ndarray, stream: Stream) -> None:
        self.own()
        stream.put("up", lambda: np.copyto(view(int(destination), source.nbytes), source.reshape(-1).view(np.uint8)))

    def memcpy_dtoh_async(self, destination: np.ndarray, source: Any, stream: Stream) -> None:
        self.own()
        stream.put("down", lambda: np.copyto(destination, view(int(source), destination.nbytes)))

    def memcpy_dtod_async(self, destination: Any, source: Any, size: int, stream: Stream) -> None:
        self.own()
        stream.put("copy", lambda: np.copyto(view(int(destination), size), view(int(source), size)))

    def memset_d32_async(self, destination: Any, value: int, count: int, stream: Stream) -> None:
        self.own()
        assert stream.recording is None, "a reset is of one frame, not of all"
        stream.put("restart", lambda: view(int(destination), 4 * count).view(np.uint32).fill(value))

    def Stream(self, flags: int = 0) -> Stream:  # noqa: N802 - as pycuda names it
        self.own()
        return Stream(self)

    def Event(self, flags: int = 0) -> Event:  # noqa: N802 - as pycuda names it
        self.own()
        return Event(self)

    # -- pycuda.compiler --

    def SourceModule(self, source: str, *, options: list[str], no_extern_c: bool) -> FakeCuda:  # noqa: N802
        self.own()
        assert 'extern "C" __global__' in source
        assert no_extern_c
        return self

    def get_function(self, name: str) -> Function:
        return Function(self, name)

    # -- libcuda, for the graphs --

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:  # noqa: N802
        self.own()
        assert mode == 1
        self.streams[stream.value or 0].recording = []
        return 0

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:  # noqa: N802
        self.own()
        source = self.streams[stream.value or 0]
        recorded, source.recording = source.recording, None
        assert recorded is not None
        graph._obj.value = next(self._handles)
        self.graphs[graph._obj.value] = recorded
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: ctypes.c_void_p, flags: Any) -> int:  # noqa: N802
        self.own()
        executable._obj.value = graph.value
        return 0

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:  # noqa: N802
        self.own()
        self.log.append("graph")
        for op in self.graphs[executable.value]:
            self.streams[stream.value or 0].queue.append(op)
        return 0

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:  # noqa: N802
        self.own()
        return 0

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:  # noqa: N802
        self.own()
        del self.graphs[graph.value]
        return 0


class Op:
    def __init__(self, name: str, work: Callable[[], None], ready: Callable[[], bool] = lambda: True) -> None:
        self.name, self.work, self.ready = name, work, ready


class Stream:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.queue: list[Op] = []
        self.recording: list[Op] | None = None
        self.handle = 1000 + len(cuda.streams)
        cuda.streams[self.handle] = self

    def put(self, name: str, work: Callable[[], None], ready: Callable[[], bool] = lambda: True) -> None:
        self.cuda.log.append(name)
        (self.queue if self.recording is None else self.recording).append(Op(name, work, ready))

    def wait_for_event(self, event: Event) -> None:
        self.cuda.own()
        assert self.recording is None, "an event from outside of a capture"
        token = event.token
        self.put("wait", lambda: None, lambda: token is None or token.done)

    def synchronize(self) -> None:
        self.cuda.own()
        self.cuda.drain(lambda: not self.queue)


class Event:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.token: Token | None = None

    def record(self, stream: Stream) -> Event:
        self.cuda.own()
        token = self.token = Token()
        stream.put("record", lambda: setattr(token, "done", True))
        return self

    def synchronize(self) -> Event:
        self.cuda.own()
        token = self.token
        assert token is not None
        self.cuda.drain(lambda: token.done)
        return self

    def time_since(self, earlier: Event) -> float:
        self.cuda.own()
        assert self.token is not None
        assert earlier.token is not None
        assert self.token.done
        assert earlier.token.done, "device not ready"
        return 0.5


class Allocation:
    def __init__(self, cuda: FakeCuda, size: int) -> None:
        self._cuda, self._memory = cuda, np.full(size + ALIGNMENT, 0xA5, np.uint8)
        address = self._memory.ctypes.data
        self._address = address + -address % ALIGNMENT
        cuda.live[id(self)] = size

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._cuda.own()
        del self._cuda.live[id(self)]  # twice is an error
        self._memory[:] = 0xEE


class Pinned:
    """What an array of pinned memory has as its base."""

    def __init__(self, cuda: FakeCuda, size: int) -> None:
        self._cuda, self._memory = cuda, np.full(size, 0xA5, np.uint8)
        self.__array_interface__ = self._memory.__array_interface__
        cuda.live[id(self)] = size

    def free(self) -> None:
        self._cuda.own()
        del self._cuda.live[id(self)]


class Function:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self._cuda, self._name = cuda, name
        self._types = ""

    def prepare(self, types: str) -> None:
        self._types = types

    def prepared_async_call(
        self, grid: tuple[int, int], block: tuple[int, ...], stream: Stream, *arguments: int
    ) -> None:
        self._cuda.own()
        assert len(arguments) == len(self._types)
        assert block == ((1, 1, 1) if self._name == "scene" else (32, 8, 1))
        kinds = {"P": ctypes.c_void_p, "i": ctypes.c_int}
        values = [kinds[kind](int(value)) for kind, value in zip(self._types, arguments, strict=True)]
        kernel = getattr(self._cuda.kernels, f"host_{self._name}")
        stream.put(self._name, lambda: kernel(*grid, *values))


def view(address: int, size: int) -> np.ndarray:
    """Bytes of the memory of the process."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def floats(address: int, count: int) -> np.ndarray:
    return view(address, 4 * count).view(np.float32)


def _device(cuda: FakeCuda, devices: int) -> type:
    class Device:
        def __init__(self, ordinal: int) -> None:
            assert ordinal < devices

        @staticmethod
        def count() -> int:
            return devices

        def name(self) -> str:
            return "Fake GPU"

        def compute_capability(self) -> tuple[int, int]:
            return 9, 0

        def get_attribute(self, attribute: int) -> int:
            assert attribute == 16
            return 132

        def retain_primary_context(self) -> Any:
            return cuda.Context()

    return Device


def _context(cuda: FakeCuda) -> type:
    class Context:
        def push(self) -> None:
            cuda.owner = threading.get_ident()

        @staticmethod
        def pop() -> None:
            cuda.own()

        def detach(self) -> None:
            cuda.own()
            cuda.owner = None

        @staticmethod
        def synchronize() -> None:
            cuda.own()
            cuda.drain(lambda: all(not stream.queue for stream in cuda.streams.values()))

    return Context
