"""From a pair to a fused frame, on any device: register, render, annotate; and changes between two frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, cast

import numpy as np

from rtfusion.config import ONLY_OF, PLAIN, WISHED, Settings
from rtfusion.engines import NETWORKS
from rtfusion.errors import ConfigError
from rtfusion.focus import Box, Focus
from rtfusion.focus.given import checked
from rtfusion.focus.opening import open_focus
from rtfusion.fusion import open_method
from rtfusion.fusion.annotate import annotate, unmeasured
from rtfusion.fusion.base import Change, ReadyT, Renderer
from rtfusion.fusion.denoise import Denoiser
from rtfusion.fusion.emphasis import sought
from rtfusion.fusion.host import HostRenderer
from rtfusion.fusion.tone import TIME_CONSTANT_S, GainControl
from rtfusion.intents import NEUTRAL, PRESETS, RAMP_FRAMES, Intents, Ramp
from rtfusion.registration import Calibration, PairShape, RegisteredPair, Registration, register
from rtfusion.registration.doubt import everywhere
from rtfusion.registration.parallax import Parallax, open_parallax
from rtfusion.registration.refine import Refiner
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, FusedFrame, Image8, InputValue, PixelFormat


class PairFuser(Generic[ReadyT]):
    """Fuses pairs on the device of its renderer.

    What the device needs is made ready for the shape of the pairs that come, and anew when that changes. `change` may be
    called by any thread, all else by one. Frames own their pixels.

    Args:
        renderer: the pixel work of one device; closed with this.
        calibration: None takes both cameras to have the same view.
        denoiser: takes the noise out of the frames that are fused; None leaves them as they came.
        refine: follow slow drift of the registration.
        parallax: `off`, `layers` or `dense`: bring what is nearer or farther than the registration is set for to its place.
        kernels: find the parallax by compiled loops, where they are installed.
        still: the visible frames are unrelated images.
        units: measure and draw the middle, the coldest and the warmest point; see `annotate`.
        wish: the intents that it begins with; None takes those that were recorded with a pair, if any, until it is changed.
        presets: the intents that have a name.
        glide_frames: in so many frames the picture reaches what it is asked for.
    """

    def __init__(
        self,
        renderer: Renderer[ReadyT],
        *,
        gain: GainControl,
        telemetry: Telemetry,
        calibration: Calibration | None = None,
        denoiser: Denoiser | None = None,
        refine: bool = False,
        parallax: str = "off",
        kernels: bool = True,
        still: bool = False,
        units: str | None = None,
        wish: Intents | None = None,
        presets: Mapping[str, Intents] = PRESETS,
        glide_frames: int = RAMP_FRAMES,
    ) -> None:
        self._renderer = renderer
        self._gain = gain
        self._denoiser = denoiser
        self._telemetry = telemetry
        self._calibration = calibration
        self._refiner = Refiner(grid=renderer.grid) if refine else None
        self._parallax_kind, self._still, self._kernels = parallax, still, kernels
        self._parallax: tuple[Registration, Parallax] | None = None
        """The correction, and the registration that it was opened for, not refined."""
        self._units = units
        self._presets = presets
        self._wish = wish
        """What was asked for; None where nothing was."""
        self._versions = 0
        self._glide_frames = glide_frames
        self._ramp = Ramp(wish or NEUTRAL, frames=glide_frames)
        self._ready = renderer.ready(shape=None, registration=None, before=None, change=Change())
        self._next: ReadyT | None = None
        self._changing = threading.Lock()
        """Held as long as a change is being prepared: changes come one after the other."""
        self._swapping = threading.Lock()
        """Held only while what was prepared is handed over, so that no frame waits for it."""
        self._closed = False
        self._tell_of(calibration)

    def __call__(self, pair: FramePair) -> FusedFrame:
        """Fuse one pair.

        Raises:
            ConfigError: the visible frame holds counts.
            CalibrationError: a size came that the calibration is not for.
            EngineError: the device or the network failed.
        """
        if pair.visible.pixel_format is PixelFormat.GRAY16:
            raise ConfigError("the visible source gives 16-bit counts; are --ir and --vis exchanged?")
        ready, registration = self._take(PairShape.of(pair))
        intents, version = self._intents_of(pair)
        base = registration
        if self._refiner is not None:
            registration = self._refiner.registration(base, timestamp_ns=pair.timestamp_ns)
        registration = self._in_doubt(self._at_every_distance(pair, registration, base=base))
        # the gain knows the noise of the camera, which a denoised picture does not tell
        thermal = pair.thermal
        self._gain.follow(thermal.image, timestamp_ns=thermal.timestamp_ns, hold=thermal.shutter)
        registered, image = self._renderer.render(
            self._denoised(pair, left=max(-intents.denoise, 0.0)),
            ready=ready,
            registration=registration,
            gain=self._gain,
            intents=intents,
        )
        # what is measured is what the camera gave: denoising is for the picture
        registered = replace(registered, pair=pair)
        self._refine(registered)
        if self._denoiser is not None:
            image = self._denoiser.settled(image, timestamp_ns=pair.timestamp_ns)
            image = image if self._units is None else image.copy()
        image, marks = annotate(registered, image, units=self._units)
        if why := unmeasured(pair.thermal, units=self._units):
            self._telemetry.note(why)
        return FusedFrame(
            image=image,
            visible=registered.visible,
            thermal=registered.thermal,
            timestamp_ns=pair.timestamp_ns,
            thermal_timestamp_ns=pair.thermal.timestamp_ns,
            received_ns=pair.received_ns,
            sequence=pair.sequence,
            fuser=self.name,
            model_id=ready.model_id,
            calibration_id=registration.calibration_id,
            thermal_state={**self._gain.state, **self._noise, **marks},
            name=pair.visible.name,
            degraded=pair.degraded,
            intents=intents.values,
            intents_version=version,
            thermal_delay_ns=pair.thermal_delay_ns,
            pair=pair,
            targets=registered.targets,
            displacement=None if self._parallax is None else self._parallax[1].displacement,
        )

    def prepare(self, shape: PairShape) -> None:
        """Make ready ahead of the first pair: what is wrong is found early, and no frame waits.

        Raises:
            CalibrationError: the calibration is for cameras of another aspect, or holds no pose where parallax needs it.
            ModelError, EngineError: the model cannot be used for this size.
        """
        _, registration = self._make_ready(shape)
        if self._parallax_kind != "off":
            self._parallax_of(registration, shape)

    @property
    def name(self) -> str:
        """The name of the fuser, for tables and headers."""
        return self._renderer.name

    @property
    def engine(self) -> str | None:
        """A description of the engine that runs the network; None without one, or until it is loaded."""
        return self._ready.engine

    @property
    def precision(self) -> str | None:
        """The precision that is run of the model; None without one, or until it is loaded."""
        return self._ready.precision

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, and what could not be done as it was asked for: sentences for a person, each once."""
        return tuple(self._telemetry.notes)

    # -- changes ----------------------------------------------------------------------------------------------------

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in use, or about to be."""
        return self._calibration

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """The inputs of the model that a person may set, with their values; empty without a model."""
        return self._latest().inputs

    @property
    def model(self) -> Path | None:
        """The model, as it was named; None for fusers without one."""
        return self._latest().model

    @property
    def look(self) -> str | None:
        """Whom the picture is for, ``eye`` or ``detector``; None where that cannot be chosen."""
        return self._latest().look

    @property
    def palette(self) -> str | None:
        """The colors that the fused picture is painted with; None for fusers that paint none."""
        return self._latest().palette

    @property
    def regions(self) -> Sequence[Box] | None:
        """The rectangles that a person drew, and that count; None where this fuser takes none."""
        focus = self._renderer.focus
        return None if focus is None else focus.regions

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        """Take what was found in the fused frame of this stamp; see `rtfusion.fusion.base.Control`."""
        self._focus.report(boxes, timestamp_ns=timestamp_ns)

    @property
    def intents(self) -> Intents | None:
        """See `rtfusion.fusion.base.Control`."""
        return None if self._renderer.refuses_intents is not None else self._wish or NEUTRAL

    @property
    def presets(self) -> Mapping[str, Intents]:
        """See `rtfusion.fusion.base.Control`."""
        return self._presets

    def change(self, change: Change) -> None:
        """Use this from the next frame on; see `rtfusion.fusion.base.Control`."""
        regions = None if change.regions is None else checked(change.regions)
        focus = None if regions is None else self._focus
        with self._changing:
            before = self._latest()
            wish = self._wish if change.intents is None else self._wished(change.intents)
            registration = before.registration
            if change.calibration is not None and before.shape is not None:
                registration = self._register(before.shape, change.calibration)
                if self._parallax_kind != "off":  # what it cannot do is refused here, and not in the middle of the run
                    self._open_parallax(registration, before.shape, change.calibration)
            ready = self._renderer.ready(shape=before.shape, registration=registration, before=before, change=change)
            self._prepare_focus(ready, wish)
            with self._swapping:
                self._calibration = change.calibration or self._calibration
                self._versions += wish != self._wish
                self._wish = wish
                unused, self._next = (ready, None) if self._closed else (self._next, ready)
                kept = [self._ready, ready] if unused is not ready else [self._ready]
            if focus is not None and regions is not None:
                focus.draw(regions)
        self._tell_of(change.calibration)
        if unused is not None and unused not in kept:
            self._renderer.release(unused, keep=kept)

    def close(self) -> None:
        """Release the device. Idempotent."""
        with self._swapping:
            self._closed = True
            prepared, self._next = self._next, None
        if prepared is not None:
            self._renderer.release(prepared, keep=[self._ready])
        self._renderer.release(self._ready)
        self._renderer.close()

    def _tell_of(self, calibration: Calibration | None) -> None:
        """Tell what a calibration that comes into use assumes."""
        for remark in () if calibration is None else calibration.remarks:
            self._telemetry.note(remark)

    @property
    def _focus(self) -> Focus:
        if self._renderer.focus is None:
            raise ConfigError(f"boxes and rectangles change nothing here: the fuser is {self.name} on this engine")
        return self._renderer.focus

    def _prepare_focus(self, ready: ReadyT, wish: Intents | None) -> None:
        """Have what finds the targets of a wish ready before a frame needs it."""
        if self._renderer.focus is not None and ready.registration is not None:
            self._renderer.focus.prepare(ready.registration.size_px[::-1], wanted=sought(wish or NEUTRAL))

    def _latest(self) -> ReadyT:
        with self._swapping:
            return self._ready if self._next is None else self._next

    def _wished(self, intents: Intents | str | Mapping[str, float]) -> Intents:
        if isinstance(intents, str):
            wish = Intents.parse(intents, presets=self._presets)
        else:
            wish = intents if isinstance(intents, Intents) else (self._wish or NEUTRAL).changed(intents)
        if wish and self._renderer.refuses_intents is not None:
            raise ConfigError(self._renderer.refuses_intents)
        return wish

    def _intents_of(self, pair: FramePair) -> tuple[Intents, int]:
        """What the frame of a pair is made with, and how often that was changed before."""
        with self._swapping:
            wish, version = self._wish, self._versions
        if wish is None and pair.intents and self._renderer.refuses_intents is not None:
            self._telemetry.note(f"the recorded intents are left out: {self._renderer.refuses_intents}")
        elif wish is None and pair.intents is not None:
            # they glided when they were recorded; what is asked for later goes on from there
            self._ramp = Ramp(Intents.of(pair.intents), frames=self._glide_frames)
        self._ramp.turn(self._ramp.target if wish is None else wish)
        intents = self._ramp.step()
        self._telemetry.intents, self._telemetry.intents_version = intents.values, version
        return intents, version

    @property
    def _noise(self) -> Mapping[str, float | str]:
        return {} if self._denoiser is None else self._denoiser.state

    def _denoised(self, pair: FramePair, *, left: float) -> FramePair:
        if self._denoiser is None:
            return pair
        started_ns = time.perf_counter_ns()
        denoised = self._denoiser(pair, left=left)
        self._telemetry.stage("denoise").record(time.perf_counter_ns() - started_ns)
        return denoised

    def _take(self, shape: PairShape) -> tuple[ReadyT, Registration]:
        """Take what was prepared meanwhile, and make ready for a new shape where one came."""
        with self._swapping:
            replaced = self._ready
            if self._next is not None:
                self._ready, self._next = self._next, None
        if replaced is not self._ready:
            self._renderer.release(replaced, keep=[self._ready])
        if self._ready.shape == shape and self._ready.registration is not None:
            return self._ready, self._ready.registration
        return self._make_ready(shape)

    def _make_ready(self, shape: PairShape) -> tuple[ReadyT, Registration]:
        with self._changing:
            before = self._latest()
            registration = self._register(shape, self._calibration)
            ready = self._renderer.ready(shape=shape, registration=registration, before=before, change=Change())
            self._prepare_focus(ready, self._wish)
            with self._swapping:
                replaced = {id(one): one for one in (self._ready, self._next) if one is not None}
                self._ready, self._next = ready, None
        for one in replaced.values():
            self._renderer.release(one, keep=[ready])
        return ready, registration

    def _register(self, shape: PairShape, calibration: Calibration | None) -> Registration:
        return register(
            visible_size_px=shape.size_px(Band.VISIBLE),
            thermal_size_px=shape.size_px(Band.THERMAL),
            calibration=calibration,
            grid=self._renderer.grid,
        )

    def _at_every_distance(self, pair: FramePair, registration: Registration, *, base: Registration) -> Registration:
        """The registration of this frame without parallax, where that was asked for."""
        if self._parallax_kind == "off":
            return registration
        started_ns = time.perf_counter_ns()
        result = self._parallax_of(base, PairShape.of(pair)).registration(
            registration,
            visible=cast(Image8, pair.visible.image),
            thermal=pair.thermal.image,
            timestamp_ns=pair.timestamp_ns,
            told=pair.degraded is None and not pair.thermal.shutter,
        )
        self._telemetry.stage("parallax").record(time.perf_counter_ns() - started_ns)
        return result

    def _in_doubt(self, registration: Registration) -> Registration:
        """The registration with what the refinement knows of how far off it is, instead of what the calibration told."""
        off_px = None if self._refiner is None else self._refiner.off_px
        if off_px is None:
            return registration
        result, by_map_px = copy(registration), registration.doubt_px
        result.doubt_px = everywhere(off_px)
        if by_map_px is not None and by_map_px.size > 1:
            result.doubt_px = np.maximum(by_map_px, result.doubt_px)
        return result

    def _parallax_of(self, base: Registration, shape: PairShape) -> Parallax:
        """The correction for a registration, opened when it is another one than before."""
        if self._parallax is None or self._parallax[0] is not base:
            parallax = self._open_parallax(base, shape, self._calibration)
            self._parallax, self._telemetry.parallax = (base, parallax), lambda: parallax.state
        return self._parallax[1]

    def _open_parallax(self, base: Registration, shape: PairShape, calibration: Calibration | None) -> Parallax:
        if calibration is not None:
            sizes_px = {f"{band.value}_size_px": shape.size_px(band) for band in Band}
            calibration = calibration.scaled(**sizes_px)
        return open_parallax(
            self._parallax_kind, calibration=calibration, base=base, still=self._still, kernels=self._kernels
        )

    def _refine(self, registered: RegisteredPair) -> None:
        """Let the refinement see the registered pictures, unless one of them is not of this moment."""
        pair = registered.pair
        if self._refiner is None or pair.degraded is not None or pair.thermal.shutter:
            return
        started_ns = time.perf_counter_ns()
        self._refiner.observe(visible=registered.visible, thermal=registered.thermal, timestamp_ns=pair.timestamp_ns)
        self._telemetry.refinement = self._refiner.state
        self._telemetry.stage("refine").record(time.perf_counter_ns() - started_ns)


def open_fuser(
    settings: Settings,
    *,
    telemetry: Telemetry,
    calibration: Calibration | None = None,
    still: bool = False,
    thermal_still: bool = False,
    live: bool = False,
) -> PairFuser[Any]:
    """Open the fuser that the settings name, on the device that its engine needs.

    ``still`` says that the visible frames are unrelated images, of which the fuser must not remember one for the next;
    ``thermal_still`` says the same of the thermal frames, for denoising, gain control and small sensors. ``live`` says that
    frames must not wait, so that a detector looks beside them.

    Raises:
        ConfigError: a setting that this device or fuser does not know, or a model that is not there.
        EngineUnavailable: the engine is not installed, or finds no device.
        ModelError: the model cannot be used.
    """
    tau_s = 0.0 if thermal_still else TIME_CONSTANT_S
    return PairFuser(
        _open_renderer(settings, telemetry=telemetry, still=still, thermal_still=thermal_still, live=live),
        gain=GainControl(**settings.arguments("gain"), time_constant_s=tau_s),
        telemetry=telemetry,
        calibration=calibration,
        denoiser=_open_denoiser(settings, telemetry=telemetry, still=still, thermal_still=thermal_still),
        wish=_wish(settings, telemetry=telemetry),
        presets=settings.presets,
        glide_frames=1 if still else RAMP_FRAMES,
        still=still,
        kernels=settings.kernels,
        **settings.arguments("fuser"),
    )


def _wish(settings: Settings, *, telemetry: Telemetry) -> Intents | None:
    """The intents of the settings; what a sentence was taken for is told."""
    if (said := settings.said) is not None:
        telemetry.note(f"say: {said}")
        return said.intents
    return settings.wish


def _open_denoiser(settings: Settings, *, telemetry: Telemetry, still: bool, thermal_still: bool) -> Denoiser | None:
    if settings.fuser in PLAIN or settings.denoise == "off":
        return None
    return Denoiser(visible=not still, thermal=not thermal_still, note=telemetry.note, kernels=settings.kernels)


def _open_renderer(
    settings: Settings, *, telemetry: Telemetry, still: bool, thermal_still: bool, live: bool
) -> Renderer[Any]:
    if settings.fuser == "learned" and settings.engine in NETWORKS:
        from rtfusion.cuda.renderer import open_cuda_renderer

        return open_cuda_renderer(settings, telemetry=telemetry, still=still)
    arguments = {key: value for taker in ONLY_OF for key, value in settings.arguments(taker).items()}
    method = open_method(settings.fuser, still=still, **arguments)
    run_by: dict[str, Any] = {"still": thermal_still, "visible_still": still, "kernels": settings.kernels}
    run_by["trust"] = settings.trust and settings.fuser not in PLAIN
    focus = None
    if settings.fuser in WISHED:
        focus = open_focus(
            telemetry=telemetry,
            still=still or thermal_still,
            live=live,
            engine=settings.engine,
            threads=settings.threads,
            **settings.arguments("focus"),
        )
    return HostRenderer(method=method, telemetry=telemetry, focus=focus, **run_by, **settings.arguments("renderer"))
