"""The check of a GPU, on a simulated device and on the CPU: that its parts run, end and are told. It has run on no GPU yet."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Part, outcome, parts, run_all, run_apart
from rtfusion.engines import resolve
from rtfusion.errors import EngineError, EngineUnavailable
from rtfusion.evaluate import schema
from tests.cuda import fake
from tests.engines.conftest import cuda, kernels_on_host, trt  # noqa: F401 - fixtures
from tests.engines.fake_tensorrt import TensorRt

ROOT = Path(__file__).resolve().parents[2]
SIZE_PX = (64, 48)
OPTIONS = argparse.Namespace(sizes=["64x48"], carried=None, budget=60.0, parts=[])


@pytest.fixture
def simulated(trt: TensorRt, cuda: fake.FakeCuda, monkeypatch: pytest.MonkeyPatch) -> fake.FakeCuda:  # noqa: F811
    """TensorRT on a CUDA device, both of them simulated; few frames."""
    monkeypatch.setattr(gpu_check, "_PACKAGE_OF", {"tensorrt": ()})
    monkeypatch.setattr(gpu_check, "PAIRS", 2)
    monkeypatch.setattr(gpu_check, "WARM_UP_FRAMES", 2)
    monkeypatch.setattr(gpu_check, "COMPARED_FRAMES", 3)
    for module in ("rtfusion.cuda.renderer", "rtfusion.engines"):
        monkeypatch.setattr(f"{module}.resolve", lambda name: name if name == "tensorrt" else resolve(name))
    return cuda


def checked(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows, if a result file may hold them."""
    for row in rows:
        schema.Row.model_validate(json.loads(json.dumps(row)))
    assert gpu_check.table({"rows": rows})
    return rows


def test_the_parts_are_all_that_was_wanted_and_fit_into_eight_minutes() -> None:
    names = [part.name for part in parts()]
    for size in ("640x480", "1280x1024", "1920x1080", "3840x2160"):
        assert {f"times tensorrt {size}", f"times pytorch:cuda {size}"} <= set(names)
    assert {"kernels", "tests", "graph", "fuser tensorrt", "fuser pytorch:cuda", "networks 640x480"} <= set(names)
    assert len(names) == len(set(names))
    assert parts(carried=Path())[0].name == "pycuda"
    assert gpu_check.BUDGET_S < 8 * 60


def test_kernels_and_times_on_a_simulated_device(simulated: fake.FakeCuda) -> None:
    found = [
        {"case": part.name, **outcome(part)}
        for part in (
            Part(name="kernels", limit_s=1, run=gpu_check.kernels),
            Part(name="times", limit_s=1, run=partial(gpu_check.times, "tensorrt", size_px=SIZE_PX, seconds=0.0)),
        )
    ]
    kernels, times = checked(found)
    assert kernels["outcome"] == times["outcome"] == "passed", found
    assert kernels["compared"] == 2 * (2 * 64 * 88 + 4 * 61 * 83 + 2)
    assert times["bus_bytes"] == 8 * 64 * 48
    assert times["whole_ms"]["count"] == times["compute_ms"]["count"] == 2, "frames that warm up do not count"
    assert times["floor_ms"]["count"] == gpu_check.COPIES
    assert simulated.live == {}


def test_the_fuser_is_held_against_the_host_on_a_simulated_device(
    simulated: fake.FakeCuda,
    trt: TensorRt,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = gpu_check.fuser("tensorrt", size_px=SIZE_PX)
    assert row["levels_most"] <= gpu_check.MOST_LEVELS
    assert "TensorRT" in row["text"]
    trt.wrong_by = 0.0015
    monkeypatch.setattr(gpu_check, "MOST_MEAN_LEVELS", 0.01)
    with pytest.raises(EngineError, match="gray levels away on average"):
        gpu_check.fuser("tensorrt", size_px=SIZE_PX)
    assert simulated.live == {}


def test_networks_and_the_graphs_result_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the networks are PyTorch's: pip install -e '.[train]'")
    row = gpu_check.networks(size_px=SIZE_PX, device="cpu", rounds=2)
    assert row["small_ms"]["count"] == row["ldlite_ms"]["count"] == 2
    assert "LD-Lite takes" in row["text"]
    assert gpu_check.graph(engine="pytorch", size_px=SIZE_PX)["largest"] < 0.1
    with pytest.raises(EngineUnavailable, match=r"pytorch:cuda needs pycuda|PyTorch sees no CUDA device"):
        gpu_check.networks(size_px=SIZE_PX)


def test_an_outcome_for_everything_that_may_happen() -> None:
    def fails(error: Exception) -> Part:
        def run() -> dict[str, object]:
            raise error

        return Part(name="x", limit_s=1, run=run)

    assert outcome(Part(name="x", limit_s=1, run=lambda: {"text": "so"})) == {"outcome": "passed", "text": "so"}
    assert outcome(fails(EngineUnavailable("no device"))) == {"outcome": "unavailable", "text": "no device"}
    assert outcome(fails(EngineError("wrong"))) == {"outcome": "failed", "text": "wrong"}


def test_a_part_that_dies_or_hangs_costs_the_others_nothing() -> None:
    died = run_apart("no such part", limit_s=60, options=OPTIONS)
    assert died["outcome"] == "failed"
    assert "ended with 1" in died["text"]
    hung = run_apart("kernels", limit_s=0.01, options=OPTIONS)
    assert hung["outcome"] == "timed out"
    asked = [Part(name=name, limit_s=0.01, run=dict) for name in ("kernels", "tests")]
    rows = checked(list(run_all(asked, OPTIONS)))
    assert [row["outcome"] for row in rows] == ["timed out", "timed out"]
    spent = argparse.Namespace(**{**vars(OPTIONS), "budget": 0.0})
    assert [row["outcome"] for row in run_all(asked, spent)] == ["left out", "left out"]
    assert gpu_check.failures({"rows": rows}) == [
        "kernels: timed out",
        "tests: timed out",
        "no part ran on a GPU: this result says nothing of one",
    ]


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="here is a GPU, for which the check is meant")
def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    environment = {**os.environ, "RTFUSION_BIN": str(Path(sys.executable).parent)}
    command = [str(ROOT / "scripts" / "gpu-check"), str(result), "--parts", "kernels", "fuser"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)
    assert run.returncode == 1, run.stderr
    assert "no part ran on a GPU: this result says nothing of one" in run.stdout
    rows = schema.load(result)["rows"]
    assert [(row["case"], row["outcome"]) for row in rows] == [
        ("kernels", "unavailable"),
        ("fuser pytorch:cuda", "unavailable"),
        ("fuser tensorrt", "unavailable"),
    ]
    assert all("pip install" in row["text"] or "is not installed" in row["text"] for row in rows)
