"""Torch in the tests: one thread, since these networks are tiny and threads that wait for one another are slower."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Before each test, since an engine that ran earlier in this process may have asked for more."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
