"""Luminance fused by a network: a model file, run by an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.engines import Choice, Tensor, choose_precision, model_file, open_gray_engine, resolve, runs_on_gpu
from rtfusion.engines.gray import GrayEngine
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.inputs import ModelInputs, StateClock
from rtfusion.fusion.scene import SceneMean
from rtfusion.fusion.trust import Trust, Worths, judged
from rtfusion.fusion.upsampling import calmed
from rtfusion.kernels.glare import open_glare
from rtfusion.models import read_spec
from rtfusion.models.spec import OUTPUT
from rtfusion.types import Image8, InputValue

MEAN_TIME_CONSTANT_S = 1.0


class LearnedLuminance:
    """Two luminance images to a fused one, by an engine that runs a network.

    The engine is opened on the first frame, for its size, and anew when the size changes. What is remembered from one frame to
    the next is what the contract of the model says: the means of the images, and the states that the model gives itself.

    Args:
        model: ONNX file with its contract inside (`rtfusion.models.spec`), or the name of a model that comes with the package.
        engine: one of `rtfusion.engines.ENGINES`, or ``auto``.
        threads: for the engine; None for every core but one.
        kernels: where they are compiled, they do what the model says that they can (`rtfusion.models.layers`).
        precision: ``auto`` is the fastest for the size, measured when the engine is opened (`rtfusion.engines.choose_precision`).
        inputs: values for named inputs of the model, instead of their defaults; a mean given here is not followed.
        still: for unrelated images, which must not remember one another.
        trust: where a band is blank or burnt out, show the other one (`rtfusion.fusion.trust`).

    Raises:
        ModelError: the file is no model, or has no contract that holds.
        ConfigError: no such model, engine or input, or a value out of its range.
        EngineUnavailable: the engine is not installed.
    """

    def __init__(
        self,
        *,
        model: Path,
        engine: str,
        threads: int | None,
        precision: str = "auto",
        kernels: bool = True,
        inputs: Mapping[str, InputValue] | None = None,
        still: bool = False,
        trust: bool = False,
    ) -> None:
        self.named, self._precision = model, precision
        self._engine_name = resolve(engine)
        self._model = self._file(precision)
        spec = read_spec(self._model)
        self._inputs = ModelInputs(spec, model=self._model, chosen=inputs)
        tau_s = 0.0 if still else MEAN_TIME_CONSTANT_S
        self._means = {name: SceneMean(time_constant_s=tau_s) for name in self._inputs.followed}
        self._states: dict[str, Tensor] = {}
        self._clock = StateClock(spec, still=still)
        self._still = still
        self._threads, self._kernels = threads, kernels
        self._engine: GrayEngine | None = None
        self._made: Mapping[str, npt.NDArray[Any]] = {}
        self._size_px = 0, 0
        self.judges = trust
        """Whether what a band is worth is judged and obeyed."""
        self._glare = open_glare(kernels=kernels)
        self._worths = Worths(still=still)
        self._pool = Pool()
        self.trust: Trust | None = None
        """What both bands of the last pair were worth; None where they are not judged."""
        self.choice: Choice | None = None
        """The precision that is run, and why; None until the first frame."""
        self.model_id = spec.id
        self.engine_description: str | None = None
        """Engine and model file, whose name says the precision of its numbers; None until the first frame."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int, meaned_share: float = 0.0) -> Image8:
        """Fuse one pair of (H, W) uint8; the result is of the same size and stays valid until the next call.

        ``meaned_share`` is how far its base goes to that of the plain mean (`rtfusion.fusion.upsampling.calmed`) where bands are
        judged.

        Raises:
            ModelError: the network does not take images of this size.
            EngineError: the engine failed.
        """
        if visible_y.shape != thermal.shape:
            raise ValueError(f"visible is {visible_y.shape}, thermal {thermal.shape}; register them to one size first")
        engine = self._opened((visible_y.shape[1], visible_y.shape[0]))
        images = {"visible_y": visible_y, "thermal": thermal}
        self._made = engine.run(images=images, inputs=self._fed(images, timestamp_ns=timestamp_ns))
        for name, state in self._inputs.spec.states.items():
            np.copyto(self._states[name], self._made[state.fed_from])
        fused_y: Image8 = self._made[OUTPUT]
        if self.judges:
            take = self._pool.take
            if meaned_share > 0:
                fused_y = calmed(fused_y=fused_y, visible_y=visible_y, thermal=thermal, share=meaned_share, take=take)
            self.trust = self._worths.follow(
                judged(visible_y=visible_y, thermal=thermal, take=take, glare=self._glare), timestamp_ns=timestamp_ns
            )
            fused_y = self.trust.shown(
                fused_y=fused_y, visible_y=visible_y, thermal=thermal, take=take, glare=self._glare
            )
        return fused_y

    def prepare(self, *, size_px: tuple[int, int]) -> None:
        """Open the engine for images of (width, height) ahead of the first one, which would wait for it.

        Raises:
            ModelError: the network does not take images of this size.
            EngineError: the engine failed.
        """
        self._opened(size_px)

    @property
    def inputs(self) -> dict[str, float | Tensor]:
        """The scalars and maps that can be chosen, and where they stand; not the means, which are followed."""
        return self._inputs.values

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The outputs of the last frame beside the fused luminance, float32 (C, h, w) over the picture.

        Each value stands for a square of ``scale`` pixels a side. They are valid until the next call; empty before the first.
        """
        width, height = self._size_px
        ports = self._inputs.spec.outputs
        return {
            name: made[0, :, : -(-height // ports[name].scale), : -(-width // ports[name].scale)]
            for name, made in self._made.items()
            if name != OUTPUT
        }

    def set_inputs(self, inputs: Mapping[str, InputValue]) -> None:
        """Choose values for named inputs from the next call on. Any thread may call it.

        A value is a number, or for a map an array over the picture, (h, w) or (C, h, w), of any size.

        Raises:
            ConfigError: no such input, a mean that is followed, or a value of another shape or out of its range. Nothing was
                changed.
        """
        self._inputs = self._inputs.changed(inputs)

    def successor(
        self, *, model: Path | None = None, precision: str | None = None, inputs: Mapping[str, InputValue] | None = None
    ) -> LearnedLuminance:
        """Another model in place of this one, its engine open. What is not given stays, as far as the model has it.

        That holds for engine, threads, kernels, precision, the means and the chosen inputs. States start anew, since each belongs
        to one model, unless it is the same file. A model that ships may be named.

        Raises:
            ModelError, EngineError, ConfigError: as on construction. This one is as it was.
        """
        model, precision = model or self.named, precision or self._precision
        new = LearnedLuminance(
            model=model,
            engine=self._engine_name,
            threads=self._threads,
            kernels=self._kernels,
            precision=precision,
            still=self._still,
            trust=self.judges,
        )
        new._inputs = self._inputs.moved(new._inputs.spec, model=new._model, chosen=inputs or {})
        followed = new._inputs.followed
        new._means = {name: self._means.get(name, mean) for name, mean in new._means.items() if name in followed}
        if self._engine is not None:
            new.prepare(size_px=self._size_px)
            if new.model_id == self.model_id:
                new._states, new._clock = self._states, self._clock
        return new

    def close(self) -> None:
        """Release the engine. Idempotent."""
        if self._engine is not None:
            self._engine.close()
            self._engine, self._made = None, {}

    def _fed(self, images: Mapping[str, Image8], *, timestamp_ns: int) -> dict[str, float | Tensor]:
        """Every input but the images for the frame of this moment."""
        inputs = self._inputs
        for name in self._clock.restarted(timestamp_ns):
            self._states[name].fill(inputs.spec.states[name].initial)
        fed = inputs.fed(size_px=self._size_px)
        for name, mean in self._means.items():
            image = images[inputs.followed[name]]
            fed[name] = mean.follow(cv2.mean(image)[0] / 255, image=image, timestamp_ns=timestamp_ns)
        return {**fed, **self._states}

    def _file(self, precision: str) -> Path:
        return model_file(self.named, precision=precision, on_gpu=runs_on_gpu(self._engine_name))

    def _opened(self, size_px: tuple[int, int]) -> GrayEngine:
        if self._engine is None or size_px != self._size_px:
            self.close()
            run_by: dict[str, Any] = {"size_px": size_px, "threads": self._threads, "kernels": self._kernels}
            self.choice = choose_precision(self.named, precision=self._precision, engine=self._engine_name, **run_by)
            precision, spec = self.choice.precision, self._inputs.spec
            self._model = self._file(precision)
            self._engine = open_gray_engine(self._engine_name, model=self._model, precision=precision, **run_by)
            self.model_id = read_spec(self._model).id
            padded_px = spec.padded_px(size_px)
            self._states = {name: np.empty(state.shape(padded_px), np.float32) for name, state in spec.states.items()}
            self._clock = StateClock(spec, still=self._still)
            self._size_px = size_px
            self._pool.clear()
            self.engine_description = f"{self._engine.description}, {self._model.name}"
        return self._engine
