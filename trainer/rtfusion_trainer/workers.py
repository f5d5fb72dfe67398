"""The processes that train one network: those that torchrun started, on one machine or several, or the only one.

::

    torchrun --nproc-per-node 2 -m rtfusion train student ...

Each has a part of the data and draws its own batches; gradients are averaged; the first one saves and logs. What all of them
have to agree on (whether to stop, where to go on) goes through `Workers`, so that none waits for another that has left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rtfusion.errors import ConfigError, FusionError

TIMEOUT = timedelta(minutes=10)
"""One process waits so long for the others before it gives up."""
LEAVING = timedelta(seconds=2)
"""One process waits so long for the others before it leaves."""
T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process among ``count``; the first has rank 0."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """True for the process that saves and logs."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, averaging its gradients over all processes where there are several."""
        if self.count == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def any(self, value: bool) -> bool:
        """Say if ``value`` is true in at least one process; every process has to ask."""
        if self.count == 1:
            return value
        flag = torch.tensor(int(value), device=self.device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag.item())

    def from_first(self, make: Callable[[], T]) -> T:
        """Give every process the result of ``make`` in the first one; the others need not see the same disk.

        Raises:
            FusionError: it was raised in the first process; then it is raised in all of them.
        """
        if self.count == 1:
            return make()
        result: list[T | FusionError | None] = [None]
        if self.is_first:
            try:
                result = [make()]
            except FusionError as error:
                result = [error]
        distributed.broadcast_object_list(result, src=0, device=self.device)
        if isinstance(result[0], FusionError):
            raise result[0]
        return result[0]  # type: ignore[return-value]  # of the type of the first one's


ALONE = Workers()


@contextmanager
def join(device: str, *, threads: int | None = None) -> Iterator[Workers]:
    """Meet the other processes, if torchrun started any; on ``cuda`` each takes a device of its own.

    ``threads`` are those of PyTorch on the CPU, in each process.

    Raises:
        ConfigError: there is no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    where = _device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if where.type == "cuda":
        torch.cuda.set_device(where)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # f32 means f32: the picture itself goes through convolutions
    if count == 1:
        yield Workers(device=where)
        return
    distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Workers(rank, count, where)
    finally:
        with suppress(RuntimeError):  # one that failed alone does not come
            if where.type == "cpu":
                # a process that leaves while the other's last collective is not over was seen to abort on its end
                distributed.monitored_barrier(timeout=LEAVING)
        distributed.destroy_process_group()


def _device(name: str, *, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise ConfigError(f"no device {name!r}; there are auto, cpu and cuda")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= found:
        raise ConfigError(
            f"process {local_rank} of this machine needs CUDA device {local_rank}, and {found} can be used; "
            "start fewer processes, or choose --device cpu"
        )
    return torch.device("cuda", local_rank)
