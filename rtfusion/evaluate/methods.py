"""Ways of fusing to compare: the classical fusers, and every shipped model at several values of its dial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rtfusion.errors import ConfigError
from rtfusion.fusion import LuminanceFuser, Painter, open_method
from rtfusion.models import PRECISIONS, file_name, find_model, read_spec, shipped_names, shipping

CLASSICAL = ("average", "maximum", "pyramid")
WITHOUT_MODEL = (*CLASSICAL, "overlay", "edges")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way of fusing, as the suites name it."""

    name: str
    fuser: str
    model: Path | None = None
    enhance: float | None = None

    def open(self, *, still: bool, engine: str = "auto", threads: int | None = None) -> LuminanceFuser | Painter:
        """The method itself; ``still`` for unrelated images."""
        return open_method(
            self.fuser, still=still, model=self.model, enhance=self.enhance, engine=engine, threads=threads
        )

    def open_luminance(self, *, still: bool) -> LuminanceFuser:
        """Open the method where the fused luminance is needed.

        Raises:
            ConfigError: it paints.
        """
        method = self.open(still=still)
        if isinstance(method, Painter):
            raise ConfigError(f"{self.name} paints in a palette; only fusers of luminance can be measured here")
        return method

    @property
    def settings(self) -> dict[str, object]:
        """The method as settings of a run."""
        values = {"fuser": self.fuser, "model": self.model, "enhance": self.enhance}
        return {name: value for name, value in values.items() if value is not None}


def shipped_models() -> dict[str, Path]:
    """The models that come with the package, by name and as ``--model`` takes it: in the precision that a run takes by itself."""
    return {
        name: Path(name)
        for name in shipped_names()
        if all((shipping.FOLDER / file_name(name, precision=precision)).is_file() for precision in PRECISIONS)
    }


def named(known: Mapping[str, T], names: Sequence[str] | None, *, kind: str) -> dict[str, T]:
    """The entries of ``known`` with these names, in its order; all of them where ``names`` is None.

    Raises:
        ConfigError: one is not known.
    """
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no {kind} {name!r} to measure; there are {', '.join(known)}")
    return {name: entry for name, entry in known.items() if names is None or name in names}


def select(
    *,
    fusers: Sequence[str] = CLASSICAL,
    models: Mapping[str, Path] | None = None,
    enhance: Sequence[float] | None = None,
) -> list[Method]:
    """The classical ones by name, then every model (default: the shipped ones).

    ``enhance`` None takes both ends of the dial and the model's own default; an empty one that default alone. A model without the
    dial stands once.

    Raises:
        ConfigError: no fuser of that name works without a model.
        ModelError: a file is no model.
    """
    unknown = [name for name in fusers if name not in WITHOUT_MODEL]
    if unknown:
        raise ConfigError(f"no fuser {unknown[0]!r} without a model; there are {', '.join(WITHOUT_MODEL)}")
    models = shipped_models() if models is None else models
    found = [Method(name=name, fuser=name) for name in fusers]
    for name, path in models.items():
        dial = read_spec(find_model(path)).scalars.get("enhance")
        shown = () if dial is None else (0.0, dial.default, 1.0) if enhance is None else enhance
        for value in shown or (None,):
            label = name if value is None else f"{name}, enhance {value:g}"
            found.append(Method(name=label, fuser="learned", model=path, enhance=value))
    return found
