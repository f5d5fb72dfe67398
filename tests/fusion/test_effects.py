"""Intents in the picture: what each axis does, that 0 does nothing, and that a wish is reached while frames flow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.focus import Box, Focus
from rtfusion.fusion.base import Change
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import luminance
from rtfusion.fusion.denoise import Denoiser
from rtfusion.fusion.effects import Effects
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.host import HostReady
from rtfusion.fusion.retouch import Retouch, cells_of, retouched
from rtfusion.intents import AXES, NEUTRAL, RAMP_FRAMES, Intents
from rtfusion.kernels.retouch import CompiledRetoucher
from rtfusion.registration import Calibration, PairShape
from rtfusion.registration.parallax import Parallax
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, Image8
from tests.support import MS, host_fuser, make_frame, needs_kernels

WIDTH_PX, HEIGHT_PX = 320, 240
PERSON = (slice(140, 190), slice(60, 84))
"""Rows and columns of somebody warm."""
DARK, HAZE, GLARE = (slice(130, 240), slice(0, 150)), (slice(0, 120), slice(0, 150)), (slice(40, 80), slice(220, 280))


def scene() -> tuple[Image8, Image8]:
    """A visible picture with a dark, a hazy and a blinding place, in color, and a thermal one with somebody in the dark."""
    rng = np.random.default_rng(7)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT_PX, WIDTH_PX)), (0, 0), 1.5)
    texture *= 1 / texture.std()
    gray = 120 + 30 * texture
    gray[DARK] = 25 + 6 * texture[DARK]
    gray[HAZE] = 165 + 4 * texture[HAZE]
    gray[GLARE] = 255
    visible = np.stack([gray, gray + 12, gray - 12], axis=2)
    visible[HAZE] = gray[HAZE][..., None]
    warm = 70 + 12 * cv2.GaussianBlur(rng.normal(0, 1, gray.shape), (0, 0), 3) / 0.1
    warm[PERSON] = 220
    return np.clip(visible, 0, 255).astype(np.uint8), np.clip(warm, 0, 255).astype(np.uint8)


def pair(sequence: int = 0) -> FramePair:
    visible, thermal = scene()
    at_ns = sequence * 33 * MS
    return FramePair(
        visible=make_frame(Band.VISIBLE, at_ns, image=visible),
        thermal=make_frame(Band.THERMAL, at_ns, image=thermal),
        sequence=sequence,
    )


def opened(telemetry: Telemetry | None = None, **given: Any) -> PairFuser[HostReady]:
    telemetry = telemetry or Telemetry()
    focus = Focus(telemetry=telemetry, still=True)
    return host_fuser("pyramid", telemetry=telemetry, focus=focus, color="everywhere", **given)


def shown(wish: str, *, regions: tuple[Box, ...] = ()) -> Image8:
    """The picture of a run that begins with a wish."""
    fuse = opened(wish=Intents.parse(wish))
    fuse.change(Change(regions=regions))
    return fuse(pair()).image


def level(image: Image8, where: tuple[slice, slice]) -> float:
    return float(luminance(image)[where].mean())


def deviation(image: Image8, where: tuple[slice, slice]) -> float:
    return float(luminance(image)[where].std())


def fine(image: Image8) -> float:
    gray = luminance(image).astype(float)
    return float(np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1.0))[150:230, 170:310].mean())


def chroma(image: Image8) -> float:
    return float((image.max(axis=2).astype(int) - image.min(axis=2)).mean())


def with_thermal(image: Image8) -> float:
    visible, thermal = scene()
    with_both = [np.corrcoef(luminance(image).ravel(), band.ravel())[0, 1] for band in (thermal, luminance(visible))]
    return float(with_both[0] - with_both[1])


SOMEBODY = Box(target="people", left=60 / 320, top=140 / 240, right=84 / 320, bottom=190 / 240)
AROUND = (slice(150, 230), slice(170, 310))
MEASURES: dict[str, Callable[[Image8], float]] = {
    "thermal": with_thermal,
    "people": lambda image: level(image, PERSON) - level(image, (slice(200, 230), slice(20, 140))),
    "brighten": lambda image: level(image, (slice(200, 230), slice(20, 140))),
    "tame_glare": lambda image: 255 - level(image, GLARE),
    "clear_haze": lambda image: deviation(image, (slice(20, 100), slice(20, 130))),
    "detail": fine,
    "color": chroma,
    "background": lambda image: -deviation(image, AROUND),
}


@pytest.mark.parametrize("axis", MEASURES)
def test_more_of_an_axis_is_more_of_what_it_says(axis: str) -> None:
    regions = (SOMEBODY,) if axis in ("people", "background") else ()
    pictures = [shown(f"{axis}={value}", regions=regions) for value in (-1, -0.5, 0, 0.5, 1)]
    values = [MEASURES[axis](picture) for picture in pictures]
    assert values == sorted(values)
    assert values[0] < values[2] < values[4]


def test_noise_stays_as_far_as_it_is_asked() -> None:
    visible, thermal = scene()
    remains = []
    for left in (0.0, 0.5, 1.0):
        rng, denoise = np.random.default_rng(1), Denoiser(visible=True, thermal=True, note=Telemetry().note)
        for sequence in range(20):
            noisy = np.clip(visible + rng.normal(0, 6, visible.shape[:2])[..., None], 0, 255).astype(np.uint8)
            came = FramePair(
                visible=make_frame(Band.VISIBLE, sequence * 33 * MS, image=noisy),
                thermal=make_frame(Band.THERMAL, sequence * 33 * MS, image=thermal),
                sequence=sequence,
            )
            picture = denoise(came, left=left).visible.image
        remains.append((luminance(picture).astype(float) - luminance(visible))[AROUND].std())
    assert remains[0] < 0.5 * remains[1] < 0.5 * remains[2]
    np.testing.assert_array_equal(picture, noisy)


def test_what_is_faint_and_fine_goes_where_nothing_else_is() -> None:
    flat = (slice(20, 100), slice(20, 130))

    def grain(image: Image8) -> float:
        gray = luminance(image).astype(float)
        return float(np.abs(gray - cv2.blur(gray, (3, 3)))[flat].mean())

    grains = [grain(shown(f"denoise={value}")) for value in (-1, 0, 1)]
    assert grains[0] > grains[1] > grains[2]


def test_at_0_on_every_axis_the_picture_is_the_same_to_the_bit() -> None:
    as_it_is = opened()(pair()).image
    np.testing.assert_array_equal(shown(",".join(f"{axis}=0" for axis in AXES)), as_it_is)
    fuse = opened()
    fuse.change(Change(intents="thermographer"))
    fuse(pair())
    fuse.change(Change(intents=NEUTRAL))
    for _ in range(RAMP_FRAMES):
        image = fuse(pair()).image
    np.testing.assert_array_equal(image, as_it_is)


def test_color_at_minus_1_is_gray() -> None:
    image = shown("color=-1")
    assert int((image.max(axis=2).astype(int) - image.min(axis=2)).max()) == 0


def test_a_change_is_seen_in_the_next_frame_and_reached_in_eight() -> None:
    fuse = opened()
    frames = [fuse(pair(0))]
    fuse.change(Change(intents={"brighten": 0.8}))
    frames += [fuse(pair(sequence)) for sequence in range(1, 11)]
    assert [frame.sequence for frame in frames] == list(range(11))
    assert [frame.intents.get("brighten", 0.0) for frame in frames] == pytest.approx(
        [0, *(0.1 * step for step in range(1, 9)), 0.8, 0.8]
    )
    assert [frame.intents_version for frame in frames] == [0] + [1] * 10
    levels = [float(frame.image.mean()) for frame in frames]
    assert levels[0] < levels[1]
    assert levels == sorted(levels)


def test_a_mapping_moves_some_axes_and_a_wish_all() -> None:
    fuse = opened()
    fuse.change(Change(intents={"color": -0.5}))
    fuse.change(Change(intents={"people": 1.0}))
    assert fuse.intents == Intents(people=1.0, color=-0.5)
    fuse.change(Change(intents="surveillance,detail=0.5"))
    assert fuse.intents == fuse.presets["surveillance"].changed({"detail": 0.5})
    fuse.change(Change(palette=None))
    assert fuse(pair()).intents_version == 3
    with pytest.raises(ConfigError, match="did you mean people"):
        fuse.change(Change(intents={"poeple": 1.0}))
    assert fuse(pair()).intents_version == 3


@pytest.mark.parametrize("fuser", ["average", "overlay"])
def test_some_fusers_take_no_intents(fuser: str) -> None:
    fuse = host_fuser(fuser)
    with pytest.raises(ConfigError, match=f"intents are for the fusers pyramid and learned, and the fuser is {fuser}"):
        fuse.change(Change(intents={"color": -1.0}))
    fuse.change(Change(intents=NEUTRAL))
    telemetry = Telemetry()
    fuse = host_fuser(fuser, telemetry=telemetry)
    recorded = FramePair(visible=pair().visible, thermal=pair().thermal, sequence=0, intents={"color": -1.0})
    assert fuse(recorded).intents == {}
    assert telemetry.notes[0].startswith("the recorded intents are left out: intents are for the fusers")


def test_recorded_intents_are_followed_until_others_are_asked_for() -> None:
    fuse = opened()

    def recorded(intents: dict[str, float]) -> FramePair:
        return FramePair(visible=pair().visible, thermal=pair().thermal, sequence=0, intents=intents)

    assert fuse(recorded({"color": -0.25})).intents == {"color": -0.25}
    assert fuse(recorded({})).intents == {}
    assert fuse(recorded({"color": -1.0})).intents == {"color": -1.0}
    fuse.change(Change(intents=NEUTRAL))
    first = fuse(recorded({"color": -1.0}))
    assert first.intents == {"color": pytest.approx(-1 + 1 / RAMP_FRAMES)}
    for _ in range(RAMP_FRAMES):
        last = fuse(recorded({"color": -1.0}))
    assert last.intents == {}


def test_where_the_thermal_camera_does_not_see_none_of_it_is_shown() -> None:
    half = Calibration.from_homography(
        visible_from_thermal_px=np.array([[1.0, 0.0, 160.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        visible_size_px=(WIDTH_PX, HEIGHT_PX),
        thermal_size_px=(WIDTH_PX, HEIGHT_PX),
    )
    fuse = opened(calibration=half)
    as_it_is = fuse(pair()).image
    fuse.change(Change(intents={"thermal": 1.0}))
    for _ in range(RAMP_FRAMES):
        image = fuse(pair()).image
    changed = cv2.absdiff(luminance(image), luminance(as_it_is))
    assert changed[:, :120].max() <= 1
    assert changed[:, 200:].mean() > 3


def test_what_was_spared_for_a_target_is_not_once_there_is_none() -> None:
    cold = Box(target="marked", left=0.6, top=0.6, right=0.9, bottom=0.9)
    wish = Intents(background=-1.0)
    fuse, without = opened(wish=wish), opened(wish=wish)
    fuse.change(Change(regions=[cold]))
    for sequence in range(3):
        fuse(pair(sequence)), without(pair(sequence))
    fuse.change(Change(regions=[]))
    np.testing.assert_array_equal(fuse(pair(3)).image, without(pair(3)).image)


def test_a_background_without_targets_is_what_is_not_warm_and_that_is_said() -> None:
    telemetry = Telemetry()
    fuse = opened(telemetry)
    as_it_is = fuse(pair()).image
    fuse.change(Change(intents={"background": 1.0}))
    for _ in range(RAMP_FRAMES):
        image = fuse(pair()).image
    assert abs(level(image, PERSON) - level(as_it_is, PERSON)) < 3
    assert deviation(image, AROUND) < 0.8 * deviation(as_it_is, AROUND)
    assert any("what is warm counts as foreground" in note for note in telemetry.notes)


def test_color_of_a_gray_picture_is_said_to_be_none() -> None:
    telemetry = Telemetry()
    fuse = opened(telemetry)
    fuse.change(Change(intents={"color": 1.0}))
    visible, thermal = scene()
    gray = FramePair(
        visible=make_frame(Band.VISIBLE, 0, image=luminance(visible)),
        thermal=make_frame(Band.THERMAL, 0, image=thermal),
        sequence=0,
    )
    for _ in range(RAMP_FRAMES):
        image = fuse(gray).image
    assert chroma(image) == 0
    assert any(note.startswith("color: there is none in this picture") for note in telemetry.notes)


def random_retouch(shape: tuple[int, int], rng: np.random.Generator, *, parts: tuple[str, ...]) -> Retouch:
    def share(spread: float, middle: float = 0.0) -> np.ndarray:
        return (middle + spread * rng.standard_normal(cells_of(shape))).astype(np.float32)

    lift, press = rng.uniform(-0.9, 2), rng.uniform(-0.4, 0.4)
    return Retouch(
        own=share(0.3, 1.0), plus=share(10.0), lift=lift, press=press, **{name: share(0.4) for name in parts}
    )


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (8, 8), (17, 40), (60, 81), (240, 320)])
@pytest.mark.parametrize("parts", [(), ("thermal",), ("fine", "core"), ("visible", "thermal", "fine", "core")])
def test_the_compiled_loop_gives_what_opencv_gives(shape: tuple[int, int], parts: tuple[str, ...]) -> None:
    rng = np.random.default_rng(3)
    retouch = CompiledRetoucher()
    for _ in range(3):
        names = ("fused_y", "thermal", "visible_y")
        wide = {name: rng.integers(0, 256, (shape[0], shape[1] + 3), dtype=np.uint8) for name in names}
        planes = {name: image[:, 1 : 1 + shape[1]] for name, image in wide.items()}  # rows with gaps between them
        how = random_retouch(shape, rng, parts=parts)
        dense = {name: np.ascontiguousarray(image) for name, image in planes.items()}
        made = retouch(how, **planes, take=fresh)
        assert cv2.absdiff(made, retouched(how, **dense)).max() <= 1


@needs_kernels
@pytest.mark.parametrize("lift", [-0.85, 1.8])
@pytest.mark.parametrize("press", [-0.22, 0.22])
def test_the_curve_rises_and_leaves_black_alone(lift: float, press: float) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(8, 32)
    ones, none = np.ones(cells_of(image.shape), np.float32), np.zeros(cells_of(image.shape), np.float32)
    planes = {"fused_y": image, "thermal": image, "visible_y": image}
    for retouch in (CompiledRetoucher(), retouched):
        made = retouch(Retouch(own=ones, plus=none, lift=lift, press=press), **planes, take=fresh).ravel().astype(int)
        assert made[0] == 0
        assert (np.diff(made) >= 0).all()
        assert np.sign(made[30] - 30) == np.sign(lift)


@needs_kernels
def test_what_does_not_fit_is_refused_and_read_nowhere() -> None:
    image = np.zeros((20, 30), np.uint8)
    ones = np.ones((3, 4), np.float32)
    for how, planes in (
        (Retouch(own=ones[:2], plus=ones), {}),
        (Retouch(own=ones, plus=ones, thermal=ones[:, :3]), {}),
        (Retouch(own=ones, plus=ones), {"thermal": image[:19]}),
    ):
        with pytest.raises(ValueError, match=r"expected|another shape"):
            CompiledRetoucher()(how, **{"fused_y": image, "thermal": image, "visible_y": image, **planes}, take=fresh)


def test_places_are_judged_a_few_times_a_second_also_where_parallax_moves_every_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = []
    mixed = Effects._mixed
    monkeypatch.setattr(Effects, "_mixed", lambda self, *args, **given: judged.append(0) or mixed(self, *args, **given))
    fuse = opened(wish=Intents(detail=0.5), parallax="layers")
    base = fuse._register(PairShape.of(pair()), None)
    monkeypatch.setattr(Parallax, "registration", lambda *_, **__: copy.copy(base))
    for sequence in range(12):
        fuse(pair(sequence))
    assert len(judged) == 2


def test_another_registration_is_seen_at_once() -> None:
    def shifted(dx: float) -> Calibration:
        return Calibration.from_homography(
            visible_from_thermal_px=np.array([[1.0, 0.0, dx], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            visible_size_px=(WIDTH_PX, HEIGHT_PX),
            thermal_size_px=(WIDTH_PX, HEIGHT_PX),
        )

    wish = Intents(thermal=1.0, background=0.5)
    fuse = opened(calibration=shifted(10.0), wish=wish)
    for sequence, dx in enumerate((200.0, 20.0, 160.0)):
        fuse.change(Change(calibration=shifted(dx)))
        np.testing.assert_array_equal(
            fuse(pair(sequence)).image, opened(calibration=shifted(dx), wish=wish)(pair(sequence)).image
        )
