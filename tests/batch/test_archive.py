from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtfusion.batch import find_recordings
from rtfusion.errors import ConfigError
from tests.batch.archives import STILLS, VIDEOS, make_archive


def test_videos_and_folders_are_found_by_name_and_sorted(tmp_path: Path) -> None:
    root = make_archive(tmp_path, frames=2)
    found = find_recordings(root)
    assert [recording.name for recording in found] == sorted([*VIDEOS, STILLS])
    by_name = {recording.name: recording for recording in found}
    assert by_name["yard"].visible.place == str(root / "yard" / "vi.mp4")
    assert not by_name["yard"].visible.is_folder
    assert by_name["yard"].visible.size_bytes == (root / "yard" / "vi.mp4").stat().st_size
    assert by_name[STILLS].thermal.place == str(root / STILLS / "thermal")
    assert by_name[STILLS].visible.is_folder


def test_a_recording_is_known_by_its_files(tmp_path: Path) -> None:
    root = make_archive(tmp_path, frames=2)

    def contents_of_stills() -> list[tuple[str, int, str]]:
        return next(recording for recording in find_recordings(root) if recording.name == STILLS).contents

    contents = contents_of_stills()
    assert [name for name, _, _ in contents] == [
        f"{band}/{stem}.png" for band in ("visible", "thermal") for stem in "abc"
    ]
    (root / STILLS / "vis" / "b.png").write_bytes(b"changed")
    assert contents_of_stills() != contents


def test_links_to_files_are_read_and_links_to_folders_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = make_archive(tmp_path / "real", frames=2) / "yard"
    (tmp_path / "archive" / "linked").mkdir(parents=True)
    for path in real.iterdir():
        (tmp_path / "archive" / "linked" / path.name).symlink_to(path)
    (tmp_path / "archive" / "elsewhere").symlink_to(real)
    (found,) = find_recordings(tmp_path / "archive")
    assert found.name == "linked"
    assert found.visible.size_bytes == (real / "vi.mp4").stat().st_size
    assert f"{tmp_path / 'archive' / 'elsewhere'} is a link to a folder, which is not searched" in caplog.text


def test_the_folder_itself_other_names_and_what_is_left_out(tmp_path: Path) -> None:
    root = make_archive(tmp_path / "archive", frames=2)
    assert [recording.name for recording in find_recordings(root / "yard")] == ["yard"]
    (root / "yard" / "vi.mp4").rename(root / "yard" / "left.mp4")
    assert [recording.name for recording in find_recordings(root, visible=["left"])] == ["yard"]
    names = [recording.name for recording in find_recordings(root, leave_out=root / "drive")]
    assert names == [STILLS]
    (root / ".trash").mkdir()
    (root / "drive").rename(root / ".trash" / "drive")
    assert [recording.name for recording in find_recordings(root)] == [STILLS]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    root = make_archive(tmp_path / "archive", frames=2, videos=())
    (root / "closed").mkdir(mode=0o000)
    with pytest.raises(ConfigError, match=r"cannot read the folder .*closed"):
        find_recordings(root)
    (root / "closed").chmod(0o700)


def test_nothing_or_two_of_one_band_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recording in .*--vis-name"):
        find_recordings(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        find_recordings(tmp_path / "nowhere")
    root = make_archive(tmp_path / "archive", frames=2)
    (root / "yard" / "visible.mkv").touch()
    with pytest.raises(ConfigError, match=r"yard holds vi\.mp4 and visible\.mkv"):
        find_recordings(root)


def test_the_case_of_letters_means_nothing(tmp_path: Path) -> None:
    for name in ("RGB.MP4", "Thermal.mkv"):
        (tmp_path / name).touch()
    (found,) = find_recordings(tmp_path)
    assert (list(found.visible.files), list(found.thermal.files)) == (["RGB.MP4"], ["Thermal.mkv"])


def test_recordings_side_by_side_in_one_folder(tmp_path: Path) -> None:
    names = ("DJI_0001_T.MP4", "DJI_0001_V.MP4", "DJI_0002_T.MP4", "DJI_0002_V.MP4", "DJI_0003_T.MP4", "notes.mp4")
    for name in names:
        (tmp_path / "day" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "day" / name).touch()
    for name in ("walk_ir", "walk_vis"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    found = {recording.name: recording for recording in find_recordings(tmp_path)}
    assert list(found) == ["day/DJI_0001", "day/DJI_0002", f"{tmp_path.name}/walk"]
    assert list(found["day/DJI_0002"].thermal.files) == ["DJI_0002_T.MP4"]
    assert list(found["day/DJI_0002"].visible.files) == ["DJI_0002_V.MP4"]
    assert found[f"{tmp_path.name}/walk"].visible.place == str(tmp_path / "walk_vis")
    (tmp_path / "day" / "dji_0002_rgb.mp4").touch()
    (tmp_path / "day" / "DJI_0002_W.mkv").touch()
    with pytest.raises(ConfigError, match=r"day holds .*; leave one of them"):
        find_recordings(tmp_path)
