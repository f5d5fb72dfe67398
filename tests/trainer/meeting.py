"""What two processes do that meet; also a program, for the second of them."""

from __future__ import annotations

import json
import sys

import torch
from rtfusion_trainer.workers import join

from rtfusion.errors import FusionError


def meet() -> list[object]:
    """The gradient, whether both stop because one asks or because none does, and what comes of the first one."""
    with join("cpu") as workers:
        network = workers.wrap(torch.nn.Linear(1, 1, bias=False))
        network(torch.tensor([[1.0 + workers.rank]])).sum().backward()
        (weight,) = network.parameters()
        assert weight.grad is not None
        asked = [workers.any(workers.rank == 1), workers.any(False)]
        given = workers.from_first(lambda: "of the first" if workers.is_first else "of another")
        try:
            workers.from_first(refuse)
        except FusionError as error:
            return [weight.grad.item(), asked, given, str(error)]
    raise AssertionError("nothing was refused")


def refuse() -> str:
    raise FusionError("the first cannot")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(meet()))
