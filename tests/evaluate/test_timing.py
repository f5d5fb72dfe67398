from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.evaluate import schema, timing
from rtfusion.evaluate.conditions import snapshot

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
ROWS = [{"case": "a", "fps": 1.0}]


def test_cases_take_turns_and_warm_up_does_not_count() -> None:
    order: list[str] = []

    def case(name: str) -> dict[str, float]:
        order.append(name)
        return {"fps": float(len(order))}

    measured = timing.run_interleaved({"a": lambda: case("a"), "b": lambda: case("b")}, rounds=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert measured == {"a": [{"fps": 3.0}, {"fps": 5.0}], "b": [{"fps": 4.0}, {"fps": 6.0}]}


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is twice as slow in the second round and four times in the third: the ratio stays."""
    speeds = iter([10.0, 30.0, 5.0, 15.0, 2.5, 8.0])
    rows = timing.interleaved_rows(
        {"a": lambda: {"fps": next(speeds)}, "b": lambda: {"fps": next(speeds)}}, rounds=3, baseline="a", figure="fps"
    )
    assert rows[0]["ratios"] == [1.0] * 3
    assert rows[1]["ratios"] == [3.0, 3.0, 3.2]
    assert rows[1]["ratio"] == 3.0
    assert rows[1]["fps"] == {"median": 15.0, "min": 8.0, "max": 30.0}


def test_a_distribution_has_all_percentiles_of_the_contract() -> None:
    values = np.arange(1, 101, dtype=float)
    found = timing.distribution(values.tolist())
    assert found == {
        "count": 100,
        "mean": 50.5,
        "p50": 50.5,
        **{f"p{percent}": pytest.approx(np.percentile(values, percent)) for percent in (90, 95, 99)},
        "max": 100.0,
    }


def test_a_result_says_what_it_was_measured_on_and_under(tmp_path: Path) -> None:
    data = timing.result("speed", settings={"loop": 2}, rows=ROWS, start=snapshot())
    timing.save(data, tmp_path / "results" / "speed.json")
    read = schema.load(tmp_path / "results" / "speed.json")
    assert read == data
    assert read["versions"]["rtfusion"]
    assert read["versions"]["onnxruntime"]
    assert {"load_1min"} <= read["conditions"]["start"].keys() & read["conditions"]["end"].keys()
    assert read["machine"]["cores"] >= 1


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_committed_results_follow_the_schema(path: Path) -> None:
    assert schema.load(path)["suite"] == path.stem


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.as_json_schema(), "run python -m rtfusion.evaluate.schema"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [{"fps": 1.0}]}, r"rows\.0\.case"),
        ({"conditions": None}, "schema 2 has the conditions"),
        ({"schema": 3}, "schema"),
        ({"measured_utc": "yesterday"}, "measured_utc"),
        ({"machine": {"cores": 2}}, r"machine\.processor"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_follow_the_schema_is_not_written(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    data = {**timing.result("speed", settings={}, rows=ROWS), **change}
    with pytest.raises(ConfigError, match=message):
        timing.save(data, tmp_path / "speed.json")
    assert not (tmp_path / "speed.json").exists()


def test_results_of_the_first_schema_are_still_read(tmp_path: Path) -> None:
    data = timing.result("speed", settings={}, rows=ROWS)
    old = {name: value for name, value in data.items() if name != "conditions"} | {"schema": 1}
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert schema.load(tmp_path / "old.json")["rows"] == ROWS


def test_a_file_that_is_no_result_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds list; expected a result"):
        schema.load(tmp_path / "list.json")
    with pytest.raises(ConfigError, match="cannot read the result"):
        schema.load(tmp_path / "none.json")
