from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.teachers.cache import CachedPictures, CachedTeacher
from rtfusion_trainer.teachers.network import Constants, FloatImage
from rtfusion_trainer.teachers.shift import ShiftAveraged, grid_peak_db, lattice

from rtfusion.errors import ConfigError
from rtfusion.types import Image8


class Average:
    """The average of both bands, times a gain; prints a grid of 8 px if told to; counts its calls."""

    name = "average"

    def __init__(self, *, gain: float = 1.0, grid: float = 0.0) -> None:
        self.calls = 0
        self._gain, self._grid = gain, grid

    @property
    def constants(self) -> Constants:
        return {"gain": self._gain, "grid": self._grid}

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        self.calls += 1
        fused = self._gain * (visible.astype(np.float32) + thermal) / 510
        pattern = np.random.default_rng(0).normal(0, 1, (8, 8))
        tiles = [-(-length // 8) for length in fused.shape]
        grid = np.tile(pattern - pattern.mean(), tiles)[: fused.shape[0], : fused.shape[1]]
        return (fused + self._grid * grid).astype(np.float32)


def pair(seed: int = 0, *, size: tuple[int, int] = (20, 30)) -> dict[str, Image8]:
    random = np.random.default_rng(seed)
    return {name: random.integers(0, 256, size, dtype=np.uint8) for name in ("visible", "thermal")}


def test_a_pair_is_fused_once_and_comes_back_to_a_16_bit_step(tmp_path: Path) -> None:
    teacher = Average()
    cached = CachedTeacher(teacher, tmp_path)
    first, second = cached(**pair()), cached(**pair())
    assert teacher.calls == 1
    assert np.array_equal(first, second)
    assert np.abs(first - Average()(**pair())).max() <= 0.5 / 65535 + 1e-7
    assert CachedTeacher(Average(), tmp_path)(**pair()).tolist() == first.tolist()
    assert sorted(path.suffix for path in cached.folder.iterdir()) == [".json", ".png"]


def test_other_constants_other_pictures_and_exchanged_bands_are_other_files(tmp_path: Path) -> None:
    cached = CachedTeacher(Average(), tmp_path)
    exchanged = {"visible": pair()["thermal"], "thermal": pair()["visible"]}
    paths = {
        cached.path(**pair()),
        cached.path(**pair(1)),
        cached.path(**exchanged),
        CachedTeacher(Average(gain=0.5), tmp_path).path(**pair()),
        CachedTeacher(ShiftAveraged(Average()), tmp_path).path(**pair()),
    }
    assert len(paths) == 5


def test_a_damaged_file_is_named_and_a_teacher_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cached = CachedTeacher(Average(), tmp_path)
    cached(**pair())
    cached.path(**pair()).write_bytes(b"half a file")
    with pytest.raises(ConfigError, match="is damaged"):
        cached(**pair())
    with pytest.raises(ValueError, match="broadcast"):
        cached(visible=pair()["visible"], thermal=pair(size=(7, 7))["thermal"])
    assert len(list(cached.folder.iterdir())) == 2  # the damaged file, and the description


def test_what_is_stored_is_read_without_the_teacher(tmp_path: Path) -> None:
    cached = CachedTeacher(Average(), tmp_path)
    fused = cached(**pair())
    pictures = CachedPictures(cached.folder)
    assert (pictures(**pair()) / np.float32(65535)).tolist() == fused.tolist()
    assert (pictures.teacher, pictures.constants) == ("average", {"gain": 1.0, "grid": 0.0})
    assert pictures.identity == cached.folder.name
    with pytest.raises(ConfigError, match="lacks a pair of these data"):
        pictures(**pair(1))


def test_a_folder_of_no_teacher_names_those_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with rtfusion train cache"):
        CachedPictures(tmp_path)
    cached = CachedTeacher(Average(), tmp_path)
    cached(**pair())
    with pytest.raises(ConfigError, match=f"name one of .*{cached.folder.name}"):
        CachedPictures(tmp_path)
    (cached.folder / "teacher.json").write_text('{"schema": 2}')
    with pytest.raises(ConfigError, match="not of schema 1"):
        CachedPictures(cached.folder)


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot write"):
        CachedTeacher(Average(), tmp_path / "file")(**pair())


def test_shifts_take_every_row_and_every_column_phase_equally_often() -> None:
    few = lattice(8, full=False)
    assert len(set(few)) == 16
    assert sorted(y for y, _ in few) == sorted(x for _, x in few) == sorted([*range(8), *range(8)])
    assert len(set(lattice(8, full=True))) == 64


def test_averaging_keeps_what_moves_with_the_picture_and_takes_a_fixed_grid_away() -> None:
    # a natural spectrum: the sum of random planes of many scales
    random = np.random.default_rng(2)
    steps = [np.kron(random.normal(0, s, (256 // s, 256 // s)), np.ones((s, s))) for s in (2, 4, 16, 32)]
    scene = np.clip(128 + sum(steps), 0, 255).astype(np.uint8)
    both = {"visible": scene, "thermal": scene}
    clean, gridded = Average()(**both), Average(grid=0.05)(**both)
    assert np.abs(ShiftAveraged(Average())(**both) - clean).max() < 1e-6
    assert grid_peak_db(gridded) > grid_peak_db(clean) + 10
    full = ShiftAveraged(Average(grid=0.05), full=True)(**both)
    assert np.abs(full - clean).max() < 1e-6
    few = ShiftAveraged(Average(grid=0.05))(**both)
    assert np.abs(few - clean).std() < 0.4 * np.abs(gridded - clean).std()


def test_the_name_and_the_constants_tell_the_shifts() -> None:
    averaged = ShiftAveraged(Average())
    assert averaged.name == "average-16shifts"
    assert str(averaged.constants["shifts"]).startswith("0/0,0/1,1/3,")
    with pytest.raises(ValueError, match="needs 128 px"):
        grid_peak_db(np.zeros((100, 300), np.float32))
