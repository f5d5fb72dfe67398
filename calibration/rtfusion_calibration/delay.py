"""The constant time offset between two cameras, from motion that both see.

What is not as usual makes the silhouettes of whatever moves, and they are correlated between all frames of one stream and all
of the other that may be of the same moment. Pairs of frames correlate best when their stamps differ by the delay, which is
found to a small fraction of a frame period. Silhouettes, because front and back of a thing are where they are in both bands;
of the edges inside, each band shows its own, and those of one band are ahead of those of the other.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.errors import CalibrationError, CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.progress import part, tell
from rtfusion.registration import Calibration, scale_px
from rtfusion.registration.calibration import Matrix
from rtfusion.types import Frame, Image

LARGEST_DELAY_S = 1.0
LEAST_S = 3.0
LEAST_FRAMES = 20
VIEW_SIDE_PX = 320
"""Longer side of the visible camera's view at which motion is followed."""
USUAL_FRAMES = 31
"""The median of as many tells what is always there."""
NOISE, CLEAR = 2.0, 6.0
"""Standard deviations of the noise: what differs by less from what is usual stands still, what differs by more moves, however
much it differs. Noise in the silhouettes would pull the delay to a multiple of the frame period."""
SOFT_SIGMA_PX = 1.5
SAMPLE_STEP = 2
"""Every second row and column of the silhouettes, which are soft, is compared."""
PEAK_PERIODS = 2.5
"""In periods of the slower stream: pairs of frames this near to the delay tell where the top of the correlation is."""
BLOCK_S = 0.5
"""Stretches of time that are drawn anew: what is nearer in time errs together."""
STRIPS = 6
"""Strips of the picture, one above the other: in each, others walk or drive, and what only one band shows of them differs."""
LARGEST_STRIP = 0.8
"""Share of the motion from which on nothing can be said without a strip."""
LEAST_CORRELATION = 0.1
BAND_PERIODS = 0.03
"""Part of the uncertainty that more of the same motion does not lower: the bands see the same thing differently."""
LARGEST_UNCERTAINTY_PERIODS = 0.35
RIVAL = 0.8
"""Share of the height of the peak that another one may have: beyond, the motion repeats itself."""
SILENT_S = 5.0
_DRAWS = 200
_NORMAL_MEDIAN = 0.67
"""Median distance from the mean of what is normally distributed with a standard deviation of 1."""
_TELL_S = 0.2
_READ_TIMEOUT_S = 0.5
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Motion:
    """One stream on the coarse view of the visible camera."""

    stamps_ns: npt.NDArray[np.int64]
    """(N,) increasing."""
    views: Image
    """(N, H, W) uint8 or uint16; 0 where the camera sees nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DelayEstimate:
    """Thermal stamp minus visible stamp of one event."""

    delay_ns: int
    uncertainty_ns: int
    """Standard deviation: from drawing other moments of the same streams, and what the bands may differ by."""
    correlation: float
    """Correlation of what moves in frames of one moment, at most 1."""
    seconds: float
    """Length of what was compared of both streams."""

    def sentence(self) -> str:
        """The verdict for a person."""
        return (
            f"the thermal stamps are {abs(self.delay_ns) / NS_PER_MS:.1f} ms {'late' if self.delay_ns >= 0 else 'early'}, "
            f"certain to {self.uncertainty_ns / NS_PER_MS:.1f} ms; correlation {self.correlation:.2f} over {self.seconds:.0f} s"
        )


def measure_delay(
    *, visible: Source, thermal: Source, calibration: Calibration | None, seconds: float, stop: threading.Event
) -> DelayEstimate:
    """Watch both streams for ``seconds``, side by side, and estimate; without a calibration they are taken to have one view.

    Raises:
        CalibrationError: the motion does not tell the delay, or the calibration is for other cameras.
        ConfigError: a source gives unrelated stills.
        CaptureError: a source broke.
    """
    for info in (visible.info, thermal.info):
        if not info.continuous:
            raise ConfigError(f"{info.uri}: unrelated stills have no delay; a video is one with ?fps=N at the end")
    visible_px, thermal_px = _size_px(visible.info), _size_px(thermal.info)
    rig = calibration or _same_view(visible.info, thermal.info)
    rig = rig.scaled(visible_size_px=visible_px, thermal_size_px=thermal_px)
    look = partial(watch, visible_size_px=visible_px, seconds=seconds, stop=stop)
    with ThreadPoolExecutor(max_workers=2) as threads:
        watched = [
            threads.submit(look, visible, visible_from_source_px=np.eye(3)),
            threads.submit(look, thermal, visible_from_source_px=rig.homography_px),
        ]
        done = _wait_for(watched, seconds=seconds)
        if any(future.exception() is not None for future in done):
            stop.set()  # the other one would wait in vain
        return estimate_delay(visible=watched[0].result(), thermal=watched[1].result())


def _wait_for(watched: Sequence[Future[Motion]], *, seconds: float) -> set[Future[Motion]]:
    """Those that are done when all are, or one failed; told on the way, by the clock, as cameras take their time."""
    began_s = time.monotonic()
    with part(0.0, 1.0):
        while True:
            done, left = wait(watched, timeout=_TELL_S, return_when=FIRST_EXCEPTION)
            if not left or any(future.exception() is not None for future in done):
                return done
            tell("seconds of what moves", min(int(time.monotonic() - began_s), int(seconds)), int(seconds))


def with_delay(
    calibration: Calibration | None, estimate: DelayEstimate, *, visible: StreamInfo, thermal: StreamInfo
) -> Calibration:
    """The calibration with this delay; without one, a new one for cameras with the same view."""
    rig = calibration or _same_view(visible, thermal)
    provenance = {**rig.provenance, "delay": estimate.sentence()}
    return rig.model_copy(update={"thermal_delay_ns": estimate.delay_ns, "provenance": provenance})


def _same_view(visible: StreamInfo, thermal: StreamInfo) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=scale_px(from_px=_size_px(thermal), to_px=_size_px(visible)),
        visible_size_px=_size_px(visible),
        thermal_size_px=_size_px(thermal),
        provenance={"registration": "none: both cameras taken to have the same view"},
    )


def _size_px(info: StreamInfo) -> tuple[int, int]:
    return info.width_px, info.height_px


def watch(
    source: Source,
    *,
    visible_from_source_px: Matrix,
    visible_size_px: tuple[int, int],
    seconds: float,
    stop: threading.Event,
) -> Motion:
    """Read ``seconds`` of a stream, less if it ends or ``stop`` is set before.

    ``visible_from_source_px`` takes its pixels to those of the visible camera; some pixels off do no harm.

    Raises:
        CaptureError: the source broke, or delivers nothing.
    """
    factor = min(1.0, VIEW_SIDE_PX / max(visible_size_px))
    view_px = max(8, round(visible_size_px[0] * factor)), max(8, round(visible_size_px[1] * factor))
    view_from_source = scale_px(from_px=visible_size_px, to_px=view_px) @ visible_from_source_px
    stamps_ns: list[int] = []
    views: list[Image] = []
    silent = 0
    while not stop.is_set():
        try:
            frame = source.read(timeout_s=_READ_TIMEOUT_S)
        except EndOfStream:
            break
        except CaptureTimeout:
            silent += 1
            if silent * _READ_TIMEOUT_S >= SILENT_S:
                raise StreamLost(f"{source.info.uri}: no frame for {SILENT_S:g} s; is the camera connected?") from None
            continue
        silent = 0
        if stamps_ns and frame.timestamp_ns - stamps_ns[0] > seconds * NS_PER_S:
            break
        if frame.shutter or (stamps_ns and frame.timestamp_ns <= stamps_ns[-1]):
            continue
        stamps_ns.append(frame.timestamp_ns)
        views.append(_viewed(frame, view_from_source, view_px))
    stack = np.stack(views) if views else np.empty((0, *view_px[::-1]), np.uint8)
    return Motion(stamps_ns=np.array(stamps_ns, dtype=np.int64), views=cast(Image, stack))


def _viewed(frame: Frame, view_from_source: Matrix, view_px: tuple[int, int]) -> Image:
    """(H, W) gray levels or counts: a frame on the coarse view; 0 where the camera sees nothing."""
    gray = frame.image if frame.image.ndim == 2 else cast(Image, cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY))
    shrink = 1.0 / math.sqrt(max(abs(float(np.linalg.det(view_from_source[:2, :2]))), 1e-6))
    if shrink > 1.0:
        small_px = max(1, round(frame.width_px / shrink)), max(1, round(frame.height_px / shrink))
        gray = cast(Image, cv2.resize(gray, small_px, interpolation=cv2.INTER_AREA))
        view_from_source = view_from_source @ scale_px(from_px=small_px, to_px=frame.size_px)
    return cast(Image, cv2.warpPerspective(gray, view_from_source, view_px))


# -- the estimate -------------------------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """All pairs of frames that may be of one moment."""

    lags_ns: Values
    """(P,) thermal stamp minus visible stamp."""
    correlations: Values
    weights: Values
    """(P,) how much moves in them."""
    blocks: npt.NDArray[np.int64]
    """(P,) the stretch of time that they are from."""


def estimate_delay(*, visible: Motion, thermal: Motion) -> DelayEstimate:
    """The delay at which what moves is in the same places.

    Raises:
        CalibrationError: nothing moves in both, the motion repeats itself, or it leaves the delay uncertain.
    """
    periods_ns = [_period_ns(motion, name) for motion, name in ((visible, "visible"), (thermal, "thermal"))]
    begin_ns = max(visible.stamps_ns[0], thermal.stamps_ns[0])
    seconds = float(min(visible.stamps_ns[-1], thermal.stamps_ns[-1]) - begin_ns) / NS_PER_S
    if seconds < LEAST_S:
        raise _refusal(f"both streams ran together for {max(seconds, 0.0):.1f} s; {LEAST_S:.0f} s are needed")
    pairs, without_strips = _correlate(visible, thermal)
    short_ns, long_ns = min(periods_ns), max(periods_ns)
    bins = np.round(pairs.lags_ns / short_ns).astype(int)
    first = int(bins.min())
    weights = np.bincount(bins - first, pairs.weights)
    curve = np.bincount(bins - first, pairs.weights * pairs.correlations) / np.maximum(weights, 1e-12)
    rough_ns = float(_prominent(curve, beyond=math.ceil(3.0 * long_ns / short_ns)) + first) * short_ns
    width_ns = PEAK_PERIODS * long_ns
    delay_ns, correlation = _top(pairs, rough_ns, width_ns)
    rng = np.random.default_rng(0)
    count = int(pairs.blocks.max()) + 1
    draws_ns = []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[pairs.blocks]
        draws_ns.append(_top(pairs._replace(weights=pairs.weights * times), delay_ns, width_ns)[0])
    gaps_ns = [_top(part, delay_ns, width_ns)[0] - delay_ns for part in without_strips]
    by_strip_ns = math.sqrt((STRIPS - 1) / STRIPS * sum(gap * gap for gap in gaps_ns))
    by_time_ns = float(np.std(draws_ns))
    uncertainty_ns = math.hypot(by_time_ns, by_strip_ns, BAND_PERIODS * long_ns)
    if uncertainty_ns > LARGEST_UNCERTAINTY_PERIODS * long_ns:
        raise _refusal(f"it is uncertain by {uncertainty_ns / NS_PER_MS:.0f} ms")
    return DelayEstimate(
        delay_ns=round(delay_ns), uncertainty_ns=round(uncertainty_ns), correlation=correlation, seconds=seconds
    )


def _refusal(reason: str) -> CalibrationError:
    return CalibrationError(
        f"the delay cannot be told: {reason}. Wave a warm hand before both cameras, unevenly, for ten seconds or more; "
        "cameras that see things in different places need rtfusion calibrate scene first"
    )


def _period_ns(motion: Motion, name: str) -> float:
    if len(motion.stamps_ns) < LEAST_FRAMES:
        raise _refusal(f"the {name} stream has {len(motion.stamps_ns)} frames; {LEAST_FRAMES} are needed")
    return float(np.median(np.diff(motion.stamps_ns)))


def _correlate(visible: Motion, thermal: Motion) -> tuple[_Pairs, list[_Pairs]]:
    """Correlate what moves in all pairs of frames: in the whole picture, and then without one of its strips each."""
    strips = [np.array_split(_moving(motion), STRIPS, axis=1) for motion in (visible, thermal)]
    lags_ns = (thermal.stamps_ns[None, :] - visible.stamps_ns[:, None]).astype(np.float64)
    row, column = np.nonzero(np.abs(lags_ns) <= LARGEST_DELAY_S * NS_PER_S)
    products = np.array([(one @ other.T)[row, column] for one, other in zip(*strips, strict=True)])
    squares = [np.array([np.einsum("ij,ij->i", strip, strip) for strip in band]) for band in strips]
    middle_ns = (visible.stamps_ns[row] + thermal.stamps_ns[column]) // 2
    blocks = (middle_ns - middle_ns.min()) // round(BLOCK_S * NS_PER_S)

    def pairs(chosen: npt.NDArray[np.bool_]) -> _Pairs:
        energies = [band[chosen].sum(axis=0) for band in squares]
        both = np.maximum(np.sqrt(energies[0][row] * energies[1][column]), 1e-6)
        return _Pairs(
            lags_ns=lags_ns[row, column],
            correlations=(products[chosen].sum(axis=0) / both).astype(np.float64),
            weights=(both / both.mean()).astype(np.float64),
            blocks=blocks,
        )

    motion = sum(band.sum(axis=1) / max(float(band.sum()), 1e-6) for band in squares) / 2
    parts = [np.arange(STRIPS) != strip for strip in np.flatnonzero(motion < LARGEST_STRIP)]
    return pairs(np.ones(STRIPS, np.bool_)), [pairs(part) for part in parts]


def _moving(motion: Motion) -> npt.NDArray[np.float32]:
    """(N, values) float32: soft silhouettes of what moves, less their mean over time."""
    chosen = motion.views[np.linspace(0, len(motion.views) - 1, USUAL_FRAMES).astype(int)]
    usual = np.median(chosen, axis=0).astype(np.float32)
    noise = float(np.median([np.median(_unlike(view, usual)) for view in chosen])) / _NORMAL_MEDIAN + 1.0
    silhouettes = []
    for view in motion.views:
        clearly = np.clip((_unlike(view, usual) / np.float32(noise) - NOISE) / (CLEAR - NOISE), 0.0, 1.0)
        soft = cv2.GaussianBlur(clearly, (0, 0), SOFT_SIGMA_PX)
        silhouettes.append(soft[::SAMPLE_STEP, ::SAMPLE_STEP].ravel())
    moving = np.stack(silhouettes)
    moving -= moving.mean(axis=0)
    return moving


def _unlike(view: Image, usual: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(H, W): by how much each gray level is not as usual, when the whole picture has not become lighter or darker."""
    change = view.astype(np.float32) - usual
    return cast(npt.NDArray[np.float32], np.abs(change - np.median(change)))


def _prominent(curve: Values, *, beyond: int) -> int:
    """The bin where the correlation has its one peak; refused where there is none, or another like it."""
    top = int(curve.argmax())
    far = np.abs(np.arange(len(curve)) - top) > beyond
    usual = float(np.median(curve[far]))
    height = float(curve[top]) - usual
    if curve[top] < LEAST_CORRELATION:
        raise _refusal(
            f"what moves in the two bands correlates by {curve[top]:.2f} at best: hardly anything moves in both"
        )
    inner = np.flatnonzero(far[1:-1] & (curve[1:-1] >= curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    if inner.size and float(curve[inner].max()) - usual > RIVAL * height:
        raise _refusal("another delay fits almost as well: the motion repeats itself")
    return top


def _top(pairs: _Pairs, near_ns: float, width_ns: float) -> tuple[float, float]:
    """(delay, correlation) at the top of a parabola through the pairs near a delay; the nearer, the more they count."""
    at_ns, height = near_ns, 0.0
    for _ in range(6):
        distance = (pairs.lags_ns - at_ns) / width_ns
        near = np.abs(distance) < 1.0
        x, root = distance[near], np.sqrt(pairs.weights[near]) * (1.0 - np.square(distance[near]))
        system: Any = np.column_stack([np.ones_like(x), x, np.square(x)]) * root[:, None]
        height, slope, bend = np.linalg.lstsq(system, pairs.correlations[near] * root, rcond=None)[0]
        if bend >= 0:
            break
        at_ns += float(np.clip(-slope / (2.0 * bend), -0.5, 0.5)) * width_ns
    return at_ns, float(height)
