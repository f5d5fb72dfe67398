"""Every two settings together: each pair of their values fuses five frames, or is refused with a typed error."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtfusion.pipeline
from rtfusion.cli.job import run_job
from rtfusion.config import ONLY_OF, Settings, load
from rtfusion.errors import ConfigError, FusionError
from rtfusion.pipeline import Pipeline
from rtfusion.registration import Calibration
from rtfusion.registration.calibration import CameraModel, Pose
from rtfusion.session.record import RecordSink
from rtfusion.sinks import SinkContext
from rtfusion.types import Band, Frame, FramePair, FusedFrame, PixelFormat
from tests.focus.networks import detector
from tests.support import ScriptedSource, make_frame

onnx_models = pytest.importorskip("tests.onnx_models")

FRAMES = 5
RATE_HZ = 100
VISIBLE_PX, THERMAL_PX = (64, 48), (40, 32)
KELVIN_PER_COUNT = 0.04
LIVE = "synthetic:?live=true"
Values = dict[str, Any]
"""Values of settings by name, given together."""
NOT_TOGETHER = {
    ("detector", "fuser"),
    ("fuser", "enhance"),
    ("fuser", "intent"),
    ("fuser", "look"),
    ("fuser", "polarity"),
    ("fuser", "publish_mask"),
    ("fuser", "say"),
    ("calibration", "grid"),
    ("calibration", "auto_register"),
    ("sources", "options"),
    ("sources", "loop"),
}
"""The parameters of which some pair of values is refused."""


# -- what there is to combine -----------------------------------------------------------------------------------------


def images() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A visible image and 16-bit counts with a warm square in it."""
    rng = np.random.default_rng(5)
    visible = rng.integers(0, 256, (*VISIBLE_PX[::-1], 3), dtype=np.uint8)
    counts = rng.integers(7400, 7500, THERMAL_PX[::-1], dtype=np.uint16)
    for step in range(FRAMES):
        warmer = counts.copy()
        warmer[10:16, 10 + step : 16 + step] += 300
        yield visible, warmer


def live_camera(uri: object, *, band: Band, **options: object) -> ScriptedSource:
    """The images over and over, in the place of the synthetic scene, whose painting is most of the time of a short run."""

    def filmed() -> Iterator[Frame | Callable[[], None]]:
        for index, (visible, counts) in enumerate(itertools.cycle(images())):
            yield lambda: time.sleep(0.002)
            image = visible if band is Band.VISIBLE else counts
            yield make_frame(band, time.monotonic_ns(), sequence=index, image=image)

    camera = ScriptedSource(band, filmed(), live=True, rate_hz=RATE_HZ)
    if band is Band.THERMAL:
        width_px, height_px = THERMAL_PX
        camera.info = replace(camera.info, width_px=width_px, height_px=height_px, pixel_format=PixelFormat.GRAY16)
    return camera


def write_images(folder: Path) -> None:
    """The images as files, under ``vi`` and ``ir``."""
    for name in ("vi", "ir"):
        (folder / name).mkdir(parents=True)
    for index, (visible, counts) in enumerate(images()):
        cv2.imwrite(str(folder / "vi" / f"{index}.png"), visible)
        cv2.imwrite(str(folder / "ir" / f"{index}.png"), counts)


def record_session(folder: Path) -> Path:
    """The images as a session of a radiometric camera."""
    stream = {"uri": "x", "rate_hz": float(RATE_HZ), "continuous": True}
    context = SinkContext(
        rate_hz=RATE_HZ, live=True, session="abcdef", streams=dict.fromkeys(Band, stream), settings={}
    )
    sink = RecordSink(folder, context=context, segment_s=60, reserve_mb=1)
    for index, (image, counts) in enumerate(images()):
        at_ns = index * 10**9 // RATE_HZ
        visible: Frame = make_frame(Band.VISIBLE, at_ns, sequence=index, image=image)
        thermal: Frame = make_frame(Band.THERMAL, at_ns + 1, sequence=index, image=counts)
        thermal = replace(thermal, kelvin_per_count=KELVIN_PER_COUNT)
        pair = FramePair(visible=visible, thermal=thermal, sequence=index)
        sink.write(
            FusedFrame(
                image=image,
                visible=image,
                thermal=image[:, :, 0],
                timestamp_ns=at_ns,
                thermal_timestamp_ns=at_ns + 1,
                received_ns=0,
                sequence=index,
                fuser="average",
                pair=pair,
            )
        )
    sink.close(aborted=False)
    return sink.folder


def save_calibrations(folder: Path) -> tuple[Path, Path]:
    """A rig known by one homography, and one whose pose is known."""
    homography = np.array([[1.7, 0.02, -2.0], [-0.02, 1.7, -3.0], [0.0, 0.0, 1.0]])
    flat = Calibration.from_homography(
        visible_from_thermal_px=homography, visible_size_px=VISIBLE_PX, thermal_size_px=THERMAL_PX, thermal_delay_ns=0
    )
    cameras = {
        name: CameraModel(
            width_px=width,
            height_px=height,
            intrinsics=((focal, 0, (width - 1) / 2), (0, focal, (height - 1) / 2), (0, 0, 1)),
        )
        for name, (width, height), focal in (("visible", VISIBLE_PX, 70.0), ("thermal", THERMAL_PX, 42.0))
    }
    pose = Pose(rotation=((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation_m=(0.05, 0, 0))
    posed = flat.model_copy(update={**cameras, "visible_from_thermal": pose, "distance_m": 10.0})
    flat.save(folder / "flat.json")
    posed.save(folder / "posed.json")
    return folder / "flat.json", folder / "posed.json"


def choices(folder: Path) -> dict[str, Sequence[Values]]:
    """By parameter its values, those that cost little first. Settings of which one needs the other are one parameter."""
    recorded = {"vis": f"images:{folder}/vi?fps={RATE_HZ}", "ir": f"images:{folder}/ir?fps={RATE_HZ}"}
    write_images(folder)
    session = f"session:{record_session(folder / 'sessions')}"
    flat, posed = save_calibrations(folder)
    tiny = onnx_models.write(folder / "tiny.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    several = {
        "loop": (1, 2),
        "pace": (False, True),
        "pair": ("once", "hold"),
        "tolerance_ms": (None, 8.0),
        "thermal_delay_ms": (None, 2.0),
        "grid": ("visible", "thermal"),
        "upsample": ("auto", "off"),
        "refine": (False, True),
        "auto_register": (False, True),
        "fuser": ("average", "maximum", "pyramid", "overlay", "edges", "learned"),
        "look": ("eye", "detector"),
        "denoise": ("auto", "off"),
        "color": ("seen", "everywhere"),
        "palette": ("inferno", "ironbow", "white-hot", "black-hot", "rainbow"),
        "threshold": (0.6, 0.0),
        "opacity": (0.7, 1.0),
        "polarity": ("white-hot", "black-hot"),
        "intent": (None, "natural,thermal=0.5", "night-drive,color=-1,background=1,detail=1"),
        "say": (None, "make people stand out"),
        "preset": ((), ("fog: clear_haze=1",)),
        "focus_head": (True, False),
        "focus_every": (None, 1),
        "publish_mask": (False, True),
        "units": (None, "celsius", "fahrenheit", "kelvin", "counts"),
        "model": ("small", tiny),
        "precision": ("auto", "f32", "f16", "int8"),
        "enhance": (None, 0.5),
        "trust": (True, False),
        "engine": ("auto", "openvino", "onnxruntime"),  # the others need a device or the trainer's packages
        "threads": (None, 1),
        "kernels": (True, False),
        "sink": (("null:",), ("null:", f"{folder}/fused.mp4")),
        "overwrite": (True,),  # without it, the second case with the same output is refused
        "stats_json": (None, folder / "stats.json"),
        "on_loss": ("passthrough", "hold", "stop"),
        "shutter": ("auto", "off"),
    }
    return {
        "sources": (
            {**recorded, "max_frames": None},
            {**recorded, "max_frames": FRAMES},
            {"vis": str(folder / "vi"), "ir": str(folder / "ir"), "max_frames": None},
            {"vis": session, "ir": session, "max_frames": FRAMES},
            {"vis": LIVE, "ir": LIVE, "max_frames": FRAMES},
        ),
        "options": (
            {"vis_options": None, "ir_options": None},
            {"vis_options": "flip=h", "ir_options": "flip=h&rotate=180"},
        ),
        "calibration": (
            {"calibration": None, "distance_m": None, "parallax": "off"},
            {"calibration": flat, "distance_m": None, "parallax": "layers"},
            {"calibration": posed, "distance_m": None, "parallax": "off"},
            {"calibration": posed, "distance_m": 3.0, "parallax": "dense"},
        ),
        "gain": (
            {"gain": "scene", "gain_low": None, "gain_high": None},
            {"gain": "percentile", "gain_low": None, "gain_high": None},
            {"gain": "plateau", "gain_low": None, "gain_high": None},
            {"gain": "fixed", "gain_low": 7300.0, "gain_high": 7800.0},
        ),
        "detector": (
            {"focus_detector": None, "focus": ()},
            {"focus_detector": detector(folder / "detector.onnx"), "focus": ()},
            {"focus_detector": folder / "detector.onnx", "focus": ("dogs", "bicycles")},
        ),
        **{name: [{name: value} for value in values] for name, values in several.items()},
    }


# -- every pair, in few cases -----------------------------------------------------------------------------------------

Chosen = tuple[str, int]
"""A parameter and the index of its value."""


class Pairs:
    """Pairs of values that are still to be seen together, and cases that see many of them at once."""

    def __init__(self, parameters: Mapping[str, Sequence[Values]], *, seed: int) -> None:
        self._parameters = parameters
        self._rng = random.Random(seed)
        chosen = [[(name, index) for index in range(len(values))] for name, values in parameters.items()]
        pairs = [pair for one, other in itertools.combinations(chosen, 2) for pair in itertools.product(one, other)]
        self._left = dict.fromkeys(sorted(pairs, key=lambda pair: not self._fusers(*pair)))
        """Those that need one fuser come first: their cases see most of the others too."""
        self.refused: dict[tuple[str, str], list[Values]] = {}
        """By two parameters, their values that cannot be in one case."""

    def cases(self) -> Iterator[Values]:
        """Cases until no pair is left."""
        while self._left:
            first, second = next(iter(self._left))
            case = self._begun(first, second)
            if case is None:
                self.refused.setdefault((first[0], second[0]), []).append(self._settings(dict([first, second])))
                del self._left[first, second]
                continue
            for name in self._rng.sample(sorted(self._parameters), len(self._parameters)):
                if name not in case:
                    case[name] = self._best(case, name)
            del self._left[first, second]
            for pair in itertools.product(case.items(), case.items()):
                if self._counts(case, *pair):
                    self._left.pop(pair, None)
            yield self._settings(case)

    def _begun(self, first: Chosen, second: Chosen) -> dict[str, int] | None:
        """A case with this pair, and with a fuser that takes both if there is one; None where they are refused."""
        cases = [{"fuser": at, **dict([first, second])} for at in range(len(self._parameters["fuser"]))]
        legal = [case for case in cases if self._is_legal(case)]
        return max(legal, key=lambda case: self._counts(case, first, second), default=None)

    def _best(self, case: Mapping[str, int], name: str) -> int:
        """The legal value of a parameter that is in the most pairs left with what the case has; of several the first."""
        legal = [at for at in range(len(self._parameters[name])) if self._is_legal({**case, name: at})]
        return max(legal, key=lambda at: self._new_pairs(case, (name, at)))

    def _new_pairs(self, case: Mapping[str, int], chosen: Chosen) -> int:
        return sum(((other, chosen) in self._left) + ((chosen, other) in self._left) for other in case.items())

    def _counts(self, case: Mapping[str, int], first: Chosen, second: Chosen) -> bool:
        """False where the fuser of the case leaves aside one of two settings that another fuser would take."""
        fusers, fuser = self._fusers(first, second), self._parameters["fuser"][case["fuser"]]["fuser"]
        return "fuser" in (first[0], second[0]) or not fusers or fuser in fusers

    @staticmethod
    def _fusers(first: Chosen, second: Chosen) -> set[str]:
        """The fusers that take what only some take; empty where all or none take both."""
        only = [set(ONLY_OF[taker]) for name, _ in (first, second) if (taker := TAKERS.get(name)) in ONLY_OF]
        return set.intersection(*only) if only else set()

    def _is_legal(self, case: Mapping[str, int]) -> bool:
        values = self._settings(case)
        from_session = str(values.get("vis")).startswith("session:")
        if from_session and (values.get("loop", 1) > 1 or values.get("vis_options")):
            return False  # found when the session is opened
        try:
            Settings(**values)
        except ConfigError:
            return False
        return True

    def _settings(self, case: Mapping[str, int]) -> Values:
        return {key: value for name in case for key, value in self._parameters[name][case[name]].items()}


TAKERS = {name: of.taker for name, of in Settings.declared().items()}


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Pipeline]:
    """The pipelines that were built, in order."""
    pipelines: list[Pipeline] = []
    build = rtfusion.pipeline.build

    def build_and_keep(settings: Settings, **given: Any) -> Pipeline:
        pipelines.append(build(settings, **given))
        return pipelines[-1]

    monkeypatch.setattr(rtfusion.pipeline, "build", build_and_keep)
    monkeypatch.setattr("rtfusion.synthetic.source.open_synthetic", live_camera)
    return pipelines


def run(values: Values) -> None:
    """Run these settings as the command does."""
    assert run_job(load(values, file=Path(os.devnull), environ={})) == 0


def test_every_two_settings_go_together_or_are_refused(tmp_path: Path, built: list[Pipeline]) -> None:
    parameters = choices(tmp_path)
    assert {name for values in parameters.values() for name in values[0]} == set(Settings.model_fields)
    pairs = Pairs(parameters, seed=1)
    cases = list(pairs.cases())
    broken: list[str] = []
    for case in cases:
        expected = FRAMES if case["max_frames"] else FRAMES * case["loop"]
        try:
            run(case)
            if built[-1].telemetry.fused != expected:
                broken.append(f"{built[-1].telemetry.fused} frames of {expected}: {case}")
        except Exception as error:  # noqa: BLE001 - all of them are told
            broken.append(f"{type(error).__name__}: {error}: {case}")
    assert not broken, f"{len(broken)} of {len(cases)} cases:\n" + "\n".join(broken[:5])
    assert set(pairs.refused) == NOT_TOGETHER
    for values in itertools.chain(*pairs.refused.values()):
        with pytest.raises(FusionError):
            run({**parameters["sources"][0], "sink": "null:", **values})


def test_what_cannot_run_is_refused_before_anything_is_opened(tmp_path: Path, built: list[Pipeline]) -> None:
    write_images(tmp_path)
    flat, _ = save_calibrations(tmp_path)
    sources = {"vis": str(tmp_path / "vi"), "ir": str(tmp_path / "ir"), "sink": "null:", "fuser": "average"}
    for values in ({"calibration": flat, "distance_m": 3.0}, {"calibration": tmp_path / "none.json"}):
        with pytest.raises(ConfigError):
            run({**sources, **values})
    for missing in ("vis", "ir"):
        with pytest.raises(ConfigError, match=f"--{missing} is missing"):
            run({**sources, missing: None})
    assert built == []
