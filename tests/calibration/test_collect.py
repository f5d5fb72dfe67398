"""Which views are taken, and what the person with the board is told."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from rtfusion_calibration.collect import Collector, EvenChoice, Sampler
from rtfusion_calibration.preview import preview

from rtfusion.errors import ConfigError
from rtfusion.fusion.color import as_bgr
from rtfusion.pairs import open_pairs
from rtfusion.types import Band, Degraded, FramePair
from tests.calibration.rigs import BOARD, Placement, make_rig, render
from tests.support import MS, make_frame

RIG = make_rig(visible_distortion=None, thermal_distortion=None).scaled(
    visible_size_px=(640, 480), thermal_size_px=(320, 256)
)
NEAR = Placement((10.0, 15.0, 0.0), (0.0, 0.0, 0.9))
ELSEWHERE = Placement((-15.0, -10.0, 5.0), (0.12, 0.05, 1.1))
_SEEN: dict[Placement, dict[Band, np.ndarray]] = {}


def pair(index: int, place: Placement | None, *, only: Band | None = None, step_ms: int = 300) -> FramePair:
    """A moment of a video; without a place both cameras see an empty room."""
    images = {band: np.full(getattr(RIG, band.value).size_px[::-1], 90, np.uint8) for band in Band}
    if place is not None:
        if place not in _SEEN:
            _SEEN[place] = {band: render(RIG, place, band) for band in Band}
        images |= {band: image for band, image in _SEEN[place].items() if only in (None, band)}
    frames = {band: make_frame(band, index * step_ms * MS, sequence=index, image=images[band]) for band in Band}
    if frames[Band.VISIBLE].image.ndim == 2:
        frames[Band.VISIBLE] = make_frame(
            Band.VISIBLE, index * step_ms * MS, image=np.repeat(images[Band.VISIBLE][:, :, None], 3, axis=2)
        )
    return FramePair(visible=frames[Band.VISIBLE], thermal=frames[Band.THERMAL], sequence=index)


def test_a_view_is_taken_when_it_is_still_and_new(tmp_path: Path) -> None:
    said: list[str] = []
    enough = threading.Event()
    collector = Collector(BOARD, still=False, wanted=2, enough=enough.set, folder=tmp_path, tell=said.append)
    for index, place in enumerate([None, NEAR, NEAR, NEAR, ELSEWHERE, ELSEWHERE]):
        assert enough.is_set() is False
        picture = collector(pair(index, place))
        assert picture.shape[2] == 3
    assert enough.is_set()
    assert [view.name for view in collector.views] == ["000002", "000005"]
    assert said[0] == "show the board to both cameras, whole   (0 of 2 views)"
    assert said[1].startswith("hold still")
    assert said[2] == "taken, 1 so far"
    assert said[3] == "tilt it to the side   (1 of 2 views)"
    assert sorted(path.name for path in (tmp_path / "thermal").iterdir()) == ["000002.png", "000005.png"]
    assert len(collector.samples.kept) == 2


@pytest.mark.parametrize(
    ("only", "told"), [(Band.VISIBLE, "thermal camera does not see"), (Band.THERMAL, "visible camera does not")]
)
def test_it_says_which_camera_does_not_see_the_board(only: Band, told: str) -> None:
    said: list[str] = []
    collector = Collector(BOARD, still=False, wanted=5, tell=said.append)
    collector(pair(0, NEAR, only=only))
    assert told in said[0]
    assert collector.views == []


def test_of_a_video_not_every_picture_is_looked_at() -> None:
    collector = Collector(BOARD, still=False)
    for index in range(8):
        collector(pair(index, None, step_ms=33))
    assert collector.looks == 1


def test_stills_all_count_even_of_one_camera() -> None:
    collector = Collector(BOARD, still=True)
    collector(pair(0, NEAR))
    collector(pair(1, NEAR, only=Band.THERMAL))
    collector(pair(2, None))
    assert [(view.visible is None, view.thermal is None) for view in collector.views] == [(False, False), (True, False)]


def test_the_sampler_keeps_an_even_choice() -> None:
    sampler = Sampler(4)
    for index in range(40):
        sampler(pair(index, None))
    kept = [one.sequence for one in sampler.kept]
    assert 2 <= len(kept) <= 4
    assert kept[0] == 0
    assert kept[-1] >= 16
    assert len({after - before for before, after in itertools.pairwise(kept)}) == 1, "late ones are not favored"
    views: EvenChoice[int] = EvenChoice()
    for index in range(25):
        views.add(index)
    assert views.kept == [0, 8, 16, 24], "and so for the views of a collector"
    lost = pair(0, None)
    sampler = Sampler()
    sampler(FramePair(visible=lost.visible, thermal=lost.thermal, sequence=0, degraded=Degraded.NO_THERMAL))
    assert sampler.kept == []


def test_pictures_are_shown_and_the_end_closes_the_view() -> None:
    source = "synthetic:?scene=day&size=64x48&frames=5"
    sampler, stop = Sampler(), threading.Event()
    with open_pairs(ir=source, vis=source) as pairs, preview("null:", pairs=pairs, stop=stop) as show:
        for one in pairs:
            sampler(one)
            show(as_bgr(one.visible.image), one)
    assert len(sampler.kept) == 5
    assert pairs.telemetry.written == {"null:": 5}
    assert not any(thread.name.startswith("sink-") for thread in threading.enumerate())


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    collector = Collector(BOARD, still=True, folder=tmp_path / "file")
    with pytest.raises(ConfigError, match="--save-views"):
        collector(pair(0, NEAR))
