from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

import rtfusion

ROOT = Path(rtfusion.__file__).resolve().parent
UNITLESS = re.compile(r"^(timeout|delay|skew|latency|tolerance|distance|period|duration|age|interval|timestamp)$")
SWAPPABLE = {"visible", "thermal", "visible_y", "thermal_y"}


def test_all_is_sorted_and_importable() -> None:
    assert list(rtfusion.__all__) == sorted(rtfusion.__all__)
    for name in rtfusion.__all__:
        assert getattr(rtfusion, name) is not None
    assert set(rtfusion.__all__) == set(rtfusion._HOME)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fuse_everything'"):
        _ = rtfusion.fuse_everything


@pytest.mark.parametrize("name", rtfusion.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert inspect.getdoc(getattr(rtfusion, name))


def test_every_public_error_stands_in_the_picture() -> None:
    from rtfusion import errors

    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.FusionError)]
    assert errors.__doc__ is not None
    for cls in classes:
        assert cls.__name__ in errors.__doc__
    assert {cls.exit_code for cls in classes} <= {1, 2, 3, 4, 5}


@functools.cache
def parameters() -> list[tuple[str, str, ast.FunctionDef]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found += [(path.name, arg.arg, node) for arg in [*node.args.args, *node.args.kwonlyargs]]
    return found


def test_quantities_carry_their_unit_in_the_name() -> None:
    wrong = [f"{file}: {function.name}({name})" for file, name, function in parameters() if UNITLESS.match(name)]
    assert wrong == []


def test_two_images_never_go_by_position() -> None:
    wrong = []
    for file, _, function in parameters():
        positional = {arg.arg for arg in function.args.args}
        if len(positional & SWAPPABLE) > 1 and not function.name.startswith("_"):
            wrong.append(f"{file}: {function.name}")
    assert wrong == []
