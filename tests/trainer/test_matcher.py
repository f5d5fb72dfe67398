"""The matcher's training: views whose places are known, steps that resume, and the file that comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
pytest.importorskip("onnx", reason="export needs onnx: pip install -e '.[train]'")

from rtfusion_trainer.checkpoint import CHECKPOINT  # noqa: E402
from rtfusion_trainer.focus.config import FocusConfig  # noqa: E402
from rtfusion_trainer.focus.training import HEAD, FocusRun  # noqa: E402
from rtfusion_trainer.matcher.config import MatcherConfig  # noqa: E402
from rtfusion_trainer.matcher.data import GrayPictures, make_matcher_batch, view  # noqa: E402
from rtfusion_trainer.matcher.exporting import export_matcher  # noqa: E402
from rtfusion_trainer.matcher.training import MATCHER, MatcherRun, train_matcher  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from rtfusion.registration.descriptors import Describer, read_matcher_spec  # noqa: E402

PLAIN = MatcherConfig(crop_px=(96, 64), degraded=0, inverted=0, batch=2, asked=64, width=8, channels=8, dilations=(1,))
TINY = (
    "width = 8\nchannels = 8\ndilations = [1]\nsteps = 4\nbatch = 2\ncrop_px = [48, 32]\nasked = 32\nsave_every = 2\n"
)


def pictures(seed: int = 0) -> GrayPictures:
    """Soft blobs, the same in both bands."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (180, 240), np.uint8), (0, 0), 4.0)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    return GrayPictures(visible=image, thermal=image)


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_what_lies_where_is_known_of_every_view(depth: float) -> None:
    """The thermal view, sampled where the cells of the visible one are said to lie, is the visible view."""
    config = replace(PLAIN, depth=depth, zoom=(1.0, 1.01))
    for seed in range(4):
        visible, thermal, thermal_at, visible_at = view(np.random.default_rng(seed), pictures(), config)
        assert visible.shape == thermal.shape == (64, 96)
        for one, other, at in ((visible, thermal, thermal_at), (thermal, visible, visible_at)):
            known = np.isfinite(at[:, 0])
            assert known.any()
            places = (at[known] * 4 + 1.5).astype(np.float32)
            found = cv2.remap(other, places[None, :, 0], places[None, :, 1], cv2.INTER_LINEAR)[0]
            cells = cv2.resize(one, (24, 16), interpolation=cv2.INTER_AREA).ravel()[known]
            assert np.corrcoef(found, cells)[0, 1] > 0.9


def test_batches_are_alike_in_every_run() -> None:
    sets = [[pictures(0)], [pictures(1), pictures(2)]]
    one, again, other = (make_matcher_batch(sets, MatcherConfig(batch=2), step=step) for step in (3, 3, 4))
    for name, value in vars(one).items():
        assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(getattr(again, name)))
    assert not torch.equal(one.thermal, other.thermal)


def test_a_matcher_learns_to_find_cells() -> None:
    config = replace(PLAIN, steps=60, learning_rate=1e-2, near=1.0, width=16, channels=16)
    run = MatcherRun(config)
    losses = [run.step(make_matcher_batch([[pictures()]], config, step=step))["loss"] for step in range(config.steps)]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.7


def test_a_run_that_was_stopped_ends_with_the_weights_of_an_unbroken_one_and_its_file_runs(tmp_path: Path) -> None:
    for seed, stem in enumerate("abc"):
        for band in ("vi", "ir"):
            path = tmp_path / "data" / "set" / band / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pictures(seed).visible)
    (tmp_path / "tiny.toml").write_text(TINY)
    given = {"data": tmp_path / "data", "preset": str(tmp_path / "tiny.toml"), "threads": 1}
    assert train_matcher(out=tmp_path / "whole", **given) == {}, "too few to hold any out"
    asked = iter([False, False, True])
    train_matcher(out=tmp_path / "parts", stop=lambda: next(asked), **given)
    train_matcher(out=tmp_path / "parts", **given)
    whole, parts = (MATCHER.load_average(tmp_path / name / CHECKPOINT)[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    with pytest.raises(ConfigError, match="other settings"):
        train_matcher(out=tmp_path / "parts", seed=5, **given)
    path = export_matcher(
        tmp_path / "whole" / CHECKPOINT, tmp_path, trained_on=["three pairs (CC0)"], license_id="CC0-1.0"
    )
    spec = read_matcher_spec(path)
    assert (path.name, spec.channels, spec.data) == ("matcher-small.onnx", 8, ("three pairs (CC0)",))
    describe = Describer(model=path, threads=1)
    found = describe(visible=pictures().visible[:50, :66], thermal=pictures().thermal[:40, :80])
    assert (found.visible.shape, found.thermal.shape) == ((12, 16, 8), (10, 20, 8))
    describe.close()


def test_the_preset_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    assert MATCHER.load_config("matcher") == MatcherConfig()
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("crop_px = [50, 32]\n")
    with pytest.raises(ConfigError, match="multiples of 4"):
        MATCHER.load_config(str(wrong))


def test_the_checkpoint_of_another_network_is_told(tmp_path: Path) -> None:
    MatcherRun(PLAIN).save(tmp_path / "matcher.pt")
    with pytest.raises(ConfigError, match="of another network; train a head with rtfusion train focus"):
        HEAD.load_average(tmp_path / "matcher.pt")
    with pytest.raises(ConfigError, match="of another network; train a head"):
        FocusRun(FocusConfig(width=8, depth=8)).resume(tmp_path / "matcher.pt")


def test_a_file_that_gives_something_else_than_pytorch_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MatcherRun(PLAIN).save(tmp_path / CHECKPOINT)
    monkeypatch.setattr("rtfusion_trainer.matcher.exporting.MOST_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match="away from PyTorch"):
        export_matcher(tmp_path / CHECKPOINT, tmp_path / "out", trained_on=["none"], license_id="CC0-1.0")
    assert not list((tmp_path / "out").iterdir())
