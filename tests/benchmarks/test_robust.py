from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import robust
from benchmarks.robust.pairs import Pair, read_pair
from benchmarks.suite import is_met
from rtfusion.evaluate import schema

OF_PAIRS = ("glare", "cuts", "bands")
STEMS = ("00037N", "00275D")


@pytest.fixture
def few_pairs(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One night and one day in the place of all pairs."""
    folder = shared_data / "train" / "msrs"

    def pairs(shared: Path, *names: str, every: int = 1) -> Iterator[Pair]:
        for stem in STEMS:
            yield read_pair(
                f"msrs {stem}", visible=folder / "vi" / f"{stem}.jpg", thermal=folder / "ir" / f"{stem}.jpg"
            )

    for name in OF_PAIRS:
        monkeypatch.setattr(f"benchmarks.robust.{name}.pairs", pairs)


@pytest.mark.usefixtures("few_pairs")
def test_every_figure_stands_beside_its_bar(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "robust.json"
    options = ["--shared", str(shared_data.parent), "--model", "small", "--case", *OF_PAIRS, "--json", str(target)]
    assert robust.SUITE.main(options) == 0
    rows = schema.load(target)["rows"]
    assert {row["model"] for row in rows} == {"small"}
    missed = [(row["case"], row["figure"]) for row in rows if not is_met(row)]
    assert not missed
    assert capsys.readouterr().out.count("\n") == 2 + len(rows)


def test_every_case_is_a_module_that_measures() -> None:
    for name in robust.CASES:
        assert callable(importlib.import_module(f"benchmarks.robust.{name}").measure)
