"""Everything rtfusion raises on purpose, in one small tree.

::

    FusionError                                    exit code
    ├── ConfigError        (ValueError)                2      an option, a file of settings, an output that cannot be made
    │   └── CalibrationError                           2      a calibration file that cannot be used here
    ├── CaptureError       (OSError)                   3      a source that cannot be opened
    │   ├── CaptureTimeout (TimeoutError)              3      no frame within the time asked for
    │   └── StreamLost                                 5      a source that broke while running
    ├── EndOfStream        (EOFError)                  -      a recording is over: control flow, not a failure
    ├── ModelError         (ValueError)                4      a model file that cannot be read or does not fit
    ├── EngineError        (RuntimeError)              4      an engine that failed to load or to run
    │   └── EngineUnavailable (ImportError)            4      the message names the extra to install
    ├── SinkError          (OSError)                   5      an output that broke while running: disk full, device gone
    ├── StorageError       (OSError)                   5      a storage that does not answer, or takes nothing
    └── WireError          (ValueError)                5      a message that is not of the wire format

Messages say what came, what was expected and what to do. Each error is also the matching builtin, so that
``except TimeoutError`` works. The exit codes are those of the command line; 0 is success, 1 a bug in rtfusion,
130 an interrupt (Ctrl-C), 143 a termination request.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_BUG = 1
EXIT_INTERRUPTED = 130


class FusionError(Exception):
    """Base of every error that rtfusion raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(FusionError, ValueError):
    """An option or a settings file is wrong, or an output cannot be made."""

    exit_code = 2


class CalibrationError(ConfigError):
    """A calibration file is malformed, of another schema, or made for other cameras."""


class CaptureError(FusionError, OSError):
    """A source cannot be opened."""

    exit_code = 3


class CaptureTimeout(CaptureError, TimeoutError):  # noqa: N818 - the field says timeout
    """A source delivered no frame within the time asked for."""


class StreamLost(CaptureError):  # noqa: N818 - a state of the stream, as in the field
    """A source broke while running."""

    exit_code = 5


class EndOfStream(FusionError, EOFError):  # noqa: N818 - control flow, not a failure
    """A recording has no further frame."""


class ModelError(FusionError, ValueError):
    """A model file cannot be read, or its contract does not fit."""

    exit_code = 4


class EngineError(FusionError, RuntimeError):
    """An inference engine failed to load a model or to run it."""

    exit_code = 4


class EngineUnavailable(EngineError, ImportError):  # noqa: N818 - a state of the installation
    """An engine is not installed; the message names the extra to install."""


class SinkError(FusionError, OSError):
    """An output broke while running."""

    exit_code = 5


class StorageError(FusionError, OSError):
    """A storage does not answer, or does not take what is written to it."""

    exit_code = 5


class WireError(FusionError, ValueError):
    """A message does not follow the wire format."""

    exit_code = 5
