"""Pages of one file: nothing unescaped, nothing left out, pictures inside."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError

from rtfusion.errors import ConfigError
from rtfusion.page import jpeg_uri, write_page


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text('<p>{{ note }}</p><img src="{{ picture | jpeg }}">')
    return path


def test_text_is_escaped_and_pictures_are_inside(template: Path, tmp_path: Path) -> None:
    gray = np.full((8, 16), 90, np.uint8)
    write_page(tmp_path / "out.html", template=template, note="<b> & co", picture=gray)
    page = (tmp_path / "out.html").read_text()
    assert page.startswith("<p>&lt;b&gt; &amp; co</p>")
    data = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
    assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) == 90).all()
    assert jpeg_uri(np.dstack([gray] * 3)) in page, "gray and color alike"


def test_only_pictures_that_are_too_high_are_made_smaller() -> None:
    data = base64.b64decode(jpeg_uri(np.zeros((64, 48), np.uint8), height_px=32).partition("base64,")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (32, 24, 3)
    low = np.zeros((16, 48), np.uint8)
    assert jpeg_uri(low, height_px=32) == jpeg_uri(low)


def test_a_value_that_is_not_given_is_an_error_and_nothing_is_written(template: Path, tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="picture"):
        write_page(tmp_path / "out.html", template=template, note="a")
    assert not (tmp_path / "out.html").exists()


def test_a_page_that_cannot_be_written_is_told(template: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the report .*out\.html: No such file"):
        write_page(tmp_path / "no" / "out.html", template=template, note="a", picture=np.zeros((8, 8), np.uint8))
