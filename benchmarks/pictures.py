"""The picture of README.md: the synthetic scene fused by the pyramid and by a model along its dial.

::

    python -m benchmarks.pictures --out docs/images/dial.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.evaluate.methods import Method, select, shipped_models
from rtfusion.fusion.color import as_bgr, compose, luminance
from rtfusion.pairs import open_pairs
from rtfusion.types import Image8

SCENES = ("day", "night", "smoke")
MOMENT_S = 2.0
"""Shown after the means of the scene have settled."""
CELL_PX = (320, 240)
GAP_PX = 6
HEADER_PX = 28
QUALITY = 88


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", default="small", help="name of a shipped model")
    options = parser.parse_args(arguments)
    columns, rows = draw(model=options.model)
    cv2.imwrite(str(options.out), sheet(columns, rows), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return 0


def draw(*, model: str) -> tuple[list[str], list[list[Image8]]]:
    """Names of the columns, and one row of BGR pictures per scene."""
    methods = select(fusers=("pyramid",), models={model: shipped_models()[model]})
    rows = [_row(f"synthetic:?scene={scene}&frames=90", methods) for scene in SCENES]
    return ["visible", "thermal", *(method.name for method in methods)], rows


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


def sheet(columns: Sequence[str], rows: Sequence[Sequence[Image8]]) -> Image8:
    """All pictures under their names, (H, W, 3)."""
    width, height = CELL_PX
    size = (HEADER_PX + len(rows) * (height + GAP_PX), len(columns) * (width + GAP_PX), 3)
    canvas = np.full(size, 24, np.uint8)
    for column, name in enumerate(columns):
        left = column * (width + GAP_PX)
        cv2.putText(canvas, name, (left + 6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230), 1, cv2.LINE_AA)
        for row, pictures in enumerate(rows):
            top = HEADER_PX + row * (height + GAP_PX)
            small = cv2.resize(pictures[column], CELL_PX, interpolation=cv2.INTER_AREA)
            canvas[top : top + height, left : left + width] = small
    return cast(Image8, canvas)


if __name__ == "__main__":
    raise SystemExit(main())
