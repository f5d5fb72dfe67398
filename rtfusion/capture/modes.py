"""Which of a camera's modes to ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtfusion.capture.profiles import DEEP_BITS, Profile, recognize
from rtfusion.capture.v4l2_device import Mode, SizeRange
from rtfusion.errors import CaptureError
from rtfusion.types import Band

FOURCCS = (
    "YUYV", "UYVY", "YVYU", "VYUY", "NV12", "NV21", "YU12", "YV12", "BGR3", "RGB3", "MJPG", "JPEG", "GREY",
    "Y16", "Y16-BE", "Y14", "Y12", "Y10",
)  # fmt: skip
"""The formats that are decoded; for a visible camera the earlier ones are the better ones at the same size and rate."""
GRAY_FIRST = (*DEEP_BITS, "GREY", *(name for name in FOURCCS if name not in (*DEEP_BITS, "GREY")))
"""The formats in the order in which a thermal camera is asked for them; those of color as for a visible one."""
USUAL_SIZE_PX = 640, 480
USUAL_RATE_HZ = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The wishes of the user for a camera; None leaves one open."""

    fourcc: str | None = None
    size_px: tuple[int, int] | None = None
    rate_hz: float | None = None
    profile: Profile | None = None
    palette: str | None = None


def choose_mode(
    modes: Sequence[Mode], asked: Asked, *, band: Band, usb_id: str | None, name: str = ""
) -> tuple[Mode, float | None]:
    """The mode to ask for, and the rate; None leaves the rate to the driver.

    A visible camera is asked for 640x480 at 30 Hz, uncompressed where that is offered; a thermal one for raw counts, for
    all of them, as fast as it goes. What the user wants comes first; a size that is not listed is tried all the same. Of a
    range of sizes or rates the usual ones are taken, not the largest. ``usb_id`` and ``name`` say which camera it is.

    Raises:
        CaptureError: none of the modes can be decoded, or has the format or the layout asked for.
    """
    fitting = [mode for mode in modes if mode.fourcc in FOURCCS and asked.fourcc in (None, mode.fourcc)]
    if asked.profile is not None:
        fitting = [mode for mode in fitting if asked.profile.fits(mode.fourcc, mode.size_px)]
    if not fitting:
        wanted = " ".join(filter(None, [asked.fourcc, "of profile " + asked.profile.name if asked.profile else None]))
        raise CaptureError(
            f"the camera has no mode {wanted or 'that can be decoded'}; it offers {', '.join(map(str, modes)) or 'none'}"
        )
    if asked.size_px is not None:
        width, height = asked.size_px
        fitting = [mode for mode in fitting if mode.size_px == asked.size_px] or [
            replace(mode, width_px=width, height_px=height, rates_hz=mode.rates_hz if mode.sizes else (), sizes=None)
            for mode in fitting
        ]
    fitting = [mode if mode.sizes is None else _usual_of_range(mode, mode.sizes) for mode in fitting]
    if band is Band.THERMAL:
        best = max(fitting, key=lambda mode: _thermal_worth(mode, usb_id, name))
        return best, asked.rate_hz or (_usual_rate_hz(best) if best.any_rate else best.rate_hz)
    rate_hz = asked.rate_hz or USUAL_RATE_HZ
    best = min(fitting, key=lambda mode: _visible_cost(mode, rate_hz))
    return best, asked.rate_hz or _usual_rate_hz(best)


def lighter_mode(modes: Sequence[Mode], now: Mode, *, band: Band) -> str:
    """The query that asks for a mode that the camera offers and that needs less of a bus than the present one; "" for none."""
    usable = [mode for mode in modes if mode.fourcc in FOURCCS and mode.sizes is None and _bytes_a_second(mode) > 0]
    lighter = [mode for mode in usable if _bytes_a_second(mode) < 0.9 * _bytes_a_second(now)]
    compressed = [mode for mode in lighter if mode.fourcc in COMPRESSED and mode.size_px == now.size_px]
    raw = [mode for mode in lighter if band is Band.VISIBLE or mode.fourcc == now.fourcc]
    best = max(compressed or raw, key=_bytes_a_second, default=None)
    if best is None:
        return ""
    name = {"MJPG": "mjpeg", "GREY": "gray"}.get(best.fourcc, best.fourcc.lower())
    asked = [f"format={name}"] if best.fourcc != now.fourcc else []
    asked += [f"size={best.width_px}x{best.height_px}"] if best.size_px != now.size_px else []
    return f"?{'&'.join(asked)}" if asked else ""


COMPRESSED = ("MJPG", "JPEG")


def _bytes_a_second(mode: Mode) -> float:
    """About what a mode needs of a bus."""
    per_pixel = 0.3 if mode.fourcc in COMPRESSED else {"GREY": 1, "RGB3": 3, "BGR3": 3}.get(mode.fourcc, 2)
    return per_pixel * mode.width_px * mode.height_px * (mode.rate_hz or USUAL_RATE_HZ)


def _usual_of_range(mode: Mode, sizes: SizeRange) -> Mode:
    width, height = sizes.nearest(USUAL_SIZE_PX)
    return replace(mode, width_px=width, height_px=height)


def _usual_rate_hz(mode: Mode) -> float | None:
    """The fastest rate up to the usual one, where there is one."""
    rates_hz = mode.rates_hz
    if mode.any_rate and rates_hz and rates_hz[-1] <= USUAL_RATE_HZ <= rates_hz[0]:
        return USUAL_RATE_HZ
    return max((rate for rate in rates_hz if rate <= USUAL_RATE_HZ + 1), default=None)


def _thermal_worth(mode: Mode, usb_id: str | None, name: str) -> tuple[bool, int, int, float]:
    is_counts = recognize(fourcc=mode.fourcc, size_px=mode.size_px, usb_id=usb_id, name=name).counts_of is not None
    return is_counts, mode.width_px * mode.height_px, -GRAY_FIRST.index(mode.fourcc), mode.rate_hz or 0.0


def _visible_cost(mode: Mode, rate_hz: float) -> tuple[float, bool, int, float]:
    usual_px = USUAL_SIZE_PX[0] * USUAL_SIZE_PX[1]
    is_slow = mode.rate_hz is not None and mode.rate_hz < 0.95 * rate_hz
    distance = abs(math.log(mode.width_px * mode.height_px / usual_px)) if mode.size_px != USUAL_SIZE_PX else -1.0
    return distance, is_slow, FOURCCS.index(mode.fourcc), -(mode.rate_hz or 0.0)
