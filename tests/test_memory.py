"""What was freed goes back to the system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from rtfusion.memory import return_freed_memory

BLOCK_BYTES, BLOCKS = 100_000, 1000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators give memory back by themselves")
def test_freed_blocks_below_one_that_is_kept_are_given_back() -> None:
    blocks = [b"x" * BLOCK_BYTES for _ in range(BLOCKS)]  # small enough for the heap
    kept = blocks[-1]
    blocks.clear()
    held = resident_bytes()
    return_freed_memory()
    assert held - resident_bytes() > BLOCKS * BLOCK_BYTES / 2
    assert kept[0] == ord("x")
