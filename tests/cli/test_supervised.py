"""A run under a service manager: what it is told, and when it is told nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtfusion.cli.supervised import Supervised
from rtfusion.telemetry import Telemetry


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(20.0)
        yield bound


def heard(manager: socket.socket) -> list[str]:
    said: list[str] = []
    manager.setblocking(False)
    while True:
        try:
            said += manager.recv(4096).decode().split("\n")
        except BlockingIOError:
            return said


def test_ready_with_the_first_frame_and_alive_with_each(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("rtfusion.cli.supervised.time.monotonic", lambda: now_s[0])
    telemetry = Telemetry()
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "7"}
    told = Supervised(telemetry.snapshot, environ=environ, process=7)

    def at(moment_s: float, *, fused: int) -> list[str]:
        now_s[0], telemetry.fused = moment_s, fused
        told.update()
        return [line for line in heard(manager) if not line.startswith("STATUS=")]

    assert at(0.0, fused=0) == []
    assert at(1.1, fused=1) == ["READY=1", "WATCHDOG=1"]
    assert at(1.2, fused=2) == []  # not due
    assert at(2.2, fused=9) == ["WATCHDOG=1"]
    assert at(4.1, fused=9) == ["WATCHDOG=1"]
    assert at(5.2, fused=9) == []  # no frame for half of the time: no sign of life
    assert at(6.3, fused=10) == ["WATCHDOG=1"]
    told.stopping()
    assert heard(manager) == ["STOPPING=1"]


def test_a_watchdog_of_another_process_is_none_of_ours(manager: socket.socket) -> None:
    telemetry = Telemetry()
    telemetry.fused = 1
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "8"}
    Supervised(telemetry.snapshot, environ=environ, process=7).update()
    assert [line for line in heard(manager) if not line.startswith("STATUS=")] == ["READY=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens"])
def test_a_manager_that_is_not_there(address: str) -> None:
    telemetry = Telemetry()
    telemetry.fused = 1
    told = Supervised(telemetry.snapshot, environ={"NOTIFY_SOCKET": address})
    told.update()
    told.stopping()


def test_a_whole_run_tells_it(manager: socket.socket, child_environment: dict[str, str]) -> None:
    words = [
        "run",
        "--ir",
        "synthetic:",
        "--vis",
        "synthetic:",
        "--fuser",
        "average",
        "--max-frames",
        "3",
        "--sink",
        "null:",
    ]
    environment = {**child_environment, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"}
    subprocess.run([sys.executable, "-m", "rtfusion", *words], env=environment, check=True, capture_output=True)
    said = heard(manager)
    assert said[-1] == "STOPPING=1"
    assert sum(line.startswith("STATUS=") for line in said) >= 1
