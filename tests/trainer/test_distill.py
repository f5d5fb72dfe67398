from __future__ import annotations

import os
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install 'rtfusion[train]'")

from rtfusion.errors import ConfigError  # noqa: E402
from trainer import checkpoint  # noqa: E402
from trainer.config import Schedule, TrainingConfig  # noqa: E402
from trainer.data import load_pairs, make_batch  # noqa: E402
from trainer.distill import CHECKPOINT, Run, learning_rate, load_average, main, train  # noqa: E402

CONFIG = TrainingConfig(schedule=Schedule(steps=4, batch=4, crop_px=64, warmup_steps=1, save_every=2))
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """A clip of three frames and two single pictures, one of them smaller than a crop."""
    random = np.random.default_rng(0)
    sizes = {"clip/scene_0001": (80, 96), "clip/scene_0002": (80, 96), "clip/scene_0003": (80, 96)}
    sizes |= {"singles/a": (72, 72), "singles/b": (50, 90)}
    for name, size in sizes.items():
        group, stem = name.split("/")
        for band in ("vi", "ir"):
            path = tmp_path / "data" / group / band / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = cv2.GaussianBlur(random.random(size), (0, 0), 3)
            cv2.imwrite(str(path), cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))
    return tmp_path / "data"


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.student.parameters()])


def test_pairs_are_found_and_clips_recognized(folder):
    pairs = load_pairs(folder)
    assert [pair.name for pair in pairs] == ["scene_0001", "scene_0002", "scene_0003", "a", "b"]
    assert [pair.next_pair for pair in pairs] == [1, 2, None, None, None]


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no pairs"):
        load_pairs(tmp_path)


def test_a_batch_is_the_same_again_and_another_at_the_next_step(folder):
    pairs = load_pairs(folder)
    first, again, other = (make_batch(pairs, CONFIG, step=step) for step in (3, 3, 4))
    for name, value in vars(first).items():
        torch.testing.assert_close(value, getattr(again, name), rtol=0, atol=0)
    assert not torch.equal(first.visible, other.visible)
    assert first.visible.shape == (4, 1, 64, 64)
    assert first.enhance[-1] == first.enhance[-2]


def test_two_steps_change_every_weight_of_the_head(folder):
    pairs = load_pairs(folder)
    run = Run(CONFIG, device=CPU)
    before = run.student.head.weight.detach().clone()
    for step in range(2):
        loss, terms = run.step(make_batch(pairs, CONFIG, step=step))
        assert np.isfinite(loss)
        assert set(terms) == set(vars(CONFIG.weights))
    changed = (run.student.head.weight.detach() != before).flatten(1).any(dim=1)
    assert changed.all()


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
    torch.testing.assert_close(weights(second), weights(unbroken))
    assert checkpoint.load(tmp_path / "broken" / CHECKPOINT).step == 4


def test_an_interrupt_finishes_the_step_and_saves(folder, tmp_path):
    run = Run(CONFIG, device=CPU)

    def interrupt(step, loss, terms):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    train(run, load_pairs(folder), out=tmp_path, log=interrupt)
    assert signal.getsignal(signal.SIGINT) == before
    assert checkpoint.load(tmp_path / CHECKPOINT).step == 1
    assert load_average(tmp_path / CHECKPOINT).network == CONFIG.network


def test_learning_rate_warms_up_and_falls():
    schedule = Schedule(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(schedule, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.01)


def test_the_command_line_trains(folder, tmp_path, capsys):
    preset = tmp_path / "tiny.toml"
    preset.write_text("[schedule]\nsteps = 1\nbatch = 3\ncrop_px = 64\n")
    assert (
        main(["--preset", str(preset), "--data", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    )
    assert "step 1/1" in capsys.readouterr().err
    assert checkpoint.load(tmp_path / "out" / CHECKPOINT).step == 1


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        checkpoint.load(path)
    torch.save({"schema": 99}, path)
    with pytest.raises(ConfigError, match="no checkpoint of schema"):
        checkpoint.load(path)
