"""The entry point: one line and the documented exit code for whatever goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from rtfusion.cli import main
from rtfusion.errors import (
    CaptureError,
    ConfigError,
    EngineUnavailable,
    FusionError,
    ModelError,
    SinkError,
    StreamLost,
)


def failing(error: BaseException) -> Callable[..., Any]:
    def app(**_: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("no"), 2),
        (CaptureError("no"), 3),
        (ModelError("no"), 4),
        (EngineUnavailable("no"), 4),
        (StreamLost("no"), 5),
        (SinkError("no"), 5),
        (FusionError("no"), 1),
    ],
)
def test_errors_on_purpose(
    error: FusionError, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rtfusion", "run"])
    monkeypatch.setattr("rtfusion.cli.app.app", failing(error))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == exit_code
    assert capsys.readouterr() == ("", "rtfusion: no\n")


def test_a_bug_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rtfusion", "run"])
    monkeypatch.setattr("rtfusion.cli.app.app", failing(KeyError("x")))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "rtfusion: this is a bug in rtfusion: KeyError: 'x'; "
        "run again with --debug for the traceback, and please report it\n"
    )


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rtfusion", "run", "--debug"])
    monkeypatch.setattr("rtfusion.cli.app.app", failing(KeyError("x")))
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):")


def test_an_interrupt_outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.cli.app.app", failing(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
