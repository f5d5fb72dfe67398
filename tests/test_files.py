from __future__ import annotations

from pathlib import Path

from rtfusion.files import expanded


def test_the_home_of_nobody_is_no_error_but_a_file_that_is_not_there() -> None:
    assert expanded("~nobody-is-called-so/x") == Path("~nobody-is-called-so/x")
    assert expanded("~/x") == Path.home() / "x"
    assert expanded(Path("/a/b")) == Path("/a/b")
