"""The pixel work of an NVIDIA device: a frame crosses the bus once each way, and one stream orders all that happens to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rtfusion.config import Settings
from rtfusion.cuda.device import SETUP_TIMEOUT_S, Device
from rtfusion.cuda.setup import DevicePlan, FrameBuffers, Model
from rtfusion.engines import ON_GPU, DeviceNetwork, model_file, open_network, resolve
from rtfusion.errors import ConfigError, EngineError
from rtfusion.fusion.base import Change
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.inputs import ModelInputs
from rtfusion.fusion.learned import MEAN_TIME_CONSTANT_S
from rtfusion.fusion.scene import SceneMemory
from rtfusion.fusion.tone import GainControl
from rtfusion.fusion.upsampling import BILINEAR, is_magnified, told
from rtfusion.intents import Intents
from rtfusion.models import read_spec
from rtfusion.models.shipping import is_name
from rtfusion.registration import PairShape, RegisteredPair, Registration
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame, FramePair, Image, Image8, InputValue, PixelFormat

OpenNetwork = Callable[[Path, tuple[int, int]], DeviceNetwork]
"""Loads a model file for images of a size (width, height), a multiple of its stride."""

_NS_PER_MS = 1e6
_EVERY_LEVEL: Image = np.arange(256, dtype=np.uint8)[None]
_EVERY_COUNT: Image = np.arange(65536, dtype=np.uint16)[None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CudaReady:
    """A model with its inputs, and what stands on the device for it; see `rtfusion.fusion.base.Ready`."""

    shape: PairShape | None
    registration: Registration | None
    model: Path
    """The model as it was named."""
    precision: str
    values: ModelInputs
    plan: DevicePlan | None
    """The tables and buffers in device memory; None until the first pair is known."""
    device_name: str
    palette: None = None
    look: None = None

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """The inputs of the model that a person may set."""
        return self.values.values

    @property
    def engine(self) -> str | None:
        """A description of the engine that runs the network; None until it is loaded."""
        return None if self.plan is None else f"{self.plan.model.network.description} on {self.device_name}"

    @property
    def model_id(self) -> str:
        """The model."""
        return self.values.spec.id


class CudaRenderer:
    """register → tone → network → compose on the device, on the visible grid.

    ``open_network`` runs in the thread that asks for a model, beside the frames; all else of the device runs in its own thread
    (`Device.call`). A device that fails in mid-run ends the run with an EngineError: exit code 4, for whoever watches over it
    to start it anew.

    Raises:
        ModelError, ConfigError: the model has no contract that holds, or no such input.
    """

    grid = "visible"
    focus = None
    refuses_intents: str | None = "intents are for engines of the CPU; choose --engine openvino"

    def __init__(
        self,
        *,
        device: Device,
        open_network: OpenNetwork,
        model: Path,
        telemetry: Telemetry,
        precision: str = "auto",
        inputs: Mapping[str, InputValue] | None = None,
        still: bool = False,
        name: str = "learned",
    ) -> None:
        self.name = name
        self._device = device
        self._open_network = open_network
        self._telemetry = telemetry
        self._first = Change(model=model, precision=precision, inputs=inputs or {})
        self._model(None, self._first)
        self._still = still
        self._scene = SceneMemory(time_constant_s=0.0 if still else MEAN_TIME_CONSTANT_S)
        self._pool = Pool()
        self._means: Any = device.call(device.cuda.mem_alloc, 2 * 4)
        device.call(device.cuda.memset_d8, int(self._means), 0, 2 * 4)

    def render(
        self, pair: FramePair, *, ready: CudaReady, registration: Registration, gain: GainControl, intents: Intents
    ) -> tuple[RegisteredPair, Image8]:
        """Send one pair up and wait for it; see `rtfusion.fusion.base.Renderer`."""
        plan = cast(DevicePlan, ready.plan)
        frame = cast(FrameBuffers, plan.frame)
        frame.levels[:] = _levels(pair.thermal, gain)
        frame.thermal[:] = registration.thermal.reduced(pair.thermal.image)
        frame.visible[:] = pair.visible.image
        frame.wanted[0] = self._scene.weight(cast(Image8, pair.visible.image), timestamp_ns=pair.timestamp_ns)
        fed = ready.values.fed(size_px=pair.visible.size_px)
        frame.wanted[1:] = [fed[name] for name in ready.values.spec.scalars]
        for name, plane in frame.maps.items():
            np.copyto(plane, fed[name])
        self._device.call(self._run, plan, frame, plan.model.clock.restarted(pair.timestamp_ns))
        height, width = plan.shapes.visible[:2]
        image, thermal = self._pool.take((height, width, 3)), self._pool.take((height, width))
        image[:], thermal[:] = frame.image, frame.registered
        visible = cast(Image8, pair.visible.image)
        return RegisteredPair(pair=pair, visible=visible, thermal=thermal, registration=registration), image

    def ready(
        self,
        *,
        shape: PairShape | None,
        registration: Registration | None,
        before: CudaReady | None,
        change: Change,
    ) -> CudaReady:
        """Load the network and make the tables; see `rtfusion.fusion.base.Renderer`."""
        if change.palette is not None:
            raise ConfigError(f"the palette cannot be changed: the fuser is {self.name}, which paints no colors")
        if change.look is not None:
            raise ConfigError("the look cannot be changed: this engine makes pictures for the eye alone")
        ready = self._model(before, change) if before is not None else self._model(None, self._first)
        if shape is None or registration is None:
            return ready
        if is_magnified(registration.thermal):
            self._telemetry.note(told(registration.thermal, shape=shape, size_px=registration.size_px, how=BILINEAR))
        plan = ready.plan
        if plan is None or plan.registration is not registration or plan.shapes != shape:
            plan = self._plan(ready, shape, registration, loaded=None if before is None else before.plan)
        return replace(ready, shape=shape, registration=registration, plan=plan)

    def release(self, ready: CudaReady, *, keep: Collection[CudaReady] = ()) -> None:
        """Free a plan, and its network, unless another one goes on with it. A device that was lost frees nothing."""
        plan, kept = ready.plan, [other.plan for other in keep if other.plan is not None]
        if plan is None:
            return

        def free() -> None:
            if all(plan is not other for other in kept):
                plan.close()
            if all(plan.model is not other.model for other in kept):
                plan.model.close()

        with contextlib.suppress(EngineError):  # which has been said when it was lost
            self._device.call(free)

    def close(self) -> None:
        """Release the device. Idempotent."""
        if self._means is not None:
            with contextlib.suppress(EngineError):
                self._device.call(self._means.free)
        self._means = None
        self._device.close()

    # -- models and plans -------------------------------------------------------------------------------------------

    def _model(self, before: CudaReady | None, change: Change) -> CudaReady:
        """The model after a change, not yet loaded where it is another one."""
        if before is not None and change.model is None and change.precision is None:
            return replace(before, values=before.values.changed(change.inputs))
        precision = change.precision or ("auto" if before is None else before.precision)
        model = change.model or cast(CudaReady, before).model
        precision = ON_GPU if precision == "auto" and is_name(model) else precision
        path = model_file(model, precision=precision, on_gpu=True)
        chosen = ModelInputs if before is None else before.values.moved
        return CudaReady(
            shape=None,
            registration=None,
            model=model,
            precision=precision,
            values=chosen(read_spec(path), model=path, chosen=change.inputs),
            plan=None,
            device_name=self._device.description,
        )

    def _plan(
        self, ready: CudaReady, shape: PairShape, registration: Registration, *, loaded: DevicePlan | None
    ) -> DevicePlan:
        """A plan beside the running one. Loading is done in this thread, the rest, in milliseconds, in the device's."""
        height, width = shape.visible[:2]
        values = ready.values
        size_px = values.spec.padded_px((width, height))
        model = None if loaded is None else loaded.model
        if model is not None and (model.spec.id != values.spec.id or model.size_px != size_px):
            model = None
        network = self._open_network(values.model, size_px) if model is None else model.network

        def make() -> DevicePlan:
            used = model or Model(self._device, spec=values.spec, network=network, size_px=size_px, still=self._still)
            try:
                return DevicePlan(
                    self._device,
                    shapes=shape,
                    model=used,
                    followed=values.followed,
                    registration=registration,
                    means=int(self._means),
                )
            except BaseException:
                if used is not model:
                    used.close()
                raise

        return self._device.call(make, timeout_s=SETUP_TIMEOUT_S)

    # -- in the thread of the device --------------------------------------------------------------------------------

    def _run(self, plan: DevicePlan, frame: FrameBuffers, restarted: Collection[str]) -> None:
        cuda, stream = self._device.cuda, frame.stream
        frame.began.record(stream)
        cuda.memcpy_htod_async(frame.device_in, frame.host_in, stream)
        frame.uploaded.record(stream)
        plan.model.restart(restarted, stream)
        if frame.graph is not None:
            frame.graph.launch(stream)
        else:
            plan.enqueue(frame)
        frame.computed.record(stream)
        cuda.memcpy_dtoh_async(frame.host_out, frame.device_out, stream)
        frame.done.record(stream)
        frame.done.synchronize()
        for stage, since, until in (
            ("upload", frame.began, frame.uploaded),
            ("compute", frame.uploaded, frame.computed),
            ("download", frame.computed, frame.done),
        ):
            self._telemetry.stage(stage).record(round(until.time_since(since) * _NS_PER_MS))


def open_cuda_renderer(settings: Settings, *, telemetry: Telemetry, still: bool) -> CudaRenderer:
    """Open the first CUDA device for a run with these settings.

    Raises:
        EngineUnavailable: no device, or what it needs is not installed.
        ModelError: the model cannot be used.
    """
    engine = resolve(settings.engine)
    if settings.trust:
        telemetry.note(
            f"bands that are blank or burnt out are fused as they are: engine {engine} does not judge them yet"
        )
    if settings.color == "seen":
        telemetry.note(f"all color is kept, as with --color everywhere: engine {engine} does not judge it yet")
    device = Device()
    try:
        return CudaRenderer(
            device=device,
            open_network=lambda model, size_px: open_network(engine, model=model, size_px=size_px, device=device),
            model=settings.model,
            precision=settings.precision,
            telemetry=telemetry,
            inputs={} if settings.enhance is None else {"enhance": settings.enhance},
            still=still,
        )
    except BaseException:
        device.close()
        raise


def _levels(thermal: Frame, gain: GainControl) -> Image8:
    """The gray level of every count."""
    if thermal.pixel_format is PixelFormat.GRAY8:
        return gain.toned(_EVERY_LEVEL)[0]
    return gain.toned(_EVERY_COUNT)[0]
