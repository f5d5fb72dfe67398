"""What a camera draws over its thermal picture, and the borders that a recorder adds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.capture import Source, open_source
from rtfusion.errors import EndOfStream
from rtfusion.types import Band
from tests.capture.clips import read_all, write_clip

SCENE = np.clip(
    120 + 60 * np.sin(np.arange(400) / 17)[None, :] + 30 * np.cos(np.arange(120) / 11)[:, None], 0, 235
).astype(np.uint8)


def frames(count: int = 40, *, step: int = 3) -> list[np.ndarray]:
    """A scene that moves through a picture of 160x120."""
    return [SCENE[:, step * index : step * index + 160].copy() for index in range(count)]


def opened(path: Path, images: list[np.ndarray], query: str = "") -> Source:
    clip = write_clip(path / "c.mkv", images, codec="ffv1", pix_fmt="gray")
    return open_source(f"{clip}{query}", band=Band.THERMAL)


def test_a_scene_alone_needs_no_word(tmp_path: Path) -> None:
    source = opened(tmp_path, frames())
    read_all(source)
    assert source.notes == ()


def test_a_white_mark_is_told_and_the_advice_takes_it_out(tmp_path: Path) -> None:
    images = frames()
    for image in images:
        cv2.putText(image, "36.6", (100, 20), cv2.FONT_HERSHEY_PLAIN, 1.0, 255, 2)
    source = opened(tmp_path, images)
    read_all(source)
    (note,) = source.notes
    assert "something white stands still" in note
    query = note[note.index("?mask=") :].split(" ")[0]
    masked = opened(tmp_path, images, query)
    shown = read_all(masked)
    assert masked.notes == ()
    assert max(frame.image.max() for frame in shown) < 245


def test_a_hot_thing_that_stands_still_is_no_mark(tmp_path: Path) -> None:
    images = frames()
    for image in images:
        spot = np.zeros_like(image, float)
        spot[60, 80] = 255 * 900
        image[...] = np.clip(image + cv2.GaussianBlur(spot, (0, 0), 9), 0, 255).astype(np.uint8)
    source = opened(tmp_path, images)
    read_all(source)
    assert source.notes == ()


def test_what_never_moves_tells_nothing(tmp_path: Path) -> None:
    images = frames(step=0)
    for image in images:
        image[:10, :30] = 255
    source = opened(tmp_path, images)
    read_all(source)
    assert source.notes == ()


def test_a_dark_border_is_told_and_the_advice_leaves_it_out(tmp_path: Path) -> None:
    images = [cv2.copyMakeBorder(image, 0, 0, 20, 20, cv2.BORDER_CONSTANT, value=0) for image in frames()]
    source = opened(tmp_path, images)
    read_all(source)
    (note,) = source.notes
    assert note.endswith("a dark border around a picture of 160x120; ?crop=20,0,160,120 leaves it out")
    cut = opened(tmp_path, images, "?crop=20,0,160,120")
    assert np.array_equal(read_all(cut)[3].image, frames()[3])
    assert cut.notes == ()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["m3svd_0111_1716", "m3svd_0113_1714", "m3svd_0117_1605"])
def test_real_recordings_have_neither(shared_data: Path, name: str) -> None:
    source = open_source(str(shared_data / "video" / name / "ir.mp4"), band=Band.THERMAL)
    try:
        for _ in range(150):
            source.read(timeout_s=1)
    except EndOfStream:
        pass
    source.close()
    assert source.notes == ()
