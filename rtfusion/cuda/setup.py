"""What stands in device memory for one pair of sizes, one calibration and one model: tables, planes, network, slots."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.cuda.device import Device, Graph
from rtfusion.engines.base import DeviceNetwork
from rtfusion.fusion.learned import SCENE_MEANS
from rtfusion.models import ModelSpec
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT
from rtfusion.registration import PairShape, Registration
from rtfusion.types import Image, Image8

ALIGNMENT_BYTES = 256
_FLOAT_BYTES = 4


class Model:
    """A network, its contract, and the planes in device memory that it reads and writes. In the thread of the device."""

    def __init__(
        self, device: Device, *, path: Path, spec: ModelSpec, network: DeviceNetwork, size_px: tuple[int, int]
    ) -> None:
        self.path, self.spec, self.network, self.size_px = path, spec, network, size_px
        self.visible_y, self.thermal_y, self.fused_y, self.scalars = (0, 0, 0, 0)
        self._room = Room(device.cuda)
        try:
            plane_bytes = size_px[0] * size_px[1] * _FLOAT_BYTES
            self.visible_y, self.thermal_y, self.fused_y = (self._room.take(plane_bytes) for _ in range(3))
            self.scalars = self._room.take(ALIGNMENT_BYTES * (1 + len(spec.scalars)))
            dials = {name: self.scalars + ALIGNMENT_BYTES * index for index, name in enumerate(spec.scalars)}
            images = dict(zip(IMAGE_INPUTS, (self.visible_y, self.thermal_y), strict=True))
            network.bind({**images, **dials, OUTPUT: self.fused_y})
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the network and the planes; may be called twice."""
        self.network.close()
        self._room.close()


class Room:
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
        """Free all of it; may be called twice."""
        while self._taken:
            self._taken.pop().free()


class Setup:
    """Made, used and closed in the thread of the device. Made ready by one real run, and then captured as graphs."""

    def __init__(
        self,
        device: Device,
        *,
        shapes: PairShape,
        model: Model,
        registration: Registration,
        means: int,
    ) -> None:
        self.device, self.shapes, self.model = device, shapes, model
        self.registration = registration
        self._means = means
        """Where the means of the scene stand: they outlive this."""
        self._room = Room(device.cuda)
        self.slots: list[Slot] = []
        # the tables lead into the thermal image as it is after it was made smaller, where it is
        self._thermal_shape = registration.thermal.reduced(np.zeros(shapes.thermal, np.uint8)).shape
        try:
            self._upload_tables()
            self.slots = [Slot(device.cuda, shapes=shapes._replace(thermal=self._thermal_shape)) for _ in range(1)]
            self._make_ready()
        except BaseException:
            self.close()
            raise

    def enqueue(self, slot: Slot) -> None:
        """Everything between the two copies of a frame, on the stream of its slot."""
        height, width = self.shapes.visible[:2]
        channels = 3 if len(self.shapes.visible) == 3 else 1
        thermal_height, thermal_width = self._thermal_shape
        model, stream, launch = self.model, slot.stream, self.device.launch
        padded_width, padded_height = model.size_px
        launch(
            "prepare", stream, slot.visible_at, channels, slot.thermal_at, self.shapes.thermal_bytes, thermal_width,
            thermal_height, slot.levels_at, self._source_x, self._source_y, width, height, padded_width, padded_height,
            model.visible_y, model.thermal_y, slot.registered_at, self._sums, width=padded_width, height=padded_height,
        )  # fmt: skip
        launch(
            "scene", stream, slot.wanted_at, self._mean_of, len(model.spec.scalars), width * height, self._sums,
            self._means, model.scalars, single=True,
        )  # fmt: skip
        model.network.enqueue(stream.handle)
        launch(
            "compose", stream, slot.visible_at, channels, model.fused_y, self._inside, width, height, padded_width,
            slot.image_at, width=width, height=height,
        )  # fmt: skip

    def close(self) -> None:
        """Free everything but the model; may be called twice."""
        while self.slots:
            self.slots.pop().close()
        self._room.close()

    def _upload_tables(self) -> None:
        bands, upload = list(IMAGE_INPUTS), self._room.upload
        mean_of = [bands.index(SCENE_MEANS[name]) if name in SCENE_MEANS else -1 for name in self.model.spec.scalars]
        self._mean_of = upload(np.array([*mean_of, -1], np.int32))
        self._sums = upload(np.zeros(2, np.uint64))
        maps, weights = self.registration.thermal.maps, self.registration.weights
        self._source_x, self._source_y = (0, 0) if maps is None else (upload(maps[0]), upload(maps[1]))
        self._inside = 0 if weights is None else upload(weights[0])

    def _make_ready(self) -> None:
        """One checked run on black images, then a graph for every slot.

        Captured before any run, or after one that was refused, a graph would replay what never worked.
        """
        first = self.slots[0]
        self.device.cuda.Context.synchronize()  # for the tables to have arrived; and a running setup may use the same model
        first.host_in[:] = 0  # a share of 0 leaves the means of the scene as they are
        self.device.cuda.memcpy_htod_async(first.device_in, first.host_in, first.stream)
        self.enqueue(first)
        first.stream.synchronize()
        if self.model.network.capturable:
            for slot in self.slots:
                slot.graph = self.device.capture(slot.stream, functools.partial(self.enqueue, slot))


class Slot:
    """One frame's way up and down: a block of pinned memory and of device memory each, a stream, events, a graph."""

    def __init__(self, cuda: Any, *, shapes: PairShape) -> None:
        height, width = shapes.visible[:2]
        sizes = {
            "wanted": ALIGNMENT_BYTES,
            "levels": 256**shapes.thermal_bytes,
            "thermal": int(np.prod(shapes.thermal)) * shapes.thermal_bytes,
            "visible": int(np.prod(shapes.visible)),
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
        self.image = self.host_out[: 3 * height * width].reshape(height, width, 3)
        self.registered = self.host_out[3 * height * width :].reshape(height, width)
        self.wanted_at, self.levels_at, self.thermal_at, self.visible_at = (
            int(self.device_in) + starts[name] for name in sizes
        )
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
        host: list[Any] = [self.host_in.base, self.host_out.base]
        self.host_in = self.host_out = self.wanted = self.levels = None  # type: ignore[assignment]
        self.visible = self.thermal = self.image = self.registered = None  # type: ignore[assignment]
        for allocation in host:
            allocation.free()
