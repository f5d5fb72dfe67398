from __future__ import annotations

from pathlib import Path

import pytest

from rtfusion.files import expanded, replacing, write_whole


def test_the_home_of_nobody_is_no_error_but_a_file_that_is_not_there() -> None:
    assert expanded("~nobody-is-called-so/x") == Path("~nobody-is-called-so/x")
    assert expanded("~/x") == Path.home() / "x"
    assert expanded(Path("/a/b")) == Path("/a/b")


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "rig.json"
    write_whole(target, "old")
    write_whole(target, "größer", durable=True)
    assert target.read_text(encoding="utf-8") == "größer"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_while_it_is_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_that_is_taken_by_a_folder_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"), replacing(tmp_path / "taken") as part:
        part.write_bytes(b"whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_a_link_is_followed_and_a_device_written_to(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    write_whole(Path("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == plain.stat().st_mode
