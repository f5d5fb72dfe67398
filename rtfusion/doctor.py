"""The checks of this machine: what works, and how fast. Each is a function that yields its findings.

To add a check, write a function of an `Examination` that yields `Finding`s, and put it into `CHECKS`. One that raises is a
finding too, and the next one runs all the same.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rtfusion import __version__
from rtfusion.errors import EngineUnavailable, FusionError
from rtfusion.portable import usable_cores
from rtfusion.progress import part, tell

SCHEMA = 1
DEFAULT_MODEL = Path("small")
"""That of a run that names none (`rtfusion.config.Settings.model`)."""
SIZE = "640x480"
SCENE = f"synthetic:?size={SIZE}&frames=5"
PARITY_SIZE_PX = (320, 240)
PACKAGES = (
    "numpy", "opencv-python", "av", "pyzmq", "openvino", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "tensorrt",
    "torch-tensorrt", "pycuda",
)  # fmt: skip
NOT_RUN_ON_HARDWARE = (
    "the CUDA fuser (its kernels ran compiled for the processor, its order of work on a simulated device)",
    "TensorRT, 10 and 11, and torch_tensorrt (held against their documented interfaces)",
    "ONNX Runtime's CUDA and TensorRT providers, and PyTorch on CUDA",
    "any Jetson",
    "any camera (V4L2 ran on virtual cameras, network cameras on the loopback interface)",
)
"""Written, tested as far as a machine without a GPU allows, and never yet run on one: see docs/gpu.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["good", "note", "bad"]
    """``note``: something is not there, or worth knowing; nothing is broken."""
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    """Figures for the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """The options of an examination."""

    model: Path = DEFAULT_MODEL
    """Name of a model that comes with rtfusion, or a model file."""
    seconds: float = 10.0
    """Duration of measuring the speed."""


def examine(examination: Examination) -> Iterator[Finding]:
    """Every finding of every check, as it comes."""
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            yield from check(examination)
        except EngineUnavailable as error:
            yield Finding(name=name, state="note", text=str(error))
        except FusionError as error:
            yield Finding(name=name, state="bad", text=str(error))
        except Exception as error:  # noqa: BLE001 - a finding too; the other checks go on
            yield Finding(name=name, state="bad", text=f"{type(error).__name__}: {error}")


def report(findings: Iterable[Finding]) -> dict[str, Any]:
    """Everything that was found, as JSON-able values, to attach to a bug report. No names of people, folders or hosts."""
    return {
        "schema": SCHEMA,
        "rtfusion": __version__,
        "examined_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "findings": [asdict(finding) for finding in findings],
    }


# --- the checks ---


def machine(examination: Examination) -> Iterator[Finding]:
    """Processor, system, packages."""
    from rtfusion.engines.fastest import processor
    from rtfusion.evaluate.timing import versions

    cores = len(usable_cores())
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores} cores"
    yield Finding(name="machine", state="good", text=system, figures={"processor": processor(), "cores": cores})
    found = versions(PACKAGES)
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Finding(name="packages", state="good", text=text, figures=found)


def cameras(examination: Examination) -> Iterator[Finding]:
    """All cameras of this machine, started at once as a run does."""
    from rtfusion.capture.survey import check_cameras

    for found in check_cameras():
        yield Finding(name=found.subject, state=found.state, text=found.text)


def engines(examination: Examination) -> Iterator[Finding]:
    """List the engines and whether they are installed."""
    from rtfusion.engines import available

    for status in available():
        text = status.version if status.version is not None else f"not installed: {status.install}"
        yield Finding(name=f"engine {status.name}", state="good" if status.available else "note", text=text)


def compiled(examination: Examination) -> Iterator[Finding]:
    """The compiled kernels of the processor, against their twins."""
    from rtfusion.kernels.selftest import CHECKS

    counts = [f"{check()} of {what}" for what, check in CHECKS.items()]
    text = f"values that are those of the twins: {', '.join(counts[:-1])} and {counts[-1]}"
    yield Finding(name="compiled", state="good", text=text)


def parity(examination: Examination) -> Iterator[Finding]:
    """Every engine against the first one, on the golden input."""
    from rtfusion.engines import AUTO, available, model_file, open_engine
    from rtfusion.engines.parity import check, golden_inputs
    from rtfusion.models import read_spec
    from rtfusion.models.onnx_file import has_half, is_quantized

    model = model_file(examination.model)
    spec = read_spec(model)
    inputs = golden_inputs(spec, size_px=PARITY_SIZE_PX)
    reference, is_half, is_int8 = None, has_half(model), is_quantized(model)
    for status in sorted(available(), key=lambda status: status.name not in AUTO):
        if not status.available:
            continue
        name = f"parity {status.name}"
        try:
            engine = open_engine(status.name, model=model, size_px=PARITY_SIZE_PX)
        except EngineUnavailable as error:
            yield Finding(name=name, state="note", text=str(error))
            continue
        result = {name: output.copy() for name, output in engine.run(inputs=inputs).items()}
        description = engine.description
        engine.close()
        if reference is None:
            reference, is_half = result, is_half or " f16," in description
            yield Finding(name=name, state="good", text=f"{description} is the reference")
            continue
        rounded = "f16" if is_half else "f32" if "CPU" in description else "tf32"
        arithmetic = "int8" if is_int8 else rounded
        apart = check(result, reference, arithmetic=arithmetic)
        text = f"{description}: {apart.mean:.1e} away on average, {apart.largest:.1e} at most"
        yield Finding(name=name, state="good", text=text, figures=apart._asdict())
    if reference is None:
        yield Finding(name="parity", state="bad", text="no engine is installed: nothing could be compared")


def kernels(examination: Examination) -> Iterator[Finding]:
    """The CUDA device, and its kernels against their twin."""
    from rtfusion.cuda.device import Device
    from rtfusion.cuda.selftest import check_kernels

    with closing(Device()) as device:
        text = f"{device.description}: {check_kernels(device)} values are those of the twin"
        yield Finding(name="kernels", state="good", text=text, figures=device.identity)


def speed(examination: Examination) -> Iterator[Finding]:
    """The fuser alone, on pictures that wait in memory: what a run takes unless told otherwise first, in its own precision."""
    from rtfusion.engines import NETWORKS, available

    usable = [status.name for status in available() if status.available]
    cases = [("learned", "auto"), ("pyramid", "auto"), *(("learned", name) for name in NETWORKS if name in usable)]
    with part(0.0, 1.0):
        for number, (fuser, engine) in enumerate(cases):
            with part(number / len(cases), (number + 1) / len(cases)):
                yield from _measured(fuser, engine, examination, seconds=examination.seconds / len(cases))


def hardware(examination: Examination) -> Iterator[Finding]:
    """Name the hardware that this version has never been run on."""
    for text in NOT_RUN_ON_HARDWARE:
        yield Finding(name="never run on hardware", state="note", text=text)


CHECKS: Sequence[Callable[[Examination], Iterator[Finding]]] = (
    machine, cameras, engines, compiled, parity, kernels, hardware, speed,
)  # fmt: skip


def _measured(fuser: str, engine: str, examination: Examination, *, seconds: float) -> Iterator[Finding]:
    from rtfusion.config import Settings
    from rtfusion.evaluate.timing import distribution, duration_ms
    from rtfusion.fusion.fuser import open_fuser
    from rtfusion.pairs import open_pairs
    from rtfusion.telemetry import Telemetry

    model = {"model": examination.model} if fuser == "learned" else {}
    settings = Settings(fuser=fuser, engine=engine, **model)
    what = f"measuring {examination.model.stem} by {engine}" if model else f"measuring {fuser}"
    telemetry = Telemetry()
    with open_pairs(ir=SCENE, vis=SCENE) as stream:
        pairs = list(stream)
    with closing(open_fuser(settings, telemetry=telemetry)) as opened:
        for pair in pairs:  # to warm up
            opened(pair)
        durations_ms: list[float] = []
        started_s = time.monotonic()
        while (elapsed_s := time.monotonic() - started_s) < seconds or len(durations_ms) < 2:
            tell(f"{what}, seconds", int(min(elapsed_s, seconds)), max(1, round(seconds)))
            durations_ms.append(duration_ms(partial(opened, pairs[len(durations_ms) % len(pairs)])))
        precision = f"precision {opened.precision}" if opened.precision else ""
        description = ", ".join(filter(None, [opened.engine, precision]))
    figures = distribution(durations_ms)
    p50, p95, p99 = (figures[name] for name in ("p50", "p95", "p99"))
    rate = (
        f"{examination.model.stem if model else fuser}: about {1000 / p50:.0f} frames/s at {SIZE} for the fuser alone"
    )
    spread = f"p50 {p50:.2f} ms, p95 {p95:.2f}, p99 {p99:.2f}"
    yield Finding(
        name=f"speed {fuser} {engine}" if model else f"speed {fuser}",
        state="good",
        text=f"{rate} ({spread})" + (f", {description}" if description else ""),
        figures={"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "frames": len(durations_ms)},
    )
    for note in telemetry.notes:
        if not note.startswith("precision "):
            continue  # what is told of the pictures is of the drawn street, and no news of this machine
        yield Finding(name="speed, a note", state="note", text=note)
