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

from rtfusion.clock import NS_PER_S
from rtfusion.evaluate.contact_sheet import save_contact_sheet
from rtfusion.evaluate.methods import Method, select, shipped_models
from rtfusion.fusion.color import as_bgr, compose, luminance
from rtfusion.pairs import open_pairs
from rtfusion.types import Image8

SCENES = ("day", "night", "smoke")
MOMENT_S = 2.0
"""Shown after the means of the scene have settled."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", default="small", help="name of a shipped model")
    options = parser.parse_args(arguments)
    methods = select(fusers=("pyramid",), models={options.model: shipped_models()[options.model]})
    columns = ["visible", "thermal", *(method.name for method in methods)]
    rows = {scene: _row(f"synthetic:?scene={scene}&frames=90", methods) for scene in SCENES}
    save_contact_sheet(options.out, columns, rows)
    return 0


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
