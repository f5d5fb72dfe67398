"""Which precision of a shipped model is the fastest on this machine: measured once, and remembered.

A processor that can compute in a precision need not be fast in it, and OpenVINO may claim one and then refuse to compile. So
the first run of a model at a size and with a number of threads times every precision that is admissible, in turns, in
about a second, and keeps the result in ``~/.cache/rtfusion/precision.json`` (or in ``$XDG_CACHE_HOME``) under everything
that can change it. Where nothing can be kept, measuring at every start would cost more than it gives, and a rule decides.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtfusion.engines.gray import GrayEngine
from rtfusion.engines.store import default_folder
from rtfusion.errors import ConfigError, EngineError
from rtfusion.files import write_whole
from rtfusion.models import ModelSpec, find_model, read_spec
from rtfusion.models.spec import IMAGE_INPUTS

ADMISSIBLE = ("f32", "f16", "bf16", "int8")
"""From the most accurate to the least: of those that are nearly as fast as the fastest, the first is taken."""
NEARLY = 1.05
ROUNDS = 8
"""Every precision runs once a round, and the least counts: the first round is a slow one."""
BUDGET_S = 0.8
"""No third or later round begins after this time."""
LARGEST_PX = 640 * 480
"""Pictures of more pixels are measured at this size and the same aspect: larger ones take too long, and rank alike."""
SCHEMA = 1
_FILE = "precision.json"
_ISA = "ONEDNN_MAX_CPU_ISA"
_logger = logging.getLogger(__name__)

Open = Callable[[str, tuple[int, int]], GrayEngine]
"""Opens the model in a precision, for images of a size (width, height)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A precision, and why it was chosen."""

    precision: str
    times_ms: Mapping[str, float]
    """Time of one frame by precision, in milliseconds; empty where a rule decided."""
    why: str
    """``measured``, ``remembered``, ``rule``, ``asked`` or ``file``."""

    def __str__(self) -> str:
        if self.why == "file":
            return "precision: that of the model file"
        if self.why == "asked":
            return f"precision {self.precision}, as asked for"
        if not self.times_ms:
            return f"precision {self.precision}, by rule: nothing was measured"
        times = ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(self.times_ms.items(), key=lambda item: item[1]))
        when = "now" if self.why == "measured" else "before"
        return f"precision {self.precision}: measured on this machine {when}, ms a frame: {times}"


def fastest(
    model: Path,
    *,
    size_px: tuple[int, int],
    threads: int,
    open_in: Open,
    capabilities: Sequence[str],
    version: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Choose the precision of a shipped model for images of a size.

    Args:
        model: the name of a model that comes with rtfusion.
        size_px: (width, height) of the images.
        threads: of the engine.
        open_in: opens the model in a precision.
        capabilities: precisions that the engine says this processor has.
        version: of the engine.
        clock: seconds, rising.
    """
    spec = read_spec(find_model(model))
    key = _key(spec, size_px=size_px, threads=threads, capabilities=capabilities, version=version)
    kept = _kept()
    if (times_ms := kept.get(key)) is not None:
        return Choice(precision=choose(times_ms), times_ms=times_ms, why="remembered")
    if not _keep(kept):  # asked before anything is measured
        return Choice(precision=by_rule(capabilities), times_ms={}, why="rule")
    times_ms = measure(
        [precision for precision in ADMISSIBLE if precision in capabilities],
        spec=spec,
        size_px=_measured_px(size_px),
        open_in=open_in,
        clock=clock,
    )
    if not times_ms:
        return Choice(precision="f32", times_ms={}, why="rule")
    _keep({**_kept(), key: times_ms})
    choice = Choice(precision=choose(times_ms), times_ms=times_ms, why="measured")
    _logger.info("%s", choice)
    return choice


def choose(times_ms: Mapping[str, float]) -> str:
    """The most accurate precision of those that are nearly as fast as the fastest."""
    limit_ms = NEARLY * min(times_ms.values())
    return next(name for name in ADMISSIBLE if times_ms.get(name, np.inf) <= limit_ms)


def by_rule(capabilities: Sequence[str]) -> str:
    """The precision that is most often the fastest, by what the processor can compute in."""
    return next((name for name in ("int8", "f16") if name in capabilities), "f32")


def measure(
    precisions: Sequence[str],
    *,
    spec: ModelSpec,
    size_px: tuple[int, int],
    open_in: Open,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time one frame in each precision, in milliseconds: the least of a few, taken in turns.

    A precision that the engine refuses after all is left out.
    """
    noise = np.random.default_rng(0)
    images = {name: noise.integers(0, 256, size_px[::-1]).astype(np.uint8) for name in IMAGE_INPUTS}
    inputs = {name: port.default for name, port in spec.choices.items()}
    inputs.update({name: state.initial for name, state in spec.states.items()})
    times_ms: dict[str, float] = {}
    with contextlib.ExitStack() as opened:
        engines: dict[str, GrayEngine] = {}
        for precision in precisions:
            try:
                engines[precision] = open_in(precision, size_px)
            except (EngineError, ConfigError) as error:
                _logger.info("precision %s is left out: %s", precision, error)
                continue
            opened.callback(engines[precision].close)
        started_s = clock()
        for number in range(ROUNDS):
            if number > 1 and clock() - started_s > BUDGET_S:
                break
            for precision, engine in engines.items():
                begun_s = clock()
                engine.run(images=images, inputs=inputs)
                times_ms[precision] = min(1000 * (clock() - begun_s), times_ms.get(precision, np.inf))
    return times_ms


def folder() -> Path:
    """``$XDG_CACHE_HOME/rtfusion``, or in ``~/.cache``."""
    return default_folder().parent


def _key(spec: ModelSpec, *, size_px: tuple[int, int], threads: int, capabilities: Sequence[str], version: str) -> str:
    """Everything that can change which precision is the fastest; sizes of like pixel counts are one class."""
    size_class = round(2 * np.log2(size_px[0] * size_px[1]))
    limit = os.environ.get(_ISA, "")
    parts = (processor(), limit, "+".join(capabilities), version, spec.id, f"class {size_class}", f"{threads} threads")
    return "; ".join(part for part in parts if part)


def _measured_px(size_px: tuple[int, int]) -> tuple[int, int]:
    """The size that is measured in place of a very large one."""
    factor = min(1.0, (LARGEST_PX / (size_px[0] * size_px[1])) ** 0.5)
    width, height = (max(1, round(side * factor)) for side in size_px)
    return width, height


def _kept() -> dict[str, dict[str, float]]:
    """The measurements of before, by key; a file that is damaged or of another version holds none."""
    try:
        data = json.loads((folder() / _FILE).read_text(encoding="utf-8"))
        measured = data["times_ms"] if data["schema"] == SCHEMA else {}
        return {
            key: {name: float(times_ms[name]) for name in times_ms if name in ADMISSIBLE}
            for key, times_ms in measured.items()
            if any(name in ADMISSIBLE for name in times_ms)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(measured: Mapping[str, Mapping[str, float]]) -> bool:
    """Write the measurements; False where nothing can be written."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_whole(folder() / _FILE, json.dumps({"schema": SCHEMA, "times_ms": measured}, indent=1) + "\n")
    except OSError:
        return False
    return True


def processor(*, root: Path = Path("/")) -> str:
    """The name of the processor, or of its architecture where the system tells no more."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8")
        if (match := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)) is not None:
            return match[1].strip()
    return platform.processor() or platform.machine()
