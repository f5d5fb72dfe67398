"""Every name, argument and enum that we take of TensorRT is in its bindings: by a table read from them, and by themselves."""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
from pathlib import Path

import pytest

from rtfusion.engines import tensorrt as engine_module
from tests.engines import fake_tensorrt
from tests.engines.tensorrt_names import TABLE, Use, fits, imported, members, parameters, uses

SOURCE = Path(engine_module.__file__)
NAMES = json.loads(TABLE.read_text(encoding="utf-8"))
VERSIONS = sorted(NAMES)
FAKES = {
    "Builder": fake_tensorrt.Builder,
    "IBuilderConfig": fake_tensorrt.Config,
    "ICudaEngine": fake_tensorrt.Engine,
    "IExecutionContext": fake_tensorrt.ExecutionContext,
    "IOptimizationProfile": fake_tensorrt.Profile,
    "OnnxParser": fake_tensorrt.Parser,
    "Runtime": fake_tensorrt.Runtime,
}


def problems(source: str, version: str) -> list[str]:
    """What the bindings of a version have not, as sentences."""
    table = NAMES[version]
    found = uses(source, lambda owner, name: table.get(owner, {}).get(name, []))
    said = [
        f"{use.owner}.{use.name} {'is not called so' if table.get(use.owner, {}).get(use.name) else 'is not there'}"
        for use in sorted(found.found, key=lambda use: (use.line, use.name, use.count or 0))
        if not fits(use, table.get(use.owner, {}).get(use.name, []))
    ]
    for base, methods in found.derived.items():
        for name, count in methods.items():
            if not any(len(parameters(signature)) == count for signature in table[base].get(name, [])):
                said.append(f"{base}.{name} is overridden with {count} parameters")
    return said


def test_the_table_is_of_both_versions_and_of_all_that_is_taken() -> None:
    assert [version.split(".")[0] for version in VERSIONS] == ["10", "11"]
    taken = {(use.owner, use.name) for use in uses(SOURCE.read_text(), NAMES_OF_10).found}
    assert len(taken) > 30
    assert {"Builder", "OnnxParser", "Runtime", "ICudaEngine", "IExecutionContext", "IBuilderConfig"} <= {
        o for o, _ in taken
    }
    assert {"execute_async_v3", "set_tensor_address", "deserialize_cuda_engine", "STRONGLY_TYPED"} <= {
        n for _, n in taken
    }


def NAMES_OF_10(owner: str, name: str) -> list[str]:  # noqa: N802
    found: list[str] = NAMES[VERSIONS[0]].get(owner, {}).get(name, [])
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_what_we_take_is_there(version: str) -> None:
    assert problems(SOURCE.read_text(encoding="utf-8"), version) == []


@pytest.mark.parametrize(
    ("ours", "wrong", "said"),
    [
        (".execute_async_v3(", ".execute_async_v2(", "IExecutionContext.execute_async_v2 is not there"),
        ("MemoryPoolType.WORKSPACE", "MemoryPoolType.WORKSPACES", "MemoryPoolType.WORKSPACES is not there"),
        ("execute_async_v3(stream)", "execute_async_v3(stream, stream)", "execute_async_v3 is not called so"),
        ("create_execution_context()", "create_execution_context(plan=1)", "create_execution_context is not called so"),
        ("build_serialized_network(network, config)", "build_serialized_network(network)", "is not called so"),
        (
            "def log(self, severity: Any, message: str)",
            "def log(self, message: str)",
            "ILogger.log is overridden with 1",
        ),
        ("config.progress_monitor =", "config.progress =", "IBuilderConfig.progress is not there"),
        (".desc() for", ".description() for", "ParserError.description is not there"),
        ("num_io_tensors", "num_bindings", "ICudaEngine.num_bindings is not there"),
    ],
)
def test_what_is_not_there_is_found(ours: str, wrong: str, said: str) -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert ours in source
    for version in VERSIONS:
        assert said in "; ".join(problems(source.replace(ours, wrong), version))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_nothing_that_the_bindings_have_not(version: str) -> None:
    for owner, kind in FAKES.items():
        for name, member in vars(kind).items():
            if name.startswith("_") or inspect.ismemberdescriptor(member):
                continue
            signatures = NAMES[version][owner].get(name)
            assert signatures, f"{owner}.{name}"
            if inspect.isfunction(member):
                count = len(inspect.signature(member).parameters) - 1
                calls = {len(parameters(signature)) for signature in signatures}
                required = {sum(not one.endswith("=") for one in parameters(signature)) for signature in signatures}
                assert count in calls | required, f"{owner}.{name}"


def test_the_installed_bindings_say_what_the_table_says(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("the bindings are not installed: pip install --no-deps tensorrt-cu13-bindings")
    try:
        module = imported(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler for the libraries that stand in for TensorRT's: {error}")
    found = uses(SOURCE.read_text(encoding="utf-8"), lambda owner, name: members(module, owner, name))
    missing = [use for use in found.found if not fits(use, members(module, use.owner, use.name))]
    assert missing == []
    assert len(found.found) > 30
    for owner, names in NAMES.get(module.__version__, {}).items():
        assert {name: members(module, owner, name) for name in names} == names


def test_calls_are_bound_as_python_does() -> None:
    assert fits(Use("A", "f", 1, 1), ["(a, b=) -> int"])
    assert fits(Use("A", "f", 1, 1, ("b",)), ["(a, b=) -> int"])
    assert fits(Use("A", "f", 1, 1, (), spread=True), ["(a, b, c) -> int"])
    assert not fits(Use("A", "f", 1, 0), ["(a, b=) -> int"])
    assert not fits(Use("A", "f", 1, 3), ["(a, b=) -> int"])
    assert not fits(Use("A", "f", 1, 1, ("c",)), ["(a, b=) -> int"])
    assert not fits(Use("A", "f", 1, 0), ["-> int"])
    assert not fits(Use("A", "f", 1), [])
