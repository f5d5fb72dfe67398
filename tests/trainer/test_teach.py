from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer import encoders, teach  # noqa: E402
from rtfusion_trainer.config import TrainingOptions  # noqa: E402
from rtfusion_trainer.encoders import EncoderFiles  # noqa: E402
from rtfusion_trainer.losses.language import LanguagePreset  # noqa: E402
from rtfusion_trainer.losses.perceptual import Vgg19Features  # noqa: E402
from rtfusion_trainer.teachers.ldfusion import ldfusion_teacher  # noqa: E402
from rtfusion_trainer.teachers.training import (  # noqa: E402
    ImagePair,
    LanguageRun,
    LanguageSchedule,
    learning_rate,
    random_crop,
    steps_per_epoch,
    train,
)
from rtfusion_trainer.workers import Workers  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402

SMALL = LanguageSchedule(epochs=2, repeats=1, batch=2, crop_px=32)
PRESET = replace(
    LanguagePreset(),
    patches=replace(LanguagePreset().patches, count=2, entropy_bits=3.0),
    perceptual_layers=("conv1_2",),
)


class StubEncoder:
    """Embeds a picture as its 4 x 4 thumbnail, and texts as fixed random vectors."""

    def encode_image(self, images: Any) -> Any:
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)

    def encode_text(self, texts: Sequence[str]) -> Any:
        seeds = [sum(text.encode()) for text in texts]
        return torch.stack([torch.randn(16, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def pairs(count: int = 4) -> list[ImagePair]:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (6, 8), dtype=np.uint8) for _ in range(2 * count)]
    images = [cv2.resize(image, (64, 48), interpolation=cv2.INTER_CUBIC) for image in noise]
    return [(images[2 * i].astype(np.uint8), images[2 * i + 1].astype(np.uint8)) for i in range(count)]


def new_run(schedule: LanguageSchedule = SMALL, **changes: Any) -> LanguageRun:
    torch.manual_seed(7)
    vgg = Vgg19Features(("conv1_2",))
    given = {"pairs": pairs(), "encoder": StubEncoder(), "vgg": vgg, "device": torch.device("cpu"), **changes}
    return LanguageRun(schedule, changes.pop("preset", PRESET), **{k: v for k, v in given.items() if k != "preset"})


def test_two_steps_train_the_whole_network() -> None:
    run = new_run()
    before = {name: value.clone() for name, value in run.network.named_parameters()}
    first, second = run.step(), run.step()
    assert run.finished_steps == 2
    assert set(first) == {"loss", "global", "patch", "embedding", "perceptual"}
    expected = 2 * first["global"] + 10 * first["patch"] + 6 * first["embedding"] + 10 * first["perceptual"]
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    assert first["patch"] > 0
    assert np.isfinite(second["loss"])
    # Biases before a normalization change nothing and get no gradient but rounding.
    still = [name for name, value in run.network.named_parameters() if torch.equal(value, before[name])]
    assert all(name.endswith("bias") for name in still), still


def test_training_on_one_batch_makes_the_loss_fall() -> None:
    schedule = replace(SMALL, epochs=15, batch=1, noise=0.0, warmup_epochs=0)
    run = new_run(schedule, pairs=pairs(1))
    losses = [run.step()["loss"] for _ in range(15)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = new_run()
    expected = [whole.step()["loss"] for _ in range(3)][-1]
    first = new_run()
    first.step()
    first.step()
    first.save(tmp_path / "checkpoint.pt")
    second = new_run()
    second.resume(tmp_path / "checkpoint.pt")
    assert second.finished_steps == 2
    assert second.step()["loss"] == pytest.approx(expected, rel=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(whole.network.parameters(), second.network.parameters(), strict=True))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    new_run().save(tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigError, match="seed: 3407 there, 1 here"):
        new_run(replace(SMALL, seed=1)).resume(tmp_path / "checkpoint.pt")
    with pytest.raises(ConfigError, match="patch_weight"):
        new_run(preset=replace(PRESET, patch_weight=1.0)).resume(tmp_path / "checkpoint.pt")
    new_run(replace(SMALL, epochs=9)).resume(tmp_path / "checkpoint.pt")  # a run may be made longer
    (tmp_path / "checkpoint.pt").write_text("not a checkpoint")
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        new_run().resume(tmp_path / "checkpoint.pt")


def test_the_rate_follows_the_schedule_at_every_step() -> None:
    schedule = LanguageSchedule()
    rates = np.array([learning_rate(schedule, step, per_epoch=10) for step in range(1000)])
    assert rates[:10] == pytest.approx(5e-4 * np.arange(1, 11) / 10)
    for epoch, halvings in ((1, 0), (49, 0), (50, 1), (59, 1), (60, 2), (70, 3), (80, 4), (90, 5), (99, 5)):
        assert rates[10 * epoch : 10 * epoch + 10] == pytest.approx([5e-4 / 2**halvings] * 10), epoch
    assert learning_rate(replace(schedule, warmup_epochs=0), 0, per_epoch=10) == 5e-4


def test_an_epoch_sees_every_pair_as_often_as_any_other() -> None:
    assert steps_per_epoch(LanguageSchedule(), pairs=160) == 100
    assert steps_per_epoch(LanguageSchedule(repeats=1), pairs=3) == 1


def test_crops_have_contrast_where_there_is_any() -> None:
    flat = np.full((200, 200), 100, np.uint8)
    half = flat.copy()
    half[:, 150:] = np.random.default_rng(0).integers(0, 256, (200, 50))
    for seed in range(20):
        crop = random_crop((half, flat), SMALL, torch.Generator().manual_seed(seed))
        assert crop.shape == (2, 32, 32)
        assert crop[0].std() >= 0.05
    assert random_crop((flat[:20], flat[:20]), SMALL, torch.Generator().manual_seed(0)).shape == (2, 32, 32)


def test_a_request_to_stop_finishes_the_step_and_saves(tmp_path: Path) -> None:
    run, seen = new_run(), []
    train(
        run,
        tmp_path / "checkpoint.pt",
        stop=lambda: len(seen) >= 1,
        log=lambda step, values: seen.append(step),
        save_every=100,
    )
    assert seen == [1]
    other = new_run()
    other.resume(tmp_path / "checkpoint.pt")
    assert other.finished_steps == 1


def test_a_weight_without_what_it_weights_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="--vgg-weights FILE"):
        new_run(vgg=None)
    with pytest.raises(ConfigError, match="no pairs"):
        new_run(pairs=[])
    assert set(new_run(vgg=None, preset=replace(PRESET, perceptual_weight=0.0)).step()) >= {"loss", "global"}


def test_with_overfit_every_step_has_the_same_batch() -> None:
    run = new_run(overfit=True)
    first = run._batch()
    run.step()
    for ours, theirs in zip(run._batch(), first, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(new_run(overfit=True, workers=Workers(rank=1))._batch()[0], first[0])


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_mixed_precision_follows_full_precision(precision: str) -> None:
    full, mixed = (new_run(precision=name) for name in ("f32", precision))
    assert mixed.step()["loss"] == pytest.approx(full.step()["loss"], rel=0.05)
    assert {parameter.dtype for parameter in mixed.network.parameters()} == {torch.float32}


# ---- presets ------------------------------------------------------------------------------------------------------------


def test_the_preset_is_what_was_published() -> None:
    assert teach.load_teacher_config("ldfusion") == teach.TeacherConfig()
    assert teach.TeacherConfig().loss == LanguagePreset()


def test_as_released_it_stays_at_its_rate_and_resamples_by_nearest_neighbors() -> None:
    config = teach.load_teacher_config("ldfusion-as-released")
    rates = {learning_rate(config.schedule, step, per_epoch=10) for step in range(10, 1000)}
    assert rates == {config.schedule.learning_rate}
    assert config.loss.patches.affine.resampling == config.schedule.affine.resampling == "nearest"
    pair = pairs()[0]
    crop = random_crop(pair, replace(SMALL, affine=config.schedule.affine), torch.Generator().manual_seed(0))
    assert set((crop[0] * 255).round().int().flatten().tolist()) <= {0, *pair[0].flatten().tolist()}
    meant = replace(config, loss=LanguagePreset(), schedule=LanguageSchedule())
    assert meant == teach.load_teacher_config("ldfusion")


def test_a_file_changes_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[loss.prompts]\nobjective = ["a", "b"]\n[loss.patches]\ncount = 8\n[schedule]\nseed = 5\n')
    config = teach.load_teacher_config(str(path))
    assert config.loss.prompts == replace(LanguagePreset().prompts, objective=("a", "b"))
    assert config.loss == replace(
        LanguagePreset(), prompts=config.loss.prompts, patches=replace(LanguagePreset().patches, count=8)
    )
    assert config.schedule == LanguageSchedule(seed=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[loss]\npatchez = 1", "loss has no setting 'patchez'"),
        ("[loss.patches]\ncount = 1.5", "count is 1.5; expected a number of type int"),
        ("loss = 1", "loss is 1; expected a LanguagePreset"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        teach.load_teacher_config(str(tmp_path / "wrong.toml"))


# ---- the whole job ------------------------------------------------------------------------------------------------------


class InterruptingEncoder(StubEncoder):
    """A request to stop comes in the middle of the first step."""

    def __init__(self) -> None:
        self.requested = False

    def encode_image(self, images: Any) -> Any:
        self.requested = True
        return super().encode_image(images)


def test_a_request_to_stop_leaves_checkpoint_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = InterruptingEncoder()
    monkeypatch.setattr(encoders, "load_clip", lambda *_, **__: encoder)
    preset = tmp_path / "small.toml"
    preset.write_text("[schedule]\nbatch = 2\ncrop_px = 32\n[loss.patches]\ncount = 2\n")
    options = TrainingOptions(
        preset=str(preset),
        data=write_pairs(tmp_path / "data"),
        out=tmp_path / "out",
        with_features=False,
        device="cpu",
        stop=lambda: encoder.requested,
    )
    teach.train_teacher(options, encoder=EncoderFiles(clip_test=False))
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["step"] == 1
    fused = ldfusion_teacher(tmp_path / "out")(visible=pairs()[0][0], thermal=pairs()[0][1])
    assert fused.shape == (48, 64)


def test_outputs_are_kept_and_not_made_again(tmp_path: Path) -> None:
    from rtfusion_trainer.teachers.ldlite import LdLite

    torch.manual_seed(0)
    torch.save(LdLite().state_dict(), tmp_path / "final.pt")
    data = write_pairs(tmp_path / "data", {"set/a": (48, 64), "set/b": (64, 48), "set/c": (48, 48)})
    given: dict[str, Any] = {"teacher": "ldlite", "weights": tmp_path / "final.pt", "data": data, "device": "cpu"}
    folder = teach.cache_outputs(out=tmp_path / "out", limit=2, **given)
    assert folder.name.startswith("ldlite-16shifts-")
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(files) == 3
    assert teach.cache_outputs(out=tmp_path / "out", **given) == folder
    again = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(again) == 4
    assert again.items() >= files.items()


def test_two_encoders_are_refused(tmp_path: Path) -> None:
    options = TrainingOptions(preset="ldfusion", data=tmp_path, out=tmp_path / "out", device="cpu")
    with pytest.raises(ConfigError, match="--clip-weights and --stand-in are two encoders"):
        teach.train_teacher(
            options, encoder=EncoderFiles(clip_weights=tmp_path / "clip.pt", stand_in=tmp_path / "encoder.pt")
        )
