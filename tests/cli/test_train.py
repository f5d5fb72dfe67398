"""Every step of the trainer by its command, two iterations each, on the CPU."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.training_data import write_clip, write_pairs, write_vgg19

from .conftest import Main

TINY = "[schedule]\nsteps = 2\nbatch = 3\ncrop_px = 64\n"
CPU = ("--device", "cpu", "--threads", "1")


@pytest.fixture
def torch() -> None:
    pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
    pytest.importorskip("onnx", reason="export needs onnx: pip install -e '.[train]'")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    return write_pairs(tmp_path / "data")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train"], ["teacher", "student", "cache", "evaluate"]),
        (["train", "teacher"], ["--clip-weights", "--vgg-weights", "--prompt-objective", "torchrun"]),
        (["train", "student"], ["--preset", "--precision", "--overfit", "--tensorboard", "--init", "torchrun"]),
        (["train", "focus"], ["--labels", "--detector", "--trained-on", "--license", "--preset"]),
        (["train", "cache"], ["--teacher", "--weights", "--shifts"]),
        (["train", "evaluate"], ["--model", "--data", "--clips", "--parity", "--teacher-cache", "--card"]),
        (["distill"], ["--teacher-cache", "--language-cache", "--vgg-weights", "--no-features", "--stand-in"]),
        (["export"], ["--checkpoint", "--precision", "--trained-on", "--license"]),
    ],
)
def test_help(main_here: Main, command: list[str], words: list[str]) -> None:
    code, out, err = main_here(*command, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.replace("│", " ").split())
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "command",
    [
        "train student --data d --out o",
        "train teacher --data d --out o",
        "train cache --teacher faithful --data d --out o",
        "train focus --data d --out o --trained-on x --license y",
        "train evaluate --model m.onnx --data d",
        "distill --teacher-cache c --data d --out o",
        "export --checkpoint c.pt --out o --trained-on x --license y",
    ],
)
def test_without_pytorch_it_says_what_to_install(
    main_here: Main, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("rtfusion.cli.training.PACKAGES", ("a_package_that_is_not_there",))
    code, out, err = main_here(*command.split())
    assert (code, out) == (2, "")
    assert "a_package_that_is_not_there" in err
    assert "pip install -e '.[train]'" in err


@pytest.mark.usefixtures("torch")
def test_from_a_teacher_to_a_model_with_its_card(main_here: Main, tmp_path: Path) -> None:
    Path("tiny.toml").write_text(TINY)
    data = write_pairs(tmp_path / "data", {"clip/scene_0001": (80, 96), "clip/scene_0002": (80, 96)})
    common = ("--data", str(data), *CPU)

    code, out, err = main_here("train", "cache", "--teacher", "faithful", "--out", "caches", "--limit", "2", *common)
    assert (code, len(list(Path(out.strip()).glob("*.png")))) == (0, 2), err

    code, out_again, err = main_here("train", "cache", "--teacher", "faithful", "--out", "caches", *common)
    assert (code, out_again) == (0, out), err

    vgg = str(write_vgg19(tmp_path / "vgg19.pth"))
    taught = ("--teacher-cache", out.strip(), "--vgg-weights", vgg)
    code, _, err = main_here("distill", *taught, "--preset", "tiny.toml", "--out", "run", *common)
    assert code == 0, err
    assert "step 2/2" in err
    assert "taught_features" in err

    told = ("--trained-on", "noise (CC0)", "--license", "Apache-2.0")
    code, out, err = main_here("export", "--checkpoint", "run/checkpoint.pt", "--out", "models", *told)
    assert code == 0, err
    assert "models/student-small.onnx" in out

    what = ("--model", "models/student-small.onnx", "--parity", "models/student-small.onnx", "--stamp", "--limit", "1")
    files = ("--json", "result.json", "--card", "card.md", "--note", "trained on noise", *taught)
    code, out, err = main_here("train", "evaluate", *what, *files, "--data", str(data), "--threads", "1")
    assert (code, out) == (0, ""), err
    result = json.loads(Path("result.json").read_text())
    assert result["sets"]["clip"]["pairs"] == 1
    assert 1 <= result["sets"]["clip"]["mean_rank"]["student"] <= 3
    assert result["sets"]["clip"]["cases"].keys() == {"student", "pyramid", "teacher"}
    assert result["likeness"]["name"] == Path(out_again.strip()).name
    assert result["likeness"]["sets"]["clip"]["student"]["features"] > 0
    card = Path("card.md").read_text()
    for words in (
        "noise (CC0)",
        "Distilled from: faithful-",
        "Apache-2.0",
        "trained on noise",
        "## Beside the teacher faithful-",
        "| clip (1) | student |",
    ):
        assert words in card
    from rtfusion.models import read_spec

    spec = read_spec(Path("models/student-small.onnx"))
    assert spec.scores["clip"]["Qabf"] == result["sets"]["clip"]["cases"]["student"]["Qabf"]
    assert spec.teachers == (Path(taught[1]).name,)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_a_student_without_a_teacher(main_here: Main, data: Path, precision: str) -> None:
    options = ("--preset", "tiny.toml", "--data", str(data), "--out", "run", "--precision", precision, *CPU)
    code, out, err = main_here("train", "student", "--overfit", "--tensorboard", *options)
    assert (code, out) == (0, ""), err
    assert "step 2/2" in err
    assert {path.name.split(".")[0] for path in Path("run").iterdir()} == {"checkpoint", "events"}


@pytest.mark.usefixtures("torch")
def test_a_head_goes_on_to_the_file_that_ships(main_here: Main, data: Path) -> None:
    Path("head.toml").write_text("width = 8\ndepth = 8\ndilations = [1]\nbatch = 2\ncrop_px = [64, 64]\n")
    Path("labels.json").write_text('{"a": {"both": [["person", 10, 10, 30, 40]]}}')
    options = (
        "--preset",
        "head.toml",
        "--labels",
        "labels.json",
        "--data",
        str(data),
        "--out",
        "run",
        "--threads",
        "1",
    )
    told = ("--trained-on", "noise (CC0)", "--license", "CC0-1.0")
    for steps in (1, 2):
        code, out, err = main_here("train", "focus", "--steps", str(steps), *options, *told)
        assert (code, out) == (0, "run/focus-small.onnx: overlap nothing held out\n"), err
    assert "step 2/2" in err
    assert "step 1/2" not in err
    from rtfusion.focus.spec import read_head_spec

    spec = read_head_spec(Path("run/focus-small.onnx"))
    assert (spec.data, spec.license) == (("noise (CC0)",), "CC0-1.0")


@pytest.mark.usefixtures("torch")
def test_a_teacher_goes_on_and_leaves_the_published_layout(main_here: Main, data: Path, tmp_path: Path) -> None:
    Path("teacher.toml").write_text("[schedule]\nbatch = 2\ncrop_px = 32\n[loss.patches]\ncount = 2\n")
    clip = str(write_clip(tmp_path / "clip"))
    options = (
        "--preset",
        "teacher.toml",
        "--data",
        str(data),
        "--out",
        "run",
        "--clip-weights",
        clip,
        "--no-clip-test",
        *CPU,
    )
    code, _, err = main_here("train", "teacher", "--no-features", "--steps", "2", "--prompt-objective", "a", *options)
    assert code == 0, err
    code, _, err = main_here("train", "teacher", "--no-features", "--steps", "3", *options)
    assert code == 2
    assert "run with other settings" in err
    code, _, err = main_here("train", "teacher", "--no-features", "--steps", "3", "--prompt-objective", "a", *options)
    assert code == 0, err
    assert "step 3/3" in err
    assert {path.name for path in Path("run").iterdir()} == {"checkpoint.pt", "Enc_final.pt", "Dec_final.pt"}


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train teacher --data data --out o", "--clip-weights DIR"),
        ("train cache --teacher ldlite --data data --out o", "needs --weights"),
        ("train cache --teacher nobody --data data --out o", "no teacher 'nobody'"),
        ("train student --data data --out o --precision f8", "no precision 'f8'"),
        ("train student --data data --out o --device tpu", "no device 'tpu'"),
        ("train student --data data --out o --preset gone", "known: language, large, large-people"),
        ("train student --data nothing --out o", "nothing: there is no such folder"),
        ("distill --teacher-cache data --data data --out o", "no folder of teacher outputs"),
        ("train student --teacher-cache data --data data --out o", "no folder of teacher outputs"),
        ("distill --data data --out o", "there is no teacher to learn from"),
        ("train student --data data --out o --preset odd.toml", "crop_px of schedule is 60; expected a multiple of 8"),
        ("train student --data data --out o --preset tight.toml", "crop_px of schedule is 32; expected at least 40"),
        ("train student --data data --out o --detector d.onnx", "pass --labels too"),
        ("train student --data data --out o --stand-in e.pt", "the encoder judges the student where --language-cache"),
        ("train student --data data --out o --no-clip-test", "the encoder judges the student where --language-cache"),
        ("train student --data data --out o --stand-in e.pt --clip-weights c", "are two encoders"),
        ("train student --data data --out o --labels gone.json", "cannot read the labels gone.json"),
        ("train student --data data --out o --labels odd.json", "are not {STEM:"),
        ("train focus --data data --out o --trained-on x --license y", "name --labels, --detector or both"),
        ("train focus --data data --out o --trained-on x --license y --labels odd.json", "are not {STEM:"),
        ("train student --data data --out o --preset rules.toml", "curriculum is 'rules'; expected rule or constant"),
        ("train encoder --data data --out o --eval nothing", "nothing: there is no such folder"),
        ("train encoder --data data --out o --eval-labels odd.json", "pass both"),
        ("train encoder --data data --out o --labels odd.json", "are not {STEM:"),
        ("train recipe voice --pairs data --out o", "no recipe 'voice'"),
        ("train recipe language --pairs data --out o", "needs one encoder"),
        ("train evaluate --model gone --data data", "no model 'gone'"),
        ("train evaluate --model a.onnx", "nothing to evaluate on"),
        ("train evaluate --model a.onnx --data data --people data", "--detector FILE"),
        ("train evaluate --model a.onnx --data data --vgg-weights v.pth", "pass --teacher-cache DIR too"),
        ("train evaluate --model a.onnx --clips data --teacher-cache data", "outputs of the pairs of --data"),
        ("train evaluate --model a.onnx --data data --teacher-cache data", "no folder of teacher outputs"),
        ("train evaluate --model a.pt --data data --people data --detector d", "this is a checkpoint"),
        ("train evaluate --model a.pt --data data --stamp", "this is a checkpoint"),
        ("export --checkpoint gone.pt --out o --trained-on x --license y", "cannot read the checkpoint"),
    ],
)
@pytest.mark.usefixtures("data")
def test_what_is_wrong_is_said_in_one_line(main_here: Main, command: str, message: str) -> None:
    Path("odd.toml").write_text("[schedule]\ncrop_px = 60\n")
    Path("rules.toml").write_text('[imitation]\ncurriculum = "rules"\n[schedule]\nsteps = 1\ncrop_px = 48\n')
    Path("tight.toml").write_text("[schedule]\nsteps = 1\ncrop_px = 32\n")
    Path("odd.json").write_text('{"a": {"both": [["person", 1, 2, 3]]}}')
    code, out, err = main_here(*command.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("torch")
def test_ctrl_c_finishes_the_step_and_saves(main_here: Main, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtfusion_trainer import checkpoint, distill

    def interrupted(run: distill.Run, *batches: object) -> object:
        if run.finished_steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run, *batches)

    step = distill.Run.step
    monkeypatch.setattr(distill.Run, "step", interrupted)
    Path("long.toml").write_text(TINY.replace("steps = 2", "steps = 100000"))
    code, _, err = main_here("train", "student", "--preset", "long.toml", "--data", str(data), "--out", "run", *CPU)
    assert code == 130, err
    assert checkpoint.load(Path("run/checkpoint.pt")).step == 3


def test_a_folder_is_not_taken_for_a_model_file(main_here: Main, tmp_path: Path, torch: None) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").touch()
    code, _, err = main_here(
        "export", "--checkpoint", "run", "--out", "models", "--trained-on", "x", "--license", "CC0-1.0"
    )
    assert code == 2
    assert "run is a folder; the checkpoint of a training is the file run/checkpoint.pt in it" in err
