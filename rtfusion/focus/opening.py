"""The focus of a run, as its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.focus.base import PEOPLE, VEHICLES, FocusProvider
from rtfusion.focus.focus import Focus
from rtfusion.focus.yolox import GROUPS
from rtfusion.telemetry import Telemetry


def open_focus(
    *,
    telemetry: Telemetry,
    detector: Path | None = None,
    classes: Sequence[str] = (),
    every: int | None = None,
    head: bool = True,
    publish: bool = False,
    engine: str = "auto",
    threads: int | None = None,
    still: bool = False,
    live: bool = False,
) -> Focus:
    """Open what looks for targets.

    Args:
        telemetry: is told who looked, how often, and what nobody looks for.
        detector: a YOLOX in an ONNX file.
        classes: names of its classes that stand out, whatever the intents.
        every: frames from one look to the next, of the head and of the detector; None for what they do by themselves.
        head: use the small network that comes with rtfusion; it is opened when it is first needed.
        publish: the map of people is wanted, whatever the intents.
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engines.
        still: the pictures are unrelated: each is looked at, and none is remembered for the next.
        live: the detector looks beside the frames, on a thread of its own.

    Raises:
        ConfigError: the detector has no such class, or there is no detector to find it.
        ModelError, EngineUnavailable, EngineError: a network cannot be used.
    """
    if classes and detector is None:
        raise ConfigError(f"nothing here finds {classes[0]}; name a detector that does, with --focus-detector FILE")
    for name in classes:
        if name in GROUPS:
            raise ConfigError(f"{name} have an axis of their own; ask for them with --intent {name}=1")
    every = 1 if still else every
    providers: list[FocusProvider] = []
    if detector is not None:
        from rtfusion.focus.detector import Detector

        live = live and not still
        opened = Detector(detector, engine=engine, threads=threads, every=every, classes=classes, live=live)
        providers.append(opened)
    if head:
        from rtfusion.focus.head import Head

        # a detector finds vehicles much better, and of people both find some that the other one misses
        known = {VEHICLES}.intersection(*(one.targets for one in providers)) if providers else ()
        providers.append(Head(engine=engine, threads=threads, every=every, but=known))
    always = {*classes, *((PEOPLE,) if publish else ())}
    return Focus(telemetry=telemetry, providers=providers, always=always, still=still)
