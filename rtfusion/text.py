"""Texts that people write in options and addresses: sizes, times, misspelt words, hosts."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable

from rtfusion.errors import ConfigError

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_size_px(text: str, *, option: str | None = None) -> tuple[int, int]:
    """Read (width, height) in pixels from a text such as ``640x480``.

    Args:
        text: what was given.
        option: the option that it was given to, for the message.

    Raises:
        ConfigError: it is no size.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        given = "" if option is None else f"{option} is {text!r}; "
        raise ConfigError(f"{given}expected WIDTHxHEIGHT in pixels, such as 640x480")
    return int(match[1]), int(match[2])


def parse_time_s(text: str) -> float:
    """Read a time such as ``7d``: minutes, hours, days or weeks.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text, re.ASCII)
    if match is None or not int(match[1]):
        raise ValueError("expected a number with m, h, d or w, such as 7d")
    return float(int(match[1]) * _SECONDS[match[2]])


def parse_size_gb(text: str) -> float:
    """Read a size in GB, such as ``500`` or ``0.5``.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,3})?", text, re.ASCII)
    if match is None or not float(text):
        raise ValueError("expected a number of GB, such as 500")
    return float(text)


def did_you_mean(wrong: str, known: Iterable[str], *, hint: str = "; did you mean {}?") -> str:
    """Give ``hint`` with the known word that is nearest to a wrong one, and nothing where none is near."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return hint.format(close[0]) if close else ""


def output_name(uri: str) -> str:
    """Shorten the address of an output to what is no parameter: ``record:/srv/rec`` of ``record:/srv/rec?keep=7d``."""
    name = uri.partition("?")[0]
    return name if ":" in name else uri


def is_loopback(host: str) -> bool:
    """Say if a host's name or address (IPv6 also in brackets) leads only to this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
