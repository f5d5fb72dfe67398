"""The pictures of README.md and of the home page, made of the synthetic scene by the shipped model.

::

    python -m benchmarks.pictures --moving docs/images/moving.webp
    python -m benchmarks.pictures --dial docs/images/dial.jpg

The moving one shows what both cameras see of a street in smoke and what becomes of it; the other one shows a day, a night
and smoke, fused by the pyramid and by the model along its dial.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np

import rtfusion
from rtfusion.clock import NS_PER_S
from rtfusion.evaluate.contact_sheet import save_contact_sheet
from rtfusion.evaluate.methods import Method, select, shipped_models
from rtfusion.fusion.color import as_bgr, compose, luminance
from rtfusion.pairs import open_pairs
from rtfusion.types import Image8

SCENES = ("day", "night", "smoke")
MOMENT_S = 2.0
"""Shown after the means of the scene have settled."""
STREET = "synthetic:?scene=smoke&fps=30&frames=240"
EVERY = 3
SHOWN = 40
"""Of every third frame from `MOMENT_S` on so many: four seconds at a third of the rate."""
PANEL_PX = (300, 225)
GAP_PX = 6
QUALITY = 75
BACKGROUND = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--moving", type=Path, metavar="FILE", help="visible, thermal and fused side by side, a WebP")
    kind.add_argument("--dial", type=Path, metavar="FILE", help="three scenes along the dial, a JPEG or PNG")
    parser.add_argument("--model", default="small", help="name of a shipped model")
    options = parser.parse_args(arguments)
    if options.moving is not None:
        save_moving(options.moving, _panels(STREET, model=options.model))
        return 0
    methods = select(fusers=("pyramid",), models={options.model: shipped_models()[options.model]})
    columns = ["visible", "thermal", *(method.name for method in methods)]
    rows = {scene: _row(f"synthetic:?scene={scene}&frames=90", methods) for scene in SCENES}
    save_contact_sheet(options.dial, columns, rows)
    return 0


def save_moving(path: Path, pictures: Iterable[Image8]) -> None:
    """Write (H, W, 3) BGR pictures as a WebP that repeats for ever, ten of them a second."""
    with av.open(str(path), "w", format="webp", options={"loop": "0"}) as output:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = output.add_stream("libwebp_anim", rate=30 // EVERY)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.time_base = Fraction(EVERY, 30)
                stream.options = {"quality": str(QUALITY), "compression_level": "6"}
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        if stream is not None:
            output.mux(stream.encode())


def _panels(uri: str, *, model: str) -> Iterator[Image8]:
    """What both cameras see, and the fused picture, beside one another."""
    with rtfusion.open(ir=uri, vis=uri, model=model) as stream:
        settled = (frame for frame in stream if frame.timestamp_ns >= MOMENT_S * NS_PER_S)
        for frame in islice(settled, 0, EVERY * SHOWN, EVERY):
            bands = (frame.visible, frame.thermal, frame.image)
            panels = [cv2.resize(as_bgr(band), PANEL_PX, interpolation=cv2.INTER_AREA) for band in bands]
            gap = np.full((PANEL_PX[1], GAP_PX, 3), BACKGROUND, np.uint8)
            yield np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def _row(uri: str, methods: Sequence[Method]) -> list[Image8]:
    """Both bands and every fused picture at `MOMENT_S`; the methods have seen the scene until then."""
    with ExitStack() as stack:
        fuses = [stack.enter_context(closing(method.open_luminance(still=False))) for method in methods]
        for pair in open_pairs(ir=uri, vis=uri):
            image, heat = cast(Image8, pair.visible.image), cast(Image8, pair.thermal.image)
            y, stamp_ns = luminance(image), pair.timestamp_ns
            fused = [fuse(visible_y=y, thermal=heat, timestamp_ns=stamp_ns) for fuse in fuses]
            if stamp_ns >= MOMENT_S * NS_PER_S:
                break
        composed = [compose(visible=image, visible_y=y, fused_y=picture) for picture in fused]
        return [picture.copy() for picture in (image, as_bgr(heat), *composed)]


if __name__ == "__main__":
    raise SystemExit(main())
