"""Long work tells how far it is; who listens gets shares of the whole."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rtfusion.cli import steps as shown
from rtfusion.cli.steps import Steps, step_line
from rtfusion.progress import Step, listening, part, steps, tell


def heard(work: Any) -> list[Step | None]:
    told: list[Step | None] = []
    with listening(told.append):
        work()
    return told


def test_a_loop_tells_how_far_it_is_and_that_it_is_over() -> None:
    assert heard(lambda: list(steps("ab", "reading"))) == [
        Step("reading", 0, 2, 0.0),
        Step("reading", 1, 2, 0.5),
        Step("reading", 2, 2, 1.0),
        None,
    ]


def test_without_an_end_there_is_a_count_and_no_share() -> None:
    told = heard(lambda: list(steps(iter("ab"), "reading")))
    assert told == [
        Step("reading", 0, None, None),
        Step("reading", 1, None, None),
        Step("reading", 2, None, None),
        None,
    ]


def test_parts_lie_within_parts_and_the_whole_ends_once() -> None:
    def work() -> None:
        with part(0.0, 1.0):
            with part(0.0, 0.5):
                list(steps("ab", "first"))
            with part(0.5, 1.0), part(0.0, 0.5):
                list(steps("a", "second"))

    shares = [None if step is None else step.share for step in heard(work)]
    assert shares == [0.0, 0.25, 0.5, 0.5, 0.75, None]


def test_a_loop_that_is_left_early_leaves_nothing_behind() -> None:
    def work() -> None:
        for _ in steps("abcd", "left"):
            break
        unfinished = steps("abcd", "left")
        next(unfinished)
        list(steps("ab", "whole"))
        unfinished.close()

    told = heard(work)
    assert [step.share for step in told if step is not None and step.doing == "whole"][-1] == 1.0
    assert told[-1] is None
    assert heard(lambda: list(steps("a", "later")))[0] == Step("later", 0, 1, 0.0)


def test_other_threads_and_nobody_are_told_nothing() -> None:
    def work() -> None:
        thread = threading.Thread(target=lambda: list(steps("ab", "aside")))
        thread.start()
        thread.join()

    assert heard(work) == []
    assert list(steps("ab", "alone")) == ["a", "b"]
    tell("alone", 1, 2)


def test_where_nobody_looks_a_line_is_written_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(shown.time, "monotonic", lambda: now_s)
    show = Steps()
    for now_s, share in ((100.0, 0.0), (102.9, 0.1), (103.0, 0.25), (104.0, 0.5), (106.0, 0.75)):  # noqa: B007
        show(Step("comparing pairs", round(share * 20), 20, share))
    show(None)
    show(Step("short work", 1, 2, 0.5))
    show(None)
    assert capsys.readouterr() == (
        "",
        "rtfusion: comparing pairs, 5 of 20, 9 s left\nrtfusion: comparing pairs, 15 of 20, 2 s left\n",
    )


def test_the_time_left_is_that_of_the_whole() -> None:
    assert step_line(Step("matching", 3, 10, 0.8), elapsed_s=40.0) == "matching, 3 of 10, 10 s left"
    assert step_line(Step("reading", 7, None, None), elapsed_s=40.0) == "reading, 7"
