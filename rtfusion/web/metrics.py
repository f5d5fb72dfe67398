"""The measurements of a run as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MS_PER_S = 1000.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, Mapping[str, str], float]
"""Suffix of the name, labels, value."""


def prometheus(snapshot: Mapping[str, Any]) -> str:
    """Write a `rtfusion.telemetry.Telemetry.snapshot` in the text format; durations in seconds."""
    lines: list[str] = []
    for name, kind, help_text, samples in _families(snapshot):
        lines += [f"# HELP rtfusion_{name} {help_text}", f"# TYPE rtfusion_{name} {kind}"]
        lines += [f"rtfusion_{name}{suffix}{_labels(labels)} {value!r}" for suffix, labels, value in samples]
    return "\n".join(lines) + "\n"


def _families(snapshot: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    sources = snapshot["sources"]
    yield "elapsed_seconds", "gauge", "Since the run began.", [_plain(snapshot["elapsed_s"])]
    yield "fused_total", "counter", "Frames fused.", [_plain(snapshot["fused"])]
    yield "pairs_total", "counter", "Pairs made.", [_plain(snapshot["pairs"])]
    yield "fps", "gauge", "Fused frames per second, lately.", [_plain(snapshot["fps_recent"])]
    yield "frames_read_total", "counter", "Frames read.", _by("band", snapshot["frames_read"])
    yield "degraded_total", "counter", "Frames fused while a camera was lost.", _by("as", snapshot["degraded"])
    yield "shutter_total", "counter", "Pairs with the thermal picture held.", [_plain(snapshot["shutter"])]
    up = {band: float(source["lost"] is None) for band, source in sources.items()}
    yield "source_up", "gauge", "0 while a camera is lost.", _by("band", up)
    faults = {band: source["faults"] for band, source in sources.items()}
    yield "faults_total", "counter", "What happened to cameras.", _by_two("band", "cause", faults)
    drops = {place: causes for place, causes in snapshot["drops"].items() if place != "sinks"}
    yield "drops_total", "counter", "Frames lost before they were fused.", _by_two("place", "cause", drops)
    sinks = snapshot["drops"].get("sinks", {})
    yield "sink_drops_total", "counter", "Frames that an output lost.", _by_two("sink", "cause", sinks)
    yield "written_total", "counter", "Frames that an output took.", _by("sink", snapshot["written"])
    yield "skew_seconds", "summary", "Between the two stamps of a pair.", _summary({}, snapshot["skew_ms"])
    yield "stage_seconds", "summary", "Duration of a stage.", _summaries("stage", snapshot["stages_ms"])
    yield "age_seconds", "summary", "Age of a frame when an output has it.", _summaries("sink", snapshot["age_ms"])


def _plain(value: float) -> Sample:
    return "", {}, float(value)


def _by(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [("", {label: key}, float(value)) for key, value in values.items()]


def _by_two(outer: str, inner: str, values: Mapping[str, Mapping[str, float]]) -> list[Sample]:
    return [
        ("", {outer: place, inner: cause}, float(count))
        for place, causes in values.items()
        for cause, count in causes.items()
    ]


def _summaries(label: str, values: Mapping[str, Mapping[str, Any]]) -> list[Sample]:
    return [sample for key, summary in values.items() for sample in _summary({label: key}, summary)]


def _summary(labels: Mapping[str, str], summary: Mapping[str, Any]) -> list[Sample]:
    count = summary["count"]
    quantiles: list[Sample] = []
    if count:
        for name, quantile in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99")):
            quantiles.append(("", {**labels, "quantile": quantile}, summary[name] / MS_PER_S))
    total_s = (summary["mean"] or 0.0) * count / MS_PER_S
    return [*quantiles, ("_sum", labels, total_s), ("_count", labels, float(count))]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
