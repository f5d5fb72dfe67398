"""The run in a browser: pictures, measurements, dials, snapshots, recordings; Prometheus and a health check (docs/browser.md).

A browser asks for one picture after the other and gets the newest, so none can fall behind, and one that is slow slows only
itself. The run hands over a reference to each frame and goes on; encoding happens in the threads of those who look.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtfusion.clock import NS_PER_MS
from rtfusion.config import LOOKS
from rtfusion.errors import ConfigError, FusionError
from rtfusion.files import expanded
from rtfusion.focus.boxes import MARKED, MAX_BOXES, Box
from rtfusion.fusion.base import Change
from rtfusion.fusion.color import PALETTES, REVERSED, is_palette
from rtfusion.fusion.nudging import Nudge, Placement
from rtfusion.fusion.saying import tell
from rtfusion.models import shipped_names
from rtfusion.registration import Calibration
from rtfusion.sinks.base import SinkContext
from rtfusion.text import is_loopback
from rtfusion.types import FusedFrame
from rtfusion.web.latest import LatestFrameEncoder, View
from rtfusion.web.metrics import CONTENT_TYPE, prometheus
from rtfusion.web.recorder import Recorder
from rtfusion.web.server import Answer, Refused, Request, Server, json_answer

TOKEN_VARIABLE = "RTFUSION_WEB_TOKEN"  # noqa: S105 - its name, not its value
JPEG_QUALITY = 80
PICTURE_S = 1.0
"""Longest wait for a new picture."""
STREAMS = 8
"""Motion JPEG streams at a time."""
STALE_S = 5.0
"""Without a frame for this long, the health check fails."""
SNAPSHOT_S = 0.25
"""The measurements are taken at most this often, however many look at them."""
RECENT_FRAMES = 64
BACK = "back"
"""In place of a nudge: the registration of the beginning."""
_log = logging.getLogger(__name__)

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")
_BOUNDARY = "rtfusion-frame"
_PAGE = Path(__file__).resolve().parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class WebSink:
    """Serves the newest frame at an address until it is closed."""

    def __init__(
        self,
        address: str,
        *,
        uri: str,
        context: SinkContext,
        token: str | None = None,
        name: str | None = None,
        record: str | None = None,
        quality: int = JPEG_QUALITY,
    ) -> None:
        """Listen at ``//HOST:PORT``.

        Raises:
            ConfigError: the address is not one, is in use, or is public while there is no token; the folder for
                recordings cannot be written.
        """
        self.uri = uri
        host, port = _address(address, uri=self.uri)
        token = _checked_token(
            (os.environ.get(TOKEN_VARIABLE) or None) if token is None else token, host=host, uri=self.uri
        )
        palette = None if context.control is None else context.control.palette
        self._run = context
        self._models = _models(context)
        self._has_parallax = context.settings.get("parallax", "off") != "off"
        # parallax needs the pose of the cameras, which a nudge gives up
        self._placement = None if self._has_parallax else _placement(context)
        self._moving = threading.Lock()
        """Held while the registration is moved: a step is from where the one before it ended."""
        self._recorder = None if record is None else Recorder(expanded(record), context=context, uri=self.uri)
        self._latest = LatestFrameEncoder(palette=palette or "white-hot", quality=quality)
        self._ages_ns: deque[int] = deque(maxlen=RECENT_FRAMES)
        self._written_s = time.monotonic()
        self._streams = threading.BoundedSemaphore(STREAMS)
        self._snapshot_lock = threading.Lock()
        self._snapshot: Mapping[str, Any] = {}
        self._snapshot_s = -math.inf
        self._routes: Mapping[tuple[str, str], Callable[[Request], Answer]] = {
            **{("GET", path): self._file for path in _FILES},
            ("GET", "/picture"): self._picture,
            ("GET", "/stream"): self._stream,
            ("GET", "/snapshot"): self._keep,
            ("GET", "/state"): self._state,
            ("GET", "/calibration"): self._calibration,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/healthz"): self._health,
            ("POST", "/control"): self._control,
            ("POST", "/say"): self._say,
            ("POST", "/record"): self._record,
        }
        try:
            self._server = Server(
                (host, port),
                respond=self._respond,
                token=token,
                names=_names(host, name),
                open_paths=frozenset({"/healthz", "/icon.svg", "/page.css"}),
            )
        except OSError as error:
            raise ConfigError(
                f"{self.uri}: cannot listen at {host} port {port}: {error.strerror}; end what listens there, or choose "
                "another port or an address of this machine"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        _log.info("the page is at http://%s:%d/%s", shown, self.port, ", with a token" if token else "")

    @property
    def port(self) -> int:
        """The port that it listens at; for port 0 the one that the system chose."""
        return self._server.port

    def write(self, frame: FusedFrame) -> None:
        """Show one frame from now on, and record it when that is asked for."""
        shown_from_ns = frame.timestamp_ns if self._run.live else frame.received_ns
        self._ages_ns.append(time.monotonic_ns() - shown_from_ns)
        self._written_s = time.monotonic()
        self._latest.put(frame)
        if self._recorder is not None:
            self._recorder.put(frame)

    def close(self, *, aborted: bool) -> None:
        """Tell whoever waits for a picture that there is none any more, finish a recording, and free the address. Idempotent."""
        self._latest.close()
        self._server.stop()
        if self._recorder is not None:
            self._recorder.close()

    # -- what a client may ask ----------------------------------------------------------------------------------------

    def _respond(self, request: Request) -> Answer:
        respond = self._routes.get((request.method, request.path))
        if respond is not None:
            return respond(request)
        if any(path == request.path for _, path in self._routes):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this is asked with GET or POST, the other way round")
        raise Refused(HTTPStatus.NOT_FOUND, "there is nothing of this name")

    def _file(self, request: Request) -> Answer:
        name, content_type = _FILES[request.path]
        return Answer(content_type=content_type, body=(_PAGE / name).read_bytes())

    def _view(self, request: Request) -> View:
        views = [view for view in View if view is not View.PARALLAX or self._has_parallax]
        named = request.query.get("view", View.FUSED.value)
        for view in views:
            if view.value == named:
                return view
        raise Refused(HTTPStatus.BAD_REQUEST, f"there are the views {', '.join(view.value for view in views)}")

    def _picture(self, request: Request) -> Answer:
        view = self._view(request)
        after = request.query.get("after", "")
        known = int(after) if re.fullmatch(r"[0-9]{1,18}", after, re.ASCII) else None
        frame = self._latest.frame(after=known, timeout_s=PICTURE_S)
        if self._latest.closed:
            raise Refused(HTTPStatus.GONE, "the run has ended")
        if frame is None:
            return Answer(status=HTTPStatus.NO_CONTENT)
        headers = {"X-Sequence": str(frame.sequence)}
        return Answer(content_type="image/jpeg", body=self._latest.jpeg(frame, view), headers=headers)

    def _stream(self, request: Request) -> Answer:
        parts = self._parts(self._view(request))
        next(parts)  # there is room for it
        return Answer(
            content_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
            body=f"--{_BOUNDARY}\r\n".encode(),
            parts=parts,
        )

    def _parts(self, view: View) -> Iterator[bytes]:
        """Pictures for a Motion JPEG stream, each with its head, until the run ends or the client goes away; first, nothing."""
        if not self._streams.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{STREAMS} streams are being watched; close one of them")
        try:
            yield b""
            last: int | None = None
            while not self._latest.closed:
                frame = self._latest.frame(after=last, timeout_s=PICTURE_S)
                if frame is None:
                    continue
                last = frame.sequence
                data = self._latest.jpeg(frame, view)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                yield head.encode() + data + f"\r\n--{_BOUNDARY}\r\n".encode()
        finally:
            self._streams.release()

    def _keep(self, request: Request) -> Answer:
        view = self._view(request)
        frame = self._latest.frame()
        if frame is None:
            raise Refused(HTTPStatus.CONFLICT, "no frame has come yet")
        name = time.strftime(f"rtfusion-%Y%m%d-%H%M%S-{frame.sequence:06d}-{view.value}.png")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Answer(content_type="image/png", body=self._latest.png(frame, view), headers=headers)

    def _state(self, request: Request) -> Answer:
        inputs = {} if self._run.control is None else self._run.control.inputs
        frame = self._latest.frame()
        ages_ms = sorted(age_ns / NS_PER_MS for age_ns in list(self._ages_ns))
        state = {
            "session": self._run.session,
            "over": self._latest.closed,
            "run": self._measured(),
            "age_ms": None if not ages_ms else {f"p{p}": ages_ms[p * len(ages_ms) // 100] for p in (50, 95)},
            "silent_s": time.monotonic() - self._written_s,
            "frame": None if frame is None else _described(frame),
            "model": self._model(),
            "look": self._look(),
            "scalars": {name: v for name, v in inputs.items() if isinstance(v, float)},  # a page shows no maps
            "intents": self._intents(),
            "regions": self._regions(),
            "palette": self._latest.palette,
            "palettes": PALETTES,
            "parallax": self._has_parallax,
            "nudge": None if self._placement is None else {"calibration": self._placement.calibration.id},
            "record": None if self._recorder is None else self._recorder.state,
        }
        return json_answer(state)

    def _metrics(self, request: Request) -> Answer:
        measured = self._measured()
        if not measured:
            raise Refused(HTTPStatus.NOT_FOUND, "this run is not measured")
        durations = {} if self._run.durations is None else self._run.durations()
        return Answer(content_type=CONTENT_TYPE, body=prometheus(measured, durations=durations))

    def _health(self, request: Request) -> Answer:
        silent_s = time.monotonic() - self._written_s
        if silent_s > STALE_S:
            body = f"no frame for {silent_s:.0f} s\n".encode()
            return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body)
        return Answer(body=b"ok\n")

    def _control(self, request: Request) -> Answer:
        wishes = request.body
        if not isinstance(wishes, dict) or not wishes:
            raise Refused(HTTPStatus.BAD_REQUEST, "expected what to change by name")
        palette = wishes.pop("palette", None)
        if palette is not None and not (isinstance(palette, str) and is_palette(palette)):
            told = f"there are the palettes {', '.join(PALETTES)}, each also with {REVERSED} at its end"
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, told)
        model, look = self._wanted_model(wishes.pop("model", None)), _text("look", wishes.pop("look", None))
        nudge = _nudge(wishes.pop("nudge", None))
        intents = _wish(wishes.pop("intents", None))
        regions = _boxes(wishes.pop("regions", None))
        scalars: dict[str, Any] = {name: _number(name, value) for name, value in wishes.items()}
        control = self._run.control
        asked = scalars or any(wish is not None for wish in (intents, regions, model, look, nudge))
        if control is None and asked:
            raise Refused(HTTPStatus.CONFLICT, "nothing of this run can be changed")
        if nudge is not None and self._placement is None:
            raise Refused(HTTPStatus.CONFLICT, "the registration of this run cannot be moved by hand")
        if unknown := scalars.keys() - (control.inputs if control is not None else {}):
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"this run has no dial {sorted(unknown)[0][:40]!r}")
        try:
            if control is not None:
                painted = palette if control.palette is not None else None
                with self._moving:
                    control.change(
                        Change(
                            calibration=self._moved(nudge),
                            model=model,
                            look=look,
                            inputs=scalars,
                            palette=painted,
                            intents=intents,
                            regions=regions,
                        )
                    )
        except FusionError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        self._latest.palette = palette or self._latest.palette
        return self._state(request)

    def _say(self, request: Request) -> Answer:
        text = request.body.get("text") if isinstance(request.body, dict) else None
        if not isinstance(text, str) or len(request.body) != 1:
            raise Refused(HTTPStatus.BAD_REQUEST, 'expected {"text": "what to see"}')
        if self._run.control is None:
            raise Refused(HTTPStatus.CONFLICT, "nothing of this run can be changed")
        try:
            said = tell(self._run.control, text)
        except FusionError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        return json_answer({**said.as_dict(), "told": str(said), "intents": self._intents()})

    def _model(self) -> dict[str, Any] | None:
        """The model in use, and those that it can be exchanged for; None for fusers without one."""
        model = None if self._run.control is None else self._run.control.model
        if model is None:
            return None
        return {"used": next((name for name, path in self._models.items() if path == model), model.name),
                "names": list(self._models)}  # fmt: skip

    def _wanted_model(self, name: object) -> Path | None:
        """A model by one of the names that `_model` gives: no client says which file is opened."""
        if name is None or _text("model", name) in self._models:
            return None if name is None else self._models[str(name)]
        known = ", ".join(self._models) or "none"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"models that can be chosen here: {known}")

    def _look(self) -> dict[str, Any] | None:
        """Whom the picture is for, and whom it could be for; None where that cannot be chosen."""
        look = None if self._run.control is None else self._run.control.look
        return None if look is None else {"used": look, "names": LOOKS}

    def _moved(self, nudge: Nudge | str | None) -> Calibration | None:
        """The calibration after a nudge, or the one of the beginning; None changes nothing."""
        if nudge is None or self._placement is None:
            return None
        return self._placement.nudged(nudge) if isinstance(nudge, Nudge) else self._placement.start

    def _calibration(self, request: Request) -> Answer:
        if self._placement is None:
            raise Refused(HTTPStatus.CONFLICT, "the registration of this run cannot be moved by hand")
        name = time.strftime("calibration-%Y%m%d-%H%M%S.json")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        text = self._placement.calibration.to_json() + "\n"
        return Answer(content_type="application/json", body=text.encode(), headers=headers)

    def _intents(self) -> dict[str, Any] | None:
        """Where every axis is going, and what has a name; None where nothing can be asked for."""
        control = self._run.control
        intents = None if control is None else control.intents
        if control is None or intents is None:
            return None
        return {"axes": dict(intents), "presets": {name: dict(wish) for name, wish in control.presets.items()}}

    def _regions(self) -> list[dict[str, Any]] | None:
        """The rectangles that count; None where nothing can be brought out."""
        regions = None if self._run.control is None else self._run.control.regions
        return None if regions is None else [asdict(box) for box in regions]

    def _record(self, request: Request) -> Answer:
        if not isinstance(request.body, dict) or not isinstance(request.body.get("on"), bool):
            raise Refused(HTTPStatus.BAD_REQUEST, 'expected {"on": true} or {"on": false}')
        if self._recorder is None:
            hint = "start the run with ?record=FOLDER in the address"
            raise Refused(HTTPStatus.CONFLICT, f"no folder was named to record into: {hint}")
        try:
            if request.body["on"]:
                self._recorder.start()
            else:
                self._recorder.stop()
        except FusionError as error:
            raise Refused(HTTPStatus.CONFLICT, str(error)) from None
        return json_answer(self._recorder.state)

    def _measured(self) -> Mapping[str, Any]:
        """The measurements of the run, not older than `SNAPSHOT_S`; empty where there are none."""
        if self._run.snapshot is None:
            return {}
        with self._snapshot_lock:
            if time.monotonic() - self._snapshot_s >= SNAPSHOT_S:
                self._snapshot, self._snapshot_s = self._run.snapshot(), time.monotonic()
            return self._snapshot


def _address(address: str, *, uri: str) -> tuple[str, int]:
    with contextlib.suppress(ValueError):  # no port, or no address at all
        parts = urlsplit(address)
        is_plain = address.startswith("//") and "@" not in address and parts.path in ("", "/")
        if is_plain and parts.hostname and parts.port is not None:
            return parts.hostname, parts.port
    raise ConfigError(f"{uri}: expected an address and a port, as in web://127.0.0.1:8080")


def _checked_token(token: str | None, *, host: str, uri: str) -> str | None:
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"{uri}: others than this machine may look only with a token: put one into {TOKEN_VARIABLE} (at least 16 "
            "letters and digits), or stay on this machine with web://127.0.0.1:8080"
        )
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigError(f"{uri}: the token is too short, or no token: expected 16 to 256 of A-Z a-z 0-9 . _ ~ -")
    return token


def _names(host: str, name: str | None) -> frozenset[str]:
    """Names that a browser may call this machine by; on the machine itself it is localhost or an address."""
    names = {} if name is None else {name.lower()}
    if is_loopback(host):
        return frozenset(names)
    machine = socket.gethostname().lower()
    return frozenset({*names, host.lower(), machine, f"{machine.partition('.')[0]}.local"})


def _models(context: SinkContext) -> dict[str, Path]:
    """The models that a run can change to, by the name that a person chooses: those that ship, and the one that it began with."""
    used = None if context.control is None else context.control.model
    if used is None:
        return {}
    models = {name: Path(name) for name in shipped_names()}
    return models if used in models.values() else {used.name: used, **models}


def _placement(context: SinkContext) -> Placement | None:
    """None where moving by hand is not possible."""
    if context.control is None or not context.sizes_px:
        return None
    return Placement(context.control, sizes_px=context.sizes_px)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name[:40]!r} should be a number")
    return float(value)


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name!r} should be a text")


def _nudge(given: object) -> Nudge | str | None:
    """A nudge as a client writes it: an object with some fields of a `Nudge`, or the word for going back."""
    if given is None or given == BACK:
        return given
    known = {one.name for one in fields(Nudge)}
    if not isinstance(given, dict) or not given or given.keys() - known:
        told = f"a nudge is {BACK!r}, or has {', '.join(sorted(known))}"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, told)
    try:
        return Nudge(**{name: _number(name, value) for name, value in given.items()})
    except FusionError as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


def _wish(given: object) -> str | dict[str, float] | None:
    """Intents as a client writes them: a text as of ``--intent``, or numbers by axis."""
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, dict):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "intents should be a text, or numbers by axis")
    return {name: _number(name, value) for name, value in given.items()}


def _boxes(given: object) -> list[Box] | None:
    """Rectangles as a client writes them: objects with the fields of a `Box`; ``target`` and ``weight`` may be left out."""
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > MAX_BOXES or not all(isinstance(one, dict) for one in given):
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"regions should be a list of at most {MAX_BOXES} rectangles")
    try:
        return [Box(**{"target": MARKED, **one}) for one in given]
    except TypeError:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a rectangle has left, top, right and bottom") from None
    except FusionError as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


def _described(frame: FusedFrame) -> dict[str, Any]:
    return {
        "sequence": frame.sequence,
        "size_px": [frame.width_px, frame.height_px],
        "skew_ms": frame.skew_ns / NS_PER_MS,
        "degraded": None if frame.degraded is None else frame.degraded.value,
        "thermal": dict(frame.thermal_state),
        "intents": dict(frame.intents),
        "intents_version": frame.intents_version,
    }
