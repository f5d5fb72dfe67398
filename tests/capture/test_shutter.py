"""The shutter of a thermal camera, told from its pictures, in every kind of source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtfusion
from rtfusion import capture
from rtfusion.capture import open_source
from rtfusion.capture.shutter import LONGEST_NS, ShutterHold, ShutterSource
from rtfusion.config import Settings
from rtfusion.errors import ConfigError, EndOfStream
from rtfusion.pipeline import build
from rtfusion.types import Band, Frame
from tests.capture.clips import write_clip
from tests.support import MS, ScriptedSource, make_frame

RATE_HZ = 10.0


def plane(shape: tuple[int, int] = (120, 160), seed: int = 0) -> np.ndarray:
    """Gray levels of a scene: soft ground and some things with edges."""
    rng = np.random.default_rng(seed)
    scene = 90 + 15 * cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 8) / 0.035
    scene = np.clip(scene, 30, 160)
    height, width = shape
    scene[height // 3 : 2 * height // 3, width // 4 : width // 3] += 80
    scene[height // 8 : height // 2, 2 * width // 3 : 3 * width // 4] += 50
    return scene


def image(scene: np.ndarray, *, seed: int, wide: bool, noise: float = 1.0) -> np.ndarray:
    noisy = scene + np.random.default_rng(seed).normal(0, noise, scene.shape)
    if wide:
        return (29_000 + 10 * noisy).astype(np.uint16)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def shutter(kind: str, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    flat = np.full(shape, 70.0)
    if kind == "shaded":
        flat += np.linspace(-4, 4, shape[1])[None]
    if kind == "columns":
        flat += np.random.default_rng(5).normal(0, 0.7, (1, shape[1]))
    return flat


def held(images: list[np.ndarray], hold: ShutterHold | None = None) -> list[bool]:
    hold = hold or ShutterHold(by_picture=True, by_repeats=True)
    return [hold(one, closed=False, timestamp_ns=round(i * 1e9 / RATE_HZ))[1] for i, one in enumerate(images)]


@settings(max_examples=20, deadline=None)
@given(
    wide=st.booleans(),
    kind=st.sampled_from(["flat", "shaded", "columns"]),
    shape=st.sampled_from([(60, 80), (120, 160), (480, 640)]),
    noise=st.floats(0.3, 4.0),
    before=st.integers(1, 20),
    closed=st.integers(1, 25),
    seed=st.integers(0, 99),
)
def test_a_picture_of_nothing_is_the_shutter(
    wide: bool, kind: str, shape: tuple[int, int], noise: float, before: int, closed: int, seed: int
) -> None:
    scene, cover = plane(shape, seed), shutter(kind, shape)
    planes = [scene] * before + [cover] * closed + [scene] * 5
    images = [image(one, seed=index, wide=wide, noise=noise) for index, one in enumerate(planes)]
    assert held(images) == [False] * before + [True] * closed + [False] * 5


@pytest.mark.parametrize("wide", [True, False])
def test_it_is_held_for_three_seconds_and_then_believed(wide: bool) -> None:
    planes = [plane()] * 10 + [shutter("flat")] * 60
    marks = held([image(one, seed=index, wide=wide) for index, one in enumerate(planes)])
    assert sum(marks) == LONGEST_NS // (100 * MS) + 1
    assert marks == [False] * 10 + [True] * 31 + [False] * 29


def test_the_last_picture_of_the_scene_is_shown() -> None:
    images = [image(plane(), seed=index, wide=True) for index in range(5)]
    hold = ShutterHold(by_picture=True)
    for index, one in enumerate(images):
        hold(one, closed=False, timestamp_ns=index * 100 * MS)
    shown, is_held = hold(image(shutter("flat"), seed=9, wide=True), closed=False, timestamp_ns=500 * MS)
    assert is_held
    assert shown is images[-1]


def test_other_scenes_are_no_shutter() -> None:
    """Cuts between scenes with much and with little contrast, a hot object that leaves, a dimmer by steps."""
    dull = 60 + (plane(seed=3) - 90) * 0.12
    hot = plane() + 0.0
    hot[40:60, 100:120] += 4_000
    for other in (dull, plane(seed=7), hot):
        for first, second in ((plane(), other), (other, plane())):
            planes = [first] * 12 + [second] * 12
            assert not any(held([image(one, seed=index, wide=True) for index, one in enumerate(planes)]))
    fading = [70 + (plane() - 70) * 0.8**index for index in range(30)]
    assert not any(held([image(one, seed=index, wide=True) for index, one in enumerate(fading)]))


def test_a_scene_of_nothing_is_no_shutter() -> None:
    assert not any(held([image(shutter("flat"), seed=index, wide=True) for index in range(40)]))


def test_a_noisy_camera_that_repeats_itself_is_behind_its_shutter() -> None:
    moving = [image(plane(), seed=index, wide=True) for index in range(20)]
    frozen = [moving[-1].copy() for _ in range(10)]
    marks = held([*moving, *frozen, *(image(plane(), seed=50 + index, wide=True) for index in range(5))])
    assert not any(marks[:20])
    assert all(marks[23:30])
    assert not any(marks[30:])


def test_a_still_scene_without_noise_and_a_slow_camera_are_no_shutter() -> None:
    still = image(plane(), seed=0, wide=False)
    assert not any(held([still.copy() for _ in range(60)]))
    slow = [image(plane(), seed=index // 3, wide=True) for index in range(90)]  # 9 Hz in a stream of 27
    assert not any(held(slow))


# -- sources ------------------------------------------------------------------------------------------------------------


def clip_of_shutter(*, wide: bool) -> list[np.ndarray]:
    planes = [plane()] * 12 + [shutter("flat")] * 6 + [plane()] * 6
    return [image(one, seed=index, wide=wide) for index, one in enumerate(planes)]


def folder(path: Path, images: list[np.ndarray]) -> Path:
    path.mkdir()
    for index, one in enumerate(images):
        cv2.imwrite(str(path / f"{index:03d}.png"), one)
    return path


def frames(uri: str, **options: str) -> list[Frame]:
    source = open_source(uri, band=Band.THERMAL, **options)
    read = []
    try:
        while True:
            read.append(source.read(timeout_s=1.0))
    except EndOfStream:
        source.close()
    return read


@pytest.mark.parametrize("wide", [True, False])
def test_folders_that_are_a_clip(tmp_path: Path, wide: bool) -> None:
    uri = f"{folder(tmp_path / 'ir', clip_of_shutter(wide=wide))}?fps=10"
    assert [frame.shutter for frame in frames(uri)] == [False] * 12 + [True] * 6 + [False] * 6
    assert not any(frame.shutter for frame in frames(uri, shutter="off"))


def test_videos(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "ir.mp4", clip_of_shutter(wide=False))
    assert [frame.shutter for frame in frames(str(clip))] == [False] * 12 + [True] * 6 + [False] * 6


def test_unrelated_stills_are_never_held(tmp_path: Path) -> None:
    assert not any(frame.shutter for frame in frames(str(folder(tmp_path / "ir", clip_of_shutter(wide=True)))))


def test_a_visible_source_has_no_shutter(tmp_path: Path) -> None:
    uri = f"{folder(tmp_path / 'vi', clip_of_shutter(wide=False))}?fps=10"
    source = open_source(uri, band=Band.VISIBLE)
    assert not any(source.read(timeout_s=1.0).shutter for _ in range(24))
    source.close()


def test_cameras_are_held_behind_their_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the network as of a cable: what is opened again and again is held, too."""
    images = clip_of_shutter(wide=False)
    script = [make_frame(Band.THERMAL, i * 100 * MS, sequence=i, image=one) for i, one in enumerate(images)]
    monkeypatch.setattr(capture, "resolve_name", lambda name: lambda *_, **__: lambda: scripted(script))
    source = open_source("rtsp://camera.example/thermal", band=Band.THERMAL)
    assert [source.read(timeout_s=1.0).shutter for _ in images] == [False] * 12 + [True] * 6 + [False] * 6
    source.close()


def scripted(script: list[Frame]) -> ScriptedSource:
    source = ScriptedSource(Band.THERMAL, script, live=True)
    source.info = replace(source.info, width_px=160, height_px=120)
    return source


def test_the_word_of_the_camera_ends_after_three_seconds_too() -> None:
    def said(index: int) -> Frame:
        frame = make_frame(Band.THERMAL, index * 100 * MS, sequence=index, image=image(plane(), seed=index, wide=True))
        return replace(frame, shutter=index >= 5)

    source = ShutterSource(ScriptedSource(Band.THERMAL, [said(index) for index in range(50)], live=True))
    marks = [source.read(timeout_s=1.0).shutter for _ in range(50)]
    assert marks == [False] * 5 + [True] * 31 + [False] * 14


def test_a_run_counts_what_was_held_and_marks_it(tmp_path: Path) -> None:
    ir = f"{folder(tmp_path / 'ir', clip_of_shutter(wide=True))}?fps=10"
    vis = f"{folder(tmp_path / 'vi', [np.full((120, 160), 90, np.uint8)] * 24)}?fps=10"
    with rtfusion.open(ir=ir, vis=vis, fuser="average") as stream:
        fused = list(stream)
    assert [frame.thermal_state.get("shutter", False) for frame in fused] == [False] * 12 + [True] * 6 + [False] * 6
    assert stream.pairs.telemetry.snapshot()["shutter"] == 6
    contrasts = [float(frame.image.std()) for frame in fused]
    assert max(abs(contrast / contrasts[11] - 1) for contrast in contrasts[12:]) < 0.05
    with pytest.raises(ConfigError, match="shutter"):
        rtfusion.open_pairs(ir=ir, vis=vis, shutter="on")


def test_a_replay_shows_what_the_run_held(tmp_path: Path) -> None:
    ir = f"{folder(tmp_path / 'ir', clip_of_shutter(wide=True))}?fps=10"
    vis = f"{folder(tmp_path / 'vi', [np.full((120, 160), 90, np.uint8)] * 24)}?fps=10"
    build(Settings(ir=ir, vis=vis, fuser="average", sink=(f"record:{tmp_path}/sessions?reserve_mb=1",))).run()
    (session,) = (tmp_path / "sessions").iterdir()
    with rtfusion.open(ir=ir, vis=vis, fuser="average") as stream:
        first = list(stream)
    with rtfusion.open(ir=f"session:{session}", vis=f"session:{session}", fuser="average") as stream:
        again = list(stream)
    assert [frame.thermal_state for frame in again] == [frame.thermal_state for frame in first]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first, again, strict=True))
