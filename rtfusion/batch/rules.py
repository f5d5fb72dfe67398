"""Settings of parts of an archive, by patterns of the names of recordings: a TOML file with a table for each pattern.

```toml
["car1/*"]
calibration = "car1.json"

["*/night*"]
model = "large"
say = "make people stand out"
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rtfusion.batch.archive import Recording
from rtfusion.batch.storage import is_url
from rtfusion.config import Settings, in_types, read_toml
from rtfusion.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """What the recordings whose names match a pattern are fused by."""

    pattern: str
    """``*`` is any part of a name, slashes too; ``?`` one character; ``[ab]`` one of them. Case counts."""
    values: Mapping[str, object]
    """Settings by name, as their fields have them; files that are named by URL as text."""
    origin: str
    """Where they stand: the file and the pattern."""

    def matches(self, recording: Recording) -> bool:
        """True where it speaks of a recording."""
        return fnmatchcase(recording.name, self.pattern)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read the rules of a file, in its order. Relative paths in it are relative to it.

    Raises:
        ConfigError: it cannot be read, or holds something else than tables of settings, or settings that a batch decides itself.
    """
    return tuple(_rule(pattern, table, path=path) for pattern, table in read_toml(path).items())


def _rule(pattern: str, table: object, *, path: Path) -> Rule:
    origin = f'{path}, ["{pattern}"]'
    if not isinstance(table, Mapping):
        raise ConfigError(
            f'{path} has {pattern} = {table!r}; expected tables of settings by patterns of names, such as ["car1/*"]'
        )
    declared = Settings.declared()
    for name in table:
        if name in declared and "batch" in declared[name].decided_by:
            raise ConfigError(f"{origin} has {name}, which rtfusion batch decides itself")
    urls = {
        name: value
        for name, value in table.items()
        if name in declared and declared[name].path in ("file", "model") and isinstance(value, str) and is_url(value)
    }
    others = {name: value for name, value in table.items() if name not in urls}
    values = {**dict(in_types(others, folder=path.parent, what=origin)), **urls}
    return Rule(pattern=pattern, values=values, origin=f"file {origin}")


def by_rules(recordings: Sequence[Recording], rules: Sequence[Rule]) -> dict[tuple[Rule, ...], list[Recording]]:
    """The recordings by the rules that speak of each, in the order of the rules.

    Raises:
        ConfigError: a rule speaks of no recording.
    """
    found: dict[tuple[Rule, ...], list[Recording]] = {}
    for recording in recordings:
        found.setdefault(tuple(rule for rule in rules if rule.matches(recording)), []).append(recording)
    spoken_of = {rule for matching in found for rule in matching}
    for rule in rules:
        if rule not in spoken_of:
            raise ConfigError(
                f'no recording is called like "{rule.pattern}"; the first one is called "{recordings[0].name}"'
            )
    return found
