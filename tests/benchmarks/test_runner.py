"""What every suite has in common: options, exit codes, the table, the result file."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import readme
from benchmarks.intents import language
from benchmarks.suite import Suite, barred, columns_table, grouped, markdown
from rtfusion.errors import ConfigError, ModelError
from rtfusion.evaluate import schema
from rtfusion.evaluate.metrics import finite_mean

NAMES = (
    "chaos", "cost", "endurance", "enhanced", "faults", "focus", "fusers", "intents", "latency", "networks", "registration",
    "robust", "scale", "speed", "stability", "visibility",
)  # fmt: skip
COLUMNS = (("case", "{case}"), ("FPS", "{fps[median]:.0f}"), ("age", "{age:.1f}"))


def made(**changes: Any) -> Suite:
    def measure(options: argparse.Namespace) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
        if options.size == "none":
            raise ModelError("there is no such model")
        return {"size": options.size}, [{"case": "a", "fps": {"median": 30.4}, "age": None}]

    suite: dict[str, Any] = {
        "name": "made",
        "help": "How fast?\n\nMore.",
        "options": {"--size": {"default": "64x48"}},
        "measure": measure,
        "table": lambda data: columns_table(COLUMNS, data["rows"]),
    }
    return Suite(**suite | changes)


def test_a_suite_is_measured_shown_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "results" / "made.json"
    assert made().main(["--size", "96x64", "--json", str(target)]) == 0
    assert capsys.readouterr().out == "| case | FPS | age |\n|---|---|---|\n| a | 30 | - |\n"
    data = schema.load(target)
    assert (data["suite"], data["settings"]) == ("made", {"size": "96x64"})


@pytest.mark.parametrize(
    ("better", "said", "met"),
    [("lower", "at most 2", ["", "", "missed"]), ("higher", "at least 2", ["missed", "", ""])],
)
def test_a_bar_is_met_from_its_own_side(better: str, said: str, met: list[str]) -> None:
    rows = [{"value": value, "bar": 2.0, "better": better} for value in (1.0, 2.0, 3.0)]
    assert [(row["limit"], row["met"]) for row in barred(rows)] == [(said, word) for word in met]
    (row,) = barred([{"value": 1.0, "bar": None, "better": better}])
    assert (row["limit"], row["met"]) == ("", "")


def test_an_error_is_told_with_its_exit_code_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made.json"
    assert made().main(["--size", "none", "--json", str(target)]) == ModelError.exit_code
    assert capsys.readouterr().err == "error: there is no such model\n"
    assert not target.exists()


def test_a_result_that_is_not_as_it_has_to_be_is_written_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "made.json"
    assert made(failures=lambda data: ["too slow"]).main(["--json", str(target)]) == 1
    assert capsys.readouterr().out.endswith("FAILED: too slow\n")
    assert target.exists()


def test_only_a_suite_with_plots_takes_a_folder_for_them(tmp_path: Path) -> None:
    suite = made(plots=lambda data: {"made-rates": f"<svg>{data['rows'][0]['fps']['median']}</svg>"})
    assert suite.main(["--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "made-rates.svg").read_text() == "<svg>30.4</svg>"
    with pytest.raises(SystemExit):
        made().main(["--plots", str(tmp_path)])


@pytest.mark.parametrize("name", NAMES)
def test_every_suite_is_a_module_of_its_name_with_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    suite = importlib.import_module(f"benchmarks.{name}").SUITE
    with pytest.raises(SystemExit) as ended:
        suite.main(["--help"])
    assert ended.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"usage: python -m benchmarks.{name} ")
    assert all(flag in out for flag in (*suite.options, "--json"))


@pytest.mark.parametrize("path", sorted(readme.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_committed_result_is_shown_by_its_suite(path: Path) -> None:
    suites = {name: importlib.import_module(f"benchmarks.{name}").SUITE.table for name in NAMES}
    suites["language"] = language.SUITE.table
    table = {**suites, "bench": readme.bench_table}[path.stem](schema.load(path))
    assert "|---|" in table


def test_tables_show_a_dash_for_what_is_not_there() -> None:
    assert columns_table(COLUMNS, [{"case": "a"}, {"case": "b", "fps": {"median": 1.0}, "age": 2}]).splitlines()[
        2:
    ] == [
        "| a | - | - |",
        "| b | 1 | 2.0 |",
    ]
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_rows_keep_their_order_in_groups_and_only_finite_values_are_averaged() -> None:
    rows = [{"set": "b", "n": 1}, {"set": "a", "n": 2}, {"set": "b", "n": 3}]
    assert grouped(rows, "set") == {"b": [rows[0], rows[2]], "a": [rows[1]]}
    assert finite_mean([1.0, float("nan"), 3.0, float("inf")]) == 2.0
    assert finite_mean([float("nan")]) is None
    with pytest.raises(ConfigError, match="is no result of the benchmarks"):
        schema.check({"suite": "made"}, name="made")
