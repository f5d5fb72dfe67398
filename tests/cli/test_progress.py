"""What is said on stderr while a run goes on."""

from __future__ import annotations

from typing import Any

import pytest

from rtfusion.cli import progress
from rtfusion.cli.progress import Status
from rtfusion.config import Settings


def snapshot(fused: int) -> dict[str, Any]:
    source = {"frame_count": 40}
    return {
        "live": False,
        "sources": {"visible": source, "thermal": source},
        "fused": fused,
        "fps_recent": 10.0,
        "drops": {},
    }


def test_where_nobody_looks_a_plain_line_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    fused = iter((10, 20))
    with Status(lambda: snapshot(next(fused)), settings=Settings()) as status:
        for now_s in (100.0, 109.9, 110.0, 110.1, 119.9, 120.0):  # noqa: B007 - read by the clock above
            status.update()
    assert capsys.readouterr() == (
        "",
        "rtfusion: 10 of 40 frames, 10.0 frames/s, 3 s left\nrtfusion: 20 of 40 frames, 10.0 frames/s, 2 s left\n",
    )
