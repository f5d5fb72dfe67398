"""What a batch writes: pictures as video, as images or not at all, and the boxes of a detector."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rtfusion.batch import Account, find_recordings, make_jobs
from rtfusion.batch.storage import open_store
from rtfusion.batch.work import DETECTIONS, DONE, THUMBNAIL
from rtfusion.cli.app import app
from rtfusion.errors import ConfigError, ModelError
from tests.batch.archives import InThisProcess, batch, make_archive
from tests.focus.networks import detector

AVERAGE = {"fuser": "average"}


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path / "archive", frames=3, videos=("walk",))


@pytest.mark.parametrize(
    ("writes", "of_video", "of_images"),
    [
        ("alike", ["fused.mp4"], ["fused/a.png", "fused/b.png", "fused/c.png"]),
        ("images", ["fused/000000.png", "fused/000001.png", "fused/000002.png"], ["fused/a.png", "fused/b.png", "fused/c.png"]),
        ("video", ["fused.mp4"], ["fused.mp4"]),
        ("nothing", [], []),
    ],
)  # fmt: skip
def test_pictures_as_they_are_asked_for(
    archive: Path, tmp_path: Path, writes: str, of_video: list[str], of_images: list[str]
) -> None:
    out = tmp_path / "out"
    done = batch(archive, out, workers=InThisProcess(), settings=AVERAGE, writes=writes)
    assert done.fused == 2, done.failed
    assert files(out / "walk") == sorted([*of_video, DONE, THUMBNAIL])
    assert files(out / "stills") == sorted([*of_images, DONE, THUMBNAIL])
    assert Account(open_store(out)).entries["walk"].frames["fused"] == 3


def test_boxes_of_a_detector_beside_the_pictures(archive: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", detector(tmp_path / "d.onnx")
    done = batch(archive, out, workers=InThisProcess(), settings=AVERAGE, detector=str(model))
    assert done.fused == 2, done.failed
    for name, called in (("walk", ["fused.mp4"] * 3), ("stills", ["fused/a.png", "fused/b.png", "fused/c.png"])):
        said = json.loads((out / name / DETECTIONS).read_text())
        assert [image["file_name"] for image in said["images"]] == called
        assert len(said["annotations"]) == 3
        record = json.loads((out / name / DONE).read_text())
        assert DETECTIONS in record["outputs"]
        assert record["settings"]["detector"] == str(model)


def test_a_result_of_another_detector_or_other_pictures_is_another_one(archive: Path, tmp_path: Path) -> None:
    recordings = find_recordings(archive)
    one = detector(tmp_path / "one.onnx", found=())
    other = detector(tmp_path / "other.onnx")
    asked: list[dict[str, Any]] = [
        {},
        {"writes": "nothing"},
        {"detector": str(one)},
        {"detector": str(other)},
        {"detector": str(one), "detect_hz": 1},
    ]
    prints = {make_jobs(recordings, out="out", settings=AVERAGE, **more)[0].fingerprint for more in asked}
    assert len(prints) == len(asked)
    one.unlink()
    with pytest.raises(ConfigError, match=r"one\.onnx"):
        make_jobs(recordings, out="out", settings=AVERAGE, detector=str(one))


def test_what_is_wrong_is_said_before_anything_is_fused(archive: Path, tmp_path: Path) -> None:
    for arguments, says, kind in (
        (["--write", "vidoe"], r"did you mean video\?", ConfigError),
        (["--detect-hz", "2"], "name one with --detect", ConfigError),
        (["--detect", str(tmp_path / "gone.onnx")], r"gone\.onnx", ModelError),
    ):
        result = CliRunner().invoke(app, ["batch", str(archive), "--out", str(tmp_path / "out"), *arguments])
        assert isinstance(result.exception, kind)
        assert re.search(says, str(result.exception))
    assert not (tmp_path / "out").exists()


def test_one_page_shows_every_recording(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("a & b", "broken"))
    (archive / "broken" / "ir.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    batch(archive, out, workers=InThisProcess(), settings=AVERAGE, detector=str(detector(tmp_path / "d.onnx")))
    result = CliRunner().invoke(app, ["batch", "index", str(out)])
    assert result.exit_code == 0, result.output
    page = (out / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert 'href="a%20%26%20b/fused.mp4"' in page
    assert 'href="a%20%26%20b/detections.json"' in page
    assert 'href="stills/"' in page
    assert "a &amp; b" in page
    assert "failed: " in page
    assert 'href="broken/' not in page
    again = batch(archive, out, workers=InThisProcess(), settings=AVERAGE, detector=str(tmp_path / "d.onnx"))
    assert again.already_done == 2, "a page beside the results is in nobody's way"


def test_a_page_of_nothing_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["batch", "index", str(tmp_path)])
    assert "no account of a batch" in str(result.exception)
    result = CliRunner().invoke(app, ["batch", "index"])
    assert "rtfusion batch index OUT" in str(result.exception)
