from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.evaluate import plot

NAMESPACE = "{http://www.w3.org/2000/svg}"
positive = st.floats(1e-3, 1e5)


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{NAMESPACE}{tag}"))  # noqa: S314 - made here


def test_bars_are_as_long_as_their_values() -> None:
    svg = plot.bars("a < b", {"one": {"x": 1.0, "y": 3.0}, "two": {"x": 2.0}}, unit="ms")
    widths = [float(r.get("width", "")) for r in elements(svg, "rect") if r.find(f"{NAMESPACE}title") is not None]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2)
    texts = [text.text for text in elements(svg, "text")]
    assert {"a < b", "4 ms", "2 ms", "one", "two", "x", "y"} <= set(texts)


@given(points=st.lists(st.tuples(positive, positive), min_size=1, max_size=8), log=st.booleans())
def test_points_lie_inside_and_in_order(points: list[tuple[float, float]], log: bool) -> None:
    svg = plot.lines("t", {"s": points}, x_label="x", y_label="y", log=log)
    places = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in elements(svg, "circle")]
    assert all(0 <= x <= plot.WIDTH and 0 <= y <= 400 and math.isfinite(x + y) for x, y in places)
    by_x = sorted(zip(points, places, strict=True))
    assert [place[0] for _, place in by_x] == sorted(place[0] for place in places)
    higher = sorted(zip((y for _, y in points), (y for _, y in places), strict=True))
    assert [place for _, place in higher] == sorted((y for _, y in places), reverse=True), "up is more"


def test_a_log_axis_has_equal_steps_for_equal_factors() -> None:
    svg = plot.lines("t", {"s": [(1, 1), (10, 10), (100, 100)]}, x_label="x", y_label="y", log=True)
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
