"""The first seconds of a run: do its pictures agree, and, where that is asked for, the registration that makes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from rtfusion.clock import NS_PER_S
from rtfusion.errors import FusionError

if TYPE_CHECKING:
    from rtfusion.config import Settings
    from rtfusion.pipeline import Pipeline
    from rtfusion.types import FramePair

_log = logging.getLogger(__name__)

PAIRS = 4
APART_NS = NS_PER_S // 2
"""Pairs of two streams are looked at in this distance; stills one after the other."""
LEAST_SIDE_PX = 60
"""Smaller pictures show too little for the matcher."""
LARGEST_MOVE = 0.2
"""Share of the width: what is farther off is not registered while a run goes on."""
PATIENCE_S = 6.0
"""Longest wait for the answer when a run is over."""
ASKED_S = 0.1
"""A recording that waits for its registration asks so often whether it was interrupted."""


class FirstLook:
    """Sees the pairs of a run, and looks at the first of them in a thread of its own.

    Args:
        note: tells a person; may be called by that thread.
        auto_register: estimates the registration, and gives it to ``use``.
        waits: the sources wait while it is estimated, as recordings can.
        interrupted: whether the run is to end.
    """

    def __init__(
        self,
        *,
        note: Callable[[str], None],
        auto_register: bool,
        still: bool,
        use: Callable[..., None],
        waits: bool = False,
        interrupted: Callable[[], bool] = bool,
    ) -> None:
        self._note, self._auto_register, self._use = note, auto_register, use
        self._apart_ns = 0 if still else APART_NS
        self._waits, self._interrupted = waits and auto_register, interrupted
        self._pairs: list[FramePair] = []
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def __call__(self, pair: FramePair) -> None:
        """Take the next pair; returns at once, but for the last one of a recording that is to be registered."""
        if self._thread is not None or pair.degraded is not None or pair.thermal.shutter:
            return
        since_ns = pair.timestamp_ns - self._pairs[-1].timestamp_ns if self._pairs else self._apart_ns
        if since_ns < self._apart_ns or min(*pair.visible.size_px, *pair.thermal.size_px) < LEAST_SIDE_PX:
            return
        self._pairs.append(pair)
        if len(self._pairs) == PAIRS:
            self._thread = threading.Thread(target=self._look, name="first look", daemon=True)
            self._thread.start()
            if self._waits:
                _log.info("auto-register: the recordings wait while the registration is estimated, some seconds")
            while self._waits and self._thread.is_alive() and not self._interrupted():
                self._thread.join(ASKED_S)

    def close(self, *, patience_s: float = PATIENCE_S) -> None:
        """The run is over. Wait for the answer, for some seconds at most; what was asked for and not done is said."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(patience_s)
            if self._thread.is_alive():
                self._note(
                    "auto-register: nothing was registered, since the run was over before it was known how; run rtfusion "
                    "calibrate scene"
                    if self._auto_register
                    else "the run was over before it was known whether the two pictures agree: look at one of the frames, where "
                    "everything with a second outline says no; rtfusion calibrate scene says for sure"
                )
        elif self._auto_register:
            self._note(
                f"auto-register: nothing was registered, since that takes {PAIRS} pairs of at least {LEAST_SIDE_PX} px a side"
                + (f", {self._apart_ns / NS_PER_S:g} s apart" if self._apart_ns else "")
                + f", and {len(self._pairs)} came; run rtfusion calibrate scene"
            )

    def _look(self) -> None:
        pairs, self._pairs = self._pairs, []
        try:
            self._register(pairs) if self._auto_register else self._compare(pairs)
        except FusionError as error:
            what = (
                "auto-register: nothing was registered"
                if self._auto_register
                else "whether the pictures agree could not be told"
            )
            self._note(f"{what}: {error}")

    def _compare(self, pairs: list[FramePair]) -> None:
        from rtfusion.registration.descriptors import Describer
        from rtfusion.registration.rough import disagreement_px, rough_places, turned
        from rtfusion.registration.structure import gray_pair

        gray = [gray_pair(pair) for pair in pairs]
        with closing(Describer(threads=1)) as describe:
            places = rough_places(describe, gray)
            told = turned(describe, gray, places)
        off_px = disagreement_px(places, gray[0])
        if told is not None:
            self._note(
                f"the thermal picture is mirrored or turned against the visible one: put ?{told} behind the name of its source, "
                "or, if flip or rotate is there already, take that out; as they are these pictures do not agree"
            )
        elif off_px is not None:
            self._note(
                f"these pictures do not agree: the thermal one lies about {off_px:.0f} px elsewhere; run rtfusion calibrate "
                "scene, or pass --auto-register"
            )

    def _register(self, pairs: list[FramePair]) -> None:
        from rtfusion_calibration.scene import estimate_scene, gray_pair

        from rtfusion.fusion.base import Change
        from rtfusion.registration.rough import apart_px

        visible_px, thermal_px = pairs[0].visible.size_px, pairs[0].thermal.size_px
        estimate = estimate_scene([gray_pair(pair) for pair in pairs])
        off_px = apart_px(estimate.visible_from_thermal_px, visible_px=visible_px, thermal_px=thermal_px)
        if off_px > LARGEST_MOVE * visible_px[0]:
            self._note(
                f"auto-register: the thermal picture lies {off_px:.0f} px elsewhere, which is more than is corrected while a "
                "run goes on; run rtfusion calibrate scene"
            )
            return
        if self._over.is_set():
            self._note(
                f"auto-register: the thermal picture lies {off_px:.0f} px elsewhere, but the run was over before that was known, "
                "and no frame is registered; run rtfusion calibrate scene"
            )
            return
        self._use(Change(calibration=estimate.calibration(visible_size_px=visible_px, thermal_size_px=thermal_px)))
        at_s = (pairs[-1].timestamp_ns - pairs[0].timestamp_ns) / NS_PER_S
        self._note(
            f"auto-register: the thermal picture was moved by {off_px:.0f} px, after what the first {at_s:.1f} s show; "
            f"{estimate.sentence()}"
        )


def first_look(pipeline: Pipeline, settings: Settings, *, interrupted: Callable[[], bool] = bool) -> FirstLook | None:
    """The look at a pipeline that was built of these settings; None where there is a calibration to rely on."""
    if settings.calibration is not None:
        return None
    sources = pipeline.telemetry.sources.values()
    return FirstLook(
        note=pipeline.telemetry.note,
        auto_register=settings.auto_register,
        still=not all(info.continuous for info in sources),
        use=pipeline.change,
        waits=not any(info.live for info in sources),
        interrupted=interrupted,
    )


@contextmanager
def looking(pipeline: Pipeline, settings: Settings, *, interrupted: Callable[[], bool]) -> Iterator[FirstLook | None]:
    """Give `first_look` for a run, and wait for its answer at the end, unless the run was ``interrupted``."""
    look = first_look(pipeline, settings, interrupted=interrupted)
    yield look
    if look is not None and (settings.auto_register or not interrupted()):
        look.close(patience_s=0.0 if interrupted() else PATIENCE_S)
