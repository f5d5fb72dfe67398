"""Everything that only a GPU can tell, in at most 8 minutes, without a network: what `scripts/gpu-check` runs.

    python -m benchmarks.gpu_check --json benchmarks/results/gpu_check.json [--carried DIR] [--budget S] [--parts WORD ...]

Every part runs in a process of its own with its own time limit, and says how it ended: ``passed``, ``failed``, ``timed out``,
``unavailable`` where something is not installed, or ``left out`` where no time was left. One that fails costs the others nothing.
A part that did not run on a device never counts as passed, and where none did the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite import Measured, Result, Row, Suite, chosen, columns_table
from rtfusion.config import ON_DEVICE, Settings
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, FusionError
from rtfusion.evaluate import timing
from rtfusion.telemetry import Telemetry
from rtfusion.text import parse_size_px
from rtfusion.types import FramePair

MODEL = "small"
SIZES = ("640x480", "1280x1024", "1920x1080", "3840x2160")
BUDGET_S = 460.0
"""For all parts together: 8 minutes, less the start and the report."""
WARM_UP_FRAMES = 20
MEASURED_S = 5.0
PAIRS = 8
"""Different pairs of the street, shown in turn."""
COMPARED_FRAMES = 20
COPIES = 50
MOST_LEVELS = 3
"""Largest difference, in gray levels of 255, that half precision may make between both fusers: here on a CPU it makes 1."""
MOST_MEAN_LEVELS = 0.2
TAIL = 800
"""Characters of what a part that died has said."""
_PACKAGE_OF = {"tensorrt": ("tensorrt", "pycuda"), "pytorch:cuda": ("torch", "onnx", "pycuda")}

COLUMNS = (
    ("part", "{case}"),
    ("outcome", "{outcome}"),
    ("s", "{seconds:.0f}"),
    ("end to end ms p50", "{whole_ms[p50]:.2f}"),
    ("p95", "{whole_ms[p95]:.2f}"),
    ("p99", "{whole_ms[p99]:.2f}"),
    ("device ms p50", "{compute_ms[p50]:.2f}"),
    ("p95", "{compute_ms[p95]:.2f}"),
    ("p99", "{compute_ms[p99]:.2f}"),
    ("bus floor ms p50", "{floor_ms[p50]:.2f}"),
    ("memory MiB", "{memory_mib:.0f}"),
    ("", "{text}"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One thing to find out."""

    name: str
    limit_s: float
    run: Callable[[], Row]
    """Measures, and gives figures and a ``text``; raises a FusionError where it is not as it has to be."""


def parts(*, sizes: Sequence[str] = SIZES, carried: Path | None = None) -> list[Part]:
    """Every part, the most telling first."""
    found = [] if carried is None else [Part(name="pycuda", limit_s=150, run=partial(install_pycuda, carried))]
    found += [
        Part(name="kernels", limit_s=60, run=kernels),
        Part(name="tests", limit_s=150, run=tests),
        Part(name="graph", limit_s=60, run=graph),
        *(Part(name=f"fuser {engine}", limit_s=90, run=partial(fuser, engine)) for engine in reversed(ON_DEVICE)),
    ]
    for size in sizes:
        size_px = parse_size_px(size, option="--sizes")
        for engine in reversed(ON_DEVICE):
            found.append(Part(name=f"times {engine} {size}", limit_s=90, run=partial(times, engine, size_px=size_px)))
    for size in sizes[:2]:
        size_px = parse_size_px(size, option="--sizes")
        found.append(Part(name=f"networks {size}", limit_s=60, run=partial(networks, size_px=size_px)))
    return found


# -- the parts ----------------------------------------------------------------------------------------------------------


def install_pycuda(carried: Path) -> Row:
    """Build pycuda from the archives in a folder, as nothing can be downloaded."""
    if importlib.util.find_spec("pycuda") is not None:
        return {"text": "is installed"}
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(carried), "pycuda"]
    if not any(carried.glob("setuptools*")):
        command.insert(4, "--no-build-isolation")
    built = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if built.returncode != 0:
        raise EngineError(f"pycuda is not built: {(built.stdout + built.stderr)[-TAIL:]}")
    return {"text": "built"}


def kernels() -> Row:
    """The kernels of the device against their twin, bit by bit."""
    from rtfusion.cuda.device import Device
    from rtfusion.cuda.selftest import check_kernels

    with closing(Device()) as device:
        return {"compared": check_kernels(device), "text": device.description, **device.identity}


def tests() -> Row:
    """The tests that need a device, which fail here where they would skip."""
    environment = {**os.environ, "RTFUSION_REQUIRE_CUDA": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "needs_cuda", "tests"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    text = (run.stdout.strip().splitlines() or ["nothing was said"])[-1]
    if run.returncode != 0:
        raise EngineError(f"{text}: {run.stdout[-TAIL:]}")
    return {"text": text}


def graph(*, engine: str = "pytorch:cuda", size_px: tuple[int, int] = (640, 480)) -> Row:
    """PyTorch with its CUDA graph, on pictures that change, against a CPU that computes the float32 file."""
    from rtfusion.engines import model_file, open_engine
    from rtfusion.engines.parity import check, golden_inputs
    from rtfusion.models import find_model, read_spec

    inputs = golden_inputs(read_spec(find_model(Path(MODEL))), size_px=size_px)
    largest, description = 0.0, ""
    reference = open_engine("openvino", model=find_model(Path(MODEL)), size_px=size_px, precision="f32")
    opened = open_engine(engine, model=model_file(Path(MODEL), on_gpu=True), size_px=size_px)
    with closing(reference), closing(opened):
        for shift in range(3):
            shown = {name: np.ascontiguousarray(np.roll(value, 8 * shift, axis=-1)) for name, value in inputs.items()}
            apart = check(opened.run(inputs=shown), reference.run(inputs=shown), arithmetic="f16")
            largest, description = max(largest, apart.largest), opened.description
    return {"largest": largest, "text": description}


def fuser(engine: str, *, size_px: tuple[int, int] = (640, 480)) -> Row:
    """The fuser of the device against that of the host with the float32 file, frame by frame, memory included."""
    from rtfusion.fusion.fuser import open_fuser

    _require(engine)
    # the host without what the device does not do yet
    plain: dict[str, Any] = {"trust": False, "color": "everywhere", "upsample": "off"}
    here = open_fuser(Settings(model=MODEL, precision="f32", engine="openvino", **plain), telemetry=Telemetry())
    there = open_fuser(Settings(model=MODEL, engine=engine), telemetry=Telemetry())
    apart: list[float] = []
    most, pairs = 0, street(size_px)
    with closing(here), closing(there):
        for index in range(COMPARED_FRAMES):
            shown = pairs[index % len(pairs)]
            step = np.abs(there(shown).image.astype(np.int16) - here(shown).image)
            apart.append(float(step.mean()))
            most = max(most, int(step.max()))
        text = there.engine or ""
    if most > MOST_LEVELS or max(apart) > MOST_MEAN_LEVELS:
        raise EngineError(f"{text}: {max(apart):.3f} gray levels away on average, {most} at most")
    return {"levels_mean": max(apart), "levels_most": most, "text": text}


def times(engine: str, *, size_px: tuple[int, int], seconds: float = MEASURED_S) -> Row:
    """Time from a pair in memory to the fused frame in memory, the device's part of it, and what the copies alone take."""
    from rtfusion.cuda.device import Device
    from rtfusion.cuda.renderer import CudaRenderer
    from rtfusion.engines import open_network
    from rtfusion.fusion.fuser import PairFuser
    from rtfusion.fusion.tone import GainControl

    _require(engine)
    pairs, telemetry, device = street(size_px), _Steady(), Device()
    with closing(device):
        renderer = CudaRenderer(
            device=device,
            open_network=lambda model, padded_px: open_network(engine, model=model, size_px=padded_px, device=device),
            model=Path(MODEL),
            telemetry=telemetry,
        )
        fuse = PairFuser(renderer, gain=GainControl(), telemetry=telemetry)
        floor_ms = device.call(_copies, device.cuda, 4 * size_px[0] * size_px[1], timeout_s=60)
        for index in range(WARM_UP_FRAMES):
            fuse(pairs[index % len(pairs)])
        telemetry.forget()
        whole_ms: list[float] = []
        started_s = time.monotonic()
        while time.monotonic() - started_s < seconds or len(whole_ms) < 2:
            whole_ms.append(timing.duration_ms(partial(fuse, pairs[len(whole_ms) % len(pairs)])))
        free, total = device.call(device.cuda.mem_get_info)
        text = fuse.engine or ""
        fuse.close()
    stages = {f"{name}_ms": telemetry.stage(name).summary_ms() for name in ("upload", "compute", "download")}
    return {
        "whole_ms": timing.distribution(whole_ms),
        **stages,
        "floor_ms": timing.distribution(floor_ms),
        "bus_bytes": 8 * size_px[0] * size_px[1],
        "memory_mib": (total - free) / 2**20,
        "text": text,
    }


def _copies(cuda: Any, size_bytes: int) -> list[float]:
    """Milliseconds of the two copies of a frame alone, in pinned memory: a floor under any time end to end."""
    up, down = (cuda.pagelocked_empty(size_bytes, np.uint8) for _ in range(2))
    place = cuda.mem_alloc(size_bytes)
    stream, (began, done) = cuda.Stream(1), (cuda.Event(cuda.event_flags.BLOCKING_SYNC) for _ in range(2))
    times_ms = []
    for _ in range(COPIES):
        began.record(stream)
        cuda.memcpy_htod_async(place, up, stream)
        cuda.memcpy_dtoh_async(down, place, stream)
        done.record(stream)
        done.synchronize()
        times_ms.append(float(done.time_since(began)))
    place.free()
    for array in (up, down):
        array.base.free()
    return times_ms


def networks(*, size_px: tuple[int, int], device: str = "cuda", rounds: int = 50) -> Row:
    """LD-Lite's network beside the small student's, both by PyTorch with a CUDA graph in half precision, in turns."""
    _require("pytorch:cuda", without=() if device == "cuda" else ("pycuda",))
    import torch
    from rtfusion_trainer.teachers.ldlite import LdLite

    from rtfusion.engines import model_file, pytorch
    from rtfusion.models.spec import IMAGE_INPUTS

    if device == "cuda" and not torch.cuda.is_available():
        raise EngineUnavailable("PyTorch sees no CUDA device")
    kind = torch.float16 if device == "cuda" else torch.float32
    images = {name: torch.rand(1, 1, size_px[1], size_px[0], device=device) for name in IMAGE_INPUTS}
    scalars = {
        name: torch.full((1, 1, 1, 1), 0.5, device=device) for name in ("enhance", "visible_mean", "thermal_mean")
    }
    small = pytorch.load(model_file(Path(MODEL), on_gpu=True), device=device, precision="auto")
    ldlite = LdLite().eval().to(device=device, dtype=kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run_small() -> Any:
        return small(**images, **scalars)

    def run_ldlite() -> Any:
        return {"fused_y": ldlite(visible=images["visible_y"].to(kind), thermal=images["thermal"].to(kind))}

    def waited(run: Callable[[], object]) -> float:
        def whole() -> None:
            run()
            if device == "cuda":
                torch.cuda.synchronize()

        return timing.duration_ms(whole)

    with torch.inference_mode():
        runs = {"small": run_small, "ldlite": run_ldlite}
        if device == "cuda":
            runs = {name: pytorch.captured(run) for name, run in runs.items()}
        cases = {name: partial(waited, run) for name, run in runs.items()}
        found = timing.run_interleaved(cases, rounds=rounds, warm_up=3)
    times_ms = {f"{name}_ms": timing.distribution(values) for name, values in found.items()}
    memory = {"memory_mib": torch.cuda.max_memory_reserved() / 2**20} if device == "cuda" else {}
    ratio = times_ms["ldlite_ms"]["p50"] / times_ms["small_ms"]["p50"]
    return {**times_ms, **memory, "text": f"LD-Lite takes {ratio:.1f} times as long as {MODEL}"}


def street(size_px: tuple[int, int]) -> list[FramePair]:
    """A few pairs of the synthetic street, the visible one of this size."""
    from rtfusion.pairs import open_pairs

    scene = f"synthetic:?size={size_px[0]}x{size_px[1]}&frames={PAIRS}"
    with open_pairs(ir=f"synthetic:?size=640x480&frames={PAIRS}", vis=scene) as stream:
        return list(stream)


class _Steady(Telemetry):
    """Telemetry that can leave out the frames that warm up."""

    def forget(self) -> None:
        self._stages.clear()


def _require(engine: str, *, without: Sequence[str] = ()) -> None:
    for package in _PACKAGE_OF[engine]:
        if package not in without and importlib.util.find_spec(package) is None:
            raise EngineUnavailable(f"{engine} needs {package}, which is not installed")


# -- running them -------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> Measured:
    """A row for every part."""
    known = parts(sizes=options.sizes, carried=options.carried)
    selected = [part for part in known if not options.parts or any(word in part.name for word in options.parts)]
    if not selected:
        raise ConfigError(
            f"no part is named {' or '.join(options.parts)}; there are {', '.join(p.name for p in known)}"
        )
    settings = {**chosen(options, "sizes", "budget"), "model": MODEL, "measured_s": MEASURED_S}
    return settings, list(run_all(selected, options))


def run_all(selected: Sequence[Part], options: argparse.Namespace) -> Iterator[Row]:
    """Run the parts one after the other within the budget."""
    deadline_s = time.monotonic() + options.budget
    for part in selected:
        left_s = deadline_s - time.monotonic()
        if left_s < 1:
            row: Row = {"outcome": "left out", "text": f"the budget of {options.budget:.0f} s was spent"}
        else:
            row = run_apart(part.name, limit_s=min(part.limit_s, left_s), options=options)
        print(f"{part.name}: {row['outcome']} {row.get('text', '')}", file=sys.stderr, flush=True)
        yield {"case": part.name, **row}


def run_apart(name: str, *, limit_s: float, options: argparse.Namespace) -> Row:
    """One part in a process of its own, which is ended with all its children at the limit."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        row_file, said = Path(folder) / "row.json", Path(folder) / "said.txt"
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--part", name, "--row", str(row_file)]
        command += [
            "--sizes",
            *options.sizes,
            *([] if options.carried is None else ["--carried", str(options.carried)]),
        ]
        with said.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
            try:
                process.wait(limit_s)
                row = _row(row_file, said, code=process.returncode)
            except subprocess.TimeoutExpired:
                row = {"outcome": "timed out", "text": f"not done in {limit_s:.0f} s; {_tail(said)}"}
            finally:
                _end(process)
    return {"seconds": time.monotonic() - started_s, **row}


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _row(row_file: Path, said: Path, *, code: int) -> Row:
    try:
        row: Row = json.loads(row_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"outcome": "failed", "text": f"ended with {code}; {_tail(said)}"}
    return row


def _tail(said: Path) -> str:
    return said.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()


def outcome(part: Part) -> Row:
    """Run a part here; gives its row."""
    try:
        return {"outcome": "passed", **part.run()}
    except EngineUnavailable as error:
        return {"outcome": "unavailable", "text": str(error)}
    except FusionError as error:
        return {"outcome": "failed", "text": str(error)}


def table(data: Result) -> str:
    """Outcomes and times as Markdown."""
    gpu = next(
        (row["text"] for row in data["rows"] if row["case"] == "kernels" and row["outcome"] == "passed"), "no device"
    )
    return f"{gpu}; {MODEL}\n\n{columns_table(COLUMNS, data['rows'])}"


def failures(data: Result) -> list[str]:
    """What failed; and that nothing ran on a device, if so."""
    rows: Sequence[Mapping[str, Any]] = data["rows"]
    said = [f"{row['case']}: {row['outcome']}" for row in rows if row["outcome"] in {"failed", "timed out"}]
    if not any(row["outcome"] == "passed" and row["case"] != "pycuda" for row in rows):
        said.append("no part ran on a GPU: this result says nothing of one")
    return said


SUITE = Suite(
    name="gpu_check",
    help=__doc__,
    options={
        "--sizes": {"nargs": "+", "default": list(SIZES), "metavar": "WxH", "help": "of the visible pictures"},
        "--budget": {"type": float, "default": BUDGET_S, "metavar": "S", "help": "seconds for all parts together"},
        "--parts": {
            "nargs": "+",
            "default": [],
            "metavar": "WORD",
            "help": "only parts whose names contain one of these",
        },
        "--carried": {"type": Path, "metavar": "DIR", "help": "folder of source archives to build pycuda from"},
    },
    measure=measure,
    table=table,
    failures=failures,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; or one of them, for the process that runs all."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--part" not in arguments:
        return SUITE.main(arguments)
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", required=True)
    parser.add_argument("--row", type=Path, required=True)
    for flag in ("--sizes", "--carried"):
        parser.add_argument(flag, **SUITE.options[flag])
    options = parser.parse_args(arguments)
    (part,) = [one for one in parts(sizes=options.sizes, carried=options.carried) if one.name == options.part]
    options.row.write_text(json.dumps(outcome(part)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
