"""The interfaces of fusing: what may be asked of a running fuser, one device, and one way to fuse two luminance images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from rtfusion.focus import Box, Focus
from rtfusion.fusion.tone import GainControl
from rtfusion.intents import Intents
from rtfusion.registration import Calibration, PairShape, RegisteredPair, Registration
from rtfusion.types import FramePair, Image8, InputValue


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Change:
    """A wish for the frames to come. Everything that is None or not named stays as it is."""

    calibration: Calibration | None = None
    model: Path | None = None
    """A model file, or the name of a model that comes with rtfusion."""
    precision: str | None = None
    """Precision of a named model: ``auto``, ``f32``, ``f16`` or ``int8``."""
    look: str | None = None
    """Whom the picture is for: ``eye`` or ``detector``."""
    palette: str | None = None
    """Colors: one of `rtfusion.fusion.color.PALETTES`, or that with ``-reversed`` at its end."""
    inputs: Mapping[str, InputValue] = field(default_factory=dict)
    """Values for named inputs of the model, such as ``enhance``."""
    regions: Sequence[Box] | None = None
    """Rectangles that a person drew, instead of those from before; none takes them away. Whatever name they bear, people and
    vehicles apart, stands out."""
    intents: Intents | str | Mapping[str, float] | None = None
    """What the picture is to show: a whole wish, as a value or as text that `Intents.parse` reads; or new values for the axes
    that are named. The picture glides there."""


class Control(Protocol):
    """The control of a running fuser. Any thread may call it; no frame is lost, and none mixes before and after."""

    @property
    def calibration(self) -> Calibration | None:
        """The calibration in use, or about to be."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """The inputs of the model that a person may set, such as ``enhance``, with their values; empty without a model."""
        ...

    @property
    def model(self) -> Path | None:
        """The model, as it was named, by its name or its file; None for fusers without one."""
        ...

    @property
    def look(self) -> str | None:
        """Whom the picture is for, ``eye`` or ``detector``; None where that cannot be chosen."""
        ...

    @property
    def palette(self) -> str | None:
        """The colors that the fused picture is painted with; None for fusers that paint none."""
        ...

    @property
    def regions(self) -> Sequence[Box] | None:
        """The rectangles that a person drew, and that count; None where this fuser takes none."""
        ...

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        """Take what was found in the fused frame of this stamp; it counts as long as it is fresh (`rtfusion.focus.given`).

        Raises:
            ConfigError: there are too many boxes, or this fuser takes none.
        """
        ...

    @property
    def intents(self) -> Intents | None:
        """What the picture is asked to show: where it is gliding to, or has arrived; None where it can be asked for nothing."""
        ...

    @property
    def presets(self) -> Mapping[str, Intents]:
        """The intents that have a name in this run."""
        ...

    def change(self, change: Change) -> None:
        """Use this from the next frame on.

        What takes time (loading a model, making the registration) is done here, in the thread that asks, beside the run.

        Raises:
            ConfigError: there is no such input, look, palette, axis or preset, a value is out of its range, there are too many
                regions, or the fuser has no model, look or colors, or takes no intents or regions. Nothing was changed.
            CalibrationError: the calibration is for cameras of another aspect, or holds no pose where parallax needs it. Nothing
                was changed.
            ModelError, EngineError: the model cannot be used. Nothing was changed.
        """
        ...


class Ready(Protocol):
    """A method or network and the registration, ready on a device for pairs of one shape."""

    @property
    def shape(self) -> PairShape | None:
        """The pairs that it is for; None until the first one is known."""
        ...

    @property
    def registration(self) -> Registration | None:
        """The registration of those pairs; None until the first one is known."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """See `Control.inputs`."""
        ...

    @property
    def model(self) -> Path | None:
        """See `Control.model`."""
        ...

    @property
    def look(self) -> str | None:
        """See `Control.look`."""
        ...

    @property
    def palette(self) -> str | None:
        """See `Control.palette`."""
        ...

    @property
    def engine(self) -> str | None:
        """A description of the engine that runs the network; None without one, or until it is loaded."""
        ...

    @property
    def model_id(self) -> str | None:
        """The model that is used; None without one."""
        ...

    @property
    def precision(self) -> str | None:
        """The precision that is run of the model; None without one, or until it is loaded."""
        ...


ReadyT = TypeVar("ReadyT", bound=Ready)


class Renderer(Protocol[ReadyT]):
    """The pixel work of one device. `ready` may be called by any thread, the rest by the thread that fuses."""

    name: str
    """The name of the fuser, for tables and headers."""
    grid: str
    """The band whose pixels the fused image has."""
    refuses_intents: str | None
    """Why no picture of this renderer can be asked for by intents, in a sentence; None where it can."""

    @property
    def focus(self) -> Focus | None:
        """Knows where the targets of a wish are; None where the pictures of this renderer have none."""
        ...

    def ready(
        self,
        *,
        shape: PairShape | None,
        registration: Registration | None,
        before: ReadyT | None,
        change: Change,
    ) -> ReadyT:
        """Make ready for pairs of a shape after a change, keeping of ``before`` what still serves.

        ``before`` stays usable until it is released. The shape and the registration are None until the first pair is known.

        Raises:
            ConfigError, ModelError, EngineError: as `Control.change` says. ``before`` is as it was.
        """
        ...

    def render(
        self, pair: FramePair, *, ready: ReadyT, registration: Registration, gain: GainControl, intents: Intents
    ) -> tuple[RegisteredPair, Image8]:
        """Register one pair and fuse it: the registered pair, and the fused (H, W, 3) BGR image on its grid.

        Counts are toned by ``gain`` as it stands. ``intents`` are at 0 where they are refused.

        Raises:
            EngineError: the device or the network failed.
        """
        ...

    def release(self, ready: ReadyT, *, keep: Collection[ReadyT] = ()) -> None:
        """Free what is ready, except for what those of ``keep`` go on with."""
        ...

    def close(self) -> None:
        """Release the device. Idempotent."""
        ...


class LuminanceFuser(Protocol):
    """One way to fuse two registered luminance images."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """Fuse two (H, W) uint8 images into one: a fresh array or one that stays valid until the next call."""
        ...

    def close(self) -> None:
        """Release what it holds. Idempotent."""
        ...
