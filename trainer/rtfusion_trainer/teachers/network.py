"""The protocol of a teacher, which fuses a pair under a name that says how, and a network as a teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rtfusion.types import Image8

SMALLEST_PX = 16
FloatImage = npt.NDArray[np.float32]
Constants = Mapping[str, str | int | float]


class Teacher(Protocol):
    """Fuses one pair; two teachers of equal name and constants give equal pictures."""

    @property
    def name(self) -> str:
        """Short, fit for a file name."""

    @property
    def constants(self) -> Constants:
        """Everything that the output depends on besides the pair: weights' checksum, recipe, shifts."""

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """(H, W) uint8 luminance and thermal in, (H, W) float32 in [0, 1] out."""


class NetworkTeacher:
    """A network called as ``network(visible=..., thermal=...)`` with (1, 1, H, W) in [0, 1], under a name."""

    def __init__(
        self, network: nn.Module, *, name: str, weights: Sequence[Path], device: torch.device | None = None
    ) -> None:
        """``weights`` are the files that the network was loaded from; their checksum is the teacher's constant."""
        self._device = device or torch.device("cpu")
        self._network = network.to(self._device).eval()
        self.name = name
        checksum = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
        self.constants: Constants = {"sha256": checksum}

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """(H, W) uint8 twice in, at least `SMALLEST_PX` high and wide; (H, W) float32 in [0, 1] out."""
        check_pair(visible=visible, thermal=thermal, smallest_px=SMALLEST_PX)
        with torch.inference_mode():
            fused = self._network(visible=as_tensor(visible, self._device), thermal=as_tensor(thermal, self._device))
        return fused[0, 0].float().cpu().numpy().astype(np.float32, copy=False)


def as_tensor(image: Image8, device: torch.device) -> Tensor:
    """(H, W) uint8 to (1, 1, H, W) float32 in [0, 1]."""
    return (torch.from_numpy(image.astype(np.float32)) / 255)[None, None].to(device)


def check_pair(*, visible: Image8, thermal: Image8, smallest_px: int) -> None:
    """Raise ValueError unless these are two gray 8-bit images of one size, large enough."""
    right = visible.dtype == thermal.dtype == np.uint8 and visible.ndim == 2 and visible.shape == thermal.shape
    if not right or min(visible.shape) < smallest_px:
        came = f"visible {visible.shape} {visible.dtype}, thermal {thermal.shape} {thermal.dtype}"
        raise ValueError(f"{came}; expected two images (H, W) uint8 of one size, {smallest_px} px or larger")
