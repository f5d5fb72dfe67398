"""The table at the end of a run, from a snapshot of its telemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rtfusion.cli.console import table

Snapshot = Mapping[str, Any]


def summary(snapshot: Snapshot) -> RenderableType:
    """Sources, pairs, stages, outputs and notes; at home in 80 columns, readable when piped."""
    parts: list[RenderableType] = [_headline(snapshot), _sources(snapshot), _pairs(snapshot)]
    if any(stage["count"] for stage in snapshot["stages_ms"].values()):
        parts.append(_stages(snapshot))
    if snapshot["written"]:
        parts.append(_outputs(snapshot))
    if snapshot.get("focus"):
        parts.append(_focus(snapshot["focus"]))
    if snapshot.get("mistrusted"):
        parts.append(Text(_mistrusted(snapshot)))
    if snapshot.get("refinement"):
        parts.append(Text(_refinement(snapshot["refinement"])))
    if snapshot.get("parallax"):
        parts.append(Text(_parallax(snapshot["parallax"])))
    parts += [Text(f"note: {note}") for note in snapshot["notes"]]
    return Group(*(line for part in parts for line in ("", part)))


def count_drops(drops: Mapping[str, Any]) -> int:
    """All drops of a group, whatever their cause."""
    return sum(count_drops(entry) if isinstance(entry, Mapping) else int(entry) for entry in drops.values())


def _headline(snapshot: Snapshot) -> Text:
    engine = f" on {snapshot['engine']}" if snapshot["engine"] else ""
    return Text.assemble(
        (f"{snapshot['fused']} frames fused", "bold"),
        f" in {snapshot['elapsed_s']:.1f} s with {snapshot['fuser']}{engine}: ",
        (f"{snapshot['fps']:.1f} frames/s", "bold"),
    )


def _sources(snapshot: Snapshot) -> Table:
    rows = table("source", "visible", "thermal")
    streams = [(band, snapshot["sources"].get(band)) for band in ("visible", "thermal")]
    rows.add_row("from", *(escape(info["uri"]) if info else "-" for _, info in streams))
    rows.add_row("stream", *(_stream(info) if info else "-" for _, info in streams))
    rows.add_row("frames read", *(str(snapshot["frames_read"].get(band, 0)) for band, _ in streams))
    rows.add_row("dropped", *(_causes(snapshot["drops"].get(band, {})) for band, _ in streams))
    if snapshot.get("shutter"):
        rows.add_row("shutter", "-", f"held in {snapshot['shutter']} pairs")
    if any(info and info.get("faults") for _, info in streams):
        rows.add_row("faults", *(_causes(info["faults"]) if info else "-" for _, info in streams))
    if any(info and info.get("outages", {}).get("times") for _, info in streams):
        rows.add_row("lost", *(_outages(info) if info else "-" for _, info in streams))
    return rows


def _stream(info: Mapping[str, Any]) -> str:
    what = f"{info['size']} {info['pixel_format']}, {rate_text(info)}"
    return escape(f"{what}\n{info['description']}" if info["description"] else what)


def rate_text(info: Mapping[str, Any]) -> str:
    """The rate of a source as a camera tells it or as it was measured, of the `snapshot` of its telemetry."""
    return "rate not told" if info["rate_hz"] is None else f"{info['rate_hz']:.4g} Hz"


def _outages(info: Mapping[str, Any]) -> str:
    """Say how often and for how long a camera was lost, and why it is now."""
    outages = info.get("outages", {})
    if not outages.get("times"):
        return "-"
    times = "once" if outages["times"] == 1 else f"{outages['times']} times"
    now = f"; still, for {outages['now']['seconds']:.1f} s: {outages['now']['reason']}" if outages["now"] else ""
    return escape(f"{times}, {outages['seconds']:.1f} s{now}")


def _causes(drops: Mapping[str, int]) -> str:
    causes = [f"{count} {cause.replace('_', ' ')}" for cause, count in drops.items() if count]
    return escape(", ".join(causes)) or "0"


def _pairs(snapshot: Snapshot) -> Table:
    rows = table("pairs", "tolerance ms", "skew ms   p50", "p95", "max", numbers_from=1)
    rows.add_row(
        str(snapshot["pairs"]),
        _ms(snapshot.get("tolerance_ms")),
        *(_ms(snapshot["skew_ms"][key]) for key in ("p50", "p95", "max")),
    )
    return rows


def _stages(snapshot: Snapshot) -> Table:
    rows = table("stage, ms per frame", "p50", "p95", "p99", numbers_from=1)
    for name, stage in snapshot["stages_ms"].items():
        if stage["count"]:
            rows.add_row(escape(name), *(_ms(stage[key]) for key in ("p50", "p95", "p99")))
    return rows


def _outputs(snapshot: Snapshot) -> Table:
    rows = table("output", "written", "dropped", "age ms   p50", "p95", "p99", numbers_from=3)
    for uri, written in snapshot["written"].items():
        age = snapshot["age_ms"].get(uri, {})
        drops = _causes(snapshot["drops"].get("sinks", {}).get(uri, {}))
        rows.add_row(escape(uri), str(written), drops, *(_ms(age.get(key)) for key in ("p50", "p95", "p99")))
    return rows


def _focus(providers: Mapping[str, Any]) -> Table:
    """Say who looked for targets, how often, and how old what they said was."""
    rows = table("targets by", "frames", "looked", "age ms   p50", "p95", "max", numbers_from=1)
    for name, one in providers.items():
        ages = (_ms(one["age_ms"][key]) for key in ("p50", "p95", "max"))
        rows.add_row(escape(name), str(one["frames"]), str(one["runs"]), *ages)
    return rows


def _mistrusted(snapshot: Snapshot) -> str:
    """Say which band was not trusted, and in how many frames."""
    found = (f"{name} in {count}" for name, count in snapshot["mistrusted"].items())
    return f"not trusted, the other camera shown there: {', '.join(found)} of {snapshot['fused']} frames"


def _parallax(state: Mapping[str, Any]) -> str:
    """Say between which displacements the picture lies, and along which direction."""
    if state["direction"] is None:
        return f"parallax ({state['kind']}): not known along which direction the cameras lie, so nothing is moved"
    (far, near), (x, y) = state["in_use_px"], state["direction"]
    return (
        f"parallax ({state['kind']}): things lie {far:+.1f} to {near:+.1f} px along ({x:+.2f}, {y:+.2f}) of the registration; "
        f"{100 * state['sure']:.0f} % of the picture tells its own, measured {state['measured']} times"
    )


def _refinement(state: Mapping[str, Any]) -> str:
    """Say where the online refinement has moved the registration."""
    x, y = state["shift_px"]
    why = f" ({state['reason']})" if state["reason"] else ""
    return (
        f"registration refined by {x:+.1f}, {y:+.1f} px, {state['turn_deg']:+.2f} degrees, scale {state['scale']:.4f}; "
        f"{state['state']}{why}; {state['trusted']} of {state['measured']} measurements could be trusted"
    )


def _ms(value: float | None) -> str:
    """Milliseconds to a tenth, below ten to a hundredth."""
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
