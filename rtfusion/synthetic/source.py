"""``synthetic:``, the generated street as a source: opened once for each band, as a recording or as live cameras.

Two sources with the same parameters show the same scene without knowing of each other: all of it follows from the seed and
the stamps, which count from 0 for a recording and are CLOCK_MONOTONIC for a live source.
"""

from __future__ import annotations

import functools
from collections.abc import Generator

import cv2
import numpy as np

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.playback import Playback
from rtfusion.capture.uri import SourceUri
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.errors import CaptureTimeout, ConfigError, EndOfStream
from rtfusion.synthetic import COUNTS_PER_LEVEL, PERIOD_S, Scene
from rtfusion.synthetic.canvas import Array
from rtfusion.synthetic.parameters import SyntheticParameters, visible_from_thermal_px
from rtfusion.types import Band, Frame, Image, PixelFormat

__all__ = ["SyntheticParameters", "SyntheticSource", "open_synthetic", "visible_from_thermal_px"]

_MAX_JITTER_PERIODS = 0.45
_NOISE_MARGIN_PX = 128
_BLOCK = 1024


def open_synthetic(
    uri: SourceUri, *, band: Band, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> SyntheticSource:
    """Open one band of the generated scene, ``synthetic:`` or ``synthetic:?key=value&key=value``.

    ``loop`` multiplies the number of frames; ``pace`` hands frames of a recording out when they are due.

    Raises:
        ConfigError: an unknown key, or a value that is not legal.
    """
    if uri.target:
        raise ConfigError(f"{uri.text}: expected synthetic: or synthetic:?key=value, without a path")
    parameters = SyntheticParameters.of(uri)
    return SyntheticSource(parameters, uri=uri.text, band=band, loop=loop, pace=pace, clock=clock)


class SyntheticSource(Playback):
    """One band of the generated scene, as a recording or as a live camera."""

    def __init__(
        self,
        parameters: SyntheticParameters,
        *,
        band: Band,
        uri: str = "synthetic:",
        loop: int = 1,
        pace: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        super().__init__(self._record(), pace=pace, clock=clock)
        self.drops = {"driver": 0}  # never came out of the camera, by chance or because the reader was late
        self._band = band
        self._timing = _Timing(parameters, band)
        self._pictures = _Pictures(parameters, band)
        self._pixel_format = parameters.pixel_format_of(band)
        self._total = parameters.frames_of(band) * loop or None
        self._next = 0
        self._origin_ns: int | None = None
        width, height = parameters.size_of(band)
        kept = None if parameters.live or self._total is None else self._total - self._timing.count_lost(self._total)
        self.info = StreamInfo(
            uri=uri,
            band=band,
            width_px=width,
            height_px=height,
            pixel_format=self._pixel_format,
            rate_hz=parameters.rate_of(band),
            live=parameters.live,
            frame_count=kept,
            description=f"generated {parameters.scene} scene, seed {parameters.seed}",
        )

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`; of a live source the newest, and not before its time."""
        return self._read_live(timeout_s) if self.info.live else super().read(timeout_s=timeout_s)

    def _record(self) -> Generator[Frame, None, None]:
        while self._next != self._total:
            index, self._next = self._next, self._next + 1
            if self._timing.lost(index):
                self.drops["driver"] += 1
            else:
                yield self._frame(index, max(0, self._timing.captured_ns(index)))

    def _read_live(self, timeout_s: float) -> Frame:
        now_ns = self._clock.now_ns()
        limit_ns = now_ns + round(timeout_s * NS_PER_S)
        if self._origin_ns is None:
            self._origin_ns = now_ns
        self._skip_lost(now_ns - self._origin_ns)
        if self._closed.is_set() or self._next == self._total:
            raise EndOfStream("the source was closed" if self._closed.is_set() else "all frames were read")
        captured_ns = self._origin_ns + self._timing.captured_ns(self._next)
        if not self._clock.sleep_until_ns(min(captured_ns, limit_ns), wake=self._closed):
            raise EndOfStream("the source was closed")
        if captured_ns > limit_ns:
            raise CaptureTimeout(f"no frame within {timeout_s:g} s; the camera makes {self.info.rate_hz:g} per second")
        index, self._next = self._next, self._next + 1
        return self._frame(index, captured_ns)

    def _skip_lost(self, elapsed_ns: int) -> None:
        """Go to the next frame that is delivered: past those that a newer one has overtaken, and those lost by chance."""
        first = self._next
        newest = self._timing.newest_at(elapsed_ns)
        self._next = max(first, newest if self._total is None else min(newest, self._total - 1))
        while self._next != self._total and self._timing.lost(self._next):
            self._next += 1
        self.drops["driver"] += self._next - first

    def _frame(self, index: int, captured_ns: int) -> Frame:
        image = self._pictures.at(captured_ns, self._timing.noise_offset(index))
        return Frame(
            image=image,
            pixel_format=self._pixel_format,
            band=self._band,
            timestamp_ns=captured_ns,
            sequence=index,
            received_ns=self._clock.now_ns(),
        )


class _Timing:
    """When each frame is captured, whether it is lost, which noise it gets: all from seed, band and index."""

    def __init__(self, parameters: SyntheticParameters, band: Band) -> None:
        self._seed = (parameters.seed, 101 if band is Band.VISIBLE else 103)
        self._period_ns = NS_PER_S / parameters.rate_of(band)
        self._jitter_ns = parameters.jitter_ms * NS_PER_MS
        self._drop = parameters.drop
        self._dice = functools.lru_cache(maxsize=2)(self._throw)

    def captured_ns(self, index: int) -> int:
        """The moment of capture since the first frame was due; strictly increasing."""
        return round(index * self._period_ns) + int(self._dice(index // _BLOCK)[1][index % _BLOCK])

    def lost(self, index: int) -> bool:
        """True when the driver loses this frame."""
        return bool(self._dice(index // _BLOCK)[0][index % _BLOCK])

    def noise_offset(self, index: int) -> tuple[int, int]:
        """The position (x, y) in its tile at which the noise of this frame begins."""
        x, y = self._dice(index // _BLOCK)[2][index % _BLOCK].tolist()
        return x, y

    def newest_at(self, elapsed_ns: int) -> int:
        """The last frame that is due by then."""
        return int(elapsed_ns / self._period_ns)

    def count_lost(self, total: int) -> int:
        """How many of the first frames are lost."""
        blocks = range(-(-total // _BLOCK) if self._drop else 0)
        return sum(int(self._dice(block)[0][: total - block * _BLOCK].sum()) for block in blocks)

    def _throw(self, block: int) -> tuple[Array, Array, Array]:
        """Throw the dice of one block of frames: which are lost, by how much each is late, where its noise begins."""
        rng = np.random.default_rng((*self._seed, block))
        lost = rng.random(_BLOCK) < self._drop
        limit_ns = _MAX_JITTER_PERIODS * self._period_ns
        shift_ns = np.clip(self._jitter_ns * rng.standard_normal(_BLOCK), -limit_ns, limit_ns).astype(np.int64)
        return lost, shift_ns, rng.integers(0, _NOISE_MARGIN_PX, (_BLOCK, 2))


class _Pictures:
    """The pictures of one band by the moment of capture, noise included."""

    def __init__(self, parameters: SyntheticParameters, band: Band) -> None:
        self._band = band
        self._delay_ns = round(parameters.delay_ms * NS_PER_MS) if band is Band.THERMAL else 0
        self._rate_hz = parameters.rate_of(band)
        self._noise = _Noise(parameters, band) if parameters.noise > 0 else None
        self._scene = Scene(
            kind=parameters.scene,
            seed=parameters.seed,
            visible_size_px=parameters.size_px,
            thermal_size_px=parameters.size_of(Band.THERMAL),
            visible_from_thermal_px=visible_from_thermal_px(parameters),
            thermal_bits=parameters.bits,
            baseline_m=parameters.baseline_m,
            walkers_m=parameters.walkers,
        )
        if parameters.live:
            self._scene.prepare(band)
        # The cycle lasts equally long in both bands, so that they go on showing the same scene at unequal rates.
        self._cycle_ns = round(parameters.prerender * NS_PER_S / parameters.fps)
        count = max(1, round(self._cycle_ns * self._rate_hz / NS_PER_S)) if parameters.prerender else 0
        timing = _Timing(parameters, band)
        self._cycle = [self._render(round(i * NS_PER_S / self._rate_hz), timing.noise_offset(i)) for i in range(count)]
        for image in self._cycle:
            image.flags.writeable = False

    def at(self, captured_ns: int, noise_offset: tuple[int, int]) -> Image:
        """The picture of a moment."""
        if self._cycle:
            index = round(captured_ns % self._cycle_ns * self._rate_hz / NS_PER_S)
            return self._cycle[index % len(self._cycle)]
        return self._render(captured_ns, noise_offset)

    def _render(self, captured_ns: int, noise_offset: tuple[int, int]) -> Image:
        time_s = (captured_ns - self._delay_ns) % (PERIOD_S * NS_PER_S) / NS_PER_S
        image = self._scene.render(self._band, time_s)
        if self._noise is not None:
            self._noise.add(image, noise_offset)
        return image


class _Noise:
    """Gaussian noise from one tile, larger than the picture and cut out elsewhere for every frame."""

    def __init__(self, parameters: SyntheticParameters, band: Band) -> None:
        self._width, self._height = parameters.size_of(band)
        pixel_format = parameters.pixel_format_of(band)
        sigma = parameters.noise * (COUNTS_PER_LEVEL if pixel_format is PixelFormat.GRAY16 else 1.0)
        shape = (self._height + _NOISE_MARGIN_PX, self._width + _NOISE_MARGIN_PX, pixel_format.channels)
        rng = np.random.default_rng((parameters.seed, 107 if band is Band.VISIBLE else 109))
        tile = np.round(sigma * rng.standard_normal(shape, np.float32)).squeeze()
        full = np.iinfo(pixel_format.dtype).max
        # Unsigned images take the two signs in two saturating steps, which is far quicker than one signed sum.
        self._plus = np.clip(tile, 0, full).astype(pixel_format.dtype)
        self._minus = np.clip(-tile, 0, full).astype(pixel_format.dtype)

    def add(self, image: Image, offset: tuple[int, int]) -> None:
        """Disturb a picture in place."""
        x, y = offset
        window = slice(y, y + self._height), slice(x, x + self._width)
        cv2.add(image, self._plus[window], dst=image)
        cv2.subtract(image, self._minus[window], dst=image)
