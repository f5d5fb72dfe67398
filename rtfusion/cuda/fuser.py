"""The fuser of an NVIDIA device: a frame crosses the bus once each way, and one stream orders all that happens to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from rtfusion.config import Settings
from rtfusion.cuda.device import SETUP_TIMEOUT_S, Device
from rtfusion.cuda.setup import Model, Setup, Shapes, Slot
from rtfusion.engines import DeviceNetwork, open_network, resolve
from rtfusion.errors import ConfigError, EngineError
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.learned import MEAN_TIME_CONSTANT_S, SCENE_MEANS, check_scalars, dials
from rtfusion.fusion.tone import GainControl, SlowShare
from rtfusion.models import ModelSpec, find_model, read_spec
from rtfusion.registration import Calibration, register
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame, FramePair, FusedFrame, Image, Image8, PixelFormat

OpenNetwork = Callable[[Path, tuple[int, int]], DeviceNetwork]
"""Loads a model file for images of a size (width, height), a multiple of its stride."""

_NS_PER_MS = 1e6
_EVERY_LEVEL: Image = np.arange(256, dtype=np.uint8)[None]
_EVERY_COUNT: Image = np.arange(65536, dtype=np.uint16)[None]


class CudaFuser:
    """register → tone → network → compose on the device, on the visible grid.

    ``open_network`` runs in the thread that asks for a model, beside the frames; all else of the device runs in its own thread
    (`Device.call`). `change` may be called by any thread, all else by one. A device that fails in mid-run ends the run
    with an EngineError: exit code 4, for whoever watches over it to start it anew.

    Raises:
        ModelError, ConfigError: the model has no contract that holds, or no such dial.
    """

    def __init__(
        self,
        *,
        device: Device,
        open_network: OpenNetwork,
        model: Path,
        gain: GainControl,
        calibration: Calibration | None,
        telemetry: Telemetry,
        scalars: Mapping[str, float] | None = None,
        still: bool = False,
        name: str = "learned",
    ) -> None:
        self.name = name
        self._device = device
        self._open_network = open_network
        self._model_path, self._spec = model, read_spec(model)
        self._chosen = dict(scalars or {})
        check_scalars(self._spec, self._chosen, model=model, followed=SCENE_MEANS)
        self._gain = gain
        self._calibration = calibration
        self._telemetry = telemetry
        self._share = SlowShare(time_constant_s=0.0 if still else MEAN_TIME_CONSTANT_S)
        self._pool = Pool()
        self._changing, self._swapping = threading.Lock(), threading.Lock()
        self._setup: Setup | None = None
        self._next: Setup | None = None
        self._turn = 0
        self._before: Slot | None = None
        self._means: Any = device.call(device.cuda.mem_alloc, 2 * 4)
        device.call(device.cuda.memset_d8, int(self._means), 0, 2 * 4)

    # -- the way of a frame -----------------------------------------------------------------------------------------

    def __call__(self, pair: FramePair) -> FusedFrame:
        """Fuse one pair and wait for it.

        Raises:
            CalibrationError: a size came that the calibration is not for.
            EngineError: the device or the network failed.
        """
        setup = self._ready_for(pair)
        return self._collect(setup, self._submit(setup, pair), pair)

    def over(self, pairs: Iterable[FramePair]) -> Iterator[FusedFrame]:
        """Fuse one pair after the other, the next one on its way up while the last one comes down: for recordings."""
        waiting: deque[tuple[Setup, Slot, FramePair]] = deque()
        for pair in pairs:
            while waiting and (len(waiting) == len(waiting[0][0].slots) or self._must_change(pair)):
                yield self._collect(*waiting.popleft())
            setup = self._ready_for(pair)
            waiting.append((setup, self._submit(setup, pair), pair))
        while waiting:
            yield self._collect(*waiting.popleft())

    def _submit(self, setup: Setup, pair: FramePair) -> Slot:
        slot = setup.slots[self._turn % len(setup.slots)]
        self._turn += 1
        slot.levels[:] = self._levels(pair.thermal)
        slot.thermal[:] = setup.registration.thermal.reduced(pair.thermal.image)
        slot.visible[:] = pair.visible.image
        slot.wanted[0] = self._share.advance(pair.timestamp_ns)
        for index, name in enumerate(setup.model.spec.scalars, start=1):
            slot.wanted[index] = self._chosen.get(name, setup.model.spec.scalars[name].default)
        self._device.call(self._enqueue, setup, slot)
        return slot

    def _enqueue(self, setup: Setup, slot: Slot) -> None:
        cuda, stream = self._device.cuda, slot.stream
        slot.began.record(stream)
        cuda.memcpy_htod_async(slot.device_in, slot.host_in, stream)
        slot.uploaded.record(stream)
        if self._before is not None:  # the network and the means of the scene are common to all slots
            stream.wait_for_event(self._before.computed)
        if slot.graph is not None:
            slot.graph.launch(stream)
        else:
            setup.enqueue(slot)
        slot.computed.record(stream)
        cuda.memcpy_dtoh_async(slot.host_out, slot.device_out, stream)
        slot.done.record(stream)
        self._before = slot

    def _collect(self, setup: Setup, slot: Slot, pair: FramePair) -> FusedFrame:
        self._device.call(self._wait, slot)
        height, width = setup.shapes.visible[:2]
        image, thermal = self._pool.take((height, width, 3)), self._pool.take((height, width))
        image[:], thermal[:] = slot.image, slot.registered
        return FusedFrame(
            image=image,
            visible=cast(Image8, pair.visible.image),
            thermal=thermal,
            timestamp_ns=pair.timestamp_ns,
            thermal_timestamp_ns=pair.thermal.timestamp_ns,
            received_ns=pair.received_ns,
            sequence=pair.sequence,
            fuser=self.name,
            model_id=setup.model.spec.id,
            calibration_id=setup.registration.calibration_id,
            thermal_state=self._gain.state,
            name=pair.visible.name,
        )

    def _wait(self, slot: Slot) -> None:
        slot.done.synchronize()
        for stage, since, until in (
            ("upload", slot.began, slot.uploaded),
            ("compute", slot.uploaded, slot.computed),
            ("download", slot.computed, slot.done),
        ):
            self._telemetry.stage(stage).record(round(until.time_since(since) * _NS_PER_MS))

    def _levels(self, thermal: Frame) -> Image8:
        """The gray level of every count."""
        if thermal.pixel_format is PixelFormat.GRAY8:
            return self._gain(_EVERY_LEVEL, timestamp_ns=thermal.timestamp_ns)[0]
        # the end points follow the scene, unless the shutter hides it
        self._gain(thermal.image, timestamp_ns=thermal.timestamp_ns, hold=thermal.shutter)
        return self._gain(_EVERY_COUNT, timestamp_ns=thermal.timestamp_ns, hold=True)[0]

    # -- what the frames are made with ------------------------------------------------------------------------------

    @property
    def engine(self) -> str | None:
        """What runs the network; None until the first setup."""
        return None if self._setup is None else f"{self._setup.model.network.description} on {self._device.description}"

    @property
    def calibration(self) -> Calibration | None:
        """The one in use, or about to be."""
        return self._calibration

    @property
    def scalars(self) -> Mapping[str, float]:
        """The dials of the model and where they stand."""
        return dials(self._spec, self._chosen, followed=SCENE_MEANS)

    @property
    def palette(self) -> None:
        """It paints no colors."""
        return

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        """Use these from the next frame on; see `rtfusion.fusion.base.Control`."""
        if palette is not None:
            raise ConfigError(f"the palette cannot be changed: the fuser is {self.name}, which paints no colors")
        with self._changing:
            path, spec, chosen = self._model_path, self._spec, self._chosen
            if model is not None:
                path = find_model(model)
                spec = read_spec(path)
                chosen = {name: value for name, value in chosen.items() if name in spec.scalars}
            check_scalars(spec, scalars, model=path, followed=SCENE_MEANS)
            running = self._next or self._setup
            if running is not None and (model is not None or calibration is not None):
                loaded = running.model if model is None else None
                setup = self._make(running.shapes, path, spec, calibration or self._calibration, loaded=loaded)
                self._hand_over(setup)
            self._model_path, self._spec, self._chosen = path, spec, {**chosen, **scalars}
            self._calibration = calibration or self._calibration

    def prepare(self, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]) -> None:
        """Load the network and make the tables ahead of the first pair, so that what is wrong is found at the start.

        Raises:
            CalibrationError, ModelError, EngineError: they cannot be used for these sizes.
        """
        visible, thermal = (size_px[::-1] for size_px in (visible_size_px, thermal_size_px))
        self._setup = self._make(Shapes((*visible, 3), thermal, 1), self._model_path, self._spec, self._calibration)

    def close(self) -> None:
        """Release the network and the device; may be called twice."""
        with self._swapping:
            setups, self._setup, self._next = [self._setup, self._next], None, None
        try:
            for setup in setups:
                self._release(setup, keep=None)
            if self._means is not None:
                self._device.call(self._means.free)
        except EngineError:
            pass  # it was lost before, which has been said
        self._means = None
        self._device.close()

    def _must_change(self, pair: FramePair) -> bool:
        return self._next is not None or self._setup is None or self._setup.shapes != _shapes_of(pair)

    def _ready_for(self, pair: FramePair) -> Setup:
        """The setup for this pair: the one that runs, the one that was prepared meanwhile, or a new one for a new size."""
        if pair.visible.pixel_format is PixelFormat.GRAY16:
            raise ConfigError("the visible source gives 16-bit counts; are --ir and --vis exchanged?")
        with self._swapping:
            replaced = self._setup
            if self._next is not None:
                self._setup, self._next = self._next, None
        if replaced is not self._setup:
            self._release(replaced, keep=self._setup)
        setup, shapes = self._setup, _shapes_of(pair)
        if setup is not None and setup.shapes == shapes:
            return setup
        same_size = setup is not None and setup.shapes.visible[:2] == shapes.visible[:2]
        loaded = setup.model if setup is not None and same_size else None
        self._setup = self._make(shapes, self._model_path, self._spec, self._calibration, loaded=loaded)
        self._release(setup, keep=self._setup)
        return self._setup

    def _make(
        self,
        shapes: Shapes,
        path: Path,
        spec: ModelSpec,
        calibration: Calibration | None,
        *,
        loaded: Model | None = None,
    ) -> Setup:
        """A setup beside the running one. Loading is done in this thread, the rest, in milliseconds, in the device's."""
        (height, width), (thermal_height, thermal_width) = shapes.visible[:2], shapes.thermal
        registration = register(
            visible_size_px=(width, height), thermal_size_px=(thermal_width, thermal_height), calibration=calibration
        )
        size_px = width + -width % spec.stride, height + -height % spec.stride
        network = self._open_network(path, size_px) if loaded is None else loaded.network

        def make() -> Setup:
            model = loaded or Model(self._device, path=path, spec=spec, network=network, size_px=size_px)
            try:
                means = int(self._means)
                return Setup(self._device, shapes=shapes, model=model, registration=registration, means=means)
            except BaseException:
                if model is not loaded:
                    model.close()
                raise

        return self._device.call(make, timeout_s=SETUP_TIMEOUT_S)

    def _hand_over(self, setup: Setup) -> None:
        with self._swapping:
            replaced, self._next = self._next, setup
        self._release(replaced, keep=setup)

    def _release(self, setup: Setup | None, *, keep: Setup | None) -> None:
        """Free a setup, and its network unless ``keep`` goes on with it."""
        if setup is None:
            return

        def free() -> None:
            self._before = None
            setup.close()
            if keep is None or keep.model is not setup.model:
                setup.model.close()

        self._device.call(free)


def open_cuda_fuser(
    settings: Settings, *, gain: GainControl, calibration: Calibration | None, telemetry: Telemetry, still: bool
) -> CudaFuser:
    """The fuser of the first CUDA device, as the settings say.

    Raises:
        ConfigError: a setting that only the fuser of the host knows.
        EngineUnavailable: no device, or what it needs is not installed.
        ModelError: the model cannot be used.
    """
    engine = resolve(settings.engine)
    only_on_host = {
        "refine": settings.refine,
        f"grid {settings.grid}": settings.grid != "visible",
        f"look {settings.look}": settings.look != "eye",
    }
    for word, asked in only_on_host.items():
        if asked:
            raise ConfigError(f"{word} is for engines of the CPU, and the engine is {engine}; choose --engine openvino")
    device = Device()
    try:
        return CudaFuser(
            device=device,
            open_network=lambda model, size_px: open_network(engine, model=model, size_px=size_px, device=device),
            model=find_model(settings.model, precision="f32" if settings.precision == "auto" else settings.precision),
            gain=gain,
            calibration=calibration,
            telemetry=telemetry,
            scalars={} if settings.enhance is None else {"enhance": settings.enhance},
            still=still,
        )
    except BaseException:
        device.close()
        raise


def _shapes_of(pair: FramePair) -> Shapes:
    return Shapes(pair.visible.image.shape, pair.thermal.image.shape, pair.thermal.image.itemsize)
