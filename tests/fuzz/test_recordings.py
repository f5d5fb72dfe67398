"""Recordings and exports with damage anywhere: each gives frames or an error of ours, and every reader of their bytes ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtfusion.capture import open_source
from rtfusion.capture.file_ends import appended_bytes, is_whole_in_transport_stream, missing_bytes
from rtfusion.capture.radiometric import read_radiometric
from rtfusion.errors import EndOfStream, FusionError
from rtfusion.types import Band
from tests.capture.clips import patterns, write_clip
from tests.capture.radiometric_files import PLANCK, dji, flir
from tests.fuzz.fuzzing import damaged, fuzzed

COUNTS = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + 9000
JPEGS = (flir(COUNTS, planck=PLANCK, visible=patterns(1)[0]), flir(COUNTS, raw=True), dji(COUNTS))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    kinds = {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4"}
    return {
        kind: write_clip(folder / f"c.{kind}", patterns(12), codec=codec, gop=4).read_bytes()
        for kind, codec in kinds.items()
    }


@settings(fuzzed, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=st.sampled_from(["mp4", "mkv", "ts", "avi"]), band=st.sampled_from(Band))
def test_videos_with_damage(
    files: dict[str, bytes], tmp_path: Path, data: st.DataObject, kind: str, band: Band
) -> None:
    path = tmp_path / f"c.{kind}"
    path.write_bytes(data.draw(damaged(files[kind])))
    size = path.stat().st_size
    assert (missing_bytes(path) or 0) >= 0
    assert 0 <= appended_bytes(path) <= size
    is_whole_in_transport_stream(path, data.draw(st.integers(0, size)))
    try:
        source = open_source(str(path), band=band)
    except FusionError:
        return
    stamps = []
    with contextlib.suppress(EndOfStream, FusionError):
        while len(stamps) < 1000:
            stamps.append(source.read(timeout_s=1).timestamp_ns)
    source.close()
    assert stamps == sorted(set(stamps))


@fuzzed
@given(st.sampled_from(JPEGS).flatmap(damaged) | st.binary(max_size=200).map(lambda data: b"\xff\xd8" + data))
def test_radiometric_images_with_damage(data: bytes) -> None:
    with contextlib.suppress(cv2.error):
        found = read_radiometric(data)
        assert found is None or found.thermal()[0].dtype == np.uint16
