"""A fuser of your own: what differs most from its surroundings is taken, whichever camera sees it.

python examples/extend/fuser.py fused.mp4
"""

from __future__ import annotations

import sys
from typing import cast

import cv2
import numpy as np

import rtfusion
from rtfusion.fusion.color import compose, luminance
from rtfusion.fusion.tone import GainControl
from rtfusion.sinks import SinkContext
from rtfusion.types import FusedFrame, Image8

AROUND_PX = 31


class Salient:
    """Weighs both bands by how far each pixel is from the mean around it. A `rtfusion.fusion.LuminanceFuser`."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W) uint8 twice in, (H, W) uint8 out; both show the same view, pixel by pixel."""
        weights = [self._salience(band) for band in (visible_y, thermal)]
        share = weights[0] / (weights[0] + weights[1])
        return np.rint(thermal + share * (visible_y.astype(np.float32) - thermal)).astype(np.uint8)

    def close(self) -> None:
        """Holds nothing."""

    @staticmethod
    def _salience(band: Image8) -> np.ndarray:
        levels = band.astype(np.float32)
        distance = np.abs(levels - cv2.blur(levels, (AROUND_PX, AROUND_PX)))
        return cv2.blur(distance, (AROUND_PX, AROUND_PX)) + 1.0  # nothing is normalized by the frame: that flickers


def main() -> None:
    """Fuse two seconds of the synthetic street into the file that is named."""
    street = "synthetic:?scene=smoke&size=320x240&bits=16&frames=60"
    fuser, gain = Salient(), GainControl()
    context = SinkContext(rate_hz=30.0, live=False, session="salient")
    sink = rtfusion.open_sink(sys.argv[1], context=context)
    with rtfusion.open_pairs(ir=street, vis=street) as pairs:
        for pair in pairs:
            visible = cast(Image8, pair.visible.image)
            counts, _ = rtfusion.register(visible=visible, thermal=pair.thermal.image)  # calibration="rig.json"
            thermal = gain(counts, timestamp_ns=pair.thermal.timestamp_ns)
            visible_y = luminance(visible)
            fused_y = fuser(visible_y=visible_y, thermal=thermal, timestamp_ns=pair.timestamp_ns)
            frame = FusedFrame(
                image=compose(visible=visible, visible_y=visible_y, fused_y=fused_y), visible=visible, thermal=thermal,
                timestamp_ns=pair.timestamp_ns, thermal_timestamp_ns=pair.thermal.timestamp_ns, sequence=pair.visible.sequence,
                received_ns=pair.visible.received_ns, fuser="salient",
            )  # fmt: skip
            sink.write(frame)
    sink.close(aborted=False)


if __name__ == "__main__":
    main()
