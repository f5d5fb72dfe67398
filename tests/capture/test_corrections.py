"""What a user says of a source by its URI, and what it does to every frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.capture import open_pair, open_source
from rtfusion.capture.corrections import CorrectedSource
from rtfusion.capture.parameters import CONVERTERS, Corrections, Region, region
from rtfusion.errors import ConfigError
from rtfusion.types import Band
from tests.capture.clips import patterns, read_all, write_clip
from tests.support import MS, ScriptedSource, make_frame

RAMP = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)


def source_of(image: np.ndarray = RAMP) -> ScriptedSource:
    source = ScriptedSource(Band.THERMAL, [make_frame(Band.THERMAL, 5 * MS, image=image)])
    source.info = replace(source.info, width_px=image.shape[1], height_px=image.shape[0])
    return source


def corrected(image: np.ndarray = RAMP, **asked: str) -> np.ndarray:
    values = {key: CONVERTERS[key](text) for key, text in asked.items()}
    source = CorrectedSource(source_of(image), Corrections(**values))
    frame = source.read(timeout_s=0)
    assert frame.size_px == source.info.size_px
    assert frame.image.flags.c_contiguous
    return frame.image


def test_a_part_of_the_picture() -> None:
    assert np.array_equal(corrected(crop="8,4,20,10"), RAMP[4:14, 8:28])
    assert np.array_equal(corrected(crop="20x10+8+4"), RAMP[4:14, 8:28])


def test_the_halves_of_an_odd_picture_are_of_one_size() -> None:
    odd = RAMP[:47, :63]
    assert np.array_equal(corrected(odd, half="left"), odd[:, :31])
    assert np.array_equal(corrected(odd, half="right"), odd[:, 32:])
    assert np.array_equal(corrected(odd, half="top"), odd[:23])
    assert np.array_equal(corrected(odd, half="bottom"), odd[24:])


@pytest.mark.parametrize(("flip", "expected"), [("h", RAMP[:, ::-1]), ("v", RAMP[::-1]), ("hv", RAMP[::-1, ::-1])])
def test_mirrored(flip: str, expected: np.ndarray) -> None:
    assert np.array_equal(corrected(flip=flip), expected)


def test_cut_out_first_then_turned_then_mirrored() -> None:
    expected = np.rot90(RAMP[4:14, 8:28], -1)[:, ::-1]
    assert np.array_equal(corrected(crop="8,4,20,10", rotate="90", flip="h"), expected)


def test_a_masked_mark_is_gone_and_the_scene_goes_on_through_it() -> None:
    ramp = np.tile(np.linspace(1000, 3000, 64), (48, 1)).astype(np.uint16)
    marked = ramp.copy()
    marked[10:20, 30:40] = 65535
    filled = corrected(marked, mask="30,10,10,10")
    assert np.abs(filled.astype(int) - ramp).max() < 150
    outside = np.ones_like(ramp, bool)
    outside[10:20, 30:40] = False
    assert np.array_equal(filled[outside], marked[outside])


def test_a_mask_in_a_corner_and_in_color() -> None:
    image = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    image[:8, :20] = 255
    image[40:, :] = 255
    source = ScriptedSource(Band.VISIBLE, [make_frame(Band.VISIBLE, 5, image=image)])
    masks = Corrections(mask=CONVERTERS["mask"]("0,0,20,8;0,40,64,8"))
    assert np.array_equal(CorrectedSource(source, masks).read(timeout_s=0).image, np.full_like(image, (10, 20, 30)))


def test_the_frame_of_the_source_stays_as_it_was() -> None:
    before = RAMP.copy()
    corrected(before, mask="0,0,5,5", flip="h")
    assert np.array_equal(before, RAMP)


def test_stamps_are_shifted() -> None:
    source = CorrectedSource(source_of(), Corrections(shift_ms=-12.5))
    assert source.read(timeout_s=0).timestamp_ns == 5 * MS - 12_500_000


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("crop", "1,2,3", "expected X,Y,WIDTH,HEIGHT"),
        ("crop", "0,0,0,5", "the part is empty"),
        ("crop", "-1,0,5,5", "expected X,Y,WIDTH,HEIGHT"),
        ("half", "middle", "expected left, right, top or bottom"),
        ("flip", "x", "expected h, v or hv"),
        ("rotate", "45", "expected 90, 180 or 270"),
        ("mask", "1,2,3,4;", "expected X,Y,WIDTH,HEIGHT"),
        ("shift_ms", "nan", "expected milliseconds"),
    ],
)
def test_values_that_are_none(key: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CONVERTERS[key](text)


def test_parts_that_are_not_in_the_picture(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", patterns(2))
    for query, message in (
        ("crop=60,0,10,10", r"crop=60,0,10,10 is not inside of its 64x48 pixels"),
        ("mask=60,0,10,10", r"mask=60,0,10,10 is not a part of its 64x48 pixels"),
        ("mask=0,0,64,48", "is not a part of"),
        ("crop=0,0,10,10&half=left", "crop and half are given"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_source(f"{clip}?{query}", band=Band.VISIBLE)


def test_a_value_that_is_none_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    (broken := tmp_path / "clip.mp4").write_bytes(b"no video")
    for source in (str(broken), "v4l2:/dev/video98"):
        with pytest.raises(ConfigError, match="rotate=45: expected 90, 180 or 270"):
            open_source(f"{source}?rotate=45", band=Band.VISIBLE)


def test_a_region_is_read_both_ways() -> None:
    assert region("1,2,3,4") == region("3x4+1+2") == Region(1, 2, 3, 4)


def test_both_cameras_in_one_picture(tmp_path: Path) -> None:
    images = [np.hstack([image, 255 - image]) for image in patterns(3)]
    clip = write_clip(tmp_path / "split.mkv", images, codec="ffv1", pix_fmt="bgr0")
    for visible_part, thermal_part in (("half=left", "half=right"), ("crop=0,0,64,48", "crop=64,0,64,48")):
        visible, thermal = open_pair(visible=f"{clip}?{visible_part}", thermal=f"{clip}?{thermal_part}")
        for left, right, image in zip(read_all(visible), read_all(thermal), images, strict=True):
            assert np.array_equal(left.image, image[:, :64])
            assert np.array_equal(right.image, cv2.cvtColor(image[:, 64:], cv2.COLOR_BGR2GRAY))


def test_one_picture_for_both_says_how_to_part_it(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "split.mp4", patterns(2))
    for visible, thermal in ((clip, clip), (f"{clip}?half=left", f"{clip}?half=left"), (clip, f"{clip}?rotate=90")):
        with pytest.raises(ConfigError, match=r"same source .* \(\?half=left and \?half=right\)"):
            open_pair(visible=str(visible), thermal=str(thermal))
    with pytest.raises(ConfigError, match=r"same source .* \(#half=left and"):
        open_pair(visible="http://camera/1", thermal="http://camera/1")


def test_options_beside_the_uri_are_as_in_it(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", patterns(3), codec="ffv1", pix_fmt="bgr0")
    (other := tmp_path / "it's 5?.mkv").write_bytes(clip.read_bytes())
    inside = open_pair(visible=f"{clip}?crop=0,0,32,48&rotate=180", thermal=f"{other}?flip=h&shift_ms=5")
    beside = open_pair(
        visible=f"{clip}?crop=0,0,32,48",
        visible_options="rotate=180",
        thermal=str(other),
        thermal_options="flip=h&shift_ms=5",
    )
    for one, same in zip(inside, beside, strict=True):
        assert same.info == one.info  # the URI as it is shown, the size and the description
        for expected, frame in zip(read_all(one), read_all(same), strict=True):
            assert frame.timestamp_ns == expected.timestamp_ns
            assert np.array_equal(frame.image, expected.image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("crop=0,0,8,8", r"crop is given in .*clip\.mkv\?crop=0,0,32,48 and in vis_options; give it once"),
        ("rotate", r"vis_options: rotate: .*'rotate' is not a parameter; expected key=value"),
        ("rotat=90", r"clip\.mkv\?crop=0,0,32,48&rotat=90: unknown parameter 'rotat'; did you mean rotate\?"),
        ("rotate=45", r"&rotate=45: rotate=45: expected 90, 180 or 270"),
        ("token=abc", r"&token=\*\*\*: unknown parameter 'token'"),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, options: str, message: str) -> None:
    clip = write_clip(tmp_path / "clip.mkv", patterns(2))
    with pytest.raises(ConfigError, match=message):
        open_pair(visible=f"{clip}?crop=0,0,32,48", visible_options=options, thermal="synthetic:")
