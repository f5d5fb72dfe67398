"""Workers of a Ray cluster, for archives that outgrow one machine. Needs the [ray] extra.

All machines see archive and output under the same paths (a shared file system). Ray begins a recording again when its worker or
machine is lost; since a result appears by one rename, the loser of two attempts finds it done.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rtfusion.batch.run import ATTEMPTS, Outcome
from rtfusion.batch.work import Job, fuse
from rtfusion.errors import ConfigError, EngineUnavailable, FusionError, SinkError

LOCAL = "local"
POLL_S = 0.2
KNOCK_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RayWorkers:
    """A cluster at ``address``, or one started for this batch with `LOCAL`; ``count`` tasks at a time, there."""

    address: str
    count: int
    cores_per_task: float = 1.0

    def __call__(self, jobs: Sequence[Job], *, stop: threading.Event) -> Iterator[Outcome]:
        """Every job's outcome as it comes; see `rtfusion.batch.run.Workers`.

        Raises:
            EngineUnavailable: Ray is not installed.
            ConfigError: no cluster answers at that address.
        """
        if not jobs:
            return
        ray = _ray()
        self._connect(ray)
        try:
            task = ray.remote(num_cpus=self.cores_per_task, max_retries=ATTEMPTS - 1)(_fuse)
            waiting = {task.remote(job): job for job in jobs}
            while waiting and not stop.is_set():
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_S)
                for reference in done:
                    yield _outcome(ray, reference, waiting.pop(reference))
            for reference in waiting:
                ray.cancel(reference, force=True)
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.address == LOCAL:
                ray.init(num_cpus=self.count, include_dashboard=False, **quiet)
            else:
                _knock(self.address)
                ray.init(address=self.address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigError(f"no Ray cluster at {self.address!r} ({error}); name one, or --ray local") from error


def _knock(address: str) -> None:
    """Find out at once that nobody is there: Ray itself waits for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _fuse(job: Job) -> tuple[dict[str, Any] | None, str, int]:
    """Do a job in a worker; the record, or the message of an error and its exit code."""
    try:
        return fuse(job), "", 0
    except FusionError as error:
        return None, str(error), error.exit_code


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    try:
        record, error, exit_code = ray.get(reference)
    except ray.exceptions.RayError as lost:
        first = str(lost).splitlines()[0]
        message = f"its worker was lost {ATTEMPTS} times ({first})"
        return Outcome(job=job, error=message, exit_code=SinkError.exit_code)
    return Outcome(job=job, record=record, error=error, exit_code=exit_code)


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EngineUnavailable("Ray is not installed here; run pip install 'rtfusion[ray]'") from error
    return ray
