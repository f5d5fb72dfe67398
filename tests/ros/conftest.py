"""ROS's modules, stood in for, for the tests of the node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import standins


@pytest.fixture
def node_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, module in standins.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "rtfusion_ros.node", raising=False)
    import rtfusion_ros.node

    yield rtfusion_ros.node
    sys.modules.pop("rtfusion_ros.node", None)
