"""How like its teacher a student is, as numbers: the figures that stand behind "comparable to its teacher"."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from rtfusion.evaluate import metrics
from rtfusion.types import Image8
from rtfusion_trainer.losses.perceptual import Vgg19Features
from rtfusion_trainer.objective import blindness
from rtfusion_trainer.teachers.network import FloatImage, as_tensor

BLIND = 0.7
"""Places count as blind to the visible camera from this share of the local variance on that is the thermal band's."""
LEAST_PX = 500
WINDOW_PX = 16
QUIET = 2 / 255
"""Both bands deviate less than this in quiet places, within 7 px: what a picture shows there is noise."""


FIGURES = ("features", "ssim", "contrast", "noise", "halo", "teacher_halo")


def likeness(
    *, fused: Image8, teacher: Image8, visible: Image8, thermal: Image8, features: Vgg19Features | None = None
) -> dict[str, float]:
    """How like its teacher's a fused picture of one pair is.

    Returns:
        `FIGURES`, without the first where there is no VGG-19: ``features``, the sum over layers of the mean squared difference of
        its features; ``ssim`` to the teacher's picture; ``contrast``, the local deviation where only the thermal band sees, over
        the teacher's; ``noise``, the deviation where no band shows anything, over the teacher's; ``halo`` and ``teacher_halo`` in
        gray levels. NaN where the pair has no such places.
    """
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
        found["features"] = float(sum((ours[layer] - theirs[layer]).square().mean() for layer in ours))
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
