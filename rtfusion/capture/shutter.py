"""Thermal cameras close a shutter every few minutes to calibrate themselves. Meanwhile the last picture from before is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import cv2
import numpy as np

from rtfusion.capture.base import Source
from rtfusion.capture.wrapped import WrappedSource
from rtfusion.clock import NS_PER_S
from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Frame, Image

MODES = ("auto", "off")
LONGEST_NS = 3 * NS_PER_S
"""A closure that lasts longer is not taken for a shutter: the picture is shown as it comes."""
LEFT = 0.2
"""A shutter has at most this part of the structure that the scene had."""
SUDDEN = 0.5
"""And at most this part of what the picture before it had: who turns to a wall comes there step by step."""
OPEN_AGAIN = 0.3
"""A scene is back when it has this part of the structure that it had."""
NEXT_TO_NOTHING = 0.05
"""So small a part is left of a shutter by a codec that lets shine through what was before; real scenes differ by less."""
LEAST = {np.dtype(np.uint8): 1.5, np.dtype(np.uint16): 6.0}
"""Levels or counts: a scene that never had more structure cannot be told from a shutter, nor one with so little from none."""
NOISE_LEFT = 1.2
"""A shutter has no more structure than its noise makes, times this, and the least of above; a scene, however dull, has (five
times as much, the dullest of 527 thermal pictures)."""
MEMORY_S = 1.0
FROZEN_NS = NS_PER_S // 4
"""Pictures of a noisy camera that repeat to the last bit for so long are no pictures of the scene."""
NOISY = 0.2
"""A camera is noisy where this part of its pixels has changed from each picture to the next."""
NOISY_NS = NS_PER_S
_BLOCKS = 20
_NOISE_ROWS = 16
_STEP_MEDIAN = 0.954
"""The median step between two pixels with normal noise of deviation 1."""
_STEP = 4


class ShutterHold:
    """Replaces pictures of the shutter by the last one of the scene, for 3 s at most.

    The camera's own word is taken where it has one. ``by_picture`` also looks for pictures that suddenly show next to nothing:
    what neighboring blocks of pixels differ by, beyond a slope, falls to a fifth of what it was a moment ago, and to no more than
    the noise of the pixels makes of nothing. ``by_repeats`` takes a noisy camera that repeats its picture to the last bit for
    closed, too.
    """

    def __init__(self, *, by_picture: bool, by_repeats: bool = False) -> None:
        self._by_picture = by_picture
        self._repeats = _Repeats() if by_repeats else None
        self._usual = ExponentialAverage(time_constant_s=MEMORY_S)
        self._structure: float | None = None
        """What the scene had when it was last seen."""
        self._last_structure = 0.0
        self._before: Image | None = None
        self._since_ns: int | None = None
        self._gave_up = False

    def __call__(self, image: Image, *, closed: bool, timestamp_ns: int) -> tuple[Image, bool]:
        """The picture to show of an (H, W) one, and whether it is one that is held."""
        if self._before is not None and (image.shape != self._before.shape or image.dtype != self._before.dtype):
            self._forget()
        closed = closed or self._looks_closed(image, timestamp_ns)
        if not closed:
            self._since_ns, self._before, self._gave_up = None, image, False
            return image, False
        if self._since_ns is None or timestamp_ns < self._since_ns:
            self._since_ns = timestamp_ns
        if self._gave_up or timestamp_ns - self._since_ns > LONGEST_NS:
            self._gave_up, self._structure = True, None
            self._before = image
            return image, False
        return (image if self._before is None else self._before), True

    def _forget(self) -> None:
        self._before = self._structure = self._since_ns = None

    def _looks_closed(self, image: Image, timestamp_ns: int) -> bool:
        if self._repeats is not None and self._repeats(image, timestamp_ns):
            return True
        if not self._by_picture:
            return False
        detail = _detail(image)
        if self._structure is not None and self._is_of_shutter(detail, LEAST[image.dtype]):
            return True
        if self._structure is None:
            self._usual = ExponentialAverage(time_constant_s=MEMORY_S)
        self._structure = self._usual.follow(detail.structure, timestamp_ns=timestamp_ns)
        self._last_structure = detail.structure
        return False

    def _is_of_shutter(self, detail: _Detail, least: float) -> bool:
        """True where the structure falls from one picture to the next, and to next to nothing; then until much of it is back."""
        usual = cast(float, self._structure)
        left = detail.structure - detail.of_noise
        if self._since_ns is not None:
            return left < OPEN_AGAIN * usual and detail.structure < SUDDEN * usual
        sudden = detail.structure < SUDDEN * self._last_structure
        nothing = detail.shows_nothing(least) or detail.structure < NEXT_TO_NOTHING * usual
        return usual >= least and sudden and left < LEFT * usual and nothing


class _Detail(NamedTuple):
    """What there is to see in a picture, levels or counts."""

    structure: float
    """The bend (a - 2 b + c) of three neighboring blocks of pixels that one in twenty is larger than: shading has none."""
    of_noise: float
    """What the noise of the pixels would make of it in a picture of nothing."""

    def shows_nothing(self, least: float) -> bool:
        """True where there is no more structure than noise explains."""
        return self.structure <= NOISE_LEFT * self.of_noise + least


def _detail(image: Image) -> _Detail:
    height, width = image.shape
    step = 2 if min(height, width) >= 8 * _BLOCKS else 1
    plane = image[::step, ::step].astype(np.float32)
    block_px = max(1, min(plane.shape) // _BLOCKS)
    size_px = (max(3, plane.shape[1] // block_px), max(3, plane.shape[0] // block_px))
    blocks = cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA)
    bends = np.concatenate([np.abs(np.diff(blocks, n=2, axis=axis)).ravel() for axis in (0, 1)])
    large = int(0.95 * len(bends))
    rows = plane[:: max(1, len(plane) // _NOISE_ROWS)]
    noise = float(np.median(np.abs(np.diff(rows, axis=1)))) / _STEP_MEDIAN
    # means of so many pixels deviate by so much, and one bend in twenty is twice the deviation of the bends
    return _Detail(float(np.partition(bends, large)[large]), 2.0 * float(np.sqrt(6.0)) * noise / block_px)


class _Repeats:
    """Tells when a camera whose pictures always differed, pixel by pixel, repeats one to the last bit."""

    def __init__(self) -> None:
        self._last: Image | None = None
        self._differs_since_ns: int | None = None
        self._since_ns: int | None = None

    def __call__(self, image: Image, timestamp_ns: int) -> bool:
        sample, last = image[::_STEP, ::_STEP], self._last
        self._last = sample
        if last is None or last.shape != sample.shape:
            return False
        changed = np.count_nonzero(sample != last) / sample.size
        if changed:
            self._since_ns = None
            if changed < NOISY:
                self._differs_since_ns = None
            elif self._differs_since_ns is None:
                self._differs_since_ns = timestamp_ns
            return False
        if self._since_ns is None:
            self._since_ns = timestamp_ns
            was_noisy = self._differs_since_ns is not None and timestamp_ns - self._differs_since_ns >= NOISY_NS
            self._is_of_noisy = was_noisy
            self._differs_since_ns = None
        return self._is_of_noisy and timestamp_ns - self._since_ns >= FROZEN_NS

    _is_of_noisy = False


class ShutterSource(WrappedSource):
    """A thermal source that shows the last picture of the scene while the camera is behind its shutter (`ShutterHold`).

    Frames in which a picture is held are marked (`Frame.shutter`). Repeats of cameras are the business of their watchdog.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._hold = ShutterHold(by_picture=True, by_repeats=not source.info.live)

    def changed(self, frame: Frame) -> Frame:
        """The frame with the picture to show."""
        image, held = self._hold(frame.image, closed=frame.shutter, timestamp_ns=frame.timestamp_ns)
        return frame if image is frame.image and held == frame.shutter else replace(frame, image=image, shutter=held)
