"""Two clips, one of which lacks ten frames: everybody who reads pairs has them of one moment, as a run has."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks import registration, stability
from rtfusion.errors import ConfigError
from rtfusion.evaluate.clips import clip_pairs
from rtfusion.evaluate.visibility import LabelSet, measure
from tests.capture.clips import write_clip

FRAMES = 40
MISSING = range(10, 20)
EXPECTED = [stamp for stamp in range(FRAMES) if stamp not in MISSING]
SIZE_PX = 64, 48

Seen = list[tuple[np.ndarray, np.ndarray]]
"""Visible and thermal picture of each pair."""


def picture(stamp: int, *, channels: int = 1) -> np.ndarray:
    """A texture whose mean tells the stamp."""
    noise = np.random.default_rng(0).integers(-2, 3, SIZE_PX[::-1])
    return np.repeat((20 + 5 * stamp + noise).astype(np.uint8)[..., None], channels, axis=2).squeeze()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of recordings: ``video/walk`` with ``vi.mp4`` and ``ir.mp4``, whose ten frames in the middle are missing."""
    folder = tmp_path / "video" / "walk"
    folder.mkdir(parents=True)
    for band, stamps in (("vi", list(range(FRAMES))), ("ir", EXPECTED)):
        images = [picture(stamp) for stamp in stamps]
        write_clip(folder / f"{band}.mp4", images, stamps=stamps, options={"qp": "0"})
    return tmp_path


def stamps_of(images: Sequence[np.ndarray]) -> list[int]:
    return [round((float(image.mean()) - 20) / 5) for image in images]


def by_clip_pairs(data: Path) -> Seen:
    clip = data / "video" / "walk"
    return [(pair.visible_y, pair.thermal) for pair in clip_pairs(ir=clip / "ir.mp4", vis=clip / "vi.mp4")]


class Spy:
    """A fuser that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def __call__(self, *, visible_y: np.ndarray, thermal: np.ndarray, timestamp_ns: int) -> np.ndarray:
        self.seen.append((visible_y, thermal))
        return visible_y

    def close(self) -> None:
        """Nothing is open."""


def by_trainer(data: Path) -> Seen:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the trainer needs torch: pip install -e '.[train]'")
    from rtfusion_trainer.evaluate import measure_clip

    spies: list[Spy] = []

    def opened(still: bool) -> Spy:
        spies.append(Spy())
        return spies[-1]

    clip = data / "video" / "walk"
    result = measure_clip(
        visible=str(clip / "vi.mp4"), thermal=str(clip / "ir.mp4"), cases={"spy": opened}, frames=FRAMES
    )
    assert result["frames"] == len(spies[0].seen)
    return spies[0].seen


def by_visibility(data: Path) -> Seen:
    seen: Seen = []

    def shown(still: bool, stack: ExitStack) -> Callable[..., np.ndarray]:
        def render(*, visible: np.ndarray, thermal: np.ndarray, timestamp_ns: int) -> np.ndarray:
            seen.append((visible, thermal))
            return visible

        return render

    nothing = np.empty((0, 4)), np.empty(0)
    labels = LabelSet(name="walk", source="video/walk", size_px=SIZE_PX, kinds=("person",), frames={FRAMES - 1: ()})
    measure(data=data, detector=lambda image: {"person": nothing}, methods={"spy": shown}, sets=[labels])
    return seen


def by_stability(data: Path) -> Seen:
    shown = stability._shown(
        data / "video" / "walk",
        frames=FRAMES,
        cases={band: lambda band=band: Band(band) for band in ("visible_y", "thermal")},
    )
    return [(pictures["visible_y"], pictures["thermal"]) for pictures in shown]


class Band:
    """A method that shows one of the bands as it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, **images: np.ndarray) -> np.ndarray:
        return images[self._name]

    def close(self) -> None: ...


def by_registration(data: Path) -> Seen:
    seen: Seen = []

    def refined(pairs: Sequence[object], **_: object) -> dict[str, object]:
        seen[:] = [(pair.visible_y, pair.thermal) for pair in pairs]  # type: ignore[attr-defined]
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "KNOCK_CLIPS", {"walk": 5})
        patch.setattr(registration, "_refined", refined)
        list(itertools.islice(registration.refine(data), 2))  # then come streets
    return seen


@pytest.mark.parametrize("read", [by_clip_pairs, by_trainer, by_visibility, by_stability, by_registration])
def test_every_reader_has_the_pairs_of_a_run(data: Path, read: Callable[[Path], Seen]) -> None:
    seen = read(data)
    assert stamps_of([visible for visible, _ in seen]) == EXPECTED
    assert stamps_of([thermal for _, thermal in seen]) == EXPECTED


def test_labels_of_a_video_are_those_of_its_visible_frames(data: Path) -> None:
    """The number of a label is that of the frame in the file, also where frames before it have no partner."""
    judged: list[np.ndarray] = []

    def detector(image: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        judged.append(image)
        return {"person": (np.empty((0, 4)), np.empty(0))}

    labels = LabelSet(name="walk", source="video/walk", size_px=SIZE_PX, kinds=("person",), frames={5: (), 25: ()})
    show = {"visible": lambda still, stack: lambda *, visible, thermal, timestamp_ns: visible}
    measure(data=data, detector=detector, methods=show, sets=[labels])
    assert stamps_of(judged) == [5, 25]
    lone = LabelSet(name="walk", source="video/walk", size_px=SIZE_PX, kinds=("person",), frames={MISSING[0]: ()})
    with pytest.raises(ConfigError, match=r"lacks the labeled frames \[10\]"):
        measure(data=data, detector=detector, methods=show, sets=[lone])


def test_bands_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "vi.mp4", [np.zeros((48, 64), np.uint8)])
    write_clip(tmp_path / "ir.mp4", [np.zeros((24, 32), np.uint8)])
    with pytest.raises(ConfigError, match=r"vi.mp4 is \(48, 64\), .*ir.mp4 \(24, 32\); expected one size"):
        next(clip_pairs(ir=tmp_path / "ir.mp4", vis=tmp_path / "vi.mp4"))
