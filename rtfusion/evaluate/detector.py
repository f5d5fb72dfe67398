"""People and vehicles in a picture, by a fixed detector: a YOLOX trained on COCO (`rtfusion.focus.yolox`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.focus.detector import Yolox, read_detector_spec
from rtfusion.focus.overlap import Floats
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
        ConfigError: there is no such file.
        ModelError: it is no YOLOX.
        EngineUnavailable: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; expected a YOLOX model of COCO as ONNX")
        self._network = Yolox(path, spec=read_detector_spec(path), engine="onnxruntime", least_score=CANDIDATE_SCORE)

    def __call__(self, image: Image8) -> Detections:
        """Detect people and vehicles in (H, W, 3) BGR."""
        return self._network(image, classes=COCO)
