"""Labeled crops, and the terms that make people in them easy to find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Findable, Schedule, TrainingConfig, TrainingOptions  # noqa: E402
from rtfusion_trainer.data import make_batch  # noqa: E402
from rtfusion_trainer.distill import Run, train_student  # noqa: E402
from rtfusion_trainer.labeled import KINDS, Labeled, Scene, make_labeled, read_scenes  # noqa: E402
from rtfusion_trainer.losses import findable  # noqa: E402
from rtfusion_trainer.pairs import load_pairs  # noqa: E402
from rtfusion_trainer.student import Student  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402
from rtfusion.evaluate.detector import Detector  # noqa: E402
from rtfusion.focus import yolox  # noqa: E402
from rtfusion.fusion.color import color_kept, compose, luminance  # noqa: E402
from tests.focus.networks import SIDE_PX, detector  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402

BOX = (30, 20, 46, 60)
SETTINGS = Findable(every=1, crop_px=64, seen_px=32, degraded_share=0.0)
CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Two pairs, a warm person in one of them, and the labels."""
    folder = write_pairs(tmp_path / "data", {"street/a": (80, 96), "street/b": (80, 96)})
    x0, y0, x1, y1 = BOX
    heat = cv2.imread(str(folder / "street/ir/a.png"), cv2.IMREAD_GRAYSCALE) // 3
    heat[y0:y1, x0:x1] = 230
    cv2.imwrite(str(folder / "street/ir/a.png"), heat)
    labels = tmp_path / "labels.json"
    rows = [["person", x0, y0, x1 - x0, y1 - y0], ["bicycle", 0, 0, 12, 12]]
    labels.write_text(json.dumps({"a": {"both": rows}, "b": {"both": [["bicycle", 0, 0, 12, 12]]}, "c": {"both": []}}))
    return folder, labels


def scene_of(data: tuple[Path, Path]) -> Scene:
    (scene,) = read_scenes(data[1], data[0])
    return scene


def test_scenes_are_the_pairs_with_somebody(data: tuple[Path, Path]) -> None:
    scene = scene_of(data)
    assert scene.visible.name == "a.png"
    np.testing.assert_array_equal(scene.boxes[0], BOX)
    assert scene.kinds.tolist() == [KINDS["people"], -1]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": {}}',
        '{"a": {"both": [["person", 0, 0, 9]]}}',
        '{"a": {"both": [["person", 0, 0, "wide", 9]]}}',
        '{"z": {"both": [["person", 0, 0, 9, 9]]}}',
    ],
)
def test_labels_that_say_nothing_of_the_pairs_are_refused(data: tuple[Path, Path], text: str) -> None:
    data[1].write_text(text)
    with pytest.raises(ConfigError, match="labels"):
        read_scenes(data[1], data[0])


def test_labels_that_may_mean_either_of_two_pairs_are_refused(data: tuple[Path, Path]) -> None:
    write_pairs(data[0], {"alley/a": (80, 96)})
    with pytest.raises(ConfigError, match=r"name a, and .* has 2 pairs of that name"):
        read_scenes(data[1], data[0])


def test_who_is_hardly_in_a_crop_is_neither_wanted_nor_false(data: tuple[Path, Path]) -> None:
    folder, labels = data
    rows = [["people", 10, 20, 20, 20], ["car", 70, 20, 20, 30]]
    labels.write_text(json.dumps({"a": {"both": rows}}))
    (scene,) = read_scenes(labels, folder)
    crops = [make_labeled([scene], SETTINGS, seed=1, step=step) for step in range(40)]
    kind_by_height = {20: KINDS["people"], 30: KINDS["vehicles"]}
    for x0, y0, x1, y1, kind in (
        row for crop in crops for row in torch.column_stack((crop.boxes, crop.kinds)).tolist()
    ):
        assert kind == (kind_by_height[y1 - y0] if (x1 - x0) / 20 >= 0.75 else -1)
    assert {int(kind) for crop in crops for kind in crop.kinds} == {*kind_by_height.values(), -1}


def test_the_boxes_of_a_crop_lie_on_the_people_in_it(data: tuple[Path, Path]) -> None:
    scene = scene_of(data)
    for step in range(12):
        crop = make_labeled([scene], SETTINGS, seed=1, step=step)
        assert crop.thermal.shape == (1, 1, 64, 64)
        for (x0, y0, x1, y1), kind in zip(crop.boxes.int().tolist(), crop.kinds.tolist(), strict=True):
            if kind == KINDS["people"]:
                assert float(crop.thermal[0, 0, y0:y1, x0:x1].min()) > 0.85


def test_a_crop_is_the_same_again(data: tuple[Path, Path]) -> None:
    scene, settings = scene_of(data), replace(SETTINGS, degraded_share=1.0)
    first, again = (make_labeled([scene], settings, seed=1, step=3) for _ in range(2))
    for name, value in vars(first).items():
        torch.testing.assert_close(getattr(again, name), value, atol=0, rtol=0)


def test_a_gray_picture_adds_no_color(data: tuple[Path, Path]) -> None:
    assert not make_labeled([scene_of(data)], SETTINGS, seed=1, step=0).color.any()


def test_fused_and_color_are_what_the_runtime_composes(data: tuple[Path, Path]) -> None:
    path = data[0] / "street/vi/a.png"
    blue, green, red = (np.roll(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 9 * turn, axis=1) for turn in range(3))
    visible = np.dstack([blue, green, red])
    cv2.imwrite(str(path), visible)
    thermal = cv2.imread(str(data[0] / "street/ir/a.png"), cv2.IMREAD_GRAYSCALE)
    whole = make_labeled([scene_of(data)], replace(SETTINGS, crop_px=96), seed=1, step=0)
    if not np.array_equal(np.rint(255 * whole.thermal[0, 0].numpy()), thermal):
        visible, thermal = (np.ascontiguousarray(image[:, ::-1]) for image in (visible, thermal))
    kept = color_kept(visible=visible, thermal=thermal)
    assert 0 < kept.mean() < 255, "some of the color is kept"
    composed = compose(visible=visible, visible_y=luminance(visible), fused_y=thermal, kept=kept)
    shown = (whole.thermal + whole.color).clamp(0, 1)[0].permute(1, 2, 0)
    np.testing.assert_allclose(255 * shown, composed, atol=2)


def flat(person: float, ground: float = 0.2) -> torch.Tensor:
    image = torch.full((1, 1, 80, 96), ground)
    x0, y0, x1, y1 = BOX
    image[..., y0:y1, x0:x1] = person
    return image


@pytest.mark.parametrize(("person", "missing"), [(1.0, 0.0), (0.84, 0.0), (0.52, 0.32), (0.2, 0.64), (0.0, 0.84)])
def test_people_are_wanted_as_clear_as_in_the_band_that_shows_them_best(person: float, missing: float) -> None:
    bands = {"visible": flat(0.1), "thermal": flat(1.0), "wanted": torch.tensor([BOX], dtype=torch.float32)}
    assert float(findable.faint(flat(person), **bands)) == pytest.approx(missing, abs=1e-5)


def test_a_dark_person_is_wanted_dark() -> None:
    bands = {"visible": flat(0.0, 0.6), "thermal": flat(0.3), "wanted": torch.tensor([BOX], dtype=torch.float32)}
    fused = flat(0.5, 0.6).requires_grad_()
    findable.faint(fused, **bands).backward()
    assert float(fused.grad[0, 0, 40, 38]) > 0
    assert float(findable.faint(flat(0.1, 0.6), **bands)) == 0


def test_only_the_surround_is_held() -> None:
    box = torch.tensor([BOX], dtype=torch.float32)
    assert float(findable.ring(flat(1.0, 0.3), shown=flat(0.2, 0.3), wanted=box)) == 0
    assert float(findable.ring(flat(1.0, 0.1), shown=flat(1.0, 0.3), wanted=box)) == pytest.approx(0.2, abs=1e-6)
    rim, (x0, y0, x1, y1) = flat(1.0, 0.3), BOX
    rim[..., y0:y1, x0 - 3 : x0] = 0.0
    assert 0.01 < float(findable.ring(rim, shown=flat(1.0, 0.3), wanted=box)) < 0.1
    far = flat(1.0, 0.3)
    far[..., -4:] = 0.0
    assert float(findable.ring(far, shown=flat(1.0, 0.3), wanted=box)) == 0
    both = torch.tensor([BOX, [x1 + 1, y0, x1 + 17, y1]], dtype=torch.float32)
    neighbor = flat(1.0, 0.3)
    neighbor[..., y0:y1, x1 + 1 : x1 + 17] = 1.0
    assert float(findable.ring(neighbor, shown=flat(1.0, 0.3), wanted=both)) == 0
    assert float(findable.ring(rim, shown=flat(1.0, 0.3), wanted=box[:0])) == 0


def test_a_tutor_keeps_the_surround_as_it_shows_it(data: tuple[Path, Path]) -> None:
    config = TrainingConfig(
        schedule=Schedule(steps=30, batch=3, crop_px=64, warmup_steps=1, learning_rate=5e-3),
        findable=replace(SETTINGS, contrast=0.0, ring=2000.0),
    )
    torch.manual_seed(1)
    tutor = Student(config.network)
    torch.nn.init.constant_(tutor.offset.bias, 2.0)
    run, batch = Run(config, device=CPU, tutor=tutor), make_batch(load_pairs(data[0]), config, step=0)
    labeled = make_labeled([scene_of(data)], SETTINGS, seed=1, step=0)
    terms = [run.step(batch, labeled)[1] for _ in range(15)]
    assert terms[0]["findable_ring"] > 0.05
    assert terms[-1]["findable_ring"] < 0.8 * terms[0]["findable_ring"]


def test_what_is_wanted_is_without_the_faults(data: tuple[Path, Path]) -> None:
    scenes = [scene_of(data)]
    clean = make_labeled(scenes, SETTINGS, seed=1, step=0)
    assert torch.equal(clean.wanted_visible, clean.visible)
    assert torch.equal(clean.wanted_thermal, clean.thermal)
    degraded = [make_labeled(scenes, replace(SETTINGS, degraded_share=1.0), seed=1, step=step) for step in range(12)]
    apart = [float((one.wanted_thermal - one.thermal).abs().mean()) for one in degraded]
    assert max(apart) > 0.01
    assert all(one.wanted_thermal.shape == one.thermal.shape for one in degraded)


WANTED = torch.tensor([[10.0, 10.0, 30.0, 50.0], [60.0, 10.0, 80.0, 50.0]])


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        ([[10, 10, 30, 50]], [0.8], 0.0),
        ([[12, 10, 30, 50]], [0.1], float(np.log(0.75 / 0.15))),
        ([[10, 10, 30, 50], [90, 60, 99, 99]], [0.8, 0.7], findable.FALSE_WEIGHT * 0.5),
        ([[10, 10, 30, 50], [60, 10, 80, 50]], [0.8, 0.9], 0.0),
    ],
)
def test_what_is_missed_and_what_is_false_counts(
    boxes: list[list[float]], scores: list[float], expected: float
) -> None:
    made = torch.tensor(boxes), torch.tensor([[score, 0.0] for score in scores])
    loss = findable.missed(*made, wanted=WANTED, kinds=torch.tensor([0, -1]))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_an_empty_crop_costs_nothing() -> None:
    none = torch.zeros(0, 4)
    loss = findable.missed(WANTED, torch.zeros(2, 2), wanted=none, kinds=torch.zeros(0, dtype=torch.int64))
    assert float(loss) == 0
    assert float(findable.faint(flat(1.0), visible=flat(1.0), thermal=flat(1.0), wanted=none)) == 0


def test_a_step_on_a_labeled_crop_makes_its_people_clearer(data: tuple[Path, Path]) -> None:
    config = TrainingConfig(
        schedule=Schedule(steps=30, batch=3, crop_px=64, warmup_steps=1), findable=replace(SETTINGS, contrast=50.0)
    )
    run, batch = Run(config, device=CPU), make_batch(load_pairs(data[0]), config, step=0)
    labeled = make_labeled([scene_of(data)], SETTINGS, seed=1, step=0)
    # as dark in one band as it is bright in the other: added up, nobody is there
    labeled = replace(labeled, visible=1 - labeled.thermal)
    terms = [run.step(batch, labeled)[1] for _ in range(15)]
    assert terms[0]["findable_contrast"] > 0.05
    assert terms[-1]["findable_contrast"] < terms[0]["findable_contrast"]


def test_a_whole_training_takes_labels_and_remembers_them(data: tuple[Path, Path], tmp_path: Path) -> None:
    from rtfusion_trainer import checkpoint

    preset = tmp_path / "tiny.toml"
    preset.write_text(
        "[network]\nwidth = 16\ncontext = 8\n[schedule]\nsteps = 2\nbatch = 3\ncrop_px = 64\n"
        "[findable]\nevery = 1\ncrop_px = 64\nseen_px = 32\n"
    )
    options = TrainingOptions(data=data[0], out=tmp_path / "run", preset=str(preset), device="cpu")
    train_student(options, labels=data[1])
    assert checkpoint.load(tmp_path / "run" / "checkpoint.pt").teachers == ["labels"]
    with pytest.raises(ConfigError, match="pass --labels"):
        train_student(options, detector=tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match="no such file"):
        train_student(options, labels=data[1], detector=tmp_path / "none.onnx")


def labeled_of(box: tuple[float, float, float, float], *, size_px: tuple[int, int]) -> Labeled:
    """A gray crop of this (height, width) with a person in a box of it."""
    image, one = torch.full((1, 1, *size_px), 0.5), torch.full((1, 1, 1, 1), 0.5)
    color, means = torch.zeros(1, 3, *size_px), one.repeat(1, 2, 1, 1)
    return Labeled(image, image, image, image, means, one, color, torch.tensor([box]), torch.tensor([KINDS["people"]]))


@pytest.mark.parametrize("size_px", [(128, 128), (96, 128)])
def test_the_detector_looks_where_the_labels_are(
    data: tuple[Path, Path], tmp_path: Path, size_px: tuple[int, int]
) -> None:
    config = TrainingConfig(
        schedule=Schedule(steps=4, batch=3, crop_px=64), findable=Findable(crop_px=128, seen_px=SIDE_PX, contrast=0)
    )
    teacher = findable.Detector(detector(tmp_path / "d.onnx"), side_px=SIDE_PX, device=CPU)
    run, batch = Run(config, device=CPU, detector=teacher), make_batch(load_pairs(data[0]), config, step=0)
    there, elsewhere = (32.0, 32.0, 96.0, 80.0), (32.0, 8.0, 96.0, 24.0)
    assert run.step(batch, labeled_of(there, size_px=size_px))[1]["findable_detected"] == pytest.approx(0, abs=1e-5)
    missed = run.step(batch, labeled_of(elsewhere, size_px=size_px))[1]["findable_detected"]
    assert missed > findable.FALSE_WEIGHT * (0.9 - findable.FALSE_FROM) - 1e-3, "what it finds is false"


def test_a_detector_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives .* for 96 px"):
        findable.Detector(detector(tmp_path / "d.onnx"), side_px=96, device=CPU)
    with pytest.raises(ConfigError, match="a YOLOX of COCO"):
        findable.Detector(detector(tmp_path / "few.onnx", classes=3), side_px=SIDE_PX, device=CPU)


def assert_same_as_in_the_evaluation(path: Path, image: np.ndarray, *, side_px: int) -> None:
    boxes, scores = (
        found.numpy()
        for found in findable.Detector(path, side_px=side_px, device=CPU)(
            torch.from_numpy(yolox.letterbox(image, side_px=side_px)[0]) / 255
        )
    )
    for column, (theirs, certain) in enumerate(Detector(path)(image).values()):
        for box, score in zip(theirs, certain, strict=True):
            nearest = np.abs(np.clip(boxes, 0, side_px) - box).max(axis=1) + np.abs(scores[:, column] - score)
            assert nearest.min() < 0.05


def test_the_detector_says_the_same_as_in_the_evaluation(tmp_path: Path) -> None:
    found = [(0, (16, 16, 48, 40), 0.9), (2, (4, 4, 20, 30), 0.6), (7, (30, 30, 60, 60), 0.5)]
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    assert_same_as_in_the_evaluation(detector(tmp_path / "d.onnx", found=found), image, side_px=SIDE_PX)


@pytest.mark.shared
def test_a_real_detector_says_the_same_as_in_the_evaluation(shared_data: Path) -> None:
    path = shared_data.parent / "weights" / "yolox_nano" / "yolox_nano.onnx"
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (416, 416, 3), np.uint8), (0, 0), 9)
    assert_same_as_in_the_evaluation(path, image, side_px=416)
