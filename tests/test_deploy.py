"""What is in deploy/, as far as a machine without a service manager can tell."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rtfusion.cli.app import app

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNIT = DEPLOY / "rtfusion.service"
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


def ray_job() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "ray" / "rayjob.yaml").read_text(encoding="utf-8"))


def test_the_job_on_kubernetes_is_a_command_that_there_is() -> None:
    words = shlex.split(ray_job()["spec"]["entrypoint"])
    assert words[:2] == ["rtfusion", "batch"]
    shown = CliRunner().invoke(app, ["batch", "--help"], env={"COLUMNS": "200"}).stdout
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_the_jobs_in_flight_are_what_the_largest_cluster_has_room_for() -> None:
    spec = ray_job()["spec"]
    words = shlex.split(spec["entrypoint"])
    jobs, cores, scratch_gb = (float(words[words.index(name) + 1]) for name in ("--jobs", "--cores", "--scratch-gb"))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    (worker,) = pod["containers"]
    assert jobs * cores == group["maxReplicas"] * float(worker["resources"]["limits"]["cpu"])
    assert scratch_gb < float(pod["volumes"][0]["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert worker["volumeMounts"][0]["mountPath"] == words[words.index("--scratch") + 1]


def test_cluster_and_image_have_one_version_of_ray() -> None:
    version = ray_job()["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"FROM rayproject/ray:{version}-" in (DEPLOY / "ray" / "Dockerfile").read_text(encoding="utf-8")
    runtime = yaml.safe_load((DEPLOY / "ray" / "runtime-env.yaml").read_text(encoding="utf-8"))
    assert runtime["pip"] == ["rtfusion[s3]"]
