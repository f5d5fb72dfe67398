from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.cli.evaluate import evaluate as command
from rtfusion.config import Settings
from rtfusion.errors import ConfigError
from rtfusion.evaluate.metrics import entropy, image_metrics
from rtfusion.evaluate.quality import (
    _other_pictures,
    compare,
    evaluate,
    format_markdown,
    format_table,
    names_of,
    summary,
)
from rtfusion.evaluate.ranking import mean_ranks
from rtfusion.pipeline import build
from tests.capture.clips import write_clip


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


def test_the_command_prints_a_table_and_writes_json(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(folders["vis"] / "extra.png"), scene(1))
    target = tmp_path / "quality.json"
    command(ir=folders["ir"], vis=folders["vis"], fused=[folders["fused"]], json_file=target, every=1, published=None)
    written = json.loads(target.read_text())["methods"]["fused"]
    printed = capsys.readouterr().out
    assert f"{written['mean']['Qabf']:.4f} ± {written['standard_error']['Qabf']:.4f}" in printed
    assert "fused: left out of vis, not in all three folders: 1 (extra)" in printed
    assert "mean rank" not in printed, "one method has no rank"


def test_methods_are_ranked_with_each_other_and_with_published_ones(folders: dict[str, Path], tmp_path: Path) -> None:
    gray = tmp_path / "gray"
    gray.mkdir()
    for path in folders["fused"].iterdir():
        cv2.imwrite(str(gray / path.name), np.full((48, 64), 128, np.uint8))
    two = compare(ir=folders["ir"], vis=folders["vis"], fused={"mean": folders["fused"], "gray": gray})
    assert two["methods"]["mean"] == evaluate(**folders)
    assert two["mean_rank"]["mean"] < two["mean_rank"]["gray"]
    assert "mean rank: 1 is best of 2, over 12 metrics that all have" in format_table(two)
    head, rule, first, second, _, ranked, *_ = format_markdown(two).splitlines()
    assert head.startswith("|  | EN | SD |")
    assert head.count("|") == rule.count("|") == first.count("|")
    assert first.startswith(f"| mean | {two['methods']['mean']['mean']['EN']:.4f} |")
    assert first.endswith(f"{two['mean_rank']['mean']:.2f} |")
    assert second.startswith("| gray |")
    assert "of 2, over 12 metrics" in ranked
    many = compare(ir=folders["ir"], vis=folders["vis"], fused={"mean": folders["fused"]}, published="tno")
    assert len(many["mean_rank"]) == 14
    assert "1 is best of 14, over 11 metrics that all have (without Nabf)" in format_table(many)
    assert sum(many["mean_rank"].values()) == pytest.approx(14 * 15 / 2)
    (note,) = many["notes"]
    assert note.startswith(
        "mean: these are not the pictures that the published methods were measured on (42 pairs of entropy 6.83"
    )
    assert two["notes"] == []
    with pytest.raises(ConfigError, match="no published values for 'kaist'"):
        compare(ir=folders["ir"], vis=folders["vis"], fused={"mean": folders["fused"]}, published="kaist")


def test_the_command_warns_of_other_pictures_than_the_published_ones(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command(ir=folders["ir"], vis=folders["vis"], fused=[folders["fused"]], json_file=None, every=1, published="tno")
    shown = capsys.readouterr()
    assert "so the ranks among them mean nothing" in " ".join(shown.err.split())
    assert "mean rank of 14" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines() if not line.startswith("images measured"))


@pytest.mark.shared
def test_the_42_pairs_of_tno_are_known_by_their_pictures(shared_data: Path, tmp_path: Path) -> None:
    """Smaller ones of the same pictures would be others; here only the pictures count, so the fused ones are the visible."""
    tno = shared_data / "eval" / "tno"
    bands = [
        {name: entropy(fused=cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for name, path in pair.items()}
        for pair in (
            {"visible": tno / "vi" / path.name, "thermal": path}
            for path in sorted((tno / "ir").iterdir())
            if path.suffix == ".png"
        )
    ]
    result = {"count": len(bands), "sources": summary(bands)["mean"]}
    assert list(_other_pictures("tno", {"mine": result})) == []
    assert len(list(_other_pictures("tno", {"mine": {**result, "count": 41}}))) == 1


def test_ranks_turn_round_where_less_is_better() -> None:
    rows = {"a": [1.0, 0.1], "b": [2.0, 0.2], "c": [2.0, 0.3]}
    assert mean_ranks(rows, metrics=["EN", "Nabf"]) == {"a": 2.0, "b": 1.75, "c": 2.25}
    assert mean_ranks(rows) == {"a": 3.0, "b": 1.75, "c": 1.25}


def test_names_are_as_short_as_tells_them_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "out", tmp_path / "b" / "out"]
    assert list(names_of(paths)) == ["a/out", "b/out"]
    assert list(names_of(paths[:1])) == ["out"]
    with pytest.raises(ConfigError, match="given twice"):
        names_of([paths[0], paths[0]])


def test_videos_are_matched_in_time(tmp_path: Path) -> None:
    """The fused video lacks every other frame; each of its frames is measured with the sources of its own moment."""
    frames = [scene(index) for index in range(6)]
    lossless: dict[str, str] = {"codec": "ffv1", "pix_fmt": "gray"}
    write_clip(tmp_path / "vi.mkv", frames, **lossless)
    write_clip(tmp_path / "ir.mkv", frames, **lossless)
    write_clip(tmp_path / "fused.mkv", frames[::2], stamps=[0, 2, 4], **lossless)
    result = evaluate(ir=tmp_path / "ir.mkv", vis=tmp_path / "vi.mkv", fused=tmp_path / "fused.mkv")
    assert list(result["images"]) == ["000000", "000001", "000002"]
    assert all(row["CC"] == pytest.approx(1.0) for row in result["images"].values()), "three times the same picture"
    assert result["images"]["000000"]["warp"] is None
    assert result["mean"]["warp"] == pytest.approx(np.mean([result["images"][f"00000{i}"]["warp"] for i in (1, 2)]))
    every = evaluate(ir=tmp_path / "ir.mkv", vis=tmp_path / "vi.mkv", fused=tmp_path / "fused.mkv", every=2)
    assert list(every["images"]) == ["000000", "000002"]


def clip_of(path: Path, stamps: list[int], *, shift: int = 0) -> Path:
    """A lossless clip with frames at these thirtieths of a second; the picture of each tells its stamp, less ``shift``."""
    images = [scene(stamp - shift) for stamp in stamps]
    return write_clip(path, images, stamps=stamps, codec="ffv1", pix_fmt="gray")


@pytest.mark.parametrize(
    ("thermal", "settings", "measured", "left_out"),
    [
        ([*range(10), *range(20, 40)], {}, 30, 0),
        (list(range(40)), {"max_frames": 9}, 9, 0),
        (list(range(0, 40, 3)), {"pair": "hold"}, 40, 0),
        (list(range(0, 40, 3)), {}, 14, 0),
        (list(range(40)), {"thermal_delay_ms": -200.0}, 34, 0),
        (list(range(40)), {"thermal_delay_ms": 200.0}, 34, 0),
    ],
    ids=["drops", "ended early", "hold", "slow", "early", "late"],
)
def test_the_frames_of_a_run_are_measured_with_the_pairs_they_were_made_of(
    tmp_path: Path, thermal: list[int], settings: dict[str, object], measured: int, left_out: int
) -> None:
    vis = clip_of(tmp_path / "vi.mkv", list(range(40)))
    ir = clip_of(tmp_path / "ir.mkv", thermal)
    sink = f"video:{tmp_path}/fused.mkv?codec=ffv1"
    build(Settings(ir=ir, vis=vis, sink=sink, fuser="average", **settings)).run()
    delay_ms = float(settings.get("thermal_delay_ms", 0.0))  # type: ignore[arg-type]
    seen: list[tuple[bool, bool]] = []

    def spied(*, fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray) -> dict[str, float]:
        mean = (visible.astype(int) + thermal + 1) // 2
        seen.append((bool(np.abs(mean - fused).max() <= 2), fused.std() > 1))
        return {"EN": 1.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtfusion.evaluate.quality.image_metrics", spied)
        result = evaluate(ir=ir, vis=vis, fused=tmp_path / "fused.mkv", thermal_delay_ms=delay_ms)
    assert seen == [(True, True)] * measured
    assert len(result["left_out"]["fused"]) == left_out


def test_frames_of_no_moment_are_left_out_and_named(tmp_path: Path) -> None:
    vis, ir = clip_of(tmp_path / "vi.mkv", list(range(12))), clip_of(tmp_path / "ir.mkv", list(range(12)))
    fused = clip_of(tmp_path / "fused.mkv", [*range(4), *range(9, 16)])
    result = compare(ir=ir, vis=vis, fused={"late": fused})
    method = result["methods"]["late"]
    assert list(method["images"]) == [f"{number:06d}" for number in range(7)]
    assert method["left_out"]["fused"] == ["000007", "000008", "000009", "000010"]
    assert method["images"]["000004"]["warp"] is not None
    assert "late: left out of fused, of no moment of the sources: 4 (000007, 000008, 000009, 000010)" in format_table(
        result
    )


def test_a_video_of_other_moments_is_refused(tmp_path: Path) -> None:
    vis, ir = clip_of(tmp_path / "vi.mkv", list(range(5))), clip_of(tmp_path / "ir.mkv", list(range(5)))
    with pytest.raises(ConfigError, match="no frame is of a moment of the sources"):
        evaluate(ir=ir, vis=vis, fused=clip_of(tmp_path / "fused.mkv", [0, 40]), every=2, thermal_delay_ms=900)


def test_a_folder_with_a_video_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "fused.mkv").touch()
    with pytest.raises(ConfigError, match="expected three folders of images or three videos"):
        evaluate(**{**folders, "fused": tmp_path / "fused.mkv"})


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


def test_sizes_must_be_equal(folders: dict[str, Path]) -> None:
    cv2.imwrite(str(folders["fused"] / "b.png"), scene(0)[:46])
    with pytest.raises(
        ConfigError, match=r"cannot measure b of .*differ in shape: fused \(46, 64\), visible \(48, 64\)"
    ):
        evaluate(**folders)


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
    with pytest.raises(ConfigError, match=r"there is no .*nowhere; expected a folder of images or a video"):
        evaluate(**{**folders, "fused": tmp_path / "nowhere"})


def test_a_missing_folder_for_the_json_is_found_before_measuring(folders: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "no" / "q.json"
    with pytest.raises(ConfigError, match="make it first"):
        command(
            ir=folders["ir"], vis=folders["vis"], fused=[folders["fused"]], json_file=target, every=1, published=None
        )
