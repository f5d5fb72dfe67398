"""Long recordings in pieces, which are fused side by side and joined into one.

A piece begins to read `LEAD_S` or more before its beginning, on a beat (`rtfusion.smoothing`), so that everything that remembers
(gain, means, denoising, trust) has had time to forget that it began there: the slowest mean forgets all but exp(-7) of it, and
what is done from time to time is done at the same frames. What was fused before the beginning is thrown away. What is left of a
seam is measured in docs/batch.md. The pieces are of a length that the recording and the setting decide, and nothing else, so that
the result does not depend on how many workers there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rtfusion.smoothing import BEAT_S
from rtfusion.types import Band

PIECES = ".rtfusion-pieces"
"""Folder of the output in which pieces wait to be joined. They outlive their batch, so that none is fused twice."""
INDEXED = frozenset({".mp4", ".mov", ".m4v", ".avi"})
"""Endings of files that say where their key frames are, so that reading can begin in the middle."""
LEAD_S = 15
MARGIN_S = 2
"""Read beyond the end of a piece, so that its last frames find their partners."""
SPLIT_FROM = 1.5
"""Recordings of so many pieces' length are split."""
NOT_WITH = ("start", "end", "fps")
"""Parameters of a source by which its times are other ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of a recording, in seconds since its beginning."""

    index: int
    count: int
    begin_s: int
    end_s: int | None
    """None for the last one, which goes to the end."""

    @property
    def read_from_s(self) -> int:
        """Where reading begins."""
        return max((self.begin_s - LEAD_S) // BEAT_S * BEAT_S, 0)

    @property
    def options(self) -> str:
        """What both sources are told, as their parameters."""
        until = () if self.end_s is None else (f"end={self.end_s + MARGIN_S}",)
        return "&".join((*([f"start={self.read_from_s}"] if self.read_from_s else ()), *until))

    @property
    def key(self) -> str:
        """What makes it another piece."""
        return ",".join(f"{name}={value}" for name, value in {**asdict(self), "read_from_s": self.read_from_s}.items())


def can_be_split(*, visible: str, thermal: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether pieces of a recording can be read without all that is before them, and do not remember more than that.

    Only files with an index can; the drift that ``refine`` follows is remembered for ever; and parameters may change the times.
    """
    suffixes = {PurePosixPath(place).suffix.lower() for place in (visible, thermal)}
    options = "&".join(str(settings.get(name) or "") for name in ("vis_options", "ir_options"))
    asked = {part.partition("=")[0] for part in options.split("&")}
    return suffixes <= INDEXED and not settings.get("refine") and not asked & set(NOT_WITH)


def pieces_of(duration_s: float, *, length_s: float) -> tuple[Piece, ...]:
    """Stretches of about a length, on whole seconds, that take equally long to fuse; empty where the recording is too short.

    The first one, which has no lead, is longer by about that, so that two workers end together.
    """
    if not math.isfinite(duration_s) or duration_s < SPLIT_FROM * length_s:
        return ()
    count = max(2, round(duration_s / length_s))
    lead_s = min(LEAD_S + BEAT_S / 2, duration_s / count / 2)
    later_s = (duration_s - lead_s) / count
    begins_s = sorted({0, *(round(duration_s - later_s * (count - index)) for index in range(1, count))})
    return tuple(
        Piece(index=index, count=len(begins_s), begin_s=begin_s, end_s=end_s)
        for index, (begin_s, end_s) in enumerate(zip(begins_s, [*begins_s[1:], None], strict=True))
    )


def duration_s(*, visible: Path, thermal: Path) -> float:
    """The length of the shorter one; 0 where a file does not tell.

    Raises:
        CaptureError: one of them cannot be read.
    """
    from rtfusion.capture import open_source

    lengths_s = []
    for band, path in ((Band.VISIBLE, visible), (Band.THERMAL, thermal)):
        source = open_source(str(path), band=band)
        lengths_s.append(source.info.duration_s or 0.0)
        source.close()
    return min(lengths_s)


def joined_figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a recording from those of its pieces; what was dropped in a lead-in counts in two of them."""
    bands = ("visible", "thermal")
    drops: dict[str, dict[str, int]] = {name: {} for name in (*bands, "pairs")}
    for record in records:
        for name, causes in record["drops"].items():
            for cause, count in causes.items():
                drops[name][cause] = drops[name].get(cause, 0) + count
    return {
        "frames_read": {band: sum(record["frames_read"][band] for record in records) for band in bands},
        "pairs": sum(record["pairs"] for record in records),
        "fused": sum(record["fused"] for record in records),
        "notes": list(dict.fromkeys(note for record in records for note in record["notes"])),
        "drops": drops,
    }
