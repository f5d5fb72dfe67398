"""Whether labeled people and vehicles can be found: what a fixed detector says, and how far they stand out of what is about them.

The detector is a YOLOX of COCO as an ONNX file (`rtfusion.evaluate.detector`), run as PyTorch so that it tells which way to go.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ConfigError
from rtfusion.evaluate.detector import COCO
from rtfusion.focus.overlap import overlaps
from rtfusion.focus.yolox import COCO_NAMES, anchors

FOUND = 0.7
"""A score that is as good as any."""
HOPELESS = 0.05
"""Scores far below this have little weight: nobody finds what no band shows."""
SAME_IOU, OTHER_IOU = 0.5, 0.3
"""Overlap from which on a detection is of an object, and up to which it is of none."""
FALSE_FROM, FALSE_WEIGHT = 0.2, 0.3
CORE, RING = 0.7, 0.3
"""Part of a box, per side, that is taken for the object, and width of what is about it, as a fraction of the box."""
REACH = 0.6
"""Width of the surround that is to look as a tutor shows it, as a fraction of the box: all that a rim could take up."""
KEPT = 0.8
"""Share of the contrast of the band in which the object stands out more that is wanted."""


class Detector:
    """The detector, on square crops of one size."""

    def __init__(self, path: Path, *, side_px: int, device: torch.device) -> None:
        """Read the file, and show it an empty crop.

        Raises:
            ConfigError: there is none, or it is no YOLOX of COCO that takes crops of this size.
            ModelError: it has an operator that is not known here.
        """
        if not path.is_file():
            raise ConfigError(f"--detector {path}: there is no such file; expected a YOLOX model of COCO as ONNX")
        self._module = OnnxModule(path).to(device).requires_grad_(False)
        if len(self._module.inputs) != 1 or len(self._module.outputs) != 1:
            raise ConfigError(f"--detector {path}: expected one input and one output, as a YOLOX has")
        self._input, self._output = next(iter(self._module.inputs)), next(iter(self._module.outputs))
        self._cells, self._strides = (torch.from_numpy(made).float().to(device) for made in anchors(side_px))
        expected = 1, len(self._cells), 5 + len(COCO_NAMES)
        try:
            shape = tuple(self._raw(torch.zeros(1, 3, side_px, side_px, device=device)).shape)
        except RuntimeError as error:
            raise ConfigError(f"--detector {path} takes no pictures of {side_px} px (seen_px): {error}") from error
        if shape != expected:
            raise ConfigError(f"--detector {path} gives {shape} for {side_px} px (seen_px); a YOLOX of COCO {expected}")

    def __call__(self, image_bgr: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, S, S) in [0, 1] to boxes, (anchors, 4) in its pixels, and scores, (anchors, classes).

        Classes are those of `rtfusion.evaluate.detector.COCO`, in order.
        """
        raw = self._raw(image_bgr)[0]
        centers, sizes = (raw[:, :2] + self._cells) * self._strides, raw[:, 2:4].exp() * self._strides
        scores = [raw[:, 4] * raw[:, [5 + index for index in classes]].amax(dim=1) for classes in COCO.values()]
        return torch.cat((centers - sizes / 2, centers + sizes / 2), dim=1), torch.stack(scores, dim=1)

    def _raw(self, image_bgr: Tensor) -> Tensor:
        return self._module(**{self._input: 255 * image_bgr})[self._output]


def missed(boxes: Tensor, scores: Tensor, *, wanted: Tensor, kinds: Tensor) -> Tensor:
    """How far the detector is from finding every object with a good score, and what it finds where nothing is: a scalar.

    Args:
        boxes: (anchors, 4), as `Detector` gives them.
        scores: (anchors, classes).
        wanted: (n, 4), all objects in the crop.
        kinds: (n,) the class of each; those of a negative one are neither wanted nor false.
    """
    overlap = overlaps(*(one.detach().cpu().numpy().astype(np.float64) for one in (boxes, wanted)))

    def of(places: npt.NDArray[np.bool_]) -> Tensor:
        return scores[torch.from_numpy(places).to(scores.device)]

    terms = []
    for shared, kind in zip(overlap.T, kinds.tolist(), strict=True):
        if kind >= 0:
            best = of(shared >= min(SAME_IOU, shared.max()))[:, kind].amax()
            terms.append(functional.relu(torch.log((FOUND + HOPELESS) / (best + HOPELESS))))
    nothing = overlap.max(axis=1, initial=0.0) < OTHER_IOU
    false = FALSE_WEIGHT * functional.relu(of(nothing) - FALSE_FROM).sum()
    return torch.stack(terms).mean() + false if terms else false


def faint(fused: Tensor, *, visible: Tensor, thermal: Tensor, wanted: Tensor) -> Tensor:
    """How much less the (n, 4) objects stand out of their surround than in the band that shows them best: a scalar in [0, 1].

    Images are (1, 1, H, W); the contrast of an object is the mean of its core less that of a ring about it, of either sign.
    """
    contrasts = [_contrasts(image, wanted) for image in (fused, visible, thermal)]
    ours, seen, heat = contrasts
    best = torch.where(seen.abs() > heat.abs(), seen, heat).detach()
    missing = functional.relu(KEPT * best.abs() - ours * best.sign())
    return missing.mean() if len(missing) else fused.new_zeros(())


def ring(fused: Tensor, *, shown: Tensor, wanted: Tensor) -> Tensor:
    """How far the surround of the (n, 4) objects is from another picture of it: the mean over its pixels, a scalar.

    Contrast can be won by darkening what is about an object, which no detector minds and every eye does.
    """
    height, width = fused.shape[-2:]
    around = fused.new_zeros(fused.shape)
    for box in wanted.tolist():
        _window(around, box, 2 * REACH, height=height, width=width).fill_(1)
    for box in wanted.tolist():
        _window(around, box, 0.0, height=height, width=width).zero_()
    return (around * (fused - shown).abs()).sum() / around.sum().clamp(min=1)


def _contrasts(image: Tensor, boxes: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    found = []
    for x0, y0, x1, y1 in boxes.tolist():
        core = _window(image, (x0, y0, x1, y1), CORE - 1, height=height, width=width)
        box = _window(image, (x0, y0, x1, y1), 0.0, height=height, width=width)
        wide = _window(image, (x0, y0, x1, y1), 2 * RING, height=height, width=width)
        around = (wide.sum() - box.sum()) / max(wide.numel() - box.numel(), 1)
        found.append(core.mean() - around)
    return torch.stack(found) if found else image.new_zeros(0)


def _window(image: Tensor, box: tuple[float, ...], larger: float, *, height: int, width: int) -> Tensor:
    """The pixels of a box whose sides are longer by this part, at least one of them."""
    x0, y0, x1, y1 = box
    dx, dy = larger * (x1 - x0) / 2, larger * (y1 - y0) / 2
    left, top = min(max(round(x0 - dx), 0), width - 1), min(max(round(y0 - dy), 0), height - 1)
    right, bottom = max(min(round(x1 + dx), width), left + 1), max(min(round(y1 + dy), height), top + 1)
    return image[0, 0, top:bottom, left:right]
