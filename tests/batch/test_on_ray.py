"""On a local cluster; skipped where Ray is not installed."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import pytest

from rtfusion.batch.on_ray import LOCAL, RayWorkers
from rtfusion.batch.processes import Processes
from rtfusion.batch.work import STAGING
from rtfusion.errors import ConfigError
from tests.batch.archives import Done, batch, make_archive, tree
from tests.batch.test_run import wait_for

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
pytestmark = [
    pytest.mark.slow,  # Ray starts a cluster
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours
]


def kill_a_busy_worker() -> None:
    """The Ray process that fuses right now names its task."""
    busy = [p for p in psutil.Process().children(recursive=True) if any("ray::fuse " in part for part in p.cmdline())]
    busy[0].kill()


def test_a_local_cluster_with_a_killed_worker_gives_the_same_files(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=100, size_px=(160, 120))
    batch(archive, tmp_path / "undisturbed", workers=Processes(2))
    dones: list[Done] = []
    workers = RayWorkers(address=LOCAL, count=2)
    thread = threading.Thread(target=lambda: dones.append(batch(archive, tmp_path / "out", workers=workers)))
    thread.start()
    wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
    kill_a_busy_worker()
    thread.join(60)
    (done,) = dones
    assert (done.fused, done.failed) == (4, {})
    assert done.summary.restarts == 1
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    again = batch(archive, tmp_path / "out", workers=workers)
    assert (again.already_done, again.fused) == (4, 0)


def test_no_cluster_is_an_error_with_a_hint(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=2)
    with pytest.raises(ConfigError, match=r"no Ray cluster at .*--ray local"):
        batch(archive, tmp_path / "out", workers=RayWorkers(address="127.0.0.1:1", count=1))
