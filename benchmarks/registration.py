"""Accuracy of the registration: without a target, with a board, in time, and while running.

::

    python -m benchmarks.registration --data DIR [--suite NAME ...] [--json FILE]

``DIR`` holds ``calibration/``, ``train/`` and ``video/``. The suites:

- displaced: registered pairs of another drive, their thermal picture turned, scaled, shifted and slanted by known amounts
- more: as displaced, three draws more
- repeated: the first of these draws, against the estimate of each before it was displaced: what is left is not the hand's
- slanted: as displaced, with each corner moved by up to 5 % of the picture
- coarse: as displaced, with a thermal camera of 160x120; four draws
- depth: the synthetic street filmed from two places, people at 2, 5 and 20 m; error by distance with and without parallax
- ghosts: that street, fused: doubled edges about these people, without parallax, with it, and where doubt counts
- marked: registered pairs as they are, with and without parallax along the rows and along the columns, at landmarks set by eye
- landmarks: single real pairs, displaced, against landmarks that were set by hand in both pictures
- deformed: single pairs with a known deformation, against it, beside what the best homography of all leaves
- rig: pairs of one rig without truth, alone and together
- registered: sets that were registered by their authors, against the identity; in clips, and single pairs
- boards: views of chessboards
- delay: generated traffic with a known delay
- refine: recordings whose thermal picture is knocked, and is not, and a street; error, motion and cost

Sets registered by hand are off by pixels themselves (docs/experiments.md), so displaced pairs are also held against landmarks
that were set by eye in both pictures. Where there is truth, a line at the end of a set says whether the predicted uncertainty
covers the error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from rtfusion_calibration.delay import measure_delay
from rtfusion_calibration.fitting import transformed
from rtfusion_calibration.scene import SceneEstimate, estimate_scene
from rtfusion_calibration.search import GrayPair

from benchmarks.street import depth, film, ghosts
from benchmarks.suite import DATA, Measured, Result, Row, Suite, grouped, markdown
from rtfusion.capture import open_pair
from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.evaluate.clips import ClipPair, clip_pairs
from rtfusion.pairs import open_pairs
from rtfusion.registration import Calibration, register, scale_px
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.parallax import AXES, RANGE, Lines, Parallax
from rtfusion.registration.refine import Refiner
from rtfusion.registration.structure import equalized, size_px
from rtfusion.types import Band, Image, Image8

KNOCK_PX = (5.2, 3.0)
KNOCK_CLIPS = {"m3svd_0113_1714": 90, "m3svd_0111_1716": 50}
"""Clips, and the frame of the knock."""
KNOCK_FRAMES = 180
"""Of a street, which is knocked after a third of them."""
DELAYS_MS = (10.0, 20.0, 30.0, 40.0)
GOOD = 2.0
"""Pixels, or milliseconds: what is wanted of an estimate."""
DRAWN, MORE_SEEDS, COARSE_SEEDS = 16, (3, 4, 5), (2, 6, 7, 8)
COARSE_PX = 160, 120
MARKS = Path(__file__).with_name("landmarks_roadscene.json")
"""Landmarks of registered pairs by two observers, set by eye in crops nine times enlarged of both pictures.

Neither looked at an estimate; the second knew of none either, nor which pairs are hard. A row is null where a landmark tells only
its column, and the other way round."""
BLIND = "second"
CLIP_PAIRS = 4
SINGLE_STEP = 5

Points = npt.NDArray[np.float64]


def measure(options: argparse.Namespace) -> Measured:
    """The rows of the suites that were asked for; each is told on stderr as soon as it is there."""
    cv2.setNumThreads(1)
    rows = []
    for suite in options.suite:
        for row in SUITES[suite](options.data):
            rows.append({"case": f"{suite}/{row.pop('name')}", **row})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"suites": options.suite}, rows


# -- displaced by known amounts -------------------------------------------------------------------------------------------


def displaced(data: Path) -> Iterator[Row]:
    """Turned by up to 3 degrees, scaled by 10 %, shifted by 6 %, each corner slanted by 1 %."""
    yield from _judged("displaced", _drawn(data, seed=0, count=DRAWN, motion=_similar))


def more(data: Path) -> Iterator[Row]:
    """As `displaced`, of other draws: whether one draw was a lucky one."""
    for seed in MORE_SEEDS:
        rows = _drawn(data, seed=seed, count=DRAWN, motion=_similar)
        yield from _judged(f"draw {seed}", ({**row, "name": f"{row['name']}, draw {seed}"} for row in rows))


def repeated(data: Path) -> Iterator[Row]:
    """As `displaced`; the truth is where the pair itself, not displaced, is estimated to lie."""
    yield from _judged("repeated", _repeated(data))


def slanted(data: Path) -> Iterator[Row]:
    """Each corner somewhere within 5 % of the width and the height."""
    yield from _judged("slanted", _drawn(data, seed=1, count=DRAWN, motion=partial(_corners_moved, share=0.05)))


def coarse(data: Path) -> Iterator[Row]:
    """As `displaced`, of four draws, seen by a thermal camera of 160x120; how many are within one of its pixels, too."""
    for seed in COARSE_SEEDS:
        within = 0
        rows = _drawn(data, seed=seed, count=DRAWN, motion=_similar, thermal_px=COARSE_PX)
        for row in _judged(f"draw {seed}", ({**row, "name": f"{row['name']}, draw {seed}"} for row in rows)):
            within += row.get("error_px", np.inf) <= row.get("thermal_pixel_px", 0.0)
            yield row if "thermal_pixel_px" in row else {**row, "within_a_thermal_pixel": within}


Motion = Callable[[np.random.Generator, tuple[int, int]], Matrix]


class _Draw(NamedTuple):
    """A registered pair, and the same pair displaced."""

    name: str
    given: GrayPair
    shown: GrayPair
    truth: Matrix
    """The given thermal picture from the displaced one, in pixels, as the one is displaced into the other."""


def _drawn(
    data: Path, *, seed: int, count: int, motion: Motion, thermal_px: tuple[int, int] | None = None
) -> Iterator[Row]:
    for one in _draws(data, seed=seed, count=count, motion=motion, thermal_px=thermal_px):
        size = size_px(one.shown.visible)
        points = _points(one, one.truth)
        marks = _marks(one.name)
        extra: Row = {} if thermal_px is None else {"thermal_pixel_px": size[0] / thermal_px[0]}
        extra |= {f"identity_{key}": _off_marks_px(*found) for key, found in marks.items()}
        back = cast(Matrix, np.linalg.inv(one.truth))
        displaced = {
            key: (transformed(back, thermal_px), visible_px) for key, (thermal_px, visible_px) in marks.items()
        }
        yield {"truth_px": _median_px(scale_px(from_px=size_px(one.shown.thermal), to_px=size), **points),
               **_estimated(one.name, [one.shown], **points, marks=displaced), **extra}  # fmt: skip


def _marks(name: str) -> dict[str, tuple[Points, Points]]:
    """What was found by eye in both pictures of a registered pair, see `MARKS`: (N, 2) thermal and (N, 2) visible pixels.

    ``by_eye_px`` are those of both observers, ``by_blind_eye_px`` those of the one who knew of no estimate, where there are some.
    NaN is a visible coordinate that a landmark does not tell, as a pole does not tell the row.
    """
    observed = {observer: pairs.get(name, []) for observer, pairs in _observers().items()}
    found = {"by_eye_px": [mark for marks in observed.values() for mark in marks], "by_blind_eye_px": observed[BLIND]}
    return {
        key: (
            np.array([mark["thermal_px"] for mark in marks], np.float64),
            np.array([mark["visible_px"] for mark in marks], np.float64),
        )
        for key, marks in found.items()
        if marks
    }


def _observers() -> dict[str, dict[str, list[dict[str, list[float | None]]]]]:
    return cast(
        "dict[str, dict[str, list[dict[str, list[float | None]]]]]", json.loads(MARKS.read_text(encoding="utf-8"))
    )


def _off_marks_px(found_px: Points, visible_px: Points) -> float:
    """The median distance of landmarks from where they are, by the coordinates that they tell."""
    return float(np.median(np.sqrt(np.nansum(np.square(found_px - visible_px), axis=1))))


def _repeated(data: Path) -> Iterator[Row]:
    for one in _draws(data, seed=0, count=DRAWN, motion=_similar):
        try:
            as_given = estimate_scene([one.given])
        except CalibrationError as refusal:
            yield _refused(one.name, refusal)
            continue
        points = _points(one, as_given.visible_from_thermal_px @ one.truth)
        yield _estimated(one.name, [one.shown], **points, marks=None)


def _points(one: _Draw, visible_from_thermal_px: Matrix) -> dict[str, Points]:
    grid_px = _grid(size_px(one.shown.thermal))
    return {"thermal_px": grid_px, "visible_px": transformed(visible_from_thermal_px, grid_px)}


def _draws(
    data: Path, *, seed: int, count: int, motion: Motion, thermal_px: tuple[int, int] | None = None
) -> Iterator[_Draw]:
    folder = data / "eval" / "roadscene"
    names = sorted(path.name for path in (folder / "vi").iterdir())
    random = np.random.default_rng(seed)
    for index in random.permutation(len(names))[:count]:
        pair = _images(folder, names[index])
        size = size_px(pair[0])
        truth = motion(random, size)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(pair[1], truth, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        if thermal_px is not None:
            moved = cv2.resize(moved, thermal_px, interpolation=cv2.INTER_AREA)
            truth = truth @ scale_px(from_px=thermal_px, to_px=size)
        visible, warm, displaced = (equalized(cast(Image8, image)) for image in (*pair, moved))
        yield _Draw(
            Path(names[index]).stem,
            GrayPair(visible=visible, thermal=warm),
            GrayPair(visible=visible, thermal=displaced),
            truth,
        )


def _similar(random: np.random.Generator, size: tuple[int, int]) -> Matrix:
    turn_deg, scale = random.uniform(-3, 3), random.uniform(0.9, 1.1)
    shift = random.uniform(-0.06, 0.06, 2) * size
    turned = np.vstack([cv2.getRotationMatrix2D(tuple((np.array(size) - 1) / 2), turn_deg, scale), [0, 0, 1]])
    turned[:2, 2] += shift
    return cast(Matrix, _corners_moved(random, size, share=0.01) @ turned)


def _corners_moved(random: np.random.Generator, size: tuple[int, int], *, share: float) -> Matrix:
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (np.array(size) - 1.0)
    moved = corners + random.uniform(-share, share, (4, 2)) * size
    return np.asarray(
        cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32)), dtype=np.float64
    )


# -- depth ------------------------------------------------------------------------------------------------------------------


def marked(data: Path) -> Iterator[Row]:
    """By how much landmarks of registered pairs are off along one axis, as they are and with parallax along it.

    The cameras of this set lie side by side: along the columns there is no depth, and parallax can only make it worse.
    """
    folder = data / "eval" / "roadscene"
    names = sorted({name for pairs in _observers().values() for name in pairs})
    files = {path.stem: path.name for path in (folder / "vi").iterdir()}
    missing = [name for name in names if name not in files]
    if missing:
        raise ConfigError(f"{folder}: {missing[0]} is not there, of which there are landmarks")
    for axis, direction in enumerate(AXES):
        off_px = [_off_marks_with_parallax(folder, files[name], name, direction, axis) for name in names]
        before_px, after_px = (np.abs(np.concatenate(values)) for values in zip(*off_px, strict=True))
        yield {
            "name": ("along the rows", "along the columns")[axis],
            "marks": len(before_px),
            **{f"{key}_px": float(value) for key, value in (("off", before_px.mean()), ("off_with", after_px.mean()))},
            "beyond": float((before_px > GOOD).mean()),
            "beyond_with": float((after_px > GOOD).mean()),
        }


def _off_marks_with_parallax(
    folder: Path, file: str, name: str, direction: tuple[float, float], axis: int
) -> tuple[Points, Points]:
    """(N,) each: thermal less visible coordinates of the landmarks that tell this axis, before and with parallax, in pixels."""
    visible, thermal = _images(folder, file)
    base = register(visible_size_px=size_px(visible), thermal_size_px=size_px(thermal), calibration=None)
    most_px = RANGE * base.size_px[0]
    parallax = Parallax(dense=True, lines=Lines(direction=direction, least_px=-most_px, most_px=most_px), still=True)
    parallax.registration(base, visible=visible, thermal=thermal, timestamp_ns=0)
    displacement_px = cv2.resize(cast(Image, parallax.displacement_px), base.size_px)
    thermal_px, visible_px = _marks(name)["by_eye_px"]
    tells = np.isfinite(visible_px[:, axis])
    at_px = np.where(np.isnan(visible_px), thermal_px, visible_px)[tells]
    columns, rows = np.clip(np.rint(at_px), 0, np.array(base.size_px) - 1).astype(int).T
    off_px = (thermal_px - visible_px)[tells, axis]
    return off_px, off_px - displacement_px[rows, columns]


# -- without a target -----------------------------------------------------------------------------------------------------


def landmarks(data: Path) -> Iterator[Row]:
    """Median distance between the landmarks of the visible picture and where the estimate puts those of the thermal one."""
    folder = data / "calibration" / "misaligned_affine_gt"
    try:
        truths = json.loads((folder / "gt.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {folder / 'gt.json'}: {error.strerror}") from error
    for name, truth in sorted(truths.items()):
        pair = _pair(folder, f"{name}.png")
        thermal_px, visible_px = (np.array(truth[key], dtype=np.float64) for key in ("landmarks_ir", "landmarks_vi"))
        yield _estimated(name, [pair], thermal_px=thermal_px, visible_px=visible_px)


def deformed(data: Path) -> Iterator[Row]:
    """Median residual of the known deformation."""
    folder = data / "calibration" / "warped_roadscene_gt"
    for path in sorted((folder / "flow").iterdir()):
        flow_px = np.load(path)["flow_px"].astype(np.float64)
        height, width = flow_px.shape[:2]
        warped_px = np.stack(np.meshgrid(np.arange(0, width, 8.0), np.arange(0, height, 8.0)), axis=2).reshape(-1, 2)
        columns, rows = warped_px.astype(int).T
        straight_px = warped_px + flow_px[rows, columns]
        seen = ((straight_px >= 0) & (straight_px < (width, height))).all(axis=1)
        warped_px, straight_px = warped_px[seen], straight_px[seen]
        points = {"thermal_px": warped_px, "visible_px": straight_px}
        row = _estimated(path.stem, [_pair(folder, f"{path.stem}.png", thermal="ir_warp")], **points)
        best = np.asarray(cv2.findHomography(warped_px, straight_px, 0)[0], dtype=np.float64)
        yield {**row, "best_homography_px": _median_px(best, **points)}


def rig(data: Path) -> Iterator[Row]:
    """Place the middle of the thermal picture, and its scale, by each pair alone and by all together."""
    folder = data / "calibration" / "misaligned_uav"
    names = sorted(path.name for path in (folder / "vi").iterdir())
    pairs = [_pair(folder, name) for name in names]
    rows = [_placed(Path(name).stem, [pair]) for name, pair in zip(names, pairs, strict=True)]
    yield from rows
    accepted = [row for row in rows if row["accepted"]]
    spread = {key: float(np.std([row[key] for row in accepted])) for key in ("x_px", "y_px", "scale", "turn_deg")}
    yield {"name": "spread", "accepted": len(accepted), "pairs": len(rows), **spread}
    yield _placed("all", pairs)


def registered(data: Path) -> Iterator[Row]:
    """Median distance from the identity over the picture, of clips of one set and of single pairs of another."""
    for name in ("m3svd", "roadscene"):
        folder = data / "train" / name
        files = sorted((folder / "vi").iterdir())
        groups = {path.stem: [path.name] for path in files[::SINGLE_STEP]}
        if name == "m3svd":
            clips = grouped(({"clip": path.stem.rpartition("_")[0], "name": path.name} for path in files), "clip")
            groups = {clip: _spread([row["name"] for row in rows]) for clip, rows in clips.items()}
        yield from _judged(name, _off_identity(name, folder, groups))


def _spread(names: Sequence[str]) -> list[str]:
    return [names[index] for index in np.unique(np.linspace(0, len(names) - 1, CLIP_PAIRS).astype(int))]


def _off_identity(name: str, folder: Path, groups: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    for group, names in groups.items():
        pairs = [_pair(folder, file) for file in names]
        grid_px = _grid(size_px(pairs[0].visible))
        yield {"set": name, **_estimated(group, pairs, thermal_px=grid_px, visible_px=grid_px)}


def _judged(name: str, rows: Iterable[Row], *, error: str = "error_px") -> Iterator[Row]:
    """The rows, and then `_coverage`."""
    seen = []
    for row in rows:
        seen.append(row)
        yield row
    yield _coverage(name, seen, error=error)


def _estimated(
    name: str,
    pairs: Sequence[GrayPair],
    *,
    thermal_px: Points,
    visible_px: Points,
    marks: Mapping[str, tuple[Points, Points]] | None = None,
) -> Row:
    """The error of an estimate: the median distance between points and where it puts those of the thermal picture.

    The same of landmarks that were set by eye, where there are some: thermal and visible, as `_marks` gives them.
    """

    def figures(estimate: SceneEstimate) -> Row:
        found_px = transformed(estimate.visible_from_thermal_px, thermal_px)
        off_px = np.linalg.norm(found_px - visible_px, axis=1)
        error_px, worst_px = float(np.median(off_px)), float(off_px.max())
        return {
            "error_px": error_px,
            "sigmas": error_px / estimate.uncertainty_px,
            "worst_px": worst_px,
            "worst_sigmas": worst_px / estimate.corner_uncertainty_px,
            **{
                key: _off_marks_px(transformed(estimate.visible_from_thermal_px, found), told)
                for key, (found, told) in (marks or {}).items()
            },
        }

    return _tried(name, pairs, figures)


def _placed(name: str, pairs: Sequence[GrayPair]) -> Row:
    def figures(estimate: SceneEstimate) -> Row:
        middle = (np.array(size_px(pairs[0].thermal)) - 1) / 2
        at, right = transformed(estimate.visible_from_thermal_px, middle + np.array([(0.0, 0.0), (1.0, 0.0)]))
        step = complex(*(right - at))
        turn_deg = float(np.degrees(np.angle(step)))
        place = {"x_px": float(at[0]), "y_px": float(at[1]), "scale": abs(step), "turn_deg": turn_deg}
        return {**place, "pairs": estimate.pairs, "outliers": len(estimate.outliers)}

    return _tried(name, pairs, figures)


def _tried(name: str, pairs: Sequence[GrayPair], figures: Callable[[SceneEstimate], Row]) -> Row:
    """Estimate, and give what the estimate says of itself with its ``figures``; the reason where it is refused."""
    try:
        estimate = estimate_scene(pairs)
    except CalibrationError as refusal:
        return _refused(name, refusal)
    return {
        "name": name,
        "accepted": True,
        "model": estimate.model.name.lower(),
        "rough": estimate.is_rough,
        "predicted_sigma_px": estimate.uncertainty_px,
        "corner_px": estimate.corner_uncertainty_px,
        "misfit_px": estimate.misfit_px,
        "disagreement_px": estimate.disagreement_px,
        **figures(estimate),
    }


def _refused(name: str, refusal: CalibrationError) -> Row:
    return {"name": name, "accepted": False, "reason": str(refusal).partition(": ")[2].partition(". Show")[0]}


def _coverage(name: str, rows: Sequence[Row], *, error: str = "error_px") -> Row:
    """Says whether the predicted uncertainty covers the errors: beyond two sigmas and above `GOOD` it was overconfident."""
    accepted = [row for row in rows if row["accepted"]]
    sigmas = np.abs([row["sigmas"] for row in accepted])
    is_good = np.abs([row[error] for row in accepted]) <= GOOD
    marked = [row for row in rows if "identity_by_eye_px" in row]
    blind = [row for row in rows if "identity_by_blind_eye_px" in row]
    by_eye: Row = {} if not marked else {
        "by_eye": len(marked),
        "good_by_eye": sum(row.get("by_eye_px", np.inf) <= GOOD for row in marked),
        "identity_good_by_eye": sum(row["identity_by_eye_px"] <= GOOD for row in marked),
        "by_blind_eye": len(blind),
        "good_by_blind_eye": sum(row.get("by_blind_eye_px", np.inf) <= GOOD for row in blind),
        "good_or_nearer_by_eye": sum(row["accepted"] and (row[error] <= GOOD or _is_nearer_by_eye(row)) for row in rows),
    }  # fmt: skip
    return {
        "name": f"{name}, predicted against true",
        "given": len(rows),
        "accepted": len(accepted),
        "called_rough": sum(row.get("rough", False) for row in accepted),
        "good": int(is_good.sum()),
        "within_2_sigmas": int((sigmas <= 2.0).sum()),
        "overconfident": int((~is_good & (sigmas > 2.0)).sum()),
        "rms_sigmas": float(np.sqrt(np.square(sigmas).mean())) if accepted else None,
        **by_eye,
    }


def _is_nearer_by_eye(row: Row) -> bool:
    """Within `GOOD` of landmarks and nearer than the registration by hand: the blind observer's, where there are some."""
    key = "by_blind_eye_px" if "by_blind_eye_px" in row else "by_eye_px"
    return bool(key in row and row[key] <= GOOD and row[key] < row[f"identity_{key}"])


def _median_px(found: Matrix, *, thermal_px: Points, visible_px: Points) -> float:
    return float(np.median(np.linalg.norm(transformed(found, thermal_px) - visible_px, axis=1)))


def _grid(size: tuple[int, int]) -> Points:
    """(N, 2) points all over a picture of (width, height), its corners among them."""
    columns, rows = np.meshgrid(np.linspace(0, size[0] - 1, 21), np.linspace(0, size[1] - 1, 16))
    return np.stack([columns, rows], axis=2).reshape(-1, 2)


def _pair(folder: Path, name: str, *, thermal: str = "ir") -> GrayPair:
    visible, warm = (equalized(image) for image in _images(folder, name, thermal=thermal))
    return GrayPair(visible=visible, thermal=warm)


def _images(folder: Path, name: str, *, thermal: str = "ir") -> tuple[Image8, Image8]:
    visible, warm = (cv2.imread(str(folder / band / name), cv2.IMREAD_UNCHANGED) for band in ("vi", thermal))
    if visible is None or warm is None:
        raise ConfigError(f"{folder}: {name} is not there, or no image, in vi/ or {thermal}/")
    return cast(Image8, visible), cast(Image8, warm)


# -- boards, delay, refinement --------------------------------------------------------------------------------------------


def boards(data: Path) -> Iterator[Row]:
    """Views in which each camera's board was found, and the errors of what was solved."""
    from rtfusion_calibration.board import Board
    from rtfusion_calibration.collect import Collector
    from rtfusion_calibration.solve import solve

    for name, corners in (("checkerboard_heated_board", "6x4"), ("checkerboard_vimslab", "9x6")):
        folder = data / "calibration" / name
        board = Board.parse(f"chessboard:{corners}", spacing_mm=30.0)
        collector = Collector(board, still=True)
        with open_pairs(ir=folder / "ir", vis=folder / "vi") as pairs:
            for pair in pairs:
                collector(pair)
        visible_px, thermal_px = (collector.sizes_px[band] for band in Band)
        solution = solve(collector.views, board=board, visible_size_px=visible_px, thermal_size_px=thermal_px)
        quality = solution.calibration.quality
        yield {
            "name": name.partition("_")[2],
            "looked": collector.looks,
            "visible": sum(view.visible is not None for view in collector.views),
            "thermal": sum(view.thermal is not None for view in collector.views),
            "views": len(solution.used),
            "rms_px": quality.rms_px if quality else None,
            "epipolar_px": quality.epipolar_px if quality else None,
        }


def delay(data: Path) -> Iterator[Row]:
    """Generated traffic, five seconds of it."""
    del data
    for seed, true_ms in enumerate(DELAYS_MS):
        uri = f"synthetic:?delay_ms={true_ms:g}&frames=150&seed={seed + 1}"
        visible, thermal = open_pair(visible=uri, thermal=uri)
        name = f"{true_ms:g} ms"
        with closing(visible), closing(thermal):
            try:
                found = measure_delay(
                    visible=visible, thermal=thermal, calibration=None, seconds=5.0, stop=threading.Event()
                )
            except CalibrationError as refusal:
                yield _refused(name, refusal)
                continue
        off_ms, sigma_ms = found.delay_ns / NS_PER_MS - true_ms, found.uncertainty_ns / NS_PER_MS
        row = {"name": name, "accepted": True, "error_ms": off_ms, "predicted_sigma_ms": sigma_ms}
        yield {**row, "sigmas": off_ms / sigma_ms}


def refine(data: Path) -> Iterator[Row]:
    """Registered clips, with a knock of 6 pixels and without one; and a street, whose registration is known."""
    for clip, frame in KNOCK_CLIPS.items():
        folder = data / "video" / clip
        pairs = list(clip_pairs(ir=folder / "ir.mp4", vis=folder / "vi.mp4"))
        for name, knock_px in (("knocked", KNOCK_PX), ("left alone", (0.0, 0.0))):
            yield {"name": f"{clip}, {name}", **_refined(pairs, knock_px=knock_px, at=frame)}
    for kind in ("day", "night"):
        pairs = film(kind, frames=KNOCK_FRAMES)
        yield {"name": f"street by {kind}, knocked", **_refined(pairs, knock_px=KNOCK_PX, at=KNOCK_FRAMES // 3)}


def _refined(pairs: Sequence[ClipPair], *, knock_px: tuple[float, float], at: int) -> Row:
    height, width = pairs[0].visible_y.shape
    identity = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(width, height), thermal_size_px=(width, height)
    )
    base = register(visible_size_px=(width, height), thermal_size_px=(width, height), calibration=identity)
    refiner = Refiner(grid="visible")
    knocked = np.array([[1.0, 0.0, knock_px[0]], [0.0, 1.0, knock_px[1]]])
    moved_px, busy_ns = [], []
    for index, pair in enumerate(pairs):
        thermal, timestamp_ns = pair.thermal, pair.timestamp_ns
        if index >= at and knock_px != (0.0, 0.0):
            thermal = cast(Image8, cv2.warpAffine(thermal, knocked, (width, height), borderMode=cv2.BORDER_REPLICATE))
        started_ns = time.thread_time_ns()
        registration = refiner.registration(base, timestamp_ns=timestamp_ns)
        spent_ns = time.thread_time_ns() - started_ns
        registered_thermal = cast(Image8, registration.thermal(thermal))
        started_ns = time.thread_time_ns()
        refiner.observe(visible=pair.visible_y, thermal=registered_thermal, timestamp_ns=timestamp_ns)
        busy_ns.append(spent_ns + time.thread_time_ns() - started_ns)
        moved_px.append(refiner.state["shift_px"])
    shifts_px, stamps_ns = np.array(moved_px), np.array([pair.timestamp_ns for pair in pairs])
    off_px = np.linalg.norm(shifts_px + knock_px, axis=1)
    after_s = (stamps_ns - stamps_ns[at]) / NS_PER_S
    period_ns = float(np.median(np.diff(stamps_ns)))
    following = (after_s > 0) & (after_s <= 3.0)
    return {
        "frames": len(pairs),
        "seconds_after": float(after_s[-1]),
        "left_px_after_3_s": float(off_px[after_s <= 3.0][-1]),
        "left_px_at_end": float(off_px[-1]),
        "measured_off_px": refiner.state["off_px"],
        "largest_step_px": float(np.linalg.norm(np.diff(shifts_px, axis=0), axis=1).max()),
        "moved_px_before": float(np.linalg.norm(shifts_px[:at], axis=1).max()),
        "budget_share_at_rest": float(np.mean(busy_ns[:at]) / period_ns),
        "budget_share_following": float(np.mean(np.array(busy_ns)[following]) / period_ns),
    }


SUITES: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "displaced": displaced,
    "more": more,
    "repeated": repeated,
    "slanted": slanted,
    "coarse": coarse,
    "depth": depth,
    "ghosts": ghosts,
    "marked": marked,
    "landmarks": lambda data: _judged("landmarks", landmarks(data)),
    "deformed": lambda data: _judged("deformed", deformed(data)),
    "rig": rig,
    "registered": registered,
    "boards": boards,
    "delay": lambda data: _judged("delay", delay(data), error="error_ms"),
    "refine": refine,
}

# -- the table ------------------------------------------------------------------------------------------------------------


def table(data: Result) -> str:
    """Markdown: a line for every case, all figures of a suite in one table."""
    parts = []
    for suite, group in itertools.groupby(data["rows"], key=lambda row: row["case"].partition("/")[0]):
        rows = list(group)
        keys = list(dict.fromkeys(key for row in rows for key in row if key != "case"))
        body = [[row["case"].partition("/")[2], *(_cell(row.get(key)) for key in keys)] for row in rows]
        parts.append(markdown([suite, *(key.replace("_", " ") for key in keys)], body))
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


SUITE = Suite(
    name="registration",
    help=__doc__,
    options={
        "--data": DATA,
        "--suite": {"nargs": "+", "default": list(SUITES), "choices": list(SUITES), "metavar": "NAME"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
