"""The inputs of a model beside the two images, as its contract says: scalars, maps, and when its states start anew."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.models import MapInput, ModelSpec, ScalarInput
from rtfusion.models.spec import SCENE_MEANS, Shape
from rtfusion.text import did_you_mean
from rtfusion.types import InputValue

Tensor = npt.NDArray[np.float32]
_NUMBERS = "biuf"
"""Kinds of dtypes: truth values, integers and floating point."""


class ModelInputs:
    """The values of the named inputs of one model: what was chosen, and what stands at its default.

    It never changes itself; `changed` gives another one. `fed` may be called by one thread only.

    Args:
        spec: the contract of the model.
        model: its file, for messages.
        chosen: values for named inputs instead of their defaults; a mean given here is held, and does not follow the scene.

    Raises:
        ConfigError: as `changed`.
    """

    def __init__(self, spec: ModelSpec, *, model: Path, chosen: Mapping[str, InputValue] | None = None) -> None:
        self.spec = spec
        self.model = model
        self.chosen = _checked(chosen or {}, spec=spec, model=model)
        self.followed = {
            name: SCENE_MEANS[scalar.fed_by]
            for name, scalar in spec.scalars.items()
            if scalar.fed_by != "user" and name not in self.chosen
        }
        """The scalars that follow the scene, and the image whose mean each one is."""
        self._scalars, self._maps = spec.scalars, spec.maps
        self._fitted: dict[str, tuple[InputValue, tuple[int, int], Tensor]] = {}

    @property
    def values(self) -> dict[str, float | Tensor]:
        """Every scalar and map that can be chosen, where it stands; not the means, which are followed."""
        ports = self.spec.choices
        return {name: self.chosen.get(name, port.default) for name, port in ports.items() if name not in self.followed}

    def changed(self, chosen: Mapping[str, InputValue]) -> ModelInputs:
        """Give the same with other values for some inputs.

        Raises:
            ConfigError: no such input, a mean that is followed, or a value of another shape or out of its range.
        """
        for name in chosen:
            if name in self.followed:
                raise ConfigError(f"{name} follows the scene in this run; give it at the start to hold it")
        other = copy(self)
        other.chosen = {**self.chosen, **_checked(chosen, spec=self.spec, model=self.model)}
        return other

    def moved(self, spec: ModelSpec, *, model: Path, chosen: Mapping[str, InputValue]) -> ModelInputs:
        """The inputs of another model: what was chosen here stays, as far as that one takes it.

        Raises:
            ConfigError: as `changed`.
        """
        ports = spec.choices
        kept = {
            name: value for name, value in self.chosen.items() if name in ports and not _problem(ports[name], value)
        }
        return ModelInputs(spec, model=model, chosen={**kept, **chosen})

    def fed(self, *, size_px: tuple[int, int]) -> dict[str, float | Tensor]:
        """Give what the model is fed for images of a (width, height): a number for every scalar, an array for every map.

        Scalars that are followed stand at their defaults. A map is the same array until it changes.
        """
        numbers: dict[str, float | Tensor] = {
            name: self.chosen.get(name, scalar.default) for name, scalar in self._scalars.items()
        }
        return {**numbers, **{name: self._map(name, port, size_px=size_px) for name, port in self._maps.items()}}

    def _map(self, name: str, port: MapInput, *, size_px: tuple[int, int]) -> Tensor:
        value = self.chosen.get(name, port.default)
        last = self._fitted.get(name)
        if last is None or last[0] is not value or last[1] != size_px:
            shape = port.shape(self.spec.padded_px(size_px))
            last = value, size_px, fit_map(value, shape, size_px=size_px, scale=port.scale)
            self._fitted[name] = last
        return last[2]


class StateClock:
    """Says which states of a model start anew with a frame; ``still`` is for unrelated images, with each of which all do."""

    def __init__(self, spec: ModelSpec, *, still: bool) -> None:
        self._states = spec.states
        self._still = still
        self._timestamp_ns: int | None = None

    def restarted(self, timestamp_ns: int) -> list[str]:
        """Name the states that start anew with the frame of this moment. Called once for every frame."""
        last_ns, self._timestamp_ns = self._timestamp_ns, timestamp_ns
        if last_ns is None or self._still or timestamp_ns < last_ns:
            return list(self._states)
        gap_s = (timestamp_ns - last_ns) / NS_PER_S
        return [name for name, state in self._states.items() if gap_s > state.reset_after_s]


def fit_map(value: InputValue, shape: Shape, *, size_px: tuple[int, int], scale: int) -> Tensor:
    """A map over images of ``size_px`` as the (1, C, h, w) that a model takes for the padded size, its edge repeated there.

    A finer map is averaged, a coarser one is interpolated. It lies right to within half a pixel of its own.
    """
    if not isinstance(value, np.ndarray):
        return np.full(shape, value, np.float32)
    channels, rows, columns = shape[1:]
    fitted = np.empty(shape, np.float32)
    for channel, plane in enumerate(np.broadcast_to(value, (channels, *value.shape[-2:]))):
        height, width = (
            round(a * b * scale / c) for a, b, c in zip(plane.shape, (rows, columns), size_px[::-1], strict=True)
        )
        below, right = max(0, height - plane.shape[0]), max(0, width - plane.shape[1])
        whole = cv2.copyMakeBorder(np.ascontiguousarray(plane), 0, below, 0, right, cv2.BORDER_REPLICATE)
        is_finer = whole.shape[0] >= rows and whole.shape[1] >= columns
        how = cv2.INTER_AREA if is_finer else cv2.INTER_LINEAR
        cv2.resize(whole, (columns, rows), dst=fitted[0, channel], interpolation=how)
    return fitted


def _checked(chosen: Mapping[str, InputValue], *, spec: ModelSpec, model: Path) -> dict[str, float | Tensor]:
    """The values as they are kept, each held against the contract."""
    ports = spec.choices
    checked: dict[str, float | Tensor] = {}
    for name, value in chosen.items():
        if name not in ports:
            hint = did_you_mean(name, ports) or f"; it takes {', '.join(ports) or 'none'}"
            raise ConfigError(f"{model} takes no input {name!r}{hint}")
        if problem := _problem(ports[name], value):
            raise ConfigError(f"{name} is {problem}")
        checked[name] = float(value) if np.ndim(value) == 0 else np.array(value, np.float32)
    return checked


def _problem(port: ScalarInput | MapInput, value: InputValue) -> str | None:
    """Say what is wrong with a value for an input; None where nothing is."""
    if np.asarray(value).dtype.kind not in _NUMBERS:
        return f"{value!r}; expected a number"
    is_number = np.ndim(value) == 0
    if isinstance(port, ScalarInput) and not is_number:
        return f"of shape {np.shape(value)}; expected a number"
    if isinstance(port, MapInput) and not is_number:
        shape = np.shape(value)
        if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[0] != port.channels):
            return f"of shape {shape}; expected (h, w), or ({port.channels}, h, w)"
    if np.all((port.minimum <= np.asarray(value)) & (np.asarray(value) <= port.maximum)):
        return None
    return f"{value if is_number else 'out of its range somewhere'}; expected {port.minimum} to {port.maximum}"
