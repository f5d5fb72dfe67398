"""The precision of a shipped model is chosen by measuring, and remembered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rtfusion.config import Settings
from rtfusion.engines import Choice, choose_precision
from rtfusion.engines.fastest import ADMISSIBLE, NEARLY, by_rule, choose, fastest, folder
from rtfusion.errors import EngineError, SinkError
from rtfusion.fusion import open_method
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.pipeline import build
from rtfusion.registration import PairShape
from rtfusion.session.format import load_session
from rtfusion.telemetry import Telemetry
from tests.support import host_fuser, needs_kernels

SIZE_PX = (640, 480)
SMALL = Path("small")


class Machine:
    """A processor whose every run takes the time that it is said to take, on a clock of its own."""

    def __init__(self, times_ms: Mapping[str, float], *, refuses: tuple[str, ...] = ()) -> None:
        self.times_ms, self.refuses = times_ms, refuses
        self.now_s, self.opened, self.live = 0.0, 0, 0

    def open_in(self, precision: str, size_px: tuple[int, int]) -> Machine.Engine:
        if precision in self.refuses:
            raise EngineError("object is not initialized")
        self.opened += 1
        self.live += 1
        return Machine.Engine(self, precision, size_px)

    class Engine:
        def __init__(self, machine: Machine, precision: str, size_px: tuple[int, int]) -> None:
            self._machine, self._precision, self._size_px, self._runs = machine, precision, size_px, 0
            self.description = precision

        def run(self, *, images: Mapping[str, np.ndarray], inputs: Mapping[str, float]) -> dict[str, np.ndarray]:
            assert images["visible_y"].shape == self._size_px[::-1]
            assert "enhance" in inputs
            disturbed = 3.0 if self._runs % 3 == 0 else 1.0  # others use the machine too
            self._machine.now_s += self._machine.times_ms[self._precision] / 1000 * disturbed
            self._runs += 1
            return {}

        def close(self) -> None:
            self._machine.live -= 1

    def choose(self, *, size_px: tuple[int, int] = SIZE_PX, threads: int = 2, **changes: object) -> Choice:
        asked = {"capabilities": ADMISSIBLE, "version": "1.0", **changes}
        return fastest(
            SMALL,
            size_px=size_px,
            threads=threads,
            open_in=self.open_in,
            clock=lambda: self.now_s,
            **asked,  # type: ignore[arg-type]
        )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rtfusion" / "precision.json"


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ({"f32": 19, "f16": 33, "bf16": 9.3, "int8": 8.1}, "int8"),  # AMX without FP16
        ({"f32": 9.0, "f16": 9.0, "bf16": 6.3, "int8": 5.0}, "int8"),
        ({"f32": 8.9, "f16": 9.0, "bf16": 23.5, "int8": 5.0}, "int8"),  # bf16 is claimed, and emulated
        ({"f32": 20, "f16": 5.0, "bf16": 8, "int8": 5.2}, "f16"),
        ({"f32": 5.1, "f16": 9, "bf16": 5.05, "int8": 5.0}, "f32"),  # nearly as fast, and more accurate
        ({"f32": 19, "f16": 33, "bf16": 4.0, "int8": 8.1}, "bf16"),
    ],
)
def test_the_default_is_nearly_the_fastest_admissible_one(times_ms: dict[str, float], expected: str) -> None:
    machine = Machine(times_ms)
    choice = machine.choose()
    assert (choice.precision, choice.why) == (expected, "measured")
    assert times_ms[choice.precision] <= NEARLY * min(times_ms.values())
    assert choice.times_ms == pytest.approx(times_ms)
    assert machine.now_s < 2.0
    assert machine.live == 0


def test_it_is_measured_once_for_each_size_class_thread_count_version_and_instruction_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine({"f32": 9, "f16": 9, "bf16": 6, "int8": 5})
    for _ in range(2):
        for asked in ({}, {"threads": 1}, {"version": "2.0"}, {"size_px": (1920, 1080)}):
            machine.choose(**asked)
    assert machine.opened == 4 * len(ADMISSIBLE)
    assert machine.choose(size_px=(660, 470)).why == "remembered"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine.choose().why == "measured"


def test_a_precision_that_is_refused_after_all_is_left_out() -> None:
    choice = Machine({"f32": 14, "f16": 14, "int8": 20}, refuses=("bf16",)).choose()
    assert (choice.precision, {*choice.times_ms}) == ("f32", {"f32", "f16", "int8"})
    choice = Machine({}, refuses=ADMISSIBLE).choose(version="2.0")
    assert (choice.precision, choice.why) == ("f32", "rule")


def test_only_what_the_processor_has_is_tried() -> None:
    choice = Machine({"f32": 9, "int8": 5}).choose(capabilities=("f32", "int8"))
    assert {*choice.times_ms} == {"f32", "int8"}


def test_a_slow_machine_is_not_measured_for_long() -> None:
    machine = Machine({"f32": 400, "f16": 400, "bf16": 300, "int8": 200})
    assert machine.choose().precision == "int8"
    assert machine.now_s < 2 * 3 * 1.3, "two rounds, disturbed at worst, and no third one"


def test_very_large_pictures_are_measured_smaller() -> None:
    sizes = []

    class Watched(Machine):
        def open_in(self, precision: str, size_px: tuple[int, int]) -> Machine.Engine:
            sizes.append(size_px)
            return super().open_in(precision, size_px)

    Watched(dict.fromkeys(ADMISSIBLE, 5.0)).choose(size_px=(3840, 2160))
    assert {*sizes} == {sizes[0]}
    assert sizes[0][0] * sizes[0][1] < 310_000
    assert sizes[0][0] / sizes[0][1] == pytest.approx(16 / 9, rel=0.01)


def test_where_nothing_can_be_kept_a_rule_decides(cache: Path) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder should be")
    machine = Machine({"f32": 1, "f16": 5, "bf16": 5, "int8": 5})
    choice = machine.choose()
    assert (choice.precision, choice.why, machine.opened) == ("int8", "rule", 0)
    assert "by rule" in str(choice)
    assert [by_rule(has) for has in (("f32",), ("f32", "f16"), ADMISSIBLE)] == ["f32", "f16", "int8"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 9, "times_ms": {"a": {"f32": 1}}}'])
def test_a_damaged_or_foreign_file_is_measured_anew(cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    assert Machine(dict.fromkeys(ADMISSIBLE, 5.0)).choose().why == "measured"
    assert json.loads(cache.read_text())["schema"] == 1
    assert cache.parent == folder()


def test_what_was_asked_for_decides() -> None:
    asked = choose_precision(SMALL, precision="f32", engine="auto", size_px=SIZE_PX)
    assert (asked.precision, asked.why) == ("f32", "asked")
    by_path = choose_precision(Path("model.onnx"), precision="auto", engine="auto", size_px=SIZE_PX)
    assert (by_path.precision, by_path.why) == ("auto", "file")


def test_the_learned_fuser_runs_what_was_chosen_and_says_why(cache: Path) -> None:
    method = open_method("learned", still=True, model=SMALL, threads=1)
    assert isinstance(method, LearnedLuminance)
    method.prepare(size_px=(64, 48))
    assert method.choice is not None
    assert method.choice.precision == choose(method.choice.times_ms)
    assert cache.is_file()
    suffix = {"f16": "-f16", "int8": "-int8"}.get(method.choice.precision, "")
    assert f"student-small{suffix}.onnx" in (method.engine_description or "")
    said = str(method.choice)
    assert said.startswith(f"precision {method.choice.precision}: measured on this machine now, ms a frame:")
    telemetry = Telemetry()
    fuse = host_fuser("learned", method=method, telemetry=telemetry)
    fuse.prepare(PairShape((48, 64, 3), (48, 64), 1))
    assert telemetry.notes == [said]
    fuse.close()


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16", "int8"])
def test_every_precision_is_near_the_float32_student(precision: str) -> None:
    openvino = pytest.importorskip("rtfusion.engines.openvino")
    if precision not in (*openvino.admissible(), "f16"):
        pytest.skip(f"this processor does not compute in {precision}")
    rng = np.random.default_rng(0)
    visible, thermal = (
        np.clip(np.cumsum(rng.normal(0, 4, (48, 64)), axis=1) + 120, 0, 255).astype(np.uint8) for _ in range(2)
    )
    results = []
    for name in (precision, "f32"):
        method = open_method("learned", still=True, model=SMALL, precision=name, threads=1)
        results.append(method(visible_y=visible, thermal=thermal, timestamp_ns=0).astype(int))  # type: ignore[call-arg, operator]
        method.close()
    assert np.abs(results[0] - results[1]).mean() < 2.0


def test_a_recording_says_what_was_run_and_a_replay_that_differs_names_both(tmp_path: Path) -> None:
    street = "synthetic:?size=64x48&thermal_size=64x48&frames=2"
    settings = Settings(ir=street, vis=street, sink=f"record:{tmp_path}", threads=1)
    build(settings).run()
    session = load_session(tmp_path)
    recorded = session.settings["precision"]
    assert recorded in ADMISSIBLE
    other = "f32" if recorded != "f32" else "int8"
    source = f"session:{session.folder}"
    again = build(Settings(ir=source, vis=source, sink=f"compare:{session.folder}", precision=other, threads=1))
    with pytest.raises(SinkError, match=f"recorded in precision {recorded} .*, fused now in precision {other} "):
        again.run()


@needs_kernels
def test_a_replay_without_kernels_names_them(tmp_path: Path) -> None:
    street = "synthetic:?size=64x48&thermal_size=64x48&frames=2"
    build(Settings(ir=street, vis=street, sink=f"record:{tmp_path}", precision="int8", threads=1)).run()
    session = load_session(tmp_path)
    assert session.settings["kernels"] is True
    source = f"session:{session.folder}"
    replay = {"ir": source, "vis": source, "sink": f"compare:{session.folder}", "precision": "int8", "threads": 1}
    build(Settings(**replay)).run()
    with pytest.raises(SinkError, match="with kernels, fused now in precision int8 without kernels"):
        build(Settings(**replay, kernels=False)).run()


@needs_kernels
def test_with_kernels_and_without_are_measured_apart(cache: Path) -> None:
    for kernels in (True, False, True):
        choose_precision(SMALL, precision="auto", engine="auto", size_px=(64, 48), threads=1, kernels=kernels)
    keys = [*json.loads(cache.read_text())["times_ms"]]
    assert [("with kernels" in key, "without kernels" in key) for key in keys] == [(True, False), (False, True)]
