"""The hardware and the conditions of a measurement: clocks, governor, power mode, and what was held back.

Everything is read from files and from the vendors' own tools where they are there, and left out where they are not: a figure
that nobody could read is absent, never zero.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rtfusion.engines.fastest import processor
from rtfusion.portable import instructions, usable_cores

TOOL_TIMEOUT_S = 5.0
CPU = "sys/devices/system/cpu"
NVIDIA_FIELDS = {
    "name": "gpu",
    "driver_version": "driver",
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "temperature.gpu": "gpu_c",
    "power.draw": "power_w",
    "enforced.power.limit": "power_limit_w",
    "clocks_throttle_reasons.active": "held_back_by",
}
INSTRUCTIONS = {
    "avx2": "avx2",
    "avx512": "avx512f",
    "vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "amx_fp16": "amx_fp16",
    "neon": "asimd",
    "dotprod": "asimddp",
    "neon_fp16": "asimdhp",
    "neon_bf16": "bf16",
    "i8mm": "i8mm",
}
"""Instruction sets that decide which precision of a network is fast, by the kernel's flag for each."""
HARMLESS = 0x1 | 0x2
"""NVIDIA's clock reasons that hold nothing back: idle, and clocks set by the user."""


def report(start: Mapping[str, Any], *, root: Path = Path("/")) -> dict[str, Any]:
    """The conditions of a measurement that began with the snapshot ``start`` and ends now.

    Returns:
        ``{"start", "end", "throttled"}``: throttled lists in words what held the machine back, [] when nothing was seen.
    """
    end = snapshot(root=root)
    return {"start": dict(start), "end": end, "throttled": _held_back(start, end)}


def machine(*, root: Path = Path("/")) -> dict[str, Any]:
    """Processor, cores that may be used, memory, system; ``gpu`` and ``jetson`` where there is one."""
    board = _text(root / "proc/device-tree/model").strip("\0\n ")
    release = _text(root / "etc/nv_tegra_release").strip()
    found: dict[str, Any] = {
        "processor": processor(root=root),
        **_processor_details(root),
        "cores": len(usable_cores()),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "jetson" if release else "board": " ".join(filter(None, (board, release.partition(", GCID")[0]))),
        "gpu": [f"{gpu.get('gpu', '?')}, driver {gpu.get('driver', '?')}" for gpu in nvidia()],
    }
    return {name: value for name, value in found.items() if value}


def _memory_gib() -> float | None:
    """Of the machine; None where it does not tell (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _processor_details(root: Path) -> dict[str, Any]:
    """Family, model, the instruction sets that decide the speed of a network, and caches, as far as the system tells them."""
    cpuinfo = root / "proc/cpuinfo"
    flags = instructions(root=root)
    kept = (_texts(root, f"{CPU}/cpu0/cache/index*/{name}") for name in ("level", "type", "size"))
    return {
        "family": _match(r"^cpu family\s*:\s*(\d+)$", cpuinfo),
        "model": _match(r"^model\s*:\s*(\d+)$", cpuinfo),
        "instructions": [name for name, flag in INSTRUCTIONS.items() if flag in flags],
        "caches": [f"L{level} {kind}, {size}" for level, kind, size in zip(*kept, strict=False)],
    }


def snapshot(*, root: Path = Path("/")) -> dict[str, Any]:
    """The state of this moment: load, clocks, governor, counters of throttling, power mode, temperatures, GPUs."""
    throttled = _numbers(root, f"{CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count")
    heat_c = [milli / 1000 for milli in _numbers(root, "sys/class/thermal/thermal_zone*/temp")]
    mains = _numbers(root, "sys/class/power_supply/A*/online")
    found: dict[str, Any] = {
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "cpu_mhz": _cpu_mhz(root),
        "governor": ", ".join(sorted(set(_texts(root, f"{CPU}/cpu[0-9]*/cpufreq/scaling_governor")))) or None,
        "turbo_off": max(_numbers(root, f"{CPU}/intel_pstate/no_turbo"), default=None),
        "power_mode": _power_mode(root),
        "temperature_c": max(heat_c, default=None),
        "heat_events": sum(throttled) if throttled else None,
        "quota_waits": _count(r"^nr_throttled (\d+)", root / "sys/fs/cgroup/cpu.stat"),
        "stolen_ticks": _count(r"^cpu\s+(?:\d+\s+){7}(\d+)", root / "proc/stat"),
        "on_battery": not any(mains) if mains else None,
        "gpus": nvidia() or None,
        "tegra": tegra(),
    }
    return {name: value for name, value in found.items() if value is not None}


def nvidia() -> list[dict[str, Any]]:
    """Name, clocks, temperature, power and what holds it back, of every discrete NVIDIA GPU."""
    query = ["nvidia-smi", f"--query-gpu={','.join(NVIDIA_FIELDS)}", "--format=csv,noheader,nounits"]
    return [parse_nvidia(line) for line in _tool(query).splitlines() if line.count(",") == len(NVIDIA_FIELDS) - 1]


def parse_nvidia(line: str) -> dict[str, Any]:
    """One line of ``nvidia-smi``; what it cannot tell (``[N/A]``) is left out."""
    values = zip(NVIDIA_FIELDS.values(), (cell.strip() for cell in line.split(",")), strict=True)
    return {name: _plain(text) for name, text in values if not text.startswith("[")}


def tegra() -> dict[str, Any] | None:
    """Clocks, temperatures and power of a Jetson, from one line of ``tegrastats``."""
    if shutil.which("tegrastats") is None:
        return None
    with subprocess.Popen(["tegrastats", "--interval", "200"], stdout=subprocess.PIPE, text=True) as tool:  # noqa: S607
        try:
            line = tool.stdout.readline() if tool.stdout is not None else ""
        finally:
            tool.terminate()
    return parse_tegrastats(line)


def parse_tegrastats(line: str) -> dict[str, Any]:
    """``RAM 1/2MB … CPU [3%@1510,…] GR3D_FREQ 5%@[305] … gpu@48.1C … VDD_IN 5120mW/5120mW`` as figures."""
    clocks = re.search(r"CPU \[([^\]]*)\]", line)
    gpu = re.search(r"GR3D_FREQ (\d+)%(?:@\[?(\d+))?", line)
    found = {
        "cpu_mhz": [int(mhz) for mhz in re.findall(r"@(\d+)", clocks[1])] if clocks else None,
        "gpu_percent": int(gpu[1]) if gpu else None,
        "gpu_mhz": int(gpu[2]) if gpu and gpu[2] else None,
        "temperatures_c": {name: float(value) for name, value in re.findall(r"(\w+)@(-?[\d.]+)C", line)},
        "power_mw": {name: int(value) for name, value in re.findall(r"(\w+) (\d+)mW/\d+mW", line)},
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def _held_back(start: Mapping[str, Any], end: Mapping[str, Any]) -> list[str]:
    reasons = []
    for name, words in (
        ("heat_events", "the processor slowed down for heat {:.0f} times"),
        ("quota_waits", "the container waited for its CPU quota {:.0f} times"),
        ("stolen_ticks", "the host took {:.0f} ticks of 10 ms for others"),
    ):
        grown = end.get(name, 0) - start.get(name, 0)
        if grown > 0:
            reasons.append(words.format(grown))
    for place, state in (("start", start), ("end", end)):
        for gpu in state.get("gpus", ()):
            bits = int(str(gpu.get("held_back_by", "0x0")), 16) & ~HARMLESS
            if bits:
                reasons.append(f"{gpu.get('gpu', 'the GPU')} was held back at the {place} (clock reasons {bits:#x})")
    low, high = sorted((start.get("cpu_mhz", 0), end.get("cpu_mhz", 0)))
    if low and low < 0.9 * high:
        reasons.append(f"the clock moved between {low:.0f} and {high:.0f} MHz")
    return reasons


def _cpu_mhz(root: Path) -> float | None:
    """Mean over the cores, from cpufreq or /proc/cpuinfo."""
    mhz = [khz / 1000 for khz in _numbers(root, f"{CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    mhz = mhz or list(map(float, re.findall(r"(?m)^cpu MHz\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo"))))
    return round(fmean(mhz), 1) if mhz else None


def _power_mode(root: Path) -> str | None:
    """A Jetson's mode by ``nvpmodel -q``, else the platform profile."""
    mode = re.search(r"NV Power Mode:\s*(\S+)", _tool(["nvpmodel", "-q"]))
    return mode[1] if mode else _text(root / "sys/firmware/acpi/platform_profile").strip() or None


def _texts(root: Path, pattern: str) -> list[str]:
    return [text for path in sorted(root.glob(pattern)) if (text := _text(path).strip())]


def _numbers(root: Path, pattern: str) -> list[float]:
    return [value for text in _texts(root, pattern) if isinstance(value := _plain(text), float)]


def _match(pattern: str, path: Path) -> str | None:
    """The first group of a pattern in a file."""
    found = re.search(pattern, _text(path), flags=re.MULTILINE)
    return found[1] if found else None


def _count(pattern: str, path: Path) -> float | None:
    return None if (found := _match(pattern, path)) is None else float(found)


def _plain(text: str) -> str | float:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text


def _text(path: Path) -> str:
    """Read a file of /proc or /sys; "" where it is not there or not for us."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def _tool(command: Sequence[str]) -> str:
    """Run a vendor's tool and give what it prints; "" where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)  # noqa: S603
        return done.stdout if done.returncode == 0 else ""
    return ""
