"""Compares fused frames with those of a recorded session, by their checksums; keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtfusion.errors import SinkError
from rtfusion.files import expanded
from rtfusion.session.format import load_session
from rtfusion.session.record import crc32
from rtfusion.sinks.base import SinkContext
from rtfusion.types import FusedFrame


class CompareSink:
    """Counts the frames that are bit for bit those of the session; any other one makes the run fail at its end."""

    def __init__(self, target: str, *, uri: str, context: SinkContext) -> None:
        """Read what to expect.

        Raises:
            CaptureError: there is no session.
        """
        self.uri = uri
        self._note = context.note
        session = load_session(expanded(target))
        self._expected = {pair.sequence: pair.fused_crc32 for pair in session.pairs()}
        recorded, now = (_arithmetic(settings) for settings in (session.settings, context.settings))
        self._differs = f"recorded {recorded}, fused now {now}; " if recorded != now else ""
        self._same = self._different = 0

    def write(self, frame: FusedFrame) -> None:
        """Compare one frame."""
        if frame.pair is not None and self._expected.get(frame.pair.sequence) == crc32(frame):
            self._same += 1
        else:
            self._different += 1

    def close(self, *, aborted: bool) -> None:
        """Say how it was.

        Raises:
            SinkError: a frame differed.
        """
        result = f"{self._same} of {self._same + self._different} fused frames are bit for bit those recorded"
        if self._note is not None:
            self._note(f"{self.uri}: {result}")
        if self._different and not aborted:
            raise SinkError(
                f"{self.uri}: {result}; {self._differs}other settings, another version, a model or a registration "
                "changed while recording, or pairs that were not recorded make others"
            )


def _arithmetic(settings: Mapping[str, Any]) -> str:
    """Say what decides the last bits of a network: ``in precision int8 with kernels``."""
    return f"in precision {settings.get('precision')} {'with' if settings.get('kernels') else 'without'} kernels"
