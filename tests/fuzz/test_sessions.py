"""Session files and key files of any content: only typed errors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtfusion.errors import CaptureError, ConfigError
from rtfusion.publish.keys import load_pair, load_public
from rtfusion.session.format import load_session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["schema", "settings", "streams", "visible", "thermal", "sequence", "degraded", "index", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(JSON | st.binary(max_size=200))
def test_sessions_and_lines(tmp_path: Path, content: object) -> None:
    import json

    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "session.json").write_bytes(data)
    with contextlib.suppress(CaptureError):
        load_session(tmp_path)
    stream = {"rate_hz": 30, "continuous": True, "uri": "x"}
    valid = {"schema": 1, "settings": {}, "streams": {"visible": stream, "thermal": stream}}
    (tmp_path / "session.json").write_text(json.dumps(valid))
    (tmp_path / "000000.jsonl").write_bytes(data + b"\n")
    with contextlib.suppress(CaptureError):
        list(load_session(tmp_path).segments())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: f'public = "{text}"'.encode()))
def test_key_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_pair(path)
    with contextlib.suppress(ConfigError):
        load_public(path)
