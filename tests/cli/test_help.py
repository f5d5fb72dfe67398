"""Help is complete, understandable and cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rtfusion.config import Settings

from .conftest import Main

HEAVY = {"cv2", "av", "openvino", "onnxruntime", "zmq", "msgpack", "torch", "numpy", "pydantic"}
PANELS = {setting.group for setting in Settings.declared().values()}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["run", "demo", "view", "devices", "engines", "config", "version", "Exit codes"]),
        (["run"], ["--sink", "Exit codes", "rtfusion run --ir thermal.mp4 --vis visible.mp4 --sink fused.mp4"]),
        (["run"], [f"--{name.replace('_', '-')}" for name in Settings.model_fields]),
        (["run"], ["average, maximum, pyramid, overlay, edges, learned", "default: learned", *PANELS]),
        (["demo"], ["--scene", "--seconds", "--out"]),
        (["view"], ["URL", "zmq:tcp://127.0.0.1:5555"]),
        (["devices"], ["cameras"]),
        (["keys"], ["NAME.key", "NAME.pub", "--server-key"]),
        (["record"], ["--out", "--segment-s", "--reserve-mb", "--log-json", "--fuser"]),
        (["replay"], ["DIR", "--check", "--pace", "--sink"]),
        (["engines"], ["model"]),
        (["config"], ["show"]),
        (["config", "show"], ["--json", "--fuser", "--config"]),
        (["version"], ["versions"]),
        (["bench"], ["--quick", "--engine", "--against", "rtfusion bench --quick"]),
        (["evaluate"], ["--ir", "--vis", "--fused", "--published", "standard error"]),
        (["batch"], ["ARCHIVE", "--out", "--jobs", "--ray", "--fuser", "--calibration", "Exit codes"]),
        (["say"], ["TEXT", "--file", "--json", "--encoder", "rtfusion say --file sentences.txt --json"]),
        (["report"], ["FILE", "--out", "--pictures"]),
    ],
)
def test_help(main_here: Main, command: list[str], words: list[str]) -> None:
    code, out, err = main_here(*command, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.replace("│", " ").split())
    for word in words:
        assert word in text


def test_help_loads_nothing_heavy(environ: dict[str, str]) -> None:
    program = (
        "import sys; sys.argv = ['rtfusion', '--help']\n"
        "from rtfusion.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0
    assert HEAVY & set(result.stderr.split()) == set()


def test_version(main_here: Main) -> None:
    code, out, _ = main_here("--version")
    assert code == 0
    assert out.startswith("rtfusion ")
    assert "Python" in main_here("version")[1]
