"""People and vehicles in a picture, by a fixed detector: a YOLOX trained on COCO, (1, 3, S, S) BGR 0..255 in, raw boxes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.evaluate.matching import Floats, suppress
from rtfusion.types import Image8

COCO = {"person": (0,), "vehicle": (2, 5, 7)}
"""The detector's classes behind ours: a vehicle is a car, a bus or a truck."""
STRIDES = (8, 16, 32)
PAD_GRAY = 114
CANDIDATE_SCORE = 0.01
"""Below it a detection is dropped, for average precision too."""
SUPPRESS_IOU = 0.45

Detections = Mapping[str, tuple[Floats, Floats]]
"""Boxes (n, 4) in pixels and scores (n,) of every class."""


class Detector:
    """A YOLOX of COCO's classes in an ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        if not path.is_file():
            raise ConfigError(f"--detector {path}: there is no such file; expected a YOLOX model of COCO as ONNX")
        self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (port,) = self._session.get_inputs()
        self._input, self._side_px = port.name, int(port.shape[-1])

    def __call__(self, image: Image8) -> Detections:
        """Detect people and vehicles in (H, W, 3) BGR."""
        tensor, scale = letterbox(image, side_px=self._side_px)
        raw = self._session.run(None, {self._input: tensor})[0][0]
        height, width = image.shape[:2]
        return decode(raw, side_px=self._side_px, scale=scale, size_px=(width, height))


def letterbox(image: Image8, *, side_px: int) -> tuple[npt.NDArray[np.float32], float]:
    """(H, W, 3) scaled into the upper left of a gray square: (1, 3, side, side) of 0..255, and the scale."""
    height, width = image.shape[:2]
    scale = min(side_px / height, side_px / width)
    size_px = (round(width * scale), round(height * scale))
    square = np.full((side_px, side_px, 3), PAD_GRAY, np.uint8)
    square[: size_px[1], : size_px[0]] = cv2.resize(image, size_px, interpolation=cv2.INTER_LINEAR)
    return square.transpose(2, 0, 1)[None].astype(np.float32), scale


def decode(raw: npt.NDArray[np.float32], *, side_px: int, scale: float, size_px: tuple[int, int]) -> Detections:
    """The network's (anchors, 5 + classes) to boxes in pixels of the image, overlapping ones suppressed class by class.

    An anchor is a cell of a grid of one of the strides: center (cell + xy) · stride, size exp(wh) · stride, then the
    objectness and the class scores; a detection's score is their product.
    """
    cells, strides = _anchors(side_px)
    centers, sizes = (raw[:, :2] + cells) * strides, np.exp(raw[:, 2:4]) * strides
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float64) / scale
    boxes = np.clip(boxes, 0.0, np.array(size_px * 2, np.float64))
    found = {}
    for kind, classes in COCO.items():
        scores = (raw[:, 4] * raw[:, [5 + index for index in classes]].max(axis=1)).astype(np.float64)
        likely = np.flatnonzero(scores >= CANDIDATE_SCORE)
        kept = likely[suppress(boxes[likely], scores[likely], iou=SUPPRESS_IOU)]
        found[kind] = (boxes[kept], scores[kept])
    return found


def _anchors(side_px: int) -> tuple[Floats, Floats]:
    """Cell (n, 2) and stride (n, 1) of every anchor, finest grid first, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        count = side_px // stride
        rows, columns = np.mgrid[:count, :count]
        cells.append(np.stack([columns, rows], axis=2).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)
