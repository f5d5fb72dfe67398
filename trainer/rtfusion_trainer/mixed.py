"""Mixed precision: the forward pass in 16 bits where that is asked for, weights and losses always in 32."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from rtfusion.errors import ConfigError

PRECISIONS = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}


class MixedPrecision:
    """One optimizer's steps in a precision of `PRECISIONS`; with f16 the loss is scaled, so that small gradients survive."""

    def __init__(self, name: str, optimizer: torch.optim.Optimizer, *, device: torch.device) -> None:
        if name not in PRECISIONS:
            raise ConfigError(f"no precision {name!r} to train in; there are {', '.join(PRECISIONS)}")
        self._dtype = PRECISIONS[name]
        self._device = device
        self._optimizer = optimizer
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "f16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Make the context that the forward pass runs in."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None)

    def step(
        self, loss: Tensor, parameters: Iterable[nn.Parameter], *, rate: float, gradient_limit: float | None = None
    ) -> None:
        """Backward pass and one step of the optimizer; skipped, with a smaller scale for the next, where f16 overflowed."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        if gradient_limit is not None:
            nn.utils.clip_grad_norm_(parameters, gradient_limit)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer and of the scale."""
        return {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave; a run in another precision had no scale, or needs none."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
