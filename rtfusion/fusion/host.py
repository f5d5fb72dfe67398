"""The pixel work of the host: OpenCV for the pixels, and a CPU engine where the luminance is fused by a network."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2

from rtfusion.config import LOOKS, PLAIN, WISHED, not_wished
from rtfusion.errors import ConfigError
from rtfusion.focus import Focus
from rtfusion.fusion.base import Change, LuminanceFuser
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import as_bgr, color_kept, luminance, rebase_on_mean
from rtfusion.fusion.doubt import IN_DOUBT, Deghoster
from rtfusion.fusion.effects import Effects, duller, more_vivid
from rtfusion.fusion.emphasis import TARGETS, emphasized, sought
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.fusion.painting import Painter
from rtfusion.fusion.tone import GainControl
from rtfusion.fusion.upsampling import BILINEAR, SHARP, SHARP_AND_CALM, Upsampler, is_magnified, meaned_share, told
from rtfusion.intents import Intents
from rtfusion.kernels.memory import open_passes
from rtfusion.registration import PairShape, RegisteredPair, Registration, Warp, Weights
from rtfusion.smoothing import turn_at
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame, FramePair, Image8, InputValue

SIGHTS_PER_BEAT = 100
"""The color to keep is judged ten times a second."""
ANOTHER_LIGHT_LEVELS = 4.0
"""The visible camera sees otherwise when the mean of its picture changed by so much."""

Method = LuminanceFuser | Painter
"""A fuser of two luminance images, or one that paints."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HostReady:
    """A method, open for the grid of a registration; see `rtfusion.fusion.base.Ready`."""

    shape: PairShape | None
    registration: Registration | None
    method: Method
    look: str | None = None
    """Whom the picture is for, ``eye`` or ``detector``; None for fusers that paint."""

    @property
    def model(self) -> Path | None:
        """The model, as it was named; None for methods without one."""
        return self.method.named if isinstance(self.method, LearnedLuminance) else None

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """The inputs of the model that a person may set; empty without a model."""
        return self.method.inputs if isinstance(self.method, LearnedLuminance) else {}

    @property
    def palette(self) -> str | None:
        """The palette of a fuser that paints; None for the others."""
        return self.method.palette if isinstance(self.method, Painter) else None

    @property
    def engine(self) -> str | None:
        """A description of the engine that runs the network; None for methods without one."""
        return self.method.engine_description if isinstance(self.method, LearnedLuminance) else None

    @property
    def model_id(self) -> str | None:
        """The model; None for methods without one."""
        return self.method.model_id if isinstance(self.method, LearnedLuminance) else None

    @property
    def precision(self) -> str | None:
        """The precision that is run; None for methods without a model, or until it is loaded."""
        choice = self.method.choice if isinstance(self.method, LearnedLuminance) else None
        return None if choice is None else choice.precision


class HostRenderer:
    """tone → register → fuse → compose, each timed as a stage.

    ``look`` says whom the fused luminance is for, `eye` or `detector` (`rebase_on_mean`, without colors). ``upsample`` says
    whether a small thermal sensor is denoised and sharpened before it is magnified, `auto` or `off`; ``still`` and
    ``visible_still``, that the thermal or the visible pictures are unrelated. ``color`` says where the fused image has color:
    where the visible camera sees something, `seen`, or `everywhere`. ``kernels`` composes by compiled loops where they are
    here. ``trust`` has an edge shown once where it is in doubt how the bands lie (`rtfusion.fusion.doubt`). ``focus``, closed
    with this, says where targets are. A buffer is used again only when nobody holds it.
    """

    def __init__(
        self,
        *,
        name: str,
        method: Method,
        telemetry: Telemetry,
        grid: str = "visible",
        look: str = "eye",
        upsample: str = "auto",
        color: str = "seen",
        still: bool = False,
        visible_still: bool = False,
        kernels: bool = True,
        trust: bool = True,
        focus: Focus | None = None,
    ) -> None:
        self.name = name
        self.grid = grid
        self.focus = focus if name in WISHED else None
        self.refuses_intents = None if name in WISHED else not_wished(name)
        self._method = method
        self._telemetry = telemetry
        self._look = None if isinstance(method, Painter) else look
        self._judges_color = color == "seen" and name not in PLAIN
        self._upsampler = Upsampler(still=still) if upsample == "auto" else None
        self._deghoster = Deghoster() if trust and not isinstance(method, Painter) else None
        self._passes = open_passes(kernels=kernels)
        self._effects = Effects(kernels=kernels, still=still or visible_still, note=telemetry.note)
        self._still = still or visible_still
        self._kept: tuple[int, float, Image8] | None = None
        self._pool = Pool()

    def ready(
        self,
        *,
        shape: PairShape | None,
        registration: Registration | None,
        before: HostReady | None,
        change: Change,
    ) -> HostReady:
        """Open the method for a grid; see `rtfusion.fusion.base.Renderer`."""
        look = self._looked(self._look if before is None else before.look, change)
        method = self._changed(self._method if before is None else before.method, change)
        if registration is not None and isinstance(method, LearnedLuminance):
            method.prepare(size_px=registration.size_px)
            self._telemetry.note(str(method.choice))
        if shape is not None and registration is not None and is_magnified(registration.thermal):
            sharp = SHARP_AND_CALM if isinstance(method, LearnedLuminance) and method.judges else SHARP
            how = BILINEAR if self._upsampler is None else sharp
            self._telemetry.note(told(registration.thermal, shape=shape, size_px=registration.size_px, how=how))
        if before is not None and before.shape != shape:
            self._pool.clear()
        return HostReady(shape=shape, registration=registration, method=method, look=look)

    def render(
        self, pair: FramePair, *, ready: HostReady, registration: Registration, gain: GainControl, intents: Intents
    ) -> tuple[RegisteredPair, Image8]:
        """Tone, register, fuse and compose one pair; see `rtfusion.fusion.base.Renderer`."""
        started_ns = time.perf_counter_ns()
        thermal = gain.toned(pair.thermal.image)
        toned_ns = time.perf_counter_ns()
        registered = RegisteredPair(
            pair=pair,
            visible=self._warped(registration.visible, cast(Image8, pair.visible.image), registration),
            thermal=self._enlarged(thermal, registration, frame=pair.thermal),
            registration=registration,
        )
        registered_ns = time.perf_counter_ns()
        if self.focus is not None and (targets := self.focus.maps(registered, wanted=sought(intents))):
            registered = replace(registered, targets=targets)
        focused_ns = time.perf_counter_ns()
        image, fused_ns = self._fuse(registered, ready, intents)
        composed_ns = time.perf_counter_ns()
        for stage, duration_ns in (
            ("tone", toned_ns - started_ns),
            ("register", registered_ns - toned_ns),
            *((("focus", focused_ns - registered_ns),) if registered.targets else ()),
            ("fuse", fused_ns - focused_ns),
            ("compose", composed_ns - fused_ns),
        ):
            self._telemetry.stage(stage).record(duration_ns)
        return registered, image

    def release(self, ready: HostReady, *, keep: Collection[HostReady] = ()) -> None:
        """Close the method, unless another one goes on with it."""
        if not isinstance(ready.method, Painter) and all(ready.method is not other.method for other in keep):
            ready.method.close()

    def close(self) -> None:
        """Close the focus; methods are released with what was ready."""
        if self.focus is not None:
            self.focus.close()

    def _looked(self, look: str | None, change: Change) -> str | None:
        """The look after a change."""
        if change.look is None:
            return look
        if look is None:
            raise ConfigError(f"the look cannot be changed: the fuser is {self.name}, which is made of colors")
        if change.look not in LOOKS:
            raise ConfigError(f"no look {change.look!r}; there are {', '.join(LOOKS)}")
        return change.look

    def _changed(self, method: Method, change: Change) -> Method:
        """The method after a change: itself, or for another model its successor."""
        if change.palette is not None:
            if not isinstance(method, Painter):
                raise ConfigError(f"the palette cannot be changed: the fuser is {self.name}, which paints no colors")
            method.set_palette(change.palette)
        wish = [name for name in ("model", "precision") if getattr(change, name) is not None]
        if not wish and not change.inputs:
            return method
        if not isinstance(method, LearnedLuminance):
            names = ", ".join([*wish, *change.inputs])
            raise ConfigError(f"{names} cannot be changed: the fuser is {self.name}, which has no model")
        if wish:
            return method.successor(model=change.model, precision=change.precision, inputs=change.inputs)
        method.set_inputs(change.inputs)
        return method

    def _enlarged(self, thermal: Image8, registration: Registration, *, frame: Frame) -> Image8:
        """The thermal picture on the grid, restored on the way where it is magnified."""
        warp, size_px = registration.thermal, registration.size_px
        if self._upsampler is None or not is_magnified(warp):
            return self._warped(warp, thermal, registration)
        return self._upsampler(
            thermal,
            warp=warp,
            size_px=size_px,
            timestamp_ns=frame.timestamp_ns,
            camera_noise_levels=frame.noise_levels,
            take=self._pool.take,
        )

    def _warped(self, warp: Warp, image: Image8, registration: Registration) -> Image8:
        if warp.is_identity:
            return image
        width, height = registration.size_px
        return cast(Image8, warp(image, out=self._pool.take((height, width, *image.shape[2:]))))

    def _fuse(self, registered: RegisteredPair, ready: HostReady, intents: Intents) -> tuple[Image8, int]:
        """The fused BGR image, and the moment between fusing and composing."""
        visible, thermal, method = registered.visible, registered.thermal, ready.method
        if isinstance(method, Painter):
            if registered.valid is not None:
                thermal = cast(Image8, cv2.bitwise_and(thermal, registered.valid))
            at_ns = registered.pair.timestamp_ns
            return method(visible=visible, thermal=thermal, timestamp_ns=at_ns), time.perf_counter_ns()
        weights = registered.registration.weights
        if weights is not None and self.grid == "thermal" and visible.ndim == 3:
            # the repeated edge of the visible image must not color what only the thermal camera sees
            visible = self._blend(inside=visible, outside=as_bgr(thermal), weights=weights)
        visible_y = luminance(visible, take=self._pool.take)
        thermal = self._deghosted(registered, visible_y=visible_y)
        bands = {"visible_y": visible_y, "thermal": thermal}
        trust = None
        if isinstance(method, LearnedLuminance):
            share = 0.0 if self._upsampler is None else meaned_share(registered.registration.thermal)
            fused_y = method(**bands, timestamp_ns=registered.pair.timestamp_ns, meaned_share=share)
            trust = method.trust
        else:
            fused_y = method(**bands, timestamp_ns=registered.pair.timestamp_ns)
        if trust is not None:
            self._telemetry.mistrusted.update(trust.faults)
        if registered.targets:
            # whatever has no axis of its own stands out, since to name it is the wish
            strengths = dict.fromkeys(registered.targets, 1.0) | {name: getattr(intents, name) for name in TARGETS}
            fused_y = emphasized(
                fused_y=fused_y,
                thermal=thermal,
                targets=registered.targets,
                strengths=strengths,
                take=self._pool.take,
            )
        if ready.look == "detector":
            fused_y = rebase_on_mean(fused_y=fused_y, visible_y=visible_y, thermal=thermal, take=self._pool.take)
        if weights is not None:
            # where only one camera sees, its picture alone is shown
            alone = visible_y if self.grid == "visible" else thermal
            fused_y = self._blend(inside=fused_y, outside=alone, weights=weights)
        worth = {} if trust is None else {"visible": trust.visible, "thermal": trust.thermal}
        planes = {"visible": visible, "visible_y": visible_y, "fused_y": fused_y}
        if intents:
            planes["fused_y"] = self._effects.luminance(
                registered, **planes, intents=intents, worth=worth, take=self._pool.take
            )
        fused_ns = time.perf_counter_ns()
        return self._colored(registered, **planes, look=ready.look, intents=intents), fused_ns

    def _deghosted(self, registered: RegisteredPair, *, visible_y: Image8) -> Image8:
        """The thermal picture as it is fused: each edge where the visible one has it, where that is in doubt."""
        thermal = registered.thermal
        if self._deghoster is None:
            return thermal
        doubt_px = registered.registration.doubt_px
        shown = self._deghoster(visible_y=visible_y, thermal=thermal, doubt_px=doubt_px, take=self._pool.take)
        if shown is not thermal:
            self._telemetry.mistrusted[IN_DOUBT] += 1
        return shown

    def _colored(
        self,
        registered: RegisteredPair,
        *,
        visible: Image8,
        visible_y: Image8,
        fused_y: Image8,
        look: str | None,
        intents: Intents,
    ) -> Image8:
        """The fused luminance under the colors that are to be seen: (H, W, 3) BGR."""
        planes = {"visible": visible, "visible_y": visible_y, "fused_y": fused_y}
        if look == "detector" or visible.ndim == 2:
            if intents.color > 0:
                self._telemetry.note("color: there is none in this picture, so none can be raised")
            return self._passes.compose(**{**planes, "visible": visible_y}, take=self._pool.take)
        kept = None
        if self._judges_color:
            kept = self._color_kept(registered, visible=visible, visible_y=visible_y)
        kept = duller(kept, shape=fused_y.shape, color=intents.color)
        image = self._passes.compose(**planes, kept=kept, take=self._pool.take)
        return more_vivid(image, fused_y=fused_y, color=intents.color, take=self._pool.take)

    def _color_kept(self, registered: RegisteredPair, *, visible: Image8, visible_y: Image8) -> Image8:
        """The share of the color to keep, judged anew ten times a second: sooner than its soft windows are seen to move."""
        timestamp_ns, mean = registered.pair.timestamp_ns, cv2.mean(visible_y)[0]
        if self._kept is not None and not self._still:
            at_ns, as_bright, kept = self._kept
            if (
                turn_at(timestamp_ns, per_beat=SIGHTS_PER_BEAT) == turn_at(at_ns, per_beat=SIGHTS_PER_BEAT)
                and abs(mean - as_bright) < ANOTHER_LIGHT_LEVELS
            ):
                return kept
        kept = color_kept(visible=visible, thermal=registered.thermal, valid=registered.valid)
        self._kept = timestamp_ns, mean, kept
        return kept

    def _blend(self, *, inside: Image8, outside: Image8, weights: tuple[Weights, Weights]) -> Image8:
        """Show ``inside`` where both cameras see and ``outside`` elsewhere, with the soft border of the registration."""
        return cast(Image8, cv2.blendLinear(inside, outside, *weights, self._pool.take(inside.shape)))
