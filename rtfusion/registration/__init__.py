"""From a calibration file to remap tables and a valid mask."""

from rtfusion.registration.calibration import Calibration, CameraModel, Pose, Quality, load_calibration, scale_px
from rtfusion.registration.maps import Registration, Warp, Weights, register
from rtfusion.registration.pair import PairShape, RegisteredPair

__all__ = [
    "Calibration",
    "CameraModel",
    "PairShape",
    "Pose",
    "Quality",
    "RegisteredPair",
    "Registration",
    "Warp",
    "Weights",
    "load_calibration",
    "register",
    "scale_px",
]
