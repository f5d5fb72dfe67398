"""Lossless video (FFV1 in Matroska) of raw frames, one cluster each, so that a kill costs the last frame at most."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtfusion.capture.container import open_container
from rtfusion.errors import CaptureError, ConfigError, SinkError
from rtfusion.sinks.guarded import GuardedFile
from rtfusion.sinks.video import FFV1_OPTIONS, MATROSKA_OPTIONS
from rtfusion.types import Frame, PixelFormat

_FORMATS = {PixelFormat.GRAY8: "gray", PixelFormat.GRAY16: "gray16le", PixelFormat.BGR8: "bgr0"}


class LosslessVideo:
    """Frames of one size and format, in order. Their times are kept elsewhere: here each is one period after the last."""

    def __init__(self, path: Path, *, like: Frame, rate_hz: float) -> None:
        """Begin the file.

        Raises:
            SinkError: it cannot be written, or is there already.
        """
        self._path = path
        self._kind = like.size_px, like.pixel_format
        self.count = 0
        """Frames so far."""
        rate = max(Fraction(rate_hz).limit_denominator(1001), Fraction(1, 1001))
        try:
            self._file = GuardedFile(path, uri=str(path), overwrite=False)
        except ConfigError as error:
            raise SinkError(str(error)) from error
        self._file.give_name()
        try:
            self._container = av.open(self._file, "w", format="matroska", container_options=MATROSKA_OPTIONS)
            stream = self._container.add_stream("ffv1", rate=rate, options=FFV1_OPTIONS)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._file.discard()
            raise SinkError(f"{path}: cannot be written: {error}") from error
        stream.width, stream.height = like.size_px
        stream.pix_fmt = _FORMATS[like.pixel_format]
        stream.codec_context.thread_type = "SLICE"  # threads over frames would hold frames back
        stream.codec_context.thread_count = min(4, os.cpu_count() or 1)
        stream.codec_context.time_base = 1 / rate
        self._stream = stream

    def fits(self, frame: Frame) -> bool:
        """True when a frame has the size and format of the file."""
        return self._kind == (frame.size_px, frame.pixel_format)

    def write(self, frame: Frame) -> int:
        """Add one frame; its index in the file.

        Raises:
            SinkError: it cannot be written.
        """
        image: Any = np.ascontiguousarray(frame.image)
        if frame.pixel_format is PixelFormat.BGR8:
            picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="bgr0")
        else:
            picture = av.VideoFrame.from_ndarray(image, format=_FORMATS[frame.pixel_format])
        picture.pts = self.count
        picture.time_base = self._stream.codec_context.time_base
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
                self._file.mark_whole()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"{self._path}: writing failed after {self.count} frames: {error}") from error
        self._raise_file_error()
        self.count += 1
        return self.count - 1

    def sync(self) -> None:
        """Bring it to the disk.

        Raises:
            OSError: the disk does not take it.
        """
        self._file.sync()

    def close(self) -> None:
        """Finish the file, and bring it to the disk.

        Raises:
            SinkError: it could not be finished; it plays all the same.
        """
        failed_before = self._file.error is not None
        try:
            try:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
            finally:
                self._container.close()
            self._file.try_sync()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"{self._path}: could not be finished: {error}") from error
        finally:
            self._file.close()
        if failed_before:
            raise SinkError(f"{self._path}: is not whole, writing failed before")
        self._raise_file_error()

    def _raise_file_error(self) -> None:
        error = self._file.error
        if error is not None:
            raise SinkError(f"{self._path}: {error.strerror} after {self.count} frames") from error


def count_frames(path: Path) -> int:
    """Whole frames of a video that may be cut off, without decoding them; 0 where it cannot be opened."""
    count = 0
    try:
        with open_container(path, uri=str(path)) as container:
            for packet in container.demux(video=0):
                if packet.is_corrupt:
                    break
                count += packet.size > 0
    except (CaptureError, av.FFmpegError, OSError):
        pass  # what came before is whole
    return count
