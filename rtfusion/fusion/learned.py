"""Luminance fused by a network: a model file, run by an engine."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.engines import Engine, Tensor, open_engine, resolve
from rtfusion.errors import ConfigError
from rtfusion.models import ModelSpec, read_spec
from rtfusion.thermal import SlowValue
from rtfusion.types import Image8

SCENE_MEANS = {"visible_mean": "visible_y", "thermal_mean": "thermal"}
"""Scalars that are kept here, if a model takes them: the mean of an image in [0, 1], with memory."""
MEAN_TIME_CONSTANT_S = 1.0

_UNIT_FROM_GRAY = (np.arange(256) / 255).astype(np.float32)


class LearnedLuminance:
    """Feeds a network in place: gray levels to [0, 1], padded to its stride by repeating the edge, and back.

    The engine is opened on the first frame, for its size, and anew when the size changes. Nothing is remembered from one
    frame to the next but the means of the two images, for a model that takes them (`SCENE_MEANS`).

    Args:
        model: ONNX file with its contract inside (`rtfusion.models.spec`).
        engine: one of `rtfusion.engines.ENGINES`, or ``auto``.
        threads: for the engine; None for every core.
        scalars: values for named inputs of the model, instead of their defaults; a mean given here is not followed.
        still: for unrelated images; the means are then those of the present ones.

    Raises:
        ModelError: the file is no model, or has no contract that holds.
        ConfigError: no such engine or scalar, or a scalar out of its range.
        EngineUnavailable: the engine is not installed.
    """

    def __init__(
        self,
        *,
        model: Path,
        engine: str,
        threads: int | None,
        scalars: Mapping[str, float] | None = None,
        still: bool = False,
    ) -> None:
        self._spec = read_spec(model)
        self._scalars = _scalar_inputs(self._spec, scalars or {}, model=model)
        tau_s = 0.0 if still else MEAN_TIME_CONSTANT_S
        followed = (SCENE_MEANS.keys() & self._spec.scalars.keys()) - (scalars or {}).keys()
        self._means = {name: SlowValue(time_constant_s=tau_s) for name in followed}
        self._engine_name = resolve(engine)
        self._model = model
        self._threads = threads
        self._engine: Engine | None = None
        self._inputs: dict[str, Tensor] = {}
        self._fused_y: Image8 = np.empty((0, 0), np.uint8)
        self.model_id = self._spec.id
        self.engine_description: str | None = None
        """What runs the network; None until the first frame."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """Fuse one pair of (H, W) uint8; the result is of the same size and stays valid until the next call.

        Raises:
            ModelError: the network does not take images of this size.
            EngineError: the engine failed.
        """
        if visible_y.shape != thermal.shape:
            raise ValueError(f"visible is {visible_y.shape}, thermal {thermal.shape}; register them to one size first")
        engine = self._engine
        if engine is None or visible_y.shape != self._fused_y.shape:
            engine = self._open(visible_y.shape)
        _fill(self._inputs["visible_y"], visible_y)
        _fill(self._inputs["thermal"], thermal)
        images = {"visible_y": visible_y, "thermal": thermal}
        for name, mean in self._means.items():
            present = cv2.mean(images[SCENE_MEANS[name]])[0] / 255
            self._scalars[name][...] = mean.follow(present, timestamp_ns=timestamp_ns)
        output = engine.run(inputs=self._inputs)
        height, width = visible_y.shape
        # convertScaleAbs rounds and saturates, but takes the absolute value of what is below black.
        unit = np.maximum(output[0, 0, :height, :width], 0)
        cv2.convertScaleAbs(unit, self._fused_y, alpha=255)
        return self._fused_y

    def close(self) -> None:
        """Release the engine; may be called twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _open(self, shape: tuple[int, ...]) -> Engine:
        self.close()
        height, width = (length + -length % self._spec.stride for length in shape)
        self._engine = open_engine(self._engine_name, model=self._model, size_px=(width, height), threads=self._threads)
        self.engine_description = self._engine.description
        self._inputs = {name: np.zeros((1, 1, height, width), np.float32) for name in self._spec.inputs}
        self._inputs.update(self._scalars)
        self._fused_y = np.empty(shape, np.uint8)
        return self._engine


def _fill(tensor: Tensor, image: Image8) -> None:
    """Gray levels to [0, 1] into the upper left of a (1, 1, H, W) tensor, the rest by repeating the edge."""
    height, width = image.shape
    plane: npt.NDArray[np.float32] = tensor[0, 0]
    cv2.LUT(image, _UNIT_FROM_GRAY, plane[:height, :width])
    plane[:height, width:] = plane[:height, width - 1 : width]
    plane[height:] = plane[height - 1]


def _scalar_inputs(spec: ModelSpec, chosen: Mapping[str, float], *, model: Path) -> dict[str, Tensor]:
    """The value of every named scalar, as the network takes it."""
    for name, value in chosen.items():
        if name not in spec.scalars:
            near = difflib.get_close_matches(name, spec.scalars, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(spec.scalars) or 'none'}"
            raise ConfigError(f"{model} takes no input {name!r}{hint}")
        scalar = spec.scalars[name]
        if not scalar.minimum <= value <= scalar.maximum:
            raise ConfigError(f"{name} is {value}; expected {scalar.minimum} to {scalar.maximum}")
    values = {name: chosen.get(name, scalar.default) for name, scalar in spec.scalars.items()}
    return {name: np.full((1, 1, 1, 1), value, np.float32) for name, value in values.items()}
