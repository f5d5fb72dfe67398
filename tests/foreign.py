"""Runs rtfusion as another system would see it: ``python foreign.py SYSTEM ARGUMENTS`` is ``rtfusion ARGUMENTS`` there.

The modules of rtfusion get an ``os``, ``signal``, ``socket`` and ``sys`` without what that system lacks, and may not import what
it has not. Libraries get the real ones: theirs is to be right on their systems. What is shown is that no part of ours takes for
granted what only Linux has, not that a library works elsewhere.
"""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

OURS = ("rtfusion", "rtfusion_trainer", "rtfusion_calibration")
LINUX_ALONE = {
    "os": ("O_TMPFILE", "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "memfd_create"),
}
POSIX_ALONE = {
    "os": (
        *LINUX_ALONE["os"],
        *(
            "O_CLOEXEC",
            "O_NOFOLLOW",
            "O_NONBLOCK",
            "O_DIRECTORY",
            "geteuid",
            "getuid",
            "getgid",
            "fork",
            "setsid",
            "nice",
        ),
        *("pread", "pwrite", "preadv", "sysconf", "getloadavg", "killpg", "mkfifo", "uname", "statvfs", "chown"),
    ),
    "signal": ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "pthread_sigmask", "sigwait", "alarm"),
    "socket": ("AF_UNIX", "SO_REUSEPORT", "socketpair"),
    "select": ("poll", "epoll", "POLLIN", "POLLERR", "POLLHUP", "POLLNVAL"),
    "time": ("clock_gettime",),
}
LACKS = {"darwin": LINUX_ALONE, "win32": POSIX_ALONE}
MODULES = {"darwin": (), "win32": ("fcntl", "resource", "termios", "tty", "pwd", "grp", "pty", "syslog")}


def become(system: str) -> None:
    """From now on, what rtfusion imports is of that system."""
    real_import = builtins.__import__
    modules = {name: without(real_import(name), lacks) for name, lacks in LACKS[system].items()}
    modules["sys"] = without(sys, ())
    modules["sys"].platform = system  # type: ignore[attr-defined]
    if system == "win32":
        modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda handle, mode, count: None)  # type: ignore[assignment]

    def imported(name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        who = str((globals_ or {}).get("__name__", ""))
        if who.partition(".")[0] in OURS and level == 0:
            if name in MODULES[system]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in modules:
                return modules[name]
        return real_import(name, globals_, locals_, fromlist, level)

    builtins.__import__ = imported


def without(module: types.ModuleType, lacks: tuple[str, ...]) -> types.ModuleType:
    """A module as that one, but for some names."""
    copy = _Reduced(module.__name__)
    copy.__dict__.update(_of=module, _lacks=frozenset(lacks))
    return copy


class _Reduced(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_lacks"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self.__dict__["_of"], name)


if __name__ == "__main__":
    become(sys.argv[1])
    sys.argv = ["rtfusion", *sys.argv[2:]]
    from rtfusion.cli import main

    main()
