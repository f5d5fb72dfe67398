"""The layout of a YOLOX detector: a letterboxed square in, raw boxes of anchors out, the classes of COCO by name.

In: (1, 3, S, S), BGR, 0 to 255, the picture in the upper left. Out: (1, anchors, 5 + classes), where an anchor is a cell of a
grid of one of the strides, finest first, row by row: center (cell + xy) · stride, size exp(wh) · stride, then the objectness and
the class scores; a detection's score is the product of both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.focus.base import PEOPLE, VEHICLES
from rtfusion.focus.overlap import Floats, suppress
from rtfusion.text import did_you_mean
from rtfusion.types import Image8

STRIDES = (8, 16, 32)
PAD_GRAY = 114
SUPPRESS_IOU = 0.45
_NAMES = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench bird cat
dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite
baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl banana apple
sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table toilet tv laptop mouse
remote keyboard cell_phone microwave oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush
"""
COCO_NAMES = tuple(_NAMES.split())
"""The classes of a detector with 80 of them."""
GROUPS: Mapping[str, tuple[str, ...]] = {PEOPLE: ("person",), VEHICLES: ("car", "motorcycle", "bus", "truck")}
"""The classes behind the targets that have an axis."""
_IRREGULAR = {"buses": "bus", "sheep": "sheep", "skis": "skis", "scissors": "scissors", "knives": "knife"}


def classes_of(target: str, *, names: tuple[str, ...]) -> tuple[int, ...]:
    """The indices of the classes that a target means: ``people``, ``vehicles``, or a class by its name, in the plural too.

    Raises:
        ConfigError: the detector has no such class.
    """
    word = target.strip().lower().replace(" ", "_")
    singular = _IRREGULAR.get(word, word.removesuffix("s"))
    meant = GROUPS.get(word) or ((word,) if word in names else (singular,))
    found = tuple(names.index(name) for name in meant if name in names)
    if not found:
        hint = did_you_mean(singular, names) or f"; it has {', '.join(names[:6])} and {len(names) - 6} others"
        raise ConfigError(f"the detector has no class {target!r}{hint}")
    return found


def letterbox(image: Image8, *, side_px: int) -> tuple[npt.NDArray[np.float32], float]:
    """(H, W, 3) scaled into the upper left of a gray square: (1, 3, side, side) of 0..255, and the scale."""
    height, width = image.shape[:2]
    scale = min(side_px / height, side_px / width)
    size_px = (round(width * scale), round(height * scale))
    square = np.full((side_px, side_px, 3), PAD_GRAY, np.uint8)
    square[: size_px[1], : size_px[0]] = cv2.resize(image, size_px, interpolation=cv2.INTER_LINEAR)
    return square.transpose(2, 0, 1)[None].astype(np.float32), scale


def decode(
    raw: npt.NDArray[np.float32],
    *,
    side_px: int,
    scale: float,
    size_px: tuple[int, int],
    classes: Mapping[str, tuple[int, ...]],
    least_score: float,
) -> dict[str, tuple[Floats, Floats]]:
    """The network's (anchors, 5 + classes) to boxes (n, 4) in pixels of the image and scores (n,) of every kind.

    A kind is named in ``classes`` with the indices that it stands for. Of one kind, boxes that overlap a better one are left out.
    """
    cells, strides = anchors(side_px)
    likely = np.flatnonzero(raw[:, 4] >= least_score)
    raw, cells, strides = raw[likely], cells[likely], strides[likely]
    centers, sizes = (raw[:, :2] + cells) * strides, np.exp(raw[:, 2:4]) * strides
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float64) / scale
    boxes = np.clip(boxes, 0.0, np.array(size_px * 2, np.float64))
    found = {}
    for kind, indices in classes.items():
        scores = (raw[:, 4] * raw[:, [5 + index for index in indices]].max(axis=1)).astype(np.float64)
        taken = np.flatnonzero(scores >= least_score)
        kept = taken[suppress(boxes[taken], scores[taken], iou=SUPPRESS_IOU)]
        found[kind] = (boxes[kept], scores[kept])
    return found


@functools.cache
def anchors(side_px: int) -> tuple[Floats, Floats]:
    """Cell (n, 2) and stride (n, 1) of every anchor, finest grid first, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        count = side_px // stride
        rows, columns = np.mgrid[:count, :count]
        cells.append(np.stack([columns, rows], axis=2).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)
