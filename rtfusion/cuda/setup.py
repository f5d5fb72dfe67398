"""Device memory for one pair of sizes, one calibration and one model: tables, network, and the buffers of a frame."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.cuda.device import Device, Graph
from rtfusion.engines.base import DeviceNetwork, Tensor, contract_ports
from rtfusion.fusion.inputs import StateClock
from rtfusion.models import ModelSpec
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, Shape
from rtfusion.registration import PairShape, Registration
from rtfusion.types import Image, Image8

ALIGNMENT_BYTES = 256
_FLOAT_BYTES = 4


class Model:
    """A network, its contract and memory, and the tensors on the device that it reads and writes. In the thread of the device."""

    def __init__(
        self, device: Device, *, spec: ModelSpec, network: DeviceNetwork, size_px: tuple[int, int], still: bool
    ) -> None:
        self.spec, self.network, self.size_px = spec, network, size_px
        self.clock = StateClock(spec, still=still)
        self._cuda = device.cuda
        self._arena = DeviceArena(device.cuda)
        self.at: dict[str, int] = {}
        """The address of every input and output."""
        self.shapes: dict[str, Shape] = {}
        """The shape of every input and output."""
        try:
            # all scalars in one block, as the kernel writes them
            self.scalars = self._arena.take(ALIGNMENT_BYTES * (1 + len(self.spec.scalars)))
            ports = contract_ports(self.spec, size_px=size_px)
            self.shapes = {**ports.inputs, **ports.outputs}
            self.at = {name: self.scalars + ALIGNMENT_BYTES * index for index, name in enumerate(self.spec.scalars)}
            for name, shape in self.shapes.items():
                if name not in self.at:
                    self.at[name] = self._arena.take(bytes_of(shape))
            network.bind(self.at)
        except BaseException:
            self.close()
            raise

    def restart(self, states: Iterable[str], stream: Any) -> None:
        """Put on a stream that these states start anew."""
        for name in states:
            bits = int(np.float32(self.spec.states[name].initial).view(np.uint32))
            self._cuda.memset_d32_async(self.at[name], bits, int(np.prod(self.shapes[name])), stream)

    def feed_back(self, stream: Any) -> None:
        """Put on a stream that what the network gave of its states is what it takes next."""
        for name, state in self.spec.states.items():
            self._cuda.memcpy_dtod_async(self.at[name], self.at[state.fed_from], bytes_of(self.shapes[name]), stream)

    def close(self) -> None:
        """Release the network and the tensors. Idempotent."""
        self.network.close()
        self._arena.close()


def bytes_of(shape: Shape) -> int:
    """The size of a float32 tensor."""
    return int(np.prod(shape)) * _FLOAT_BYTES


class DeviceArena:
    """Device memory, freed together."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._taken: list[Any] = []

    def take(self, size_bytes: int) -> int:
        """The address of so many bytes, a multiple of 256."""
        self._taken.append(self._cuda.mem_alloc(size_bytes))
        return int(self._taken[-1])

    def upload(self, array: npt.NDArray[Any]) -> int:
        """The address of a copy."""
        address = self.take(array.nbytes)
        self._cuda.memcpy_htod(address, np.ascontiguousarray(array))
        return address

    def close(self) -> None:
        """Free all of it. Idempotent."""
        while self._taken:
            self._taken.pop().free()


class DevicePlan:
    """Made, used and closed in the thread of the device. Made ready by one real run, and then captured as graphs."""

    def __init__(
        self,
        device: Device,
        *,
        shapes: PairShape,
        model: Model,
        followed: Mapping[str, str],
        registration: Registration,
        means: int,
    ) -> None:
        self.device, self.shapes, self.model = device, shapes, model
        self.registration = registration
        self._followed = followed
        """The scalars that follow the scene, and the image whose mean each one is."""
        self._means = means
        """The address of the means of the scene, which outlive this."""
        self._arena = DeviceArena(device.cuda)
        self.frame: FrameBuffers | None = None
        # the tables lead into the thermal image as it is after it was made smaller, where it is
        self._thermal_shape = registration.thermal.reduced(np.zeros(shapes.thermal, np.uint8)).shape
        try:
            self._upload_tables()
            self.frame = FrameBuffers(device.cuda, shapes=shapes._replace(thermal=self._thermal_shape), model=model)
            self._make_ready(self.frame)
        except BaseException:
            self.close()
            raise

    def enqueue(self, frame: FrameBuffers) -> None:
        """Put everything between the two copies of a frame on the stream of its buffers."""
        self._compute(frame)
        self.model.feed_back(frame.stream)

    def _compute(self, frame: FrameBuffers) -> None:
        height, width = self.shapes.visible[:2]
        channels = 3 if len(self.shapes.visible) == 3 else 1
        thermal_height, thermal_width = self._thermal_shape
        model, stream, launch = self.model, frame.stream, self.device.launch
        padded_width, padded_height = model.size_px
        launch(
            "prepare", stream, frame.visible_at, channels, frame.thermal_at, self.shapes.thermal_bytes, thermal_width,
            thermal_height, frame.levels_at, self._source_x, self._source_y, width, height, padded_width, padded_height,
            *(model.at[name] for name in IMAGE_INPUTS), frame.registered_at, self._sums, width=padded_width,
            height=padded_height,
        )  # fmt: skip
        launch(
            "scene", stream, frame.wanted_at, self._mean_of, len(model.spec.scalars), width * height, self._sums,
            self._means, model.scalars, single=True,
        )  # fmt: skip
        for name, address in frame.maps_at.items():
            self.device.cuda.memcpy_dtod_async(model.at[name], address, bytes_of(model.shapes[name]), stream)
        model.network.enqueue(stream.handle)
        launch(
            "compose", stream, frame.visible_at, channels, model.at[OUTPUT], self._inside, width, height, padded_width,
            frame.image_at, width=width, height=height,
        )  # fmt: skip

    def close(self) -> None:
        """Free everything but the model. Idempotent."""
        if self.frame is not None:
            self.frame.close()
            self.frame = None
        self._arena.close()

    def _upload_tables(self) -> None:
        upload, followed = self._arena.upload, self._followed
        mean_of = [IMAGE_INPUTS.index(followed[name]) if name in followed else -1 for name in self.model.spec.scalars]
        self._mean_of = upload(np.array([*mean_of, -1], np.int32))
        self._sums = upload(np.zeros(2, np.uint64))
        maps, weights = self.registration.thermal.maps, self.registration.weights
        self._source_x, self._source_y = (0, 0) if maps is None else (upload(maps[0]), upload(maps[1]))
        self._inside = 0 if weights is None else upload(weights[0])

    def _make_ready(self, frame: FrameBuffers) -> None:
        """One checked run on black images, then a graph of it.

        Captured before any run, or after one that was refused, a graph would replay what never worked. The run feeds no state
        back: the model may be that of a running plan, which goes on.
        """
        self.device.cuda.Context.synchronize()  # for the tables to have arrived; and a running plan may use the same model
        frame.host_in[:] = 0  # a share of 0 leaves the means of the scene as they are
        self.device.cuda.memcpy_htod_async(frame.device_in, frame.host_in, frame.stream)
        self._compute(frame)
        frame.stream.synchronize()
        if self.model.network.capturable:
            frame.graph = self.device.capture(frame.stream, functools.partial(self.enqueue, frame))


class FrameBuffers:
    """One frame's way up and down: a block of pinned memory and of device memory each, a stream, events, a graph."""

    def __init__(self, cuda: Any, *, shapes: PairShape, model: Model) -> None:
        height, width = shapes.visible[:2]
        maps = {name: model.shapes[name] for name in model.spec.maps}
        sizes = {
            "wanted": (1 + len(model.spec.scalars)) * _FLOAT_BYTES,
            "levels": 256**shapes.thermal_bytes,
            "thermal": int(np.prod(shapes.thermal)) * shapes.thermal_bytes,
            "visible": int(np.prod(shapes.visible)),
            **{f"map {name}": bytes_of(shape) for name, shape in maps.items()},
        }
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = end
            end += size + -size % ALIGNMENT_BYTES
        self.host_in: Image8 = cuda.pagelocked_empty(end, np.uint8)
        self.host_out: Image8 = cuda.pagelocked_empty(4 * height * width, np.uint8)
        self.device_in, self.device_out = cuda.mem_alloc(end), cuda.mem_alloc(4 * height * width)
        parts = {name: self.host_in[starts[name] : starts[name] + size] for name, size in sizes.items()}
        self.wanted = parts["wanted"].view(np.float32)
        self.levels, self.visible = parts["levels"], parts["visible"].reshape(shapes.visible)
        self.thermal: Image = parts["thermal"].view(np.uint16 if shapes.thermal_bytes == 2 else np.uint8)
        self.thermal = self.thermal.reshape(shapes.thermal)
        self.maps: dict[str, Tensor] = {
            name: parts[f"map {name}"].view(np.float32).reshape(shape) for name, shape in maps.items()
        }
        self.image = self.host_out[: 3 * height * width].reshape(height, width, 3)
        self.registered = self.host_out[3 * height * width :].reshape(height, width)
        at = {name: int(self.device_in) + start for name, start in starts.items()}
        self.wanted_at, self.levels_at, self.thermal_at, self.visible_at = (at[name] for name in list(sizes)[:4])
        self.maps_at = {name: at[f"map {name}"] for name in maps}
        self.image_at = int(self.device_out)
        self.registered_at = self.image_at + 3 * height * width
        self.stream = cuda.Stream(1)  # CU_STREAM_NON_BLOCKING: nothing waits for the default stream
        waits = cuda.event_flags.BLOCKING_SYNC  # a thread that spins would take a core from the decoders
        self.began, self.uploaded, self.computed, self.done = (cuda.Event(waits) for _ in range(4))
        self.graph: Graph | None = None

    def close(self) -> None:
        """Wait for what is under way, and free it."""
        self.stream.synchronize()
        if self.graph is not None:
            self.graph.close()
            self.graph = None
        self.device_in.free()
        self.device_out.free()
        # views into pinned memory end with it
        self.maps.clear()
        host: list[Any] = [self.host_in.base, self.host_out.base]
        self.host_in = self.host_out = self.wanted = self.levels = None  # type: ignore[assignment]
        self.visible = self.thermal = self.image = self.registered = None  # type: ignore[assignment]
        for allocation in host:
            allocation.free()
