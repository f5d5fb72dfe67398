"""Workers of a Ray cluster, for archives that outgrow one machine. Needs the [ray] extra.

All machines see archive and output by the same URLs, or under the same paths (a shared file system). No more jobs are in flight
than run at a time, each reserves the cores that it uses, and one whose worker or machine is lost is begun again by the batch,
which counts it; since a result appears as a whole, the loser of two attempts finds it done.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from rtfusion.batch.run import Ended
from rtfusion.batch.work import Finished, Job, Split, fuse
from rtfusion.errors import EXIT_BUG, ConfigError, EngineUnavailable, FusionError, StorageError
from rtfusion.installing import install
from rtfusion.portable import usable_cores

LOCAL = "local"
KNOCK_S = 5.0
ASK_S = 2.0
"""How often the progress is asked for."""


class RayWorkers:
    """A cluster at ``address``, or one started for this batch with `LOCAL`.

    Args:
        address: ``auto``, `LOCAL`, or HOST:PORT.
        count: jobs at a time; None: as many as have room in the cluster.
        cores: cores that each reserves, and uses; None: 1, and with `LOCAL` its share of those of this machine.
    """

    def __init__(self, *, address: str, count: int | None = None, cores: int | None = None) -> None:
        self.count = count or 1
        self._address = address
        self._asked_count = count
        self._cores = cores
        self._waiting: dict[Any, Job] = {}
        self._progress: dict[str, tuple[int, int | None]] = {}
        self._asked_s = 0.0

    def __enter__(self) -> RayWorkers:
        """Connect.

        Raises:
            EngineUnavailable: Ray is not installed.
            ConfigError: no cluster answers at that address, or none of its machines has so many cores.
        """
        self._ray = ray = _ray()
        self._connect()
        try:
            cores = self._reserved()
            self.count = self._asked_count or self._room(cores)
            # a task is begun again by the batch, which counts and tells of it
            self._task = ray.remote(num_cpus=cores, max_retries=0)(_fuse)
            self._board = ray.remote(num_cpus=0)(_Board).remote()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what runs, and leave the cluster."""
        for reference in self._waiting:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        self._waiting.clear()
        self._ray.shutdown()

    def start(self, job: Job) -> None:
        """See `rtfusion.batch.run.Workers`."""
        given = replace(job, threads=self._reserved())
        self._waiting[self._task.options(name=f"fuse {job.name}").remote(given, self._board)] = job

    def ended(self, *, timeout_s: float) -> Sequence[Ended]:
        """See `rtfusion.batch.run.Workers`."""
        done, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=timeout_s)
        found = [self._ending(reference, self._waiting.pop(reference)) for reference in done]
        for ended in found:
            self._progress.pop(ended.job.place, None)
        return found

    def progress(self) -> Mapping[str, tuple[int, int | None]]:
        """See `rtfusion.batch.run.Workers`."""
        if time.monotonic() - self._asked_s >= ASK_S:
            self._asked_s = time.monotonic()
            with suppress(self._ray.exceptions.RayError):
                self._progress = dict(self._ray.get(self._board.read.remote(), timeout=ASK_S))
        running = {job.place for job in self._waiting.values()}
        return {name: progress for name, progress in self._progress.items() if name in running}

    def _room(self, cores: int) -> int:
        """How many jobs of so many cores run at a time on the machines that there are."""
        each = (int(node["Resources"].get("CPU", 0)) // cores for node in self._ray.nodes() if node["Alive"])
        room = sum(each)
        if room == 0:
            raise ConfigError(
                f"no machine of the cluster at {self._address!r} has {cores} cores; name fewer with --cores, or say how "
                "many recordings at a time with --jobs where it grows"
            )
        return room

    def _reserved(self) -> int:
        if self._cores is not None:
            return self._cores
        here = len(usable_cores())
        return max(1, here // (self._asked_count or here)) if self._address == LOCAL else 1

    def _connect(self) -> None:
        ray = self._ray
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self._address == LOCAL:
                # by itself Ray lets its workers wait for everything else on a machine; processes of a batch do not
                os.environ.setdefault("RAY_worker_niceness", "0")
                cpus = max(self._reserved() * (self._asked_count or 1), len(usable_cores()))
                ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                _knock(self._address)
                ray.init(address=self._address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigError(f"no Ray cluster at {self._address!r} ({error}); name one, or --ray local") from error

    def _ending(self, reference: Any, job: Job) -> Ended:
        exceptions = self._ray.exceptions
        try:
            result, error, exit_code, is_of_storage, host = self._ray.get(reference)
        except exceptions.RayTaskError as bug:
            return Ended(job=job, error=_first_line(bug.cause or bug), exit_code=EXIT_BUG)
        except exceptions.RayError as lost:
            return Ended(job=job, error=f"its worker was lost ({_first_line(lost)})", was_killed=True)
        return Ended(job=job, result=result, error=error, exit_code=exit_code, is_of_storage=is_of_storage, host=host)


class _Board:
    """Runs in the cluster: the progress of all workers."""

    def __init__(self) -> None:
        self._progress: dict[str, tuple[int, int | None]] = {}

    def tell(self, name: str, fused: int, of: int | None) -> None:
        self._progress[name] = fused, of

    def over(self, name: str) -> None:
        self._progress.pop(name, None)

    def read(self) -> dict[str, tuple[int, int | None]]:
        return self._progress


def _fuse(job: Job, board: Any) -> tuple[Finished | Split | None, str, int, bool, str]:
    """Do a job in a worker: what was finished, or the message of an error and its exit code; whose fault; where."""
    host = socket.gethostname()
    try:
        return fuse(job, progress=lambda fused, of: board.tell.remote(job.place, fused, of)), "", 0, False, host
    except FusionError as error:
        return None, str(error), error.exit_code, isinstance(error, StorageError), host
    finally:
        board.over.remote(job.place)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _knock(address: str) -> None:
    """Find out at once that nobody is there: Ray itself waits for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EngineUnavailable(f"Ray is not installed here; run {install('ray')}") from error
    return ray
