"""The package is what colcon and ros2 launch expect, as far as their documentation says."""

from __future__ import annotations

import ast
import configparser
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from rtfusion_ros.parameters import parameters

import rtfusion

PACKAGE = Path(__file__).resolve().parents[2] / "ros" / "rtfusion_ros"


def setup_arguments() -> dict[str, Any]:
    source = (PACKAGE / "setup.py").read_text(encoding="utf-8")
    (call,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {
        str(keyword.arg): eval(ast.unparse(keyword.value), {"NAME": "rtfusion_ros"})  # noqa: S307 - our own file
        for keyword in call.keywords
    }


def test_the_manifest_and_the_setup_agree_with_rtfusion() -> None:
    manifest = ElementTree.parse(PACKAGE / "package.xml").getroot()  # noqa: S314 - our own file
    arguments = setup_arguments()
    assert manifest.get("format") == "3"
    assert manifest.findtext("name") == arguments["name"] == "rtfusion_ros"
    assert manifest.findtext("version") == arguments["version"] == rtfusion.__version__
    assert manifest.findtext("export/build_type") == "ament_python"
    assert {*arguments["install_requires"]} == {"setuptools", "rtfusion"}


def test_every_file_that_is_installed_is_there() -> None:
    arguments = setup_arguments()
    places = dict(arguments["data_files"])
    assert places["share/ament_index/resource_index/packages"] == ["resource/rtfusion_ros"]
    for files in places.values():
        for file in files:
            assert (PACKAGE / file).is_file()
    (script,) = arguments["entry_points"]["console_scripts"]
    name, module, function = re.fullmatch(r"(\w+) = ([\w.]+):(\w+)", script).groups()  # type: ignore[union-attr]
    assert f"def {function}(" in (PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    assert f'executable="{name}"' in (PACKAGE / "launch" / "fusion.launch.py").read_text(encoding="utf-8")
    scripts = configparser.ConfigParser()
    scripts.read(PACKAGE / "setup.cfg")
    assert scripts["install"]["install_scripts"] == scripts["develop"]["script_dir"] == "$base/lib/rtfusion_ros"


def test_packages_that_are_imported_are_declared() -> None:
    manifest = ElementTree.parse(PACKAGE / "package.xml").getroot()  # noqa: S314 - our own file
    declared = {element.text for element in manifest.findall("exec_depend")}
    imported = {
        (node.module or "").partition(".")[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    of_ros = {"rclpy", "sensor_msgs", "diagnostic_msgs", "rcl_interfaces", "launch", "launch_ros"}
    assert of_ros <= imported
    assert of_ros <= declared


def test_only_the_node_and_the_launch_file_know_ros() -> None:
    for path in (PACKAGE / "rtfusion_ros").glob("*.py"):
        knows = bool(re.search(r"^\s*(?:from|import) (?:rclpy|\w+_msgs|rcl_interfaces)\b", path.read_text(), re.M))
        assert knows == (path.name == "node.py"), path


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.yaml")), ids=lambda path: path.name)
def test_parameters_of_the_file_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    shown = re.sub(r"^(\s*)# (\w+: )", r"\1\2", text, flags=re.M)  # what is only suggested has to exist too
    known = {parameter.name for parameter in parameters()}
    for version in (text, shown):
        assert {*yaml.safe_load(version)["rtfusion"]["ros__parameters"]} <= known


def test_the_container_is_made_of_files_that_are_there() -> None:
    root = PACKAGE.parents[1]
    compose = yaml.safe_load((root / "ros" / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    build = compose["services"]["fusion"]["build"]
    assert (root / "ros" / "docker" / build["context"]).resolve() == root
    assert (root / build["dockerfile"]).is_file()
    for source in re.findall(r"cp -r /src/(\S+)", (root / build["dockerfile"]).read_text(encoding="utf-8")):
        assert (root / source).is_dir()
