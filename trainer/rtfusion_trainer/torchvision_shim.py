"""Makes torchvision importable beside a PyTorch whose build it was not compiled for.

A torchvision wheel built for CUDA cannot load its compiled part beside a CPU build of PyTorch, and then fails on import because
two of the operators it wants to describe do not exist (pytorch/vision#9085). open_clip and timm import torchvision, but use none
of its compiled operators. So the two are declared, without an implementation, and the import is tried again: everything works but
calling them. Where torchvision is whole, nothing is touched.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Literal

import torch

_MISSING_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def ensure_torchvision() -> Literal["absent", "native", "shim"]:
    """Import torchvision, declaring its missing operators if that is what it takes; call before importing open_clip.

    Returns:
        "absent" if it is not installed, "native" if it imports as it is (or has been imported), "shim" if the operators
        had to be declared.

    Raises:
        RuntimeError: torchvision is broken in another way.
    """
    if importlib.util.find_spec("torchvision") is None:
        return "absent"
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or torch.version.cuda is not None:
            raise
    else:
        return "native"
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half loaded
    for operator in _MISSING_OPERATORS:
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    importlib.import_module("torchvision")
    return "shim"
