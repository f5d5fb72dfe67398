"""The learned matcher that ships, on pictures that the project paints: a street seen by both bands, and moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.errors import ModelError
from rtfusion.registration import scale_px
from rtfusion.registration.descriptors import SHIPPED, Describer, read_matcher_spec
from rtfusion.registration.fitting import transformed
from rtfusion.registration.rough import TURNS, RoughPlace, apart_px, disagreement_px, rough_places, turned
from rtfusion.registration.structure import GrayPair, equalized
from rtfusion.synthetic import Scene
from rtfusion.types import Band
from tests import onnx_models

SIZE_PX = (480, 360)


@pytest.fixture(scope="module")
def describe() -> Iterator[Describer]:
    with closing(Describer(threads=1)) as opened:
        yield opened


def street(truth: np.ndarray) -> GrayPair:
    """The street at noon; ``truth`` puts its thermal picture into the visible one."""
    scene = Scene(visible_size_px=SIZE_PX)
    visible, thermal = (scene.render(band, 2.0) for band in (Band.VISIBLE, Band.THERMAL))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(thermal, truth, SIZE_PX, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return GrayPair(visible=equalized(visible), thermal=equalized(np.asarray(moved, np.uint8)))


def test_a_picture_that_lies_elsewhere_is_found_and_said_to(describe: Describer) -> None:
    truth = np.vstack([cv2.getRotationMatrix2D((240, 180), 3.0, 1.08), [0, 0, 1]])
    truth[:2, 2] += (25, -14)
    pair = street(truth)
    grid = np.stack(np.meshgrid(np.linspace(0, 479, 9), np.linspace(0, 359, 7)), axis=2).reshape(-1, 2)
    places = rough_places(describe, [pair])
    assert places
    off_px = np.linalg.norm(transformed(places[0].visible_from_thermal_px, grid) - transformed(truth, grid), axis=1)
    assert np.median(off_px) < 10.0
    said_px = disagreement_px(rough_places(describe, [pair]), pair)
    assert said_px == pytest.approx(apart_px(truth, visible_px=SIZE_PX, thermal_px=SIZE_PX), abs=10.0)


@pytest.mark.parametrize("thermal_px", [(160, 120), (80, 60)])
def test_a_picture_of_a_small_sensor_is_found(describe: Describer, thermal_px: tuple[int, int]) -> None:
    truth = np.vstack([cv2.getRotationMatrix2D((240, 180), -2.0, 0.95), [0, 0, 1]])
    truth[:2, 2] += (14, 20)
    whole = street(truth)
    pair = GrayPair(visible=whole.visible, thermal=cv2.resize(whole.thermal, thermal_px, interpolation=cv2.INTER_AREA))
    places = rough_places(describe, [pair])
    assert places
    assert places[0].share > 0.5
    grid = np.stack(np.meshgrid(np.linspace(0, 479, 9), np.linspace(0, 359, 7)), axis=2).reshape(-1, 2)
    small = transformed(scale_px(from_px=SIZE_PX, to_px=thermal_px), grid)
    off_px = np.linalg.norm(transformed(places[0].visible_from_thermal_px, small) - transformed(truth, grid), axis=1)
    assert np.median(off_px) < 10.0


def test_of_pictures_that_agree_nothing_is_said(describe: Describer) -> None:
    pair = street(np.eye(3))
    places = rough_places(describe, [pair])
    assert disagreement_px(places, pair) is None
    assert turned(describe, [pair], places) is None


@pytest.mark.parametrize(
    ("told", "mounted"), [("flip=h", "flip=h"), ("rotate=180", "rotate=180"), ("rotate=90", "rotate=270")]
)
def test_a_camera_that_is_mounted_otherwise_is_said_to_be(describe: Describer, told: str, mounted: str) -> None:
    pair = street(np.eye(3))
    pair = GrayPair(visible=pair.visible, thermal=np.asarray(TURNS[mounted](pair.thermal), np.uint8))
    assert turned(describe, [pair], rough_places(describe, [pair])) == told


@pytest.mark.parametrize(("share", "said"), [(0.7, 18.0), (0.5, None), (0.2, None)])
def test_who_is_very_sure_speaks_though_another_kind_of_transform_says_less(share: float, said: float | None) -> None:
    moved = [np.array([[1.0, 0, shift_px], [0, 1, 0], [0, 0, 1]]) for shift_px in (18.0, 11.0)]
    places = [
        RoughPlace(visible_from_thermal_px=one, agreed=round(1000 * share) - lead, matches=1000)
        for one, lead in zip(moved, (0, 20), strict=True)
    ]
    picture = np.zeros((480, 640), np.uint8)
    told_px = disagreement_px(places, GrayPair(visible=picture, thermal=picture))
    assert told_px == (None if said is None else pytest.approx(said))


def test_of_pictures_of_nothing_or_of_two_things_nothing_is_found(describe: Describer) -> None:
    blank = np.full(SIZE_PX[::-1], 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, SIZE_PX[::-1], np.uint8)
    for thermal in (blank, noise):
        pair = GrayPair(visible=street(np.eye(3)).visible, thermal=thermal)
        assert rough_places(describe, [pair]) == []
        assert disagreement_px(rough_places(describe, [pair]), pair) is None


def test_the_contract_says_what_the_shipped_matcher_is() -> None:
    spec = read_matcher_spec(SHIPPED)
    assert (spec.name, spec.channels, spec.license) == ("small", 32, "Apache-2.0")
    assert not any("RoadScene" in one for one in spec.data), "whose terms nobody states"


def test_another_model_is_no_matcher(tmp_path: Path) -> None:
    path = onnx_models.write(tmp_path / "tiny.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    with pytest.raises(ModelError, match="is no matcher"):
        read_matcher_spec(path)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(SHIPPED.read_bytes().replace(b"Conv", b"Conw", 1))
    with pytest.raises(ModelError):
        read_matcher_spec(damaged)
