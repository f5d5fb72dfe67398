"""What a Seek Compact or CompactPRO sends, recorded as it came: pictures of the scene, of its shutter, and of its start.

========== ============ ================================= ===========================================
profile    frames       part that is the picture          word of the first row that tells the kind
========== ============ ================================= ===========================================
seek       208x156      207x154 at 0,1                    10
seek-pro   342x260      320x240 at 1,4                    2
========== ============ ================================= ===========================================

The counts of a picture differ from pixel to pixel by far more than by what is seen: those of the last picture of the shutter are
taken off, 0x4000 stays as the level of the shutter. What pixels are dead is told by the picture of the start: the others lie as
far below the most frequent count as above it. Counts mean no temperature.

Layouts and kinds are those of the public driver libseek-thermal. Tested on files made by this project; not tried on recordings
of a real camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.capture.parameters import Region
from rtfusion.capture.profiles import Picture, Profile, Words

SHUTTER, SCENE, START = 1, 3, 4
"""Kinds of frames that are used."""
KINDS = range(1, 11)
"""Kinds that a camera may send; no count of a picture is as small."""
LEVEL = 0x4000
"""The counts that a pixel has which sees what it saw of the shutter; those of the start are below."""
MOST_DEAD = 0.5
"""A picture of the start in which a larger share is dead tells nothing."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeekLayout:
    """Frames of one camera."""

    name: str
    size_px: tuple[int, int]
    part: Region
    """The picture within a frame."""
    kind_at: int
    """The word of the first row that tells the kind."""

    @property
    def profile(self) -> Profile:
        """The layout as recorded streams name theirs."""
        return Profile(
            name=self.name,
            fourccs=("Y16",),
            sizes={self.size_px: (self.part.width, self.part.height)},
            counts_of=lambda words, size_px: words[self.part.slices],
            sees_shutter=True,
        )

    def kind_of(self, words: Words) -> int:
        """What a frame shows."""
        return int(words[0, self.kind_at])


LAYOUTS: Mapping[str, SeekLayout] = {
    layout.name: layout
    for layout in (
        SeekLayout(name="seek", size_px=(208, 156), part=Region(0, 1, 207, 154), kind_at=10),
        SeekLayout(name="seek-pro", size_px=(342, 260), part=Region(1, 4, 320, 240), kind_at=2),
    )
}


class SeekDecoder:
    """Decodes the frames of one recording, in their order."""

    def __init__(self, layout: SeekLayout) -> None:
        self._layout = layout
        self._start: Mask | None = None
        self._shutter: npt.NDArray[np.int32] | None = None
        self._dead: _DeadPixels | None = None
        self._pictures = self._too_early = 0

    def __call__(self, words: Words) -> Picture | None:
        """The picture of a frame, (H, W) words; None for one that shows nothing, or comes before the shutter was seen.

        That of the shutter itself, between others, is flat, and marked.
        """
        kind, counts = self._layout.kind_of(words), words[self._layout.part.slices].astype(np.int32)
        if kind == START:
            self._start = _dead_by_start(counts)
        elif kind == SHUTTER:
            self._shutter = counts
            self._dead = _DeadPixels((counts == 0) if self._start is None else (counts == 0) | self._start)
        elif kind == SCENE and self._shutter is None:
            self._too_early += 1
        is_picture = kind == SCENE or (kind == SHUTTER and self._pictures)
        if not is_picture or self._shutter is None or self._dead is None:
            return None
        self._pictures += 1
        image = np.clip(counts - self._shutter + LEVEL, 0, 0xFFFF).astype(np.uint16)
        self._dead.fill(image)
        return Picture(image=image, shutter=kind == SHUTTER)

    @property
    def notes(self) -> list[str]:
        """What a person should know of the frames so far."""
        notes = []
        if self._too_early:
            notes.append(
                f"{self._too_early} pictures before the first one of its shutter were left out: without that one their counts "
                "tell nothing"
            )
        if self._shutter is not None and self._start is None:
            notes.append(
                "it has no frame of the camera's start that tells which pixels are dead: only those are filled that count "
                "nothing while its shutter is closed"
            )
        return notes


def _dead_by_start(counts: npt.NDArray[np.int32]) -> Mask | None:
    """The dead pixels by the picture of the start; None where it tells nothing."""
    levels = np.bincount(counts[counts < LEVEL], minlength=2)
    levels[0] = 0
    usual = int(levels.argmax())
    dead = counts <= usual - (int(counts.max()) - usual)
    return dead if usual and dead.mean() <= MOST_DEAD else None


class _DeadPixels:
    """Fills dead pixels by the mean of their living neighbors above, below, left and right; those within a cluster in turn."""

    def __init__(self, dead: Mask) -> None:
        self._turns: list[tuple[Mask, Mask, npt.NDArray[np.uint32]]] = []
        living = ~dead
        while living.any() and not living.all():
            count = _sum_of_neighbors(living)
            turn = ~living & (count > 0)
            self._turns.append((turn, living, count[turn]))
            living = living | turn

    def fill(self, image: npt.NDArray[np.uint16]) -> None:
        """Fill them in an image, in place."""
        for turn, living, count in self._turns:
            image[turn] = _sum_of_neighbors(np.where(living, image, 0))[turn] // count


def _sum_of_neighbors(values: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    around = np.pad(values.astype(np.uint32), 1)
    total: npt.NDArray[np.uint32] = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    return total
