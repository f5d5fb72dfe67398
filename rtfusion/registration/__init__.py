"""From a calibration file to remap tables and a valid mask."""

from rtfusion.registration.calibration import Calibration, CameraModel, Pose, Quality, scale_px
from rtfusion.registration.maps import Registration, Warp, Weights, register

__all__ = ["Calibration", "CameraModel", "Pose", "Quality", "Registration", "Warp", "Weights", "register", "scale_px"]
