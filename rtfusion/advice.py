"""What a person should know of two streams before they are fused: what is assumed of them, and what may be wrong. Pure."""

from __future__ import annotations

from rtfusion.capture.base import StreamInfo
from rtfusion.types import Band

LENGTHS_DIFFER = 0.05
LEFT_S = 0.5
"""Two recordings are of different lengths when they differ by more than both."""
SLOWER = 1.5
"""A camera is slower when the other one gives so many frames for each of its own."""
ASPECTS_DIFFER = 0.05
LARGER = 2.0
"""A thermal picture with so many times the pixels of the visible one is unusual."""


def advice_on_view(*, visible: StreamInfo, thermal: StreamInfo) -> str | None:
    """A sentence on two streams that are fused without a calibration."""
    stretch = (visible.width_px * thermal.height_px) / (visible.height_px * thermal.width_px)
    if abs(stretch - 1) < ASPECTS_DIFFER:
        return None
    return (
        f"without a calibration both cameras are taken to have the same view, but {_size(thermal)} is not of the aspect of "
        f"{_size(visible)}: the thermal picture is stretched over the visible one; --calibration registers them, or ?crop= "
        "cuts one to what the other sees"
    )


def _size(info: StreamInfo) -> str:
    return f"{info.width_px}x{info.height_px}"


def advice_on_lengths(*, visible: StreamInfo, thermal: StreamInfo) -> str | None:
    """A sentence on two recordings of different lengths."""
    if visible.duration_s is None or thermal.duration_s is None:
        return None
    longer, shorter = sorted((visible, thermal), key=lambda info: info.duration_s or 0.0, reverse=True)
    long_s, short_s = longer.duration_s or 0.0, shorter.duration_s or 0.0
    if long_s - short_s < max(LEFT_S, LENGTHS_DIFFER * long_s):
        return None
    return (
        f"{longer.uri} is {long_s:.1f} s long and {shorter.uri} {short_s:.1f} s: {long_s - short_s:.1f} s of the "
        f"{longer.band.value} recording are left; if both are of the same time, a rate is wrong, and ?fps= says the right one"
    )


def advice_on_rates(*, visible: StreamInfo, thermal: StreamInfo, pair: str) -> str | None:
    """A sentence on a thermal stream that is slower than the visible one, where the rule ``pair`` uses each frame once."""
    if not (visible.rate_is_told and thermal.rate_is_told):
        return None
    if pair != "once" or not visible.continuous or visible.rate_hz < SLOWER * thermal.rate_hz:
        return None
    return (
        f"of {visible.rate_hz:.3g} visible frames a second, {thermal.rate_hz:.3g} are paired with the thermal ones, each once; "
        "--pair hold gives every visible frame its nearest thermal frame"
    )


def advice_on_bands(*, visible: StreamInfo, thermal: StreamInfo) -> str | None:
    """A sentence on two streams that seem to be exchanged.

    Two signs are needed: a night in gray, a large thermal picture or a palette that nobody knows is nothing by itself.
    """
    signs = {
        f"{thermal.uri} has natural colors": thermal.looks_like is Band.VISIBLE,
        f"{visible.uri} has no color, or that of a thermal camera": visible.looks_like is Band.THERMAL,
        f"{thermal.uri} is much larger": _pixels(thermal) >= LARGER * _pixels(visible),
    }
    seen = [sign for sign, is_there in signs.items() if is_there]
    if len(seen) < 2:
        return None
    return f"the two may be exchanged: {' and '.join(seen)}; --ir is the thermal source, --vis the visible one"


def _pixels(info: StreamInfo) -> int:
    return info.width_px * info.height_px
