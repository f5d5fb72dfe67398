"""The threads of OpenCV beside those of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def opencv_for(fuser: str) -> Iterator[None]:
    """Keep OpenCV to one thread beside a network, for as long as this lasts.

    Its calls are many there and short: its other threads would spin from one to the next, and take the core from the decoders.
    """
    before = cv2.getNumThreads()
    if fuser == "learned":
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
