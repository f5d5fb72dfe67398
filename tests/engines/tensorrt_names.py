"""The names that our code takes of TensorRT's Python bindings, and the bindings' own signatures of them.

``python -m tests.engines.tensorrt_names FILE`` writes the table of the installed wheel into the committed one; the wheel needs
no GPU and no TensorRT, as its libraries are replaced by empty ones (`imported`).
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

TABLE = Path(__file__).with_name("tensorrt_names.json")
MODULE = "module"
OURS = {"_tensorrt": MODULE, "_trt_logger": "ILogger", "_monitor": "IProgressMonitor"}
"""What our own functions give."""
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""All that the bindings take of TensorRT's libraries."""

Members = dict[str, list[str]]
"""Name to signatures, such as ``(flags=) -> INetworkDefinition`` with ``=`` for a default, and ``-> int`` for a property."""


@dataclass(frozen=True)
class Use:
    """One name taken of a class, or of the module, and how it is called; ``count`` is None where it is not."""

    owner: str
    name: str
    line: int
    count: int | None = None
    keywords: tuple[str, ...] = ()
    spread: bool = False
    """True where a list is spread into the arguments, which may be more than ``count``."""


# -- what we take -------------------------------------------------------------------------------------------------------


class Uses(ast.NodeVisitor):
    """All uses in a source; types follow from the signatures that ``look_up`` gives for an owner and a name."""

    def __init__(self, look_up: Callable[[str, str], list[str]]) -> None:
        self._look_up = look_up
        self._types: dict[str, str] = {}
        self.found: set[Use] = set()
        self.derived: dict[str, dict[str, int]] = {}
        """Base class of ours to the number of parameters of each method, without self."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self._type(base)
            if kind.startswith("class "):
                self.derived[kind.removeprefix("class ")] = {
                    method.name: len(method.args.args) - 1
                    for method in node.body
                    if isinstance(method, ast.FunctionDef)
                }
        for _ in range(2):  # an attribute may be used above the method that sets it
            self.generic_visit(node)
        self._types = {name: kind for name, kind in self._types.items() if not name.startswith("self.")}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self._types)
        if any(argument.arg == "trt" for argument in node.args.args):
            self._types["trt"] = MODULE
        self.generic_visit(node)
        self._types = before | {name: kind for name, kind in self._types.items() if name.startswith("self.")}

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            kind = self._type(node.value)
            if kind:
                self._types[ast.unparse(target)] = kind

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._type(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._type(node)
        self.generic_visit(node)

    def _type(self, node: ast.expr) -> str:
        """The class of a value; ``class X`` for X itself, ``X.name`` for a method, and nothing for what is not TensorRT's."""
        if (kind := self._types.get(ast.unparse(node))) is not None:
            return kind
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in OURS:
                return OURS[node.func.id]
            owner, _, name = self._type(node.func).removeprefix("class ").partition(".")
            return self._called(node, owner, name or "__init__") if owner else ""
        if isinstance(node, ast.Attribute):
            owner = self._type(node.value).removeprefix("class ")
            return self._taken(owner, node) if owner and "." not in owner else ""
        return ""

    def _taken(self, owner: str, node: ast.Attribute) -> str:
        self.found.add(Use(owner, node.attr, node.lineno))
        (signature, *_) = self._look_up(owner, node.attr) or [""]
        if signature.startswith("("):
            return f"{owner}.{node.attr}"
        return signature.removeprefix("-> ")

    def _called(self, node: ast.Call, owner: str, name: str) -> str:
        spread = any(isinstance(argument, ast.Starred) for argument in node.args)
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        unbound = name == "__init__" and ast.unparse(node.func).endswith("__init__")  # self is given
        count = len(plain) - (1 if unbound else 0)
        keywords = tuple(str(keyword.arg) for keyword in node.keywords)
        self.found.add(Use(owner, name, node.lineno, count, keywords, spread))
        (signature, *_) = self._look_up(owner, name) or [""]
        return owner if name == "__init__" else signature.partition(" -> ")[2]


def uses(source: str, look_up: Callable[[str, str], list[str]]) -> Uses:
    """Everything that a source takes of TensorRT."""
    found = Uses(look_up)
    found.visit(ast.parse(source))
    return found


def fits(use: Use, signatures: list[str]) -> bool:
    """Say if one of the signatures takes the call."""
    return any(_binds(use, signature) for signature in signatures)


def _binds(use: Use, signature: str) -> bool:
    if use.count is None:
        return True
    if not signature.startswith("("):
        return False
    names = parameters(signature)
    given = names[: len(names) if use.spread else use.count]
    if use.count > len(names) or any(name not in [n.rstrip("=") for n in names] for name in use.keywords):
        return False
    missing = [name for name in names if name not in given and not name.endswith("=") and name not in use.keywords]
    return not missing


def parameters(signature: str) -> list[str]:
    """The names in a signature of the table."""
    inside = signature[1 : signature.index(")")]
    return inside.split(", ") if inside else []


# -- what there is ------------------------------------------------------------------------------------------------------


def imported(folder: Path) -> ModuleType:
    """The bindings of the installed wheel, with empty libraries made in ``folder`` where TensorRT's are not installed.

    Raises:
        ImportError: the wheel is not installed.
        OSError: there is no C compiler.
    """
    found = importlib.util.find_spec("tensorrt_bindings")
    if found is None or not found.submodule_search_locations:
        raise ImportError("the wheel tensorrt-cu13-bindings is not installed")
    (bindings,) = Path(found.submodule_search_locations[0]).glob("tensorrt.*so")
    needed = sorted(set(re.findall(rb"lib(?:nvinfer|nvinfer_plugin|nvonnxparser)\.so\.\d+", bindings.read_bytes())))
    source = folder / "empty.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in FUNCTIONS))
    for name in (one.decode() for one in needed):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            library = folder / name
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(library), str(source)]
            subprocess.run(command, check=True, timeout=60)
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_bindings")


def members(module: ModuleType, owner: str, name: str) -> list[str]:
    """The signatures of a name in the bindings; none where it is not there."""
    holder: Any = module if owner == MODULE else getattr(module, owner, None)
    member = None if holder is None else inspect.getattr_static(holder, name, None)
    if member is None:
        return []
    if isinstance(member, type):
        return [f"-> class {member.__name__}"]
    if isinstance(member, property):
        (text,) = re.findall(r"-> (.+)$", (member.fget.__doc__ or "").strip()) or ["Any"]
        return [f"-> {_short(text)}"]
    documented = _documented(name, getattr(holder, name).__doc__ or "") if callable(getattr(holder, name)) else []
    return documented or [f"-> {type(getattr(holder, name)).__name__}"]


def _documented(name: str, text: str) -> list[str]:
    found = []
    for inside, result in re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> (.+)$", text, re.MULTILINE):
        names = [part + ("=" if default else "") for part, default in _arguments(inside)]
        found.append(f"({', '.join(names)}) -> {_short(result)}")
    return found


def _arguments(inside: str) -> Iterator[tuple[str, bool]]:
    """Names and whether there is a default, without self."""
    flat = re.sub(r"<[^<>]*>|\[[^\[\]]*\]", "", inside)
    for part in flat.split(", "):
        name = part.partition(":")[0].strip()
        if name and name != "self":
            yield name, " = " in part


def _short(kind: str) -> str:
    """``nvonnxparser::IParserError`` and ``tensorrt_bindings.tensorrt.ParserError`` are one class of the module."""
    kind = re.sub(r"[\w.]+\.|\w+::", "", kind.strip())
    return {"IParserError": "ParserError"}.get(kind, kind)


def main(source: Path) -> None:
    """Write what the installed bindings say of every name that ``source`` takes into the table."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        module = imported(Path(folder))
        found = uses(source.read_text(encoding="utf-8"), lambda owner, name: members(module, owner, name))
        wanted = {(use.owner, use.name) for use in found.found}
        wanted |= {(base, name) for base, methods in found.derived.items() for name in methods}
        table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
        rows: dict[str, Members] = {}
        for owner, name in sorted(wanted):
            rows.setdefault(owner, {})[name] = members(module, owner, name)
        table[module.__version__] = rows
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
