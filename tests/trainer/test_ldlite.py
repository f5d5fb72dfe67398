from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.teachers.ldlite import LdLite, ldlite_teacher  # noqa: E402
from rtfusion_trainer.teachers.shift import ShiftAveraged, grid_peak_db  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402


def test_it_has_as_many_parameters_as_the_published_file() -> None:
    assert sum(parameter.numel() for parameter in LdLite().parameters()) == 652_385


def test_only_its_own_state_dict_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no LD-Lite"):
        ldlite_teacher(tmp_path / "final.pt")
    state = LdLite().state_dict()
    torch.save({**state, "more": torch.zeros(1)}, tmp_path / "final.pt")
    with pytest.raises(ModelError, match="is no LD-Lite"):
        ldlite_teacher(tmp_path / "final.pt")
    torch.save(state, tmp_path / "final.pt")
    one, image = ldlite_teacher(tmp_path / "final.pt"), np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    assert one(visible=image, thermal=image).shape == (20, 30)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "final.pt")
    assert ldlite_teacher(tmp_path / "final.pt").constants != one.constants
    with pytest.raises(ValueError, match="expected two images"):
        one(visible=image, thermal=image[:, 1:])


def sample(folder: Path, number: int) -> tuple[Any, Any, Any]:
    visible = cv2.imread(str(folder / "samples" / "vi" / f"{number}.png"))
    thermal = cv2.imread(str(folder / "samples" / "ir" / f"{number}.png"), cv2.IMREAD_GRAYSCALE)
    published = cv2.imread(str(folder / "samples" / "published" / f"{number}.png"))
    assert visible is not None
    assert thermal is not None
    assert published is not None
    return visible, thermal, published


@pytest.mark.shared
@pytest.mark.parametrize("number", [1, 2])
def test_it_reproduces_what_its_authors_published(shared_data: Path, number: int) -> None:
    folder = shared_data.parent / "weights" / "ldlite"
    visible, thermal, published = sample(folder, number)
    luminance, published_luminance = (
        cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)[..., 0] for image in (visible, published)
    )
    fused = ldlite_teacher(folder / "final.pt")(visible=luminance, thermal=thermal)
    # The authors truncate to 8 bit; from color and back, luminance may move by one more.
    difference = np.abs(np.floor(fused * 255) - published_luminance)
    assert difference.max() <= 3
    assert difference.mean() < 0.5


@pytest.mark.shared
@pytest.mark.parametrize("number", [1, 2])
def test_averaging_over_shifts_takes_its_grid_away(shared_data: Path, number: int) -> None:
    folder = shared_data.parent / "weights" / "ldlite"
    visible, thermal, _ = sample(folder, number)
    part = (slice(0, 160), slice(0, 160))
    pair = {"visible": cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY)[part], "thermal": thermal[part]}
    teacher = ldlite_teacher(folder / "final.pt")
    plain, averaged = teacher(**pair), ShiftAveraged(teacher)(**pair)
    assert grid_peak_db(plain) > 9
    assert grid_peak_db(averaged) < grid_peak_db(plain) - 5
    assert np.corrcoef(plain.ravel(), averaged.ravel())[0, 1] > 0.95
