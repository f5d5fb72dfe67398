"""What is in deploy/, as far as a machine without a service manager can tell."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parent.parent / "deploy" / "rtfusion.service"
NOT_INSTALLED = "Command /opt/rtfusion/bin/rtfusion is not executable"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if UNIT.name in line and NOT_INSTALLED not in line]
    assert complaints == []


def test_the_unit_waits_for_what_the_run_says() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > float(service["RestartSec"])
    assert service["RestartPreventExitStatus"] == "2 4"
