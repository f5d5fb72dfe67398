"""The curve of the `scene` gain: contrast for what a scene consists of, and never more of it than its noise allows."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.noise import NoiseLevel
from rtfusion.smoothing import SmoothingWeight, turn_at
from rtfusion.types import Image, Image8

LEVELS_PER_NOISE = 1.0, 4.0
"""The most gray levels that one deviation of the noise may become: in a scene that is hardly more than noise, and in any."""
PLAIN = 0.9
"""A scene that deviates by this many deviations of its noise, or less, is hardly more than noise."""
OUTSTANDING = 6.5, 8.5
"""So many deviations of the noise from the middle of a scene begins, and surely is, what is no noise."""
OUTSTANDING_LEVELS = 4.0
OUTSTANDING_SHARE = 0.01
"""Half of the levels per noise that may be added for what stands out are added where it covers this part of the picture."""
PLAINLY_SEEN = 60.0, 240.0
"""What is so far away adds less, and in the end nothing: it shows anyhow, and must not turn the noise of the rest into snow."""
OWN_SHARE = 0.3
"""Part of the gray levels that goes to the counts that a scene has; the rest goes to what lies around and between them."""
STEEPEST = 2.0
"""No counts get more than about this many times the contrast that a linear map of an even scene would give them."""
REACH = ((1.0, 0.65), (4.0, 0.28), (16.0, 0.07))
"""How far around a count the levels for its surroundings go, as multiples of the nearest reach, and the part of them that goes so
far: what is small and far away keeps its distance to the rest, however little of it there is."""
NEAREST_REACH = 3.3
"""The nearest reach in spreads of the scene."""
GAMMA = 1.6
"""Half of the picture is darker than half: what is warm stands out."""
LEAST_NOISE_COUNTS = 0.7
"""Rounding to whole counts is noise too."""
NEW_SCENE = 0.25
"""A picture that has less than this in common with what is remembered is of another scene, or the camera switched its gain."""
MIDDLES = 0.3, 0.4, 0.5, 0.6, 0.7
"""The parts of the picture that are colder than the middles of a scene, from which its spread is taken."""
SPREADS_OF_EVEN = 5.2
"""An even distribution is so many times as wide as its spread."""
TABLES_PER_BEAT = 200
"""A table is made anew twenty times a second, unless the scene is another one: it moves by less than a gray level meanwhile."""
_BIN_COUNTS = 4
_BINS = 65536 // _BIN_COUNTS
_COARSE = 16
"""Bins from one point to the next at which levels for the surroundings are computed; they change slowly."""
_FORGOTTEN = 1e-6
_SAMPLED_PX = 16_000
_FILLINGS = 6
_GROUPS = 512
_OPENCV_LOOKS_UP_COUNTS = int(cv2.__version__.split(".")[0]) >= 5

Shares = npt.NDArray[np.float64]


class _Scene(NamedTuple):
    """What is remembered of the counts, from the first bin that has any to the last one."""

    first: int
    """Number of the first bin."""
    shares: Shares
    """The share of the pixels in each bin, 1 in all."""
    apart_counts: Shares
    """The distance of each bin from the middle of the scene, the median."""

    def count_at(self, share: float) -> float:
        """The count that this share of the pixels is below."""
        return _BIN_COUNTS * (self.first + _bin_at(np.cumsum(self.shares), share))


class SceneCurve:
    """A rising table from counts to gray levels that follows a scene with a time constant.

    What is remembered is the histogram. Something that enters begins with no weight in it, and gets gray levels by the part of
    the picture that it covers, however hot it is: so it takes next to nothing from the rest. The levels go to the counts that
    there are, up to a plateau, and to their surroundings. The slope is bounded by the noise of the counts, which is measured
    (`NoiseLevel`): a scene of one temperature is shown as one gray, not as snow. Another scene, or another gain of the
    camera, is taken as it is at once.

    With ``time_constant_s`` 0 nothing is remembered.
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self.noise = NoiseLevel(time_constant_s=time_constant_s)
        self._weight = SmoothingWeight(time_constant_s=time_constant_s)
        self._remembers = time_constant_s > 0
        self._shares: Shares | None = None
        self._table: Image8 | None = None
        self._made_ns = 0
        self.ends_counts = 0.0, 65535.0
        """The 1st and the 99.5th percentile of the counts that are remembered."""

    @property
    def table(self) -> Image8:
        """The gray level of each of the 65536 counts.

        Raises:
            ValueError: no picture came yet.
        """
        if self._table is None:
            raise ValueError("there is no curve before the first picture")
        return self._table

    def follow(self, counts: Image, *, timestamp_ns: int) -> None:
        """Take an (H, W) uint16 picture into the memory, and make the table anew."""
        shares = _histogram(counts)
        if self._shares is not None and self._is_of_another(shares):
            self._shares = None
            self._weight.reset()
            self.noise.reset()
        elif (
            self._remembers
            and self._shares is not None
            and turn_at(timestamp_ns, per_beat=TABLES_PER_BEAT) == turn_at(self._made_ns, per_beat=TABLES_PER_BEAT)
        ):
            return
        noise_counts = max(self.noise.follow(counts, timestamp_ns=timestamp_ns), LEAST_NOISE_COUNTS)
        weight = self._weight.advance(timestamp_ns)
        if self._shares is None or weight == 1.0:
            self._shares = shares
        else:
            self._shares += weight * (shares - self._shares)
            self._shares[self._shares < _FORGOTTEN] = 0.0
        scene = _scene(self._shares)
        self._table = _table(scene, noise_counts)
        self.ends_counts = scene.count_at(0.01), scene.count_at(0.995)
        self._made_ns = timestamp_ns

    def pause(self, timestamp_ns: int) -> None:
        """Let time go by that is not to be made up for."""
        self._weight.advance(timestamp_ns)

    def __call__(self, counts: Image) -> Image8:
        """(H, W) uint16 counts to (H, W) uint8, by the table as it is."""
        if _OPENCV_LOOKS_UP_COUNTS:
            return cv2.LUT(counts, self.table)  # type: ignore[return-value]
        return self.table.take(counts)

    def _is_of_another(self, shares: Shares) -> bool:
        remembered = self._shares
        if remembered is None:
            return False
        half = _half_bins(4.0 * max(self.noise.deviation, LEAST_NOISE_COUNTS) + 32.0)
        (some,) = np.nonzero(remembered + shares)
        window = slice(some[0], some[-1] + 1)
        return float(np.minimum(_blurred(shares[window], half), _blurred(remembered[window], half)).sum()) < NEW_SCENE


def _histogram(counts: Image) -> Shares:
    """The share of the pixels in every bin."""
    step = max(1, int(np.sqrt(counts.size / _SAMPLED_PX)))
    sample = (counts[::step, ::step] // _BIN_COUNTS).ravel()
    return np.bincount(sample, minlength=_BINS) / sample.size


def _table(scene: _Scene, noise_counts: float) -> Image8:
    spread_counts = _spread_counts(scene, noise_counts)
    steepest = _BIN_COUNTS * min(
        _levels_per_noise(scene, noise_counts) / noise_counts, STEEPEST * 255.0 / (SPREADS_OF_EVEN * spread_counts)
    )
    density = _blurred(scene.shares, _half_bins(max(2.0 * noise_counts, spread_counts / 8.0)))
    own = OWN_SHARE * _filled(density, steepest)
    left = 255.0 - float(own.sum())
    # the levels for the surroundings of a scene that is all in one place are no steeper than their part of what is allowed
    reach_bins = max(left / (2.0 * (1.0 - OWN_SHARE) * steepest), NEAREST_REACH * spread_counts / _BIN_COUNTS)
    levels = left * _surroundings(scene, reach_bins)
    end = scene.first + len(own)
    levels[scene.first + 1 : end + 1] += np.cumsum(own)
    levels[end + 1 :] += own.sum()
    return _looked_up(levels)


def _looked_up(levels: Shares) -> Image8:
    """The table of a curve that is given, before the gamma, at the edges of all bins, 0 to 255."""
    half_levels = 255.0 * ((np.arange(255) + 0.5) / 255.0) ** (1.0 / GAMMA)
    edges = np.arange(_BINS + 1, dtype=np.float64)
    beyond = levels[-1] < half_levels  # levels that not even the highest count reaches
    begins = np.ceil(_BIN_COUNTS * np.interp(half_levels, levels, edges)).astype(np.int64)
    begins[beyond] = 65536
    lengths = np.diff(np.concatenate([[0], np.minimum(begins, 65536), [65536]]))
    return np.repeat(np.arange(256, dtype=np.uint8), lengths)


def _scene(remembered: Shares) -> _Scene:
    (some,) = np.nonzero(remembered)
    first = int(some[0])
    shares = remembered[first : some[-1] + 1]
    cumulative = np.cumsum(shares)
    middle = _bin_at(cumulative, 0.5 * float(cumulative[-1]))
    apart_counts = _BIN_COUNTS * np.abs(np.arange(len(shares)) + 0.5 - middle)
    return _Scene(first, shares / cumulative[-1], apart_counts)


def _bin_at(cumulative: Shares, share: float) -> float:
    """The place, in bins, where so much has come together, evenly within each bin."""
    return float(np.interp(share, np.concatenate([[0.0], cumulative]), np.arange(len(cumulative) + 1)))


def _spread_counts(scene: _Scene, noise_counts: float) -> float:
    """The geometric mean of the distances from some middles of the scene.

    A small part of the picture moves it by its share times the logarithm of how far away it is: by little. Several middles, so
    that a scene in two halves, ground and a cold sky, does not tip over from one to the other.
    """
    group = max(1, len(scene.shares) // _GROUPS)
    shares = np.add.reduceat(scene.shares, np.arange(0, len(scene.shares), group))
    places = group * (np.arange(len(shares)) + 0.5)
    cumulative = np.cumsum(shares)
    middles = np.array([group * _bin_at(cumulative, share) for share in MIDDLES])
    apart_counts = _BIN_COUNTS * np.abs(places - middles[:, None])
    return float(np.exp(np.mean(np.log(apart_counts + noise_counts + _BIN_COUNTS / 2) @ shares)))


def _levels_per_noise(scene: _Scene, noise_counts: float) -> float:
    """The more a scene deviates by itself, the more of its noise is worth showing with it."""
    apart = scene.apart_counts / np.hypot(noise_counts, _BIN_COUNTS / np.sqrt(12.0))  # a bin rounds, too
    weights = scene.shares * _ramp(apart, *reversed(PLAINLY_SEEN))
    richness = (float(weights @ np.minimum(apart, OUTSTANDING[0]) ** 2) - 1.0) / PLAIN**2
    outstanding = float(weights @ _ramp(apart, *OUTSTANDING))
    least, most = LEVELS_PER_NOISE
    added = OUTSTANDING_LEVELS * outstanding / (outstanding + OUTSTANDING_SHARE)
    return float(np.clip(least * richness, least, most)) + added


def _ramp(values: Shares, zero_at: float, one_at: float) -> Shares:
    return np.clip((values - zero_at) / (one_at - zero_at), 0.0, 1.0)


def _filled(density: Shares, steepest: float) -> Shares:
    """Levels by bin, 255 in all where the steepest slope allows it: in proportion to the shares, up to a plateau."""
    plateau = float(density.max())
    for _ in range(_FILLINGS):
        plateau = min(plateau, steepest * float(np.minimum(density, plateau).sum()) / 255.0)
    clipped = np.minimum(density, plateau)
    return np.minimum(clipped * (255.0 / clipped.sum()), steepest)


def _surroundings(scene: _Scene, reach_bins: float) -> Shares:
    """The cumulative shares, 0 to 1, of what every count spreads evenly around itself, at the edges of all bins."""
    edges = scene.first + np.arange(len(scene.shares) + 1, dtype=np.float64)
    cumulative = np.concatenate([[0.0], np.cumsum(scene.shares)])
    integral = np.concatenate([[0.0], np.cumsum((cumulative[1:] + cumulative[:-1]) / 2.0)])
    points = np.arange(0, _BINS + 1, _COARSE, dtype=np.float64)

    def integral_at(at: Shares) -> Shares:
        return np.interp(at, edges, integral) + np.maximum(at - edges[-1], 0.0)

    total = np.zeros_like(points)
    for reach, part in REACH:
        half = reach * reach_bins
        total += part / (2.0 * half) * (integral_at(points + half) - integral_at(points - half))
    between = total[:-1, None] + np.diff(total)[:, None] * (np.arange(_COARSE) / _COARSE)
    return np.append(between.ravel(), total[-1])


def _blurred(shares: Shares, half: int) -> Shares:
    """The mean of every bin and ``half`` bins on both sides of it."""
    sums = np.cumsum(np.concatenate([np.zeros(half + 1), shares, np.zeros(half)]))
    return (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)


def _half_bins(counts: float) -> int:
    return max(1, round(counts / _BIN_COUNTS))
