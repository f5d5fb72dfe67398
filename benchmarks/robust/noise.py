"""Noise in the fused picture: white noise, stripes and coarse sensors over still scenes, somebody who walks, and real recordings.

Still scenes are registered pairs (``data/train/m3svd``, of four clips) with noise made here; somebody warm walks through the
thermal picture. Recordings are those of ``data/video``. All is measured in the fused picture, at the default settings, beside the
plain mean of what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion import open_pairs
from rtfusion.fusion.color import luminance
from rtfusion.fusion.denoise import BandDenoiser
from rtfusion.library import Fuser
from rtfusion.types import Band, Frame, Image8, PixelFormat

SCENES = ("0111_1803_0000", "0114_1551_0010", "0115_1834_0010", "0112_1705_0000")
SEEDS = (11, 12)
FRAMES, SETTLED = 40, 15
RATE_HZ = 25
COLUMN_BAR_LEVELS, GHOST_BAR_LEVELS = 3.0, 2.0
VIDEOS = ("m3svd_0113_1714", "m3svd_0111_1716", "m3svd_0117_1605")
VIDEO_FRAMES = 120
STILL_BLUR_PX, STILL_LEVELS, LEAST_STILL = 3.0, 1.0, 2000
"""A pixel is still while neither band, blurred by so many pixels, changes by more than so many gray levels in three frames."""
NOISE_SIGMA, COLUMN_SIGMA = 10.0, 4.0
LEAST_GAIN_DB = {Band.THERMAL: 8.0, Band.VISIBLE: 5.0}
WALKER_PX, STEP_PX, WALKER_LEVELS = (36, 110), 8, 50.0
FAR_BEHIND_PX = 60
"""The ghost is looked for from this far behind the walker on."""
NEAR_BEHIND_PX = 12

Plane = npt.NDArray[np.float32]
Row = dict[str, Any]


class Scene(NamedTuple):
    """A registered pair that stands still."""

    visible: Image8
    thermal: Plane


class Noise(NamedTuple):
    """A kind of noise on a clean thermal picture, (H, W) float; it is told the generator and the columns of the sensor."""

    name: str
    make: Callable[[Plane, np.random.Generator, Plane], Plane]


def _coarse(thermal: Plane, rng: np.random.Generator, columns: Plane) -> Plane:
    small = cv2.resize(thermal, (160, 120), interpolation=cv2.INTER_AREA)
    return np.asarray(small + rng.normal(0, 6, small.shape), np.float32)


CLEAN = Noise("none", lambda thermal, rng, columns: thermal)
COLUMNS = Noise(
    "columns 5",
    lambda thermal, rng, columns: thermal + columns + rng.normal(0, 1, thermal.shape).astype(np.float32),
)
KINDS = (
    Noise("white 8", lambda thermal, rng, columns: thermal + rng.normal(0, 8, thermal.shape).astype(np.float32)),
    Noise("rows 5", lambda thermal, rng, columns: thermal + rng.normal(0, 5, (len(thermal), 1)).astype(np.float32)),
    COLUMNS,
    Noise("160x120 with 6", _coarse),
)


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """The rows of the suite; see `benchmarks.robust`."""
    data = shared / "data"
    rows = [row for kind in KINDS for row in _still(kind, _scenes(data), model=model)]
    rows += [row for name in VIDEOS for row in _recorded(data / "video" / name, model=model)]
    return rows


# -- still scenes ---------------------------------------------------------------------------------------------------------


def _scenes(data: Path) -> Iterator[Scene]:
    for name in SCENES:
        visible, thermal = (
            cv2.imread(str(data / "train" / "m3svd" / band / f"{name}.jpg"), flag)
            for band, flag in (("vi", cv2.IMREAD_COLOR), ("ir", cv2.IMREAD_GRAYSCALE))
        )
        if visible is None or thermal is None:
            raise FileNotFoundError(f"{name} is not in {data}/train/m3svd")
        yield Scene(np.asarray(visible, np.uint8), np.asarray(thermal, np.float32))


def _still(kind: Noise, scenes: Iterator[Scene], *, model: str) -> Iterator[Row]:
    """What is left of the noise on still ground, and of a walker behind him, over the scenes and seeds."""
    left: dict[str, list[float]] = {"learned": [], "average": []}
    ghosts: list[float] = []
    for scene in scenes:
        clean = {fuser: _run(scene, CLEAN, seed=0, model=model, fuser=fuser) for fuser in left}
        for seed in SEEDS:
            shown = {fuser: _run(scene, kind, seed=seed, model=model, fuser=fuser) for fuser in left}
            for fuser, values in left.items():
                values.append(_left(shown[fuser], clean=clean[fuser], stays=kind is COLUMNS))
            walked = _run(scene, kind, seed=seed, model=model, walks=True)
            ghosts.append(_ghost(walked, without=shown["learned"]))
    learned, average = (float(np.mean(left[fuser])) for fuser in ("learned", "average"))
    case = f"still scene, {kind.name}"
    if kind is COLUMNS:
        yield _row(case, "columns beyond the scene's own", learned, mean=average, bar=COLUMN_BAR_LEVELS)
    else:
        yield _row(case, "deviation over time", learned, mean=average, bar=average)
    yield _row(case, "ghost behind a walker", float(np.mean(ghosts)), bar=GHOST_BAR_LEVELS)


def _left(shown: Plane, *, clean: Plane, stays: bool) -> float:
    """Gray levels of noise that changes from frame to frame, or of columns that stay and that the clean scene has not."""
    if stays:
        return float(np.std(_columns(shown) - _columns(clean)))
    return float(shown[SETTLED:].std(axis=0).mean())


def _run(scene: Scene, kind: Noise, *, seed: int, model: str, fuser: str = "learned", walks: bool = False) -> Plane:
    """The fused luminance of every frame, (FRAMES, H, W). One seed gives the same noise with the walker and without."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(0, 5, (1, scene.thermal.shape[1])).astype(np.float32)
    shown = []
    with _fuser(fuser, model=model) as fuse:
        for index in range(FRAMES):
            thermal = _walked(scene.thermal, index) if walks else scene.thermal
            noisy = np.clip(np.rint(kind.make(thermal, rng, columns)), 0, 255).astype(np.uint8)
            fused = fuse(visible=scene.visible, thermal=noisy, timestamp_ns=index * 1_000_000_000 // RATE_HZ)
            shown.append(luminance(fused).astype(np.float32))
    return np.stack(shown)


def _fuser(name: str, *, model: str) -> Fuser:
    return Fuser(fuser=name, model=model) if name == "learned" else Fuser(fuser=name)


def _left_px(index: int) -> int:
    return 20 + STEP_PX * index


def _walked(thermal: Plane, index: int) -> Plane:
    """The scene with somebody in it: an upright ellipse, warmer than what is behind him."""
    width, height = WALKER_PX
    shape = np.zeros(thermal.shape, np.float32)
    center = _left_px(index) + width // 2, thermal.shape[0] // 2 + 40
    cv2.ellipse(shape, center, (width // 2, height // 2), 0, 0, 360, WALKER_LEVELS, -1)
    return np.asarray(np.minimum(thermal + shape, 255.0), np.float32)


def _columns(shown: Plane) -> Plane:
    """The offset of every column that stays, without what is broad."""
    columns = shown[SETTLED:].mean(axis=(0, 1))[None]
    return np.asarray(columns - cv2.GaussianBlur(columns, (0, 0), 6.0), np.float32)[0]


def _ghost(walked: Plane, *, without: Plane) -> float:
    """How far the ground behind the walker is from how it looks without him, gray levels; noise is averaged out over 9x9 pixels.

    Part of it is the network's, which sees some pixels around each and follows means.
    """
    top, bottom = (walked.shape[1] // 2 + 40 + side * WALKER_PX[1] // 2 for side in (-1, 1))
    found = []
    for index in range(SETTLED, FRAMES - 1):
        right = _left_px(index) - NEAR_BEHIND_PX
        apart = cv2.blur(walked[index] - without[index], (9, 9))[top:bottom, max(0, right - FAR_BEHIND_PX) : right]
        found.append(float(np.abs(apart).mean()))
    return float(np.mean(found))


# -- real recordings ------------------------------------------------------------------------------------------------------


def _recorded(clip: Path, *, model: str) -> Iterator[Row]:
    """Noise over contrast where both bands stand still, and how much of made noise goes."""
    with open_pairs(ir=clip / "ir.mp4", vis=clip / "vi.mp4") as pairs:
        kept = list(islice(pairs, VIDEO_FRAMES))
    bands = {
        "visible": [luminance(pair.visible.image.astype(np.uint8, copy=False)) for pair in kept],
        "thermal": [pair.thermal.image.astype(np.uint8, copy=False) for pair in kept],
    }
    still = _still_pixels(*bands.values())
    noisier = max(_noise_over_contrast(images, still) for images in bands.values())
    shares = {}
    for fuser in ("learned", "average"):
        with _fuser(fuser, model=model) as fuse:
            shown = [
                luminance(
                    fuse(
                        visible=pair.visible.image.astype(np.uint8, copy=False),
                        thermal=pair.thermal.image,
                        timestamp_ns=pair.timestamp_ns,
                    )
                )
                for pair in kept
            ]
        shares[fuser] = _noise_over_contrast(shown, still) / noisier
    case = f"recording {clip.name}"
    yield _row(
        case, "noise over contrast, against the noisier input", shares["learned"], mean=shares["average"], bar=1.0
    )
    for band, images in zip((Band.VISIBLE, Band.THERMAL), bands.values(), strict=True):
        gained, changed = _gain_db(images, band)
        yield _row(case, f"{band.value}, made noise: dB gained", gained, bar=LEAST_GAIN_DB[band], better="higher")
        yield _row(case, f"{band.value}, as it is: dB to the input", changed, bar=45.0, better="higher")


def _still_pixels(*bands: Sequence[Image8]) -> list[npt.NDArray[np.bool_]]:
    """For every three frames in a row where both bands stand still."""
    blurred = [
        [cv2.GaussianBlur(image.astype(np.float32), (0, 0), STILL_BLUR_PX) for image in images] for images in bands
    ]
    found = []
    for index in range(2, len(bands[0])):
        is_still = np.ones(bands[0][0].shape, bool)
        for images in blurred:
            for other in (index - 1, index):
                is_still &= np.abs(images[index - 2] - images[other]) < STILL_LEVELS
        found.append(cv2.erode(is_still.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)
    return found


def _noise_over_contrast(images: Sequence[Image8], still: Sequence[npt.NDArray[np.bool_]]) -> float:
    """The second difference in time, which neither rest nor steady motion makes, over the deviation of the picture."""
    noise, contrast = [], []
    for index, where in enumerate(still, 2):
        if np.count_nonzero(where) < LEAST_STILL:
            continue
        first, second, third = (image.astype(np.float32)[where] for image in images[index - 2 : index + 1])
        noise.append(np.sqrt(np.mean((first - 2 * second + third) ** 2) / 6))
        contrast.append(images[index].std())
    return float(np.mean(noise) / np.mean(contrast))


def _gain_db(images: Sequence[Image8], band: Band) -> tuple[float, float]:
    """What denoising gains of made noise, and how near it leaves the band that has no more than its own, both in dB."""
    rng = np.random.default_rng(5)
    columns = rng.normal(0, COLUMN_SIGMA, (1, images[0].shape[1])) if band is Band.THERMAL else 0.0
    some = images[:60]
    noisy = [
        np.clip(np.rint(image + columns + rng.normal(0, NOISE_SIGMA, image.shape)), 0, 255).astype(np.uint8)
        for image in some
    ]
    late = slice(20, None)
    before, after = (_psnr_db(some[late], each[late]) for each in (noisy, _denoised(noisy, band)))
    return after - before, _psnr_db(some[late], _denoised(some, band)[late])


def _denoised(images: Sequence[Image8], band: Band) -> list[Image8]:
    denoise = BandDenoiser(band)
    return [
        np.array(
            denoise(
                Frame(
                    image=image,
                    pixel_format=PixelFormat.GRAY8,
                    band=band,
                    timestamp_ns=index * 33_333_333,
                    sequence=index,
                    received_ns=0,
                )
            ).image,
            np.uint8,
        )
        for index, image in enumerate(images)
    ]


def _psnr_db(wanted: Sequence[Image8], given: Sequence[Image8]) -> float:
    squares = [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(wanted, given, strict=True)]
    return float(10 * np.log10(255**2 / max(float(np.mean(squares)), 1e-4)))


def _row(
    case: str, figure: str, value: float, *, bar: float, mean: float | None = None, better: str = "lower"
) -> dict[str, Any]:
    return {"case": case, "figure": figure, "value": value, "mean": mean, "bar": bar, "better": better}
