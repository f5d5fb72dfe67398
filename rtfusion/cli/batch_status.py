"""What a batch shows: a line on how it stands, a table at its end, and the same of one that runs elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rtfusion.cli.console import say, show, show_text, table

if TYPE_CHECKING:
    from rich.progress import Progress

    from rtfusion.batch import Account, Entry, Summary
    from rtfusion.batch.estimate import Estimate
    from rtfusion.batch.run import Standing
    from rtfusion.batch.storage import Store

PERIOD_S = {True: 0.25, False: 30.0}
"""How often the line is shown, on a terminal and elsewhere."""
ROWS = 40
"""Recordings that a table holds; of more, only those that are not done."""


class BatchStatus:
    """Shows on stderr how a batch stands: a bar for a person, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._for_person = sys.stderr.isatty()
        self._next_s = time.monotonic() + PERIOD_S[self._for_person]
        self._display: Progress | None = None

    def __enter__(self) -> BatchStatus:
        return self

    def __exit__(self, *error: object) -> None:
        if self._display is not None:
            with suppress(OSError, SystemExit):
                self._display.stop()

    def say(self, text: str) -> None:
        """Tell of a recording."""
        if self._display is None:
            say(text)
            return
        with suppress(OSError, SystemExit):
            self._display.console.print(f"rtfusion: {text}", markup=False, highlight=False)

    def show(self, standing: Standing) -> None:
        """Show how things stand, when it is time to."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + PERIOD_S[self._for_person]
        if not self._for_person:
            say(line(standing.plain()))
            return
        with suppress(OSError, SystemExit):
            if self._display is None:
                self._display = _display(standing.recordings)
            (task,) = self._display.task_ids
            self._display.update(task, completed=standing.done, status=line(standing.plain()), refresh=True)


def _display(total: int) -> Progress:
    from rich import progress
    from rich.console import Console

    columns = progress.BarColumn(bar_width=20), progress.TextColumn("{task.fields[status]}", markup=False)
    display = progress.Progress(*columns, console=Console(stderr=True), auto_refresh=False)
    display.add_task("", total=total, status="")
    display.start()
    return display


def line(standing: Mapping[str, Any]) -> str:
    """Recordings, frames, time left and cost in one line."""
    parts = [f"{standing['done']} of {standing['recordings']} recordings", f"{standing['frames']} frames"]
    if standing["left_s"] is not None:
        parts.append(f"{duration(standing['left_s'])} left")
    if standing["core_hours"] is not None:
        parts.append(f"about {standing['core_hours']:.2g} core-hours in all")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as people say it, in its largest unit."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def tell(out: Store, summary: Summary, *, before: Mapping[str, int], elapsed_s: float, as_json: bool) -> None:
    """Show the end of a batch; ``before`` is what it found, by state."""
    if as_json:
        show_text(json.dumps({"out": out.shown, **summary.plain()}, ensure_ascii=False) + "\n")
        return
    from rtfusion.batch import Account

    entries = Account(out).entries
    done, failed, unfinished = (summary.states.get(state, 0) for state in ("done", "failed", "unfinished"))
    rows = [
        f"{summary.recordings} recordings: {before.get('done', 0)} were done, {done - before.get('done', 0)} fused now "
        f"in {elapsed_s:.1f} s, {failed} failed"
        + (f", {unfinished} unfinished" if unfinished else "")
        + f"; in all {summary.frames} frames, {summary.cpu_s:.1f} s of a core"
    ]
    if summary.restarts:
        rows.append(f"{summary.restarts} times a recording was begun again; the account says why")
    if before.get("failed"):
        rows.append(f"{before['failed']} had failed before and were not tried again; --retry failed does")
    rows += [f"{entries[name].state}: {name}: {error}" for name, error in summary.failed.items()]
    _show_lines(rows)
    _show_table(entries)


def tell_estimate(estimate: Estimate, *, jobs: int, as_json: bool) -> None:
    """Show what an archive will cost."""
    if as_json:
        show_text(json.dumps(estimate.plain(), ensure_ascii=False) + "\n")
        return
    rows = [f"{estimate.recordings} recordings, {estimate.left} to do: {estimate.bytes_left / 1e9:.3g} GB"]
    if estimate.hours is not None and estimate.core_hours is not None:
        recorded = f"about {duration(estimate.hours * 3600)} of recordings" if estimate.hours else "stills"
        rows[0] += f", {recorded}"
        rows.append(
            f"about {estimate.core_hours:.2g} core-hours, {duration(estimate.core_hours * 3600 / jobs)} by {jobs} cores, by the "
            f"beginnings of {estimate.samples} of them; decoding and encoding included, transfers not"
        )
    rows += [f"cannot be fused: {name}: {error}" for name, error in estimate.unreadable.items()]
    _show_lines(rows)


def show_status(place: str, *, as_json: bool) -> int:
    """Show how the batch stands that writes, or wrote, into a place; the exit code is that of the batch, or 0 while it runs.

    Raises:
        ConfigError: no batch was there.
        StorageError: the storage does not answer.
    """
    from rtfusion.batch import summarize
    from rtfusion.batch.lease import running
    from rtfusion.errors import EXIT_INTERRUPTED

    out, account = _results(place)
    alive = running(out)
    entries = account.entries
    summary = summarize(entries)
    standing = (alive or {}).get("progress") or None
    if as_json:
        said = {"out": out.shown, "running": alive is not None, "progress": standing, **summary.plain()}
        show_text(json.dumps(said, ensure_ascii=False) + "\n")
    else:
        counts = ", ".join(
            f"{count} {_word(state, alive=alive is not None)}" for state, count in summary.states.items()
        )
        rows = [f"{summary.recordings} recordings: {counts}"]
        if alive is not None:
            rows.append(
                f"running on {alive['host']}, process {alive['pid']}" + (f": {line(standing)}" if standing else "")
            )
        elif {"running", "waiting", "unfinished"} & set(summary.states):
            rows.append("the batch ended before its recordings: run it again, and it goes on")
        if account.damaged:
            rows.append(f"{account.damaged} lines of the account cannot be read: their recordings are looked at again")
        _show_lines(rows)
        _show_table(entries, alive=alive is not None, progress=(standing or {}).get("running", {}))
    if alive is not None:
        return 0
    is_over = not {"running", "waiting"} & set(summary.states)
    return summary.exit_code or (0 if is_over else EXIT_INTERRUPTED)


def _results(place: str) -> tuple[Store, Account]:
    """A place of results, and the account there."""
    from rtfusion.batch import Account
    from rtfusion.batch.account import NAME
    from rtfusion.batch.storage import open_store
    from rtfusion.errors import ConfigError

    out = open_store(place)
    account = Account(out)
    if not account.last_batch:
        raise ConfigError(f"there is no account of a batch in {out.shown} ({NAME})")
    return out, account


def show_index(place: str) -> int:
    """Write the page of the results in a place, and say where it is; the exit code is 0.

    Raises:
        ConfigError: no batch was there.
        StorageError: the storage does not answer.
    """
    from rtfusion.batch.index import write_index

    out, account = _results(place)
    _show_lines([f"{write_index(out, account)} shows {len(account.entries)} recordings"])
    return 0


def _show_lines(lines: Sequence[str]) -> None:
    """Show lines as they are: what stands in brackets is of a name or an error."""
    from rich.text import Text

    show(*map(Text, lines))


def _show_table(
    entries: Mapping[str, Entry], *, alive: bool = False, progress: Mapping[str, Any] | None = None
) -> None:
    from rich.markup import escape

    chosen = [entries[name] for name in sorted(entries)]
    if len(chosen) > ROWS:
        chosen = [entry for entry in chosen if entry.state not in ("done", "waiting")]
    rows = table("recording", "state", "attempts", "frames", "dropped", "CPU s", "cause")
    for entry in chosen[:ROWS]:
        fused, of = (progress or {}).get(entry.recording, (entry.frames.get("fused", ""), None))
        rows.add_row(
            escape(entry.recording),
            _word(entry.state, alive=alive),
            str(entry.attempts or ""),
            f"{fused} of {of}" if of else str(fused),
            str(sum(sum(causes.values()) for causes in entry.drops.values()) or ""),
            f"{entry.cpu_s:.1f}" if entry.cpu_s else "",
            "" if entry.state == "done" else escape(entry.cause),
        )
    if chosen:
        show(rows)
    if len(chosen) > ROWS:
        show(f"and {len(chosen) - ROWS} more in the account")


def _word(state: str, *, alive: bool) -> str:
    return "interrupted" if state == "running" and not alive else state
