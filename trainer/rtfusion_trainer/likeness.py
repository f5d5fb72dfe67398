"""How like its teacher a student is, as numbers: the figures that stand behind "comparable to its teacher"."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch

from rtfusion.evaluate import metrics
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.models import find_model
from rtfusion.types import Image8
from rtfusion_trainer.losses.perceptual import Vgg19Features
from rtfusion_trainer.objective import blindness
from rtfusion_trainer.pairs import Pictures
from rtfusion_trainer.teachers.cache import FULL_SCALE
from rtfusion_trainer.teachers.network import FloatImage, as_tensor

BLIND = 0.7
"""Places count as blind to the visible camera from this share of the local variance on that is the thermal band's."""
LEAST_PX = 500
WINDOW_PX = 16
QUIET = 2 / 255
"""Both bands deviate less than this in quiet places, within 7 px: what a picture shows there is noise."""


def likeness(
    model: Path,
    *,
    pictures: Pictures,
    pairs: Sequence[tuple[Image8, Image8]],
    features: Vgg19Features | None = None,
    enhance: float | None = None,
    threads: int | None = None,
) -> dict[str, float | None]:
    """Means over pairs of the student at ``enhance`` (its default if None) against its teacher's pictures.

    Returns:
        ``ssim`` to the teacher; ``feature_distance``, the sum over layers of the mean squared difference (with ``features``);
        ``contrast``: local deviation where only the thermal band sees, over the teacher's; ``noise``: deviation where no band
        shows anything, over the teacher's; ``halo`` and ``teacher_halo`` in gray levels; ``ms`` of the student for a pair.
        None where the pairs have no such places.

    Raises:
        ConfigError: there is no such model, or the teacher has not seen a pair.
    """
    rows: list[dict[str, float]] = []
    inputs = {} if enhance is None else {"enhance": enhance}
    with closing(
        LearnedLuminance(model=find_model(model), engine="auto", threads=threads, inputs=inputs, still=True)
    ) as fuser:
        for visible, thermal in pairs:
            began_s = time.perf_counter()
            fused = fuser(visible_y=visible, thermal=thermal, timestamp_ns=0).copy()
            took_ms = 1000 * (time.perf_counter() - began_s)
            wanted = pictures(visible=visible, thermal=thermal).astype(np.float32) / np.float32(FULL_SCALE)
            rows.append({**_compared(fused, wanted, visible, thermal, features), "ms": took_ms})
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: metrics.finite_mean([row.get(name, float("nan")) for row in rows]) for name in names}


def _compared(
    fused: Image8, wanted: FloatImage, visible: Image8, thermal: Image8, features: Vgg19Features | None
) -> dict[str, float]:
    teacher = np.clip(np.rint(wanted * 255), 0, 255).astype(np.uint8)
    bands = {"visible": visible, "thermal": thermal}
    cpu = torch.device("cpu")
    blind = blindness(visible=as_tensor(visible, cpu), thermal=as_tensor(thermal, cpu))[0, 0].numpy() > BLIND
    quiet = np.maximum(_deviation(visible, 7), _deviation(thermal, 7)) < QUIET
    smooth = cv2.blur(teacher, (3, 3))  # its noise is no contrast
    found = {
        # SSIM to both of two equal sources is the SSIM to one
        "ssim": metrics.image_metrics(fused=fused, visible=teacher, thermal=teacher)["SSIM"],
        "contrast": _ratio(_deviation(fused, WINDOW_PX), _deviation(np.asarray(smooth, np.uint8), WINDOW_PX), blind),
        "noise": _ratio(_fine(fused), _fine(teacher), quiet),
        "halo": metrics.halo(fused=fused, **bands),
        "teacher_halo": metrics.halo(fused=teacher, **bands),
    }
    if features is not None:
        with torch.no_grad():
            ours, theirs = (features(as_tensor(image, cpu)) for image in (fused, teacher))
        found["feature_distance"] = float(sum((ours[layer] - theirs[layer]).square().mean() for layer in ours))
    return found


def _deviation(image: Image8, side_px: int) -> FloatImage:
    values = image.astype(np.float32) / np.float32(255)
    mean, square = (cv2.blur(plane, (side_px, side_px)) for plane in (values, values * values))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def _fine(image: Image8) -> FloatImage:
    """What is left of a picture without its means over 5 px: noise, where nothing else is."""
    values = image.astype(np.float32) / np.float32(255)
    return np.asarray(np.abs(values - cv2.blur(values, (5, 5))), np.float32)


def _ratio(ours: FloatImage, theirs: FloatImage, places: np.ndarray) -> float:
    if places.sum() < LEAST_PX:
        return float("nan")
    return float(ours[places].mean() / max(float(theirs[places].mean()), 1e-6))
