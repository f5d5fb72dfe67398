"""The one command: from pairs to a card, interrupted and taken up again, with the same result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import checkpoint, recipe  # noqa: E402
from rtfusion_trainer.card import card  # noqa: E402
from rtfusion_trainer.evaluate import evaluate  # noqa: E402
from rtfusion_trainer.losses.perceptual import load_vgg19  # noqa: E402
from rtfusion_trainer.pairs import image_sets, read_pair  # noqa: E402
from rtfusion_trainer.recipe import STAGES, Recipe, RecipeOptions, run_recipe  # noqa: E402
from rtfusion_trainer.stand_in.network import StandIn, save_stand_in  # noqa: E402
from rtfusion_trainer.teachers.cache import CachedPictures  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from tests.training_data import write_pairs, write_vgg19  # noqa: E402

SIZES_PX = {"clip/scene_0001": (64, 80), "clip/scene_0002": (64, 80), "clip/scene_0003": (64, 80), "one/a": (64, 80)}
TEACHER = """
[loss]
perceptual_weight = 0.0
[loss.patches]
count = 2
[schedule]
epochs = 1
repeats = 12
batch = 4
crop_px = 32
"""
STUDENT = """
enhance_default = 0.6
[network]
name = "mine"
width = 16
context = 16
dilations = [1]
[imitation]
layers = ["conv1_2"]
[schedule]
steps = 14
batch = 3
crop_px = 48
save_every = 3
"""


@pytest.fixture
def options(tmp_path: Path) -> RecipeOptions:
    """A recipe that takes seconds."""
    torch.manual_seed(0)
    encoder = StandIn()
    torch.nn.init.normal_(encoder.words.weight)
    save_stand_in(tmp_path / "encoder.pt", encoder, card={})
    (tmp_path / "teacher.toml").write_text(TEACHER)
    (tmp_path / "student.toml").write_text(STUDENT)
    return RecipeOptions(
        pairs=write_pairs(tmp_path / "data", SIZES_PX),
        out=tmp_path / "out",
        stand_in=tmp_path / "encoder.pt",
        clip_test=False,
        goal=("the thermal targets glow",),
        away_from=("flat",),
        teacher_preset=str(tmp_path / "teacher.toml"),
        student_preset=str(tmp_path / "student.toml"),
        init=None,
        shifts="none",
        smoke_every=3,
        trained_on=("noise",),
        license_id="CC0-1.0",
        device="cpu",
        threads=1,
    )


def stopping_after(count: int):
    """A request to stop that comes when it has been asked for so many times."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return stop


def model_of(out: Path) -> str:
    """The graph and its contract but for the scores, as a checksum."""
    import onnx

    (path,) = (out / "models").glob("*.onnx")
    model = onnx.load(path)
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != "rtfusion.scores"]
    return hashlib.sha256(model.graph.SerializeToString() + repr(sorted(kept)).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interrupted_twice_it_ends_as_one_that_was_not(
    options: RecipeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_recipe(replace(options, out=options.out / "whole"))
    told = capsys.readouterr().err
    assert whole is not None
    assert "noise" in whole.read_text()
    assert all(f"stage {number}/{len(STAGES)} {name}" in told for number, name in enumerate(STAGES, 1))
    assert "steps of" in told
    assert "MB of disk" in told
    broken = replace(options, out=options.out / "broken")
    assert run_recipe(replace(broken, stop=stopping_after(12))) is None
    first = json.loads((broken.out / "recipe.json").read_text())["finished"]
    assert run_recipe(replace(broken, stop=stopping_after(30))) is None
    second = json.loads((broken.out / "recipe.json").read_text())["finished"]
    assert len(first) < len(second) < len(STAGES)
    assert run_recipe(broken) == broken.out / "card.md"
    assert model_of(broken.out) == model_of(whole.parent)
    figures = json.loads((broken.out / "result.json").read_text())
    again = json.loads((whole.parent / "result.json").read_text())
    assert figures["sets"] == again["sets"]
    ours, theirs = (found["likeness"]["sets"]["clip"]["student"] for found in (figures, again))
    assert {**ours, "ms": 0} == {**theirs, "ms": 0}
    assert run_recipe(broken) == broken.out / "card.md"  # there is nothing left to do
    with pytest.raises(ConfigError, match="made with other settings"):
        run_recipe(replace(broken, goal=("something else",)))


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    # the checksum of a teacher's weights names its cache and stands in the contract of its student
    state = {"schema": 1, "weight": torch.arange(5.0)}
    for name in ("one.pt", "other.pt"):
        checkpoint.write(tmp_path / name, state)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_one_encoder_is_needed_and_a_blind_one_is_refused(options: RecipeOptions, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one encoder"):
        run_recipe(replace(options, stand_in=None))
    with pytest.raises(ConfigError, match="one encoder"):
        run_recipe(replace(options, clip_weights=tmp_path))
    with pytest.raises(ModelError, match="cannot tell what the loss is about"):
        run_recipe(replace(options, clip_test=True))


def test_the_record_of_another_version_is_refused(options: RecipeOptions) -> None:
    assert run_recipe(replace(options, stop=lambda: True)) is None
    record = options.out / "recipe.json"
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ConfigError, match="is of schema 2, not 1"):
        run_recipe(options)


def test_a_folder_of_vi_and_ir_is_one_set(options: RecipeOptions) -> None:
    stopped = replace(options, pairs=options.pairs / "clip", stop=lambda: True)
    assert run_recipe(stopped) is None
    assert {name: len(pairs) for name, pairs in image_sets(options.out / "pairs").items()} == {"clip": 3, "smoked": 1}


def test_what_is_told_of_a_stage_is_what_is_left_of_it_and_evaluation_ends_when_asked_to(
    options: RecipeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ""

    def tell(text: str) -> None:
        nonlocal told
        told += f"{text}\n"

    monkeypatch.setattr(recipe, "tell", tell)
    short = replace(options, teacher_steps=11, student_steps=1, smoke_every=0)
    # a question after the pairs, one before each of 11 steps and one after them, two before the second picture
    assert run_recipe(replace(short, stop=stopping_after(15))) is None
    assert told.startswith(
        "Without --vgg-weights, the term of features of VGG-19 is left out of the student's preset.\n"
    )
    assert "stage 2/6 teacher\n1 steps of " in told
    assert ", 92 MB of disk" in told  # 5.8 million weights, two moments of each, and the published layout
    assert "stage 3/6 cache\n3 pictures of " in told
    assert len(list((short.out / "caches").glob("*/*.png"))) == 2
    told = ""
    assert run_recipe(replace(short, stop=lambda: "stage 6/6" in told)) is None
    assert "stage 3/6 cache\n1 pictures of " in told
    assert "stage 6/6 evaluate\n4 pairs to measure of " in told
    assert "evaluate" not in json.loads((short.out / "recipe.json").read_text())["finished"]
    assert not (short.out / "card.md").exists()
    made = run_recipe(short)
    assert made is not None
    assert "## Beside the teacher ldfusion-" in made.read_text()
    for note in ("The goal of its teacher: the thermal targets glow.", "Away from: flat.", "Without --vgg-weights"):
        assert f"- {note}" in made.read_text()


def test_a_teacher_of_the_evaluation_pairs_sees_them_too(options: RecipeOptions, tmp_path: Path) -> None:
    apart = replace(options, eval_data=write_pairs(tmp_path / "apart", {"other/b": (56, 64)}))
    assert run_recipe(replace(apart, stop=lambda: True)) is None
    assert [pair[0].shape for pair in Recipe(apart)._seen_pairs()].count((56, 64)) == 1


def test_a_student_like_its_teacher_has_the_figures_of_it(tmp_path: Path) -> None:
    from rtfusion_trainer.teachers.cache import CachedTeacher

    from rtfusion.fusion.learned import LearnedLuminance

    class Small:
        """The shipped student as a teacher."""

        name, constants = "small", {"dial": 1}

        def __call__(self, *, visible, thermal):
            fuser = LearnedLuminance(model=Path("small"), engine="auto", threads=1, still=True)
            return fuser(visible_y=visible, thermal=thermal, timestamp_ns=0).astype("float32") / 255

    data = write_pairs(tmp_path / "data", {"set/a": (96, 128), "set/b": (96, 128)})
    pairs = [read_pair(*files) for files in image_sets(data)["set"]]
    teacher = CachedTeacher(Small(), tmp_path / "caches")
    for visible, thermal in pairs:
        teacher(visible=visible, thermal=thermal)
    features = load_vgg19(write_vgg19(tmp_path / "vgg.pth"), layers=("conv1_2", "conv2_1"))
    pictures = CachedPictures(teacher.folder)
    given = {"data": data, "teacher": pictures, "features": features, "references": (), "threads": 1}
    result, dark = evaluate(Path("small"), **given), evaluate(Path("small"), enhance=0.0, **given)
    same, other = (found["likeness"]["sets"]["set"]["student"] for found in (result, dark))
    assert same["ssim"] > 0.995  # each is opened for itself, in the precision that is the fastest by measuring
    assert same["features"] < 0.1 * other["features"]
    assert same["halo"] == pytest.approx(same["teacher_halo"], abs=0.5)
    assert same["ms"] > 0
    assert other["ssim"] < same["ssim"]
    cases = result["sets"]["set"]["cases"]
    assert cases["teacher"]["Qabf"] == pytest.approx(cases["student"]["Qabf"], abs=0.01)
    text = card(result)
    assert f"## Beside the teacher {pictures.identity}" in text
    assert f"| set (2) | student | {same['features']:.3f} | {same['ssim']:.3f} |" in text
    assert "Beside the teacher" not in card({**result, "likeness": None})
