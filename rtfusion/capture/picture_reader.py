"""Decoded frames of a video file as pictures of their band, as far as the file and its user say what they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import av
from av.codec import Codec

from rtfusion.capture.depth import Depth
from rtfusion.capture.orientation import Orientation
from rtfusion.capture.palette import ThermalColors
from rtfusion.capture.pixels import PixelConverter, range_is_doubtful
from rtfusion.capture.profiles import Picture
from rtfusion.capture.raw_stream import RawStream, raw_stream_of
from rtfusion.capture.stills import KELVIN_PER_NUMBER
from rtfusion.capture.video_parameters import VideoParameters
from rtfusion.errors import ConfigError
from rtfusion.types import Band, PixelFormat

RANGE_FRAMES = 10
"""In so many frames, numbers beyond video range are looked for."""


class PictureReader:
    """Makes pictures of the frames of one file; what it assumes of them goes to ``note``, or is in ``notes`` at the end."""

    def __init__(self, band: Band, asked: VideoParameters, *, uri: str, note: Callable[[str], None]) -> None:
        self._band = band
        self._asked = asked
        self._uri = uri
        self._note = note
        self._depth = Depth(asked.bits)
        full_range = None if asked.range is None else asked.range == "full"
        self.colors = ThermalColors(asked.palette)
        """What is known of the colors of thermal pictures."""
        self._convert = PixelConverter(band, depth=self._depth, full_range=full_range, colors=self.colors)
        self._looked_at = 0
        self._orientation: Orientation | None = None
        self._raw: RawStream | None = None

    @property
    def notes(self) -> list[str]:
        """What was assumed of the frames so far."""
        of_raw = () if self._raw is None else self._raw.notes
        return [note for note in (self._depth.note, self.colors.note, *of_raw) if note is not None]

    def __call__(self, frame: av.VideoFrame, *, codec: Codec) -> Picture | None:
        """The picture of a frame, upright; None for a frame of a raw stream that is none.

        Raises:
            ConfigError: the profile that was asked for has other frames.
            av.FFmpegError, ValueError, NotImplementedError: its pixels cannot be converted.
        """
        orientation = self._begin(frame, codec=codec)
        picture = self._picture(frame)
        if picture is None:
            return None
        image = orientation(picture.image)
        return picture if image is picture.image else replace(picture, image=image)

    def leave_out(self, frame: av.VideoFrame, *, codec: Codec) -> None:
        """See a frame of which no picture is wanted: in some raw streams it tells how later ones are to be read.

        Raises:
            ConfigError: the profile that was asked for has other frames.
        """
        self._begin(frame, codec=codec)
        if self._raw is not None and self._raw.remembers:
            with suppress(ValueError):
                self._raw(frame)

    def _begin(self, frame: av.VideoFrame, *, codec: Codec) -> Orientation:
        """Look at the first frame; how to turn each."""
        if self._orientation is None:
            # asked once and not once per round: side data and its frame hold one another until the garbage collector runs
            self._orientation = self._orientation_of(frame)
            self._raw = self._raw_stream(frame, codec=codec)
            if frame.interlaced_frame:
                self._note("its frames are interlaced, and shown as they are stored: what moves has combs")
        return self._orientation

    def _picture(self, frame: av.VideoFrame) -> Picture | None:
        if self._raw is not None:
            return self._raw(frame)
        if self._looked_at < RANGE_FRAMES:
            self._look_at_range(frame)
        image, pixel_format = self._convert(frame)
        unit = self._asked.unit if pixel_format is PixelFormat.GRAY16 else None
        kelvin_per_count = None if unit is None else KELVIN_PER_NUMBER[unit]
        return Picture(image=image, pixel_format=pixel_format, kelvin_per_count=kelvin_per_count)

    def _raw_stream(self, frame: av.VideoFrame, *, codec: Codec) -> RawStream | None:
        """How to decode what a thermal camera sent, where it was recorded as it came."""
        if self._band is not Band.THERMAL:
            return None
        try:
            raw = raw_stream_of(frame, asked=self._asked.profile)
        except ValueError as error:
            raise ConfigError(f"{self._uri}: profile={self._asked.profile}: {error}") from None
        if raw is not None and codec.lossy:
            self._note(f"it holds counts in the layout {raw.profile.name}, but {codec.name} may have damaged them")
        if raw is not None and self._asked.profile is None:
            self._note(
                f"it is taken for the stream of a camera of the profile {raw.profile.name}, recorded as it came, and its counts "
                "are read; ?profile=gray8 takes it as a picture"
            )
        return raw

    def _look_at_range(self, frame: av.VideoFrame) -> None:
        self._looked_at += 1
        if self._asked.range is None and range_is_doubtful(frame):
            self._looked_at = RANGE_FRAMES
            self._note(
                "its levels are taken for video range (16..235), since it does not say, and go beyond it; where dark or "
                "bright parts are cut off, ?range=full"
            )

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        try:
            side_data: Any = frame.side_data
            orientation = Orientation.from_display_matrix(bytes(side_data["DISPLAYMATRIX"]))
        except (KeyError, ValueError):  # ValueError: side data of a kind that this PyAV does not know
            return Orientation()
        if orientation is None:
            self._note("it asks to be shown at an angle that is not a right one; shown as stored")
        return orientation or Orientation()
