"""Torch in the tests: one thread, since these networks are tiny and threads that wait for one another are slower."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)
