"""Archives of recordings: every one fused once, none lost, whatever is killed on the way.

A recording is fused into a folder of its own that nobody looks at and appears under its name when it is whole: so a result is
there if and only if it is done, and doing it again gives the same files. Whoever dies in the middle leaves only what nobody
looks at. `run` hands recordings to processes of this machine, or to Ray, and accounts for each of them; archives and results lie
on this machine or on any storage (`rtfusion.batch.storage`).
"""

from __future__ import annotations

from rtfusion.batch.account import Account, Entry, Summary, summarize
from rtfusion.batch.archive import Recording, find_recordings
from rtfusion.batch.rules import Rule, by_rules, read_rules
from rtfusion.batch.run import Told, run
from rtfusion.batch.work import Job, make_jobs

__all__ = [
    "Account",
    "Entry",
    "Job",
    "Recording",
    "Rule",
    "Summary",
    "Told",
    "by_rules",
    "find_recordings",
    "make_jobs",
    "read_rules",
    "run",
    "summarize",
]
