"""Real-time fusion of a thermal and a visible camera.

The names below are the public ones. Each is imported when it is first used, so that ``import rtfusion`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtfusion.capture import open_pair, open_source
    from rtfusion.config import Settings
    from rtfusion.errors import (
        CalibrationError,
        CaptureError,
        CaptureTimeout,
        ConfigError,
        EndOfStream,
        EngineError,
        EngineUnavailable,
        FusionError,
        ModelError,
        SinkError,
        StreamLost,
        WireError,
    )
    from rtfusion.focus import Box
    from rtfusion.intents import Intents, Said, say
    from rtfusion.library import FusedStream, Fuser, Registered, fuse, open, register
    from rtfusion.pairs import PairStream, open_pairs
    from rtfusion.pipeline import Pipeline, build
    from rtfusion.publish.subscriber import ReceivedFrame, Subscription, subscribe
    from rtfusion.registration import Calibration
    from rtfusion.sinks import open_sink
    from rtfusion.types import Band, Frame, FramePair, FusedFrame, PixelFormat

__version__ = "0.1.0"

_HOME = {
    "Band": "types",
    "Box": "focus",
    "Calibration": "registration",
    "CalibrationError": "errors",
    "CaptureError": "errors",
    "CaptureTimeout": "errors",
    "ConfigError": "errors",
    "EndOfStream": "errors",
    "EngineError": "errors",
    "EngineUnavailable": "errors",
    "Frame": "types",
    "FramePair": "types",
    "FusedFrame": "types",
    "FusedStream": "library",
    "Fuser": "library",
    "Intents": "intents",
    "FusionError": "errors",
    "ModelError": "errors",
    "PairStream": "pairs",
    "Pipeline": "pipeline",
    "PixelFormat": "types",
    "ReceivedFrame": "publish.subscriber",
    "Registered": "library",
    "Said": "intents",
    "Settings": "config",
    "SinkError": "errors",
    "StreamLost": "errors",
    "Subscription": "publish.subscriber",
    "WireError": "errors",
    "build": "pipeline",
    "fuse": "library",
    "open": "library",
    "open_pair": "capture",
    "open_pairs": "pairs",
    "open_sink": "sinks",
    "open_source": "capture",
    "register": "library",
    "say": "intents",
    "subscribe": "publish.subscriber",
}

__all__ = [
    "Band",
    "Box",
    "Calibration",
    "CalibrationError",
    "CaptureError",
    "CaptureTimeout",
    "ConfigError",
    "EndOfStream",
    "EngineError",
    "EngineUnavailable",
    "Frame",
    "FramePair",
    "FusedFrame",
    "FusedStream",
    "Fuser",
    "FusionError",
    "Intents",
    "ModelError",
    "PairStream",
    "Pipeline",
    "PixelFormat",
    "ReceivedFrame",
    "Registered",
    "Said",
    "Settings",
    "SinkError",
    "StreamLost",
    "Subscription",
    "WireError",
    "build",
    "fuse",
    "open",
    "open_pair",
    "open_pairs",
    "open_sink",
    "open_source",
    "register",
    "say",
    "subscribe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rtfusion' has no attribute {name!r}")
    return getattr(importlib.import_module(f"rtfusion.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
