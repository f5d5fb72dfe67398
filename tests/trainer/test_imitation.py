"""Distillation from a language-driven teacher: what is learned of its picture, how hard the pairs are, and resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import checkpoint  # noqa: E402
from rtfusion_trainer.checkpoint import CHECKPOINT  # noqa: E402
from rtfusion_trainer.config import (  # noqa: E402
    Imitation,
    Schedule,
    TrainingConfig,
    TrainingOptions,
    Variation,
    load_config,
)
from rtfusion_trainer.curriculum import BEARABLE, PERIOD_STEPS, Curriculum  # noqa: E402
from rtfusion_trainer.data import make_batch  # noqa: E402
from rtfusion_trainer.degradations import degrade_for, in_smoke  # noqa: E402
from rtfusion_trainer.distill import Run, load_average, train, train_student  # noqa: E402
from rtfusion_trainer.encoders import EncoderFiles  # noqa: E402
from rtfusion_trainer.explained import Explained, explained  # noqa: E402
from rtfusion_trainer.imitation import following, imitation  # noqa: E402
from rtfusion_trainer.losses.language import LanguageLoss, Patches  # noqa: E402
from rtfusion_trainer.objective import GUARDS, objective  # noqa: E402
from rtfusion_trainer.pairs import load_pairs  # noqa: E402
from rtfusion_trainer.smoked import SET, write_smoked  # noqa: E402
from rtfusion_trainer.stand_in.network import StandIn, save_stand_in  # noqa: E402
from rtfusion_trainer.student import FAR_FROM  # noqa: E402
from rtfusion_trainer.teachers.cache import CachedPictures, CachedTeacher  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from rtfusion.evaluate.metrics import halo  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402

CPU = torch.device("cpu")
STILL = Variation(toned=0, equalized_visible=0, equalized_thermal=0, partner=0, inverted=0, exchanged=0, zoomed=0)
CONFIG = TrainingConfig(
    schedule=Schedule(steps=4, batch=4, crop_px=64, warmup_steps=1, save_every=2),
    imitation=Imitation(features=0.0),
    variation=STILL,
    enhance_default=1.0,
    degraded_share=0.7,
)
BRIGHTER = 40


class Brightening:
    """A teacher that makes the mean of both bands brighter, with noise that neither has."""

    name, constants = "brightening", {"levels": BRIGHTER}

    def __call__(self, *, visible, thermal):
        noise = np.random.default_rng(0).normal(0, 0.01, visible.shape)
        mean = (visible.astype(np.float32) + thermal) / 510
        return (mean + BRIGHTER / 255 + noise).clip(0, 1).astype(np.float32)


@pytest.fixture
def taught(tmp_path):
    """A folder of pairs, and the folder of their teacher's pictures."""
    data = write_pairs(tmp_path / "data")
    teacher = CachedTeacher(Brightening(), tmp_path / "caches")
    for pair in load_pairs(data):
        teacher(visible=pair.visible, thermal=pair.thermal)
    return data, teacher.folder


def taught_pairs(taught):
    data, cache = taught
    return load_pairs(data, teachers={"language_target": Explained(CachedPictures(cache))})


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.student.parameters()])


# ---- what both bands say of a picture --------------------------------------------------------------------------------------


def bands():
    """A visible band with columns, and a thermal one with a hot square."""
    visible = np.tile(np.where(np.arange(96) // 12 % 2, 150, 90).astype(np.uint8), (96, 1))
    thermal = np.full((96, 96), 60, np.uint8)
    thermal[40:56, 40:56] = 230
    return visible, thermal


def test_what_the_bands_show_is_kept_with_the_teachers_contrast() -> None:
    visible, thermal = bands()
    picture = (0.1 + 1.4 * visible / 255 * 0.5 + 0.4 * thermal / 255).astype(np.float32)
    found = explained(picture, visible=visible, thermal=thermal)
    inside = np.s_[12:-12, 12:-12]
    assert np.abs(found - picture)[inside].mean() < 0.006


def test_noise_and_a_grid_that_neither_band_shows_are_not() -> None:
    visible, thermal = bands()
    clean = (0.2 + 0.5 * visible / 255 + 0.3 * thermal / 255).astype(np.float32)
    rows, columns = np.mgrid[:96, :96]
    fault = 0.02 * np.random.default_rng(0).normal(size=clean.shape) + 0.02 * (-1.0) ** (rows + columns)
    found = explained((clean + fault).astype(np.float32), visible=visible, thermal=thermal)
    assert (found - clean).std() < 0.35 * fault.std()


def test_a_halo_is_taken_out() -> None:
    visible, thermal = np.full((160, 160), 120, np.uint8), np.full((160, 160), 70, np.uint8)
    thermal[70:90, 70:90] = 230
    rows, columns = np.mgrid[:160, :160]
    away = np.maximum(np.maximum(abs(rows - 79.5), abs(columns - 79.5)) - 10, 0)
    dark = np.where((away > 0) & (away < 9), -0.12, 0)
    picture = (0.4 + 0.3 * (thermal > 200) + dark).astype(np.float32)
    shown = {"visible": visible, "thermal": thermal}
    before = halo(fused=(255 * picture).astype(np.uint8), **shown)
    after = halo(fused=(255 * explained(picture, **shown)).round().astype(np.uint8), **shown)
    assert before > 20
    assert after < before / 2


# ---- the loss ----------------------------------------------------------------------------------------------------------------


def test_the_teacher_is_followed_from_nothing_at_0_to_all_at_the_default() -> None:
    dial = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(-1, 1, 1, 1)
    assert following(dial, default=0.5).tolist() == [0.0, 0.5, 1.0, 1.0]
    assert following(dial, default=1.0).tolist() == [0.0, 0.25, 0.5, 1.0]


class Brightness(torch.nn.Module):
    """Features of one layer: the mean of the picture."""

    def forward(self, images):
        return {"a": images.mean(dim=(2, 3), keepdim=True)}


def test_the_terms_by_hand(taught) -> None:
    batch = make_batch(taught_pairs(taught), CONFIG, step=1)
    batch = replace(batch, enhance=torch.ones_like(batch.enhance))
    settings = Imitation(pixels=10.0, gradients=0.0, ssim=0.0, contrast=0.0, tone=5.0, features=2.0, features_of=1)
    compared = imitation(batch.language_target + 0.1, batch, weights=settings, default=1.0, features=Brightness())
    assert compared.terms == pytest.approx({"like_pixels": 0.1, "like_tone": 0.1, "like_features": 0.01}, abs=1e-5)
    assert float(compared.loss) == pytest.approx(10 * 0.1 + 5 * 0.1 + 2 * 0.01, abs=1e-4)
    assert batch.degraded.any()
    assert compared.degraded == pytest.approx(1.5, abs=1e-4)
    same = imitation(batch.language_target, batch, weights=settings, default=1.0, features=Brightness())
    assert float(same.loss) == pytest.approx(0, abs=1e-6)


def test_what_the_teacher_did_not_see_counts_nothing(taught) -> None:
    batch = make_batch(taught_pairs(taught), CONFIG, step=0)
    unseen = replace(batch, trust=torch.zeros_like(batch.trust))
    compared = imitation(batch.visible, unseen, weights=CONFIG.imitation, default=1.0, features=None)
    assert float(compared.loss) == 0
    assert np.isnan(compared.clean)


def test_following_takes_the_weight_of_fidelity_but_not_of_the_guards(taught) -> None:
    batch = make_batch(taught_pairs(taught), CONFIG, step=0)
    free = objective(batch.visible, batch, CONFIG.weights)[1]
    followed = objective(batch.visible, batch, CONFIG.weights, followed=torch.ones(4))[1]
    for name, value in free.items():
        assert followed[name] == (pytest.approx(value) if name in GUARDS else 0), name


def test_the_student_sees_worse_than_its_teacher_and_is_asked_for_the_clean_pair(taught) -> None:
    pairs = taught_pairs(taught)
    batches = [make_batch(pairs, CONFIG, step=step, difficulty=1.0) for step in range(6)]
    hard = torch.cat([batch.degraded for batch in batches])
    assert 0.2 < hard.float().mean() < 0.6  # the two frames of the clip are never
    for batch in batches:
        assert batch.trust.tolist() == [1.0] * 4
        for index in torch.nonzero(batch.degraded).flatten():
            seen = torch.stack(
                (batch.visible[index] - batch.wanted_visible[index], batch.thermal[index] - batch.wanted_thermal[index])
            )
            assert seen.abs().max() > 0


def test_what_is_hard_is_farther_from_the_clean_pair() -> None:
    image = np.random.default_rng(1).random((64, 64), dtype=np.float32)

    def distance(difficulty: float) -> float:
        random = np.random.default_rng(2)
        changed = [degrade_for(random, visible=image, thermal=image, difficulty=difficulty) for _ in range(60)]
        return float(np.mean([np.abs(v - image).mean() + np.abs(t - image).mean() for v, t in changed]))

    assert distance(1.0) > 1.5 * distance(0.0) > 0


# ---- the language-driven loss on the student itself --------------------------------------------------------------------------


def told(weight: float) -> TrainingConfig:
    """A few large patches, which count however plain they are."""
    language = replace(CONFIG.language, patches=Patches(count=2, entropy_bits=0.0))
    return replace(CONFIG, imitation=replace(CONFIG.imitation, language=weight), language=language)


def speaking() -> StandIn:
    """An encoder that knows nothing, but hears something in every sentence."""
    torch.manual_seed(0)
    encoder = StandIn()
    torch.nn.init.normal_(encoder.words.weight)
    return encoder.eval().requires_grad_(False)


def after_two_steps(config: TrainingConfig, pairs, encoder=None):
    run = Run(config, device=CPU, language=None if encoder is None else LanguageLoss(encoder, config.language))
    terms = [run.step(make_batch(pairs, config, step=step))[1] for step in range(2)]
    return weights(run), terms


def test_sentences_change_the_student_and_a_weight_of_0_changes_no_bit(taught) -> None:
    pairs = taught_pairs(taught)
    before, _ = after_two_steps(CONFIG, pairs)
    silent, quiet_terms = after_two_steps(told(0.0), pairs, speaking())
    assert torch.equal(before, silent)
    assert not [name for name in quiet_terms[0] if name.startswith("language_")]
    heard, terms = after_two_steps(told(0.5), pairs, speaking())
    assert not torch.equal(before, heard)
    assert {"language_global", "language_patch", "language_embedding"} <= terms[0].keys()
    assert terms[0]["language_global"] > 0


def test_the_gradient_of_the_sentences_reaches_the_picture_as_far_as_the_teacher_is_followed() -> None:
    random = torch.Generator().manual_seed(0)
    fused, visible, thermal = (torch.rand(3, 1, 64, 64, generator=random) for _ in range(3))
    fused.requires_grad_()
    said, terms = LanguageLoss(speaking(), told(1.0).language)(
        fused=fused,
        visible=visible,
        thermal=thermal,
        generator=torch.Generator().manual_seed(1),
        share=torch.tensor([1.0, 0.5, 0.0]),
    )
    parts = {name: float(value.detach()) for name, value in terms.items()}
    assert float(said.detach()) == pytest.approx(2 * parts["global"] + 10 * parts["patch"] + 6 * parts["embedding"])
    said.backward()
    lengths = fused.grad.flatten(1).norm(dim=1)
    assert lengths[0] > 0
    assert lengths[1] > 0
    assert lengths[2] == 0


def test_a_run_with_sentences_goes_on_as_if_unbroken(taught, tmp_path) -> None:
    pairs, config = taught_pairs(taught), told(0.5)

    def begun():
        return Run(config, device=CPU, language=LanguageLoss(speaking(), config.language))

    whole, broken, resumed = begun(), begun(), begun()
    train(whole, pairs, out=tmp_path / "whole")
    train(broken, pairs, out=tmp_path / "broken", stop=lambda: broken.finished_steps == 2)
    resumed.resume(tmp_path / "broken" / CHECKPOINT)
    train(resumed, pairs, out=tmp_path / "broken")
    assert torch.equal(weights(whole), weights(resumed))


def test_an_encoder_without_a_weight_and_a_weight_without_an_encoder_are_refused(taught, tmp_path) -> None:
    data, cache = taught
    encoder, preset = tmp_path / "encoder.pt", tmp_path / "said.toml"
    save_stand_in(encoder, speaking(), card={})
    (tmp_path / "plain.toml").write_text(
        "[schedule]\nsteps = 1\nbatch = 4\ncrop_px = 64\n[imitation]\nfeatures = 0.0\n"
    )
    preset.write_text((tmp_path / "plain.toml").read_text() + "language = 0.2\n[language.patches]\ncount = 1\n")

    def options(path):
        return TrainingOptions(preset=str(path), data=data, out=tmp_path / path.stem, device="cpu", threads=1)

    files = EncoderFiles(stand_in=encoder, clip_test=False)
    with pytest.raises(ConfigError, match=r"imitation\.language has a weight, and there is no encoder"):
        train_student(options(preset), language_cache=cache)
    with pytest.raises(ConfigError, match="the encoder judges the student where --language-cache is given"):
        train_student(options(tmp_path / "plain.toml"), language_cache=cache, encoder=files)
    with pytest.raises(ConfigError, match="the encoder judges the student where --language-cache is given"):
        train_student(options(preset), encoder=files)
    with pytest.raises(ModelError, match="cannot tell what the loss is about"):
        train_student(options(preset), language_cache=cache, encoder=EncoderFiles(stand_in=encoder))
    train_student(options(preset), language_cache=cache, encoder=files, prompts={"objective": ("targets glow",)})
    state = checkpoint.load(tmp_path / "said" / CHECKPOINT)
    assert state.config["language"]["prompts"]["objective"] == ("targets glow",)
    assert "encoder" in state.teachers
    negative = tmp_path / "negative.toml"
    negative.write_text("[imitation]\nlanguage = -1.0\n")
    with pytest.raises(ConfigError, match="language of imitation is -1"):
        train_student(options(negative), language_cache=cache)


# ---- the curriculum ----------------------------------------------------------------------------------------------------------


def seen(curriculum, periods, *, clean, degraded):
    for step in range(periods * PERIOD_STEPS):
        curriculum.see(finished_steps=step + 1, clean=clean, degraded=degraded)


def test_difficulty_follows_the_measured_errors() -> None:
    rising, falling, constant = (Curriculum(kind=kind, start=0.5) for kind in ("rule", "rule", "constant"))
    seen(rising, 3, clean=1.0, degraded=0.99 * BEARABLE)
    seen(falling, 3, clean=1.0, degraded=3.0)
    seen(constant, 3, clean=1.0, degraded=3.0)
    last = 3 * PERIOD_STEPS + 1
    assert rising.stage(last).difficulty == pytest.approx(0.8)
    assert falling.stage(last).difficulty == pytest.approx(0.35)
    assert constant.stage(last).difficulty == 0.5
    # a period counts from its second step on: the batch of the first was made before its end
    assert rising.stage(PERIOD_STEPS).difficulty == 0.5
    assert rising.stage(PERIOD_STEPS + 1).difficulty == pytest.approx(0.6)


def test_a_teacher_that_is_nearly_reached_counts_less() -> None:
    curriculum = Curriculum(kind="rule", start=0.0)
    seen(curriculum, 1, clean=2.0, degraded=2.0)
    seen(curriculum, 1, clean=0.5, degraded=0.5)
    assert curriculum.stage(PERIOD_STEPS + 1).weight == 1
    assert curriculum.stage(2 * PERIOD_STEPS + 1).weight == pytest.approx(0.6 + 0.4 * 0.25)


def test_steps_without_such_pairs_say_nothing() -> None:
    curriculum = Curriculum(kind="rule", start=0.4)
    seen(curriculum, 1, clean=1.0, degraded=float("nan"))
    assert curriculum.stage(PERIOD_STEPS + 1).difficulty == 0.4


# ---- whole runs --------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_ends_where_an_unbroken_one_does(taught, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rtfusion_trainer.curriculum.PERIOD_STEPS", 2)
    pairs, config = taught_pairs(taught), replace(CONFIG, schedule=replace(CONFIG.schedule, steps=7))
    unbroken = Run(config, device=CPU)
    train(unbroken, pairs, out=tmp_path / "unbroken")
    asked = iter([False] * 3 + [True])
    first = Run(config, device=CPU)
    train(first, pairs, out=tmp_path / "broken", stop=lambda: next(asked))
    second = Run(config, device=CPU)
    second.resume(tmp_path / "broken" / CHECKPOINT)
    assert second.finished_steps == 3
    train(second, pairs, out=tmp_path / "broken")
    torch.testing.assert_close(weights(second), weights(unbroken), rtol=0, atol=0)
    assert second.curriculum.state_dict() == unbroken.curriculum.state_dict()
    assert len(second.curriculum.state_dict()["stages"]) == 4


def test_the_student_comes_nearer_to_its_teacher(taught, tmp_path) -> None:
    data, cache = taught
    preset = tmp_path / "mine.toml"
    preset.write_text(
        "enhance_default = 1.0\n[imitation]\nfeatures = 0.0\n[schedule]\nbatch = 3\ncrop_px = 48\nwarmup_steps = 1\n"
        "learning_rate = 5e-3\nema = 0.5\n[variation]\ntoned = 0.0\npartner = 0.0\ninverted = 0.0\nexchanged = 0.0\n"
        "equalized_visible = 0.0\nequalized_thermal = 0.0\nzoomed = 0.0\n"
    )
    out = tmp_path / "run"
    options = TrainingOptions(preset=str(preset), data=data, out=out, steps=60, device="cpu")
    train_student(options, language_cache=cache)
    batch = make_batch(taught_pairs(taught), replace(CONFIG, degraded_share=0.0), step=0)
    at_default = torch.ones_like(batch.enhance)
    inputs = (batch.visible, batch.thermal, at_default, batch.means[:, :1], batch.means[:, 1:])
    with torch.no_grad():
        fresh = (Run(CONFIG, device=CPU).student(*inputs) - batch.language_target).abs().mean()
        trained = (load_average(out / CHECKPOINT)(*inputs) - batch.language_target).abs().mean()
    assert trained < 0.7 * fresh


def test_no_other_teacher_stands_beside_it(taught, tmp_path) -> None:
    data, cache = taught
    options = TrainingOptions(preset="language", data=data, out=tmp_path / "run", with_features=False, device="cpu")
    with pytest.raises(ConfigError, match="name no other teacher beside it"):
        train_student(options, language_cache=cache, enhanced_cache=cache)


def test_the_preset_is_of_the_size_of_small() -> None:
    language, small = load_config("language"), load_config("small")
    assert replace(language.network, name="small") == small.network
    assert language.enhance_default < FAR_FROM  # beyond, faint detail fades


# ---- pairs in smoke ----------------------------------------------------------------------------------------------------------


def test_pairs_in_smoke_are_files_that_do_not_change(tmp_path) -> None:
    data = write_pairs(tmp_path / "data")
    assert write_smoked(data, tmp_path / "out", every=2) == 3
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert len(files) == 6
    assert write_smoked(data, tmp_path / "out", every=2) == 3
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")} == files
    assert len(load_pairs(tmp_path / "out")) == 3


def test_what_was_begun_beside_the_pairs_is_gone_on_with(tmp_path) -> None:
    data = write_pairs(tmp_path / "data")
    write_smoked(data, data, every=2)
    files = {path: path.read_bytes() for path in (data / SET).rglob("*.png")}
    next(iter(files)).unlink()
    assert write_smoked(data, data, every=2) == 3
    assert {path: path.read_bytes() for path in (data / SET).rglob("*.png")} == files


def test_smoke_takes_contrast_from_the_visible_band() -> None:
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    random = np.random.default_rng(0)
    kept = [in_smoke(random, visible=image, thermal=image).std() for _ in range(20)]
    assert np.mean(kept) < 0.5 * image.std()
