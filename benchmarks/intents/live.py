"""A wish while frames flow: when the picture changes, when it has arrived, whether a frame is lost, and how evenly it glides."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.intents import figure
from benchmarks.suite import Row
from rtfusion.config import Settings
from rtfusion.fusion.base import Change
from rtfusion.fusion.color import luminance
from rtfusion.intents import AXES, Intents
from rtfusion.pipeline import open_path

CLIP = "m3svd_0113_1714"
AT_FRAME, FRAMES = 15, 40
FIRST_CHANGE_FRAMES = 2


def measure(*, shared: Path, model: str, every: int) -> list[Row]:
    """A wish of all axes but people and vehicles in the middle of a clip, against the same clip without."""
    clip = shared / "data" / "video" / CLIP
    settings = Settings(ir=str(clip / "ir.mp4"), vis=str(clip / "vi.mp4"), model=model, threads=1, max_frames=FRAMES)
    wish = Intents.of({axis: 0.8 for axis in AXES if axis not in ("people", "vehicles")})
    runs = {}
    for asked in (None, wish):
        frames: list[npt.NDArray[np.float32]] = []
        pairs, fuser = open_path(settings, calibration=None)
        for pair in pairs:
            if len(frames) == AT_FRAME and asked is not None:
                fuser.change(Change(intents=asked))
            frame = fuser(pair)
            frames.append(luminance(frame.image).astype(np.float32))
        fuser.close()
        pairs.close()
        runs[asked is not None] = frames
    apart = [float(cv2.absdiff(one, other).mean()) for one, other in zip(runs[False], runs[True], strict=True)]
    first = next(index for index, change in enumerate(apart) if change > 0) - AT_FRAME + 1
    arrived = next(index for index, change in enumerate(apart) if change >= 0.95 * apart[AT_FRAME + 8]) - AT_FRAME + 1
    steps = np.diff(apart[AT_FRAME - 1 : AT_FRAME + 8])
    largest, lost = float(steps.max() / apart[AT_FRAME + 8]), FRAMES - len(runs[True])
    return [
        figure("wish", "frames to the first change", first, count=1, better="lower", bar=FIRST_CHANGE_FRAMES),
        figure("wish", "frames until it is reached", arrived, count=1, better="lower"),
        figure("wish", "frames lost", lost, count=FRAMES, better="lower", bar=0),
        figure("wish", "largest step of the glide, share of the way", largest, count=8, better="lower"),
    ]
