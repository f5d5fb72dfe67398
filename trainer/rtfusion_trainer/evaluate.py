"""Everything that is measured of a student: on sets of pairs, on clips, and between the precisions of its file.

`evaluate` runs a model as the runtime does (`rtfusion.fusion.learned`) and gives one result that can be written as JSON; a
checkpoint is exported to a file first. The measures are those of `rtfusion.evaluate.metrics`; the classical fusers
named as references are measured beside it, on the same pairs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.evaluate import metrics
from rtfusion.evaluate.clips import ClipPair, clip_pairs
from rtfusion.evaluate.methods import Method
from rtfusion.fusion import LuminanceFuser
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.models import ModelSpec, find_model, read_spec
from rtfusion.models.shipping import shipped, shipped_names
from rtfusion.progress import steps
from rtfusion.types import Image8
from rtfusion_trainer.pairs import Pictures, image_sets, read_pair
from rtfusion_trainer.progress import heed
from rtfusion_trainer.teachers.cache import FULL_SCALE

if TYPE_CHECKING:
    from rtfusion_trainer.losses.perceptual import Vgg19Features

SCHEMA = 1
STUDENT, TEACHER = "student", "teacher"
VIDEOS = ("mp4", "mkv", "avi", "mov")
FRAME_RATE_HZ = 25
"""Frame rate of a clip that is a folder of images."""
PARITY_METRICS = ("Qabf", "SSIM", "VIF")
LEAK_PAIRS = 3
"""Pairs of every set for the leak, which is a property of the network's receptive field, not of the picture."""
HALO_EVERY = 10
"""Frames of a clip from one to the next that the halo is measured on."""
NOISE_FRAMES = 8

Open = Callable[..., LuminanceFuser]
"""Opens a way of fusing, with ``still=True`` for unrelated pictures."""
Figures = dict[str, float | None]
ImagePair = tuple[Image8, Image8]
"""Visible luminance and thermal, of one size."""


def evaluate(
    model: Path,
    *,
    data: Path | None = None,
    clips: Path | None = None,
    parity: Sequence[Path] = (),
    references: Sequence[str] = ("pyramid",),
    enhance: float | None = None,
    limit: int | None = None,
    frames: int = 60,
    threads: int | None = None,
    teacher: Pictures | None = None,
    features: Vgg19Features | None = None,
    log: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        model: an ONNX file with its contract, the name of one that ships, or a checkpoint.
        data: folder of sets SET/vi and SET/ir of unrelated pairs.
        clips: folder of clips CLIP/vi.mp4 and CLIP/ir.mp4, or folders of frames vi and ir.
        parity: files of the same student in other precisions.
        references: classical fusers, or models that come with rtfusion, to be measured beside it.
        enhance: the dial; the model's own default if None.
        limit: the first so many pairs of every set.
        frames: the first so many frames of every clip.
        threads: of the engine.
        teacher: its pictures of the pairs of ``data``, that the student and the references are held against; it is measured too.
        features: VGG-19, for the distance from the teacher in features.
        log: told what is measured next.
        stop: asked between two pairs and two frames.

    Returns:
        ``schema``; ``model``: what its contract says; ``settings``; ``sets``: by set the number of ``pairs`` and, by case,
        the means of all metrics, of the halo, and its maximum; ``clips``: by clip the ``frames`` and, by case, warp error,
        still-scene noise and halo; ``leak``: by dial; ``parity``: by file and set, how far the metrics move; ``likeness``, with a
        teacher: its ``name``, and by set and case the figures of `measure_likeness`. A figure that cannot be measured on these
        pictures is None.

    Raises:
        ConfigError: there is nothing to measure on, or something cannot be read.
        ModelError: a file is no model with a contract.
        Stopped: ``stop`` said so.
    """
    if data is None and clips is None:
        raise ConfigError("there is nothing to evaluate on; name a folder of sets, of clips, or both")
    with _model_file(model) as path:
        spec = read_spec(path)
        contract = {key: value for key, value in spec.contract().items() if key not in ("schema", "scores")}
        inputs = {} if enhance is None else {"enhance": enhance}
        learned = partial(LearnedLuminance, engine="auto", threads=threads, inputs=inputs)
        cases: dict[str, Open] = {STUDENT: partial(learned, model=path)}
        cases |= {name: _reference(name, threads=threads) for name in references}
        sets = {} if data is None else _read_sets(data, limit=limit)
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "model": {"file": model.name, **contract},
            "settings": {"enhance": _dial(spec, enhance), "limit": limit, "frames": frames},
            **{part: {} for part in ("sets", "clips", "leak", "parity")},
        }
        shown: dict[str, Open] = cases if teacher is None else {**cases, TEACHER: partial(Remembered, teacher)}
        for name, pairs in sets.items():
            log(f"{name}, {len(pairs)} pairs")
            figures = {case: measure_set(pairs, opened, stop=stop) for case, opened in shown.items()}
            result["sets"][name] = {"pairs": len(pairs), "cases": figures}
        if teacher is not None:
            result["likeness"] = {"name": teacher.identity, "sets": {}}
            for name, pairs in sets.items():
                log(f"{name} beside {teacher.identity}")
                result["likeness"]["sets"][name] = {
                    case: measure_likeness(pairs, opened, teacher=teacher, features=features, stop=stop)
                    for case, opened in cases.items()
                }
        for name, (visible, thermal) in ({} if clips is None else _clips(clips)).items():
            log(f"clip {name}")
            result["clips"][name] = measure_clip(
                visible=visible, thermal=thermal, cases=cases, frames=frames, stop=stop
            )
        result["leak"] = _leaks(cases[STUDENT], spec, sets)
        for other in parity:
            log(f"parity of {other.name}")
            result["parity"][other.name] = _parity(result["sets"], sets, partial(learned, model=find_model(other)))
    return result


def measure_set(pairs: Sequence[ImagePair], opened: Open, *, stop: Callable[[], bool] = lambda: False) -> Figures:
    """Means of the metrics and the halo over unrelated pairs of visible and thermal, and the largest halo."""
    rows: list[dict[str, float]] = []
    with closing(opened(still=True)) as fuser:
        for visible, thermal in steps(pairs, "measuring pairs"):
            heed(stop)
            fused = fuser(visible_y=visible, thermal=thermal, timestamp_ns=0)
            images = {"fused": fused, "visible": visible, "thermal": thermal}
            rows.append({**metrics.image_metrics(**images), "halo": metrics.halo(**images)})
    figures: Figures = {name: metrics.finite_mean([row[name] for row in rows]) for name in rows[0]}
    return {**figures, "halo_max": max(metrics.finite([row["halo"] for row in rows]), default=None)}


def measure_likeness(
    pairs: Sequence[ImagePair],
    opened: Open,
    *,
    teacher: Pictures,
    features: Vgg19Features | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Figures:
    """Means of `rtfusion_trainer.likeness` over pairs; ``ms`` is the median time for a pair that was fused before.

    Raises:
        ConfigError: the teacher has not seen a pair.
    """
    from rtfusion_trainer.likeness import FIGURES, likeness

    rows: list[dict[str, float]] = []
    with closing(opened(still=True)) as fuser, closing(Remembered(teacher, still=True)) as remembered:
        for visible, thermal in steps(pairs, "measuring pairs"):
            heed(stop)
            fuse = partial(fuser, visible_y=visible, thermal=thermal, timestamp_ns=0)
            fuse()  # engines prepare for a size that they have not seen
            began_s = time.perf_counter()
            fused = fuse().copy()
            took_ms = 1000 * (time.perf_counter() - began_s)
            shown = remembered(visible_y=visible, thermal=thermal, timestamp_ns=0)
            rows.append(
                {
                    **likeness(fused=fused, teacher=shown, visible=visible, thermal=thermal, features=features),
                    "ms": took_ms,
                }
            )
    figures = {name: metrics.finite_mean([row[name] for row in rows]) for name in FIGURES if name in rows[0]}
    return {**figures, "ms": float(np.median([row["ms"] for row in rows]))}


class Remembered:
    """A teacher's pictures as a way of fusing, in 8 bits."""

    def __init__(self, pictures: Pictures, *, still: bool) -> None:
        """Of unrelated pictures alone: ``still`` is True."""
        if not still:
            raise ValueError("a teacher's pictures are of unrelated pairs")
        self._pictures = pictures

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """The teacher's picture of the pair.

        Raises:
            ConfigError: the teacher has not seen it.
        """
        values = self._pictures(visible=visible_y, thermal=thermal).astype(np.float32)
        return np.rint(values * (255 / FULL_SCALE)).astype(np.uint8)

    def close(self) -> None:
        """There is nothing to release."""


def measure_clip(
    *,
    visible: str,
    thermal: str,
    cases: Mapping[str, Open],
    frames: int,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Warp error over contrast of every case and of the visible stream itself, noise of a still scene, and the halo."""
    errors: dict[str, list[float]] = {case: [] for case in ("visible", *cases)}
    halos: dict[str, list[float]] = {case: [] for case in cases}
    first: ClipPair | None = None
    before: dict[str, Image8] = {}
    count = 0
    with ExitStack() as stack:
        fusers = {case: stack.enter_context(closing(opened(still=False))) for case, opened in cases.items()}
        pairs = clip_pairs(ir=thermal, vis=visible, max_pairs=frames)
        for pair in steps(pairs, "measuring frames", total=frames):
            heed(stop)
            images = {"visible_y": pair.visible_y, "thermal": pair.thermal}
            now = {case: fuser(**images, timestamp_ns=pair.timestamp_ns).copy() for case, fuser in fusers.items()}
            now["visible"] = pair.visible_y
            for case, earlier in before.items():
                visible_y = {"previous_visible": before["visible"], "visible": now["visible"]}
                errors[case].append(metrics.warp_error(previous_fused=earlier, fused=now[case], **visible_y))
            for case in halos if count % HALO_EVERY == 0 else ():
                halos[case].append(metrics.halo(fused=now[case], visible=pair.visible_y, thermal=pair.thermal))
            first, before, count = first or pair, now, count + 1
    if first is None:
        raise ConfigError(f"{visible} and {thermal} hold no frame")
    return {
        "frames": count,
        "warp_error": {case: metrics.finite_mean(values) for case, values in errors.items()},
        "noise": _noise(visible=first.visible_y, thermal=first.thermal, cases=cases),
        "halo": {case: metrics.finite_mean(values) for case, values in halos.items()},
        "halo_max": {case: max(metrics.finite(values), default=None) for case, values in halos.items()},
    }


def scores(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The student's figures of `evaluate` as a contract takes them: set or clip to metric to value."""
    found = {name: entry["cases"][STUDENT] for name, entry in result["sets"].items()}
    for name, entry in result["clips"].items():
        names = ("warp_error", "noise", "halo", "halo_max")
        found[name] = {figure: entry[figure][STUDENT] for figure in names}
    return {
        name: {figure: value for figure, value in figures.items() if value is not None}
        for name, figures in found.items()
    }


def _reference(name: str, *, threads: int | None) -> Open:
    if name in shipped_names():
        return partial(LearnedLuminance, engine="auto", threads=threads, inputs={}, model=shipped(name))
    return Method(name=name, fuser=name).open_luminance


@contextmanager
def _model_file(model: Path) -> Iterator[Path]:
    """The ONNX file of a name, a file or a checkpoint."""
    if model.suffix != ".pt":
        yield find_model(model)
        return
    from rtfusion_trainer.export import export

    with tempfile.TemporaryDirectory() as folder:
        yield from export(model, Path(folder))


def _read_sets(data: Path, *, limit: int | None) -> dict[str, list[tuple[Image8, Image8]]]:
    """Every set, pairs of one size together, so that an engine is opened once for each."""
    sets = {name: [read_pair(*files) for files in pairs[:limit]] for name, pairs in image_sets(data).items()}
    return {name: sorted(pairs, key=lambda pair: pair[0].shape) for name, pairs in sets.items()}


def _clips(folder: Path) -> dict[str, tuple[str, str]]:
    """URIs of visible and thermal, by the name of the clip."""
    found = {}
    for inside in sorted(folder.glob("*")):
        visible, thermal = (_stream(inside, band) for band in ("vi", "ir"))
        if visible is not None and thermal is not None:
            found[inside.name] = (visible, thermal)
    if not found:
        raise ConfigError(f"{folder} holds no clips; expected folders CLIP with vi.mp4 and ir.mp4, or with vi and ir")
    return found


def _stream(folder: Path, band: str) -> str | None:
    if (folder / band).is_dir():
        return f"images:{folder / band}?fps={FRAME_RATE_HZ}"
    return next((str(path) for ending in VIDEOS if (path := folder / f"{band}.{ending}").is_file()), None)


def _noise(*, visible: Image8, thermal: Image8, cases: Mapping[str, Open]) -> Figures:
    """Remaining noise of a still picture, in gray levels, by case; for both bands, the noise that was added."""
    noisy = partial(metrics.with_noise, rng=np.random.default_rng(0))
    seen = [(noisy(visible), noisy(thermal)) for _ in range(NOISE_FRAMES)]
    found: Figures = {
        "visible": metrics.still_scene_noise(frame for frame, _ in seen),
        "thermal": metrics.still_scene_noise(frame for _, frame in seen),
    }
    for case, opened in cases.items():
        with closing(opened(still=False)) as fuser:
            found[case] = metrics.still_scene_noise(
                fuser(visible_y=frame, thermal=warm, timestamp_ns=index * 1_000_000_000 // FRAME_RATE_HZ).copy()
                for index, (frame, warm) in enumerate(seen)
            )
    return found


def _leaks(opened: Open, spec: ModelSpec, sets: Mapping[str, Sequence[tuple[Image8, Image8]]]) -> Figures:
    """The largest leak, by dial, with the means of the scene held: what is left is the network's own."""
    held = {name: scalar.default for name, scalar in spec.scalars.items() if scalar.fed_by != "user"}
    dials = (0.0, _dial(spec, None), 1.0) if "enhance" in spec.scalars else (None,)
    large = [pair for pairs in sets.values() for pair in pairs[:LEAK_PAIRS] if _leaves_room(pair[0])]
    found: Figures = {}
    for dial in dials if large else ():
        scalars = held if dial is None else {**held, "enhance": dial}
        with closing(opened(inputs=scalars, still=True)) as fuser:
            leaks = [_leak(fuser, visible=visible, thermal=thermal) for visible, thermal in large]
        found["as it is" if dial is None else f"{dial:g}"] = max(leaks)
    return found


def _leak(fuser: LuminanceFuser, *, visible: Image8, thermal: Image8) -> float:
    def fuse(*, visible: Image8, thermal: Image8) -> Image8:
        return fuser(visible_y=visible, thermal=thermal, timestamp_ns=0)

    return metrics.leak(fuse=fuse, visible=visible, thermal=thermal)


def _leaves_room(image: Image8) -> bool:
    side_px = min(image.shape) // 8
    return side_px > 0 and max(image.shape) - side_px > metrics.LEAK_DISTANCE_PX + 1


def _parity(
    measured: Mapping[str, Any], sets: Mapping[str, Sequence[tuple[Image8, Image8]]], opened: Open
) -> dict[str, Figures]:
    """Differences of `PARITY_METRICS`, by set."""
    found: dict[str, Figures] = {}
    for name, pairs in sets.items():
        here, there = measure_set(pairs, opened), measured[name]["cases"][STUDENT]
        found[name] = {
            metric: None if (value := here[metric]) is None or there[metric] is None else value - there[metric]
            for metric in PARITY_METRICS
        }
    return found


def _dial(spec: ModelSpec, enhance: float | None) -> float | None:
    if enhance is not None or "enhance" not in spec.scalars:
        return enhance
    return spec.scalars["enhance"].default
