"""``rtfusion doctor``: what works on this machine, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug

EXIT_BROKEN = 4


def doctor(
    *,
    model: Annotated[
        Path,
        typer.Option(
            metavar="NAME|FILE", help="Model that comes with rtfusion, or a model file (ONNX), to check and to measure."
        ),
    ] = Path("small"),
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="How long to measure.")] = 10.0,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the report.")] = Path(
        "rtfusion-doctor.json"
    ),
    debug: Debug = False,
) -> None:
    """Check what works on this machine and how fast it is, and write a report to attach to a bug.

      rtfusion doctor
      rtfusion doctor --model large

    Every engine is held against the others on one golden input, the kernels of the GPU against their twin, and the fusers are
    measured for ten seconds: first what a run takes unless told otherwise, in the precision that is the fastest here. The exit
    code is 0 if nothing is broken; what is only not installed does not count.
    """
    import json

    from rich.markup import escape

    from rtfusion.cli.console import say, show
    from rtfusion.doctor import Examination, examine
    from rtfusion.doctor import report as report_of
    from rtfusion.files import check_output

    check_output(report, overwrite=_is_report(report), taken={model: "an input"})
    marks = {"good": "[green]✓[/green]", "note": "[yellow]-[/yellow]", "bad": "[red]✗[/red]"}
    findings = []
    for finding in examine(Examination(model=model, seconds=seconds)):
        findings.append(finding)
        show(f"{marks[finding.state]} [bold]{escape(finding.name)}[/bold]  {escape(finding.text)}")
    report.write_text(json.dumps(report_of(findings), indent=1) + "\n", encoding="utf-8")
    say(f"the report is in {report}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(EXIT_BROKEN)


def _is_report(path: Path) -> bool:
    """True for an earlier report: it is replaced unasked, and nothing else is."""
    import json

    try:
        return "examined_utc" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
