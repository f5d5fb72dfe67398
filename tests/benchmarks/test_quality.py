from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.quality import evaluate, main
from rtfusion.errors import ConfigError
from rtfusion.metrics import image_metrics


def scene(seed: int, *, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 64, channels), dtype=np.uint8), (0, 0), 1.5)
    return image.reshape(48, 64, channels).squeeze()


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Three matched stems; color visible, gray thermal, fused by the mean; file types differ."""
    made = {role: tmp_path / role for role in ("ir", "vis", "fused")}
    for folder in made.values():
        folder.mkdir()
    for index, stem in enumerate(["a", "b", "c"]):
        visible, thermal = scene(index, channels=3), scene(index + 10)
        gray = cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(made["vis"] / f"{stem}.png"), visible)
        cv2.imwrite(str(made["ir"] / f"{stem}.bmp"), thermal)
        cv2.imwrite(str(made["fused"] / f"{stem}.png"), cv2.addWeighted(gray, 0.5, thermal, 0.5, 0))
    return made


def arguments(folders: dict[str, Path]) -> list[str]:
    return [text for role, folder in folders.items() for text in (f"--{role}", str(folder))]


def test_means_and_standard_errors_over_matched_stems(folders: dict[str, Path]) -> None:
    (folders["fused"] / "notes.txt").write_text("not an image")
    cv2.imwrite(str(folders["ir"] / "only_here.png"), scene(99))
    result = evaluate(**folders)
    rows = []
    for index, stem in enumerate(["a", "b", "c"]):
        visible = cv2.cvtColor(scene(index, channels=3), cv2.COLOR_BGR2GRAY)
        fused = cv2.imread(str(folders["fused"] / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        rows.append(image_metrics(fused=fused, visible=visible, thermal=scene(index + 10)))
    assert result["images"] == dict(zip("abc", rows, strict=True))
    qabf = np.array([row["Qabf"] for row in rows])
    assert result["mean"]["Qabf"] == pytest.approx(qabf.mean())
    assert result["standard_error"]["Qabf"] == pytest.approx(qabf.std(ddof=1) / np.sqrt(3))
    assert result["count"] == 3
    assert result["left_out"] == {"ir": ["only_here"], "vis": [], "fused": []}


def test_prints_a_table_and_writes_json(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(folders["vis"] / "extra.png"), scene(1))
    target = tmp_path / "quality.json"
    assert main([*arguments(folders), "--json", str(target)]) == 0
    written = json.loads(target.read_text())
    printed = capsys.readouterr().out
    assert f"Qabf  {written['mean']['Qabf']:10.4f}{written['standard_error']['Qabf']:10.4f}" in printed
    assert "left out of --vis, not in all three folders: 1 (extra)" in printed


def test_infinite_psnr_and_single_images_stay_valid_json(folders: dict[str, Path]) -> None:
    image = scene(0)
    for folder in folders.values():
        for path in folder.iterdir():
            path.unlink()
        cv2.imwrite(str(folder / "same.png"), image)
    result = evaluate(**folders)
    assert result["mean"]["PSNR"] is None
    assert set(result["standard_error"].values()) == {None}
    json.dumps(result, allow_nan=False)


def test_sizes_must_be_equal(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(folders["fused"] / "b.png"), scene(0)[:46])
    assert main(arguments(folders)) == 2
    message = capsys.readouterr().err
    assert "b.png" in message
    assert "images differ in shape: fused (46, 64), visible (48, 64), thermal (48, 64)" in message


def test_16_bit_images_are_refused(folders: dict[str, Path]) -> None:
    (folders["ir"] / "a.bmp").unlink()
    cv2.imwrite(str(folders["ir"] / "a.png"), scene(0).astype(np.uint16))
    with pytest.raises(ConfigError, match=r"a\.png has uint16 pixels"):
        evaluate(**folders)


def test_a_broken_image_is_named(folders: dict[str, Path]) -> None:
    (folders["vis"] / "c.png").write_bytes(b"not a png")
    with pytest.raises(ConfigError, match=r"cannot read .*c\.png as an image"):
        evaluate(**folders)


def test_two_files_of_one_stem_are_refused(folders: dict[str, Path]) -> None:
    cv2.imwrite(str(folders["ir"] / "a.png"), scene(0))
    with pytest.raises(ConfigError, match=r"a\.bmp and a\.png"):
        evaluate(**folders)


def test_folders_without_a_common_name(folders: dict[str, Path]) -> None:
    for path in folders["ir"].iterdir():
        path.rename(path.with_stem(path.stem + "_ir"))
    with pytest.raises(ConfigError, match=r"no file name is in all three folders \(images: 3 in "):
        evaluate(**folders)


def test_a_missing_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the folder .*nowhere: No such file"):
        evaluate(**{**folders, "fused": tmp_path / "nowhere"})


def test_a_missing_folder_for_the_json_is_found_before_measuring(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(folders), "--json", str(tmp_path / "no" / "q.json")]) == 2
    assert "make it first" in capsys.readouterr().err
