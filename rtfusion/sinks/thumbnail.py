"""One small picture that stands for a recording."""

from __future__ import annotations

from pathlib import Path

import cv2

from rtfusion.errors import SinkError
from rtfusion.types import FusedFrame, Image8

WIDTH_PX = 240
JPEG_QUALITY = 80


class ThumbnailSink:
    """A JPEG of a frame of the second half of what is written, however long that is; none where nothing is written.

    Args:
        path: the file.
    """

    keeps_all = True

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._path = path
        self._frames = 0
        self._image: Image8 | None = None

    def write(self, frame: FusedFrame) -> None:
        """Keep the frame where it is the first, second, fourth, eighth and so on."""
        self._frames += 1
        if self._frames & (self._frames - 1) == 0:
            self._image = _small(frame.image)

    def close(self, *, aborted: bool) -> None:
        """Write what was kept last. Idempotent.

        Raises:
            SinkError: the disk is full.
        """
        image, self._image = self._image, None
        if image is None:
            return
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        try:
            self._path.write_bytes(encoded.tobytes())
        except OSError as error:
            if not aborted:
                raise SinkError(f"{self._path}: {error.strerror}; make room, or write elsewhere") from error


def _small(image: Image8) -> Image8:
    height, width = image.shape[:2]
    if width <= WIDTH_PX:
        return image.copy()
    size_px = WIDTH_PX, max(round(height * WIDTH_PX / width), 1)
    return cv2.resize(image, size_px, interpolation=cv2.INTER_AREA).astype(image.dtype, copy=False)
