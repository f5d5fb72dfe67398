"""An archive of sixty recordings of every layout on an S3 server, while workers, the batch itself and the server are killed."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("s3fs", reason="S3 is not installed: pip install -e '.[s3]'")
pytest.importorskip("moto", reason="no local S3 server is installed: pip install 'moto[s3,server]'")

from rtfusion.batch import Account
from rtfusion.batch.storage import open_store
from rtfusion.cli.batch import _plain
from rtfusion.config import Settings
from tests.batch.archives import InThisProcess, batch, make_archive, tree
from tests.batch.storages import BUCKET, download, s3_server, upload
from tests.capture.clips import write_clip

pytestmark = [
    pytest.mark.slow,  # sixty recordings, begun in processes of their own
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("default"),  # those of the clients are not ours
]
KILLS = 5
PATIENCE_S = 900.0
BROKEN = {"broken/cut": 3, "broken/rubbish": 3, "empty": 3}
"""Recordings that cannot be fused, and their exit codes."""
FUSED = re.compile(r"\[\d+/60\] (\S+): \d+ frames")


def sixty(root: Path) -> Path:
    """Videos in folders of their own, side by side and deep down; images; two broken ones, an empty and a long one."""
    names = [
        *(f"cars/{n:02d}" for n in range(20)),
        *(f"far/away/{n}/night" for n in range(10)),
        "broken/cut",
        "broken/rubbish",
    ]
    make_archive(root, frames=6, size_px=(64, 48), videos=(*names, "empty"))
    rng = np.random.default_rng(2)

    def clip(path: Path, frames: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        images = rng.integers(0, 256, (frames, 48, 64, 3), dtype=np.uint8)
        write_clip(path, images, options={"preset": "ultrafast"})

    for number in range(25):
        for band in ("T", "V"):
            clip(root / "side" / f"walk_{number:04d}_{band}.mp4", 5)
    for band in ("vis", "ir"):
        clip(root / "huge" / f"{band}.mp4", 2000)
    whole = (root / "broken/cut/vi.mp4").read_bytes()
    (root / "broken/cut/vi.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "broken/rubbish/ir.mp4").write_bytes(bytes(range(256)) * 100)
    (root / "empty/vi.mp4").write_bytes(b"")
    return root


def a_worker(batch_of: subprocess.Popen[str]) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(batch_of.pid).children():
            if "rtfusion.batch.work" in child.cmdline():
                return child
    return None


def test_sixty_recordings_and_five_kills(tmp_path: Path, free_port: int) -> None:
    chance = random.Random(7)
    archive = sixty(tmp_path / "archive")
    source, undisturbed, out = (f"s3://{BUCKET}/{name}" for name in ("archive", "undisturbed", "fused"))
    command = [sys.executable, "-m", "rtfusion", "batch", source, "--out", out, "--fuser", "average", "--jobs", "2"]
    command += ["--scratch", str(tmp_path / "scratch"), "--scratch-gb", "0.5"]
    with s3_server(free_port) as server:
        upload(archive, source)
        settings = _plain(Settings(fuser="average"))
        calm = batch(
            source, undisturbed, settings=settings, workers=InThisProcess(), scratch=tmp_path / "calm", split_s=600
        )
        assert (calm.summary.recordings, calm.fused, sorted(calm.failed)) == (60, 57, sorted(BROKEN))
        said: list[str] = []
        kills = ["worker", "driver", "store", "worker", "driver"]
        assert len(kills) == KILLS
        code = -1
        while code < 0:
            log = tmp_path / f"log-{len(said)}"
            with log.open("w") as stderr, subprocess.Popen(command, stdout=stderr, stderr=stderr, text=True) as run:
                deadline_s = time.monotonic() + PATIENCE_S
                next_s = time.monotonic() + chance.uniform(4.0, 12.0)
                while run.poll() is None:
                    assert time.monotonic() < deadline_s
                    time.sleep(0.05)
                    if not kills or time.monotonic() < next_s:
                        continue
                    next_s = time.monotonic() + chance.uniform(4.0, 12.0)
                    if kills[0] == "worker":
                        if (worker := a_worker(run)) is None:
                            continue
                        with contextlib.suppress(psutil.NoSuchProcess):
                            worker.kill()
                    elif kills[0] == "driver":
                        run.send_signal(signal.SIGKILL)
                    else:
                        server.stop()
                        time.sleep(chance.uniform(1.0, 3.0))
                        server.start()
                    kills.pop(0)
            said.append(log.read_text())
            code = run.returncode
        assert kills == [], "it was over before it was disturbed"
        assert code == 3, said[-1]
        got, calm_tree = tree(download(out, tmp_path / "got")), tree(download(undisturbed, tmp_path / "wanted"))
        assert got == calm_tree, "the same sums, done.json included, and nothing else"
        fused = FUSED.findall("".join(said))
        assert len(fused) == len(set(fused)), "nothing is fused twice"
        entries = Account(open_store(out)).entries
        assert len(entries) == 60
        assert {name: entry.exit_code for name, entry in entries.items() if entry.state == "failed"} == BROKEN
        assert {entry.state for name, entry in entries.items() if name not in BROKEN} == {"done"}
        assert all(
            entry.outputs and entry.frames and entry.settings for name, entry in entries.items() if name not in BROKEN
        )
        status = [sys.executable, "-m", "rtfusion", "batch", "status", out, "--json"]
        told = json.loads(
            subprocess.run(status, capture_output=True, text=True, check=False, timeout=PATIENCE_S).stdout
        )
        assert told["states"] == {"done": 57, "failed": 3}
