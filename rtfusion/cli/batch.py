"""``rtfusion batch``: fuse an archive of recordings."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import ConfigFile, Debug, takes_settings
from rtfusion.portable import needs, usable_cores

if TYPE_CHECKING:
    from rtfusion.batch.run import Summary, Workers
    from rtfusion.config import Settings

NOMINAL_SIZE_PX = 640, 480
"""Size at which the precision of a batch is chosen: its recordings may have any."""


@takes_settings(decider="batch")
def batch(
    flags: Mapping[str, object],
    *,
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Folder of the recordings.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.", rich_help_panel="Batch")],
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, rich_help_panel="Batch", help="Recordings at a time: the cores."),
    ] = None,
    vis_name: Annotated[
        list[str] | None,
        typer.Option("--vis-name", metavar="NAME", rich_help_panel="Batch", help="Name of visible ones (repeatable)."),
    ] = None,
    ir_name: Annotated[
        list[str] | None,
        typer.Option("--ir-name", metavar="NAME", rich_help_panel="Batch", help="Name of thermal ones (repeatable)."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", rich_help_panel="Batch", help="On a Ray cluster: auto, local, HOST:PORT."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", metavar="", rich_help_panel="Batch", help="Fuse anew what has other settings."),
    ] = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Fuse every recording of an archive; go on where an earlier batch was interrupted.

    A recording is a folder that holds a visible and a thermal video, or two
    folders of images, named vi and ir (vis, rgb, thermal ...), or two in one
    folder that differ in such a word (walk_T.mp4, walk_V.mp4). Its result appears
    under the same name in --out when it is whole: fused.mp4 or fused/, and
    done.json, which tells of what was read, paired and dropped.

      rtfusion batch archive/ --out fused/ --jobs 4
      rtfusion batch archive/ --out fused/ --fuser learned --model small
      rtfusion batch /net/archive --out /net/fused --ray auto

    Give it the settings of [bold]run[/bold] that say how to pair, register and fuse.
    """
    from rtfusion.batch import find_recordings, run
    from rtfusion.batch.archive import THERMAL_NAMES, VISIBLE_NAMES
    from rtfusion.cli.console import say
    from rtfusion.cli.job import tell_found
    from rtfusion.cli.stopping import Stopping
    from rtfusion.config import load

    needs("linux", "macos", what="rtfusion batch", instead="fuse the recordings one by one with rtfusion run")
    archive, out = archive.resolve(), out.resolve()
    loaded = load(flags, file=config, environ=os.environ)
    tell_found(loaded)
    settings = _plain(_with_precision(loaded.settings, out=out))
    recordings = find_recordings(
        archive, visible=vis_name or VISIBLE_NAMES, thermal=ir_name or THERMAL_NAMES, leave_out=out
    )
    workers = _workers(jobs or len(usable_cores()), ray=ray)
    started_s = time.monotonic()
    with Stopping() as stopping:
        summary = run(
            recordings, out=out, settings=settings, workers=workers, stop=stopping.event, overwrite=overwrite, say=say
        )
    _tell(summary, elapsed_s=time.monotonic() - started_s)
    sys.exit(stopping.exit_code or summary.exit_code)


def _with_precision(settings: Settings, *, out: Path) -> Settings:
    """Decide on one precision for the whole batch: the one that its results were fused in, or the fastest on this machine."""
    from rtfusion.batch import precision_of_results
    from rtfusion.engines import choose_precision

    if settings.fuser != "learned" or settings.precision != "auto":
        return settings
    precision = (
        precision_of_results(out)
        or choose_precision(
            settings.model, precision="auto", engine=settings.engine, size_px=NOMINAL_SIZE_PX, threads=settings.threads
        ).precision
    )
    return settings.model_copy(update={"precision": precision})


def _plain(settings: Settings) -> dict[str, Any]:
    """Give the settings that a job carries: those that a batch leaves open and the fuser takes, files by their whole path."""
    from rtfusion.config import ONLY_OF

    plain: dict[str, Any] = {}
    other_fusers = {taker for taker, fusers in ONLY_OF.items() if settings.fuser not in fusers}
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        setting = settings.declared()[name]
        if "batch" not in setting.decided_by and setting.taker not in other_fusers:
            is_file = setting.path is not None and Path(value).exists()
            plain[name] = str(Path(value).resolve()) if is_file else value
    return plain


def _workers(count: int, *, ray: str | None) -> Workers:
    if ray is not None:
        from rtfusion.batch.on_ray import RayWorkers

        return RayWorkers(address=ray, count=count)
    from rtfusion.batch.processes import Processes

    return Processes(count)


def _tell(summary: Summary, *, elapsed_s: float) -> None:
    from rtfusion.cli.console import show

    rows = [
        f"{summary.recordings} recordings: {summary.already_done} were done, {summary.fused} fused now "
        f"({summary.frames} frames in {elapsed_s:.1f} s), {len(summary.failed)} failed"
    ]
    if summary.restarts:
        rows.append(f"{summary.restarts} times a worker was killed and its recording begun again")
    rows += [f"failed: {name}: {error}" for name, error in summary.failed.items()]
    show(*rows)
