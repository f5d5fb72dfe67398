"""The process behind a window: shows the pictures it gets over a socket, answers keys, ends when the socket closes.

It is a process of its own because the windows of OpenCV (Qt on X11) abort the process when a display cannot be opened,
end it when the display goes away, and hang when a second thread opens a window after a first one. None of this may cost
a recording. `rtfusion.window.sink` is the other end.

Pictures come by `send`; events go back as pairs of a word and a text: ``ready`` (for the next picture), ``quit``, ``saved`` and
a path, ``failed`` and a reason (a snapshot), ``error`` and a reason (no window), and in a run ``key`` and a name for every key
that has no meaning here, ``say`` and a sentence that was typed, and ``mark`` and the
corners of a rectangle that was drawn.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from rtfusion.fusion.color import laid_over
from rtfusion.types import Image8

LARGEST_PX = (1280, 800)
IDLE_S = 0.02
QUIT_KEYS = ("q", "\x1b")
TYPE_KEY, SEND_KEYS, LEAVE_KEY, BACK_KEYS = "t", ("\r", "\n"), "\x1b", ("\b", "\x7f")
LONGEST_SENTENCE = 200
LEAST_MARK = 0.005
"""A rectangle that is drawn is at least this wide and high, in fractions of the picture."""
MARK_COLOR = 80, 220, 255
NAMED_KEYS = {
    0xFF51: "left",
    0xFF52: "up",
    0xFF53: "right",
    0xFF54: "down",  # X11
    0xF702: "left",
    0xF700: "up",
    0xF703: "right",
    0xF701: "down",  # macOS
    0x250000: "left",
    0x260000: "up",
    0x270000: "right",
    0x280000: "down",  # Windows
}
"""Keys without a character, by the codes of the systems."""


class View(enum.Enum):
    """Choice of images in the window; the value stands in its title."""

    FUSED = "fused"
    SIDE_BY_SIDE = "visible, thermal, fused"
    THERMAL = "thermal"
    VISIBLE = "visible"
    PARALLAX = "parallax"


class Action(enum.Enum):
    """Task that a key leaves to the window's process, beyond showing another picture."""

    NONE = "none"
    QUIT = "quit"
    FORWARD = "forward"
    """The key is for the run."""
    SNAPSHOT = "snapshot"
    SAY = "say"
    """A sentence was typed (`Screen.sentence`)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pictures:
    """The images of one moment, of one size."""

    fused: Image8
    """(H, W, 3) BGR."""
    visible: Image8 | None = None
    """(H, W, 3) BGR or (H, W)."""
    thermal: Image8 | None = None
    """(H, W)."""
    parallax: Image8 | None = None
    """(rows, columns, 3) BGR: the colors of what is nearer and what is farther, in cells of the picture."""
    caption: str = ""
    """What is to be told of them in the title."""

    @property
    def views(self) -> tuple[View, ...]:
        """The views that can be shown of it, in the order of the ``f`` key."""
        if self.visible is None or self.thermal is None:
            return (View.FUSED,)
        return tuple(view for view in View if view is not View.PARALLAX or self.parallax is not None)

    def picture(self, view: View) -> Image8:
        """(H, W, 3) BGR; three times as wide side by side."""
        if self.visible is None or self.thermal is None or view is View.FUSED:
            return self.fused
        if view is View.THERMAL:
            return _bgr(self.thermal)
        if view is View.VISIBLE:
            return _bgr(self.visible)
        if view is View.PARALLAX and self.parallax is not None:
            return laid_over(self.visible, self.parallax)
        return np.hstack([_bgr(self.visible), _bgr(self.thermal), self.fused])


class Screen:
    """State of the window: the newest pictures in the chosen view, or the held ones while paused. Knows no window."""

    def __init__(self, *, nudges: bool = False) -> None:
        self._nudges = nudges
        self.view = View.FUSED
        self.paused = False
        self.typed: str | None = None
        """The sentence that is being typed; None while none is."""
        self.sentence = ""
        """The last one that was sent."""
        self._from: tuple[float, float] | None = None
        self._to = 0.0, 0.0
        self._newest: Pictures | None = None
        self._shown: Pictures | None = None

    @property
    def picture(self) -> Image8 | None:
        """(H, W, 3) BGR, or None before the first one came; with the rectangle that is being drawn."""
        if self._shown is None:
            return None
        picture = self._shown.picture(self.view)
        if self._from is None:
            return picture
        height, width = picture.shape[:2]
        left, top, right, bottom = self._corners(self._from)
        corners_px = (round(left * width), round(top * height)), (round(right * width), round(bottom * height))
        return np.asarray(cv2.rectangle(picture.copy(), *corners_px, MARK_COLOR, 1), np.uint8)

    @property
    def title(self) -> str:
        """Says the view, and what the keys do."""
        if self.typed is not None:
            return f"say: {self.typed}_  |  Enter sends   Esc leaves"
        state = f"{self.view.value}, paused" if self.paused else self.view.value
        told = f"  |  {self._newest.caption}" if self._newest is not None and self._newest.caption else ""
        run = (
            "arrows + - [ ] nudge   w save   r reset   i , . p 0 picture   t say   drag marks   "
            if self._nudges
            else ""
        )
        return f"{state}{told}  |  f view   space pause   s snapshot   {run}q quit"

    def take(self, pictures: Pictures) -> None:
        """New pictures came."""
        self._newest = pictures
        if not self.paused:
            self._shown = pictures
            if self.view not in pictures.views:
                self.view = View.FUSED

    def grab(self, x_px: int, y_px: int) -> None:
        """The user begins to draw a rectangle, at a pixel of the picture; not where three pictures stand side by side."""
        if self._nudges and self._shown is not None and self.view is not View.SIDE_BY_SIDE:
            self._from = self._to = self._place(x_px, y_px)

    def drag(self, x_px: int, y_px: int) -> bool:
        """The user moves on; True while a rectangle is being drawn."""
        if self._from is not None:
            self._to = self._place(x_px, y_px)
        return self._from is not None

    def drop(self, x_px: int, y_px: int) -> tuple[float, float, float, float] | None:
        """The user lets go: left, top, right and bottom of the rectangle, in fractions of the picture; None for none."""
        self.drag(x_px, y_px)
        start, self._from = self._from, None
        if start is None:
            return None
        left, top, right, bottom = corners = self._corners(start)
        return corners if right - left >= LEAST_MARK and bottom - top >= LEAST_MARK else None

    def _place(self, x_px: int, y_px: int) -> tuple[float, float]:
        assert self._shown is not None  # noqa: S101 - nothing is drawn before
        height, width = self._shown.fused.shape[:2]
        return min(max(x_px / width, 0.0), 1.0), min(max(y_px / height, 0.0), 1.0)

    def _corners(self, start: tuple[float, float]) -> tuple[float, float, float, float]:
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(start, self._to, strict=True))
        return left, top, right, bottom

    def press(self, key: str) -> Action:
        """The user pressed a key; the state follows, and what remains to be done is returned."""
        if self.typed is not None:
            return self._type(self.typed, key)
        key = key.lower()
        if key in QUIT_KEYS:
            return Action.QUIT
        if key == "s" and self._shown is not None:
            return Action.SNAPSHOT
        if key == " ":
            self.paused = not self.paused
            if not self.paused:
                self._shown = self._newest
        elif key == "f" and self._shown is not None:
            views = self._shown.views
            self.view = views[(views.index(self.view) + 1) % len(views)]
        elif self._nudges and key == TYPE_KEY:
            self.typed = ""
        elif self._nudges:
            return Action.FORWARD
        return Action.NONE

    def _type(self, typed: str, key: str) -> Action:
        """One key of a sentence."""
        if key in SEND_KEYS:
            self.typed, self.sentence = None, typed.strip()
            return Action.SAY if self.sentence else Action.NONE
        if key == LEAVE_KEY:
            self.typed = None
        elif key in BACK_KEYS:
            self.typed = typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typed = (typed + key)[:LONGEST_SENTENCE]
        return Action.NONE


def key_name(code: int) -> str:
    """The character of a key, or its name in `NAMED_KEYS`; empty for others, such as Shift alone."""
    return NAMED_KEYS.get(code, chr(code) if 0 < code < 0x80 else "")


def window_size_px(picture_px: tuple[int, int], *, largest_px: tuple[int, int] = LARGEST_PX) -> tuple[int, int]:
    """The picture's size, or the largest of its shape that fits ``largest_px``."""
    scale = min(1.0, largest_px[0] / picture_px[0], largest_px[1] / picture_px[1])
    return max(1, round(picture_px[0] * scale)), max(1, round(picture_px[1] * scale))


def save_snapshot(picture: Image8, *, folder: Path, now_s: float) -> Path:
    """Write a PNG named after the local time.

    Raises:
        OSError: it cannot be written, or is there already.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
    path = folder / f"rtfusion-{stamp}-{int(now_s % 1 * 1000):03d}.png"
    encoded = cv2.imencode(".png", picture)[1].tobytes()
    with path.open("xb") as file:
        file.write(encoded)
    return path


def send(connection: Connection, pictures: Pictures) -> None:
    """Send pictures as `receive` reads them: their caption and shapes, then their rows."""
    planes = (pictures.fused, pictures.visible, pictures.thermal, pictures.parallax)
    connection.send((pictures.caption, [None if plane is None else plane.shape for plane in planes]))
    for plane in planes:
        if plane is not None:
            connection.send_bytes(np.ascontiguousarray(plane).data.cast("B"))


def receive(connection: Connection) -> Pictures | None:
    """The next pictures, or None when the other end is gone."""
    try:
        caption, shapes = connection.recv()
        fused, visible, thermal, parallax = (
            None if shape is None else np.frombuffer(connection.recv_bytes(), np.uint8).reshape(shape)
            for shape in shapes
        )
    except (EOFError, OSError):
        return None
    if fused is None:
        return None
    return Pictures(fused=fused, visible=visible, thermal=thermal, parallax=parallax, caption=caption)


def main() -> None:
    """The body of the process: the socket is its standard input, the window's name its argument, and ``nudges`` in a run."""
    import resource  # not on Windows, where no window is opened

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # Qt aborts where there is no display: that is no crash to keep
    connection = Connection(os.dup(sys.stdin.fileno()))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other end went away: nobody to tell
        if not cv2.currentUIFramework():
            connection.send(("error", "this OpenCV has no windows; replace opencv-python-headless by opencv-python"))
            return
        _Window(connection, name=sys.argv[1], nudges="nudges" in sys.argv[2:]).run()


class _Window:
    """The thin part that touches OpenCV's windows."""

    def __init__(self, connection: Connection, *, name: str, nudges: bool) -> None:
        self._connection = connection
        self._name = name
        self._screen = Screen(nudges=nudges)
        self._shown: tuple[str, tuple[int, ...]] | None = None
        cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.setMouseCallback(name, self._answer_mouse)
        cv2.waitKey(1)
        connection.send(("ready", ""))
        # From here on Qt's warnings, one per frame on some desktops, have no reader.
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - not a path
            os.dup2(nowhere.fileno(), sys.stderr.fileno())

    def run(self) -> None:
        """Show pictures until the user quits or the other end closes."""
        while True:
            if self._connection.poll(IDLE_S):
                pictures = receive(self._connection)
                if pictures is None:
                    return
                self._screen.take(pictures)
                self._show()
                self._connection.send(("ready", ""))
            if not self._answer_keys():
                self._connection.send(("quit", ""))
                return

    def _answer_keys(self) -> bool:
        """False when the user quits, by key or by closing the window."""
        key = key_name(cv2.waitKeyEx(1))
        action = Action.NONE
        if key:
            action = self._screen.press(key)
            self._show()
        if action is Action.FORWARD:
            self._connection.send(("key", key))
        if action is Action.SAY:
            self._connection.send(("say", self._screen.sentence))
        if action is Action.SNAPSHOT:
            self._save()
        return action is not Action.QUIT and self._is_open()

    def _answer_mouse(self, event: int, x_px: int, y_px: int, flags: int, param: object) -> None:
        """Called by OpenCV while it waits for keys."""
        if event == cv2.EVENT_LBUTTONDOWN:
            self._screen.grab(x_px, y_px)
        elif event == cv2.EVENT_LBUTTONUP:
            if corners := self._screen.drop(x_px, y_px):
                self._connection.send(("mark", " ".join(map(str, corners))))
            self._show()
        elif event == cv2.EVENT_MOUSEMOVE and self._screen.drag(x_px, y_px):
            self._show()

    def _is_open(self) -> bool:
        try:
            return cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # OpenCV 5 says so of a window that the user closed
            return False

    def _show(self) -> None:
        picture = self._screen.picture
        if picture is None:
            return
        size_px = (picture.shape[1], picture.shape[0])
        now = (self._screen.title, size_px)
        if self._shown is None or now[0] != self._shown[0]:
            cv2.setWindowTitle(self._name, f"{self._name}  |  {now[0]}")
        if self._shown is None or now[1] != self._shown[1]:
            cv2.resizeWindow(self._name, *window_size_px(size_px))
        self._shown = now
        cv2.imshow(self._name, picture)

    def _save(self) -> None:
        picture = self._screen.picture
        if picture is None:
            return
        try:
            event = "saved", str(save_snapshot(picture, folder=Path.cwd(), now_s=time.time()))
        except OSError as error:
            event = "failed", str(error)
        self._connection.send(event)


def _bgr(image: Image8) -> Image8:
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


if __name__ == "__main__":
    main()
