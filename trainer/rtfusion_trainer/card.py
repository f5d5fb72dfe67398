"""The model card: what a model is, what it learned from under which terms, and everything that was measured of it; Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "PSNR", "Nabf")


def card(result: Mapping[str, Any], *, notes: Sequence[str] = ()) -> str:
    """The card of what `rtfusion_trainer.evaluate.evaluate` measured; ``notes`` are what a user should know beyond figures.

    People found stand in it where the result has ``people``, rows as `rtfusion.evaluate.visibility` gives them.
    """
    parts = [
        _about(result),
        _origin(result["model"]),
        _sets(result),
        _clips(result),
        _steadiness(result),
        _people(result),
        _parity(result),
        _notes(notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(result: Mapping[str, Any]) -> str:
    model = result["model"]
    dial = result["settings"]["enhance"]
    scalars = model.get("scalars", {})  # in schema 2 of the contract they stand among the inputs
    inputs = ", ".join(f"`{name}`" for name in (*model["inputs"], *scalars))
    outputs = ", ".join(f"`{name}`" for name in model.get("outputs", [model.get("output")]))
    lines = [
        f"# {model['name']}",
        "",
        "Fuses a registered pair of visible luminance and thermal image, frame by frame.",
        "",
        f"- Inputs {inputs}; output {outputs}. Images are float32 (1, 1, H, W) in [0, 1].",
        f"- Height and width are multiples of {model['stride']} px; the runtime pads.",
        f"- File `{model['file']}`; its graph has the SHA-256 {model['checksum'][:16]}….",
    ]
    if dial is not None:
        default = (scalars or model["inputs"])["enhance"]["default"]
        lines.append(
            f"- Dial `enhance` from 0 (faithful) to 1 (enhanced), {default:g} by default; measured at {dial:g}."
        )
    return "\n".join(lines)


def _origin(model: Mapping[str, Any]) -> str:
    teachers = ", ".join(model["teachers"]) or "nothing: it learned from the training objective alone"
    return "\n".join(
        [
            "## Data, teachers, license",
            "",
            "Trained on:",
            "",
            *(f"- {entry}" for entry in model["data"]),
            "",
            f"Distilled from: {teachers}.",
            "",
            f"License of the weights: {model['license']}. Code of the training: commit {model['training_commit']}.",
        ]
    )


def _sets(result: Mapping[str, Any]) -> str:
    if not result["sets"]:
        return ""
    rows = []
    for name, entry in result["sets"].items():
        for case, figures in entry["cases"].items():
            rank = entry.get("mean_rank", {}).get(case)
            cells = [figures[metric] for metric in METRICS] + [figures["halo"], figures["halo_max"]]
            rows.append([f"{name} ({entry['pairs']})", case, *map(_number, cells), _number(rank)])
    head = ["set (pairs)", "", *METRICS, "halo", "largest halo", "mean rank"]
    text = "Means over each set; higher is better but for Nabf and the halo (gray levels). EN, SD, SF and AG rise with noise."
    if any("ranked_among" in entry for entry in result["sets"].values()):
        among = {name: entry["ranked_among"] for name, entry in result["sets"].items() if "ranked_among" in entry}
        counts = ", ".join(f"{count} on {name}" for name, count in among.items())
        text += f" The mean rank is over eleven metrics (without Nabf) among all methods known for the set: {counts}."
    return "\n".join(["## Image quality", "", text, "", *_table(head, rows)])


def _clips(result: Mapping[str, Any]) -> str:
    if not result["clips"]:
        return ""
    rows = []
    for name, entry in result["clips"].items():
        for case in [*entry["halo"], "visible", "thermal"]:
            figures = [entry[figure].get(case) for figure in ("warp_error", "noise", "halo", "halo_max")]
            rows.append([f"{name} ({entry['frames']})", case, *map(_number, figures)])
    text = (
        "Warp error is what changes beyond motion, over contrast. Noise is what is left in gray levels of that which was put on "
        "both bands of a still picture. Of the bands themselves: what they have."
    )
    head = ["clip (frames)", "", "warp error", "noise", "halo", "largest halo"]
    return "\n".join(["## Video", "", text, "", *_table(head, rows)])


def _steadiness(result: Mapping[str, Any]) -> str:
    if not result["leak"]:
        return ""
    values = ", ".join(f"{_number(value)} at {dial}" for dial, value in result["leak"].items())
    return (
        "A hot object that enters changes what is more than 64 px from it by this many gray levels on average, with the means of "
        f"the scene held, by dial: {values}."
    )


def _people(result: Mapping[str, Any]) -> str:
    rows = [row for row in result.get("people") or () if row["class"] == "person"]
    if not rows:
        return ""
    figures = ("f1", "precision", "recall")
    cells = [[row["case"], row["set"], str(row["boxes"]), *(_number(row[name]) for name in figures)] for row in rows]
    text = "A fixed detector on fused frames with hand-checked boxes, at a score of 0.4."
    parts = ["## People found", "", text, "", *_table(["", "set", "people", "F1", "precision", "recall"], cells)]
    kept = [[row["case"], row["set"], _number(row["kept"])] for row in result["people"] if "kept" in row]
    if kept:
        text = "Share of the thermal detail that is kept where only the thermal camera sees some."
        parts += ["", text, "", *_table(["", "set", "kept"], kept)]
    return "\n".join(parts)


def _parity(result: Mapping[str, Any]) -> str:
    if not result["parity"]:
        return ""
    rows = [
        [f"`{file}`", name, *(_signed(value) for value in figures.values())]
        for file, sets in result["parity"].items()
        for name, figures in sets.items()
    ]
    metrics = list(next(iter(next(iter(result["parity"].values())).values()))) if rows else []
    text = "How far the same student in another precision moves from the one above."
    return "\n".join(["## Other precisions", "", text, "", *_table(["file", "set", *metrics], rows)])


def _notes(notes: Sequence[str]) -> str:
    return "\n".join(["## To be known", "", *(f"- {note}" for note in notes)]) if notes else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
