"""Everything at once: cameras that fail, a disk that goes, strangers, clients that do not read, a process stopped and killed.

    python -m benchmarks.chaos --minutes 60 --json benchmarks/results/chaos.json

A real `rtfusion run` fuses and records two network cameras, publishes with keys and serves its page with a token, with 1024
descriptors. One disturbance after the other is put in, by chance. An observer with its own clock watches from outside: a
listed client reads the time that the camera has drawn into every picture, the owner of the token asks for the state twice a
second, and what was recorded is played at the end. What must hold all the while are the invariants of the table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtfusion
from benchmarks.suite import Measured, Result, Suite, columns_table
from rtfusion.clock import NS_PER_S
from rtfusion.errors import FusionError
from rtfusion.publish.keys import make_keys
from tests.rig.cameras import MjpegServer
from tests.rig.disk import check_session, small_disk

RATE_HZ = 10.0
SIZE_PX = 320, 240
TOKEN = "correct-horse-battery"  # noqa: S105 - of this suite
DESCRIPTORS = 1024
BITS, CELL_PX, CODE_TOP_PX = 26, 8, 112
"""The time in ms, black and white, between one black and one white cell, on a gray strip in the middle of the picture."""
SHARE = 0.9
"""Of frames and of answers that have to come while something else goes wrong."""
AGE_ERROR_MS = 1000.0
BEFORE_READING = ("behind", "network_queue", "corrupt", "duplicate", "driver", "no_key_frame")
"""Causes of drops of frames that were never read."""
STANDING, STANDS_S = 2500, 4.5
"""Connections that say nothing, to publisher and page each, and how long each is held."""
STARTED_S, ENDED_S = 30.0, 10.0
SETTLED_S = 4.0
"""After a disturbance of a camera or of the process, the picture may take so long to be whole."""
WARM_S, GROWTH = 90.0, 1.15
SLEEPER = (
    "import sys, time, rtfusion\nframes = rtfusion.subscribe(sys.argv[1], server_key=sys.argv[2], keys=sys.argv[3])\n"
)
SLEEPER += "next(frames)\nprint(flush=True)\ntime.sleep(1e6)\n"
FLOODER = """
import contextlib, os, resource, socket, sys, time
os.nice(15)  # who floods computes on machines of their own
standing, stands_s, *ports = int(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * standing), hard))
crowd = []
while True:
    for number in range(min(200, standing * len(ports) - len(crowd))):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(OSError):
            one.connect(("127.0.0.1", ports[number % len(ports)]))
        crowd.append((time.monotonic(), one))
    while crowd and crowd[0][0] < time.monotonic() - stands_s:
        crowd.pop(0)[1].close()
    time.sleep(0.02)
"""
COLUMNS = (("invariant", "{case}"), ("checked", "{checked}"), ("violated", "{violated}"), ("worst", "{worst}"))
LEFT_OUT = ("power cuts: tests/session measures them by cutting an image",)
STEPS_S = (-86_400, -3600, -2, 2, 3600, 86_400)
"""By so much the time of day jumps."""


class Ledger:
    """What was checked, and what did not hold."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.violated: dict[str, list[str]] = {}
        self.worst: dict[str, float] = {}

    def check(self, invariant: str, holds: bool, detail: str, *, figure: float | None = None) -> None:
        """Note one check; ``figure`` is kept where it is the lowest."""
        self.checked[invariant] += 1
        if figure is not None:
            self.worst[invariant] = min(figure, self.worst.get(invariant, figure))
        if not holds:
            self.violated.setdefault(invariant, []).append(detail)
            print(f"violated: {invariant}: {detail}", file=sys.stderr, flush=True)


class Cameras:
    """Two network cameras that draw the time into their pictures."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 8, (8, *SIZE_PX[::-1], 3), dtype=np.uint8)

        def picture(number: int, *, is_visible: bool) -> bytes:
            image = noise[number % len(noise)] + np.uint8(60)
            half = (slice(None), slice(0, SIZE_PX[0] // 2)) if is_visible else (slice(0, SIZE_PX[1] // 2), slice(None))
            image[half] += 60
            draw_time(image, is_drawn=is_visible)
            return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

        self.visible = MjpegServer(lambda number: picture(number, is_visible=True), rate_hz=RATE_HZ)
        self.thermal = MjpegServer(lambda number: picture(number, is_visible=False), rate_hz=RATE_HZ)

    def close(self) -> None:
        """End both."""
        self.visible.close()
        self.thermal.close()


def draw_time(image: Any, *, is_drawn: bool) -> None:
    """Draw the time into the strip, or leave the strip gray where the other camera draws."""
    image[CODE_TOP_PX : CODE_TOP_PX + 2 * CELL_PX] = 110
    if not is_drawn:
        return
    now_ms = time.monotonic_ns() // 1_000_000 % (1 << BITS)
    for place, bit in enumerate([0, 1, *(now_ms >> shift & 1 for shift in range(BITS))]):
        left = CELL_PX * (2 + place)
        image[CODE_TOP_PX : CODE_TOP_PX + 2 * CELL_PX, left : left + CELL_PX] = 220 * bit


def drawn_age_ms(image: Any) -> float:
    """The age of a fused picture by the time drawn into it."""
    row = image[CODE_TOP_PX + CELL_PX - 2 : CODE_TOP_PX + CELL_PX + 2].mean(axis=(0, 2))
    levels = [row[CELL_PX * (2 + place) + 2 : CELL_PX * (3 + place) - 2].mean() for place in range(BITS + 2)]
    middle = (levels[0] + levels[1]) / 2
    then_ms = sum(int(level > middle) << shift for shift, level in enumerate(levels[2:]))
    return float((time.monotonic_ns() // 1_000_000 - then_ms) % (1 << BITS))


class Run:
    """The run, one life after the other."""

    def __init__(
        self, folder: Path, disk: Path, cameras: Cameras, ledger: Ledger, *, clock_setter: Path | None
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self.disk = disk
        self.page, self.publisher = _free_port(), _free_port()
        self._clock = folder / "clock"
        self.set_clock(0)
        self._environment = {**os.environ, "RTFUSION_WEB_TOKEN": TOKEN, "CLOCK_SET": str(self._clock)}
        if clock_setter is not None:
            self._environment["LD_PRELOAD"] = str(clock_setter)
        self._words = [
            *(sys.executable, "-m", "rtfusion", "run", "--fuser", "pyramid", "--log-json"),
            *("--vis", cameras.visible.url, "--ir", cameras.thermal.url),
            *("--sink", f"record:{disk}/sessions?segment_s=10&reserve_mb=16&max_gb=0.05"),
            *("--sink", f"zmq:tcp://127.0.0.1:{self.publisher}?keys={folder}/camera.key&clients={folder}/allowed"),
            *("--sink", f"web://127.0.0.1:{self.page}"),
        ]
        self.lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._warm_mb = 0.0

    @property
    def pid(self) -> int:
        """Of the present life."""
        assert self._process is not None  # noqa: S101 - there is one from the start on
        return self._process.pid

    def start(self) -> None:
        """Begin a life."""
        self.lives += 1
        log = (self._folder / f"life-{self.lives}.log").open("wb")
        stats = ["--stats-json", str(self._folder / f"life-{self.lives}.json")]
        self._process = subprocess.Popen(  # noqa: S603
            [*self._words, *stats],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )
        log.close()
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        self._started_s, self._warm_mb = time.monotonic(), 0.0

    def set_clock(self, off_s: int) -> None:
        """Put the time of day of the run off by so much; what it holds mapped stays the same file."""
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("=q", off_s * NS_PER_S))

    def watch(self) -> None:
        """Nobody asked it to end; and its memory does not grow."""
        assert self._process is not None  # noqa: S101
        code = self._process.poll()
        self._ledger.check("no life ends by itself", code is None, f"life {self.lives} ended with {code}")
        if code is not None:
            self.start()
            return
        memory_mb, lived_s = _resident_mb(self.pid), time.monotonic() - self._started_s
        if lived_s <= WARM_S:
            self._warm_mb = max(self._warm_mb, memory_mb)  # the most, for an encoder that is open takes some
        else:
            ratio = memory_mb / self._warm_mb
            self._ledger.check("memory is flat", ratio < GROWTH, f"{ratio:.2f} times after {lived_s:.0f} s")

    def end(self, how: signal.Signals) -> None:
        """End a life, and look at how it ended."""
        process = self._process
        assert process is not None  # noqa: S101
        process.send_signal(how)
        try:
            code = process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if how is not signal.SIGKILL:
            self._ledger.check("a life ends when it is asked to", code == 128 + how, f"{how.name} gave {code}")
            self._account(self._folder / f"life-{self.lives}.json")

    def _account(self, path: Path) -> None:
        """Every frame that was read is in a pair, or counted as lost."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._ledger.check("every frame is accounted for", False, f"life {self.lives}: {error}")
            return
        for band in ("visible", "thermal"):
            alone = sum(count for how, count in told["degraded"].items() if how.endswith(band))
            lost = sum(count for cause, count in told["drops"].get(band, {}).items() if cause not in BEFORE_READING)
            left = told["frames_read"][band] - (told["pairs"] - alone) - lost
            self._ledger.check("every frame is accounted for", abs(left) <= 1, f"{band}: {left} frames too many")


class Listener(threading.Thread):
    """A client on the list of the publisher."""

    def __init__(self, run: Run, folder: Path, ledger: Ledger) -> None:
        super().__init__(name="listener", daemon=True)
        self._address = f"tcp://127.0.0.1:{run.publisher}"
        self._keys: dict[str, Any] = {"server_key": folder / "camera.pub", "keys": folder / "allowed" / "friend.key"}
        self._ledger = ledger
        self.honest = True
        """False while a camera, the run or its clock is disturbed: what is told then may be another age than that drawn."""
        self.frames = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Take every frame, and hold its age against the time drawn into it."""
        while not self.over.is_set():
            with (
                contextlib.suppress(FusionError),
                rtfusion.subscribe(self._address, timeout_s=2.0, **self._keys) as frames,
            ):
                for frame in frames:
                    self._take(frame)
                    if self.over.is_set():
                        return

    def _take(self, frame: Any) -> None:
        was_honest, true_ms = self.honest, drawn_age_ms(frame.image)
        self.frames += 1
        if was_honest and self.honest and frame.header.degraded is None:
            error_ms = abs(frame.age_ms - true_ms)
            detail = f"told {frame.age_ms:.0f} ms, true {true_ms:.0f} ms"
            self._ledger.check("ages are honest", error_ms < AGE_ERROR_MS, detail, figure=-error_ms)


class Owner(threading.Thread):
    """Has the token, and asks for the state twice a second."""

    def __init__(self, run: Run) -> None:
        super().__init__(name="owner", daemon=True)
        self._run = run
        self.asked = self.answered = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Ask until it is over."""
        while not self.over.wait(0.5):
            connection = http.client.HTTPConnection("127.0.0.1", self._run.page, timeout=2.0)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("GET", "/state", headers={"Authorization": f"Bearer {TOKEN}"})
                self.answered += connection.getresponse().status == 200
            self.asked += 1  # when it is over: who still waits has not been left without an answer


class Chaos:
    """The disturbances: each lasts as long as it is entered."""

    def __init__(self, run: Run, cameras: Cameras, folder: Path) -> None:
        self._run, self._cameras, self._folder = run, cameras, folder

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """A camera is not there."""
        camera = random.choice([self._cameras.visible, self._cameras.thermal])
        camera.unplug()
        yield
        camera.plug()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """A camera is connected and says nothing: the network is cut."""
        camera = random.choice([self._cameras.visible, self._cameras.thermal])
        camera.silent = True
        yield
        camera.silent = False

    @contextlib.contextmanager
    def corrupt(self) -> Iterator[None]:
        """A camera sends halves of pictures."""
        camera = random.choice([self._cameras.visible, self._cameras.thermal])
        camera.damage = lambda data: data[: len(data) // 2]
        yield
        camera.damage = None

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Thousands of connections to publisher and page that say nothing, made anew as they are ended."""
        words = [sys.executable, "-c", FLOODER, *map(str, (STANDING, STANDS_S, self._run.page, self._run.publisher))]
        with subprocess.Popen(words) as flooder:  # noqa: S603
            yield
            flooder.kill()

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """Strangers that ask for the page and read nothing, that send large heads, and bodies that look like requests."""
        hidden = b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"
        asked = [
            hidden * 20,
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 500_000,
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden,
        ]
        with contextlib.ExitStack() as crowd:
            for number in range(300):
                with contextlib.suppress(OSError):
                    one = crowd.enter_context(socket.create_connection(("127.0.0.1", self._run.page), timeout=1.0))
                    one.settimeout(0.2)
                    one.sendall(asked[number % len(asked)])
            yield

    @contextlib.contextmanager
    def sleeping(self) -> Iterator[None]:
        """A client on the list that stops reading."""
        files = [str(self._folder / "camera.pub"), str(self._folder / "allowed" / "sleeper.key")]
        words = [sys.executable, "-c", SLEEPER, f"tcp://127.0.0.1:{self._run.publisher}", *files]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as sleeper:  # noqa: S603
            assert sleeper.stdout is not None  # noqa: S101
            sleeper.stdout.readline()
            sleeper.send_signal(signal.SIGSTOP)
            yield
            sleeper.kill()

    @contextlib.contextmanager
    def disk_full(self) -> Iterator[None]:
        """No room is left."""
        ballast = self._run.disk / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self._run.disk).free)
        yield
        ballast.unlink()

    @contextlib.contextmanager
    def disk_gone(self) -> Iterator[None]:
        """The folder of the recordings is not there."""
        sessions = self._run.disk / "sessions"
        sessions.rename(gone := sessions.with_name("gone"))
        yield
        if sessions.exists():  # begun anew meanwhile
            for session in sessions.iterdir():
                session.rename(gone / f"{session.name}-{self._run.lives}-{time.monotonic_ns()}")
            sessions.rmdir()
        gone.rename(sessions)

    @contextlib.contextmanager
    def clock_set(self) -> Iterator[None]:
        """The time of day jumps, and jumps back; that of the observer does not."""
        self._run.set_clock(random.choice(STEPS_S))
        yield
        self._run.set_clock(0)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The process is not run for a while: a machine that sleeps."""
        os.kill(self._run.pid, signal.SIGSTOP)
        yield
        os.kill(self._run.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """It is told to end, and started again, as a service is."""
        self._run.end(random.choice([signal.SIGTERM, signal.SIGINT]))
        self._run.start()
        yield

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """It is killed, and started again."""
        self._run.end(signal.SIGKILL)
        self._run.start()
        yield


SERVED = ("standing", "slow", "sleeping", "disk_full", "disk_gone", "clock_set")
"""Disturbances that no client may notice; those of a camera still give frames."""
RECORDED = ("disk_full", "disk_gone", "clock_set")
"""Disturbances after which recording has to go on."""
OF_CAMERAS = ("unplugged", "silent", "corrupt")
OF_PROCESS = ("stopped", "ended", "killed")


def measure(options: argparse.Namespace) -> Measured:
    """One disturbance after the other until the time is over: a row for each invariant, and one for each disturbance."""
    random.seed(options.seed)
    ledger, times = Ledger(), Counter[str]()
    with contextlib.ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtfusion-chaos-")))
        (folder / "allowed").mkdir()
        for name in ("camera", "allowed/friend", "allowed/sleeper"):
            make_keys(folder / name)
        disk = stack.enter_context(small_disk(folder / "disk"))
        clock_setter = _clock_setter(folder)
        missing = {
            "disk_full": None if disk else "a full disk: it cannot be mounted here",
            "clock_set": None if clock_setter else "clock steps: there is no compiler here",
        }
        left_out = [*LEFT_OUT, *filter(None, missing.values())]
        place = disk or folder / "plain"
        (place / "sessions").mkdir(parents=True)
        cameras = Cameras()
        stack.callback(cameras.close)
        run = Run(folder, place, cameras, ledger, clock_setter=clock_setter)
        names = [name for name in (*SERVED, *OF_CAMERAS, *OF_PROCESS) if not missing.get(name)]
        run.start()
        stack.callback(lambda: run.end(signal.SIGKILL))
        listener, owner = Listener(run, folder, ledger), Owner(run)
        listener.start()
        owner.start()
        _until(lambda: listener.frames > 0 and owner.answered > 0)
        end_s = time.monotonic() + 60 * options.minutes
        chaos = Chaos(run, cameras, folder)
        while time.monotonic() < end_s:
            name = random.choice(names)
            times[name] += 1
            _disturb(name, getattr(chaos, name), listener=listener, owner=owner, ledger=ledger)
            if name in RECORDED:
                ended_s = time.time()
                _until(lambda: _recorded_s(place / "sessions") > ended_s)  # noqa: B023 - it is called here alone
                ledger.check("recording goes on", _recorded_s(place / "sessions") > ended_s, f"not after {name}")
            run.watch()
        before = listener.frames
        _until(lambda: listener.frames > before)  # whoever has not begun cannot end well
        run.end(signal.SIGTERM)
        listener.over.set()
        owner.over.set()
        for thread in (listener, owner):
            thread.join(5.0)
        _check_sessions(place / "sessions", ledger)
    rows = [
        {
            "case": name,
            "of": "invariant",
            "checked": count,
            "violated": len(ledger.violated.get(name, [])),
            "worst": ledger.worst.get(name),
            "details": ledger.violated.get(name, [])[:20],
        }
        for name, count in sorted(ledger.checked.items())
    ]
    rows += [{"case": name, "of": "disturbance", "times": count} for name, count in sorted(times.items())]
    settings = {"minutes": options.minutes, "seed": options.seed, "rate_hz": RATE_HZ, "lives": run.lives}
    return {**settings, "descriptors": DESCRIPTORS, "left_out": left_out}, rows


def _disturb(name: str, disturbance: Callable[[], Any], *, listener: Listener, owner: Owner, ledger: Ledger) -> None:
    """Put one disturbance in for some seconds, and count what comes meanwhile."""
    listener.honest = name in SERVED and name != "clock_set"  # who reads another clock is told another age
    with disturbance():
        frames, asked, answered = listener.frames, owner.asked, owner.answered
        started_s = time.monotonic()
        time.sleep(random.uniform(4.0, 8.0))
        share = (listener.frames - frames) / (RATE_HZ * (time.monotonic() - started_s))
        answers = (owner.answered - answered) / max(1, owner.asked - asked)
    if name in SERVED:
        ledger.check("a listed client is served", share >= SHARE, f"{name}: {share:.2f} of the frames", figure=share)
        ledger.check("the owner is answered", answers >= SHARE, f"{name}: {answers:.2f} of the answers", figure=answers)
    before = listener.frames
    _until(lambda: listener.frames > before + RATE_HZ)
    ledger.check("frames come again", listener.frames > before, f"none came after {name}")
    time.sleep(SETTLED_S)
    listener.honest = True


def _recorded_s(sessions: Path) -> float:
    """When something was recorded last."""
    last_s = 0.0
    for file in sessions.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # it is being finished
            last_s = max(last_s, file.stat().st_mtime)
    return last_s


def _check_sessions(sessions: Path, ledger: Ledger) -> None:
    for folder in sorted(sessions.iterdir()):
        if not any(folder.glob("*.jsonl")):  # ended before its first frame
            continue
        told = check_session(folder)
        ledger.check("recordings play", told["plays"], json.dumps(told))


def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + STARTED_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)


def _clock_setter(folder: Path) -> Path | None:
    """A library through which a process reads the time of day; None where there is no compiler."""
    if (compiler := shutil.which("cc")) is None:
        return None
    words = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library := folder / "clock_set.so")]
    subprocess.run([*words, str(Path(__file__).with_name("clock_set.c"))], check=True)  # noqa: S603
    return library


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


def failures(data: Result) -> list[str]:
    """Say in words what did not hold."""
    return [
        f"{row['case']}: {row['details'][0]}" for row in data["rows"] if row["of"] == "invariant" and row["violated"]
    ]


def table(data: Result) -> str:
    """A line for every invariant, and how often what was put in; Markdown."""
    rows: list[Mapping[str, Any]] = [
        {**row, "worst": "" if row["worst"] is None else f"{abs(row['worst']):.2f}"}
        for row in data["rows"]
        if row["of"] == "invariant"
    ]
    put_in = [row for row in data["rows"] if row["of"] == "disturbance"]
    times = ", ".join(f"{row['case'].replace('_', ' ')} {row['times']}" for row in put_in)
    lived = "In {minutes:g} minutes and {lives} lives".format_map(data["settings"])
    return f"{columns_table(COLUMNS, rows)}\n\n{lived}: {times}."


SUITE = Suite(
    name="chaos",
    help=__doc__,
    options={
        "--minutes": {"type": float, "default": 60.0},
        "--seed": {"type": int, "default": 0},
        "--folder": {"type": Path, "help": "an empty one to work in (default: a temporary one)"},
    },
    measure=measure,
    table=table,
    failures=failures,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
