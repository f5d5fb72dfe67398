"""Validated settings: defaults < file < RTFUSION_* environment < flags; an unknown key is an error with a suggestion."""

from __future__ import annotations

import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_serializer

from rtfusion.errors import ConfigError
from rtfusion.files import expanded
from rtfusion.intents import NEUTRAL, Intents, Said, say, with_own
from rtfusion.models.shipping import is_name, shipped_names
from rtfusion.portable import user_id
from rtfusion.redaction import without_credentials
from rtfusion.text import did_you_mean, is_loopback

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "RTFUSION_"
INTENTS_TABLE = "intents"
"""The table of a settings file in which intents and presets stand."""
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

ON_DEVICE = ("tensorrt", "pytorch:cuda")
"""The engines with which all of the fusing is done on the GPU, by a renderer that has not all settings of the host's."""

Look = Literal["eye", "detector"]
LOOKS: tuple[Look, ...] = get_args(Look)
PLAIN = ("average", "maximum")
"""The fusers that stay the arithmetic of what the cameras give: nothing is denoised for them, and no color is judged."""
PAINTERS = ("overlay", "edges")
"""The fusers that paint the thermal image in a palette."""
WISHED = ("pyramid", "learned")
"""The fusers whose picture can be asked for by intents."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]

Group = Literal["Input", "Pairing", "Registration", "Fusion", "Output", "Run"]
Taker = Literal[
    "pairs",
    "registration",
    "fuser",
    "wish",
    "focus",
    "denoiser",
    "renderer",
    "painting",
    "overlay",
    "gain",
    "learned",
    "sinks",
    "run",
]
Decider = Literal["batch", "replay"]
ONLY_OF: Mapping[Taker, tuple[str, ...]] = {
    "painting": PAINTERS,
    "overlay": ("overlay",),
    "learned": ("learned",),
}
"""Takers that not every fuser has, and the fusers that have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The part of a field's declaration that is not its type, default or help; all that speaks of settings is derived from it."""

    group: Group
    """Panel of the help in which the flag stands."""
    metavar: str = ""
    """Word that stands for the value in the help. A switch has none."""
    taker: Taker
    """Part of a run that takes the value; see `Settings.arguments`."""
    argument: str | None = None
    """Name of the taker's argument, where it is not the name of the field."""
    converted: Callable[[Any], object] | None = None
    """Makes the taker's argument of the value, where they differ."""
    path: Literal["file", "model", "uri"] | None = None
    """Kind of path that the value is or contains: a file, a file or the name of a shipped model, or a source or an output."""
    replayed: bool = False
    """True where a replay takes over the recorded value, unless a flag gives another one."""
    decided_by: tuple[Decider, ...] = ()
    """Commands that decide the value themselves, and so have no flag for it."""


_input = partial(Setting, group="Input", taker="pairs")
_pairing = partial(Setting, group="Pairing", taker="pairs")
_registration = partial(Setting, group="Registration")
_fusion = partial(Setting, group="Fusion", replayed=True)
_output = partial(Setting, group="Output", decided_by=("batch",))
_run = partial(Setting, group="Run")


class Settings(BaseModel):
    """Everything a run needs to know.

    Each field is the flag ``--like-this``, the TOML key ``like_this`` and the variable ``RTFUSION_LIKE_THIS``; the text
    below it is its help. The fields stand in the order of the help.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    ir: Annotated[str | None, _input(metavar="SRC", path="uri", decided_by=("batch", "replay"))] = None
    """Thermal camera or recording: a video file, a folder of images, /dev/videoN, usb:VID:PID, rtsp://, http://, udp:// or
    synthetic:"""
    vis: Annotated[str | None, _input(metavar="SRC", path="uri", decided_by=("batch", "replay"))] = None
    """Visible camera or recording, of the same kinds."""
    ir_options: Annotated[str | None, _input(metavar="OPTIONS", decided_by=("replay",))] = None
    """What puts the thermal source right, such as "rotate=180&crop=0,0,640,480", as if it stood in its URI."""
    vis_options: Annotated[str | None, _input(metavar="OPTIONS", decided_by=("replay",))] = None
    """The same of the visible source."""
    loop: Annotated[Count, _input(metavar="N", decided_by=("batch", "replay"))] = 1
    """Play recordings this many times."""
    pace: Annotated[bool, _input(decided_by=("batch",))] = False
    """Play recordings at their own speed instead of as fast as possible."""

    pair: Annotated[Literal["once", "hold"], _pairing(metavar="NAME", decided_by=("replay",))] = "once"
    """Use each frame once, or hold the nearest thermal frame for every visible one."""
    tolerance_ms: Annotated[Annotated[float, Field(ge=0)] | None, _pairing(metavar="MS", decided_by=("replay",))] = None
    """Frames further apart than this are not a pair. Without it, 0.6 periods of the faster stream (hold: 2 thermal periods)."""
    thermal_delay_ms: Annotated[float | None, _pairing(metavar="MS")] = None
    """Known delay of the thermal stamps. Without it, that of the calibration, else 0."""

    calibration: Annotated[Path | None, _registration(metavar="FILE", taker="registration", path="file")] = None
    """Calibration file of the two cameras. Without one, both are taken to have the same view."""
    distance_m: Annotated[
        Annotated[float, Field(gt=0)] | None, _registration(metavar="M", taker="registration", replayed=True)
    ] = None
    """Distance of the scene in meters, where the calibration knows the pose of the cameras."""
    auto_register: Annotated[bool, _registration(taker="run", decided_by=("batch",))] = False
    """Without a calibration, estimate one from what the first two seconds show, as calibrate scene does, and use it from then on.
    It is the command that does so."""
    grid: Annotated[Literal["visible", "thermal"], _registration(metavar="NAME", taker="renderer", replayed=True)] = (
        "visible"
    )
    """Camera whose pixels the fused image has."""
    upsample: Annotated[Literal["auto", "off"], _registration(metavar="NAME", taker="renderer", replayed=True)] = "auto"
    """Where the grid magnifies the thermal picture, denoise and sharpen it first, or interpolate it as it is."""
    refine: Annotated[bool, _registration(taker="fuser", replayed=True)] = False
    """Follow slow drift of the registration while running, within bounds."""
    parallax: Annotated[
        Literal["off", "layers", "dense"], _registration(metavar="NAME", taker="fuser", replayed=True)
    ] = "off"
    """Bring to its place what is nearer or farther than the registration is set for: in a few layers of depth, or, where the
    calibration knows the pose of the cameras, at every distance."""

    fuser: Annotated[
        Literal["average", "maximum", "pyramid", "overlay", "edges", "learned"],
        _fusion(metavar="NAME", taker="renderer", argument="name"),
    ] = "learned"
    """Method that makes one image of the two."""
    look: Annotated[Look, _fusion(metavar="NAME", taker="renderer")] = "eye"
    """Make the fused image for an eye, or for a detector, which finds more people in gray with the brightness of the mean."""
    denoise: Annotated[Literal["auto", "off"], _fusion(metavar="NAME", taker="denoiser")] = "auto"
    """Take noise, stripes and the blocks of strong compression out before fusing, where they are; average and maximum get all as
    it is."""
    color: Annotated[Literal["seen", "everywhere"], _fusion(metavar="NAME", taker="renderer")] = "seen"
    """Color the fused image where the visible camera sees something; where it is blind, in smoke and darkness, show it gray;
    or color it everywhere. Average and maximum keep all color."""
    palette: Annotated[
        Literal["inferno", "ironbow", "white-hot", "black-hot", "rainbow"], _fusion(metavar="NAME", taker="painting")
    ] = "inferno"
    """Colors of the fusers that paint, overlay and edges."""
    threshold: Annotated[Fraction, _fusion(metavar="0..1", taker="overlay")] = 0.6
    """The overlay begins at this level of the thermal image, 0 to 1."""
    opacity: Annotated[Fraction, _fusion(metavar="0..1", taker="overlay")] = 0.7
    """Opacity of the overlay where it is hottest, 0 to 1."""
    gain: Annotated[
        Literal["scene", "percentile", "plateau", "fixed"], _fusion(metavar="NAME", taker="gain", argument="mode")
    ] = "scene"
    """Turn 16-bit thermal counts into gray levels: by what the scene consists of, as far as its noise allows; linear between its
    coldest and its warmest part; the same, equalized; or linear between fixed ends."""
    gain_low: Annotated[float | None, _fusion(metavar="COUNTS", taker="gain", argument="low_counts")] = None
    """Counts shown black with gain fixed."""
    gain_high: Annotated[float | None, _fusion(metavar="COUNTS", taker="gain", argument="high_counts")] = None
    """Counts shown white with gain fixed."""
    polarity: Annotated[
        Literal["white-hot", "black-hot"],
        _fusion(metavar="NAME", taker="gain", argument="black_hot", converted=lambda polarity: polarity == "black-hot"),
    ] = "white-hot"
    """Show warm things bright or dark."""
    intent: Annotated[str | None, _fusion(metavar="INTENTS", taker="wish", replayed=False)] = None
    """What the picture is to show, as axes from -1 to 1, people=0.8,color=-0.3, or presets by name, such as night-drive. At 0 on
    every axis it is as it is. It can be changed while a run goes on, and without this a replay follows what was recorded."""
    say: Annotated[str | None, _fusion(metavar="TEXT", taker="wish", replayed=False)] = None
    """The same in a sentence, in English or Chinese, such as "make people stand out"; a step from what intent says."""
    preset: Annotated[tuple[str, ...], _fusion(metavar="TEXT", taker="wish")] = ()
    """A preset of your own, NAME: people=0.8,color=-0.3 (repeatable). In a settings file they stand in the table intents."""
    focus_head: Annotated[bool, _fusion(taker="focus", argument="head")] = True
    """Find people and vehicles by the small network that comes with rtfusion, where an intent or a subscriber asks for them."""
    focus_detector: Annotated[Path | None, _fusion(metavar="FILE", taker="focus", argument="detector", path="file")] = (
        None
    )
    """Find them, and what else it knows, by this detector too: a YOLOX as ONNX, run beside the frames."""
    focus: Annotated[tuple[str, ...], _fusion(metavar="NAME", taker="focus", argument="classes")] = ()
    """Make these stand out too, by the detector's name for them, such as bicycles or dogs (repeatable)."""
    focus_every: Annotated[Count | None, _fusion(metavar="N", taker="focus", argument="every")] = None
    """Look for targets in every Nth frame. Without it, the head looks in every 6th one and the detector in every 8th; of slow
    streams in more."""
    units: Annotated[
        Literal["celsius", "fahrenheit", "kelvin", "counts"] | None, _fusion(metavar="NAME", taker="fuser")
    ] = None
    """Measure and draw the middle, the coldest and the warmest point. Temperatures need a radiometric camera."""
    model: Annotated[Path, _fusion(metavar="NAME|FILE", taker="learned", path="model")] = Path("small")
    """Model of the learned fuser: one that comes with rtfusion, by its name, or an ONNX file."""
    precision: Annotated[Literal["auto", "f32", "bf16", "f16", "int8"], _fusion(metavar="NAME", taker="learned")] = (
        "auto"
    )
    """Precision of a model that comes with rtfusion. For OpenVINO, auto is the fastest one on this machine, measured once and
    remembered; for other engines it is f32, and on a GPU f16."""
    enhance: Annotated[Fraction | None, _fusion(metavar="0..1", taker="learned")] = None
    """Dial of the learned fuser, from 0, faithful, to 1, enhanced. Without it, the model's own default."""
    trust: Annotated[bool, _fusion(taker="learned")] = True
    """Where a band is blank, or the visible one burnt out, have the learned fuser show what the other one sees; and where it is
    in doubt how the bands lie, have it and the pyramid show an edge once."""
    engine: Annotated[
        Literal[
            "auto",
            "openvino",
            "onnxruntime",
            "onnxruntime:cuda",
            "onnxruntime:tensorrt",
            "pytorch",
            "pytorch:cuda",
            "tensorrt",
        ],
        _fusion(metavar="NAME", taker="learned"),
    ] = "auto"
    """Engine that runs the model. With tensorrt and pytorch:cuda, all of the fusing is done on the GPU."""
    threads: Annotated[Count | None, _fusion(metavar="N", taker="learned")] = None
    """Threads of the engine. Without it, one for every core but one, which decodes and writes. OpenCV has one beside it."""
    kernels: Annotated[bool, _fusion(taker="learned")] = True
    """Compute in compiled kernels, where they are installed, what a model does by fixed formulas, the rest of which its engine
    runs, what denoising does to every pixel of 8 bits, and the search of parallax. Of denoising the results are the same."""

    sink: Annotated[tuple[str, ...], _output(metavar="URI", taker="sinks", path="uri")] = ()
    """Output: a video file, images:DIR, record:DIR, zmq:tcp://127.0.0.1:5555, web://127.0.0.1:8080, window: or null:
    (repeatable)."""
    overwrite: Annotated[bool, _output(taker="sinks")] = False
    """Replace outputs that exist."""
    publish_mask: Annotated[bool, _output(taker="focus", argument="publish")] = False
    """Send the map of people to ZeroMQ subscribers with every frame."""
    stats_json: Annotated[Path | None, _output(metavar="FILE", taker="run", path="file")] = None
    """Write the statistics of the run to this file."""

    on_loss: Annotated[
        Literal["passthrough", "hold", "stop"], _run(metavar="NAME", taker="pairs", decided_by=("replay",))
    ] = "passthrough"
    """While one camera is lost, show the other one alone, fuse with the last frame of the lost one, or end the run."""
    shutter: Annotated[Literal["auto", "off"], _run(metavar="NAME", taker="pairs", decided_by=("replay",))] = "auto"
    """While the thermal camera is behind its shutter, hold its last picture, 3 s at most, or show what comes."""
    max_frames: Annotated[
        Count | None, _run(metavar="N", taker="pairs", argument="max_pairs", decided_by=("batch",))
    ] = None
    """Stop after this many fused frames."""

    def __init__(self, **values: Any) -> None:
        """Take the values as people write them: a path or a source may be text or a `Path`, and one output needs no tuple.

        Raises:
            ConfigError: an unknown name, a value that is not legal, or values that do not go together.
        """
        for name in values:
            if name not in type(self).model_fields:
                raise ConfigError(f"unknown setting {name}{did_you_mean(name, type(self).model_fields)}")
        try:
            super().__init__(**{name: _in_type(name, value) for name, value in values.items()})
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ConfigError(f"{name} is {_shown(values[name])}; {_expected(error, values[name])}") from None
        _refuse_conflicts(self, origins={})

    @field_serializer("ir", "vis", "ir_options", "vis_options", "sink", mode="plain")
    def _without_credentials(self, value: Any) -> Any:
        """Settings that are written anywhere hold no password and no token: only the attributes do."""
        return _redacted(value)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return ((name, _redacted(value)) for name, value in super().__repr_args__())

    @classmethod
    @cache
    def declared(cls) -> Mapping[str, Setting]:
        """Give the declaration of each field by its name, in the order of the help."""
        return {
            name: next(item for item in field.metadata if isinstance(item, Setting))
            for name, field in cls.model_fields.items()
        }

    @property
    def presets(self) -> dict[str, Intents]:
        """The presets by their names, own ones after those that rtfusion has."""
        return with_own(self.preset)

    @property
    def wish(self) -> Intents | None:
        """The intents that are asked for at the start, but for what is said; None where none are."""
        return None if self.intent is None else Intents.parse(self.intent, presets=self.presets)

    @property
    def said(self) -> Said | None:
        """What the sentence is taken for, a step from `wish`; None where nothing is said."""
        return None if self.say is None else say(self.say, self.wish or NEUTRAL, presets=self.presets)

    def arguments(self, taker: Taker) -> dict[str, Any]:
        """The values that a part of the run takes, by the names of its arguments."""
        found: dict[str, Any] = {}
        for name, setting in self.declared().items():
            if setting.taker == taker:
                value = getattr(self, name)
                found[setting.argument or name] = value if setting.converted is None else setting.converted(value)
        return found


def _refuse_conflicts(settings: Settings, *, origins: Mapping[str, str]) -> None:
    for message, names in _conflicts(settings):
        given = [f"{name} from {origins[name]}" for name in names if origins.get(name, "default") != "default"]
        raise ConfigError(f"{message} ({', '.join(given)})" if given else message)


def _conflicts(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Find settings that do not go together: yields a sentence and the names of the settings that it speaks of."""
    model, fuser = settings.model, settings.fuser
    if fuser == "learned" and is_name(model) and str(model) not in shipped_names():
        names = ", ".join(shipped_names()) or "none in this version"
        yield (
            f"no model named {model} comes with rtfusion (there is: {names}); a file is named with its ending, as in model.onnx",
            ("model",),
        )
    if settings.enhance is not None and fuser != "learned":
        yield f"enhance is a dial of the learned fuser, and the fuser is {fuser}", ("enhance", "fuser")
    if settings.look == "detector" and fuser in PAINTERS:
        yield (
            f"the look for detectors is without colors, and the fuser {fuser} is made of them; choose another one",
            ("look", "fuser"),
        )
    if settings.auto_register and settings.calibration is not None:
        yield "auto_register is for runs without a calibration, and one is given", ("auto_register", "calibration")
    if settings.distance_m is not None and settings.calibration is None:
        yield "distance_m needs a calibration to apply to; name one with --calibration", ("distance_m",)
    if settings.parallax != "off" and settings.grid != "visible":
        yield (
            f"parallax {settings.parallax} moves the thermal picture, and with grid {settings.grid} that one stays; "
            "leave one of them out",
            ("parallax", "grid"),
        )
    if settings.parallax == "dense" and settings.calibration is None:
        yield (
            "parallax dense needs a calibration that knows the pose of the cameras, from rtfusion calibrate board; name one with "
            "--calibration, or use parallax layers",
            ("parallax",),
        )
    if settings.polarity == "black-hot" and fuser in PAINTERS:
        yield (
            f"polarity is for fusers without colors, and the fuser is {fuser}; use palette black-hot",
            ("polarity", "fuser"),
        )
    yield from _conflicts_of_gain(settings)
    yield from _conflicts_of_intents(settings)
    yield from _conflicts_of_focus(settings)
    if fuser == "learned" and settings.engine in ON_DEVICE:
        yield from _conflicts_of_device(settings)


def _conflicts_of_device(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    only_on_host = {
        "refine": ("refine", settings.refine),
        "parallax": (f"parallax {settings.parallax}", settings.parallax != "off"),
        "grid": (f"grid {settings.grid}", settings.grid != "visible"),
        "look": (f"look {settings.look}", settings.look != "eye"),
        "precision": ("precision bf16", settings.precision == "bf16"),
        "intent": ("an intent", bool(settings.intent)),
        "focus_detector": ("a detector", settings.focus_detector is not None),
        "publish_mask": ("publish_mask", settings.publish_mask),
        "say": ("a wish that is said", settings.say is not None),
    }
    for name, (word, asked) in only_on_host.items():
        if asked:
            yield (
                f"{word} is for engines of the CPU, and the engine is {settings.engine}; choose --engine openvino",
                (name, "engine"),
            )


def _conflicts_of_intents(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        with_own(settings.preset)
        wish, said = settings.wish, settings.said
    except ConfigError as error:
        yield str(error), ("intent", "preset")
        return
    if said is not None and said.refused:
        yield f"say is {settings.say!r}, which is {said}", ("say",)
    if (wish or said is not None) and settings.fuser not in WISHED:
        yield not_wished(settings.fuser), ("intent", "say", "fuser")


def _conflicts_of_focus(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    if settings.focus and settings.focus_detector is None:
        yield (
            f"nothing here finds {settings.focus[0]}; name a detector that does, with --focus-detector",
            ("focus", "focus_detector"),
        )
    if settings.fuser not in WISHED:
        asked = {"focus_detector": settings.focus_detector is not None, "publish_mask": settings.publish_mask}
        for name in (name for name, given in asked.items() if given):
            yield f"{name} is for the fusers {' and '.join(WISHED)}, and the fuser is {settings.fuser}", (name, "fuser")


def not_wished(fuser: str) -> str:
    """Say that a fuser takes no intents."""
    return f"intents are for the fusers {' and '.join(WISHED)}, and the fuser is {fuser}"


def _conflicts_of_gain(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    low, high = settings.gain_low, settings.gain_high
    if settings.gain != "fixed":
        if "gain" not in settings.model_fields_set and (low is not None or high is not None):
            yield "gain_low and gain_high need gain fixed; add --gain fixed", ("gain_low", "gain_high")
    elif low is None or high is None:
        yield (
            "gain fixed needs both ends, in counts; give --gain-low and --gain-high",
            ("gain", "gain_low", "gain_high"),
        )
    elif low >= high:
        yield (
            f"gain_low is {low:g} and gain_high {high:g}; gain_low has to be the smaller one",
            ("gain_low", "gain_high"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """Settings and where each of them comes from."""

    settings: Settings
    origins: dict[str, str]
    """Origin by field: ``default``, ``file rtfusion.toml``, ``environment RTFUSION_PAIR`` or ``flag --pair``."""
    file: Path | None
    """The settings file that was read, if any."""
    found: bool = False
    """True where the file was found in the current folder, and not named by anybody."""


def load(
    flags: Mapping[str, object],
    *,
    file: Path | None,
    environ: Mapping[str, str],
    told: Sequence[tuple[str, Mapping[str, object]]] = (),
) -> Loaded:
    """Merge the defaults, a settings file, the environment, the flags and what is told beyond them; the later of them wins.

    Args:
        flags: Values by field name, as text or in the type of the field. None means not given.
        file: The settings file; without it ``RTFUSION_CONFIG``, ``./rtfusion.toml`` or
            ``$XDG_CONFIG_HOME/rtfusion/config.toml``, the first that there is. Relative paths in it are relative to it.
        environ: The environment, as ``os.environ``. An empty variable counts as not set.
        told: Where further values are from, as a person would name it, and these values as those of flags.

    Raises:
        ConfigError: an unknown key or variable, a value that is not legal, a file that cannot be read.
    """
    path, found = _find_file(file, environ)
    if path is not None and found:
        _refuse_foreign(path)
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    further = [_from_flags(some, origin=origin) for origin, some in told]
    for layer in (_from_file(path), _from_environment(environ), _from_flags(flags), *further):
        for name, value, origin in layer:
            values[name] = _checked(name, value, origin)
            origins[name] = origin
    settings = Settings.model_construct(_fields_set=set(values), **values)  # each value has been checked above
    _refuse_conflicts(settings, origins=origins)
    if found:
        _refuse_surprises(settings, origins=origins, file=path)
    return Loaded(settings=settings, origins=origins, file=path, found=found)


def _find_file(file: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The settings file, and whether it only happens to be in the current folder."""
    named = file or (Path(environ["RTFUSION_CONFIG"]) if environ.get("RTFUSION_CONFIG") else None)
    if named is not None:
        return named, False
    if Path(FILE_NAME).is_file():
        return Path(FILE_NAME), True
    home = expanded(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")) / ".config")
    own = home / "rtfusion" / "config.toml"
    return (own if own.is_file() else None), False


def _refuse_foreign(path: Path) -> None:
    """Settings that somebody else left in a folder are not taken without a word: they name files and addresses."""
    status = path.stat()
    if status.st_uid not in (user_id(), 0):
        owner = "belongs to another user"
    elif status.st_mode & stat.S_IWOTH:
        owner = "can be written by everybody"
    else:
        return
    raise ConfigError(f"the settings file {path.resolve()} {owner}; if it is meant, name it with --config {path}")


def _refuse_surprises(settings: Settings, *, origins: Mapping[str, str], file: Path | None) -> None:
    """Whoever only stands in a folder is not to open this machine to others, nor to replace files."""
    of_file = {name for name, origin in origins.items() if origin == f"file {file}"}
    what = None
    if "overwrite" in of_file and settings.overwrite:
        what = "overwrites files"
    elif "sink" in of_file and (public := next(filter(_is_public, settings.sink), None)) is not None:
        what = f"opens an address to other machines ({without_credentials(public)})"
    if what is not None:
        raise ConfigError(
            f"the settings file {file}, found in this folder, {what}; if that is meant, name it with --config {file}"
        )


def _is_public(uri: str) -> bool:
    """True for an output at an address that other machines can reach."""
    match = re.match(r"(?:zmq:tcp|web)://(\[[^\]]*\]|[^/:?]*)", uri, re.IGNORECASE)
    return match is not None and not is_loopback(match[1])


def _from_file(path: Path | None) -> Iterator[tuple[str, object, str]]:
    if path is None:
        return
    origin = f"file {path}"
    values = read_toml(path)
    if INTENTS_TABLE in values:
        values.update(_from_intents(values.pop(INTENTS_TABLE), path=path, beside=values))
    for name, value in in_types(values, folder=path.parent, what=f"the settings file {path}"):
        yield name, value, origin


def in_types(values: Mapping[str, object], *, folder: Path, what: str) -> Iterator[tuple[str, object]]:
    """Give settings of a file as their fields have them, by name; relative paths start in ``folder``.

    Raises:
        ConfigError: there is no such setting; ``what`` says in which file.
    """
    for name, value in values.items():
        if name not in Settings.model_fields:
            hint = did_you_mean(name, Settings.model_fields)
            raise ConfigError(f"{what} has the unknown key {name}{hint}")
        yield name, _in_type(name, value, folder=folder)


def _from_intents(table: object, *, path: Path, beside: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The settings that stand under ``[intents]``: numbers are axes, texts and tables are presets by their names."""
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"the settings file {path} has {INTENTS_TABLE} = {table!r}; expected a table of axes and presets"
        )
    axes = {name: value for name, value in table.items() if not isinstance(value, str | Mapping)}
    for name, given in (("intent", bool(axes)), ("preset", len(axes) < len(table))):
        if given and name in beside:
            raise ConfigError(f"the settings file {path} has both {name} and [{INTENTS_TABLE}]; write it in one place")
    try:
        if axes:
            yield "intent", str(Intents.of(axes))
        own = {name: value for name, value in table.items() if name not in axes}
        if own:
            yield "preset", [f"{name}: {_as_text(value)}" for name, value in own.items()]
    except ConfigError as error:
        raise ConfigError(f"the settings file {path}, [{INTENTS_TABLE}]: {error}") from None


def _as_text(wish: object) -> str:
    return wish if isinstance(wish, str) else str(Intents.of(cast("Mapping[str, float]", wish)))


def read_toml(path: Path) -> dict[str, object]:
    """Read a file of settings.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, a number too long, nested too deep
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from error


def _in_type(name: str, value: object, *, folder: Path | None = None) -> object:
    """Give the value as the field has it: texts become paths, their ``~`` replaced, and several outputs a tuple.

    ``folder`` is that of a settings file: relative paths start there, and one output has to be a list all the same.
    """
    kind = Settings.declared()[name].path
    if kind in ("file", "model") and isinstance(value, str | Path):
        _refuse_address(name, str(value))
    if not _repeats(name):
        return _resolved(value, kind=kind, folder=folder)
    if folder is None and isinstance(value, str | Path):
        value = (value,)
    return (
        tuple(_resolved(item, kind=kind, folder=folder) for item in value) if isinstance(value, list | tuple) else value
    )


def _resolved(value: object, *, kind: str | None, folder: Path | None) -> object:
    """Give a path in the type of its kind, and any other value as it is."""
    if kind is None or not isinstance(value, str | Path):
        return value
    if kind == "uri":
        return _relative_uri(folder, str(value))
    if kind == "model" and is_name(Path(value)):
        return Path(value)
    return (folder or Path()) / expanded(value)


def _relative_uri(folder: Path | None, uri: str) -> str:
    """Take a bare path, or the path in a URI that names a file, from the folder; any other URI stays as it is."""
    match = re.match(r"[a-z][a-z0-9+.-]+:", uri)
    scheme = "" if match is None else match[0]
    path = uri.removeprefix(scheme)
    is_address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None
    if scheme not in ("", "file:", "video:", "images:") or path.startswith("/") or not path or is_address:
        return uri
    if folder is None:
        return f"{scheme}{expanded(path)}" if path.startswith("~") else uri
    return f"{scheme}{folder / expanded(path)}"


def _repeats(name: str) -> bool:
    """True for a setting that may be given several times."""
    return get_origin(Settings.model_fields[name].annotation) is tuple


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or not text:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            hint = did_you_mean(
                name.upper(), map(str.upper, Settings.model_fields), hint=f"; did you mean {PREFIX}{{}}?"
            )
            raise ConfigError(f"the environment variable {variable} is not a setting of rtfusion{hint}")
        value = _split_words(text, variable) if _repeats(name) else text
        yield name, _in_type(name, value), f"environment {variable}"


def _split_words(text: str, variable: str) -> tuple[str, ...]:
    """Several outputs in one variable, separated and quoted as in a shell."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"cannot split the environment variable {variable} into outputs: {error}") from error


def _from_flags(flags: Mapping[str, object], *, origin: str | None = None) -> Iterator[tuple[str, object, str]]:
    for name, value in flags.items():
        if name not in Settings.model_fields:
            raise ConfigError(f"unknown setting {name}{did_you_mean(name, Settings.model_fields)}")
        if value is not None:
            yield name, _in_type(name, value), origin or f"flag --{name.replace('_', '-')}"


def _checked(name: str, value: object, origin: str) -> object:
    """Give the value in the type of its field.

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
    return f"it should be {words}{did_you_mean(str(value), choices)}"


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "is": "a path",
    "tuple": "a list of texts",
}
"""Expected values by the first word of the type of pydantic's error. For all other types pydantic says it well."""


def _refuse_address(name: str, text: str) -> None:
    """Files are read from and written to this machine alone; a path made of an address would be shown with its password."""
    shown = without_credentials(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) or (shown != text and not expanded(text).exists()):
        raise ConfigError(f"{name} is {shown!r}; it should be a path of this machine, not an address")


def _shown(value: object) -> str:
    shown = _redacted(value)
    return repr(list(shown)) if isinstance(shown, tuple) else repr(shown)


def _redacted(value: Any) -> Any:
    """The value as it may be shown; several texts one by one."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_redacted, value))
    return value
