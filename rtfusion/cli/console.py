"""Results go to stdout, everything else to stderr; colors only where a person looks."""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rtfusion.errors import SinkError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NOBODY = (errno.EPIPE, errno.EBADF, errno.EIO)
"""The other end of a stream is gone: a pipe, a file, a terminal."""
NAME_WIDTH = 24
"""Width of the first column in tables of numbers, so that they stand below each other."""


def show(*renderables: RenderableType) -> None:
    """Print to stdout, plain when it is not a terminal. A reader that went away (``| head``) is no error."""
    from rich.console import Console

    text = _LikeStdout()
    console = Console(highlight=False, file=text)
    for renderable in renderables:
        console.print(renderable)
    show_text(text.getvalue())


class _LikeStdout(io.StringIO):
    """Text that looks as it would on stdout, in colors where that is a terminal."""

    encoding = property(lambda self: sys.stdout.encoding)

    def isatty(self) -> bool:
        return sys.stdout.isatty()


def show_text(text: str) -> None:
    """Write to stdout as it is.

    Raises:
        SinkError: it cannot be written there, for want of room.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # what is buffered would be tried again at the end, and be a failure once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in NOBODY:
            raise SinkError(f"stdout cannot be written: {error.strerror}") from None


def is_looked_at() -> bool:
    """True where a person looks at stderr: at a terminal, unless a program was to read it (``--log-json``)."""
    return sys.stderr.isatty() and not logs_json()


def say(message: str, *, level: str = "info") -> None:
    """One line on stderr: for a person, or with --log-json one JSON object."""
    with contextlib.suppress(OSError):  # nobody listens any more, or there is no room: no reason to stop
        sys.stderr.write(f"{log_line(message, level=level)}\n")
        sys.stderr.flush()


def log_line(message: str, *, level: str = "info") -> str:
    """A message as the line that is written: for a person, or with --log-json one JSON object."""
    if not logs_json():
        return f"rtfusion: {message}"
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": level, "message": message}, ensure_ascii=False)


def logs_json() -> bool:
    """True where a program reads stderr. It is read here because what there is to say may come before or after any command."""
    return "--log-json" in sys.argv


def keep_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr the null device in their place.

    Else the first file that it opens takes their number, and gets what is printed.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


@contextlib.contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show that something takes a while, where a person looks."""
    if not is_looked_at():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(doing):
        yield


def log_to_stderr(*, verbose: bool) -> None:
    """Show the messages of the library as other lines are shown."""
    logger = logging.getLogger("rtfusion")
    logger.handlers = [_Say()]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), level=record.levelname.lower())


def table(*headers: str, numbers_from: int | None = None, name_width: int = NAME_WIDTH) -> Table:
    """The one look of all tables: no frame, long text folded, numbers to the right from column ``numbers_from`` on."""
    from rich import box
    from rich.table import Table

    plain = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for index, header in enumerate(headers):
        if numbers_from is not None and index >= numbers_from:
            plain.add_column(header, justify="right", no_wrap=True, min_width=6, header_style="bold")
        else:
            is_first = index == 0 and numbers_from is not None
            plain.add_column(header, overflow="fold", min_width=name_width if is_first else None, header_style="bold")
    return plain
