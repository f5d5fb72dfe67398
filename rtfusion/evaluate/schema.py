"""The schema of result files: `result.schema.json` is made from it by `python -m rtfusion.evaluate.schema`.

Schema 2 added ``conditions`` (clocks, governor, power mode, throttling); results of schema 1 are still read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rtfusion.errors import ConfigError

SCHEMA = 2
FILE = Path(__file__).with_name("result.schema.json")


class Machine(BaseModel):
    """The machine that was measured; a result may tell more of it."""

    model_config = ConfigDict(extra="allow", strict=True)

    processor: str
    cores: Annotated[int, Field(ge=1)]
    memory_gib: float
    system: str


class Measured(BaseModel):
    """The conditions on that machine while it was measured."""

    model_config = ConfigDict(extra="forbid", strict=True)

    start: dict[str, Any]
    """Load, clocks, governor, power mode, temperatures, counters: what could be read."""
    end: dict[str, Any]
    throttled: list[str]
    """Sentences that say what held the machine back; empty when nothing was seen."""


class Row(BaseModel):
    """One case; its figures are the suite's own."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    case: Annotated[str, Field(min_length=1)]
    ratio: float | None = None
    """The median of ``ratios``."""
    ratios: list[float] | None = None
    """To the baseline of the same round, round by round."""


class Result(BaseModel):
    """A result file of `benchmarks/results`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    schema_: Annotated[Literal[1, 2], Field(alias="schema")]
    suite: Annotated[str, Field(pattern="^[a-z_]+$")]
    commit: Annotated[str, Field(min_length=1)]
    """The commit that was measured, with ``+changes`` where the tree had some."""
    measured_utc: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    machine: Machine
    versions: dict[str, str]
    conditions: Measured | None = None
    """Always present from schema 2 on."""
    settings: dict[str, Any]
    rows: Annotated[list[Row], Field(min_length=1)]

    @model_validator(mode="after")
    def _tells_the_conditions(self) -> Result:
        if self.schema_ >= 2 and self.conditions is None:
            raise ValueError("schema 2 has the conditions of the measurement; they are missing")
        return self


def check(data: Mapping[str, Any], *, name: str) -> None:
    """Hold a result against the schema.

    Raises:
        ConfigError: it does not follow it.
    """
    try:
        Result.model_validate(dict(data))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise ConfigError(f"{name} is no result of the benchmarks: {problems}") from None


def load(path: Path) -> dict[str, Any]:
    """A result file, checked.

    Raises:
        ConfigError: it cannot be read, or does not follow the schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the result {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {type(data).__name__}; expected a result file of the benchmarks")
    check(data, name=str(path))
    return data


def as_json_schema() -> str:
    """Give the JSON schema, with which any other program can check a result file."""
    return json.dumps(Result.model_json_schema(by_alias=True), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_json_schema(), encoding="utf-8")
