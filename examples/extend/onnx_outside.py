"""The shipped model without rtfusion: ONNX Runtime, NumPy, and thirty lines that do what the runtime does for it.

    python examples/extend/onnx_outside.py rtfusion/models/student-small.onnx vis.png ir.png fused.png

A model fuses luminance. Whoever runs it keeps the means of the scene, which it must not compute from one frame: something hot
that walks in would re-tone the picture. For a single picture the means are its own. OpenCV here only reads and writes files.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import cv2
import numpy as np
import onnxruntime

TIME_CONSTANT_S = 1.0


class OutsideModel:
    """A model file and the memory that it needs; call it with one pair of registered (H, W) uint8 images after the other."""

    def __init__(self, path: str) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        contract = self._session.get_modelmeta().custom_metadata_map
        self.stride: int = json.loads(contract["rtfusion.stride"])
        self.enhance: float = json.loads(contract["rtfusion.scalars"])["enhance"]["default"]
        self._means: dict[str, float] = {}
        self._stamp_s = 0.0

    def __call__(self, *, visible_y: np.ndarray, thermal: np.ndarray, stamp_s: float) -> np.ndarray:
        """The fused luminance, (H, W) uint8."""
        height, width = visible_y.shape
        below, right = -height % self.stride, -width % self.stride
        fed: dict[str, Any] = {"enhance": self._scalar(self.enhance)}
        for name, band in (("visible", visible_y), ("thermal", thermal)):
            fed[f"{name}_mean"] = self._scalar(self._follow(name, float(band.mean()) / 255, stamp_s))
            padded = np.pad(band, ((0, below), (0, right)), mode="edge").astype(np.float32) / 255
            fed["visible_y" if name == "visible" else name] = padded[None, None]
        self._stamp_s = stamp_s
        (fused,) = self._session.run(["fused_y"], fed)
        return np.rint(fused[0, 0, :height, :width].clip(0, 1) * 255).astype(np.uint8)

    def _follow(self, name: str, value: float, stamp_s: float) -> float:
        """The slow mean: exponential, with a memory of one second; the first value counts whole."""
        weight = 1.0 - float(np.exp(-(stamp_s - self._stamp_s) / TIME_CONSTANT_S)) if name in self._means else 1.0
        before = self._means.get(name, value)
        self._means[name] = before + weight * (value - before)
        return self._means[name]

    @staticmethod
    def _scalar(value: float) -> np.ndarray:
        return np.full((1, 1, 1, 1), value, np.float32)


def main() -> None:
    """Fuse two image files of one size into a third one, gray."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (
        ("model", "model file"),
        ("visible", "image"),
        ("thermal", "image"),
        ("fused", "image to write"),
    ):
        parser.add_argument(name, metavar=name.upper(), help=what)
    options = parser.parse_args()
    images = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in (options.visible, options.thermal)]
    visible, thermal = images
    if visible is None or thermal is None:
        sys.exit(f"cannot read {options.visible} or {options.thermal} as an image")
    if visible.shape != thermal.shape:
        sys.exit(
            f"{options.visible} is {visible.shape}, {options.thermal} {thermal.shape}; expected one size, registered"
        )
    cv2.imwrite(options.fused, OutsideModel(options.model)(visible_y=visible, thermal=thermal, stamp_s=0.0))


if __name__ == "__main__":
    main()
