"""``rtfusion calibrate board``: lenses, pose and registration from a board that both cameras see."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rich.table import Table

    from rtfusion.pairs import PairStream


HELP = """Calibrate both cameras with a board: lenses, pose, registration.

Two cameras, guided in a window; hold the board in front of both:
  rtfusion calibrate board --ir /dev/video1 --vis /dev/video0 \\
    --board chessboard:9x6 --square-mm 30 --out rig.json
Two folders of images, matched by name, or two videos:
  rtfusion calibrate board --ir ir/ --vis vi/ \\
    --board circles:4x11 --square-mm 20 --out rig.json

Boards: chessboard:9x6 counts inner corners, circles:4x11 the circles of an
asymmetric grid, charuco:7x5 squares. docs/thermal-cameras.md tells how to
make one that a thermal camera sees. A report is written beside the
calibration; exit code 2 says that the calibration must not be used."""

Board = Annotated[str, typer.Option("--board", metavar="KIND:CxR", help="chessboard:9x6, circles:4x11, charuco:7x5.")]
SquareMm = Annotated[
    float,
    typer.Option("--square-mm", metavar="MM", help="Side of a square; for circles from one row to the next."),
]
MarkerMm = Annotated[
    float | None,
    typer.Option("--marker-mm", metavar="MM", help="ChArUco: side of a marker. Without it 3/4 of a square."),
]
Dictionary = Annotated[
    str, typer.Option("--dictionary", metavar="NAME", help="ChArUco: dictionary of the markers, as OpenCV names it.")
]
Ir = Annotated[str, typer.Option("--ir", metavar="SRC", help="Thermal camera or recording.")]
Vis = Annotated[str, typer.Option("--vis", metavar="SRC", help="Visible camera or recording.")]
DEFAULT_DISTANCE_M = 8.0
# What comes from the calibration package is typed Any here: the runtime may import that package inside of a command only.


def board(
    *,
    ir: Ir,
    vis: Vis,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Calibration file to write.")],
    board: Board,
    square_mm: SquareMm,
    marker_mm: MarkerMm = None,
    dictionary: Dictionary = "DICT_4X4_50",
    distance_m: Annotated[
        float, typer.Option("--distance-m", metavar="M", min=0.1, help="Distance that the registration is set for.")
    ] = DEFAULT_DISTANCE_M,
    views: Annotated[int, typer.Option("--views", metavar="N", min=4, max=200, help="Views to take live.")] = 25,
    thermal_delay_ms: Annotated[
        float, typer.Option("--thermal-delay-ms", metavar="MS", help="Known delay of the thermal stamps.")
    ] = 0.0,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Report to write. Without it, OUT with .html at the end."),
    ] = None,
    save_views: Annotated[
        Path | None,
        typer.Option(
            "--save-views", metavar="DIR", help="Keep the images of all views here. Live: OUT-views by default."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace outputs that exist.")] = False,
    debug: Debug = False,
) -> None:
    """Find, solve, judge, write."""
    from rtfusion_calibration.board import Board as Target
    from rtfusion_calibration.evidence import Level, gather, judge
    from rtfusion_calibration.report import write_report
    from rtfusion_calibration.solve import solve

    from rtfusion.cli.console import say
    from rtfusion.errors import CalibrationError
    from rtfusion.types import Band

    target = Target.parse(board, spacing_mm=square_mm, marker_mm=marker_mm, dictionary=dictionary)
    page = report if report is not None else out.with_suffix(".html")
    check_free(out, page, overwrite=overwrite)
    collector = _collect(
        target,
        ir=ir,
        vis=vis,
        out=out,
        save_views=save_views,
        wanted=views,
        delay_ms=thermal_delay_ms,
        overwrite=overwrite,
    )
    say(f"looked at {collector.looks} pairs, took {len(collector.views)} views; solving")
    solution = solve(
        collector.views,
        board=target,
        visible_size_px=collector.sizes_px[Band.VISIBLE],
        thermal_size_px=collector.sizes_px[Band.THERMAL],
        distance_m=distance_m,
    )
    verdict = judge(evidence := gather(solution.calibration, solution.used_views, board=target))
    solution.calibration.save(out)
    pairs = [pair for view, pair in collector.samples if view.name in solution.used]
    write_report(page, evidence, verdict, pairs=pairs, outliers=solution.outliers, notes=solution.notes)
    _tell(solution, verdict, out=out, page=page)
    if verdict.level is Level.BAD:
        raise typer.Exit(CalibrationError.exit_code)


def check_free(*paths: Path, overwrite: bool) -> None:
    """Find out before the work that an output could not be written after it.

    Raises:
        ConfigError: there is such a file already, or no such folder.
    """
    from rtfusion.errors import ConfigError

    for path in paths:
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(f"cannot write {path}: {folder} is no folder that can be written to; make it first")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")


def _collect(
    target: Any,
    *,
    ir: str,
    vis: str,
    out: Path,
    save_views: Path | None,
    wanted: int,
    delay_ms: float,
    overwrite: bool,
) -> Any:
    """Views of the board, until the recordings are over, enough are there, or Ctrl-C."""
    from rtfusion_calibration.preview import Preview

    from rtfusion.cli.stopping import Stopping
    from rtfusion.errors import CalibrationError
    from rtfusion.pairs import open_pairs

    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    with (
        Stopping() as stopping,
        open_pairs(ir=ir, vis=vis, thermal_delay_ms=delay_ms, stop=stopping.event, read_ahead=True) as pairs,
        ExitStack() as stack,
    ):
        folder = _views_folder(save_views, out=out, live=pairs.live, overwrite=overwrite)
        collector = _collector(target, pairs=pairs, wanted=wanted, folder=folder, enough=stopping.event.set)
        preview = Preview("window:", pairs=pairs, stop=stopping.event) if pairs.live and has_display else None
        if preview is not None:
            stack.enter_context(preview)
        for pair in pairs:
            picture = collector(pair)
            if preview is not None:
                preview.show(picture, pair=pair)
    if not collector.views:
        raise CalibrationError(
            f"{target} was found in none of {collector.looks} pairs, by neither camera; is it this board, and warm enough?"
        )
    return collector


def _collector(target: Any, *, pairs: PairStream, wanted: int, folder: Path | None, enough: Callable[[], None]) -> Any:
    from rtfusion_calibration.collect import Collector

    from rtfusion.cli.console import say

    if pairs.live:
        say(f"show {target} to both cameras; {wanted} views are wanted, Ctrl-C solves with those there are")
    still = not (pairs.visible.continuous and pairs.thermal.continuous)
    return Collector(target, still=still, wanted=wanted if pairs.live else None, enough=enough, folder=folder, tell=say)


def _views_folder(save_views: Path | None, *, out: Path, live: bool, overwrite: bool) -> Path | None:
    """Where the images of the views are kept; None keeps none."""
    from rtfusion.errors import ConfigError

    folder = save_views or (out.with_name(f"{out.stem}-views") if live else None)
    if folder is not None and folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ConfigError(f"{folder} holds files already; name another folder with --save-views, or use --overwrite")
    return folder


def _tell(solution: Any, verdict: Any, *, out: Path, page: Path) -> None:
    from rich.markup import escape
    from rich.text import Text

    from rtfusion.cli.console import show, table

    show(Text(), findings_table(verdict), Text())
    if solution.outliers:
        rows = table("left out", "why")
        for view, why in solution.outliers.items():
            rows.add_row(escape(view), escape(why))
        show(rows, Text())
    show(*(Text(f"note: {note}") for note in solution.notes))
    show(Text(verdict.sentence, style="bold"), Text(f"calibration: {out}\nreport: {page}"))


def findings_table(verdict: Any) -> Table:
    """What was looked at, for a terminal."""
    from rich.markup import escape

    from rtfusion.cli.console import table

    rows = table("", "found", "")
    for finding in verdict.findings:
        rows.add_row(escape(finding.what), escape(finding.value), escape(finding.why if finding.level else "good"))
    return rows
