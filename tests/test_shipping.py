"""Models that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtfusion.config import load
from rtfusion.engines import model_file
from rtfusion.errors import ConfigError
from rtfusion.fusion import open_method
from rtfusion.models import PRECISIONS, find_model, shipped, shipped_names, shipping
from tests import onnx_models

NOWHERE = {"XDG_CONFIG_HOME": "/nonexistent"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models: small in every precision, large in one."""
    for name in ("student-small.onnx", "student-small-f16.onnx", "student-small-int8.onnx", "student-large-int8.onnx"):
        onnx_models.write(tmp_path / name, onnx_models.affine(visible=1, thermal=0))
    (tmp_path / "other.onnx").write_bytes(b"")
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_and_files(folder: Path) -> None:
    assert shipped_names() == ["large", "small"]
    assert shipped("small") == folder / "student-small.onnx"
    assert shipped("small", precision="int8") == folder / "student-small-int8.onnx"
    assert [shipping.file_name("x", precision=precision) for precision in PRECISIONS] == [
        "student-x.onnx",
        "student-x-f16.onnx",
        "student-x-int8.onnx",
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("smal", "f32", r"no model 'smal' in f32 .*\(there is: large, small\)"),
        ("large", "f16", "no model 'large' in f16"),
        ("small", "bf16", r"no precision 'bf16' .* f32, f16, int8"),
    ],
)
def test_what_does_not_ship(name: str, precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shipped(name, precision=precision)


def test_a_path_is_a_path_and_a_bare_word_is_a_name(folder: Path) -> None:
    assert find_model(Path("small")) == folder / "student-small.onnx"
    for path in (Path("small.onnx"), Path("models/small"), Path("/small")):
        assert find_model(path) == path


@pytest.mark.usefixtures("folder")
def test_a_run_takes_a_model_by_its_name() -> None:
    settings = load({"fuser": "learned", "model": "small"}, file=None, environ=NOWHERE).settings
    fuse = open_method("learned", still=True, model=settings.model, threads=1, trust=False)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(fuse(visible_y=image, thermal=image, timestamp_ns=0), image)
    fuse.close()


@pytest.mark.usefixtures("folder")
def test_an_unknown_name_lists_the_known_ones_at_once() -> None:
    with pytest.raises(ConfigError, match=r"no model named big comes with rtfusion \(there is: large, small\)"):
        load({"fuser": "learned", "model": "big"}, file=None, environ=NOWHERE)


def test_without_a_word_the_small_one_is_run(folder: Path) -> None:
    settings = load({}, file=None, environ=NOWHERE).settings
    assert (settings.fuser, settings.model, settings.precision) == ("learned", Path("small"), "auto")
    for precision, suffix in (("auto", ""), ("f32", ""), ("bf16", ""), ("f16", "-f16"), ("int8", "-int8")):
        assert model_file(Path("small"), precision=precision) == folder / f"student-small{suffix}.onnx"
    (folder / "student-small-int8.onnx").unlink()
    with pytest.raises(ConfigError, match="no model 'small' in int8"):
        open_method("learned", still=True, model=settings.model, precision="int8")
    open_method("learned", still=True, model=settings.model, engine="onnxruntime").close()


@pytest.mark.usefixtures("folder")
def test_a_name_in_a_settings_file_is_no_path_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "mine.toml"
    for text, expected in (("small", Path("small")), ("a.onnx", tmp_path / "sub" / "a.onnx")):
        file.write_text(f'fuser = "learned"\nmodel = "{text}"\n')
        assert load({}, file=file, environ=NOWHERE).settings.model == expected


def test_the_folder_is_the_package_s() -> None:
    import rtfusion.models

    assert Path(rtfusion.models.__file__).parent == shipping.FOLDER
