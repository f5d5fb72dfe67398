"""What a measurement was made on and under: hardware, clocks, governor, power mode, and whether anything was held back.

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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
HARMLESS = 0x1 | 0x2
"""Of NVIDIA's clock reasons: idle, and clocks set by the user. Power, heat and the rest hold it back."""


class Conditions:
    """Reads the conditions at the start, and when told at the end: `report` says what changed between."""

    def __init__(self, *, root: Path = Path("/")) -> None:
        self._root = root
        self._start = snapshot(root=root)

    def report(self) -> dict[str, Any]:
        """``{"start", "end", "throttled"}``: throttled lists in words what held the machine back, [] when nothing was seen."""
        end = snapshot(root=self._root)
        return {"start": self._start, "end": end, "throttled": _held_back(self._start, end)}


def machine(*, root: Path = Path("/")) -> dict[str, Any]:
    """Processor, cores that may be used, memory, system; ``gpu`` and ``jetson`` where there is one."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), flags=re.MULTILINE)
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    found: dict[str, Any] = {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
    }
    board = _text(root / "proc/device-tree/model").strip("\0\n ")
    release = _text(root / "etc/nv_tegra_release").strip()
    if board or release:
        found["jetson" if release else "board"] = " ".join(
            part for part in (board, release.partition(", GCID")[0]) if part
        )
    gpus = nvidia()
    if gpus:
        found["gpu"] = [f"{gpu.get('gpu', '?')}, driver {gpu.get('driver', '?')}" for gpu in gpus]
    return found


def snapshot(*, root: Path = Path("/")) -> dict[str, Any]:
    """The state of this moment: load, clocks, governor, counters of throttling, power mode, temperatures, GPUs."""
    cpus = root / CPU
    found: dict[str, Any] = {
        "load_1min": round(os.getloadavg()[0], 2),
        "cpu_mhz": _cpu_mhz(root),
        "governor": _one_of(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")),
        "turbo_off": _number(cpus / "intel_pstate/no_turbo"),
        "power_mode": _power_mode(root),
        "temperature_c": _hottest_c(root),
        "heat_events": _sum(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")),
        "quota_waits": _quota_waits(root),
        "stolen_ticks": _stolen_ticks(root),
        "on_battery": _on_battery(root),
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
    found: dict[str, Any] = {}
    clocks = re.search(r"CPU \[([^\]]*)\]", line)
    if clocks:
        found["cpu_mhz"] = [int(mhz) for mhz in re.findall(r"@(\d+)", clocks[1])]
    gpu = re.search(r"GR3D_FREQ (\d+)%(?:@\[?(\d+))?", line)
    if gpu:
        found["gpu_percent"] = int(gpu[1])
        if gpu[2]:
            found["gpu_mhz"] = int(gpu[2])
    found["temperatures_c"] = {name: float(value) for name, value in re.findall(r"(\w+)@(-?[\d.]+)C", line)}
    found["power_mw"] = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)mW/\d+mW", line)}
    return {name: value for name, value in found.items() if value}


def _held_back(start: dict[str, Any], end: dict[str, Any]) -> list[str]:
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
    khz = [value for path in (root / CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq") if (value := _number(path))]
    mhz = [value / 1000 for value in khz] or [
        float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(root / "proc/cpuinfo"), flags=re.MULTILINE)
    ]
    return round(sum(mhz) / len(mhz), 1) if mhz else None


def _power_mode(root: Path) -> str | None:
    """A Jetson's mode by ``nvpmodel -q``, else the platform profile."""
    mode = re.search(r"NV Power Mode:\s*(\S+)", _tool(["nvpmodel", "-q"]))
    return mode[1] if mode else _text(root / "sys/firmware/acpi/platform_profile").strip() or None


def _hottest_c(root: Path) -> float | None:
    degrees = [_number(path) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    known = [value / 1000 for value in degrees if value is not None]
    return max(known) if known else None


def _quota_waits(root: Path) -> float | None:
    match = re.search(r"^nr_throttled (\d+)", _text(root / "sys/fs/cgroup/cpu.stat"), flags=re.MULTILINE)
    return float(match[1]) if match else None


def _stolen_ticks(root: Path) -> float | None:
    """Time a virtual machine's host gave to others: the eighth figure of /proc/stat."""
    match = re.match(r"cpu\s+(?:\d+\s+){7}(\d+)", _text(root / "proc/stat"))
    return float(match[1]) if match else None


def _on_battery(root: Path) -> bool | None:
    mains = [_number(path) for path in (root / "sys/class/power_supply").glob("A*/online")]
    return None if not mains else not any(mains)


def _one_of(paths: Iterator[Path]) -> str | None:
    """The text that all files share, or all texts."""
    texts = sorted({text for path in paths if (text := _text(path).strip())})
    return ", ".join(texts) or None


def _sum(paths: Iterator[Path]) -> float | None:
    values = [value for path in paths if (value := _number(path)) is not None]
    return sum(values) if values else None


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def _plain(text: str) -> str | float:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else text


def _text(path: Path) -> str:
    """What is in a file of /proc or /sys, "" where it is not there or not for us."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def _tool(command: Sequence[str]) -> str:
    """What a vendor's tool prints, "" where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)  # noqa: S603
        return done.stdout if done.returncode == 0 else ""
    return ""
