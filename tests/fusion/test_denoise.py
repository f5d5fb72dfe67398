"""Denoising: what is clean passes to the bit, what is noise goes, what moves is neither held back nor drawn out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.capture import open_source
from rtfusion.fusion.denoise import BandDenoiser, Denoiser
from rtfusion.fusion.grain import GrainMeter
from rtfusion.fusion.passes import OPENCV
from rtfusion.fusion.recursion import RecursiveMean
from rtfusion.types import Band, Frame, FramePair, Image
from tests.support import MS, make_frame, needs_kernels

HEIGHT, WIDTH = 120, 160
LONG = 60
"""Frames, at 25 in a second: some time constants."""


def scene(seed: int = 0, *, low: float = 60.0, high: float = 190.0) -> np.ndarray:
    """Smooth structure with some edges, far from black and white, float64."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(low, high, (8, 10)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    coarse[30:90, 40:70] += 25.0
    return np.clip(coarse, low, high)


def gray(picture: np.ndarray) -> Image:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def counts(picture: np.ndarray) -> Image:
    return np.clip(np.rint(8000.0 + 20.0 * picture), 0, 65535).astype(np.uint16)


def stream(images: Sequence[Image], *, band: Band = Band.THERMAL, step_ms: float = 40.0) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield make_frame(band, round(index * step_ms * MS), sequence=index, image=image)


def passed(images: Sequence[Image], *, band: Band = Band.THERMAL, step_ms: float = 40.0) -> list[Image]:
    denoise = BandDenoiser(band)
    return [denoise(frame).image.copy() for frame in stream(images, band=band, step_ms=step_ms)]


def noisy(
    count: int, *, sigma: float = 8.0, seed: int = 1, picture: Callable[[int], np.ndarray] | None = None
) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    still = scene()
    return [
        (still if picture is None else picture(index)) + rng.normal(0, sigma, (HEIGHT, WIDTH)) for index in range(count)
    ]


# -- what is clean -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("kind", ["gray", "counts", "color"])
def test_clean_frames_pass_as_they_are(band: Band, kind: str) -> None:
    if (kind == "counts" and band is Band.VISIBLE) or (kind == "color" and band is Band.THERMAL):
        pytest.skip("no camera gives it")
    picture = scene()

    def moment(index: int) -> Image:
        moved = picture.copy()
        moved[20:60, 2 * index : 2 * index + 30] = 220.0
        image = counts(moved) if kind == "counts" else gray(moved)
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if kind == "color" else image

    denoise = BandDenoiser(band)
    for frame in stream([moment(index) for index in range(LONG)], band=band):
        assert denoise(frame) is frame
    assert denoise.works == ()


def test_clean_thermal_pictures_have_no_stripes(shared_data: Path) -> None:
    """Facades, fences and horizons of real scenes are not taken for stripes of the sensor."""
    for folder in ("train/msrs/ir", "train/m3svd/ir", "train/roadscene/ir"):
        for path in sorted((shared_data / folder).glob("*.*"))[::20]:
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            denoise = BandDenoiser(Band.THERMAL)
            denoise(make_frame(Band.THERMAL, 0, image=image))
            assert denoise.works == (), path


# -- what is noise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [2.0, 8.0])
@pytest.mark.parametrize("as_image", [gray, counts])
def test_still_noise_falls_to_a_third(sigma: float, as_image: Callable[[np.ndarray], Image]) -> None:
    scale = 1.0 if as_image is gray else 20.0
    shown = passed([as_image(picture) for picture in noisy(LONG, sigma=sigma)])
    error = np.stack(shown[LONG // 2 :]).astype(np.float64) - as_image(scene())
    assert np.abs(error.mean()) < 0.1 * scale
    assert error.std() < max(0.3 * sigma, 0.8) * scale


@given(
    steps_ms=st.lists(st.floats(5.0, 120.0), min_size=LONG, max_size=LONG),
    sigma=st.floats(3.0, 12.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=10)
def test_irregular_stamps_do_no_harm(steps_ms: list[float], sigma: float, seed: int) -> None:
    denoise = BandDenoiser(Band.THERMAL)
    stamps_ns = np.cumsum(np.array(steps_ms) * MS).astype(int)
    shown = [
        denoise(make_frame(Band.THERMAL, int(stamp_ns), image=gray(picture))).image
        for stamp_ns, picture in zip(stamps_ns, noisy(LONG, sigma=sigma, seed=seed), strict=True)
    ]
    assert (shown[-1] - scene()).std() < 0.6 * sigma


def test_slow_streams_are_averaged_less_and_never_smeared_over_their_frames() -> None:
    errors = {
        step_ms: (passed([gray(picture) for picture in noisy(40)], step_ms=step_ms)[-1] - scene()).std()
        for step_ms in (20.0, 100.0, 500.0)
    }
    assert errors[20.0] < errors[100.0] < errors[500.0] <= 8.0


def test_the_noise_is_measured() -> None:
    for sigma in (1.0, 4.0, 10.0):
        denoise = BandDenoiser(Band.VISIBLE)
        for frame in stream([gray(picture) for picture in noisy(20, sigma=sigma)], band=Band.VISIBLE):
            denoise(frame)
        assert denoise.noise_levels == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("as_image", [gray, counts])
def test_columns_are_evened_out(seed: int, as_image: Callable[[np.ndarray], Image]) -> None:
    scale = 1.0 if as_image is gray else 20.0
    columns = np.random.default_rng(seed).normal(0, 5, (1, WIDTH))
    wanted = scene()
    denoise = BandDenoiser(Band.THERMAL)
    for frame in stream([as_image(picture + columns) for picture in noisy(LONG, sigma=1.0)]):
        shown = denoise(frame).image
    left = shown.astype(np.float64).mean(axis=0) / scale - as_image(wanted).astype(np.float64).mean(axis=0) / scale
    assert "columns" in denoise.works
    assert np.std(left - cv2.blur(left[None], (17, 1))[0]) < 2.2


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_change_with_each_frame_are_evened_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown = passed([gray(scene() + rng.normal(0, 5, (HEIGHT, 1))) for _ in range(LONG)])
    assert np.stack(shown[LONG // 2 :]).std(axis=0).mean() < 1.3


# -- what moves ----------------------------------------------------------------------------------------------------------


def walker(index: int, *, contrast: float = 45.0) -> np.ndarray:
    """The scene with somebody who is gone after frame 35."""
    picture = scene(low=60.0, high=150.0)
    left = 4 * index
    picture[40:100, left : left + 16] += contrast
    return picture


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.0, 3.0, 8.0])
def test_a_walker_leaves_no_ghost(sigma: float, seed: int) -> None:
    shown = passed([gray(picture) for picture in noisy(LONG, sigma=sigma, seed=seed, picture=walker)])
    wanted = scene(low=60.0, high=150.0)
    for index in range(20, 32):
        behind = np.s_[40:100, max(0, 4 * index - 40) : 4 * index - 4]
        ghost = cv2.blur(shown[index].astype(np.float64) - wanted, (9, 9))[behind]
        assert abs(ghost.mean()) < 1.0
        assert np.abs(ghost).mean() < 2.0


@pytest.mark.parametrize("sigma", [0.0, 3.0, 8.0])
def test_a_walker_comes_without_lag(sigma: float) -> None:
    shown = passed([gray(picture) for picture in noisy(36, sigma=sigma, picture=walker)])
    for index in range(10, 34):
        front = np.s_[44:96, 4 * index + 12 : 4 * index + 16]
        assert abs((shown[index][front] - walker(index)[front]).mean()) < 3.0


def test_small_things_that_move_are_seen_where_they_are() -> None:
    def bird(index: int) -> np.ndarray:
        picture = scene(low=60.0, high=150.0)
        picture[20:22, 2 * index : 2 * index + 2] += 60.0
        return picture

    shown = passed([gray(picture) for picture in noisy(LONG, sigma=3.0, picture=bird)])
    for index in range(20, LONG):
        at = (
            shown[index][20:22, 2 * index : 2 * index + 2].astype(float)
            - scene(low=60.0, high=150.0)[20:22, 2 * index : 2 * index + 2]
        )
        assert at.mean() > 45.0


def test_a_hand_held_camera_keeps_its_edges(shared_data: Path) -> None:
    folder = shared_data / "video" / "m3svd_0111_1716"
    for band, name in ((Band.THERMAL, "ir.mp4"), (Band.VISIBLE, "vi.mp4")):
        source, denoise = open_source(str(folder / name), band=band), BandDenoiser(band)
        squares = []
        for _ in range(30):
            frame = source.read(timeout_s=10.0)
            squares.append(float(((denoise(frame).image.astype(float) - frame.image) ** 2).mean()))
        source.close()
        assert 10 * np.log10(255**2 / np.mean(squares[5:])) > 45.0


# -- the range ------------------------------------------------------------------------------------------------------------


@given(data=st.data(), wide=st.booleans())
@settings(max_examples=40)
def test_averages_stay_in_the_range_of_what_came(data: st.DataObject, wide: bool) -> None:
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.integers(8, 21)), data.draw(st.integers(8, 21))
    top = np.iinfo(dtype).max
    low, high = sorted((data.draw(st.integers(0, top)), data.draw(st.integers(0, top))))
    mean = RecursiveMean(OPENCV.mean(shape=shape, dtype=dtype))
    came, went = [], []
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["any", "low", "high"]))
        image = {"any": rng.integers(low, high + 1, shape), "low": np.full(shape, low), "high": np.full(shape, high)}[
            kind
        ]
        came.append(image)
        noise, made = data.draw(st.floats(0, 50)), np.empty(shape, dtype)
        mean.follow(
            image.astype(dtype),
            dt_ns=data.draw(st.integers(1, 10**9)),
            pixel_noise=noise,
            cell_noise=noise / 2,
            out=made,
        )
        went.append(made)
        assert (went[-1] >= np.min(came, axis=0)).all()
        assert (went[-1] <= np.max(came, axis=0)).all()


# -- when memory begins anew ----------------------------------------------------------------------------------------------

WARM = [gray(picture) for picture in noisy(30)]
OTHER = gray(255.0 - scene(3) + np.random.default_rng(9).normal(0, 8, (HEIGHT, WIDTH)))


def warm() -> BandDenoiser:
    denoise = BandDenoiser(Band.THERMAL)
    for frame in stream(WARM):
        denoise(frame)
    assert denoise.works == ("grain",)
    return denoise


@pytest.mark.parametrize("stamp_ms", [1200.0, 400.0, 5000.0, -1.0], ids=["cut", "back", "gap", "far back"])
def test_after_a_cut_a_gap_and_going_back_a_frame_is_as_it_came(stamp_ms: float) -> None:
    is_cut = stamp_ms == 1200.0
    frame = make_frame(Band.THERMAL, round(stamp_ms * MS), image=OTHER if is_cut else WARM[3])
    assert warm()(frame) is frame


def test_another_size_begins_anew() -> None:
    denoise = warm()
    for index in range(3):
        frame = make_frame(Band.THERMAL, (1200 + 40 * index) * MS, image=np.full((90, 100), 80 + index, np.uint8))
        assert denoise(frame) is frame


def test_behind_the_shutter_the_last_picture_stays_and_memory_ends() -> None:
    denoise = warm()
    last = denoise(make_frame(Band.THERMAL, 1200 * MS, image=WARM[5])).image
    for index in range(1, 4):
        shut = replace(make_frame(Band.THERMAL, (1200 + 40 * index) * MS, image=WARM[5]), shutter=True)
        held = denoise(shut)
        assert held.shutter
        assert held.timestamp_ns == shut.timestamp_ns
        np.testing.assert_array_equal(held.image, last)
    after = make_frame(Band.THERMAL, 1400 * MS, image=WARM[6])
    assert denoise(after) is after


def test_the_same_frame_again_gives_the_same_again() -> None:
    """A thermal frame may serve several visible ones, and is no new evidence."""
    once, often = BandDenoiser(Band.THERMAL), BandDenoiser(Band.THERMAL)
    for frame in stream(WARM):
        wanted = once(frame).image
        for again in (frame, frame, replace(frame, image=frame.image.copy())):
            np.testing.assert_array_equal(often(again).image, wanted)


def test_other_pictures_of_one_stamp_are_not_the_same_frame() -> None:
    denoise = warm()
    for image in (WARM[0], WARM[1]):
        frame = make_frame(Band.THERMAL, 1200 * MS, image=image)
        np.testing.assert_allclose(denoise(frame).image.astype(float).mean(), image.mean(), atol=1.0)
    assert np.abs(denoise(frame).image.astype(int) - image).max() == 0


def test_two_runs_give_the_same_to_the_bit() -> None:
    first, second = (passed(WARM) for _ in range(2))
    np.testing.assert_array_equal(np.stack(first), np.stack(second))


@pytest.mark.parametrize("as_image", [gray, counts])
def test_who_begins_later_on_a_beat_comes_to_the_same(as_image: Callable[[np.ndarray], Image]) -> None:
    images = [as_image(picture) for picture in noisy(320, sigma=3.0)]
    begins, step_ns = 100, 100 * MS
    whole, part = BandDenoiser(Band.THERMAL), BandDenoiser(Band.THERMAL)
    apart = []
    for index, frame in enumerate(stream(images, step_ms=100)):
        expected = whole(frame).image
        if index >= begins:
            image = part(replace(frame, timestamp_ns=(index - begins) * step_ns)).image
            apart.append(np.count_nonzero(image != expected) / image.size)
    assert apart[0] > 0.8
    assert max(apart[150:]) < 1e-3


@pytest.mark.parametrize(("level", "is_kept"), [(0.25, True), (1.0, False)])
def test_counts_of_more_than_a_gray_level_each_are_not_let_go(level: float, is_kept: bool) -> None:
    rng = np.random.default_rng(5)
    images = [np.rint(8000.45 + rng.normal(0, 1.0, (HEIGHT, WIDTH))).astype(np.uint16) for _ in range(80)]
    shown = []
    for let_go in ((), (slice(None),)):
        mean = RecursiveMean(OPENCV.mean(shape=(HEIGHT, WIDTH), dtype=np.uint16))
        for image in images:
            out = np.empty_like(image)
            mean.follow(image, dt_ns=33 * MS, pixel_noise=1.0, cell_noise=0.5, level=level, out=out, let_go=let_go)
        shown.append(out)
    assert np.array_equal(*shown) == is_kept


def test_unrelated_stills_are_left_alone() -> None:
    denoise = Denoiser(visible=False, thermal=False, note=pytest.fail)
    for index, image in enumerate(WARM):
        pair = FramePair(
            visible=make_frame(Band.VISIBLE, 0, image=image),
            thermal=make_frame(Band.THERMAL, 0, image=image),
            sequence=index,
        )
        assert denoise(pair) is pair
    assert denoise.state == {}


# -- in the fuser ---------------------------------------------------------------------------------------------------------


def pairs(thermal: Sequence[Image], visible: Image) -> Iterator[FramePair]:
    for index, image in enumerate(thermal):
        yield FramePair(
            visible=make_frame(Band.VISIBLE, index * 40 * MS, image=visible),
            thermal=make_frame(Band.THERMAL, index * 40 * MS, image=image),
            sequence=index,
        )


def opened(**values: Any) -> tuple[Any, Any]:
    from rtfusion.config import Settings
    from rtfusion.fusion.fuser import open_fuser
    from rtfusion.telemetry import Telemetry

    telemetry = Telemetry()
    return open_fuser(Settings(**values), telemetry=telemetry), telemetry


VISIBLE = cv2.cvtColor(gray(scene(5)), cv2.COLOR_GRAY2BGR)


def deviation(fuser: str, denoise: str) -> float:
    fuse, _ = opened(fuser=fuser, denoise=denoise)
    shown = [fuse(pair).image.astype(np.float32) for pair in pairs(WARM + WARM, VISIBLE)]
    return float(np.stack(shown[30:]).std(axis=0).mean())


def test_fusers_that_amplify_get_less_noise_and_the_mean_gets_what_came() -> None:
    assert deviation("pyramid", "auto") < 0.35 * deviation("pyramid", "off")
    assert deviation("average", "auto") == deviation("average", "off")


def test_what_is_recorded_and_measured_is_what_the_camera_gave() -> None:
    fuse, _ = opened(fuser="pyramid", units="counts")
    stream_of_counts = [counts(picture) for picture in noisy(20)]
    for pair in pairs(stream_of_counts, VISIBLE):
        fused = fuse(pair)
        assert fused.pair is pair
        assert fused.thermal_state["spot"] == pair.thermal.image[HEIGHT // 2, WIDTH // 2]
        assert fused.thermal_state["max"] == pair.thermal.image.max()
    assert fused.thermal_state["denoised"] == "grain"
    assert fused.thermal_state["noise_levels"] > 1.0


def test_the_table_says_once_what_is_done() -> None:
    fuse, telemetry = opened(fuser="pyramid")
    for pair in pairs(WARM, VISIBLE):
        fuse(pair)
    said = [note for note in telemetry.notes if note.startswith("thermal")]
    assert len(said) == 1
    assert "averaged over time" in said[0]


def test_measured_readings_do_not_stay_in_the_picture() -> None:
    """The crosses of a frame are drawn on that frame: the one kept for the next has none."""
    drawn, plain = opened(fuser="pyramid", units="counts")[0], opened(fuser="pyramid")[0]
    stream_of_counts = [counts(picture) for picture in noisy(12)]
    marked = [drawn(pair).image for pair in pairs(stream_of_counts, VISIBLE)]
    clean = [plain(pair).image for pair in pairs(stream_of_counts, VISIBLE)]
    for with_marks, without in zip(marked, clean, strict=True):
        assert (with_marks == without).all(axis=2).mean() > 0.85


@pytest.mark.parametrize("size", [(480, 640), (481, 643)], ids=str)
@pytest.mark.parametrize("kernels", [pytest.param(True, marks=needs_kernels), False])
def test_no_frame_allocates_an_image(size: tuple[int, int], kernels: bool) -> None:
    """Frames of a camera would each cost what the system takes for new memory."""
    rng = np.random.default_rng(0)
    colors = [rng.integers(100, 120, (*size, 3)).astype(np.uint8) for _ in range(24)]
    fused = [rng.integers(100, 120, (*size, 3)).astype(np.uint8) for _ in range(24)]
    grays = [np.ascontiguousarray(image[..., 0]) for image in colors]
    denoise = Denoiser(visible=True, thermal=True, note=lambda text: None, kernels=kernels)

    def run(begin: int, end: int) -> None:
        for index in range(begin, end):
            visible = make_frame(Band.VISIBLE, index * 40 * MS, image=colors[index])
            thermal = make_frame(Band.THERMAL, index * 40 * MS, image=grays[index])
            denoise(FramePair(visible=visible, thermal=thermal, sequence=index))
            denoise.settled(fused[index], timestamp_ns=index * 40 * MS)

    run(0, 17)
    tracemalloc.start()
    run(17, 20)  # in none of these is the noise measured
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # in frames of other sizes than multiples of 4 the weight of the blocks is copied
    assert peak_bytes < (1.6 if size[0] % 4 == 0 else 2.6) * size[0] * size[1]


@pytest.mark.parametrize("sigma", [0.0, 6.0])
@pytest.mark.parametrize("step_px", [0, 1, 4, 9])
def test_the_meter_tells_motion_from_noise(step_px: int, sigma: float) -> None:
    """In scenes that are rough here and smooth there; where all is one texture it cannot."""
    rng = np.random.default_rng(4)
    rough = cv2.resize(rng.uniform(-60, 60, (60, 160)), (1280, 480), interpolation=cv2.INTER_CUBIC)
    where = cv2.resize(rng.uniform(0, 1, (6, 16)) ** 2, (1280, 480), interpolation=cv2.INTER_CUBIC)
    meter = GrainMeter()
    for index in range(20):
        seen = np.s_[:, index * step_px : index * step_px + 640]
        picture = 120.0 + rough[seen] * where[seen] + rng.normal(0, sigma, (480, 640))
        meter.look(gray(picture), is_due=True, timestamp_ns=index * 40 * MS, strips=index)
    assert meter.pixel < max(1.15 * sigma, 0.06 * meter.change, 0.3)
    if step_px <= 1:
        assert meter.pixel >= 0.8 * sigma
