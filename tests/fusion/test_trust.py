from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import rtfusion
from benchmarks.robust.pairs import gradient_kept
from rtfusion.cli.app import app
from rtfusion.fusion import trust
from rtfusion.fusion.blocks import find_grids, smooth_blocks
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import luminance
from rtfusion.fusion.trust import Worths, judged, worth_of
from rtfusion.types import Image8
from tests.support import MS

SIZE = 480, 640


def textured(seed: int = 0, *, low: int = 30, high: int = 200) -> Image8:
    coarse = np.random.default_rng(seed).integers(low, high, (30, 40), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def with_lamp(visible_y: Image8, *, radius_px: int = 60, center_px: tuple[int, int] = (320, 240)) -> Image8:
    lit = visible_y.copy()
    cv2.circle(lit, center_px, radius_px, 255, -1)
    return lit


def lamp_area(radius_px: int = 56) -> np.ndarray:
    area = np.zeros(SIZE, np.uint8)
    cv2.circle(area, (320, 240), radius_px, 1, -1)
    return area > 0


# -- what is trusted ----------------------------------------------------------------------------------------------------


def test_two_good_bands_change_nothing() -> None:
    visible_y, thermal, fused_y = textured(1), textured(2), textured(3)
    verdict = judged(visible_y=visible_y, thermal=thermal)
    assert (verdict.visible, verdict.thermal, verdict.burnt, verdict.faults) == (1.0, 1.0, None, ())
    assert verdict.shown(fused_y=fused_y, visible_y=visible_y, thermal=thermal) is fused_y


@given(level=st.integers(0, 255), noise=st.integers(0, 3), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_blank_band_leaves_the_other_one_untouched(level: int, noise: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    blank = np.clip(level + rng.normal(0, noise, SIZE), 0, 255).astype(np.uint8)
    good, fused_y = textured(1, low=0, high=250), textured(3)
    for visible_y, thermal, fault in ((good, blank, "thermal blank"), (blank, good, "visible blank")):
        verdict = judged(visible_y=visible_y, thermal=thermal)
        assert verdict.faults == (fault,)
        np.testing.assert_array_equal(verdict.shown(fused_y=fused_y, visible_y=visible_y, thermal=thermal), good)


def test_of_two_blank_bands_the_visible_one_is_shown() -> None:
    visible_y, thermal = np.full(SIZE, 9, np.uint8), np.full(SIZE, 99, np.uint8)
    verdict = judged(visible_y=visible_y, thermal=thermal)
    shown = verdict.shown(fused_y=textured(), visible_y=visible_y, thermal=thermal)
    np.testing.assert_array_equal(shown, visible_y)


def test_a_person_far_away_is_enough_for_a_band_to_count() -> None:
    thermal = np.full(SIZE, 40, np.uint8)
    thermal[200:224, 300:308] = 90
    assert judged(visible_y=textured(), thermal=thermal).thermal == 1.0


def test_a_band_fades_in() -> None:
    """From blank to worth all by degrees, so that a picture at the edge does not flicker."""
    worths = []
    for contrast in np.linspace(0, 10, 41):
        thermal = np.full(SIZE, 40, np.uint8)
        thermal[:, 320:] += round(contrast)
        worths.append(judged(visible_y=textured(), thermal=thermal).thermal)
    assert worths == sorted(worths)
    assert worths[0] == 0.0
    assert worths[-1] == 1.0
    assert max(np.diff(worths)) <= 0.35


def test_a_scene_at_the_edge_of_being_blank_does_not_flicker() -> None:
    worths, fused_y, visible_y, shown = Worths(still=False), np.full(SIZE, 80, np.uint8), textured(), []
    for index in range(90):
        thermal = np.full(SIZE, 40, np.uint8)
        thermal[:, 320:] += np.uint8(4 + index % 2)
        verdict = worths.follow(judged(visible_y=visible_y, thermal=thermal), timestamp_ns=index * 33 * MS)
        shown.append(verdict.shown(fused_y=fused_y, visible_y=visible_y, thermal=thermal).astype(np.int16))
    assert max(float(np.abs(later - before).mean()) for before, later in pairwise(shown[30:])) < 1.0


def test_a_lid_is_believed_at_once_and_unrelated_stills_are_what_they_are() -> None:
    blank, good = np.full(SIZE, 40, np.uint8), textured(2)
    for still in (False, True):
        worths = Worths(still=still)
        told = [
            worths.follow(judged(visible_y=textured(1), thermal=thermal), timestamp_ns=index * 33 * MS).thermal
            for index, thermal in enumerate([good, blank, good])
        ]
        assert told == [1.0, 0.0, 1.0]


# -- burnt out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused_level", [255, 235])
def test_thermal_detail_is_shown_where_the_visible_band_is_burnt_out(fused_level: int) -> None:
    thermal, visible_y = textured(2), with_lamp(textured(1))
    fused_y = np.where(lamp_area(60), np.uint8(fused_level), visible_y)
    verdict = judged(visible_y=visible_y, thermal=thermal)
    assert verdict.faults == ("visible burnt out",)
    shown = verdict.shown(fused_y=fused_y, visible_y=visible_y, thermal=thermal)
    area = lamp_area()
    kept = gradient_kept(fused_y=shown, thermal=thermal, area=area)
    assert kept is not None
    assert kept >= 0.6
    assert (shown[area] >= trust.BURNT_LEVEL).mean() == 0.0
    far = ~(cv2.dilate((visible_y > trust.WHOLE_LEVEL).astype(np.uint8), np.ones((5, 5))) > 0)
    np.testing.assert_array_equal(shown[far], fused_y[far])


def test_burnt_out_ground_that_shows_the_thermal_band_already_stays() -> None:
    thermal, visible_y = textured(2, high=150), with_lamp(textured(1))
    verdict = judged(visible_y=visible_y, thermal=thermal)
    np.testing.assert_array_equal(verdict.shown(fused_y=thermal, visible_y=visible_y, thermal=thermal), thermal)


def test_a_lamp_with_nothing_behind_it_stays_bright() -> None:
    thermal = np.full(SIZE, 60, np.uint8)
    thermal[:100] = 120
    visible_y = with_lamp(textured(1))
    shown = judged(visible_y=visible_y, thermal=thermal).shown(fused_y=visible_y, visible_y=visible_y, thermal=thermal)
    assert shown[lamp_area()].min() >= 225


@given(radius_px=st.integers(4, 200), column=st.integers(0, 639), row=st.integers(0, 479))
@settings(max_examples=25, deadline=None)
def test_a_place_is_relit_alike_whatever_is_burnt_out_far_away(radius_px: int, column: int, row: int) -> None:
    """The rectangle that is worked on does not show."""
    thermal, lit = textured(2), np.full(SIZE, 100, np.uint8)
    cv2.circle(lit, (100, 100), 30, 255, -1)
    more = lit.copy()
    more[440:476, 560:636] = 255
    alone, beside = (
        judged(visible_y=visible_y, thermal=thermal).shown(fused_y=visible_y, visible_y=visible_y, thermal=thermal)
        for visible_y in (lit, more)
    )
    np.testing.assert_allclose(alone[:240, :320].astype(int), beside[:240, :320], atol=1)
    anywhere = with_lamp(np.full(SIZE, 100, np.uint8), radius_px=radius_px, center_px=(column, row))
    shown = judged(visible_y=anywhere, thermal=thermal).shown(fused_y=anywhere, visible_y=anywhere, thermal=thermal)
    assert shown.shape == SIZE


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 64), (61, 79)])
def test_pictures_of_any_size_are_judged(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    visible_y, thermal = rng.integers(0, 256, (2, *size), dtype=np.uint8)
    visible_y[0, 0] = 255
    shown = judged(visible_y=visible_y, thermal=thermal).shown(fused_y=visible_y, visible_y=visible_y, thermal=thermal)
    assert shown.shape == size


@pytest.mark.parametrize("enhance", [0.0, None, 1.0])
def test_glare_on_real_pairs_keeps_more_thermal_gradient_than_the_mean(
    shared_data: Path, enhance: float | None
) -> None:
    kept, mean = [], []
    for stem in ("00037N", "00453D", "00275D", "00357D"):
        visible = cv2.imread(str(shared_data / "train/msrs/vi" / f"{stem}.jpg"))
        thermal = cv2.imread(str(shared_data / "train/msrs/ir" / f"{stem}.jpg"), cv2.IMREAD_GRAYSCALE)
        visible_y = cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY)
        area = cv2.erode((visible_y >= trust.BURNT_LEVEL).astype(np.uint8), np.ones((3, 3))) > 0
        for results, options in ((kept, {"enhance": enhance}), (mean, {"fuser": "average"})):
            fused = rtfusion.fuse(visible=visible, thermal=thermal, **options)
            fused_y = cv2.cvtColor(fused, cv2.COLOR_BGR2GRAY)
            results.append(gradient_kept(fused_y=fused_y, thermal=thermal, area=area) or 0.0)
    assert min(np.subtract(kept, mean)) > 0.05


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_a_run_shows_the_other_band_and_says_so(tmp_path: Path) -> None:
    folders = {}
    for name, image in (("vi", textured(1)), ("ir", np.full(SIZE, 128, np.uint8))):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for index in range(3):
            cv2.imwrite(str(folders[name] / f"{index}.png"), image)
    for arguments, untouched in (((), True), (("--no-trust",), False)):
        out = tmp_path / f"fused{len(arguments)}"
        sources = ("--ir", str(folders["ir"]), "--vis", str(folders["vi"]), "--sink", f"images:{out}")
        ran = CliRunner().invoke(app, ["run", *sources, *arguments])
        assert ran.exit_code == 0, ran.output
        assert ("not trusted, the other camera shown there: thermal blank in 3 of 3 frames" in ran.output) is untouched
        shown = cv2.imread(str(next(out.iterdir())), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(shown, textured(1)) is untouched


# -- at little cost -----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), size=st.tuples(st.integers(9, 70), st.integers(9, 70)), lamps=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_what_is_burnt_out_does_not_depend_on_how_much_is_looked_at(
    seed: int, size: tuple[int, int], lamps: int
) -> None:
    random = np.random.default_rng(seed)
    visible_y = random.integers(0, 239, size).astype(np.uint8)
    for _ in range(lamps):
        top, left = (int(random.integers(0, side)) for side in size)
        visible_y[top : top + int(random.integers(1, 12)), left : left + int(random.integers(1, 12))] = 255
    bright = trust._bright(visible_y, fresh)
    assert (bright is None) == (lamps == 0)
    everywhere = trust._burnt(visible_y, (slice(0, size[0]), slice(0, size[1])), fresh)
    there = None if bright is None else trust._burnt(visible_y, bright, fresh)
    assert (everywhere is None) == (there is None)
    np.testing.assert_array_equal(there, everywhere)


@pytest.mark.parametrize("top", [0, 8, 32, 56, 111])
def test_a_picture_shows_something_wherever_it_does(top: int) -> None:
    picture = np.full((120, 160), 90, np.uint8)
    picture[top : top + 9, 40:56] = 200
    assert judged(visible_y=picture, thermal=picture).faults == ()


def test_what_is_bright_with_texture_is_not_called_burnt_out() -> None:
    random = np.random.default_rng(1)
    wall = random.choice(np.array([150, 250], np.uint8), (120, 160))
    verdict = judged(visible_y=wall, thermal=wall)
    assert (verdict.burnt, verdict.faults) == (None, ())
    assert verdict.shown(fused_y=np.full_like(wall, 255), visible_y=wall, thermal=wall)[wall == 250].max() < 255


def test_a_wholly_white_visible_picture_leaves_the_thermal_one_as_it_is_in_color_too() -> None:
    thermal = textured(2)
    fused = rtfusion.fuse(visible=np.full((*SIZE, 3), 255, np.uint8), thermal=thermal)
    np.testing.assert_array_equal(fused, np.dstack([thermal] * 3))


@pytest.mark.parametrize("blank", ["white visible", "black visible", "flat thermal"])
def test_the_blocks_of_a_band_that_is_shown_alone_stay(blank: str) -> None:
    noise = np.random.default_rng(6).normal(0, 6, SIZE)
    scene = np.clip(textured(5, low=80, high=140) + noise, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 8])[1]
    alone = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.uint8)
    assert smooth_blocks(alone, find_grids(alone)) is not alone
    flat = np.full(SIZE, {"white visible": 255, "black visible": 0, "flat thermal": 128}[blank], np.uint8)
    visible, thermal = (alone, flat) if blank == "flat thermal" else (flat, alone)
    np.testing.assert_array_equal(luminance(rtfusion.fuse(visible=visible, thermal=thermal)), alone)


def test_a_picture_of_one_color_shows_nothing() -> None:
    green = np.zeros((*SIZE, 3), np.uint8)
    green[..., 1] = 200
    assert worth_of(green) == 0.0
    green[100:140, 100:140] = 30
    assert worth_of(green) == 1.0
