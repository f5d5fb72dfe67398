"""Validated settings: defaults < file < RTFUSION_* environment < flags; an unknown key is an error with a suggestion."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from rtfusion.errors import ConfigError
from rtfusion.files import expanded
from rtfusion.models.shipping import is_name, shipped_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "RTFUSION_"
FILE_NAME = "rtfusion.toml"
NOT_SETTINGS = frozenset(
    {
        "RTFUSION_CONFIG",
        "RTFUSION_WEB_TOKEN",
        "RTFUSION_SHARED",
        "RTFUSION_REQUIRE_CUDA",
        "RTFUSION_REQUIRE_SHARED",
        "RTFUSION_BIN",
    }
)
"""Variables of this prefix that choose the file, hold the token of the browser view, or belong to tests and scripts."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Everything a run needs to know.

    Each field is the flag ``--like-this``, the TOML key ``like_this`` and the variable ``RTFUSION_LIKE_THIS``; the text
    below it is its help.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    ir: str | None = None
    """Thermal camera or recording: a video file, a folder of images, /dev/videoN, usb:VID:PID, rtsp://, http://, udp:// or
    synthetic:"""
    vis: str | None = None
    """Visible camera or recording, of the same kinds."""
    loop: Count = 1
    """Play recordings this many times."""
    pace: bool = False
    """Play recordings at their own speed instead of as fast as possible."""

    calibration: Path | None = None
    """Calibration file of the two cameras. Without one, both are taken to have the same view."""
    distance_m: Annotated[float, Field(gt=0)] | None = None
    """Distance of the scene in meters, where the calibration knows the pose of the cameras."""
    grid: Literal["visible", "thermal"] = "visible"
    """Camera whose pixels the fused image has."""
    refine: bool = False
    """Follow slow drift of the registration while running, within bounds."""

    fuser: Literal["average", "maximum", "pyramid", "overlay", "learned"] = "learned"
    """How the two images become one."""
    model: Path = Path("small")
    """Model of the learned fuser: one that comes with rtfusion, by its name, or an ONNX file."""
    precision: Literal["auto", "f32", "f16", "int8"] = "auto"
    """Of a model that comes with rtfusion: for OpenVINO f16 where the processor computes in it, else int8; else f32."""
    enhance: Fraction | None = None
    """Dial of the learned fuser, from 0, faithful, to 1, enhanced. Without it, the model's own default."""
    engine: Literal[
        "auto",
        "openvino",
        "onnxruntime",
        "onnxruntime:cuda",
        "onnxruntime:tensorrt",
        "pytorch",
        "pytorch:cuda",
        "tensorrt",
    ] = "auto"
    """What runs the model. With tensorrt and pytorch:cuda, all of the fusing is done on the GPU."""
    threads: Count | None = None
    """Threads of the engine. Without it, the engine decides."""
    look: Literal["eye", "detector"] = "eye"
    """Whom the fused image is for: an eye, or a detector, which finds more people in gray with the brightness of the mean."""
    palette: Literal["inferno", "ironbow", "white-hot", "black-hot", "rainbow"] = "inferno"
    """Colors of the overlay."""
    threshold: Fraction = 0.6
    """The overlay begins at this level of the thermal image, 0 to 1."""
    opacity: Fraction = 0.7
    """Opacity of the overlay where it is hottest, 0 to 1."""
    gain: Literal["percentile", "plateau", "fixed"] = "percentile"
    """How 16-bit thermal counts become gray levels: following the scene, with equalized contrast, or between fixed ends."""
    gain_low: float | None = None
    """Counts shown black with gain fixed."""
    gain_high: float | None = None
    """Counts shown white with gain fixed."""
    polarity: Literal["white-hot", "black-hot"] = "white-hot"
    """Whether warm is bright or dark."""
    units: Literal["celsius", "fahrenheit", "kelvin", "counts"] | None = None
    """Measure and draw the middle, the coldest and the warmest point. Temperatures need a radiometric camera."""
    on_loss: Literal["passthrough", "hold", "stop"] = "passthrough"
    """While one camera is lost, show the other one alone, fuse with the last frame of the lost one, or end the run."""

    pair: Literal["once", "hold"] = "once"
    """Each frame used once, or the nearest thermal frame held for every visible one."""
    tolerance_ms: Annotated[float, Field(ge=0)] | None = None
    """Frames further apart than this are not a pair. Without it, 0.6 periods of the faster stream (hold: 2 thermal periods)."""
    thermal_delay_ms: float | None = None
    """Known delay of the thermal stamps. Without it, that of the calibration, else 0."""

    sink: tuple[str, ...] = ()
    """Output: a video file, images:DIR, zmq:tcp://127.0.0.1:5555, web://127.0.0.1:8080, window: or null: (repeatable)."""
    overwrite: bool = False
    """Replace outputs that exist."""
    max_frames: Count | None = None
    """Stop after this many fused frames."""
    stats_json: Path | None = None
    """Write the statistics of the run to this file."""

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.fuser == "learned" and is_name(self.model) and str(self.model) not in shipped_names():
            raise _conflict(
                f"no model named {self.model} comes with rtfusion (there is: {_shipped_names()}); a file is named with "
                "its ending, as in model.onnx",
                "model",
            )
        if self.enhance is not None and self.fuser != "learned":
            raise _conflict(
                f"enhance is a dial of the learned fuser, and the fuser is {self.fuser}", "enhance", "fuser"
            )
        if self.look == "detector" and self.fuser == "overlay":
            raise _conflict(
                "the look for detectors is without colors, and the overlay is made of them; choose another fuser",
                "look",
                "fuser",
            )
        if self.distance_m is not None and self.calibration is None:
            raise _conflict("distance_m needs a calibration to apply to; name one with --calibration", "distance_m")
        if self.polarity == "black-hot" and self.fuser == "overlay":
            raise _conflict(
                "polarity is for fusers without colors, and the fuser is overlay; use palette black-hot",
                "polarity",
                "fuser",
            )
        if self.gain == "fixed":
            self._check_fixed_gain()
        elif "gain" not in self.model_fields_set and (self.gain_low is not None or self.gain_high is not None):
            raise _conflict("gain_low and gain_high need gain fixed; add --gain fixed", "gain_low", "gain_high")
        return self

    def _check_fixed_gain(self) -> None:
        if self.gain_low is None or self.gain_high is None:
            raise _conflict(
                "gain fixed needs both ends, in counts; give --gain-low and --gain-high",
                "gain",
                "gain_low",
                "gain_high",
            )
        if self.gain_low >= self.gain_high:
            raise _conflict(
                f"gain_low is {self.gain_low:g} and gain_high {self.gain_high:g}; gain_low has to be the smaller one",
                "gain_low",
                "gain_high",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """Settings and where each of them comes from."""

    settings: Settings
    origins: dict[str, str]
    """By field: ``default``, ``file rtfusion.toml``, ``environment RTFUSION_PAIR`` or ``flag --pair``."""
    file: Path | None
    """The settings file that was read, if any."""


def load(flags: Mapping[str, object], *, file: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Merge the defaults, a settings file, the environment and the flags; the later of them wins.

    Args:
        flags: Values by field name, as text or in the type of the field. None means not given.
        file: The settings file; without it ``RTFUSION_CONFIG``, ``./rtfusion.toml`` or
            ``$XDG_CONFIG_HOME/rtfusion/config.toml``, the first that there is. Relative paths in it are relative to it.
        environ: The environment, as ``os.environ``. An empty variable counts as not set.

    Raises:
        ConfigError: an unknown key or variable, a value that is not legal, a file that cannot be read.
    """
    path = _find_file(file, environ)
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for layer in (_from_file(path), _from_environment(environ), _from_flags(flags)):
        for name, value, origin in layer:
            values[name] = _checked(name, value, origin)
            origins[name] = origin
    try:
        return Loaded(settings=Settings(**values), origins=origins, file=path)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError(_conflict_sentence(error, origins)) from None


def _find_file(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = file or (Path(environ["RTFUSION_CONFIG"]) if environ.get("RTFUSION_CONFIG") else None)
    if named is not None:
        return named
    home = expanded(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")) / ".config")
    return next((path for path in (Path(FILE_NAME), home / "rtfusion" / "config.toml") if path.is_file()), None)


def _from_file(path: Path | None) -> Iterator[tuple[str, object, str]]:
    if path is None:
        return
    origin = f"file {path}"
    for name, value in _read_toml(path).items():
        if name not in Settings.model_fields:
            hint = _suggestion(name, Settings.model_fields)
            raise ConfigError(f"the settings file {path} has the unknown key {name}{hint}")
        yield name, _relative_to(path.parent, name, value), origin


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, a number too long, nested too deep
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from error


def _relative_to(folder: Path, name: str, value: object) -> object:
    """A value of a file in the type of its field, its relative paths taken from the folder of the file."""
    if name == "sink" and isinstance(value, list):
        return tuple(_relative_uri(folder, item) if isinstance(item, str) else item for item in value)
    if name in ("ir", "vis") and isinstance(value, str):
        return _relative_uri(folder, value)
    if name == "model" and isinstance(value, str) and is_name(Path(value)):
        return Path(value)
    if name in ("calibration", "model", "stats_json") and isinstance(value, str):
        return folder / expanded(value)
    return value


def _relative_uri(folder: Path, uri: str) -> str:
    """A bare path or the path in a URI that names a file, taken from the folder; any other URI as it is."""
    match = re.match(r"[a-z][a-z0-9+.-]+:", uri)
    scheme = "" if match is None else match[0]
    path = uri.removeprefix(scheme)
    if scheme not in ("", "file:", "video:", "images:") or path.startswith("/") or not path:
        return uri
    return f"{scheme}{folder / expanded(path)}"


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or not text:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            hint = _suggestion(name, Settings.model_fields, form=lambda key: PREFIX + key.upper())
            raise ConfigError(f"the environment variable {variable} is not a setting of rtfusion{hint}")
        yield name, _split_words(text, variable) if name == "sink" else text, f"environment {variable}"


def _split_words(text: str, variable: str) -> tuple[str, ...]:
    """Several outputs in one variable, separated and quoted as in a shell."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"cannot split the environment variable {variable} into outputs: {error}") from error


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for name, value in flags.items():
        if name not in Settings.model_fields:
            raise ConfigError(f"unknown setting {name}{_suggestion(name, Settings.model_fields)}")
        if value is not None:
            yield name, value, f"flag --{name.replace('_', '-')}"


def _checked(name: str, value: object, origin: str) -> object:
    """The value in the type of its field.

    Raises:
        ConfigError: it is not legal.
    """
    field = Settings.model_fields[name]
    annotation: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[object] = TypeAdapter(annotation, config=_STRICT)
    is_text = isinstance(value, str) and not origin.startswith("file")
    try:
        return adapter.validate_strings(value) if is_text else adapter.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name} is {_shown(value)} ({origin}); {_expected(error, value)}") from None


def _expected(error: ValidationError, value: object) -> str:
    first = error.errors()[0]
    words = _WORDS.get(first["type"].partition("_")[0])
    if words is None:
        words = first["msg"].removeprefix("Input should be ").replace("'", "")
    choices = first.get("ctx", {}).get("expected", "").replace("'", "").replace(" or ", ", ").split(", ")
    return f"it should be {words}{_suggestion(str(value), choices)}"


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "is": "a path",
    "tuple": "a list of texts",
}
"""What is expected, by the first word of the type of pydantic's error; where it is not here, pydantic says it well."""


def _shown(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


def _suggestion(wrong: str, known: Iterable[str], *, form: Callable[[str], str] = str) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {form(close[0])}?" if close else ""


def _shipped_names() -> str:
    return ", ".join(shipped_names()) or "none in this version"


def _conflict(message: str, *names: str) -> PydanticCustomError:
    # The name of a file need not be UTF-8, and pydantic takes no other text.
    shown = message.encode(errors="backslashreplace").decode()
    return PydanticCustomError("conflict", "{message}", {"message": shown, "names": names})


def _conflict_sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    context: dict[str, Any] = error.errors()[0]["ctx"]
    given = [f"{name} from {origins[name]}" for name in context["names"] if origins[name] != "default"]
    return f"{context['message']} ({', '.join(given)})"
