"""One small picture that stands for a recording."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtfusion.errors import SinkError
from rtfusion.sinks.thumbnail import WIDTH_PX, ThumbnailSink


def test_it_is_of_the_second_half_and_small(tmp_path, make_frame):
    sink = ThumbnailSink(tmp_path / "t.jpg")
    for sequence in range(11):
        sink.write(make_frame(sequence, image=np.full((480, 640, 3), 20 * sequence, np.uint8)))
    sink.close(aborted=False)
    image = cv2.imread(str(tmp_path / "t.jpg"))
    assert image.shape == (180, WIDTH_PX, 3)
    assert abs(float(image.mean()) - 140) < 2, "the eighth of eleven"


def test_without_a_frame_there_is_none(tmp_path):
    ThumbnailSink(tmp_path / "t.jpg").close(aborted=False)
    assert not (tmp_path / "t.jpg").exists()


def test_a_place_that_is_not_there(tmp_path, make_frame):
    sink = ThumbnailSink(tmp_path / "gone" / "t.jpg")
    sink.write(make_frame(0))
    with pytest.raises(SinkError, match="make room"):
        sink.close(aborted=False)
