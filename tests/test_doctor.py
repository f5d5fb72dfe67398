from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtfusion import doctor
from rtfusion.config import Settings
from rtfusion.cuda import device as device_module
from rtfusion.doctor import CHECKS, Examination, Finding, examine
from rtfusion.engines import ENGINES, choose_precision, open_engine
from rtfusion.errors import EngineError
from rtfusion.kernels import library
from rtfusion.models import shipped
from tests import onnx_models
from tests.cli.conftest import Main, environ, main_here  # noqa: F401 - fixtures
from tests.cuda import fake
from tests.cuda.conftest import kernels_on_host  # noqa: F401 - a fixture
from tests.support import needs_kernels


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})


def by_name(check: str, **options: object) -> dict[str, Finding]:
    (function,) = (entry for entry in CHECKS if entry.__name__ == check)
    return {finding.name: finding for finding in function(Examination(**options))}  # type: ignore[arg-type]


def test_every_engine_is_looked_at() -> None:
    assert by_name("engines").keys() == {f"engine {name}" for name in ENGINES}


def test_engines_are_held_against_each_other(model: Path) -> None:
    found = by_name("parity", model=model)
    assert "is the reference" in found["parity openvino"].text
    assert found["parity onnxruntime"].state == "good"
    assert found["parity onnxruntime"].figures["largest"] < 1e-6


@pytest.mark.parametrize("is_here", [pytest.param(True, marks=needs_kernels), False])
def test_compiled_kernels_are_held_against_their_twin_or_it_says_why_they_are_not_there(
    monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.compiled,))
    library.cache_clear()
    if not is_here:
        monkeypatch.setattr("rtfusion.kernels.LIBRARY", Path("gone.so"))
    (found,) = examine(Examination())
    library.cache_clear()
    assert (found.name, found.state) == ("compiled", "good" if is_here else "note")
    assert ("are those of the twin" if is_here else "were not compiled when rtfusion was installed") in found.text


def test_without_a_model_the_default_one_is_compared_and_measured_in_the_precision_of_a_run() -> None:
    assert Examination().model == Settings().model
    assert "is the reference" in by_name("parity")["parity openvino"].text
    found = by_name("speed", seconds=0.05)
    assert next(iter(found)) == "speed learned auto"
    text = found["speed learned auto"].text
    chosen = choose_precision(Settings().model, precision="auto", engine="auto", size_px=(640, 480)).precision
    assert re.search(rf"\bprecision {chosen}\b", text), text
    assert text.startswith("small: about ")
    assert text.count("precision") == 1
    assert doctor.CHECKS[-1] is doctor.speed
    assert f"student-small{'' if chosen in ('f32', 'bf16') else f'-{chosen}'}.onnx" in text


def test_a_model_may_be_named() -> None:
    found = by_name("speed", model=Path("large"), seconds=0.05)
    assert "student-large" in found["speed learned auto"].text


@pytest.mark.parametrize("precision", ["gpu-f16", "gpu-int8"])
def test_files_for_a_gpu_may_be_rounded_as_they_are(precision: str) -> None:
    found = by_name("parity", model=shipped("small", precision=precision))
    assert found["parity onnxruntime"].state == "good"
    assert found["parity onnxruntime"].figures["largest"] > 1e-6


def test_the_fusers_are_measured(model: Path) -> None:
    found = by_name("speed", model=model, seconds=0.05)
    assert found.keys() - {"speed, a note"} == {"speed pyramid", "speed learned auto"}
    assert "dial.onnx" in found["speed learned auto"].text
    for name, told in (("speed pyramid", "pyramid"), ("speed learned auto", model.stem)):
        assert re.match(rf"{told}: about \d+ frames/s at 640x480", found[name].text)
        finding = found[name]
        assert 0 < finding.figures["p50_ms"] <= finding.figures["p99_ms"]


def test_what_never_ran_on_hardware_is_said() -> None:
    texts = " ".join(finding.text for finding in doctor.hardware(Examination()))
    for name in ("CUDA fuser", "TensorRT", "torch_tensorrt", "Jetson"):
        assert name in texts


@pytest.mark.parametrize("works", [True, False])
def test_the_kernels_of_a_device_are_held_against_their_twin(
    kernels_on_host: ctypes.CDLL,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
) -> None:
    module = fake.FakeCuda(kernels_on_host)
    monkeypatch.setattr(device_module, "_pycuda", lambda: (module, module))
    if works:
        assert "values are those of the twin" in by_name("kernels")["kernels"].text
    else:
        monkeypatch.setattr(
            module,
            "kernels",
            type("Broken", (), {"host_prepare": kernels_on_host.host_prepare, "host_compose": lambda *_: None})(),
        )
        with pytest.raises(EngineError, match=r"of image differ at 8 bits"):
            by_name("kernels")
    assert module.live == {}


def test_a_check_that_breaks_is_a_finding_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(examination: Examination) -> Iterator[Finding]:
        raise EngineError("no good")
        yield

    def a_bug(examination: Examination) -> Iterator[Finding]:
        yield Finding(name="half", state="good", text="done")
        raise KeyError("oops")

    monkeypatch.setattr(doctor, "CHECKS", (broken, a_bug, doctor.hardware))
    findings = list(examine(Examination()))
    assert [(finding.name, finding.state) for finding in findings[:3]] == [
        ("broken", "bad"),
        ("half", "good"),
        ("a bug", "bad"),
    ]
    assert len(findings) == 3 + len(doctor.NOT_RUN_ON_HARDWARE)


# --- the command ---


def test_the_command_prints_what_it_finds_and_writes_a_report(main_here: Main, model: Path, tmp_path: Path) -> None:  # noqa: F811
    open_engine("openvino", model=model, size_px=(64, 48)).close()  # starts a thread of its own, once
    code, out, err = main_here("doctor", "--model", str(model), "--seconds", "0.1", "--report", "found.json")
    assert code == 0
    assert "parity onnxruntime" in out
    assert "[cuda]" in out  # not taken for markup
    assert "found.json" in err
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["schema"] == 1
    assert {finding["state"] for finding in told["findings"]} <= {"good", "note", "bad"}
    assert str(tmp_path) not in json.dumps(told)


def test_something_broken_is_exit_code_4(main_here: Main, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    code, out, _ = main_here("doctor", "--model", "bad.onnx", "--seconds", "0.1")
    assert code == 4
    assert "bad.onnx is not a whole ONNX model" in out


def test_a_report_that_cannot_be_written_is_found_first(main_here: Main) -> None:  # noqa: F811
    code, out, err = main_here("doctor", "--report", "gone/report.json")
    assert (code, out) == (2, "")
    assert "cannot write gone/report.json: there is no folder" in err
