"""The door of a listening socket: closed, it hears nobody, and those who have come in stay. Linux only.

ZeroMQ accepts whoever connects, and stops doing so only by ending those that it has accepted. So the kernel is told not to hear
them: a filter on the listening socket (socket(7), SO_ATTACH_FILTER) drops what arrives for it. Clients try again by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys

_ATTACH, _DETACH = 26, 27
"""SO_ATTACH_FILTER and SO_DETACH_FILTER, which Python has no names for."""
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the classic BPF: keep 0 bytes of every packet."""


class Door:
    """The door of one listening socket; open to begin with. ``close`` it when the socket is closed."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._is_open = True

    @classmethod
    def of(cls, descriptor: int) -> Door | None:
        """The door of the socket with this number; None where it is none of TCP, or gone, or no door of Linux."""
        if sys.platform != "linux":
            return None
        with contextlib.suppress(OSError):
            listening = socket.socket(fileno=os.dup(descriptor))
            if listening.family in (socket.AF_INET, socket.AF_INET6):
                return cls(listening)
            listening.close()
        return None

    def set_open(self, is_wanted: bool) -> bool:
        """Open or close it; False where that changes nothing, or the system does not do it."""
        if is_wanted == self._is_open:
            return False
        program = ctypes.create_string_buffer(_RETURN_NOTHING)
        try:
            if is_wanted:
                self._listening.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
            else:
                filter_ = struct.pack("HL", 1, ctypes.addressof(program))
                self._listening.setsockopt(socket.SOL_SOCKET, _ATTACH, filter_)
        except OSError:
            return False
        self._is_open = is_wanted
        return True

    def close(self) -> None:
        """Let go of the socket: the address is free when everybody has."""
        self._listening.close()
