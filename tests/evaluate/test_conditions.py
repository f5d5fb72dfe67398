from __future__ import annotations

from pathlib import Path

import pytest

from rtfusion.evaluate.conditions import machine, parse_nvidia, parse_tegrastats, report, snapshot

CPU = "sys/devices/system/cpu"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def a_machine(root: Path, *, mhz: int = 2000, heat: int = 0, waits: int = 0, stolen: int = 0) -> Path:
    files = {f"{CPU}/cpu{index}/cpufreq/scaling_cur_freq": f"{mhz}000\n" for index in (0, 1)}
    files |= {f"{CPU}/cpu{index}/cpufreq/scaling_governor": "powersave\n" for index in (0, 1)}
    files |= {f"{CPU}/cpu{index}/thermal_throttle/core_throttle_count": f"{heat}\n" for index in (0, 1)}
    return write(
        root,
        {
            **files,
            "proc/cpuinfo": "processor : 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some CPU @ 2.0GHz\n"
            "flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 amx_bf16\n",
            f"{CPU}/cpu0/cache/index0/level": "1\n",
            f"{CPU}/cpu0/cache/index0/type": "Data\n",
            f"{CPU}/cpu0/cache/index0/size": "48K\n",
            "proc/stat": f"cpu  1 2 3 4 5 6 7 {stolen} 9 10\n",
            "sys/fs/cgroup/cpu.stat": f"usage_usec 12\nnr_periods 3\nnr_throttled {waits}\n",
            "sys/firmware/acpi/platform_profile": "balanced\n",
            "sys/class/thermal/thermal_zone0/temp": "51000\n",
            "sys/class/power_supply/AC/online": "0\n",
        },
    )


def test_what_can_be_read_is_told(tmp_path: Path) -> None:
    found = snapshot(root=a_machine(tmp_path, heat=2))
    assert found["cpu_mhz"] == 2000.0
    assert found["governor"] == "powersave"
    assert found["power_mode"] == "balanced"
    assert found["temperature_c"] == 51.0
    assert found["heat_events"] == 4
    assert found["on_battery"] is True
    told = machine(root=tmp_path)
    assert (told["processor"], told["family"], told["model"]) == ("Some CPU @ 2.0GHz", "6", "207")
    assert told["instructions"] == ["avx2", "avx512", "vnni", "amx_int8", "amx_bf16"]
    assert told["caches"] == ["L1 Data, 48K"]


def test_what_cannot_be_read_is_absent_and_never_zero(tmp_path: Path) -> None:
    assert set(snapshot(root=tmp_path)) <= {"load_1min", "gpus", "tegra", "power_mode"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"heat": 3}, "slowed down for heat 6 times"),
        ({"waits": 5}, "waited for its CPU quota 5 times"),
        ({"stolen": 40}, "took 40 ticks"),
        ({"mhz": 1500}, "the clock moved between 1500 and 2000 MHz"),
        ({"mhz": 1990}, None),
    ],
)
def test_what_held_the_machine_back_is_noticed(tmp_path: Path, change: dict[str, int], words: str | None) -> None:
    start = snapshot(root=a_machine(tmp_path))
    a_machine(tmp_path, **change)
    throttled = report(start, root=tmp_path)["throttled"]
    if words is None:
        assert throttled == []
    else:
        assert any(words in reason for reason in throttled), throttled


def test_a_jetson_is_known_by_its_release_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin NX\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        },
    )
    assert machine(root=tmp_path)["jetson"] == "NVIDIA Jetson Orin NX # R36 (release), REVISION: 4.3"


def test_tegrastats() -> None:
    line = (
        "11-21-2026 04:00:00 RAM 3205/15656MB (lfb 4x4MB) SWAP 0/7828MB CPU [3%@1510,off,12%@1984] EMC_FREQ 0%@3199 "
        "GR3D_FREQ 61%@[918] cpu@48.5C soc2@45.9C gpu@46.1C tj@48.5C VDD_IN 5120mW/4980mW VDD_CPU_GPU_CV 1204mW/1100mW"
    )
    assert parse_tegrastats(line) == {
        "cpu_mhz": [1510, 1984],
        "gpu_percent": 61,
        "gpu_mhz": 918,
        "temperatures_c": {"cpu": 48.5, "soc2": 45.9, "gpu": 46.1, "tj": 48.5},
        "power_mw": {"VDD_IN": 5120, "VDD_CPU_GPU_CV": 1204},
    }
    assert parse_tegrastats("") == {}


def test_nvidia_smi() -> None:
    found = parse_nvidia("NVIDIA RTX A2000, 560.35, 1200, 6001, 61, 55.10, 70.00, 0x0000000000000004")
    assert found == {
        "gpu": "NVIDIA RTX A2000",
        "driver": 560.35,
        "sm_mhz": 1200.0,
        "memory_mhz": 6001.0,
        "gpu_c": 61.0,
        "power_w": 55.1,
        "power_limit_w": 70.0,
        "held_back_by": "0x0000000000000004",
    }
    assert "power_w" not in parse_nvidia("GPU, 1.2.3, 1, 2, 3, [N/A], 70.00, 0x1")
