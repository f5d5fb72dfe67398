"""URIs and paths as they may be shown: without the names, passwords and tokens in them.

What a person typed is shown in messages, tables, statistics, recordings and pages, and a slip of the finger must not make a
secret of it readable: a scheme mistyped, one slash too few, a password with ``#`` or ``/`` in it. So of an address only what
is known to be harmless is shown: the scheme, the host, words of the path, and parameters of names or values that tell nothing.
Of a path in the file system everything is shown but the values of parameters whose names sound like a secret.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"
"""Stands for what is not shown."""

_LOCAL = frozenset(
    {"file", "video", "images", "v4l2", "usb", "synthetic", "session", "record", "compare", "window", "null", "ipc"}
)
_ADDRESS = frozenset(
    {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "http", "https", "udp", "tcp", "mms", "zmq", "web"}
)
_PARTS = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*:)*)(/*)(.*)", re.DOTALL)
_HOST = re.compile(r"(?:[A-Za-z0-9_.*-]*|\[[0-9A-Fa-f:.%]*\])(?::(?:[0-9]{1,5}|\*))?")
_SUSPECT_WORD = (
    r"(?:\w*(?:pass|pwd|psw|secret|token|auth|cred|login|user|usr|account|api-?key|_key|signature)\w*"
    r"|pw|key|pin|sig|jwt|sid|session)"
)
_SUSPECT = re.compile(_SUSPECT_WORD, re.IGNORECASE)
_LOCAL_SUSPECT = re.compile(rf"((?:^|[?&;#/_]){_SUSPECT_WORD}=)[^&]*", re.IGNORECASE)
_LOCAL_USER_INFO = re.compile(r"[^/@]*:.*@", re.DOTALL)
_PATH_SIGNS, _QUERY_SIGNS = re.compile(r"([/&;])"), re.compile(r"([?&;#])")
_TELLS_NOTHING = re.compile(
    r"-?[0-9]{1,3}(?:\.[0-9]{1,3})?|[0-9]+x[0-9]+(?:\+[0-9]+){0,2}|[0-9]{1,5}(?:,[0-9]{1,5})+|true|false|on|off|auto",
    re.IGNORECASE,
)
_HARMLESS = frozenset(
    re.findall(
        r"\w+",
        "camera cam channel ch codec enablesrtp fifo_size format fps h264 height inst mode overrun_nonfatal pkt_size profile "
        "quality rate resolution rtsp_transport size stream streamtype subtype timeout transport unicast videocodec view width "
        "boxes clients clock crop encoding flip half hwm insecure keys mask match name palette parallax poll_hz record rotate "
        "shift_ms sync_s topic",
    )
)
"""Names of parameters, of cameras and of rtfusion, whose values are no secrets."""


def without_credentials(text: str) -> str:
    """A URI or path as it may be shown: user names, passwords and tokens replaced by ``***``."""
    schemes, slashes, body = _split(text)
    kind = schemes[-1] if schemes else ""
    head = "".join(f"{scheme}:" for scheme in schemes) + slashes
    if kind.lower() in _LOCAL or (not kind and not slashes.startswith("//")):
        return head + _LOCAL_SUSPECT.sub(rf"\1{MASK}", _LOCAL_USER_INFO.sub(f"{MASK}@", body, count=1))
    user_info, at, rest = body.rpartition("@")
    host = re.split(r"[/?&;#]", rest, maxsplit=1)[0]
    shown = host if _HOST.fullmatch(host) else MASK
    return f"{head}{MASK if user_info else ''}{at}{shown}{_path(rest[len(host) :])}"


def _split(text: str) -> tuple[list[str], str, str]:
    """(schemes, slashes, the rest); without a slash only words that are known are schemes: others may be a user's name."""
    match = _PARTS.fullmatch(text)
    names, slashes, body = match.groups() if match is not None else ("", "", text)
    schemes = names.split(":")[:-1]
    if slashes:
        return schemes, slashes, body
    known = 0
    while known < len(schemes) and schemes[known].lower() in _LOCAL | _ADDRESS:
        known += 1
    return schemes[:known], "", "".join(f"{name}:" for name in schemes[known:]) + body


def _path(text: str) -> str:
    """Path, query and fragment of an address, piece by piece."""
    query_at = min((at for sign in "?#" if (at := text.find(sign)) >= 0), default=len(text))
    pieces = [*_PATH_SIGNS.split(text[:query_at]), *_QUERY_SIGNS.split(text[query_at:])]
    shown: list[str] = []
    in_query = after_secret = False
    for piece in pieces:
        if piece in ("", "/", "?", "&", ";", "#"):
            in_query = in_query or piece in ("?", "&", "#")
            shown.append(piece)
            continue
        key, equals, value = piece.partition("=")
        if equals:
            after_secret = not _is_harmless(key, value)
            shown.append(f"{key if _is_name(key) else MASK}={MASK if after_secret else value}")
            continue
        hidden = after_secret or (in_query and piece.lower() not in _HARMLESS) or _is_opaque(piece)
        # what follows a word such as password is one, as far as the next name of a parameter
        after_secret = after_secret or bool(_SUSPECT.fullmatch(piece))
        shown.append(MASK if hidden else piece)
    return "".join(shown)


def _is_name(key: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", key) is not None


def _is_harmless(key: str, value: str) -> bool:
    if "=" in unquote(value):
        return False
    if key.lower() in _HARMLESS:
        return True
    return _SUSPECT.fullmatch(key) is None and _TELLS_NOTHING.fullmatch(value) is not None


def _is_opaque(piece: str) -> bool:
    """True for a word of a path that may be a secret: a name with a password, or the random words of some cameras."""
    if any(sign in unquote(piece) for sign in ":=@?&"):
        return True
    random = re.fullmatch(r"[A-Za-z0-9]{12,}", piece.replace("-", "")) is not None
    return random and len(re.findall(r"[0-9]+", piece)) > 1
