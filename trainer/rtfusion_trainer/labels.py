"""Boxes that people drew on pairs: JSON, ``{STEM: {"both": [[class, x, y, width, height], ...]}}``, as those of MSRS.

Numbers are pixels of the pair of that stem. What is seen in one band alone stands under ``thermal`` and ``visible``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.focus import PEOPLE, VEHICLES
from rtfusion_trainer.pairs import image_sets

TARGETS = {"person": PEOPLE, "people": PEOPLE, "car": VEHICLES, "vehicle": VEHICLES, "vehicles": VEHICLES}
"""By class; others, as bicycles, are no targets."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box, and the target in it; None for another class."""

    target: str | None
    corners_px: tuple[float, float, float, float]
    """x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What people drew on a pair."""

    both: Sequence[Drawn]
    thermal: Sequence[Drawn] = ()
    visible: Sequence[Drawn] = ()


def read_labels(path: Path, *, data: Path) -> Mapping[str, Labels]:
    """The labels of a file, by stem.

    Raises:
        ConfigError: it cannot be read, holds something else, or names a stem that several pairs below ``data`` have.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        labels = {
            stem: Labels(
                both=[_drawn(*row) for row in entry["both"]],
                thermal=[_drawn(*row) for row in entry.get("thermal", ())],
                visible=[_drawn(*row) for row in entry.get("visible", ())],
            )
            for stem, entry in entries.items()
        }
    except OSError as error:
        raise ConfigError(f"cannot read the labels {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'the labels {path} are not {{STEM: {{"both": [[class, x, y, width, height], ...]}}}}: {error!r}'
        ) from error
    pairs = Counter(visible.stem for files in image_sets(data).values() for visible, _ in files)
    for stem in labels:
        if pairs[stem] > 1:
            raise ConfigError(f"the labels {path} name {stem}, and {data} has {pairs[stem]} pairs of that name")
    return labels


def _drawn(name: str, x: float, y: float, width: float, height: float) -> Drawn:
    left, top = float(x), float(y)
    return Drawn(TARGETS.get(name), (left, top, left + float(width), top + float(height)))
