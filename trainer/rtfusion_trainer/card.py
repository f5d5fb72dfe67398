"""The model card: what a model is, what it learned from under which terms, and everything that was measured of it; Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtfusion_trainer.evaluate import PARITY_METRICS
from rtfusion_trainer.likeness import FIGURES

METRICS = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "PSNR", "Nabf")
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def card(result: Mapping[str, Any], *, notes: Sequence[str] = ()) -> str:
    """The card of what `rtfusion_trainer.evaluate.evaluate` measured; ``notes`` are what a user should know beyond figures.

    People found stand in it where the result has ``people``, rows as `rtfusion.evaluate.visibility` gives them.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True)  # noqa: S701 - Markdown, not HTML
    environment.filters["number"] = _number
    model, dial, people = result["model"], result["settings"]["enhance"], result.get("people") or ()
    scalars = model.get("scalars", {})  # in schema 2 of the contract they stand among the inputs
    ranks = {name: entry["ranked_among"] for name, entry in result["sets"].items() if "ranked_among" in entry}
    values = {
        "inputs": [f"`{name}`" for name in (*model["inputs"], *scalars)],
        "outputs": [f"`{name}`" for name in model.get("outputs", [model.get("output")])],
        "dial": None if dial is None else (scalars or model["inputs"])["enhance"],
        "metrics": METRICS,
        "parity_metrics": PARITY_METRICS,
        "likeness": result.get("likeness"),
        "likeness_figures": (*FIGURES, "ms"),
        "ranked": [f"{count} on {name}" for name, count in ranks.items()],
        "people": [row for row in people if row["class"] == "person"],
        "kept": [row for row in people if "kept" in row],
        "notes": notes,
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render({**result, **values}).rstrip() + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
