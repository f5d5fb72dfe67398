"""Luminance fused by a network: a model file, run by an engine."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import cv2

from rtfusion.engines import open_gray_engine, resolve
from rtfusion.engines.gray import GrayEngine
from rtfusion.errors import ConfigError
from rtfusion.fusion import model_file
from rtfusion.fusion.tone import ExponentialAverage
from rtfusion.models import ModelSpec, read_spec
from rtfusion.types import Image8

SCENE_MEANS = {"visible_mean": "visible_y", "thermal_mean": "thermal"}
"""Scalars that are kept here, if a model takes them: the mean of an image in [0, 1], with memory."""
MEAN_TIME_CONSTANT_S = 1.0


class LearnedLuminance:
    """Two luminance images to a fused one, by an engine that runs a network.

    The engine is opened on the first frame, for its size, and anew when the size changes. Nothing is remembered from one
    frame to the next but the means of the two images, for a model that takes them (`SCENE_MEANS`).

    Args:
        model: ONNX file with its contract inside (`rtfusion.models.spec`), or the name of a model that comes with rtfusion.
        precision: of a named model; ``auto`` is the one for the engine: see `rtfusion.fusion.model_file`.
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
        precision: str = "auto",
        scalars: Mapping[str, float] | None = None,
        still: bool = False,
    ) -> None:
        self._model, self._precision = model, precision
        self._file = model_file(model, precision=precision, engine=engine)
        self._spec = read_spec(self._file)
        self._chosen = dict(scalars or {})
        check_scalars(self._spec, self._chosen, model=self._file)
        tau_s = 0.0 if still else MEAN_TIME_CONSTANT_S
        followed = (SCENE_MEANS.keys() & self._spec.scalars.keys()) - self._chosen.keys()
        self._means = {name: ExponentialAverage(time_constant_s=tau_s) for name in followed}
        self._still = still
        self._engine_name = resolve(engine)
        self._threads = threads
        self._engine: GrayEngine | None = None
        self._size_px = 0, 0
        self.model_id = self._spec.id
        self.engine_description: str | None = None
        """What runs which model file, whose name says the precision of its numbers; None until the first frame."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """Fuse one pair of (H, W) uint8; the result is of the same size and stays valid until the next call.

        Raises:
            ModelError: the network does not take images of this size.
            EngineError: the engine failed.
        """
        if visible_y.shape != thermal.shape:
            raise ValueError(f"visible is {visible_y.shape}, thermal {thermal.shape}; register them to one size first")
        engine = self._opened((visible_y.shape[1], visible_y.shape[0]))
        images = {"visible_y": visible_y, "thermal": thermal}
        scalars = self.inputs
        for name, mean in self._means.items():
            present = cv2.mean(images[SCENE_MEANS[name]])[0] / 255
            scalars[name] = mean.follow(present, timestamp_ns=timestamp_ns)
        return engine.run(images=images, scalars=scalars)

    def prepare(self, *, size_px: tuple[int, int]) -> None:
        """Open the engine for images of (width, height) ahead of the first one, which would wait for it.

        Raises:
            ModelError: the network does not take images of this size.
            EngineError: the engine failed.
        """
        self._opened(size_px)

    @property
    def inputs(self) -> dict[str, float]:
        """The dials of the model and where they stand; not the means, which are followed."""
        return dials(self._spec, self._chosen, followed=self._means)

    def set_inputs(self, inputs: Mapping[str, float]) -> None:
        """Set dials from the next call on; any thread may ask.

        Raises:
            ConfigError: no such dial, a mean that is followed, or a value out of its range. Nothing was changed.
        """
        check_scalars(self._spec, inputs, model=self._file, followed=self._means)
        self._chosen = {**self._chosen, **inputs}

    def successor(
        self, *, model: Path | None = None, precision: str | None = None, inputs: Mapping[str, float]
    ) -> LearnedLuminance:
        """Make another model that takes over, its engine open: same engine, threads and memory.

        What is None stays as it is, and so does every input that the new model has in that range.

        Raises:
            ModelError, EngineError, ConfigError: as on construction. This one is as it was.
        """
        model, precision = model or self._model, precision or self._precision
        spec = read_spec(model_file(model, precision=precision, engine=self._engine_name))
        new = LearnedLuminance(
            model=model,
            precision=precision,
            engine=self._engine_name,
            threads=self._threads,
            scalars={**kept_inputs(spec, self._chosen), **inputs},
            still=self._still,
        )
        new._means.update({name: mean for name, mean in self._means.items() if name in new._means})
        if self._engine is not None:
            new.prepare(size_px=self._size_px)
        return new

    def close(self) -> None:
        """Release the engine; may be called twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _opened(self, size_px: tuple[int, int]) -> GrayEngine:
        if self._engine is None or size_px != self._size_px:
            self.close()
            self._engine = open_gray_engine(
                self._engine_name, model=self._file, size_px=size_px, stride=self._spec.stride, threads=self._threads
            )
            self._size_px = size_px
            self.engine_description = f"{self._engine.description}, {self._file.name}"
        return self._engine


def kept_inputs(spec: ModelSpec, chosen: Mapping[str, float]) -> dict[str, float]:
    """Those of the chosen inputs that a model has too, with values that are in its range."""
    scalars = spec.scalars
    return {
        name: value
        for name, value in chosen.items()
        if name in scalars and scalars[name].minimum <= value <= scalars[name].maximum
    }


def dials(spec: ModelSpec, chosen: Mapping[str, float], *, followed: Iterable[str]) -> dict[str, float]:
    """Every scalar that stands where it was put, or at its default."""
    return {name: chosen.get(name, scalar.default) for name, scalar in spec.scalars.items() if name not in followed}


def check_scalars(spec: ModelSpec, chosen: Mapping[str, float], *, model: Path, followed: Collection[str] = ()) -> None:
    """See that the model has these scalars, free to be set, and that the values are in their range.

    Raises:
        ConfigError: it has not, or they are not.
    """
    for name, value in chosen.items():
        if name not in spec.scalars:
            near = difflib.get_close_matches(name, spec.scalars, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(spec.scalars) or 'none'}"
            raise ConfigError(f"{model} takes no input {name!r}{hint}")
        if name in followed:
            raise ConfigError(f"{name} follows the scene in this run; give it at the start to hold it")
        scalar = spec.scalars[name]
        if not scalar.minimum <= value <= scalar.maximum:
            raise ConfigError(f"{name} is {value}; expected {scalar.minimum} to {scalar.maximum}")
