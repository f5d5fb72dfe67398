"""Which images belong together, by their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture.names import Matched, match, times_ns
from rtfusion.errors import ConfigError

MS = 1_000_000


def pairs(first: list[str], second: list[str], way: str | None = None) -> tuple[list[tuple[str, str]], Matched]:
    found = match(first, second, uris=("vis", "ir"), way=way)
    others = {place: name for name, place in found.second.items()}
    return [(name, others[place]) for name, place in found.first.items() if place in others], found


STYLES = [
    ("DJI_202401011200{0:02d}_{0:04d}_V", "DJI_202401011200{0:02d}_{0:04d}_T"),
    ("FLIR_{:05d}_RGB", "FLIR_{:05d}_PreviewData"),
    ("RGB_{:04d}", "IR_{:04d}"),
    ("{:04d}_vis", "{:04d}_ir"),
    ("{}", "{:06d}"),
    ("frame{}", "img-{:03d}-lwir"),
    ("cam0_{:04d}", "cam1_{:04d}"),
    ("2024-05-01 visible {}", "2024-05-01 thermal {}"),
]


@pytest.mark.parametrize(("visible", "thermal"), STYLES)
def test_names_that_differ_in_what_a_folder_has_in_common(visible: str, thermal: str) -> None:
    first, second = ([style.format(number) for number in range(1, 13)] for style in (visible, thermal))
    found, matched = pairs(first, second)
    equal = sum(name == other for name, other in zip(first, second, strict=True))
    assert found == list(zip(first, second, strict=True)) or equal
    if not equal:
        assert matched.notes == (
            f"vis and ir are paired by what their names have in common, as {first[0]} and {second[0]}: 12 pairs",
        )


def test_what_has_no_partner_keeps_its_place_in_time() -> None:
    first = [f"{number}_V" for number in (1, 2, 3, 10)]
    second = [f"{number}_T" for number in (2, 10, 11)]
    found, matched = pairs(first, second)
    assert found == [("2_V", "2_T"), ("10_V", "10_T")]
    assert matched.first == {"1_V": 0, "2_V": 1, "3_V": 2, "10_V": 3}
    assert matched.second == {"2_T": 1, "10_T": 3, "11_T": 4}
    assert "2 of 4 images are only in vis and stay unpaired: 1_V, 3_V" in matched.notes


def test_two_names_that_would_be_one_are_not_guessed_at() -> None:
    with pytest.raises(ConfigError, match="no image name in common"):
        match(["1_V", "1_W"], ["1_T", "01_T"], uris=("vis", "ir"))


def test_by_order_only_when_it_is_asked_for() -> None:
    first, second = ["a", "b", "c"], ["x1", "x5", "x9"]
    with pytest.raises(ConfigError, match=r"\?match=order pairs them one by one, 3 and 3"):
        match(first, second, uris=("vis", "ir"))
    found, matched = pairs(first, second, "order")
    assert found == [("a", "x1"), ("b", "x5"), ("c", "x9")]
    assert matched.notes == ("vis and ir are paired by their order, a with x1",)
    with pytest.raises(ConfigError, match="hold 3 and 2 images; match=order needs equally many"):
        match(first, second[:2], uris=("vis", "ir"), way="order")
    with pytest.raises(ConfigError, match="in common") as caught:
        match(first, second[:2], uris=("vis", "ir"))
    assert "match=order" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "time_ns"),
    [
        ("1571658200", 1571658200 * 10**9),
        ("1571658200.5", 15716582005 * 10**8),
        ("1571658200_123456789", 1571658200123456789),
        ("1571658200123", 1571658200123 * MS),
        ("1571658200123456", 1571658200123456000),
        ("thermal_1571658200123456789", 1571658200123456789),
    ],
)
def test_names_that_are_times(name: str, time_ns: int) -> None:
    later = name.replace("1571658200", "1571658201")
    assert times_ns([name, later]) == {name: time_ns, later: time_ns + 10**9}


@pytest.mark.parametrize("names", [["0000000001", "0000000002"], ["1571658200", "x"], ["20240101120000"]])
def test_names_that_are_none(names: list[str]) -> None:
    assert times_ns(names) == {}


def test_folders_of_times_are_paired_by_them() -> None:
    start = 1571658200 * 10**9
    first = [str(start + index * 100 * MS) for index in range(4)]
    second = [str(start + index * 100 * MS + 7 * MS) for index in range(4)]
    found = match(first, second, uris=("vis", "ir"))
    assert found.by_time
    assert list(found.first.values()) == [index * 100 * MS for index in range(4)]
    assert list(found.second.values()) == [index * 100 * MS + 7 * MS for index in range(4)]
    assert found.notes == ("vis and ir are paired by the times in their names",)
    with pytest.raises(ConfigError, match="are not all times"):
        match(first, ["a"], uris=("vis", "ir"), way="time")


@given(st.sets(st.integers(0, 99), min_size=1), st.sets(st.integers(0, 99), min_size=1), st.sampled_from(STYLES))
def test_no_pair_of_two_numbers_and_no_place_twice(
    visible: set[int], thermal: set[int], style: tuple[str, str]
) -> None:
    first, second = (
        [one.format(number) for number in sorted(some)] for one, some in zip(style, (visible, thermal), strict=True)
    )
    numbers = dict(zip(first, sorted(visible), strict=True)) | dict(zip(second, sorted(thermal), strict=True))
    try:
        found, matched = pairs(first, second)
    except ConfigError:
        assert not visible & thermal or len(visible) == 1 or len(thermal) == 1
        return
    for places in (matched.first, matched.second):
        assert len(set(places.values())) == len(places)
        assert all(0 <= place < matched.length for place in places.values())
    if min(len(visible), len(thermal)) > 1 and not set(first) & set(second):
        assert all(numbers[name] == numbers[other] for name, other in found)
