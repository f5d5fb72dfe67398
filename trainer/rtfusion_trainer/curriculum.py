"""How hard the pairs are that a student sees, and how much its teacher counts: a rule that follows measured errors.

Every `PERIOD_STEPS` the difficulty rises by `RISE` where the student errs hardly more on degraded pairs than on clean ones, and
falls by `FALL` where it errs much more. The teacher counts fully at first, and less as the student comes near to it, down to
`LEAST_WEIGHT`: then what the student is asked for beside it (no halo, steadiness, fidelity) decides. The batch of a step is
made while the step before it runs, so the stage of step n follows from the steps before n - 1, and a resumed run goes on as if
unbroken.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rtfusion.errors import ConfigError

PERIOD_STEPS = 50
RISE, FALL = 0.1, 0.05
BEARABLE = 1.35
"""The error on degraded pairs over that on clean ones, up to which the next ones may be harder."""
LEAST_WEIGHT = 0.6
KINDS = ("rule", "constant")


@dataclass(frozen=True)
class Stage:
    """Difficulty in [0, 1], and the weight of the teacher."""

    difficulty: float
    weight: float = 1.0


class Curriculum:
    """The stages of a run; ``kind`` is one of `KINDS`, and a constant one stays at ``start``."""

    def __init__(self, *, kind: str, start: float) -> None:
        """Begin at ``start``.

        Raises:
            ConfigError: there is no such kind.
        """
        if kind not in KINDS:
            raise ConfigError(f"the preset: curriculum is {kind!r}; expected {' or '.join(KINDS)}")
        self._kind = kind
        self._stages = [Stage(start)]
        self._first: float | None = None
        self._forget()

    def stage(self, step: int) -> Stage:
        """The stage of step ``step``, from 0."""
        return self._stages[min(max(step - 1, 0) // PERIOD_STEPS, len(self._stages) - 1)]

    def see(self, *, finished_steps: int, clean: float, degraded: float) -> None:
        """Take the mean errors of a step on clean and on degraded pairs; NaN where it had none."""
        for name, value in (("clean", clean), ("degraded", degraded)):
            if math.isfinite(value):
                self._sums[name] += value
                self._counts[name] += 1
        if finished_steps % PERIOD_STEPS == 0:
            self._stages.append(self._next())
            self._forget()

    def _next(self) -> Stage:
        now = self._stages[-1]
        if self._kind == "constant" or not all(self._counts.values()):
            return now
        clean, degraded = (self._sums[name] / self._counts[name] for name in ("clean", "degraded"))
        self._first = self._first or clean
        step = RISE if degraded <= BEARABLE * clean else -FALL
        weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * min(1.0, clean / max(self._first, 1e-9))
        return Stage(difficulty=min(1.0, max(0.0, now.difficulty + step)), weight=weight)

    def _forget(self) -> None:
        self._sums = {"clean": 0.0, "degraded": 0.0}
        self._counts = {"clean": 0, "degraded": 0}

    def state_dict(self) -> dict[str, Any]:
        """Plain values that `load_state_dict` takes."""
        stages = [asdict(stage) for stage in self._stages]
        return {"stages": stages, "first": self._first, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave; of a run without a curriculum there is nothing."""
        if state:
            self._stages = [Stage(**stage) for stage in state["stages"]]
            self._first, self._sums, self._counts = state["first"], dict(state["sums"]), dict(state["counts"])
