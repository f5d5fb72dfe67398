"""One run of the main job in a process of its own; prints its figures as JSON. Used by `benchmarks.speed`."""

from __future__ import annotations

import json
import resource
import sys
import time

from rtfusion import Settings, build


def main() -> None:
    """Arguments: visible, thermal, fuser, loop."""
    visible, thermal, fuser, loop = sys.argv[1:5]
    pipeline = build(
        Settings.model_validate({"vis": visible, "ir": thermal, "fuser": fuser, "loop": int(loop), "sink": ("null:",)})
    )
    started_cpu_s = time.process_time()
    pipeline.run()
    cpu_s = time.process_time() - started_cpu_s
    snapshot = pipeline.telemetry.snapshot()
    stages = snapshot["stages_ms"]
    fuser_stages = ("tone", "register", "fuse", "compose")
    figures = {
        "fps": snapshot["fps"],
        "frames": snapshot["fused"],
        "fuser_p50_ms": sum(stages[stage]["p50"] for stage in fuser_stages),
        "fuser_p99_ms": sum(stages[stage]["p99"] for stage in fuser_stages),
        "decode_visible_p50_ms": stages["decode visible"]["p50"],
        "decode_thermal_p50_ms": stages["decode thermal"]["p50"],
        "cpu_ms_per_frame": cpu_s * 1000 / max(1, snapshot["fused"]),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
