"""``rtfusion calibrate board`` and ``check``: a calibration from a board that both cameras see, and a verdict on any."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.calibrate import (
    DEFAULT_DISTANCE_M,
    DistanceM,
    File,
    Ir,
    Out,
    ThermalDelayMs,
    Vis,
    check_free,
)
from rtfusion.cli.options import Debug, Overwrite

if TYPE_CHECKING:
    from rtfusion.pairs import PairStream
    from rtfusion.types import FramePair

BOARD_HELP = """Calibrate both cameras with a board: lenses, pose, registration.

Two cameras, guided in a window; hold the board in front of both:
  rtfusion calibrate board --ir /dev/video2 --vis /dev/video0 \\
    --board chessboard:9x6 --square-mm 30 --out rig.json
Two folders of images, matched by name, or two videos:
  rtfusion calibrate board --ir ir/ --vis vi/ \\
    --board circles:4x11 --square-mm 20 --out rig.json

Boards: chessboard:9x6 counts inner corners, circles:4x11 the circles of an
asymmetric grid, charuco:7x5 squares. docs/thermal-cameras.md tells how to
make one that a thermal camera sees. A report is written beside the
calibration; exit code 2 says that the calibration must not be used."""

CHECK_HELP = """Tell whether a calibration can be trusted, by a report with pictures.

By pictures of any scene:
  rtfusion calibrate check rig.json --ir thermal.mp4 --vis visible.mp4
By pictures of a board, which gives figures too:
  rtfusion calibrate check rig.json --ir ir/ --vis vi/ \\
    --board chessboard:9x6 --square-mm 30

The verdict is one sentence. A calibration that must not be used ends with
exit code 2."""

CHECKED_LIVE_PAIRS = 90
BOARD = typer.Option("--board", metavar="KIND:CxR", help="chessboard:9x6, circles:4x11, charuco:7x5.")
SQUARE_MM = typer.Option("--square-mm", metavar="MM", help="Side of a square; for circles from one row to the next.")
MarkerMm = Annotated[
    float | None,
    typer.Option("--marker-mm", metavar="MM", help="ChArUco: side of a marker. Without it 3/4 of a square."),
]
Dictionary = Annotated[
    str, typer.Option("--dictionary", metavar="NAME", help="ChArUco: dictionary of the markers, as OpenCV names it.")
]
# What comes from the calibration package is typed Any here: the runtime may import that package inside of a command only.


def board(
    *,
    ir: Ir,
    vis: Vis,
    out: Out,
    board: Annotated[str, BOARD],
    square_mm: Annotated[float, SQUARE_MM],
    marker_mm: MarkerMm = None,
    dictionary: Dictionary = "DICT_4X4_50",
    distance_m: DistanceM = DEFAULT_DISTANCE_M,
    views: Annotated[int, typer.Option("--views", metavar="N", min=4, max=200, help="Views to take live.")] = 25,
    thermal_delay_ms: ThermalDelayMs = 0.0,
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
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Find, solve, judge, write."""
    from rtfusion_calibration.board import Board
    from rtfusion_calibration.evidence import gather, judge, marked
    from rtfusion_calibration.solve import solve

    from rtfusion.cli.console import busy, say
    from rtfusion.cli.stopping import Stopping
    from rtfusion.errors import ConfigError
    from rtfusion.pairs import open_pairs
    from rtfusion.types import Band

    target = Board.parse(board, spacing_mm=square_mm, marker_mm=marker_mm, dictionary=dictionary)
    page = report if report is not None else out.with_suffix(".html")
    check_free(out, page, overwrite=overwrite, inputs=(ir, vis))
    with (
        Stopping() as stopping,
        open_pairs(ir=ir, vis=vis, thermal_delay_ms=thermal_delay_ms, stop=stopping.event, read_ahead=True) as pairs,
    ):
        folder = save_views or (out.with_name(f"{out.stem}-views") if pairs.live else None)
        if folder is not None and folder.exists() and any(folder.iterdir()) and not overwrite:
            raise ConfigError(
                f"{folder} holds files already; name another folder with --save-views, or use --overwrite"
            )
        collector = _collect(target, pairs, wanted=views, folder=folder, stop=stopping.event)
    say(f"looked at {collector.looks} pairs, took {len(collector.views)} views; solving")
    with busy(f"solving {len(collector.views)} views"):
        solution = solve(
            collector.views,
            board=target,
            visible_size_px=collector.sizes_px[Band.VISIBLE],
            thermal_size_px=collector.sizes_px[Band.THERMAL],
            distance_m=distance_m,
        )
    evidence = gather(solution.calibration, solution.used_views)
    verdict = judge(evidence)
    marked(solution.calibration, verdict).save(out)
    samples = [pair for view, pair in collector.samples.kept if view.name in solution.used]
    written = f"calibration: {out}\nreport: {page}"
    _conclude(evidence, verdict, page, pairs=samples, outliers=solution.outliers, notes=solution.notes, written=written)


def _collect(target: Any, pairs: PairStream, *, wanted: int, folder: Path | None, stop: threading.Event) -> Any:
    """Collect views of the board, until the recordings are over, enough are there, or Ctrl-C."""
    from rtfusion_calibration.collect import Collector
    from rtfusion_calibration.preview import preview

    from rtfusion.cli.console import say
    from rtfusion.errors import CalibrationError
    from rtfusion.progress import steps

    if pairs.live:
        say(f"show {target} to both cameras; {wanted} views are wanted, Ctrl-C solves with those there are")
    collector = Collector(
        target,
        still=not (pairs.visible.continuous and pairs.thermal.continuous),
        wanted=wanted if pairs.live else None,
        enough=stop.set,
        folder=folder,
        tell=say,
    )
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    with preview("window:" if pairs.live and has_display else "null:", pairs=pairs, stop=stop) as show:
        # live, the guidance says how far it is, and how long it takes is up to the person
        for pair in pairs if pairs.live else steps(pairs, "looking for the board", total=pairs.visible.frame_count):
            show(collector(pair), pair)
    if not collector.views:
        raise CalibrationError(
            f"{target} was found in none of {collector.looks} pairs, by neither camera; is it this board, and warm enough?"
        )
    return collector


def check(
    calibration: File,
    *,
    ir: Ir,
    vis: Vis,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Report to write. Without it, FILE-check.html.")
    ] = None,
    board: Annotated[str | None, BOARD] = None,
    square_mm: Annotated[float | None, SQUARE_MM] = None,
    marker_mm: MarkerMm = None,
    dictionary: Dictionary = "DICT_4X4_50",
    distance_m: Annotated[
        float | None, typer.Option("--distance-m", metavar="M", min=0.1, help="Set the registration for this distance.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Look, measure, judge, write."""
    from rtfusion_calibration.board import Board
    from rtfusion_calibration.evidence import gather, judge

    from rtfusion.errors import CalibrationError, ConfigError
    from rtfusion.registration import Calibration

    target = None
    if board is not None and square_mm is not None:
        target = Board.parse(board, spacing_mm=square_mm, marker_mm=marker_mm, dictionary=dictionary)
    elif board is not None or square_mm is not None:
        raise ConfigError(
            "--board and --square-mm belong together: the one says what to look for, the other how large it is"
        )
    rig = Calibration.load(calibration)
    if distance_m is not None:
        rig = rig.at_distance(distance_m)
    page = report if report is not None else calibration.with_name(f"{calibration.stem}-check.html")
    check_free(page, overwrite=overwrite, inputs=(ir, vis, calibration))
    views, pairs = _look(target, ir=ir, vis=vis)
    if not pairs:
        raise CalibrationError("no pair shows what was asked for: without a picture nothing can be checked")
    rig = rig.scaled(visible_size_px=pairs[0].visible.size_px, thermal_size_px=pairs[0].thermal.size_px)
    evidence = gather(rig, views)
    _conclude(evidence, judge(evidence), page, pairs=pairs, written=f"report: {page}")


def _look(target: Any, *, ir: str, vis: str) -> tuple[Sequence[Any], Sequence[FramePair]]:
    """Give the views of the board ``target``, where there is one, and pairs for the pictures."""
    from rtfusion_calibration.collect import Collector, Sampler
    from rtfusion_calibration.solve import same_order

    from rtfusion.cli.stopping import Stopping
    from rtfusion.pairs import open_pairs
    from rtfusion.progress import steps

    with Stopping() as stopping, open_pairs(ir=ir, vis=vis, stop=stopping.event, read_ahead=True) as pairs:
        still = not (pairs.visible.continuous and pairs.thermal.continuous)
        look = Sampler() if target is None else Collector(target, still=still)
        total = CHECKED_LIVE_PAIRS if pairs.live else pairs.visible.frame_count
        for pair in steps(islice(pairs, CHECKED_LIVE_PAIRS if pairs.live else None), "looking at pairs", total=total):
            look(pair)
    if stopping.signal is not None:
        raise typer.Exit(stopping.exit_code)
    if isinstance(look, Sampler):
        return [], look.kept
    return [same_order(view) for view in look.views], [pair for _, pair in look.samples.kept]


def _conclude(
    evidence: Any,
    verdict: Any,
    page: Path,
    *,
    pairs: Sequence[FramePair],
    outliers: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    written: str,
) -> None:
    """Write the report, tell it and the verdict; the exit code says that the calibration must not be used."""
    from rich.markup import escape
    from rich.text import Text
    from rtfusion_calibration.evidence import Level
    from rtfusion_calibration.report import write_report

    from rtfusion.cli.console import show, table
    from rtfusion.errors import CalibrationError

    write_report(page, evidence, verdict, pairs=pairs, outliers=outliers, notes=notes)
    rows = table("", "found", "")
    for finding in verdict.findings:
        rows.add_row(escape(finding.what), escape(finding.value), escape(finding.why if finding.level else "good"))
    show(Text(), rows, Text())
    if outliers:
        rows = table("left out", "why")
        for view, why in outliers.items():
            rows.add_row(escape(view), escape(why))
        show(rows, Text())
    show(*(Text(f"note: {note}") for note in notes), Text(verdict.sentence, style="bold"), Text(written))
    if verdict.level is Level.BAD:
        raise typer.Exit(CalibrationError.exit_code)
