"""Stability, fusers and scale on small clips, and what the pages make of the results."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import comparison, cost, fusers, readme, scale, speed, stability
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.evaluate import schema
from rtfusion.evaluate.methods import Method
from rtfusion.evaluate.metrics import image_metrics
from rtfusion.evaluate.ranking import published
from tests.capture.clips import write_clip

AVERAGE, PYRAMID = Method(name="average", fuser="average"), Method(name="pyramid", fuser="pyramid")


def texture(seed: int, *, size_px: tuple[int, int] = (160, 160)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.normal(128, 1, size_px[::-1]), (0, 0), 3)
    return cv2.normalize(image, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Both bands slide to the right by one pixel a frame; no noise."""
    folder = tmp_path / "video" / "slide"
    folder.mkdir(parents=True)
    for seed, band in enumerate(("vi", "ir")):
        wide = texture(seed, size_px=(176, 160))
        write_clip(folder / f"{band}.mp4", [wide[:, 8 - i : 168 - i] for i in range(4)], options={"crf": "1"})
    return folder


def test_stability_of_a_sliding_scene(clip: Path) -> None:
    rows = {row["case"]: row for row in stability.measure_clip(clip, frames=4, methods=[AVERAGE, PYRAMID])}
    assert list(rows) == ["visible", "thermal", "average", "pyramid"]
    assert rows["visible"]["noise"] == 1.0
    assert rows["visible"]["leak"] == rows["thermal"]["leak"] == rows["average"]["leak"] == 0.0
    assert 0.5 < rows["average"]["noise"] < 1.5, (
        "the noise falls by a root of two, and so does the contrast of two textures"
    )
    for row in rows.values():
        assert 0 <= row["warp"] < 0.1
        assert row["motion"] < 0.5, "everything moves alike"
    assert "| pyramid |" in stability.table({"rows": list(rows.values())})


def test_a_clip_of_one_frame_has_no_stability(clip: Path) -> None:
    with pytest.raises(ConfigError, match="fewer than two frames"):
        stability.measure_clip(clip, frames=1, methods=[])


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for name in ("tno", "msrs"):
        for seed, band in enumerate(("vi", "ir")):
            folder = tmp_path / "eval" / name / band
            folder.mkdir(parents=True)
            for index in range(2):
                cv2.imwrite(str(folder / f"{index}.png"), texture(10 * index + seed, size_px=(96, 64)))
    return tmp_path


def test_fusers_are_measured_as_the_metrics_say(sets: Path) -> None:
    (row,) = fusers.measure_set(sets, "tno", methods=[AVERAGE])
    expected = []
    for index in range(2):
        visible, thermal = (texture(10 * index + seed, size_px=(96, 64)) for seed in (0, 1))
        fused = AVERAGE.open_luminance(still=True)(visible_y=visible, thermal=thermal, timestamp_ns=0)
        expected.append(image_metrics(fused=fused, visible=visible, thermal=thermal)["Qabf"])
    assert (row["case"], row["set"], row["pairs"]) == ("average", "tno", 2)
    assert row["Qabf"] == pytest.approx(np.mean(expected))
    assert row["standard_error"]["Qabf"] == pytest.approx(np.std(expected, ddof=1) / np.sqrt(2))
    with pytest.raises(CaptureError, match="vifb/vi: no such folder"):
        fusers.measure_set(sets, "vifb", methods=[AVERAGE])


def test_painting_is_not_measured_as_luminance() -> None:
    with pytest.raises(ConfigError, match="paints in a palette"):
        Method(name="overlay", fuser="overlay").open_luminance(still=True)


def test_the_command_writes_a_result_with_every_set(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fusers, "select", lambda: [AVERAGE, PYRAMID])
    target = tmp_path / "fusers.json"
    assert fusers.SUITE.main(["--data", str(sets), "--set", "tno", "msrs", "--json", str(target)]) == 0
    assert "SeAFusion" in capsys.readouterr().out
    data = schema.load(target)
    assert [(row["case"], row["set"]) for row in data["rows"]] == [
        (case, name) for name in ("tno", "msrs") for case in ("average", "pyramid")
    ]
    assert fusers.SUITE.main(["--data", str(sets / "nowhere")]) == CaptureError.exit_code


def model_rows() -> list[dict[str, object]]:
    metrics = published("tno").metrics
    values = {"pyramid": 1.0, "small, enhance 0": 2.0, "small, enhance 0.55": 0.5}
    rows = [
        {"case": case, "set": "msrs", "pairs": 2, **dict.fromkeys(metrics, value)} for case, value in values.items()
    ]
    rows[1]["EN"] = 0.9
    return rows


def test_where_a_model_loses_is_said() -> None:
    data = {"rows": model_rows()}
    lines = comparison.losses(data).splitlines()
    assert lines[:3] == ["**small at 0**", "", "- MSRS: EN 0.90 (1.00). Better ranks: none."]
    assert lines[-1].startswith("- MSRS: EN 0.50 (1.00), SD 0.50 (1.00)")
    assert lines[-1].endswith(". Better ranks: pyramid.")
    assert comparison.ranks_table(data).splitlines()[0] == "| method | MSRS (of 3) |"
    assert comparison.losses({"rows": data["rows"][:1]}) == "No trained model is in these results."


def test_the_headline_counts_a_model_once() -> None:
    rows = [{**row, "set": "tno"} for row in model_rows()] + [
        {"case": "average", "set": "tno", "pairs": 2, **dict.fromkeys(published("tno").metrics, 0.1)}
    ]
    said = fusers.headline({"rows": rows})
    assert f"of {len(published('tno').rows) + 3} methods (small at enhance 0.55; the plain average has" in said
    assert fusers.headline({"rows": rows[:1]}) == "Not measured with a model yet."


def test_a_table_of_a_set_says_among_how_many_a_rank_is_and_fits_80_columns() -> None:
    first, second = fusers.set_table({"rows": model_rows()}, "msrs").split("\n\n")
    assert first.startswith("| method | rank of 3 | EN |")
    assert second.splitlines()[0].endswith("| Nabf | halo |")
    for page in ("comparison", "benchmarks"):
        for table in re.findall(
            r" table -->\n(.*?)<!-- end", (readme.ROOT / f"docs/{page}.md").read_text(), flags=re.DOTALL
        ):
            assert [line for line in table.splitlines() if line.startswith("|") and len(line) > 80] == []


@pytest.mark.slow  # eight seconds, of many processes; two of them are started below
def test_scale_measures_pixels_streams_and_cores(tmp_path: Path) -> None:
    target = tmp_path / "scale.json"
    arguments = [
        "--method",
        "average",
        "--size",
        "64x48",
        "96x64",
        "--streams",
        "1",
        "2",
        "--frames",
        "40",
        "--rounds",
        "1",
    ]
    assert scale.SUITE.main([*arguments, "--json", str(target), "--plots", str(tmp_path / "plots")]) == 0
    data = schema.load(target)
    by_kind = {kind: [row for row in data["rows"] if row["of"] == kind] for kind in ("pixels", "streams", "cores")}
    assert [row["size"] for row in by_kind["pixels"]] == ["64x48", "96x64"]
    assert [(row["mode"], row["streams"]) for row in by_kind["streams"]] == [
        ("processes", 1), ("threads", 1), ("processes", 2), ("threads", 2),
    ]  # fmt: skip
    assert by_kind["cores"][0]["cores"] == 1
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "scale-cores.svg", "scale-pixels.svg", "scale-streams.svg",
    ]  # fmt: skip


def test_what_a_pair_costs_is_told_as_multiples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cost.json"
    arguments = ["--size", "96x64", "--frames", "30", "--loop", "1", "--rounds", "2", "--json", str(target)]
    assert cost.SUITE.main(arguments) == 0
    rows = {row["case"]: row for row in schema.load(target)["rows"]}
    assert list(rows) == ["average", "default", "decoding alone"]
    assert rows["average"]["ratios"] == [1.0, 1.0]
    assert rows["decoding alone"]["wall_ratio"] == 1.0
    for row in rows.values():
        assert row["ratio_spread"]["min"] <= row["ratio"] <= row["ratio_spread"]["max"]
    assert "| default |" in capsys.readouterr().out


def test_runs_side_by_side_start_together(tmp_path: Path) -> None:
    """Every process says that it is ready before any is let go, and the figures of all come back."""
    program = f"""
import os, pathlib, sys
marks = pathlib.Path({str(tmp_path)!r})
(marks / str(os.getpid())).touch()
print("ready", flush=True)
sys.stdin.readline()
print('{{"seen": %d}}' % len(list(marks.iterdir())))
"""
    assert scale._processes([sys.executable, "-c", program], count=3) == [{"seen": 3}] * 3
    with pytest.raises(ConfigError, match="a run of 2 side by side could not be opened: no such fuser"):
        scale._processes([sys.executable, "-c", "import sys; sys.exit('no such fuser')"], count=2)


def test_several_runs_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        {"frames": 10, "elapsed_s": 2.0, "cpu_ms_per_frame": 4.0, "memory_mb": 100.0},
        {"frames": 30, "elapsed_s": 4.0, "cpu_ms_per_frame": 8.0, "memory_mb": 50.0},
    ]
    monkeypatch.setattr(scale, "_processes", lambda line, count: runs[:count])
    assert scale.together({}, count=2, mode="processes") == {"fps": 10.0, "cpu_ms_per_frame": 7.0, "memory_mb": 150.0}


def test_what_cannot_be_measured_is_told_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.SUITE.main(["--method", "median"]) == ConfigError.exit_code
    assert "there is no method 'median' to measure; there are average" in capsys.readouterr().err
    assert speed.SUITE.main(["--fuser", "median"]) == ConfigError.exit_code
    assert "there is no fuser 'median' to measure; there are average" in capsys.readouterr().err


def test_every_page_has_a_place_for_its_tables() -> None:
    for page, names in readme.PAGES.items():
        text = (readme.ROOT / page).read_text(encoding="utf-8")
        assert readme.with_tables(text, names) == text, "run python -m benchmarks.readme"


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no place for the speed table"):
        readme.with_tables("nothing", ["speed"])


def test_printed_values_keep_their_sources_apart() -> None:
    data = json.loads(readme.PRINTED.read_text())
    assert all(source["source"] and source["rows"] for source in data["sources"])
    assert all(len(values) == len(s["metrics"]) for s in data["sources"] for values in s["rows"].values())
    assert comparison.printed_table(data).count("| method |") == len(data["sources"])
