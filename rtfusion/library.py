"""rtfusion from Python: fuse two arrays, a stream of arrays, or two sources; or only register one image onto the other.

::

    fused = rtfusion.fuse(visible=bgr, thermal=counts)

    with rtfusion.Fuser(calibration="rig.json") as fuser:
        for visible, thermal, stamp_ns in frames:
            fused = fuser(visible=visible, thermal=thermal, timestamp_ns=stamp_ns)

    with rtfusion.open(ir="thermal.mp4", vis="visible.mp4", calibration="rig.json") as stream:
        for frame in stream:
            print(frame.timestamp_ns, frame.image.shape)

    warped, valid = rtfusion.register(visible=bgr, thermal=counts, calibration="rig.json")

Options are the settings of a run by their names (docs/library.md). Visible images are (H, W, 3) BGR or (H, W) gray, uint8;
thermal images are (h, w), uint8 gray levels or uint16 raw counts. Anything else is a ConfigError and never guessed at.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import operator
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from rtfusion.config import ONLY_OF, Settings, Taker
from rtfusion.errors import ConfigError
from rtfusion.focus import Box
from rtfusion.fusion.base import Change, Control
from rtfusion.fusion.fuser import PairFuser, open_fuser
from rtfusion.fusion.saying import tell
from rtfusion.intents import Intents, Said
from rtfusion.pairs import PairStream
from rtfusion.pipeline import open_path
from rtfusion.registration import Calibration, Registration, load_calibration
from rtfusion.registration import register as make_registration
from rtfusion.telemetry import Telemetry
from rtfusion.text import did_you_mean
from rtfusion.types import Band, Frame, FramePair, FusedFrame, Image, Image8, InputValue, PixelFormat

AnyIntents = Intents | str | Mapping[str, float]
"""A wish for the picture; see `Fuser.change`."""
AnyCalibration = Calibration | str | Path | None
"""A calibration, or the file that holds it; None takes both cameras to have the same view."""

LARGEST_PX = 32_766
"""Longest side of an image; OpenCV's warps count pixels in 16 bits."""
KEPT_FUSERS = 4
"""Number of different sets of options that keep their engine from one call of `fuse` to the next."""
_OF_FUSING: tuple[Taker, ...] = ("denoiser", "renderer", "fuser", "wish", "focus", "gain", *ONLY_OF)


def fuse(
    *,
    visible: Image8,
    thermal: Image,
    calibration: AnyCalibration = None,
    distance_m: float | None = None,
    kelvin_per_count: float | None = None,
    inputs: Mapping[str, InputValue] | None = None,
    **options: Any,
) -> Image8:
    """Fuse one thermal image into one visible image.

    The engine is kept for the next call with the same options; nothing is remembered from one pair to the next. Calls from
    several threads with the same options wait for one another.

    Args:
        visible: (H, W, 3) BGR or (H, W) gray, uint8.
        thermal: (h, w), uint8 gray levels or uint16 raw counts; its size may differ.
        calibration: a `Calibration` or its file.
        distance_m: distance of the scene, where the calibration knows the pose of the cameras.
        kelvin_per_count: temperature of a count, for radiometric cameras, where ``units`` ask for temperatures.
        inputs: values for named inputs of the model, such as its maps: a number, or for a map an array over the picture.
        options: ``model``, ``fuser``, ``enhance``, ``precision`` and the other settings of fusing by their names.

    Returns:
        (H, W, 3) BGR uint8, on the visible grid unless ``grid`` says otherwise; the caller's own.

    Raises:
        ConfigError: an image or an option is not what it should be.
        CalibrationError, ModelError, EngineError: the calibration, the model or the engine cannot be used.
    """
    pair = _pair(visible=visible, thermal=thermal, kelvin_per_count=kelvin_per_count)
    _refuse_units_of_gray(pair, units=options.get("units"))
    opened = {"calibration": calibration, "distance_m": distance_m, "kelvin_per_count": kelvin_per_count}
    return _KEPT.fuse(pair, **opened, inputs=inputs or {}, **options).image


class _Asked(ABC):
    """What `Fuser` and `FusedStream` can be asked while they go on. Any thread may ask."""

    @abstractmethod
    def _opened(self) -> PairFuser[Any]:
        """The fuser, if it is not closed."""

    def change(
        self,
        *,
        calibration: AnyCalibration = None,
        model: str | Path | None = None,
        precision: str | None = None,
        look: str | None = None,
        palette: str | None = None,
        intents: AnyIntents | None = None,
        regions: Sequence[Box] | None = None,
        **inputs: InputValue,
    ) -> None:
        """Use this from the next pair on; what is not named stays.

        ``regions`` are rectangles (`rtfusion.Box`) in which something is, instead of those from before; none takes them away.

        ``intents`` are a whole wish, a value or a text such as ``"people=0.8"`` or ``"night-drive"``, or a mapping of new values
        for the axes that it names; the picture glides there in 8 frames.

        Raises:
            ConfigError: there is no such input, look, palette or axis, a value is out of range, or this fuser is closed. Nothing
                was changed.
            CalibrationError, ModelError, EngineError: as `fuse`. Nothing was changed.
        """
        self._opened().change(
            Change(
                calibration=_calibration(calibration),
                model=None if model is None else _path(model, what="model"),
                precision=precision,
                look=look,
                palette=palette,
                intents=_intents(intents),
                regions=regions,
                inputs=inputs,
            )
        )

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        """Say what was found in the fused frame of this stamp: it is brought out as long as it is fresh.

        Raises:
            ConfigError: there are more than 64 boxes, or this fuser takes none.
        """
        self._opened().report(boxes, timestamp_ns=timestamp_ns)

    def say(self, text: str) -> Said:
        """Ask in a sentence for what the picture is to show, and be told what it was taken for; what is refused changes nothing.

        Raises:
            ConfigError: it is no text or too long, the fuser takes no intents, or this fuser is closed.
        """
        return tell(self._opened(), _sentence(text))


class Fuser(_Asked):
    """Fuses the pairs of a stream one after the other, with memory: denoising, gain control and network follow the scene.

    A context manager. One thread calls it; any thread may call `change`, `report` and `say`.
    """

    def __init__(
        self,
        *,
        calibration: AnyCalibration = None,
        distance_m: float | None = None,
        kelvin_per_count: float | None = None,
        inputs: Mapping[str, InputValue] | None = None,
        still: bool = False,
        **options: Any,
    ) -> None:
        """Open the engine; the arguments are those of `fuse`, and ``still`` says that the pairs are unrelated images.

        Raises:
            ConfigError, CalibrationError, ModelError, EngineError: as `fuse`.
        """
        self._kelvin_per_count = kelvin_per_count
        self._sequence = itertools.count()
        self._units = options.get("units")
        self._fuser: PairFuser[Any] | None = _open_fuser(
            calibration=calibration,
            distance_m=distance_m,
            kelvin_per_count=kelvin_per_count,
            inputs=inputs or {},
            still=still,
            **options,
        )

    def __call__(self, *, visible: Image8, thermal: Image, timestamp_ns: int | None = None) -> Image8:
        """Fuse the next pair and give its (H, W, 3) BGR image; see `frame`."""
        return self.frame(visible=visible, thermal=thermal, timestamp_ns=timestamp_ns).image

    def frame(self, *, visible: Image8, thermal: Image, timestamp_ns: int | None = None) -> FusedFrame:
        """Fuse the next pair: the image, the registered inputs, the state of the gain control and the readings.

        ``timestamp_ns`` says when it was taken, on any clock that rises; None takes the monotonic clock of this moment.

        Raises:
            ConfigError: an image is not what it should be, or this fuser is closed.
            CalibrationError: a size came that the calibration is not for.
            EngineError: the engine failed.
        """
        pair = _pair(
            visible=visible,
            thermal=thermal,
            kelvin_per_count=self._kelvin_per_count,
            timestamp_ns=time.monotonic_ns() if timestamp_ns is None else _stamp_ns(timestamp_ns),
            sequence=next(self._sequence),
        )
        _refuse_units_of_gray(pair, units=self._units)
        return self._opened()(pair)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, and what could not be done as it was asked for: sentences for a person, each once."""
        return self._opened().notes

    @property
    def inputs(self) -> Mapping[str, InputValue]:
        """The inputs of the model that may be changed, such as ``enhance``, with their values."""
        return self._opened().inputs

    def close(self) -> None:
        """Release the engine. Idempotent."""
        fuser, self._fuser = self._fuser, None
        if fuser is not None:
            fuser.close()

    def __enter__(self) -> Fuser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> PairFuser[Any]:
        if self._fuser is None:
            raise ConfigError("this fuser was closed; make another one")
        return self._fuser


def open(
    *,
    ir: str | Path,
    vis: str | Path,
    calibration: AnyCalibration = None,
    distance_m: float | None = None,
    **options: Any,
) -> FusedStream:
    """Open two sources, live or recorded, for a loop over their fused frames.

    Args:
        ir: the thermal source: a file, a folder of images, a camera, or a URI.
        vis: the visible source.
        calibration: a `Calibration` or its file.
        distance_m: distance of the scene, where the calibration knows the pose of the cameras.
        options: the settings of reading, pairing and fusing by their names, and ``max_frames``.

    Raises:
        ConfigError: an option is wrong, or names an output: frames go to the loop, and `build` makes runs with outputs.
        CaptureError: a source cannot be opened. Nothing stays open.
        CalibrationError, ModelError, EngineError: as `fuse`.
    """
    loaded = _calibration(calibration, distance_m=distance_m)
    settings = _settings(
        {**options, "ir": ir, "vis": vis}, takers=("pairs", *_OF_FUSING), calibrated=loaded is not None
    )
    pairs, fuser = open_path(settings, calibration=loaded)
    return FusedStream(pairs=pairs, fuser=fuser)


class FusedStream(_Asked):
    """Fused frames of two sources, for one ``for`` loop; a context manager. Made by `open`.

    A ``for`` loop that ends, by ``break`` too, closes the stream. Of cameras the loop gets the newest pair; what it was too slow
    for is counted in the drops of `pairs`.
    """

    def __init__(self, *, pairs: PairStream, fuser: PairFuser[Any]) -> None:
        """Take an open stream of pairs and a fuser, which are closed with this."""
        self.pairs = pairs
        """Both streams and their counters."""
        self._fuser = fuser

    @property
    def control(self) -> Control:
        """The control of the fuser while it runs. Any thread may use it."""
        return self._fuser

    def _opened(self) -> PairFuser[Any]:
        return self._fuser

    def __iter__(self) -> Iterator[FusedFrame]:
        """Fuse pair after pair.

        Raises:
            StreamLost: a source broke.
            EngineError: the engine failed.
        """
        with self:
            for pair in self.pairs:
                frame = self._fuser(pair)
                self.pairs.telemetry.fused_one()
                yield frame

    def close(self) -> None:
        """End every thread, and release the sources and the engine. Idempotent."""
        self.pairs.close()
        self._fuser.close()

    def __enter__(self) -> FusedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Registered(NamedTuple):
    """A thermal image on the visible grid."""

    thermal: Image
    """(H, W), of the type that came."""
    valid: Image8
    """(H, W) uint8, 255 where the thermal camera sees, 0 where the edge of its image was repeated."""


def register(
    *, visible: Image8, thermal: Image, calibration: AnyCalibration = None, distance_m: float | None = None
) -> Registered:
    """Bring a thermal image onto the grid of a visible one.

    Without a calibration both cameras are taken to have the same view, and only the sizes are made equal.

    Args:
        visible: (H, W, 3) or (H, W) uint8, of which only the size counts.
        thermal: (h, w), uint8 or uint16.
        calibration: a `Calibration` or its file.
        distance_m: distance of the scene, where the calibration knows the pose of the cameras.

    Raises:
        ConfigError: an image is not what it should be.
        CalibrationError: the calibration cannot be read, or is for cameras of another aspect.
    """
    pair = _pair(visible=visible, thermal=thermal)
    used = _calibration(calibration, distance_m=distance_m)
    registration = _kept_registration(
        None if used is None else used.to_json(),
        visible_size_px=pair.visible.size_px,
        thermal_size_px=pair.thermal.size_px,
    )
    width, height = registration.size_px
    valid = np.full((height, width), 255, np.uint8) if registration.valid is None else registration.valid.copy()
    warped = registration.thermal(pair.thermal.image)
    return Registered(thermal=warped.copy() if registration.thermal.is_identity else warped, valid=valid)


# -- what is kept between calls -------------------------------------------------------------------------------------


class _KeptFusers:
    """The fusers of the last few sets of options, so that `fuse` opens an engine once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, tuple[threading.Lock, PairFuser[Any]]] = {}
        self._of_parents: list[object] = []

    def forget(self) -> None:
        """Begin anew in a process that was forked: locks may be held there by threads that it does not have."""
        self._of_parents.append(self._kept)  # an engine that is let go would wait for its threads
        self._lock, self._kept = threading.Lock(), {}

    def fuse(self, pair: FramePair, **options: Any) -> FusedFrame:
        key = tuple((name, _identity(options[name])) for name in sorted(options))
        with self._lock:
            lock, fuser = self._kept.pop(key) if key in self._kept else (threading.Lock(), _open_fuser(**options))
            self._kept[key] = lock, fuser  # the one used last stands last
            unused = [self._kept.pop(old) for old in [*self._kept][:-KEPT_FUSERS]]
            lock.acquire()  # before another thread can take it for unused
        try:
            return fuser(pair)
        finally:
            lock.release()
            for its_lock, old in unused:
                with its_lock:
                    old.close()


_KEPT = _KeptFusers()
os.register_at_fork(after_in_child=_KEPT.forget)


@functools.lru_cache(maxsize=8)
def _kept_registration(
    calibration_json: str | None, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int]
) -> Registration:
    calibration = None if calibration_json is None else Calibration.from_json(calibration_json)
    return make_registration(visible_size_px=visible_size_px, thermal_size_px=thermal_size_px, calibration=calibration)


def _identity(value: Any) -> object:
    """Identify an option's value among the kept fusers: a file by what it holds now, a calibration by its id."""
    if isinstance(value, Calibration):
        return value.id
    if isinstance(value, Mapping):
        return tuple((name, _identity(value[name])) for name in sorted(value))
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, (str, Path)) and os.path.isfile(value):  # noqa: PTH113 - False for a name that no file can have
        status = Path(value).stat()
        return str(value), status.st_mtime_ns, status.st_size
    return repr(value)


def _open_fuser(
    *,
    calibration: AnyCalibration,
    distance_m: float | None,
    kelvin_per_count: float | None,
    inputs: Mapping[str, InputValue],
    still: bool = True,
    **options: Any,
) -> PairFuser[Any]:
    loaded = _calibration(calibration, distance_m=distance_m)
    settings = _settings_of_arrays(options, kelvin_per_count=kelvin_per_count, calibrated=loaded is not None)
    fuser = open_fuser(settings, telemetry=Telemetry(), calibration=loaded, still=still, thermal_still=still)
    try:
        if inputs:
            fuser.change(Change(inputs=inputs))
    except BaseException:
        fuser.close()
        raise
    return fuser


# -- what people give -----------------------------------------------------------------------------------------------


def _calibration(given: AnyCalibration, *, distance_m: float | None = None) -> Calibration | None:
    if given is not None and not isinstance(given, Calibration):
        given = _path(given, what="calibration")
    return load_calibration(given, distance_m=distance_m)


def _intents(given: Any) -> AnyIntents | None:
    if given is not None and not isinstance(given, Intents | str | Mapping):
        raise ConfigError(f"intents are of type {type(given).__name__}; expected a text, a mapping or Intents")
    return given


def _sentence(given: Any) -> str:
    if not isinstance(given, str):
        raise ConfigError(f"a sentence is of type {type(given).__name__}; expected text")
    return given


def _path(given: Any, *, what: str) -> Path:
    if not isinstance(given, str | Path):
        raise ConfigError(f"{what} is of type {type(given).__name__}; expected a path")
    return Path(given)


def _stamp_ns(given: Any) -> int:
    try:
        return operator.index(given)
    except TypeError:
        raise ConfigError(f"timestamp_ns is {given!r}; expected nanoseconds, a whole number") from None


def _refuse_units_of_gray(pair: FramePair, *, units: object) -> None:
    if units is not None and pair.thermal.pixel_format is not PixelFormat.GRAY16:
        raise ConfigError(
            f"units is {units}; thermal is uint8 gray levels, of which nothing can be measured: give raw counts"
        )


def _settings_of_arrays(options: Mapping[str, Any], *, kelvin_per_count: float | None, calibrated: bool) -> Settings:
    if kelvin_per_count is not None and not (
        isinstance(kelvin_per_count, int | float) and 0 < kelvin_per_count < math.inf
    ):
        raise ConfigError(f"kelvin_per_count is {kelvin_per_count!r}; expected a number above 0, such as 0.01")
    settings = _settings(options, takers=_OF_FUSING, calibrated=calibrated)
    if settings.units not in (None, "counts") and kelvin_per_count is None:
        raise ConfigError(
            f"units is {settings.units}; an array has no temperature without kelvin_per_count=, or use counts"
        )
    return settings


def _settings(options: Mapping[str, Any], *, takers: tuple[Taker, ...], calibrated: bool) -> Settings:
    declared = Settings.declared()
    allowed = {name for name, setting in declared.items() if setting.taker in takers}
    for name in options:
        if name in declared and declared[name].taker == "run":
            raise ConfigError(f"{name} is a setting of the command rtfusion run, which alone does it")
        if name in declared and name not in allowed:
            raise ConfigError(f"{name} is a setting of a whole run; use it with rtfusion.build(rtfusion.Settings(...))")
        if name not in allowed:
            raise ConfigError(f"there is no option {name!r}{did_you_mean(name, allowed)}")
    # the calibration is given as a value: settings know alone that there is one, as some of them need
    return Settings(**options, **({"calibration": Path("calibration")} if calibrated else {}))


def _pair(
    *,
    visible: Image8,
    thermal: Image,
    kelvin_per_count: float | None = None,
    timestamp_ns: int = 0,
    sequence: int = 0,
) -> FramePair:
    def frame(given: Image, band: Band, *, kelvin_per_count: float | None = None) -> Frame:
        image = _image(given, band)
        return Frame(
            image=image,
            pixel_format=_pixel_format(image),
            band=band,
            timestamp_ns=timestamp_ns,
            sequence=sequence,
            received_ns=timestamp_ns,
            kelvin_per_count=kelvin_per_count,
        )

    return FramePair(
        visible=frame(visible, Band.VISIBLE),
        thermal=frame(thermal, Band.THERMAL, kelvin_per_count=kelvin_per_count),
        sequence=sequence,
    )


def _image(image: Any, band: Band) -> Image:
    """The array as the fusers take it: without gaps, one channel as two dimensions.

    Raises:
        ConfigError: it is no image of that band.
    """
    if isinstance(image, np.ma.MaskedArray):
        raise ConfigError(f"{band.value} is a masked array; say what stands for its gaps, as in image.filled(0)")
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # such as a tensor on a GPU, or rows of unequal length
        raise ConfigError(f"{band.value} is no array ({error})") from None
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    is_thermal = band is Band.THERMAL
    fits_shape = (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and not is_thermal)) and array.size > 0
    if not fits_shape or array.dtype not in ((np.uint8, np.uint16) if is_thermal else (np.uint8,)):
        wanted = (
            "(h, w) uint8 gray levels or uint16 raw counts" if is_thermal else "(H, W, 3) BGR or (H, W) gray, uint8"
        )
        raise ConfigError(f"{band.value} is {array.shape} {array.dtype}; expected {wanted}{_hint(array, band)}")
    if max(array.shape) > LARGEST_PX:
        raise ConfigError(f"{band.value} is {array.shape}; expected at most {LARGEST_PX} pixels a side")
    return np.ascontiguousarray(array)


def _hint(array: Any, band: Band) -> str:
    if array.ndim == 3 and band is Band.THERMAL:
        return "; of a thermal picture with three equal channels give one, as in thermal[..., 0]"
    if array.ndim == 3 and array.shape[2] == 4:
        return "; leave out the fourth channel, as in visible[..., :3]"
    if array.dtype == np.uint16 and band is Band.VISIBLE:
        return "; are visible and thermal exchanged?"
    return ""


def _pixel_format(image: Image) -> PixelFormat:
    if image.ndim == 3:
        return PixelFormat.BGR8
    return PixelFormat.GRAY16 if image.dtype == np.uint16 else PixelFormat.GRAY8
