"""The measurements of a run as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from rtfusion import __version__
from rtfusion.clock import NS_PER_S
from rtfusion.telemetry import Histogram
from rtfusion.text import output_name

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
BOUNDS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096)
"""The same for all durations and all runs, so that histograms of several machines add up."""

Durations = Mapping[str, Mapping[str, Histogram]]
"""Histograms by what they are of, ``stage``, ``age`` or ``skew``, and by the name of the stage or sink."""


def prometheus(snapshot: Mapping[str, Any], *, durations: Durations) -> bytes:
    """Write a `rtfusion.telemetry.Telemetry.snapshot` and its histograms in the text format; durations in seconds."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Run(snapshot, durations))
    return generate_latest(registry)


class _Run(Collector):
    def __init__(self, snapshot: Mapping[str, Any], durations: Durations) -> None:
        self._snapshot = snapshot
        self._durations = durations

    def collect(self) -> Iterator[Metric]:
        """Everything that was measured."""
        snapshot, sources = self._snapshot, self._snapshot["sources"]
        about = {"version": __version__, "fuser": snapshot["fuser"], "engine": snapshot["engine"] or ""}
        yield InfoMetricFamily("rtfusion_build", "What runs.", value=about)
        yield GaugeMetricFamily("rtfusion_elapsed_seconds", "Since the run began.", value=snapshot["elapsed_s"])
        yield CounterMetricFamily("rtfusion_fused", "Frames fused.", value=snapshot["fused"])
        yield CounterMetricFamily("rtfusion_pairs", "Pairs made.", value=snapshot["pairs"])
        yield GaugeMetricFamily("rtfusion_fps", "Fused frames per second, lately.", value=snapshot["fps_recent"])
        yield _counted("frames_read", "Frames read.", "band", snapshot["frames_read"])
        yield _counted("degraded", "Frames fused while a camera was lost.", "as", snapshot["degraded"])
        yield _counted("mistrusted", "Frames in which a band was not trusted.", "fault", snapshot["mistrusted"])
        yield CounterMetricFamily("rtfusion_shutter", "Pairs with the thermal picture held.", value=snapshot["shutter"])
        up = GaugeMetricFamily("rtfusion_source_up", "0 while a camera is lost.", labels=["band"])
        for band, source in sources.items():
            up.add_metric([band], float(source["lost"] is None))
        yield up
        faults = {band: source["faults"] for band, source in sources.items()}
        yield _counted_by_two("faults", "What happened to cameras.", ("band", "cause"), faults)
        drops = {place: causes for place, causes in snapshot["drops"].items() if place != "sinks"}
        yield _counted_by_two("drops", "Frames lost before they were fused.", ("place", "cause"), drops)
        lost = _by_output(snapshot["drops"].get("sinks", {}))
        yield _counted_by_two("sink_drops", "Frames that an output lost.", ("sink", "cause"), lost)
        yield _counted("written", "Frames that an output took.", "sink", _by_output(snapshot["written"]))
        for name, help_text, label in (
            ("skew", "Between the two stamps of a pair.", None),
            ("stage", "Duration of a stage.", "stage"),
            ("age", "Age of a frame when an output has it.", "sink"),
        ):
            found = {_label(key): histogram for key, histogram in self._durations.get(name, {}).items()}
            yield _histograms(f"{name}_seconds", help_text, label, found)


def _by_output(values: Mapping[str, Any]) -> dict[str, Any]:
    """By the addresses of the outputs without their parameters: a label is to stay when one of those changes."""
    return {output_name(uri): value for uri, value in values.items()}


def _label(key: str) -> str:
    """The name of a stage or of an output; the stage of an output is named by it."""
    stage = "sink " if key.startswith("sink ") else ""
    return stage + output_name(key.removeprefix(stage))


def _counted(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"rtfusion_{name}", help_text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _counted_by_two(
    name: str, help_text: str, labels: tuple[str, str], counts: Mapping[str, Mapping[str, int]]
) -> Metric:
    family = CounterMetricFamily(f"rtfusion_{name}", help_text, labels=labels)
    for outer, inner in counts.items():
        for value, count in inner.items():
            family.add_metric([outer, value], count)
    return family


def _histograms(name: str, help_text: str, label: str | None, found: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"rtfusion_{name}", help_text, labels=[] if label is None else [label])
    for value, histogram in found.items():
        counts = histogram.counts_up_to([bound * NS_PER_S for bound in BOUNDS_S])
        buckets = [(f"{bound:g}", count) for bound, count in zip(BOUNDS_S, counts, strict=True)]
        buckets.append(("+Inf", max([histogram.count, *counts])))
        family.add_metric([] if label is None else [value], buckets, histogram.total_ns / NS_PER_S)
    return family
