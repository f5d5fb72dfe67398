"""The measurements of a run: counts, drops by cause, percentiles per stage, age at the sinks."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rtfusion.capture.base import StreamInfo
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.types import Band, FramePair

_log = logging.getLogger(__name__)

SCHEMA = 1
RECENT_S = 2.0


class Histogram:
    """Percentiles of any number of durations in constant memory: counts in logarithmic buckets 2 % wide.

    One thread records; others may read at any time. Values are nanoseconds, of either sign.
    """

    _PER_OCTAVE = 35  # 2 ** (1 / 35) = 1.02

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.total_ns = 0
        """The sum of all values."""
        self._max_ns: int | None = None
        self.count = 0

    def record(self, value_ns: int) -> None:
        """Count one value."""
        self._counts[self._bucket(value_ns)] += 1
        self.total_ns += value_ns
        self._max_ns = value_ns if self._max_ns is None else max(self._max_ns, value_ns)
        self.count += 1

    def percentile_ns(self, percent: float) -> float:
        """The value below which ``percent`` of all values lie, to 2 %."""
        counts = sorted(dict(self._counts).items())
        rank = percent / 100.0 * sum(count for _, count in counts)
        seen = 0
        for bucket, count in counts:
            seen += count
            if seen >= rank:
                return min(self._value_ns(bucket), self._max_ns or 0) if bucket >= 0 else self._value_ns(bucket)
        return 0.0

    def counts_up_to(self, bounds_ns: Sequence[float]) -> list[int]:
        """The number of values up to each of these, to 2 %."""
        counts = [(self._value_ns(bucket), count) for bucket, count in dict(self._counts).items()]
        return [sum(count for value_ns, count in counts if value_ns <= bound_ns) for bound_ns in bounds_ns]

    def summary_ms(self) -> dict[str, float | int | None]:
        """count, p50, p95, p99, max and mean in milliseconds; None for all but the count when nothing was recorded."""
        if self.count == 0 or self._max_ns is None:
            return {"count": 0, "p50": None, "p95": None, "p99": None, "max": None, "mean": None}
        values_ns = {f"p{percent}": self.percentile_ns(percent) for percent in (50, 95, 99)}
        values_ns |= {"max": self._max_ns, "mean": self.total_ns / self.count}
        return {"count": self.count, **{name: value_ns / NS_PER_MS for name, value_ns in values_ns.items()}}

    @classmethod
    def _bucket(cls, value_ns: int) -> int:
        bucket = int(math.log2(abs(value_ns)) * cls._PER_OCTAVE) + 1 if value_ns else 0
        return bucket if value_ns >= 0 else -bucket

    @classmethod
    def _value_ns(cls, bucket: int) -> float:
        return math.copysign(2.0 ** ((abs(bucket) - 0.5) / cls._PER_OCTAVE), bucket) if bucket else 0.0


MOST_NOTES = 200
"""Enough for a person to read; a run goes on for months."""


class Telemetry:
    """Filled by the pipeline and its threads, read by whoever shows it (`snapshot`).

    Each histogram and counter has one writing thread, so nothing is locked.
    """

    def __init__(self, *, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._started_ns = clock.now_ns()
        self._ended_ns: int | None = None
        self._first_fused_ns: int | None = None
        self._last_fused_ns = 0
        self._recent: deque[tuple[int, int]] = deque()
        self._stages: dict[str, Histogram] = {}
        self._ages: dict[str, Histogram] = {}
        self._skew = Histogram()
        self._fused_age = Histogram()
        self.rates_hz: dict[Band, float] = {}
        """Measured rates of the cameras that tell none."""
        self.frames_read: Counter[Band] = Counter()
        self._tolerance_ns: float | None = None
        self.pairs = 0
        self.fused = 0
        self.written: Counter[str] = Counter()
        self.drops: dict[str, Mapping[Any, Any]] = {}
        self.sources: dict[Band, StreamInfo] = {}
        self.faults: dict[Band, Mapping[str, int]] = {}
        """Faults of watched cameras, by cause."""
        self.lost: dict[Band, str | None] = {}
        """Why a watched camera is lost now; None while it delivers."""
        self.outages: dict[Band, Mapping[str, Any]] = {}
        """Times and seconds that a watched camera was lost, and what is so ``now`` (`rtfusion.pairs.PairStream.outages`)."""
        self.degraded: Counter[str] = Counter()
        """Frames fused while a camera was lost, by what stood in for it."""
        self.mistrusted: Counter[str] = Counter()
        """Frames in which a band, or a part of it, was not trusted, by what is wrong with it (`rtfusion.fusion.trust`)."""
        self.focus: dict[str, Counter[str]] = {}
        """By the name of a provider of targets, the frames it was asked for, ``frames``, and its new answers, ``runs``."""
        self._focus_ages: dict[str, Histogram] = {}
        self.shutter = 0
        """Pairs in which the thermal picture was held: the camera was behind its shutter."""
        self.fuser = ""
        self.engine: str | None = None
        self.refinement: Mapping[str, Any] | None = None
        """State of the online refinement (`rtfusion.registration.refine.Refiner.state`), where it is on."""
        self.parallax: Callable[[], Mapping[str, Any]] | None = None
        """Gives the state of the correction of parallax (`rtfusion.registration.parallax.Parallax.state`), where it is on."""
        self.intents: Mapping[str, float] = {}
        """The intents that the last frame was made with, those that are not at 0."""
        self.intents_version = 0
        """How often they were changed."""
        self.notes: list[str] = []

    def stage(self, name: str) -> Histogram:
        """The durations of one stage; made on first use."""
        found = self._stages.get(name)  # of all that is counted, mostly one that is there
        return self._stages.setdefault(name, Histogram()) if found is None else found

    def frame_read(self, band: Band, *, decode_ns: int) -> None:
        """A source delivered a frame."""
        self.frames_read[band] += 1
        self.stage(f"decode {band.value}").record(decode_ns)

    def paired(self, pair: FramePair, *, thermal_delay_ns: int, tolerance_ns: float | None = None) -> None:
        """A pair was made; the skew that counts is what is left after the known delay, at most ``tolerance_ns``."""
        self.pairs += 1
        self.shutter += pair.thermal.shutter
        if pair.degraded is not None:
            self.degraded[pair.degraded.value] += 1
            return
        if tolerance_ns is not None:
            self._tolerance_ns = max(self._tolerance_ns or 0.0, tolerance_ns)
        self._skew.record(abs(pair.skew_ns - thermal_delay_ns))

    def fused_one(self, *, age_ns: int | None = None) -> None:
        """A frame was fused, and was so old then."""
        if age_ns is not None:
            self._fused_age.record(age_ns)
        self._last_fused_ns = self._clock.now_ns()
        if self._first_fused_ns is None:
            self._first_fused_ns = self._last_fused_ns
        self.fused += 1

    def sink_wrote(self, uri: str, *, age_ns: int, write_ns: int) -> None:
        """A sink took a frame."""
        self.written[uri] += 1
        self._ages.setdefault(uri, Histogram()).record(age_ns)
        self.stage(f"sink {uri}").record(write_ns)

    def focused(self, provider: str, *, runs: int, age_ns: int | None) -> None:
        """A provider of targets was asked for a frame: its new answers since, and the age of the one that it gave, if any."""
        self.focus.setdefault(provider, Counter()).update(frames=1, runs=runs)
        if age_ns is not None:
            self._focus_ages.setdefault(provider, Histogram()).record(age_ns)

    def note(self, text: str) -> None:
        """Keep a sentence for the person who reads the table; the same one only once, and not more than `MOST_NOTES`."""
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """`note` a sentence of what is not well, and log it at once, each time: the table comes when the run is over."""
        _log.warning("%s", text)
        self.note(text)

    def drops_by_cause(self) -> dict[str, int]:
        """Frames lost so far as ``place.cause``, for the header of published frames; zeros are left out."""
        return {
            f"{place}.{cause}": count
            for place in ("visible", "thermal")
            for cause, count in self.drops.get(place, {}).items()
            if count
        }

    def end(self) -> None:
        """Stop the clock of the run."""
        self._ended_ns = self._clock.now_ns()

    @property
    def fps(self) -> float:
        """Fused frames per second from the first to the last one: n frames are n - 1 intervals."""
        if self._first_fused_ns is None or self.fused < 2 or self._last_fused_ns == self._first_fused_ns:
            return 0.0
        return (self.fused - 1) * NS_PER_S / (self._last_fused_ns - self._first_fused_ns)

    def _recent_fps(self) -> float:
        now_ns = self._clock.now_ns()
        self._recent.append((now_ns, self.fused))
        while len(self._recent) > 2 and now_ns - self._recent[0][0] > RECENT_S * NS_PER_S:
            self._recent.popleft()
        span_ns = now_ns - self._recent[0][0]
        return (self.fused - self._recent[0][1]) * NS_PER_S / span_ns if span_ns else self.fps

    def durations(self) -> dict[str, dict[str, Histogram]]:
        """The histograms of stages, of ages at the sinks, and of the skew, by ``stage``, ``age`` and ``skew``."""
        return {"stage": dict(self._stages), "age": dict(self._ages), "skew": {"": self._skew}}

    def snapshot(self) -> dict[str, Any]:
        """Give all measurements as JSON-able values. Durations in milliseconds."""
        now_ns = self._ended_ns if self._ended_ns is not None else self._clock.now_ns()
        return {
            "schema": SCHEMA,
            "elapsed_s": (now_ns - self._started_ns) / NS_PER_S,
            "live": any(info.live for info in self.sources.values()),
            "fuser": self.fuser,
            "engine": self.engine,
            "sources": {band.value: self._source(band, info) for band, info in self.sources.items()},
            "frames_read": {band.value: self.frames_read[band] for band in Band},
            "pairs": self.pairs,
            "degraded": dict(self.degraded),
            "mistrusted": dict(self.mistrusted),
            "focus": {
                name: {**counts, "age_ms": self._focus_ages.get(name, Histogram()).summary_ms()}
                for name, counts in list(self.focus.items())
            },
            "shutter": self.shutter,
            "fused": self.fused,
            "fused_age_ms": self._fused_age.summary_ms(),
            "fps": self.fps,
            "fps_recent": self._recent_fps(),
            "drops": {group: _plain(causes) for group, causes in self.drops.items()},
            "skew_ms": self._skew.summary_ms(),
            "tolerance_ms": None if self._tolerance_ns is None else self._tolerance_ns / NS_PER_MS,
            "stages_ms": {name: histogram.summary_ms() for name, histogram in list(self._stages.items())},
            "age_ms": {uri: histogram.summary_ms() for uri, histogram in list(self._ages.items())},
            "written": dict(self.written),
            "refinement": None if self.refinement is None else dict(self.refinement),
            "parallax": None if self.parallax is None else dict(self.parallax()),
            "intents": dict(self.intents),
            "intents_version": self.intents_version,
            "notes": list(self.notes),
        }

    def _source(self, band: Band, info: StreamInfo) -> dict[str, Any]:
        return {
            "uri": info.uri,
            "size": f"{info.width_px}x{info.height_px}",
            "pixel_format": info.pixel_format.value,
            "rate_hz": info.rate_hz if info.rate_is_told else self.rates_hz.get(band),
            "live": info.live,
            "description": info.description,
            "frame_count": info.frame_count,
            "lost": self.lost.get(band),
            "faults": dict(self.faults.get(band, {})),
            "outages": dict(self.outages.get(band, {})),
        }


def _plain(causes: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(k): _plain(v) if isinstance(v, Mapping) else v for k, v in causes.items() if isinstance(v, Mapping) or v
    }
