"""What is in deploy/, as far as a machine without a service manager and without a container engine can tell."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rtfusion.cli.app import app

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNIT = DEPLOY / "rtfusion.service"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile*"))
NOT_INSTALLED = "Command /opt/rtfusion/bin/rtfusion is not executable"
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@_SYSTEMD
def test_systemd_takes_the_unit() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if UNIT.name in line and NOT_INSTALLED not in line]
    assert complaints == []


@_SYSTEMD
def test_the_service_may_do_little(tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in rated.stderr:
        pytest.skip("this systemd-analyze rates no units that are not loaded")
    found = re.search(r"Overall exposure level for .*: (\d+\.\d)", rated.stdout)
    assert found, rated.stderr
    assert float(found.group(1)) < 5.0


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


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint here")
@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    linted = subprocess.run([str(HADOLINT), "--no-color", str(dockerfile)], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_in_particular_and_is_stopped_in_order(dockerfile: Path) -> None:
    lines = dockerfile.read_text(encoding="utf-8").splitlines()
    assert "USER 10001:10001" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert [line for line in lines if line.startswith("ENTRYPOINT")] == ['ENTRYPOINT ["/opt/rtfusion/bin/rtfusion"]']
    copied = [Path(line.split()[1].lstrip("/")) for line in lines if line.startswith("COPY") and "--from" not in line]
    assert copied == [Path()]


def test_the_compose_file_is_one() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="no compose-spec here")
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="restart"):
        compose_spec.PyCompose.from_yaml(text.replace("restart: on-failure", "restart: sometimes"))


def test_the_compose_file_names_what_there_is() -> None:
    spec = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = spec["services"]["rtfusion"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    mounted = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")]
    assert mounted == list(spec["volumes"])
