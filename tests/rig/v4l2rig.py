"""V4L2 cameras for one tree of processes, without a kernel module: `v4l2rig.c` under LD_PRELOAD, and what lays them out.

A `Desk` is a tree of cameras below a folder: device nodes, sysfs, links. A program started on it (`Desk.start`) sees them as the
system's own; the cameras can be changed, broken and pulled out meanwhile. The pictures are made here (`tests.rig.pictures`).

    python -m tests.rig.v4l2rig FOLDER rtfusion run --ir /dev/video2 --vis /dev/video0

runs a program on a webcam and a Lepton.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rig import pictures

SOURCE = Path(__file__).with_name("v4l2rig.c")
FLAGS = ("-O2", "-Wall", "-Wno-format-truncation", "-U_FORTIFY_SOURCE", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
RTFUSION = (sys.executable, "-m", "rtfusion")
LIMIT_S = 90.0
"""No test waits longer for anything: far more than a busy machine takes."""
POLL_S = 0.02


def compiler() -> str | None:
    """The system's C compiler, where it has one and the headers of V4L2."""
    if not Path("/usr/include/linux/videodev2.h").exists():
        return None
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def build(folder: Path) -> Path:
    """Compile the library into a folder."""
    library, cc = folder / "libv4l2rig.so", compiler()
    assert cc is not None
    subprocess.run([cc, *FLAGS, "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


@dataclass
class Camera:
    """A camera as it is laid out: its identity, its modes (``YUYV 160x120 15,5 CONTENT``), and further keys of the C file."""

    id: str
    node: int
    card: str
    modes: Sequence[str]
    usb: str | None = None
    """``vendor:product``; None for one that is no USB camera."""
    serial: str = ""
    port: str = "1-1"
    metadata_node: int | None = None
    """The node beside its own that delivers no pictures; the one after it, unless said."""
    ctrls: Sequence[str] = ()
    keys: dict[str, object] = field(default_factory=dict)


def webcam(**changes: Any) -> Camera:
    """A visible USB camera at /dev/video0; its metadata are at /dev/video1."""
    given = {
        "id": "webcam", "node": 0, "card": "HD Pro Webcam", "usb": "046d:082d", "serial": "A1B2", "port": "1-1",
        "modes": ["YUYV 160x120 15,5 visible160x120.yuyv", "MJPG 160x120 15,5 visible160x120.mjpg"],
        "ctrls": ["0x00980900 0 255 128 Brightness"],
    }  # fmt: skip
    return Camera(**given | changes)


def lepton(**changes: Any) -> Camera:
    """A FLIR Lepton on a PureThermal at /dev/video2; its metadata are at /dev/video3."""
    given = {
        "id": "lepton", "node": 2, "card": "PureThermal (fw:v1.3.0)", "usb": "1e4e:0100", "serial": "8001", "port": "1-2",
        "modes": ["UYVY 160x120 9 -", "Y16 160x120 9 thermal160x120.y16", "Y16 160x122 9 thermal160x122.y16"],
        "keys": {"lepton": 120, "noise": "2 0 120"},
    }  # fmt: skip
    return Camera(**given | changes)


def p2pro(**changes: Any) -> Camera:
    """An InfiRay P2 Pro at /dev/video2: a picture above, counts below."""
    given = {
        "id": "p2pro", "node": 2, "card": "USB Camera: USB Camera", "usb": "0bda:5830", "port": "1-2",
        "modes": ["YUYV 256x192 25 thermal256x192.yuyv", "YUYV 256x384 25 thermal256x384.yuyv"],
        "keys": {"noise": "3 192 384"},
    }  # fmt: skip
    return Camera(**given | changes)


class Desk:
    """A tree of cameras below ``root``."""

    def __init__(self, root: Path, *, library: Path) -> None:
        self.root = root
        self._library = library
        for name in (
            "dev/v4l/by-id",
            "dev/v4l/by-path",
            "sys/class/video4linux",
            "sys/dev/char",
            "state",
            "lock",
            "log",
        ):
            (root / name).mkdir(parents=True)
        (root / "epoch").write_text(f"{time.monotonic_ns()}\n")
        self._states: dict[str, dict[str, str]] = {}
        self._generations: dict[str, int] = {}
        self._paths: dict[str, list[Path]] = {}

    @property
    def epoch_ns(self) -> int:
        """The time of CLOCK_MONOTONIC from which the codes in pictures count."""
        return int((self.root / "epoch").read_text())

    # -- cameras ------------------------------------------------------------------------------------------------------

    def plug(self, *cameras: Camera) -> None:
        """Plug cameras in."""
        for camera in cameras:
            self._make_content(camera)
            self._paths[camera.id] = list(self._lay_out(camera))
            self._write_state(camera.id)

    def unplug(self, camera: Camera) -> None:
        """Pull a camera out: its nodes are gone, and who has it open is told that there is no such device."""
        self._generations[camera.id] = self._generations.get(camera.id, 0) + 1
        for path in self._paths.pop(camera.id):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        self._write_state(camera.id)

    def set(self, camera: Camera, **keys: object) -> None:
        """Change keys of a camera, as it runs; None takes one back. A dot is written as two underscores."""
        state = self._states.setdefault(camera.id, {})
        for key, value in keys.items():
            if value is None:
                state.pop(key.replace("__", "."), None)
            else:
                state[key.replace("__", ".")] = str(value)
        self._write_state(camera.id)

    def hide_sysfs(self) -> None:
        """Leave the nodes alone, as in a container."""
        shutil.rmtree(self.root / "sys")
        shutil.rmtree(self.root / "dev/v4l")

    def log(self, camera: Camera) -> str:
        """What the driver of a camera did: openings, errors, and each frame."""
        path = self.root / f"log/{camera.id}.csv"
        return path.read_text() if path.exists() else ""

    def _write_state(self, name: str) -> None:
        lines = [f"{key}={value}\n" for key, value in self._states.get(name, {}).items()]
        part = self.root / f"state/.{name}"
        part.write_text("".join(lines) + f"generation={self._generations.get(name, 0)}\n")
        part.replace(self.root / f"state/{name}")

    def _make_content(self, camera: Camera) -> None:
        for mode in camera.modes:
            name = mode.split()[3]
            if name != "-" and not (self.root / name).exists():
                (self.root / name).write_bytes(pictures.content(name))

    def _lay_out(self, camera: Camera) -> Iterator[Path]:
        """Make everything that the kernel shows of a camera; the paths that go with it."""
        where = Path("sys/devices/virtual") if camera.usb is None else self._usb_folder(camera)
        nodes = [camera.node]
        if camera.usb is not None:
            nodes.append(camera.node + 1 if camera.metadata_node is None else camera.metadata_node)
            yield self.root / where.parent
        for index, node in enumerate(nodes):
            yield from self._node(camera, node, index, where)

    def _usb_folder(self, camera: Camera) -> Path:
        where = Path(f"sys/devices/platform/v4l2rig/usb1/{camera.port}/{camera.port}:1.0")
        usb = self.root / where.parent
        usb.mkdir(parents=True, exist_ok=True)
        vendor, product = str(camera.usb).split(":")
        texts = {"idVendor": vendor, "idProduct": product, "serial": camera.serial, "product": camera.card}
        for name, text in texts.items():
            if text:
                (usb / name).write_text(f"{text}\n")
        return where

    def _node(self, camera: Camera, node: int, index: int, where: Path) -> Iterator[Path]:
        folder = self.root / where / "video4linux" / f"video{node}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{camera.card[:31]}\n")
        (folder / "index").write_text(f"{index}\n")
        (folder / "dev").write_text(f"81:{node}\n")
        if camera.usb is not None:
            (folder / "device").symlink_to(f"../../../{where.name}")
        link = self.root / f"sys/class/video4linux/video{node}"
        link.symlink_to(Path("../..") / where.relative_to("sys") / f"video4linux/video{node}")
        device = self.root / f"dev/video{node}"
        device.write_text("".join(f"{line}\n" for line in self._description(camera, node, index)))
        yield from (folder, link, device)
        if camera.usb is not None:
            name = "_".join(filter(None, [re.sub(r"[^\w.-]+", "_", camera.card).strip("_"), camera.serial]))
            stable = self.root / f"dev/v4l/by-id/usb-{name}-video-index{index}"
            if not stable.is_symlink():
                stable.symlink_to(f"../../video{node}")
                yield stable

    def _description(self, camera: Camera, node: int, index: int) -> Iterator[str]:
        yield f"id={camera.id}{'-meta' if index else ''}"
        yield f"minor={node}"
        if index:
            yield "meta=1"
        driver = "uvcvideo" if camera.usb is not None else "v4l2 loopback"
        bus = f"usb-0000:00:14.0-{camera.port[2:]}" if camera.usb is not None else "platform:virtual"
        keys = {"card": camera.card, "driver": driver, "bus": bus} | camera.keys
        yield from (f"{key}={value}" for key, value in keys.items())
        yield from (f"mode={mode}" for mode in camera.modes)
        yield from (f"ctrl={ctrl}" for ctrl in camera.ctrls)

    # -- programs -----------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Variables for a program that is to see the cameras."""
        return {"LD_PRELOAD": str(self._library), "V4L2RIG": str(self.root)}

    @contextlib.contextmanager
    def start(
        self, *command: str, environ: dict[str, str] | None = None, folder: Path | None = None
    ) -> Iterator[Program]:
        """Start a program on the cameras; it is ended at the end."""
        variables = {**(os.environ if environ is None else environ), **self.environment()}
        with Program(command, environ=variables, folder=folder) as program:
            yield program


class Program:
    """A program that runs, and what it has said so far."""

    def __init__(self, command: Sequence[str], *, environ: dict[str, str], folder: Path | None) -> None:
        self._process = subprocess.Popen(
            command, env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[tuple[float, str]] = []
        """What was said on stderr, and at which second of the monotonic clock."""
        self._out: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stderr, self._say), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stdout, self._out.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def err(self) -> str:
        """All that was said on stderr."""
        return "".join(line for _, line in list(self.lines))

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def until(self, condition: Callable[[], bool], *, limit_s: float = LIMIT_S) -> float:
        """Wait until something is so, at most while the program runs; the second at which it was."""
        end_s = time.monotonic() + limit_s
        while not condition():
            assert self._process.poll() is None or condition(), f"it ended ({self._process.poll()}): {self.err}"
            assert time.monotonic() < end_s, f"not within {limit_s} s: {self.err}"
            time.sleep(POLL_S)
        return time.monotonic()

    def until_says(self, pattern: str, *, limit_s: float = LIMIT_S) -> float:
        """Wait for a line on stderr; the second at which it came."""
        found = re.compile(pattern)
        self.until(lambda: any(found.search(line) for _, line in list(self.lines)), limit_s=limit_s)
        return next(at_s for at_s, line in self.lines if found.search(line))

    def end(self, *, limit_s: float = LIMIT_S) -> tuple[int, str, str]:
        """Wait for its end: (exit code, stdout, stderr)."""
        self._process.wait(limit_s)
        for reader in self._readers:
            reader.join(5)
        return self._process.returncode, "".join(self._out), self.err

    def _say(self, line: str) -> None:
        self.lines.append((time.monotonic(), line))

    @staticmethod
    def _read(pipe: Any, take: Callable[[str], None]) -> None:
        for line in pipe:
            take(line)


def main(folder: str, *command: str) -> int:
    """Run a program on a webcam and a Lepton."""
    with tempfile.TemporaryDirectory() as built:
        desk = Desk(Path(folder).resolve(), library=build(Path(built)))
        desk.plug(webcam(), lepton())
        return subprocess.run(command, env=os.environ | desk.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
