from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import readme
from rtfusion.cli.bench import bench as command
from rtfusion.cli.console import table
from rtfusion.errors import ConfigError
from rtfusion.evaluate import bench, schema, timing
from rtfusion.evaluate.methods import CLASSICAL, select, shipped_models
from rtfusion.evaluate.speed_case import BOUND_BY, bound_by, run_case
from rtfusion.models import PRECISIONS, file_name, shipping
from tests import onnx_models

DIALS = (0.0, onnx_models.ENHANCE.default, 1.0)
DEFAULTS = {
    "quick": False, "size": None, "fuser": None, "model": None, "engine": None, "ir": None, "vis": None, "rounds": 1,
    "rate_hz": 30, "json_file": None, "against": None, "plot": None,
}  # fmt: skip


def stage(mean: float) -> dict[str, float]:
    return {"count": 1, "mean": mean, "p50": mean}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fuse": 5.0}, "infer"),
        ({"decode visible": 9.0}, "decode"),
        ({"sink out.mp4": 9.0}, "sink"),
        ({"tone": 3.0, "register": 1.0}, "register"),
        ({"compose": 3.0}, "compose"),
        ({"decode visible": 4.0, "tone": 2.0, "fuse": 2.0, "compose": 1.5}, "register"),
    ],
)
def test_what_bounds_is_the_busiest_thread_and_its_longest_part(changes: dict[str, float], expected: str) -> None:
    names = ("decode visible", "decode thermal", "tone", "register", "fuse", "compose", "sink null:")
    stages = {name: stage(0.5) for name in names} | {name: stage(mean) for name, mean in changes.items()}
    assert bound_by(stages) == expected


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a run cannot be measured: .*none\.mp4"):
        run_case({"vis": str(tmp_path / "none.mp4"), "ir": str(tmp_path / "neither.mp4")})


def test_the_methods_are_the_classical_fusers_and_every_model_at_values_of_its_dial(tmp_path: Path) -> None:
    dial = onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    plain = onnx_models.write(tmp_path / "plain.onnx", onnx_models.average())
    names = [method.name for method in select(models={"dial": dial, "plain": plain})]
    assert names == [*CLASSICAL, *(f"dial, enhance {value:g}" for value in DIALS), "plain"]
    assert [method.name for method in select(fusers=[], models={"dial": dial}, enhance=())] == ["dial"]
    settings = select(fusers=[], models={"dial": dial}, enhance=[0.25])[0].settings
    assert settings == {"fuser": "learned", "model": dial, "enhance": 0.25}


def test_models_that_ship_are_picked_up_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    assert [method.name for method in select()] == list(CLASSICAL)
    scalars = {"enhance": onnx_models.ENHANCE}
    for name in ("small", "large"):
        for precision in PRECISIONS:
            onnx_models.write(tmp_path / file_name(name, precision=precision), onnx_models.dial(), scalars=scalars)
    onnx_models.write(tmp_path / file_name("tiny", precision="int8"), onnx_models.dial(), scalars=scalars)
    names = [f"{name}, enhance {value:g}" for name in ("large", "small") for value in DIALS]
    assert [method.name for method in select()] == [*CLASSICAL, *names]
    (method,) = select(fusers=[], models={"small": shipped_models()["small"]}, enhance=[1.0])
    levels = np.tile(np.arange(32, dtype=np.uint8)[:, None] * 6, (1, 32))
    fused = method.open_luminance(still=True)(visible_y=levels, thermal=levels[::-1], timestamp_ns=0)
    np.testing.assert_array_equal(fused, levels[::-1], err_msg="the thermal picture at enhance 1")


def figures(*, fps: float) -> dict[str, Any]:
    """Those of one run, as a process of its own tells them."""
    stages = {
        name: {"count": 40, "mean": 1.0, "p50": 1.0} for name in ("decode visible", "fuse", "compose", "sink null:")
    }
    return {
        "engine": None, "fps": fps, "cpu_ms_per_frame": 2.0, "memory_mb": 100.0, "bound_by": "infer", "dropped": 0,
        "fuser_p50_ms": 1.0, "age_p50_ms": 3.0, "age_p99_ms": 4.0, "stages_ms": stages,
    }  # fmt: skip


def test_capacity_is_of_the_middle_round_and_live_says_what_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Average and maximum take turns over three rounds, and then each is run live; maximum is half as fast, and late."""
    rates = iter([100.0, 50.0, 300.0, 150.0, 200.0, 100.0, 30.0, 12.0])
    jobs: list[dict[str, Any]] = []

    def run(settings: dict[str, Any], *, limit_s: float | None) -> dict[str, Any]:
        assert limit_s is None
        jobs.append(settings)
        return figures(fps=next(rates))

    monkeypatch.setattr(bench, "run_case", run)
    monkeypatch.setattr(bench, "make_clips", lambda folder, **_: {"vis": "vi.mp4", "ir": "ir.mp4"})
    plan = bench.Plan(methods=select(fusers=["average", "maximum"], models={}), sizes=["64x48"], frames=120)
    data = bench.measure(plan, say=lambda text: None)
    assert [job["fuser"] for job in jobs] == ["average", "maximum"] * 4
    assert [job.get("loop") for job in jobs] == [2] * 6 + [None] * 2, "120 frames of clips of 60"
    assert jobs[-1]["vis"].startswith("synthetic:?live=true&size=64x48&fps=30")
    average, maximum = data["rows"]
    assert average["fps"] == {"median": 200.0, "min": 100.0, "max": 300.0}
    assert (maximum["ratio"], maximum["ratios"]) == (0.5, [0.5] * 3)
    assert bench.rates(data)[1] == ["64x48 maximum", "100", "12.0 late", "4.0", "2.0", "100"]
    assert average["live"]["keeps_up"]
    assert bench.stages(data)[0] == ["64x48 average", "1.00", "0.00", "1.00", "1.00", "1.00", "infer"]
    timing.save(data, tmp_path / "bench.json")
    earlier = {**data, "machine": {**data["machine"], "cores": 99}}
    said = bench.remarks(data, previous=earlier)  # among what held this very machine back
    (compared,) = (line for line in said if line.startswith("average at 64x48: 1.00 times the FPS of"))
    assert "on another machine" in compared
    assert bench.draw(data).startswith("<svg")


def test_a_quick_run_ends_in_time_however_slow_the_machine_is() -> None:
    scene = "synthetic:?live=true&size=64x48&fps=50"
    settings = {"ir": scene, "vis": scene, "fuser": "average", "denoise": "off"}
    measured = run_case(settings, limit_s=0.5)  # else it would go on for ever
    assert measured["frames"] > 0
    assert bench.quick(select(fusers=["average"], models={})).limit_s is not None


def test_tables_fit_a_terminal_of_eighty_columns() -> None:
    row = {
        "size": "3840x2160", "case": "small, onnxruntime", "fps": {"median": 1234.0}, "memory_mb": 1234.0,
        "cpu_ms_per_frame": {"median": 123.4}, "bound_by": "register",
        "stages_ms": {name: {"p50": 123.4} for name in ("decode visible", "register", "fuse", "compose", "sink null:")},
        "live": {"fps": 29.9, "keeps_up": False, "age_p99_ms": 123.4},
    }  # fmt: skip
    for headers, rows in ((bench.RATES, bench.rates({"rows": [row]})), (bench.STAGES, bench.stages({"rows": [row]}))):
        shown = table(*headers, numbers_from=1, name_width=18)
        shown.add_row(*rows[0])
        console = Console(width=80, file=io.StringIO())
        console.print(shown)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        for word in (*headers[1:], *rows[0][1:]):
            assert word in "\n".join(lines), f"{word} was cut off"


@pytest.mark.slow  # eight seconds; what is measured and said, without measuring, is above
def test_a_whole_measurement_is_written_drawn_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx_models.write(tmp_path / "tiny.onnx", onnx_models.average())
    target, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    plan = bench.Plan(
        methods=select(fusers=["average"], models={"tiny": model}), sizes=["64x48"], rounds=2, frames=40, live_s=0.2
    )
    data = bench.measure(plan, say=lambda text: None)
    timing.save(data, target)
    assert [row["case"] for row in data["rows"]] == ["average", "tiny"]
    for row in data["rows"]:
        assert row["fps"]["min"] > 0
        assert row["bound_by"] in BOUND_BY
        assert {"p50", "p90", "p95", "p99", "max"} <= row["stages_ms"]["fuse"].keys()
        assert row["live"]["age_p99_ms"] > 0
        assert len(row["ratios"]) == 2
    assert "OpenVINO" in data["rows"][1]["engine"]
    again = {
        **DEFAULTS,
        "quick": True,
        "size": ["64x48"],
        "fuser": ["average"],
        "model": [],
        "json_file": target,
        "overwrite": True,
        "plot": plot,
    }
    command(**again)
    out = " ".join(capsys.readouterr().out.split())
    assert "average at 64x48:" in out
    assert "times the FPS of" in out
    assert plot.read_text().startswith("<svg")
    assert schema.load(target)["rows"][0]["case"] == "average"
    assert readme.bench_table(data).count("| 64x48 tiny |") == 2


def test_published_figures_have_sources() -> None:
    for row in json.loads(bench.PUBLISHED.read_text())["rows"]:
        assert row["source"]
        assert row["hardware"]
        assert row["fps"] > 0


def test_wrong_sizes_lone_recordings_and_foreign_results_are_refused(tmp_path: Path) -> None:
    for size in ("640", "640x", "x480", "0x480", "640x-1"):
        with pytest.raises(ConfigError, match="expected WIDTHxHEIGHT"):
            bench.frames_for(size, frames=300)
    with pytest.raises(ConfigError, match="no fuser 'learned' without a model; there are average"):
        select(fusers=["learned"])
    with pytest.raises(ConfigError, match="give both --ir and --vis"):
        command(**{**DEFAULTS, "ir": "ir.mp4"})
    other = timing.result("speed", settings={}, rows=[{"case": "a"}])
    with pytest.raises(ConfigError, match="of the suite speed"):
        bench.against({**other, "suite": "bench"}, other)


def test_a_run_at_every_size_has_as_many_pixels() -> None:
    assert bench.frames_for("640x480", frames=300) == 300
    assert bench.frames_for("1280x960", frames=300) == 75
    assert bench.frames_for("3840x2160", frames=300) == 40
    assert bench.frames_for("320x240", frames=300) == 300
