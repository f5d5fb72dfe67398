"""The pages name what there is, and promise what runs."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
SOURCES = [
    path for room in ("rtfusion", "trainer", "calibration", "benchmarks") for path in (ROOT / room).rglob("*.py")
]
METHOD = re.compile(r"`([A-Z]\w+)\.(\w+)(?:\(\))?`")
FILE = re.compile(r"`((?:rtfusion|trainer|calibration|benchmarks|tests|scripts|examples|deploy)/[\w./-]+\.\w+)`")


def defined_and_used() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each class of the project defines, and by attribute the names in the files that read it."""
    defined: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        words = set(re.findall(r"\w+", text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                used.setdefault(node.attr, set()).update(words)
            elif isinstance(node, ast.ClassDef):
                names = defined.setdefault(node.name, set())
                names |= {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
                names |= {ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)}
    return defined, used


def test_a_method_that_a_page_names_is_there_and_is_used_by_more_than_tests() -> None:
    defined, used = defined_and_used()
    for page in PAGES:
        for name, member in METHOD.findall(page.read_text(encoding="utf-8")):
            if name in defined:
                assert member in defined[name], f"{page.name}: `{name}.{member}` does not exist"
                assert name in used.get(member, ()), f"{page.name}: `{name}.{member}` is used by nothing but tests"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    to_be_measured = {"benchmarks/results/gpu_check.json"}  # by who has a GPU
    assert [name for name in named if name not in to_be_measured and not (ROOT / name).exists()] == []


PARAMETER = re.compile(r"(?<![\w/.])[?#&]([a-z_]+)=")


def parameters_that_exist() -> set[str]:
    """What sources and outputs take after their ``?`` or ``#``, by the code that reads it."""
    from rtfusion.capture import images, parameters, video_parameters
    from rtfusion.synthetic.parameters import SyntheticParameters

    known = {*parameters.CONVERTERS, *video_parameters.CONVERTERS, *images.CONVERTERS}
    known |= {field.name.removesuffix("_px") for field in dataclasses.fields(SyntheticParameters)}
    for path in (ROOT / "rtfusion").rglob("*.py"):  # those of cameras, outputs and pages are named where they are read
        if path.parent.name in ("capture", "sinks", "publish", "session", "web", "window"):
            known |= set(re.findall(r'"([a-z_]+)"', path.read_text(encoding="utf-8")))
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_parameter_that_a_page_advises_exists(page: Path) -> None:
    advised = set(PARAMETER.findall(page.read_text(encoding="utf-8")))
    assert advised <= parameters_that_exist(), page.name


def test_a_parameter_that_a_message_advises_exists() -> None:
    from rtfusion.capture import images, parameters, video_parameters

    known = {*parameters.CONVERTERS, *video_parameters.CONVERTERS, *images.CONVERTERS}
    rooms = (
        "capture/video.py",
        "capture/picture_reader.py",
        "capture/images.py",
        "capture/names.py",
        "capture/stills.py",
        "capture/palette.py",
    )
    for room in (*rooms, "capture/depth.py", "capture/marks.py", "capture/__init__.py", "advice.py"):
        advised = set(PARAMETER.findall((ROOT / "rtfusion" / room).read_text(encoding="utf-8")))
        assert advised <= known, room


def test_every_parameter_of_recordings_is_on_the_page_of_sources() -> None:
    from rtfusion.capture import images, parameters, video_parameters

    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    for key in {*parameters.CONVERTERS, *video_parameters.CONVERTERS, *images.CONVERTERS}:
        assert f"`?{key}=" in page, key


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w/-]+\.md", navigation))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_of_settings_that_a_page_shows_are_read(page: Path, tmp_path: Path) -> None:
    from rtfusion.batch import read_rules
    from rtfusion.config import INTENTS_TABLE, Settings, load

    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        keys = set(re.findall(r"^\[?(\w+)\]?", block, flags=re.MULTILINE))
        if "network" in keys or "schedule" in keys:
            continue  # a preset of a training: tests/trainer/test_config.py
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        if block.startswith('["'):
            assert read_rules(path)
            continue
        assert keys & {*Settings.model_fields, INTENTS_TABLE}, page.name
        load({}, file=path, environ={})


def test_every_parameter_of_outputs_is_on_their_page() -> None:
    from rtfusion.sinks import KINDS

    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert name in page, name
        for option in kind.options:
            assert re.search(rf"`{option}[=`]", page), f"{name}: {option}"


def test_every_parameter_of_the_synthetic_street_is_on_the_page_of_sources() -> None:
    from rtfusion.synthetic.parameters import SyntheticParameters

    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(SyntheticParameters):
        assert f"`{field.name.removesuffix('_px')}=" in page, field.name


def test_every_fuser_and_palette_is_on_their_page() -> None:
    from rtfusion.fusion import FUSERS
    from rtfusion.fusion.painting import PALETTES

    page = (ROOT / "docs" / "fusers.md").read_text(encoding="utf-8")
    assert [name for name in (*FUSERS, *PALETTES) if f"`{name}`" not in page] == []


def test_nothing_tells_to_install_from_an_index_that_has_no_rtfusion() -> None:
    texts = [*PAGES, *SOURCES, *(ROOT / "examples").rglob("*.py"), *(ROOT / "ros").rglob("*.xml")]
    for path in texts:
        assert not re.search(r"pip install (-\w+ )*'?rtfusion(?!-\d)", path.read_text(encoding="utf-8")), path.name


def test_an_extra_that_a_page_or_a_message_names_is_one() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.compile(r"""install\("(\w+)"\)|install\('(\w+)'\)|-e '\.\[([\w,]+)\]'|scripts/setup ([\w,]+)""")
    for path in [*PAGES, *SOURCES]:
        for found in named.findall(path.read_text(encoding="utf-8")):
            for extra in "".join(found).split(","):
                assert extra in {*project["optional-dependencies"], "EXTRA"}, (path.name, extra)
