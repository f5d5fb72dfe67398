"""Which images of two folders belong together, by their names. Pure: names in, places on one axis of time out.

========= ======================================================================================================
names     equal names; else names that are equal but for what all names of a folder have in common, as in
          ``DJI_0001_T`` and ``DJI_0001_V``, ``IR_7`` and ``RGB_0007``, ``FLIR_7_PreviewData`` and ``FLIR_7_RGB``
time      names that are times, as ROS writes them: seconds, milli-, micro- or nanoseconds since 1970
order     one by one, of equally many; only when it is asked for
========= ======================================================================================================
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.types import Band

WAYS = ("names", "time", "order")
NAMES_SHOWN = 5

_PARTS = re.compile(r"\d+|[^\W\d_]+")
_TIME = re.compile(r"(?:.*\D)?(\d{10})(?:[._](\d{1,9})|(\d{3}|\d{6}|\d{9}))?")
_THERMAL_WORDS = "t", "ir", "irx", "thermal", "infrared", "lwir", "mwir", "previewdata", "preview"
_VISIBLE_WORDS = (
    "v",
    "w",
    "z",
    "rgb",
    "vi",
    "vis",
    "visible",
    "optical",
    "eo",
    "color",
    "colour",
    "gray",
    "grey",
    "wide",
    "zoom",
)
_PLAUSIBLE_S = range(10**9, 4 * 10**9)
"""Seconds since 1970 of the years 2001 to 2096: smaller numbers count something else."""
_WORDS = {Band.VISIBLE: _VISIBLE_WORDS, Band.THERMAL: _THERMAL_WORDS}
_BAND_WORDS = frozenset([*_THERMAL_WORDS, *_VISIBLE_WORDS])
"""Words that say which camera an image is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """The places of the names of two folders on one axis."""

    first: Mapping[str, int]
    """Name to place: a number of periods or, by time, nanoseconds."""
    second: Mapping[str, int]
    length: int
    """Places of one round."""
    by_time: bool = False
    notes: tuple[str, ...] = field(default=())


def match(first: Sequence[str], second: Sequence[str], *, uris: tuple[str, str], way: str | None = None) -> Matched:
    """Match the names of two folders, each in its natural order; ``uris`` name the folders in messages.

    Raises:
        ConfigError: nothing belongs together, or not as it was asked for.
    """
    if way == "order":
        return _by_order(first, second, uris)
    shared = set(first) & set(second)
    times = (times_ns(first), times_ns(second))
    if way == "time" or (way is None and all(times) and set(first) != set(second)):
        return _by_time(times, uris)
    if shared:
        same = {name: name for name in (*first, *second)}
        return _by_keys(first, second, same, same, uris)
    keys = _keys(first), _keys(second)
    if keys[0] and keys[1] and set(keys[0].values()) & set(keys[1].values()):
        matched = _by_keys(first, second, *keys, uris)
        return replace(matched, notes=(_example(*keys, uris), *matched.notes))
    equally_many = (
        f"; ?match=order pairs them one by one, {len(first)} and {len(second)}" if len(first) == len(second) else ""
    )
    raise ConfigError(
        f"{uris[0]} and {uris[1]} have no image name in common ({some(first)} and "
        f"{some(second)}); name the two images of a moment alike{equally_many}"
    )


def _by_order(first: Sequence[str], second: Sequence[str], uris: tuple[str, str]) -> Matched:
    if len(first) != len(second):
        raise ConfigError(
            f"{uris[0]} and {uris[1]} hold {len(first)} and {len(second)} images; match=order needs equally many"
        )
    note = f"{uris[0]} and {uris[1]} are paired by their order, {first[0]} with {second[0]}"
    places = [{name: index for index, name in enumerate(names)} for names in (first, second)]
    return Matched(first=places[0], second=places[1], length=len(first), notes=(note,))


def _by_time(times: tuple[Mapping[str, int], Mapping[str, int]], uris: tuple[str, str]) -> Matched:
    for uri, found in zip(uris, times, strict=True):
        if not found:
            raise ConfigError(
                f"{uri}: the names of its images are not all times; match=time needs seconds since 1970 in each"
            )
    begin_ns = min(min(found.values()) for found in times)
    end_ns = max(max(found.values()) for found in times)
    places = [{name: time_ns - begin_ns for name, time_ns in found.items()} for found in times]
    note = f"{uris[0]} and {uris[1]} are paired by the times in their names"
    return Matched(first=places[0], second=places[1], length=end_ns - begin_ns, by_time=True, notes=(note,))


def _by_keys(
    first: Sequence[str],
    second: Sequence[str],
    first_keys: Mapping[str, str],
    second_keys: Mapping[str, str],
    uris: tuple[str, str],
) -> Matched:
    """Equal keys have equal places: those of the sorted union."""
    own, other = {first_keys[name] for name in first}, {second_keys[name] for name in second}
    place = {key: index for index, key in enumerate(sorted(own | other, key=natural_key))}
    notes = []
    for uri, names, keys, others in ((uris[0], first, first_keys, other), (uris[1], second, second_keys, own)):
        lone = [name for name in names if keys[name] not in others]
        if lone:
            notes.append(f"{len(lone)} of {len(names)} images are only in {uri} and stay unpaired: {some(lone)}")
    return Matched(
        first={name: place[first_keys[name]] for name in first},
        second={name: place[second_keys[name]] for name in second},
        length=len(place),
        notes=tuple(notes),
    )


def _keys(names: Sequence[str]) -> dict[str, str]:
    """What is left of each name without what all names of its folder have in common; empty where that is ambiguous.

    Numbers are compared as numbers: 7 is 0007.
    """
    parts = {name: _PARTS.findall(name) for name in names}
    count = len(next(iter(parts.values())))
    alike = all(len(of) == count for of in parts.values())
    constant = [alike and len(names) > 1 and len({of[at] for of in parts.values()}) == 1 for at in range(count)]
    everywhere = Counter(word.lower() for of in parts.values() for word in set(of) if not word.isdecimal())
    keys: dict[str, str] = {}
    for name, of in parts.items():
        kept: list[str] = []
        for at, part in enumerate(of):
            is_constant = constant[at] if alike else everywhere[part.lower()] == len(names) > 1
            if is_constant or part.lower() in _BAND_WORDS:
                continue
            kept.append(str(int(part)) if part.isdecimal() else part.lower())
        keys[name] = "_".join(kept)
    return keys if all(keys.values()) and len(set(keys.values())) == len(names) else {}


def _example(first: Mapping[str, str], second: Mapping[str, str], uris: tuple[str, str]) -> str:
    others = {key: name for name, key in second.items()}
    pairs = [(name, others[key]) for name, key in first.items() if key in others]
    like = f"{pairs[0][0]} and {pairs[0][1]}"
    return f"{uris[0]} and {uris[1]} are paired by what their names have in common, as {like}: {len(pairs)} pairs"


def band_of(name: str) -> tuple[Band | None, str]:
    """The band that a word of a name says, and the rest of the name; None where no word says one, or words of both do."""
    parts = _PARTS.findall(name)
    rest = "_".join(part for part in parts if part.lower() not in _BAND_WORDS)
    said = {band for band, words in _WORDS.items() if any(part.lower() in words for part in parts)}
    return (said.pop() if len(said) == 1 else None), rest


def times_ns(names: Sequence[str]) -> dict[str, int]:
    """Nanoseconds since 1970 that the names say, in the order of the names; empty unless all do, and rise."""
    found: dict[str, int] = {}
    for name in names:
        match = _TIME.fullmatch(name)
        if match is None or int(match[1]) not in _PLAUSIBLE_S:
            return {}
        rest = match[2] or match[3] or ""
        found[name] = int(match[1]) * NS_PER_S + int(rest.ljust(9, "0"))
    if len(names) < 2 or len(set(found.values())) != len(found):
        return {}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key by which img2 comes before img10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part.casefold() for index, part in enumerate(parts)], name


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
