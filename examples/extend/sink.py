"""A sink of your own: a line of figures for every fused frame, as `--sink csv:FILE` would write it.

python examples/extend/sink.py figures.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any, cast

import rtfusion
from rtfusion import sinks
from rtfusion.errors import ConfigError, SinkError
from rtfusion.sinks import SinkContext
from rtfusion.types import FusedFrame


class CsvSink:
    """One line a frame: its number, its stamp, the mean of the fused picture, the hottest place of the thermal one."""

    def __init__(self, target: str, *, uri: str, context: SinkContext) -> None:
        self.uri = uri
        try:  # "x": what is there already is not written over, unless asked for
            mode = "w" if context.overwrite else "x"
            self._file = Path(target).open(mode, newline="", encoding="utf-8")  # noqa: SIM115 - closed in close
        except OSError as error:
            raise ConfigError(f"{uri}: cannot make the file: {error.strerror}") from error
        self._lines = csv.writer(self._file)
        self._lines.writerow(["sequence", "timestamp_ns", "mean", "hottest_x", "hottest_y"])

    def write(self, frame: FusedFrame) -> None:
        """Take one frame. All calls come from one thread that belongs to this sink, so it may take its time."""
        y, x = divmod(int(frame.thermal.argmax()), frame.thermal.shape[1])
        try:
            self._lines.writerow([frame.sequence, frame.timestamp_ns, round(float(frame.image.mean()), 2), x, y])
        except OSError as error:
            raise SinkError(f"{self.uri}: {error.strerror}") from error

    def close(self, *, aborted: bool) -> None:
        """Finish the file; what an interrupted run wrote is whole as well."""
        self._file.close()


def main() -> None:
    """Fuse a second of the synthetic street into the file that is named."""
    # In the project this is one row of rtfusion.sinks.KINDS; from outside, the row is added before the run is built.
    kinds = cast("dict[str, Any]", sinks.KINDS)
    kinds["csv"] = sinks.Kind(f"{__name__}:CsvSink", "csv:figures.csv")
    street = "synthetic:?scene=smoke&size=320x240&frames=30"
    rtfusion.build(rtfusion.Settings(ir=street, vis=street, sink=f"csv:{sys.argv[1]}")).run()


if __name__ == "__main__":
    main()
