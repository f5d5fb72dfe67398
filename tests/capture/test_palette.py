"""Pseudo-color thermal pictures: whose palette it is, and the gray levels before it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.capture import open_source
from rtfusion.capture.palette import NAMES, ThermalColors, colors_of, palette_name, recognize, undo
from rtfusion.types import Band, PixelFormat
from tests.capture.clips import read_all, write_clip


def scene() -> np.ndarray:
    level = np.tile(np.linspace(30, 170, 160), (120, 1))
    level += 20 * np.sin(np.arange(120) / 9)[:, None]
    level = level.clip(0, 255).astype(np.uint8)
    cv2.circle(level, (80, 60), 20, 250, -1)
    return level


def colored(level: np.ndarray, name: str) -> np.ndarray:
    return colors_of(name)[level]


def compressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize("name", NAMES)
def test_each_palette_is_recognized_and_undone(name: str) -> None:
    level = scene()
    picture = compressed(colored(level, name))
    assert recognize(picture) == name
    off = np.abs(undo(picture, name).astype(int) - level)
    assert off.mean() < 4
    assert np.percentile(off, 95) < 12


def test_marks_drawn_over_the_picture_do_not_hide_it() -> None:
    picture = colored(scene(), "jet")
    cv2.putText(picture, "23.5 C", (5, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    cv2.rectangle(picture, (150, 0), (159, 119), (0, 0, 0), -1)
    assert recognize(picture) == "jet"


def test_natural_colors_are_no_palette() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 4)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    assert recognize(picture) is None


@pytest.mark.shared
def test_real_visible_pictures_fit_no_palette(shared_data: Path) -> None:
    files = sorted((shared_data / "eval").glob("*/vi/*"))[::6]
    assert len(files) > 10
    for file in files:
        colors = ThermalColors()
        colors.look(cv2.imread(str(file), cv2.IMREAD_COLOR))
        assert colors.palette is None, file


def test_gray_decides_nothing() -> None:
    colors = ThermalColors()
    gray = cv2.cvtColor(scene(), cv2.COLOR_GRAY2BGR)
    assert colors.gray(gray) is None
    assert (colors.decided, colors.note) == (False, None)
    assert colors.gray(colored(scene(), "ironbow")) is not None
    assert colors.palette == "ironbow"


def test_a_palette_may_be_said_or_denied() -> None:
    level, picture = scene(), colored(scene(), "jet")
    reverse = ThermalColors("jet-reversed")
    found = reverse.gray(picture)
    assert found is not None
    assert np.abs(found.astype(int) - (255 - level)).mean() < 3
    assert ThermalColors("none").gray(picture) is None
    assert reverse.note is ThermalColors("none").note is None
    with pytest.raises(ValueError, match="expected auto, none, or ironbow"):
        palette_name("sepia")


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("libx264", "yuv420p", "c.mp4"),
        ("mjpeg", "yuvj420p", "c.avi"),
        ("ffv1", "bgr0", "c.mkv"),
        ("rawvideo", "yuyv422", "c.avi"),
    ],
)
def test_a_colored_video(tmp_path: Path, codec: str, pix_fmt: str, name: str) -> None:
    level = scene()
    path = write_clip(
        tmp_path / name, [colored(level, "rainbow")] * 3, codec=codec, pix_fmt=pix_fmt, options={"b": "9000000"}
    )
    source = open_source(str(path), band=Band.THERMAL)
    frames = read_all(source)
    assert {frame.pixel_format for frame in frames} == {PixelFormat.GRAY8}
    assert np.abs(frames[0].image.astype(int) - level).mean() < 8
    assert frames[0].image[60, 80] > 235
    assert "the palette rainbow, undone to gray levels" in source.notes[0]
    plain = open_source(f"{path}?palette=none", band=Band.THERMAL)
    assert read_all(plain)[0].image[60, 80] < 120
    assert plain.notes == ()


def test_a_colored_still(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), colored(scene(), "jet"))
    source = open_source(str(tmp_path), band=Band.THERMAL)
    (frame,) = read_all(source)
    assert np.abs(frame.image.astype(int) - scene()).max() < 6
    assert "palette jet" in source.notes[0]
    seen = open_source(str(tmp_path), band=Band.VISIBLE)
    assert read_all(seen)[0].pixel_format is PixelFormat.BGR8


def test_a_palette_that_is_changed_while_recording_is_followed(tmp_path: Path) -> None:
    level = scene()
    gray = cv2.cvtColor(level, cv2.COLOR_GRAY2BGR)
    images = [colored(level, "jet")] * 40 + [colored(level, "ironbow")] * 70 + [gray] * 70
    path = write_clip(tmp_path / "c.mkv", images, codec="ffv1", pix_fmt="bgr0")
    source = open_source(str(path), band=Band.THERMAL)
    shown = [np.abs(frame.image.astype(int) - level).mean() for frame in read_all(source)]
    assert max(shown[:40] + shown[80:110] + shown[150:]) < 4
    assert "the palette jet, then ironbow, undone" in source.notes[0]


def test_stills_of_different_palettes(tmp_path: Path) -> None:
    level = scene()
    for name, image in (("0", colored(level, "jet")), ("1", colored(level, "ironbow")), ("2", level)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    frames = read_all(open_source(str(tmp_path), band=Band.THERMAL))
    assert max(np.abs(frame.image.astype(int) - level).mean() for frame in frames) < 4
