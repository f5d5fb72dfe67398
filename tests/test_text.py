"""Sizes, misspelt words and hosts as people write them."""

from __future__ import annotations

import pytest

from rtfusion.errors import ConfigError
from rtfusion.text import did_you_mean, is_loopback, parse_size_px


def test_a_size_is_width_and_height() -> None:
    assert parse_size_px("640x480") == (640, 480)


@pytest.mark.parametrize("text", ["", "640", "640x", "x480", "0x480", "640x-480", "640X480", "640x480x3", "640x480\n"])
def test_what_is_no_size_is_refused_with_the_form_and_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--size is '.*'; expected WIDTHxHEIGHT in pixels, such as 640x480"):
        parse_size_px(text, option="--size")


def test_the_nearest_word_is_offered_and_only_where_one_is_near() -> None:
    known = ["pyramid", "average"]
    assert did_you_mean("piramid", known) == "; did you mean pyramid?"
    assert did_you_mean("piramid", known, hint="did you mean {}: ? ") == "did you mean pyramid: ? "
    assert did_you_mean("xyz", known) == ""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_this_machine_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "*", "::", "192.168.1.4", "localhost.example", "eth0"])  # noqa: S104
def test_what_others_can_reach_is_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
