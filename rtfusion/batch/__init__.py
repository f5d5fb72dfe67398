"""Archives of recordings: every one fused once, none lost, whatever is killed on the way.

A recording is fused into a folder of its own that nobody looks at (``.rtfusion-batch/…``) and appears under its name by one
rename when it is whole: so a name is there if and only if it is done, and doing it again gives the same files. Whoever dies in
the middle leaves only what nobody looks at. `run` hands recordings to processes of this machine, or to Ray.
"""

from __future__ import annotations

from rtfusion.batch.archive import Recording, find_recordings
from rtfusion.batch.run import Summary, run
from rtfusion.batch.work import Job, precision_of_results

__all__ = ["Job", "Recording", "Summary", "find_recordings", "precision_of_results", "run"]
