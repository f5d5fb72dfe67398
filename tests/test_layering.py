"""Who may import whom, by walking the source; and what importing costs, by asking a fresh interpreter."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "rtfusion": ROOT / "rtfusion",
    "rtfusion_trainer": ROOT / "trainer" / "rtfusion_trainer",
    "rtfusion_calibration": ROOT / "calibration" / "rtfusion_calibration",
    "benchmarks": ROOT / "benchmarks",
}
"""Where each importable package lies."""

HOMES = {
    "av": {
        "rtfusion/capture/video.py",
        "rtfusion/capture/pixels.py",
        "rtfusion/capture/container.py",
        "rtfusion/capture/raw_stream.py",
        "rtfusion/capture/picture_reader.py",
        "rtfusion/capture/buffers.py",
        "rtfusion/capture/network.py",
        "rtfusion/capture/packets.py",
        "rtfusion/capture/delivery.py",
        "rtfusion/session/source.py",
        "rtfusion/session/lossless.py",
        "rtfusion/sinks/video.py",
        "benchmarks/pictures.py",
        "rtfusion/sinks/joined.py",
    },
    "zmq": {
        "rtfusion/publish/keys.py",
        "rtfusion/publish/sink.py",
        "rtfusion/publish/publisher.py",
        "rtfusion/publish/subscriber.py",
    },
    "openvino": {"rtfusion/engines/openvino.py", "rtfusion/engines/layered.py"},
    "onnxruntime": {"rtfusion/engines/onnxruntime.py"},
    "torch": {
        "rtfusion/engines/pytorch.py",
        "rtfusion/engines/onnx_module.py",
        "rtfusion/engines/tensorrt.py",
        "benchmarks/networks.py",
        "benchmarks/gpu_check.py",
    },
    "ray": {"rtfusion/batch/on_ray.py"},
    "fsspec": {"rtfusion/batch/storage.py"},
    "tensorrt": {"rtfusion/engines/tensorrt.py"},
    "torch_tensorrt": {"rtfusion/engines/tensorrt.py"},
    "pycuda": {"rtfusion/cuda/device.py"},
    "onnx": {"rtfusion/engines/onnx_module.py"},
    "typer": {"rtfusion/cli/"},
    "starlette": {"rtfusion/web/"},
    "uvicorn": {"rtfusion/web/"},
    "prometheus_client": {"rtfusion/web/"},
    "yaml": {"calibration/rtfusion_calibration/interop.py"},
}
"""A heavy package may be imported only in the rooms made for it (a trailing slash names a folder)."""

FOUNDATION = (
    "errors",
    "clock",
    "types",
    "files",
    "redaction",
    "text",
    "mailbox",
    "memory",
    "portable",
    "progress",
    "installing",
)
"""These modules of the runtime import only each other."""

ENTRANCES = {
    "rtfusion.cli": {"rtfusion.__main__", "rtfusion.cli"},
    "rtfusion.pipeline": {
        "rtfusion",
        "rtfusion.batch",
        "rtfusion.cli",
        "rtfusion.doctor",
        "rtfusion.evaluate",
        "rtfusion.library",
        "rtfusion_calibration",
        "benchmarks",
    },
    "rtfusion.web": {"rtfusion.sinks", "rtfusion.web"},
    "rtfusion.window": {"rtfusion.sinks", "rtfusion.window", "rtfusion.cli"},
    "rtfusion.batch": {"rtfusion.batch", "rtfusion.cli"},
    "rtfusion.synthetic": {
        "rtfusion.synthetic",
        "rtfusion.capture",
        "rtfusion.cli",
        "rtfusion_trainer.losses.self_test",
        "rtfusion_trainer.stand_in",
        "benchmarks",
    },
}
"""Rooms that only these rooms may enter: what stands on top of the runtime, and the ends of the path of the data."""

NO_PIXELS = (
    "rtfusion/config.py",
    "rtfusion/types.py",
    "rtfusion/pairing.py",
    "rtfusion/telemetry.py",
    "rtfusion/mailbox.py",
)
"""These rooms know no OpenCV."""


def sources(package: str) -> Iterator[Path]:
    yield from sorted(PACKAGES[package].rglob("*.py"))


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module a file imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {id(node) for top in ast.walk(tree) if _runs_later(top) for node in ast.walk(top)}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _is_ours(name) else node.module for name in submodules]
        for name in dict.fromkeys(names):
            found.append((name, id(node) not in late))
    return found


def _is_ours(module: str) -> bool:
    """True for the full name of a module of ours, and not of what is defined in one."""
    package, *parts = module.split(".")
    path = PACKAGES[package].joinpath(*parts) if package in PACKAGES else None
    return path is not None and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def _runs_later(node: ast.AST) -> bool:
    """A function's body, and what only a type checker reads."""
    for_types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return for_types or isinstance(node, ast.FunctionDef)


def names_of_modules() -> dict[str, Path]:
    """Every module by its full name."""
    return {
        ".".join([package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sources(package)
    }


def edges(*, late: bool) -> dict[str, set[str]]:
    """The modules of ours that each module imports when it is imported itself, or also ``late`` and for types alone."""
    modules = names_of_modules()
    return {
        name: {other for other, at_import in imports(path) if other in modules and (late or at_import)} - {name}
        for name, path in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules of which each leads to all others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [*graph[start]]
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += graph[name]
        return seen

    reach = {name: reachable(name) for name in graph}
    found = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}
    return sorted(sorted(circle) for circle in found)


def is_in(module: str, room: str) -> bool:
    return module == room or (module.startswith(f"{room}.") and room != "rtfusion")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_downwards(package: str) -> None:
    allowed = {
        "rtfusion": {"rtfusion"},
        "rtfusion_trainer": {"rtfusion_trainer", "rtfusion"},
        "rtfusion_calibration": {"rtfusion_calibration", "rtfusion"},
        "benchmarks": {*PACKAGES},  # what they measure
    }[package]
    for path in sources(package):
        for name, at_import in imports(path):
            top = name.split(".")[0]
            if top in PACKAGES and top not in allowed:
                in_cli = relative(path).startswith("rtfusion/cli/") and not at_import and top != "benchmarks"
                assert in_cli, f"{relative(path)} imports {name}; only a command of the CLI may, and late"


def test_no_modules_import_each_other_in_a_circle_not_even_late() -> None:
    assert circles(edges(late=True)) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("name", FOUNDATION)
def test_the_foundation_stands_on_nothing_else(name: str) -> None:
    assert edges(late=True)[f"rtfusion.{name}"] <= {f"rtfusion.{other}" for other in FOUNDATION}


@pytest.mark.parametrize("room", ENTRANCES)
def test_a_room_is_entered_only_from_where_it_may_be(room: str) -> None:
    for importer, imported in edges(late=True).items():
        if any(is_in(name, room) for name in imported):
            assert any(is_in(importer, allowed) for allowed in {*ENTRANCES[room], room}), f"{importer} imports {room}"


@pytest.mark.parametrize("package", PACKAGES)
def test_heavy_packages_stay_in_their_rooms(package: str) -> None:
    for path in sources(package):
        if package == "rtfusion_trainer":
            continue  # made of torch
        for name, _ in imports(path):
            homes = HOMES.get(name.split(".")[0])
            if homes is None:
                continue
            assert any(
                relative(path) == home or (home.endswith("/") and relative(path).startswith(home)) for home in homes
            ), f"{relative(path)} imports {name}; it belongs into {sorted(homes) or 'no room of the runtime'}"


@pytest.mark.parametrize("room", NO_PIXELS)
def test_rooms_without_pixels_know_no_opencv(room: str) -> None:
    assert "cv2" not in {name.split(".")[0] for name, _ in imports(ROOT / room)}


def test_the_runtime_imports_nothing_heavy_until_it_is_used() -> None:
    program = "import rtfusion, rtfusion.cli, sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"cv2", "av", "zmq", "openvino", "onnxruntime", "torch", "numpy", "pydantic", "msgpack"}
    assert heavy.isdisjoint(loaded), heavy & set(loaded)


def test_every_module_can_be_imported_alone() -> None:
    has_torch = importlib.util.find_spec("torch") is not None
    modules = [
        name
        for name, path in names_of_modules().items()
        if path.name != "__main__.py"
        and (has_torch or not (name.startswith("rtfusion_trainer") or relative(path) in HOMES["torch"]))
    ]
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print('ok')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *modules], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr


READS_ALONE = {"rtfusion/pairs.py", "rtfusion/cli/calibrate_delay.py", "benchmarks/registration.py"}
"""Who may open two sources: the stream of pairs, and the estimate of the delay, which needs every frame of each."""


def test_two_sources_are_read_as_pairs_by_one_rule() -> None:
    for package in PACKAGES:
        for path in sources(package):
            opens = re.search(r"(?<!def )\bopen_pair\(", path.read_text(encoding="utf-8"))
            assert opens is None or relative(path) in READS_ALONE, f"{relative(path)}: read rtfusion.open_pairs"
