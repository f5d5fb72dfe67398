"""``rtfusion calibrate check``: can this calibration be trusted? A report with pictures, and a verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.calibrate_board import Dictionary, Ir, MarkerMm, Vis, check_free, findings_table
from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rtfusion.types import FramePair

HELP = """Tell whether a calibration can be trusted, by a report with pictures.

By pictures of any scene:
  rtfusion calibrate check rig.json --ir thermal.mp4 --vis visible.mp4
By pictures of a board, which gives figures too:
  rtfusion calibrate check rig.json --ir ir/ --vis vi/ \\
    --board chessboard:9x6 --square-mm 30

The verdict is one sentence. A calibration that must not be used ends with
exit code 2."""

LIVE_PAIRS = 90


def check(
    calibration: Annotated[Path, typer.Argument(metavar="FILE", help="Calibration file.", show_default=False)],
    *,
    ir: Ir,
    vis: Vis,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Report to write. Without it, FILE-check.html.")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", metavar="KIND:CxR", help="chessboard:9x6, circles:4x11, charuco:7x5.")
    ] = None,
    square_mm: Annotated[
        float | None,
        typer.Option("--square-mm", metavar="MM", help="Side of a square; for circles from one row to the next."),
    ] = None,
    marker_mm: MarkerMm = None,
    dictionary: Dictionary = "DICT_4X4_50",
    distance_m: Annotated[
        float | None, typer.Option("--distance-m", metavar="M", min=0.1, help="Set the registration for this distance.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a report that exists.")] = False,
    debug: Debug = False,
) -> None:
    """Look, measure, judge, write."""
    from rich.text import Text
    from rtfusion_calibration.board import Board
    from rtfusion_calibration.evidence import Level, gather, judge
    from rtfusion_calibration.report import write_report

    from rtfusion.cli.console import show
    from rtfusion.errors import CalibrationError, ConfigError
    from rtfusion.registration import Calibration

    if (board is None) != (square_mm is None):
        raise ConfigError(
            "--board and --square-mm belong together: the one says what to look for, the other how large it is"
        )
    target = None
    if board is not None and square_mm is not None:
        target = Board.parse(board, spacing_mm=square_mm, marker_mm=marker_mm, dictionary=dictionary)
    rig = Calibration.load(calibration)
    if distance_m is not None:
        rig = rig.at_distance(distance_m)
    page = report if report is not None else calibration.with_name(f"{calibration.stem}-check.html")
    check_free(page, overwrite=overwrite)
    views, pairs = _look(target, ir=ir, vis=vis)
    if not pairs:
        raise CalibrationError("no pair shows what was asked for: without a picture nothing can be checked")
    rig = rig.scaled(visible_size_px=pairs[0].visible.size_px, thermal_size_px=pairs[0].thermal.size_px)
    evidence = gather(rig, views, board=target)
    verdict = judge(evidence)
    write_report(page, evidence, verdict, pairs=pairs)
    show(Text(), findings_table(verdict), Text(), Text(verdict.sentence, style="bold"), Text(f"report: {page}"))
    if verdict.level is Level.BAD:
        raise typer.Exit(CalibrationError.exit_code)


def _look(target: Any, *, ir: str, vis: str) -> tuple[Sequence[Any], Sequence[FramePair]]:
    """The views of the board ``target``, where there is one, and pairs for the pictures."""
    from rtfusion_calibration.collect import Collector, Sampler
    from rtfusion_calibration.solve import same_order

    from rtfusion.cli.stopping import Stopping
    from rtfusion.pairs import open_pairs

    with Stopping() as stopping, open_pairs(ir=ir, vis=vis, stop=stopping.event, read_ahead=True) as pairs:
        still = not (pairs.visible.continuous and pairs.thermal.continuous)
        look = Sampler() if target is None else Collector(target, still=still)
        for pair in islice(pairs, LIVE_PAIRS if pairs.live else None):
            look(pair)
    if stopping.signal is not None:
        raise typer.Exit(stopping.exit_code)
    if isinstance(look, Sampler):
        return [], look.pairs
    return [same_order(view, target) for view in look.views], [pair for _, pair in look.samples]
