"""Settings of a training run, frozen dataclasses that are read from TOML, and the options of those who start one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rtfusion.errors import ConfigError
from rtfusion_trainer.losses.language import Language, Patches

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PRESETS = Path(__file__).parent / "presets"
T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class Network:
    """Size of the student."""

    name: str = "small"
    width: int = 32
    """Channels at quarter resolution."""
    depth: int = 0
    """Further convolutions at quarter resolution."""
    context: int = 24
    """Channels at an eighth."""
    dilations: tuple[int, ...] = (1, 2, 2)
    """Dilations of the convolutions at an eighth; they set how far the network sees."""
    coring: float = 0.0
    """Gray levels from which on a detail gets the whole of a gain that amplifies; 0: every detail does."""


@dataclass(frozen=True)
class Weights:
    """Weight of each loss term; the terms are those of `rtfusion_trainer.losses.fidelity`."""

    gradient: float = 24.0
    edges: float = 2.5
    ssim: float = 2.5
    vif: float = 4.0
    scd: float = 1.5
    sources: float = 0.4
    contrast: float = 4.0
    halo: float = 20.0
    dip: float = 60.0
    seam: float = 4.0
    outside: float = 5.0
    clipped: float = 30.0
    steadiness: float = 36.0


@dataclass(frozen=True)
class Guidance:
    """Weight of each term of `rtfusion_trainer.guidance`, where a teacher's pictures are at hand; 0 leaves the term out."""

    objective: float = 1.0
    """The direct objective, beside the teacher."""
    pixels: float = 10.0
    gradients: float = 20.0
    ssim: float = 2.0
    features: float = 0.1
    """Features of VGG-19 are the costliest term by far, and the only one that needs weights."""
    layers: tuple[str, ...] = ("conv2_1", "conv3_1")
    full_until: float = 0.5
    """The weight of the faithful teacher is full up to this value of the dial, and falls to 0 at 1."""
    tone: float = 12.5
    """Local brightness of the teacher that shows the look of 1, from the middle of the dial on."""
    contrast: float = 3.0
    """Local contrast that the same teacher gives to what only the thermal band sees."""
    tutor_pixels: float = 60.0
    tutor_gradients: float = 60.0
    """The picture of another student, the tutor, at any setting of the dial."""


@dataclass(frozen=True)
class Imitation:
    """Weight of each term of `rtfusion_trainer.imitation`, where a language-driven teacher's pictures are at hand."""

    pixels: float = 10.0
    gradients: float = 20.0
    ssim: float = 2.0
    tone: float = 12.5
    contrast: float = 3.0
    """Local contrast that the teacher gives to what only the thermal band sees."""
    features: float = 1.0
    layers: tuple[str, ...] = ("conv1_2", "conv2_1", "conv3_1")
    features_of: int = 1
    """Pictures of a batch whose features are compared, which costs more than all the rest together."""
    language: float = 0.0
    """The language-driven loss on the student's own picture, as the table ``language`` has it; needs the encoder."""
    curriculum: str = "rule"
    """``rule`` follows measured errors, ``constant`` stays as it begins; see `rtfusion_trainer.curriculum`."""
    difficulty: float = 0.3
    """How hard degraded pairs are at first: 0 to 1."""


@dataclass(frozen=True)
class Findable:
    """Weight of what makes labeled people and vehicles easy to find, where labels are given; 0 leaves a term out."""

    detected: float = 0.5
    """What a detector misses of them, where there is one."""
    contrast: float = 6.0
    """What they stand out less of their surround than in the band that shows them best."""
    ring: float = 60.0
    """How far the surround is from the tutor's picture, where there is a tutor."""
    every: int = 2
    """Steps from one labeled crop to the next."""
    crop_px: int = 296
    seen_px: int = 192
    """Side of a crop, a multiple of 8, and of what the detector is shown of it, a multiple of 32."""
    degraded_share: float = 0.4


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training."""

    steps: int = 20000
    batch: int = 6
    """Pictures a step, in each process."""
    crop_px: int = 144
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    save_every: int = 200
    seed: int = 3407


@dataclass(frozen=True)
class Variation:
    """Probability of each variation of a pair; see `rtfusion_trainer.variation`."""

    toned: float = 0.35
    """Either band, by itself, goes through a random tone curve."""
    equalized_visible: float = 0.3
    equalized_thermal: float = 0.45
    """The contrast is equalized, over the picture or in tiles, as cameras and archives do."""
    partner: float = 0.15
    """The thermal image is that of another pair."""
    inverted: float = 0.06
    """Cold is bright."""
    exchanged: float = 0.08
    zoomed: float = 0.6


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what comes out of a run, but the data."""

    network: Network = Network()
    weights: Weights = Weights()
    guidance: Guidance = Guidance()
    imitation: Imitation = Imitation()
    language: Language = field(default_factory=lambda: Language(patches=Patches(count=8)))
    findable: Findable = Findable()
    schedule: Schedule = Schedule()
    enhance_default: float = 0.5
    variation: Variation = Variation()
    degraded_share: float = 0.35
    """Share of the training pairs that the student sees degraded."""
    clip_share: float = 0.4
    """Share of the training pairs that are two consecutive frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """The options that ``rtfusion train teacher``, ``rtfusion train student`` and ``rtfusion distill`` share."""

    data: Path
    """Folders SET/vi and SET/ir."""
    out: Path
    """Folder of the checkpoint; where it holds one, training goes on."""
    preset: str
    """A preset by its name, or a TOML file by its path."""
    vgg_weights: Path | None = None
    """State dict of VGG-19, for the term that compares features."""
    with_features: bool = True
    """False leaves that term out."""
    limit: int | None = None
    """The first so many pairs of the data, as ``rtfusion train cache`` takes them; None for all."""
    steps: int | None = None
    """The number of steps, where it is not the preset's."""
    seed: int | None = None
    """The seed, where it is not the preset's."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: str = "f32"
    """One of `rtfusion_trainer.mixed.PRECISIONS`."""
    threads: int | None = None
    """Threads of PyTorch on the CPU."""
    overfit: bool = False
    """True trains on one batch, to see that it can be learned."""
    tensorboard: bool = False
    """True writes curves into ``out``."""
    stop: Callable[[], bool] = lambda: False
    """Asked between two steps; True ends the training, which the same options take up again."""

    @property
    def curves(self) -> Path | None:
        """The folder of TensorBoard's files, or None where no curves are wanted."""
        return self.out if self.tensorboard else None


def load_config(preset: str) -> TrainingConfig:
    """A preset by name, or a TOML file by its path.

    Raises:
        ConfigError: there is no such preset or file, it is no TOML, or it has an unknown or ill-typed setting.
    """
    return config_from_dict(read_preset(preset, folder=PRESETS))


def read_preset(preset: str, *, folder: Path) -> dict[str, Any]:
    """The values of a preset of ``folder`` by name, or of a TOML file by its path.

    Raises:
        ConfigError: there is no such preset or file, or it is no TOML.
    """
    path = Path(preset) if preset.endswith(".toml") else folder / f"{preset}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml")))
        if not path.exists():
            what = f"no file {path}" if preset.endswith(".toml") else f"no preset {preset!r}"
            raise ConfigError(f"there is {what}; known: {known}, or a file whose name ends in .toml") from error
        raise ConfigError(f"cannot read the preset {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def config_from_dict(values: Mapping[str, Any]) -> TrainingConfig:
    """The configuration of a TOML file or of a checkpoint; what is absent keeps its default."""
    return changed(TrainingConfig(), values, name="the preset")


def changed(default: T, values: Mapping[str, Any], *, name: str) -> T:
    """A frozen dataclass of plain values, tuples and further ones, with what ``values`` says otherwise.

    Raises:
        ConfigError: it has no such setting, or a value is of another type; ``name`` is what the message calls it.
    """
    known = {entry.name: getattr(default, entry.name) for entry in fields(default)}
    given = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{name} has no setting {key!r}; it has {', '.join(known)}")
        given[key] = _fitting(known[key], value, key=key, name=name)
    return replace(default, **given)


def _fitting(default: Any, value: Any, *, key: str, name: str) -> Any:
    """The value in the type of its default."""
    if is_dataclass(default) and not isinstance(default, type) and isinstance(value, Mapping):
        return changed(default, value, name=key)
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or isinstance(value, bool):
        kind = "number of type " if isinstance(default, (int, float)) else ""
        raise ConfigError(f"{name}: {key} is {value!r}; expected a {kind}{type(default).__name__}")
    return value
