"""What works on this machine, and how fast: a list of checks, each a function that yields what it found.

To add a check, write a function of an `Examination` that yields `Finding`s, and put it into `CHECKS`. One that raises is a
finding too, and the next one runs all the same.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtfusion import __version__
from rtfusion.errors import EngineUnavailable, FusionError

SCHEMA = 1
SIZE_PX = (640, 480)
PARITY_SIZE_PX = (320, 240)
WARM_UP_FRAMES = 5
PACKAGES = (
    "numpy", "opencv-python", "av", "pyzmq", "openvino", "onnxruntime", "onnxruntime-gpu", "torch", "onnx", "tensorrt",
    "torch-tensorrt", "pycuda",
)  # fmt: skip
NOT_RUN_ON_HARDWARE = (
    "the CUDA fuser (its kernels ran compiled for the processor, its order of work on a simulated device)",
    "TensorRT, 10 and 11, and torch_tensorrt (held against their documented interfaces)",
    "ONNX Runtime's CUDA and TensorRT providers, and PyTorch on CUDA",
    "any Jetson",
    "any camera (V4L2 ran on a driver written for the tests, network cameras on the loopback interface)",
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
    """For the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What is to be looked at."""

    model: Path | None = None
    seconds: float = 10.0
    """How long to measure the speed."""


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
    cores = len(os.sched_getaffinity(0))
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores} cores"
    yield Finding(name="machine", state="good", text=system, figures={"processor": _processor(), "cores": cores})
    versions = {name: version for name in PACKAGES if (version := _installed(name)) is not None}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding(name="packages", state="good", text=text, figures=versions)


def cameras(examination: Examination) -> Iterator[Finding]:
    """All cameras of this machine, started at once as a run does."""
    from rtfusion.capture.survey import check_cameras

    for found in check_cameras():
        yield Finding(name=found.subject, state=found.state, text=found.text)


def engines(examination: Examination) -> Iterator[Finding]:
    """What can run a model."""
    from rtfusion.engines import available

    for status in available():
        text = status.version if status.version is not None else f"not installed: {status.install}"
        yield Finding(name=f"engine {status.name}", state="good" if status.available else "note", text=text)


def parity(examination: Examination) -> Iterator[Finding]:
    """Every engine against the first one, on the golden input."""
    from rtfusion.engines import AUTO, available, open_engine
    from rtfusion.engines.parity import check, golden_inputs
    from rtfusion.models import read_spec

    if examination.model is None:
        yield Finding(name="parity", state="note", text="not checked without a model; add --model FILE.onnx")
        return
    spec = read_spec(examination.model)
    inputs = golden_inputs(spec, size_px=PARITY_SIZE_PX)
    is_quantized = b"QuantizeLinear" in examination.model.read_bytes()
    reference, is_half = None, False
    for status in sorted(available(), key=lambda status: status.name not in AUTO):
        if not status.available:
            continue
        name = f"parity {status.name}"
        try:
            engine = open_engine(status.name, model=examination.model, size_px=PARITY_SIZE_PX)
        except EngineUnavailable as error:
            yield Finding(name=name, state="note", text=str(error))
            continue
        result = {name: output.copy() for name, output in engine.run(inputs=inputs).items()}
        description = engine.description
        engine.close()
        if reference is None:
            reference, is_half = result, " f16," in description
            yield Finding(name=name, state="good", text=f"{description} is the reference")
            continue
        rounded = "f16" if is_half else "f32" if "CPU" in description else "tf32"
        arithmetic = "int8" if is_quantized else rounded
        apart = check(result, reference, arithmetic=arithmetic)
        text = f"{description}: {apart.mean:.1e} away on average, {apart.largest:.1e} at most"
        yield Finding(name=name, state="good", text=text, figures=apart._asdict())
    if reference is None:
        yield Finding(name="parity", state="bad", text="no engine is installed: nothing could be compared")


def kernels(examination: Examination) -> Iterator[Finding]:
    """The CUDA device, and its kernels against their twin."""
    from rtfusion.cuda.device import Device
    from rtfusion.cuda.selftest import check_kernels

    device = Device()
    try:
        compared = check_kernels(device)
        text = f"{device.description}: {compared} values are those of the twin"
        yield Finding(name="kernels", state="good", text=text, figures=device.identity)
    finally:
        device.close()


def speed(examination: Examination) -> Iterator[Finding]:
    """The fuser alone, on pictures that wait in memory."""
    from rtfusion.engines import NETWORKS, available

    cases = [("pyramid", "auto")]
    if examination.model is not None:
        usable = [status.name for status in available() if status.available]
        cases += [("learned", name) for name in ("auto", *(name for name in NETWORKS if name in usable))]
    for fuser, engine in cases:
        yield _measured(fuser, engine, examination, seconds=examination.seconds / len(cases))


def hardware(examination: Examination) -> Iterator[Finding]:
    """What this version has never been run on."""
    for text in NOT_RUN_ON_HARDWARE:
        yield Finding(name="never run on hardware", state="note", text=text)


CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    machine,
    cameras,
    engines,
    parity,
    kernels,
    speed,
    hardware,
)


# --- helpers ---


def _measured(fuser: str, engine: str, examination: Examination, *, seconds: float) -> Finding:
    from rtfusion.config import Settings
    from rtfusion.fusion.fuser import open_fuser
    from rtfusion.telemetry import Telemetry

    model = {} if examination.model is None or fuser != "learned" else {"model": examination.model}
    settings = Settings(fuser=fuser, engine=engine, **model)
    telemetry = Telemetry()
    opened = open_fuser(settings, telemetry=telemetry)
    try:
        pairs = _pairs()
        for pair in pairs[:WARM_UP_FRAMES]:
            opened(pair)
        durations_ms: list[float] = []
        started_s = time.monotonic()
        while time.monotonic() - started_s < seconds or len(durations_ms) < 2:
            begun_s = time.perf_counter()
            opened(pairs[len(durations_ms) % len(pairs)])
            durations_ms.append(1000 * (time.perf_counter() - begun_s))
        p50, p95, p99 = (float(np.percentile(durations_ms, percent)) for percent in (50, 95, 99))
        description = ", ".join([opened.engine or "no engine", *telemetry.notes])
    finally:
        opened.close()
    return Finding(
        name=f"speed {fuser} {engine}" if fuser == "learned" else f"speed {fuser}",
        state="good",
        text=f"{SIZE_PX[0]}x{SIZE_PX[1]} by {description}: p50 {p50:.2f} ms, p95 {p95:.2f}, p99 {p99:.2f}",
        figures={"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "frames": len(durations_ms)},
    )


def _pairs() -> list[Any]:
    """A few pairs of noise over waves, of which nothing is guessed that a camera would not give."""
    from rtfusion.types import Band, Frame, FramePair, PixelFormat

    rng = np.random.default_rng(0)
    width, height = SIZE_PX
    y, x = np.mgrid[:height, :width]
    pairs = []
    for index in range(WARM_UP_FRAMES):
        waves = 120 + 80 * np.sin((x + 4 * index) / 19.0) * np.cos(y / 13.0)
        images = {
            Band.VISIBLE: (waves[..., None] + rng.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8),
            Band.THERMAL: (255 - waves + rng.normal(0, 6, (height, width))).clip(0, 255).astype(np.uint8),
        }
        frames = {
            band: Frame(
                image=image,
                pixel_format=PixelFormat.BGR8 if band is Band.VISIBLE else PixelFormat.GRAY8,
                band=band,
                timestamp_ns=index * 33_000_000,
                sequence=index,
                received_ns=0,
            )
            for band, image in images.items()
        }
        pairs.append(FramePair(visible=frames[Band.VISIBLE], thermal=frames[Band.THERMAL], sequence=index))
    return pairs


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
