"""Folders of images as sources, in the natural order of their names: PNG, TIFF (each page an image), JPEG, WebP, PGM and others.

Visible images become BGR8, or GRAY8 where the file has one channel; 16 bits are scaled down. Thermal images become GRAY8 or, with
16 bits, GRAY16: the counts as they are. The palette of colored ones is undone; of a radiometric JPEG its counts are taken.
Without a rate the images are unrelated stills; with one, or with times for names, they are a video. A single image is a folder of
one.

Two folders are matched by their names (`rtfusion.capture.names`): the places of all are the time axis of both, so that pairing by
time pairs what belongs together and counts the others as unpaired.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from statistics import median

import cv2

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.depth import bits
from rtfusion.capture.names import WAYS, Matched, match, natural_key, some, times_ns
from rtfusion.capture.palette import AUTO, looks_like, palette_name
from rtfusion.capture.parameters import one_of, seconds
from rtfusion.capture.playback import Playback
from rtfusion.capture.stills import UNITS, Still, StillReader, stills_of
from rtfusion.capture.uri import IMAGE_SUFFIXES, SourceUri, rate_hz, read_query
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import CaptureError, ConfigError, EndOfStream
from rtfusion.types import Band, Frame

NOMINAL_RATE_HZ = 25.0
"""Spacing of stills, whose stamps mean nothing but an order."""
LONGEST_PERIOD_S = 2.0
"""Images named by times that lie farther apart are unrelated stills."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesParameters:
    """What a user says of a folder of images by its URI."""

    fps: float | None = None
    """They are a video of this rate."""
    match: str | None = None
    """How they are matched with those of another folder, or a pattern of the file names that count."""
    start: float = 0.0
    """Seconds from the beginning that are left out."""
    bits: int | None = None
    """Depth of visible pictures that are stored in 16 bits."""
    palette: str = AUTO
    """The palette that colored thermal pictures, ``auto``, or ``none``."""
    unit: str | None = None
    """What the numbers of thermal pictures are: ``kelvin``, ``decikelvin``, ``centikelvin`` or ``celsius``."""
    stream: str | None = None
    """Which picture of a radiometric JPEG, that of the band; so that one folder may be given for both."""

    @property
    def way(self) -> str | None:
        """How two folders are to be matched, where it is said."""
        return self.match if self.match in WAYS else None

    @property
    def pattern(self) -> str:
        """The names of files that count."""
        return "*" if self.match is None or self.match in WAYS else self.match

    @classmethod
    def of(cls, uri: SourceUri) -> ImagesParameters:
        """Read them from a URI.

        Raises:
            ConfigError: a parameter is wrong.
        """
        return cls(**read_query(uri, CONVERTERS))


def _way_or_pattern(text: str) -> str:
    if text not in WAYS and "*" not in text:
        raise ValueError(f"expected {', '.join(WAYS)}, or a pattern of file names with a *, such as *_T.jpg")
    return text


CONVERTERS: Mapping[str, Callable[[str], object]] = {
    "fps": rate_hz,
    "match": _way_or_pattern,
    "start": seconds,
    "bits": bits,
    "palette": palette_name,
    "unit": one_of(*UNITS),
    "stream": one_of(Band.VISIBLE.value, Band.THERMAL.value),
}
"""The parameters that folders of images take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """The places in time of the images of one folder."""

    places: Mapping[str, int]
    """Stem to place: a number of periods or, without a rate, nanoseconds."""
    length: int
    """Places of one round."""
    rate_hz: float | None

    def stamp_ns(self, stem: str, *, lap: int) -> int:
        """The stamp of an image in a round."""
        place = lap * self.length + self.places[stem]
        return place if self.rate_hz is None else round(place * NS_PER_S / self.rate_hz)


def axis_of(stems: Sequence[str], *, fps: float | None) -> Axis:
    """The axis of one folder alone: by its rate, by times in its names, or an order."""
    times = times_ns(stems) if fps is None else {}
    if times:
        begin_ns = next(iter(times.values()))
        places = {stem: time_ns - begin_ns for stem, time_ns in times.items()}
        return Axis(places=places, length=_lap_ns(list(places.values())), rate_hz=None)
    places = {stem: index for index, stem in enumerate(stems)}
    return Axis(places=places, length=len(stems), rate_hz=fps or NOMINAL_RATE_HZ)


def _period_ns(stamps_ns: Sequence[int]) -> int:
    ordered = sorted(stamps_ns)
    return max(round(median(late - early for early, late in pairwise(ordered))), 1) if len(ordered) > 1 else NS_PER_S


def _lap_ns(stamps_ns: Sequence[int]) -> int:
    return max(stamps_ns) + _period_ns(stamps_ns)


class ImagesSource(Playback):
    """The images of one folder, played ``loop`` times."""

    def __init__(
        self,
        stills: Mapping[str, Still],
        *,
        uri: str,
        band: Band,
        parameters: ImagesParameters | None = None,
        fps: float | None = None,
        axis: Axis | None = None,
        notes: Sequence[str] = (),
        loop: int = 1,
        pace: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Take images by stem and decode the first one.

        ``axis`` is shared with another folder; by default it is the folder's own. Without ``fps`` and without times for names
        the images are stills.
        """
        super().__init__(self._play(loop), pace=pace, clock=clock)
        asked = parameters if parameters is not None else ImagesParameters()
        self._uri = uri
        self._band = band
        self._axis = axis if axis is not None else axis_of(list(stills), fps=fps)
        self._start_ns = round(asked.start * NS_PER_S)
        # two folders that are matched stay matched: what one leaves out moves no time
        self._begin_ns = self._start_ns if axis is None else 0
        # in the order of time; what the user left out is not read at all
        stamps = {stem: self._axis.stamp_ns(stem, lap=0) for stem in stills}
        self._stills = {
            stem: stills[stem] for stem in sorted(stills, key=stamps.__getitem__) if stamps[stem] >= self._start_ns
        }
        if not self._stills:
            raise CaptureError(f"{uri}: it has no image from start={asked.start:g} s on")
        self._unreadable: dict[str, str] = {}
        self._read = StillReader(band, bits=asked.bits, palette=asked.palette, unit=asked.unit)
        ordered = list(self._stills.values())
        self._read.prime(ordered[0], ordered[len(ordered) // 2], ordered[-1])
        self.drops = {"corrupt": 0}
        self.notes = tuple(notes)
        period_ns = (
            NS_PER_S / self._axis.rate_hz if self._axis.rate_hz is not None else _period_ns(list(stamps.values()))
        )
        by_time = self._axis.rate_hz is None
        is_video = fps is not None or (by_time and period_ns <= LONGEST_PERIOD_S * NS_PER_S)
        kind = "images" if is_video else "stills"
        first = self._first_frame()
        self.info = StreamInfo.like(
            first,
            uri=uri,
            rate_hz=NS_PER_S / period_ns,
            live=False,
            continuous=is_video,
            frame_count=len(self._stills) * loop,
            duration_s=(max(stamps.values()) + period_ns - self._start_ns) / NS_PER_S * loop if is_video else None,
            looks_like=looks_like(first, self._read.colors),
            description=f"{len(self._stills)} {kind}" + (" by the times in their names" if by_time else ""),
        )

    def _first_frame(self) -> Frame:
        try:
            return self.peek()
        except EndOfStream:
            name, reason = next(iter(self._unreadable.items()))
            raise CaptureError(
                f"{self._uri}: not one of its {len(self._stills)} images can be read; the first, {name}: {reason}"
            ) from None

    def _play(self, loop: int) -> Generator[Frame, None, None]:
        sequence = 0
        try:
            for lap in range(loop):
                for stem, still in self._stills.items():
                    stamp_ns = self._axis.stamp_ns(stem, lap=lap) - (lap + 1) * self._begin_ns
                    try:
                        yield self._frame(stem, still, sequence=sequence, timestamp_ns=stamp_ns)
                    except (OSError, ValueError, cv2.error) as error:
                        self.drops["corrupt"] += 1
                        self._unreadable[still.label] = str(error)
                    sequence += 1
        finally:
            self._note_ending()

    def _frame(self, stem: str, still: Still, *, sequence: int, timestamp_ns: int) -> Frame:
        received_ns = self._clock.now_ns()
        decoded = self._read(still)
        return Frame(
            image=decoded.image,
            pixel_format=decoded.pixel_format,
            band=self._band,
            timestamp_ns=timestamp_ns,
            sequence=sequence,
            received_ns=received_ns,
            name=stem,
            kelvin_per_count=decoded.kelvin_per_count,
        )

    def _note_ending(self) -> None:
        self.notes += tuple(f"{self._uri}: {note}" for note in self._read.notes)
        if self._unreadable:
            count, names = len(self._unreadable), some(list(self._unreadable))
            self.notes += (f"{self._uri}: {count} images could not be read and were skipped: {names}",)


def open_images(
    uri: SourceUri, *, band: Band, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> ImagesSource:
    """Open one folder of images, or one image."""
    asked = _asked(uri, band)
    stills = stills_of(list_images(uri.path, uri=uri.text, pattern=asked.pattern))
    return ImagesSource(
        stills, uri=uri.text, band=band, parameters=asked, fps=asked.fps, loop=loop, pace=pace, clock=clock
    )


def open_image_pair(
    *, visible: SourceUri, thermal: SourceUri, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> tuple[ImagesSource, ImagesSource]:
    """Open two folders matched by their names: (visible, thermal). Two single images are a pair whatever their names.

    A rate given for one folder holds for both. With two different rates there is no common axis: the folders are then
    two videos, paired by time.

    Raises:
        ConfigError: nothing belongs together, or a parameter is wrong.
        CaptureError: a folder has no image, or none can be read.
    """
    uris = {Band.VISIBLE: visible, Band.THERMAL: thermal}
    asked = {band: _asked(uri, band) for band, uri in uris.items()}
    stills = {
        band: stills_of(list_images(uri.path, uri=uri.text, pattern=asked[band].pattern)) for band, uri in uris.items()
    }
    rates = {band: one.fps for band, one in asked.items()}
    given = {rate for rate in rates.values() if rate is not None}
    axes: Mapping[Band, Axis | None] = dict.fromkeys(uris)
    notes: Sequence[str] = ()
    if len(given) > 1:
        notes = [f"{visible.text} and {thermal.text} have different rates: paired by time, not by name"]
    else:
        rates = dict.fromkeys(rates, next(iter(given), None))
        if max(map(len, stills.values())) > 1:
            matched = match(
                list(stills[Band.VISIBLE]),
                list(stills[Band.THERMAL]),
                uris=(visible.text, thermal.text),
                way=_way(asked, uris),
            )
            axes, notes = _axes(matched, fps=next(iter(given), None)), matched.notes
    first, second = (
        ImagesSource(
            stills[band],
            uri=uri.text,
            band=band,
            parameters=asked[band],
            fps=rates[band],
            axis=axes[band],
            notes=notes if band is Band.VISIBLE else (),
            loop=loop,
            pace=pace,
            clock=clock,
        )
        for band, uri in uris.items()
    )
    return first, second


def _axes(matched: Matched, *, fps: float | None) -> dict[Band, Axis]:
    """The places of both folders on their common axis."""
    both = {Band.VISIBLE: matched.first, Band.THERMAL: matched.second}
    rate = None if matched.by_time else fps or NOMINAL_RATE_HZ
    period_ns = min(_period_ns(list(places.values())) for places in both.values()) if matched.by_time else 0
    return {band: Axis(places=places, length=matched.length + period_ns, rate_hz=rate) for band, places in both.items()}


def _way(asked: Mapping[Band, ImagesParameters], uris: Mapping[Band, SourceUri]) -> str | None:
    ways = {one.way for one in asked.values()} - {None}
    if len(ways) > 1:
        raise ConfigError(f"{' and '.join(uri.text for uri in uris.values())} ask for two ways to match; give one")
    return next(iter(ways), None)


def _asked(uri: SourceUri, band: Band) -> ImagesParameters:
    asked = ImagesParameters.of(uri)
    if asked.stream is not None and asked.stream != band.value:
        raise ConfigError(f"{uri.text}: stream={asked.stream} is given for the {band.value} source; exchange the two")
    return asked


def list_images(path: Path, *, uri: str, pattern: str = "*") -> dict[str, Path]:
    """The images of a folder by stem, in natural order (2 before 10); hidden and other files are left out.

    ``pattern`` names the files that count, whatever the case of their letters.

    Raises:
        CaptureError: no such folder, or one that cannot be read; no image in it, or two images of one stem.
    """
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise CaptureError(f"{uri}: no such folder or image; check the path")
    try:
        entries = sorted(path.iterdir(), key=lambda entry: natural_key(entry.name))
        files = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    except OSError as error:
        raise CaptureError(f"{uri}: the folder cannot be read ({error.strerror}); check it with ls -ld") from error
    images: dict[str, Path] = {}
    for entry in files:
        if entry.name.startswith(".") or not fnmatchcase(entry.name.lower(), pattern.lower()):
            continue
        if entry.stem in images:
            raise CaptureError(
                f"{uri}: {images[entry.stem].name} and {entry.name} have one name; keep one of them, or name "
                f"those that count: ?match=*{entry.suffix}"
            )
        images[entry.stem] = entry
    if not images:
        holds = f"it holds {some([entry.name for entry in entries])}" if entries else "it is empty"
        if pattern != "*":
            raise CaptureError(f"{uri}: no image in this folder is named as in match={pattern} ({holds})")
        raise CaptureError(f"{uri}: no images in this folder ({holds}); expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images
