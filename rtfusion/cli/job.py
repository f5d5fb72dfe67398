"""One run from settings to exit code: signals, progress, pipeline, table, statistics. Shared by ``run`` and ``demo``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rtfusion import __version__
from rtfusion.cli.console import logs_json, say, show
from rtfusion.cli.first_look import looking
from rtfusion.cli.progress import Status, status_line
from rtfusion.cli.proposal import with_sources
from rtfusion.cli.shortage import named
from rtfusion.cli.stats import write_stats
from rtfusion.cli.stopping import Stopping
from rtfusion.cli.summary import rate_text, summary
from rtfusion.cli.supervised import Supervised
from rtfusion.config import Loaded, Settings
from rtfusion.errors import EXIT_BUG, EndOfStream, FusionError
from rtfusion.files import check_output
from rtfusion.memory import use_few_pools
from rtfusion.redaction import without_credentials

if TYPE_CHECKING:
    from rtfusion.pipeline import Pipeline
    from rtfusion.telemetry import Telemetry

NOTHING_IS_KEPT = (
    "no --sink and no display: frames are fused and counted, nothing is kept (--sink out.mp4 writes a video)"
)


class Ending(NamedTuple):
    """The end of a run: its reason, its exit code and what there is to say."""

    reason: str
    """``finished``, ``interrupted``, ``terminated``, ``error`` or ``bug``."""
    exit_code: int
    message: str | None = None


def run_job(loaded: Loaded) -> int:
    """Run, print the table and write the statistics. The exit code that is returned is 0 unless a signal ended the run.

    Raises:
        FusionError: the run failed. What there is to tell of it has been printed and written all the same.
    """
    use_few_pools()
    tell_found(loaded)
    loaded = with_sources(loaded)
    if not loaded.settings.sink:
        loaded = replace(loaded, settings=loaded.settings.model_copy(update={"sink": (_default_sink(),)}))
    from rtfusion.fusion.threads import opencv_for

    settings = loaded.settings
    if settings.stats_json is not None:
        _check_statistics(settings.stats_json, loaded)
    telemetry: Telemetry | None = None
    failure: Exception | None = None
    with Stopping() as stopping, opencv_for(settings.fuser):
        try:
            from rtfusion.pipeline import build

            pipeline = build(settings, stop=stopping.event, registers=True)
            telemetry = pipeline.telemetry
            _begin(pipeline, loaded)
            supervised = Supervised(telemetry.snapshot)
            interrupted = stopping.event.is_set
            with (
                Status(telemetry.snapshot, settings=settings) as status,
                looking(pipeline, settings, interrupted=interrupted) as look,
            ):

                def tell() -> None:
                    status.update()
                    supervised.update()

                pipeline.run(stop=stopping.event, on_tick=tell, on_pair=look)
            supervised.stopping()
        except EndOfStream as error:  # asked to stop before it began
            failure = error if stopping.signal is None else None
        except Exception as error:  # noqa: BLE001 - raised again below, once the run has been reported
            failure = named(error)
    ending = _ending(stopping, failure)
    if logs_json() and telemetry is not None:
        say(f"{ending.reason}: {status_line(telemetry.snapshot(), total=None)}")
    _tell(loaded, {} if telemetry is None else telemetry.snapshot(), ending)
    if failure is not None:
        raise failure
    return ending.exit_code


def _begin(pipeline: Pipeline, loaded: Loaded) -> None:
    """Say what a person should know now, and not only in the table when all is over."""
    settings, used = loaded.settings, pipeline.control.calibration
    if settings.sink == ("null:",) and loaded.origins["sink"] == "default":
        say(NOTHING_IS_KEPT)
    if used is not None and used.warning is not None:
        say(used.warning, level="warning")
    if logs_json():
        say(_beginning(settings, pipeline.telemetry.snapshot()))


def _beginning(settings: Settings, snapshot: Mapping[str, Any]) -> str:
    """What a run begins with, for the log of a service: version, both sources, fuser and outputs."""
    sources = "; ".join(
        f"{band} {source['uri']}, {source['size']} {source['pixel_format']}, {rate_text(source)}"
        + (f", {source['description']}" if source["description"] else "")
        for band, source in snapshot["sources"].items()
    )
    outputs = ", ".join(map(without_credentials, settings.sink))
    return f"rtfusion {__version__} begins: {sources}; fuser {snapshot['fuser']}; outputs {outputs}"


def _check_statistics(path: Path, loaded: Loaded) -> None:
    """Find out before the run that its statistics could not be written after it.

    Raises:
        ConfigError: they would replace something, or there is no place for them.
    """
    from rtfusion.pipeline import inputs_of
    from rtfusion.sinks import written_path

    settings = loaded.settings
    inputs = inputs_of(settings) if loaded.file is None else [*inputs_of(settings), loaded.file]
    outputs = filter(None, map(written_path, settings.sink))
    taken = dict.fromkeys(inputs, "an input of this run") | dict.fromkeys(outputs, "another output of this run")
    check_output(path, overwrite=settings.overwrite, taken=taken)


def _default_sink() -> str:
    """Choose a window where there is a display, and nothing elsewhere."""
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return "window:" if has_display else "null:"


def _ending(stopping: Stopping, failure: Exception | None) -> Ending:
    if isinstance(failure, FusionError):
        return Ending(reason="error", exit_code=failure.exit_code, message=str(failure))
    if failure is not None:
        return Ending(reason="bug", exit_code=EXIT_BUG, message=f"{type(failure).__name__}: {failure}")
    if stopping.signal is None:
        return Ending(reason="finished", exit_code=0)
    is_interrupt = stopping.signal is signal.SIGINT
    return Ending(reason="interrupted" if is_interrupt else "terminated", exit_code=stopping.exit_code)


def _tell(loaded: Loaded, snapshot: Mapping[str, Any], ending: Ending) -> None:
    """Write the table to stdout and the statistics to their file, each whatever becomes of the other one."""
    failures: list[FusionError] = []
    with _kept(failures):
        if snapshot:
            show(summary(snapshot))
    with _kept(failures):
        if loaded.settings.stats_json is not None:
            write_stats(loaded.settings.stats_json, snapshot=snapshot, loaded=loaded, ending=ending._asdict())
    if failures and ending.exit_code == 0:
        raise failures[0]
    for failure in failures:
        say(str(failure))  # what ended the run is the more important news


@contextmanager
def _kept(failures: list[FusionError]) -> Iterator[None]:
    try:
        yield
    except FusionError as error:
        failures.append(error)


def tell_found(loaded: Loaded) -> None:
    """Say which settings were taken that nobody named: before anything else."""
    if loaded.found and loaded.file is not None:
        say(f"settings from {loaded.file.resolve()}, found in this folder")
