"""People and vehicles in a picture, by a fixed detector: a YOLOX trained on COCO (`rtfusion.focus.yolox`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtfusion.errors import ConfigError, EngineUnavailable
from rtfusion.focus.overlap import Floats
from rtfusion.focus.yolox import decode, letterbox
from rtfusion.installing import install
from rtfusion.types import Image8

COCO = {"person": (0,), "vehicle": (2, 5, 7)}
"""The detector's classes behind ours: a vehicle is a car, a bus or a truck."""
CANDIDATE_SCORE = 0.01
"""Below it a detection is dropped, for average precision too."""

Detections = Mapping[str, tuple[Floats, Floats]]
"""Boxes (n, 4) in pixels and scores (n,) of every class."""


class Detector:
    """A YOLOX of COCO's classes in an ONNX file, run by ONNX Runtime on the CPU.

    Raises:
        EngineUnavailable: ONNX Runtime is not installed.
        ConfigError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailable(
                f"the detector needs ONNX Runtime, which is not installed here; run {install('onnxruntime')}"
            ) from error
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; expected a YOLOX model of COCO as ONNX")
        self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (port,) = self._session.get_inputs()
        self._input, self._side_px = port.name, int(port.shape[-1])

    def __call__(self, image: Image8) -> Detections:
        """Detect people and vehicles in (H, W, 3) BGR."""
        tensor, scale = letterbox(image, side_px=self._side_px)
        raw = self._session.run(None, {self._input: tensor})[0][0]
        size_px = image.shape[1], image.shape[0]
        return decode(
            raw, side_px=self._side_px, scale=scale, size_px=size_px, classes=COCO, least_score=CANDIDATE_SCORE
        )
