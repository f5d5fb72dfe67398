from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import checkpoint  # noqa: E402
from rtfusion_trainer.checkpoint import CHECKPOINT  # noqa: E402
from rtfusion_trainer.config import (  # noqa: E402
    Guidance,
    Network,
    Schedule,
    TrainingConfig,
    TrainingOptions,
    Variation,
)
from rtfusion_trainer.data import make_batch  # noqa: E402
from rtfusion_trainer.distill import Run, learning_rate, load_average, train, train_student  # noqa: E402
from rtfusion_trainer.pairs import load_pairs  # noqa: E402
from rtfusion_trainer.teachers.cache import CachedTeacher  # noqa: E402
from rtfusion_trainer.teachers.faithful import FaithfulTeacher, Recipe  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402
from rtfusion.models import find_model, read_spec  # noqa: E402
from tests.training_data import SIZES_PX, write_pairs  # noqa: E402

CONFIG = TrainingConfig(schedule=Schedule(steps=4, batch=4, crop_px=64, warmup_steps=1, save_every=2))
CPU = torch.device("cpu")
AS_IT_IS = Variation(toned=0, equalized_visible=0, equalized_thermal=0, partner=0, inverted=0, exchanged=0, zoomed=0)


@pytest.fixture
def folder(tmp_path):
    """A clip of three frames and two single pictures, one of them smaller than a crop."""
    return write_pairs(tmp_path / "data", {**SIZES_PX, "singles/b": (50, 90)})


def half(pair):
    """A teacher's picture of half the visible band, in 16 bits."""
    return (pair.visible.astype(np.uint16) * 257 // 2).astype(np.uint16)


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.student.parameters()])


def test_pairs_are_found_and_clips_recognized(folder):
    pairs = load_pairs(folder)
    assert [pair.name for pair in pairs] == ["scene_0001", "scene_0002", "scene_0003", "a", "b"]
    assert [pair.next_pair for pair in pairs] == [1, 2, None, None, None]


def test_a_folder_without_pairs_is_refused(tmp_path, folder):
    with pytest.raises(ConfigError, match="holds no pairs"):
        load_pairs(tmp_path)
    with pytest.raises(ConfigError, match="trian: there is no such folder"):
        load_pairs(tmp_path / "trian")
    one_set = next(inside for inside in sorted(folder.iterdir()) if inside.is_dir())
    with pytest.raises(ConfigError, match=r"is itself a set, with vi and ir; give the folder that holds it"):
        load_pairs(one_set)


def test_it_says_what_there_is_and_what_has_no_partner(tmp_path, capsys):
    folder = write_pairs(tmp_path, {"street/a": (64, 90), "street/b": (64, 90), "yard/c": (64, 90)})
    load_pairs(folder)
    assert capsys.readouterr().err == f"{folder}: 3 pairs in 2 sets\n"
    (folder / "street" / "vi" / "b.png").unlink()
    load_pairs(folder, limit=1)
    told = "2 pairs in 2 sets, of which the first 1 are taken; 1 picture without a partner left out: street/ir/b"
    assert capsys.readouterr().err == f"{folder}: {told}\n"


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder; the checkpoint of a training is the file .*checkpoint.pt"):
        load_average(tmp_path)


def test_a_batch_is_the_same_again_and_another_at_the_next_step(folder):
    pairs = load_pairs(folder)
    first, again, other = (make_batch(pairs, CONFIG, step=step) for step in (3, 3, 4))
    assert first.faithful_target is None
    assert first.trust is None
    for name, value in vars(first).items():
        torch.testing.assert_close(value, getattr(again, name), rtol=0, atol=0)
    assert not torch.equal(first.visible, other.visible)
    assert first.visible.shape == (4, 1, 64, 64)
    assert first.enhance[-1] == first.enhance[-2]


def test_two_steps_change_every_parameter(folder):
    pairs = load_pairs(folder)
    run = Run(CONFIG, device=CPU)
    before = {name: value.clone() for name, value in run.student.named_parameters()}
    for step in range(2):
        loss, terms = run.step(make_batch(pairs, CONFIG, step=step))
        assert np.isfinite(loss)
        assert set(terms) == set(vars(CONFIG.weights))
    still = [name for name, value in run.student.named_parameters() if torch.equal(value, before[name])]
    assert still == []


def test_overfitting_one_batch_lowers_the_loss(folder):
    run = Run(replace(CONFIG, schedule=replace(CONFIG.schedule, steps=25)), device=CPU)
    batch = make_batch(load_pairs(folder), CONFIG, step=0)
    losses = [run.step(batch)[0] for _ in range(25)]
    assert losses[-1] < losses[0]


def test_a_resumed_run_ends_where_an_unbroken_one_does(folder, tmp_path):
    pairs = load_pairs(folder)
    unbroken = Run(CONFIG, device=CPU)
    train(unbroken, pairs, out=tmp_path / "unbroken")
    first = Run(CONFIG, device=CPU)
    for step in range(2):
        first.step(make_batch(pairs, CONFIG, step=step))
    first.save(tmp_path / "broken" / CHECKPOINT)
    second = Run(CONFIG, device=CPU)
    second.resume(tmp_path / "broken" / CHECKPOINT)
    train(second, pairs, out=tmp_path / "broken")
    torch.testing.assert_close(weights(second), weights(unbroken), rtol=0, atol=0)
    assert checkpoint.load(tmp_path / "broken" / CHECKPOINT).step == 4


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_mixed_precision_goes_on_unchanged_and_stays_near_full_precision(folder, tmp_path, precision):
    batch = make_batch(load_pairs(folder), CONFIG, step=0)
    runs = {name: Run(CONFIG, device=CPU, precision=name) for name in ("f32", precision)}
    losses = {name: run.step(batch)[0] for name, run in runs.items()}
    assert losses[precision] == pytest.approx(losses["f32"], rel=0.1)
    runs[precision].save(tmp_path / CHECKPOINT)
    resumed = Run(CONFIG, device=CPU, precision=precision)
    resumed.resume(tmp_path / CHECKPOINT)
    for run in (resumed, runs[precision]):
        run.step(batch)
    torch.testing.assert_close(weights(resumed), weights(runs[precision]), rtol=0, atol=0)
    assert {parameter.dtype for parameter in resumed.student.parameters()} == {torch.float32}


def test_a_request_to_stop_finishes_the_step_and_saves(folder, tmp_path):
    run, seen = Run(CONFIG, device=CPU), []
    train(run, load_pairs(folder), out=tmp_path, stop=lambda: bool(seen), log=lambda step, values: seen.append(values))
    assert set(seen[0]) == {"loss", *vars(CONFIG.weights)}
    assert checkpoint.load(tmp_path / CHECKPOINT).step == 1
    assert load_average(tmp_path / CHECKPOINT).network == CONFIG.network


def test_a_run_with_other_settings_does_not_go_on(tmp_path):
    Run(CONFIG, device=CPU).save(tmp_path / CHECKPOINT)
    longer = replace(CONFIG, schedule=replace(CONFIG.schedule, steps=9, save_every=1))
    Run(longer, device=CPU).resume(tmp_path / CHECKPOINT)
    other = replace(CONFIG, schedule=replace(CONFIG.schedule, seed=1))
    with pytest.raises(ConfigError, match=r"schedule\.seed: 3407 there, 1 here.*--init"):
        Run(other, device=CPU).resume(tmp_path / CHECKPOINT)
    with pytest.raises(ConfigError, match="teachers"):
        Run(CONFIG, device=CPU, teachers=["faithful-0123abcd"]).resume(tmp_path / CHECKPOINT)


def test_the_first_weights_are_those_of_another_run(tmp_path):
    other = Run(replace(CONFIG, schedule=replace(CONFIG.schedule, seed=1)), device=CPU)
    other.save(tmp_path / CHECKPOINT)
    run = Run(CONFIG, device=CPU)
    assert not torch.equal(weights(run), weights(other))
    run.start_from(tmp_path / CHECKPOINT)
    assert torch.equal(weights(run), weights(other))
    smaller = replace(CONFIG, network=replace(Network(), width=16))
    with pytest.raises(ConfigError, match="width=16"):
        Run(smaller, device=CPU).start_from(tmp_path / CHECKPOINT)


# ---- with a teacher -----------------------------------------------------------------------------------------------------


def test_what_is_taught_is_cropped_as_the_pair_is(folder):
    config = replace(CONFIG, degraded_share=0.0, variation=AS_IT_IS)
    pairs = [replace(pair, faithful_target=half(pair), enhanced_target=half(pair) // 2) for pair in load_pairs(folder)]
    for step in range(4):
        batch = make_batch(pairs, config, step=step)
        torch.testing.assert_close(batch.faithful_target, batch.wanted_visible / 2, rtol=0, atol=1e-5)
        torch.testing.assert_close(batch.enhanced_target, batch.wanted_visible / 4, rtol=0, atol=1e-4)
        assert batch.trust.tolist() == [1.0] * 4


def test_a_teacher_is_not_trusted_where_the_pair_is_varied(folder):
    """And the dial stays where no teacher is asked."""
    config = replace(CONFIG, degraded_share=0.0, variation=replace(AS_IT_IS, inverted=1.0))
    pairs = [replace(pair, enhanced_target=half(pair)) for pair in load_pairs(folder)]
    for step in range(8):
        batch = make_batch(pairs, config, step=step)
        assert batch.trust.tolist() == [0.0, 0.0, 1.0, 1.0]
        assert batch.enhance[:2].max() <= config.enhance_default


def test_a_teacher_is_not_trusted_where_the_scene_was_changed_on_purpose(folder):
    config = replace(CONFIG, degraded_share=1.0, variation=AS_IT_IS)
    pairs = [replace(pair, faithful_target=half(pair)) for pair in load_pairs(folder)]
    trusted, compared = [], []
    for step in range(8):
        batch = make_batch(pairs, config, step=step)
        same = (2 * batch.faithful_target - batch.wanted_visible).abs().amax(dim=(1, 2, 3)) < 1e-4
        trusted += batch.trust.bool().tolist()
        compared += same.tolist()
    assert all(same for trust, same in zip(trusted, compared, strict=True) if trust)
    assert 0 < sum(trusted) < len(trusted)


def test_distilling_brings_the_student_nearer_to_its_teacher(folder, tmp_path):
    config = replace(
        CONFIG,
        degraded_share=0.0,
        variation=AS_IT_IS,
        schedule=replace(CONFIG.schedule, steps=40, learning_rate=3e-3),
        guidance=Guidance(objective=0.0, gradients=0.0, ssim=0.0, features=0.0),
    )
    pairs = [replace(pair, faithful_target=half(pair)) for pair in load_pairs(folder)]
    run, differences = Run(config, device=CPU), []
    train(run, pairs, out=tmp_path, overfit=True, log=lambda step, values: differences.append(values["taught_pixels"]))
    assert differences[-1] < 0.7 * differences[0]


def test_a_student_learns_from_what_a_cache_holds(folder, tmp_path):
    teacher = CachedTeacher(FaithfulTeacher(Recipe(steps=1)), tmp_path / "caches")
    for pair in load_pairs(write_pairs(folder, {"singles/b": (64, 90)})):
        teacher(visible=pair.visible, thermal=pair.thermal)
    preset = tmp_path / "tiny.toml"
    preset.write_text("[schedule]\nsteps = 2\nbatch = 3\ncrop_px = 64\n")
    given = {"preset": str(preset), "data": folder, "device": "cpu"}
    plain = TrainingOptions(out=tmp_path / "out", with_features=False, **given)
    train_student(plain, teacher_cache=teacher.folder)
    assert checkpoint.load(tmp_path / "out" / CHECKPOINT).teachers == [teacher.folder.name]
    with pytest.raises(ConfigError, match="--vgg-weights FILE"):
        train_student(TrainingOptions(out=tmp_path / "other", **given), teacher_cache=teacher.folder)
    seen = len(load_pairs(folder))
    write_pairs(folder, {"unseen/a": (80, 80)})
    with pytest.raises(ConfigError, match="lacks a pair"):
        train_student(replace(plain, out=tmp_path / "other"), teacher_cache=teacher.folder)
    train_student(replace(plain, out=tmp_path / "other", limit=seen), teacher_cache=teacher.folder)


def test_a_student_comes_nearer_to_its_tutor_and_remembers_it(folder, tmp_path):
    preset = tmp_path / "tiny.toml"
    preset.write_text(
        "[network]\nwidth = 16\ncontext = 8\n[guidance]\nobjective = 0.0\n"
        "[schedule]\nsteps = 30\nbatch = 3\ncrop_px = 64\nlearning_rate = 3e-3\nwarmup_steps = 1\n"
    )
    config = replace(CONFIG, network=Network(width=16, context=8))
    tutor = Run(config, device=CPU)
    torch.nn.init.constant_(tutor.average.offset.bias, 2.0)
    tutor.save(tmp_path / "larger.pt")
    options = TrainingOptions(data=folder, out=tmp_path / "out", preset=str(preset), device="cpu")
    train_student(options, tutor=tmp_path / "larger.pt")
    assert checkpoint.load(tmp_path / "out" / CHECKPOINT).teachers == ["larger"]
    batch, shown = make_batch(load_pairs(folder), CONFIG, step=99), load_average(tmp_path / "larger.pt")
    learned = load_average(tmp_path / "out" / CHECKPOINT)
    inputs = batch.wanted_visible, batch.wanted_thermal, batch.enhance, batch.means[:, :1], batch.means[:, 1:]
    with torch.no_grad():
        wanted = shown(*inputs)
        apart = [float((one(*inputs) - wanted).abs().mean()) for one in (learned, Run(config, device=CPU).student)]
    assert apart[0] < 0.5 * apart[1]


def test_a_tutor_that_ships_is_named_with_its_checksum(folder, tmp_path):
    preset = tmp_path / "tiny.toml"
    preset.write_text(
        "[network]\nwidth = 16\ncontext = 8\ncoring = 3.0\n[schedule]\nsteps = 1\nbatch = 3\ncrop_px = 64\n"
    )
    options = TrainingOptions(data=folder, out=tmp_path / "out", preset=str(preset), device="cpu")
    train_student(options, tutor=Path("small"))
    (name,) = checkpoint.load(tmp_path / "out" / CHECKPOINT).teachers
    assert name == f"small-{read_spec(find_model(Path('small'))).checksum[:8]}"


def test_learning_rate_warms_up_and_falls():
    schedule = Schedule(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(schedule, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.01)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        checkpoint.load(path)
    torch.save({"schema": 99}, path)
    with pytest.raises(ConfigError, match="no checkpoint of schema"):
        checkpoint.load(path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot write"):
        Run(CONFIG, device=CPU).save(tmp_path / "file" / CHECKPOINT)
