"""The browser view over real sockets, with clients that mean well and clients that do not."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import rtfusion
from rtfusion.config import load
from rtfusion.errors import ConfigError
from rtfusion.focus import Box
from rtfusion.focus.boxes import MARKED
from rtfusion.fusion import open_method
from rtfusion.intents import PRESETS, Intents
from rtfusion.pairs import PairStream
from rtfusion.pipeline import Pipeline
from rtfusion.registration import Calibration
from rtfusion.sinks import SinkContext, open_sink, open_sinks
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Displacement
from rtfusion.web import door, latest, recorder
from rtfusion.web.sink import STREAMS, TOKEN_VARIABLE, WebSink
from tests.support import MS, RecordingControl, ScriptedSource, host_fuser, stream

TOKEN = "correct-horse-battery"  # noqa: S105 - of the tests
PATIENCE_S = 20.0
BOUNDS = "0.001", "0.004", "0.512", "+Inf"


class Dials(RecordingControl):
    """A run with a dial, painted in a palette."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = {"enhance": 0.5}
        self.palette = "ironbow"


def context(**given: Any) -> SinkContext:
    return SinkContext(**{"rate_hz": 30.0, "live": False, "session": "run", "snapshot": Telemetry().snapshot, **given})


@contextlib.contextmanager
def serving(query: str = "", **given: Any) -> Iterator[WebSink]:
    sink = open_sink(f"web://127.0.0.1:0{query}", context=context(**given))
    assert isinstance(sink, WebSink)
    try:
        yield sink
    finally:
        sink.close(aborted=False)


@pytest.fixture
def sink(tmp_path: Path, make_frame) -> Iterator[WebSink]:
    with serving(f"?record={tmp_path}", control=Dials()) as opened:
        opened.write(make_frame(7))
        yield opened


def ask(
    sink: WebSink, path: str, *, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=PATIENCE_S)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body=data, headers={**sent, **(headers or {})})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def post(sink: WebSink, path: str, body: Any, **headers: str) -> tuple[int, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer, data = ask(sink, path, method="POST", body=body, headers=sent)
    return answer.status, data.decode()


def state(sink: WebSink) -> dict[str, Any]:
    return json.loads(ask(sink, "/state")[1])


def raw(sink: WebSink, data: bytes = b"", *, receive_bytes: int | None = None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(PATIENCE_S)
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        connection.connect(("127.0.0.1", sink.port))
        connection.sendall(data)
    except OSError:
        connection.close()
        raise
    return connection


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        threading.Event().wait(0.01)


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "size_px"),
    [
        ("fused", (64, 48)),
        ("visible", (64, 48)),
        ("thermal", (64, 48)),
        ("side-by-side", (192, 48)),
        ("stacked", (64, 144)),
    ],
)
def test_each_view_is_a_picture(sink, view, size_px):
    answer, data = ask(sink, f"/picture?view={view}")
    assert (answer.status, answer.headers["Content-Type"], answer.headers["X-Sequence"]) == (200, "image/jpeg", "7")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1::-1] == size_px


def test_parallax_is_a_view_of_the_run_that_has_it(sink, make_frame):
    answer, data = ask(sink, "/picture?view=parallax")
    assert answer.status == 400
    assert b"fused, side-by-side, stacked, thermal, visible" in data
    assert not state(sink)["parallax"]
    cells_px = np.zeros((12, 16), np.float32)
    cells_px[:, 8:], cells_px[:, :4] = 10.0, -2.0
    frame = replace(make_frame(7), displacement=Displacement(cells_px, farthest_px=-2.0, nearest_px=10.0))
    with serving(settings={"parallax": "dense"}) as with_parallax:
        for one, colored in ((make_frame(6), False), (frame, True)):
            with_parallax.write(one)
            until(lambda sequence=one.sequence: state(with_parallax)["frame"]["sequence"] == sequence)
            answer, data = ask(with_parallax, "/picture?view=parallax")
            assert answer.status == 200
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
            assert picture.shape[:2] == one.image.shape[:2]
            redder = (picture[..., 2] - picture[..., 0]).mean(axis=0)
            assert (redder[-16:].mean() > 60) == (redder[:8].mean() < -60) == colored, "near orange, far blue"
            assert abs(redder[24]) < 30
        assert state(with_parallax)["parallax"]


def test_a_snapshot_keeps_every_pixel(sink, make_frame):
    answer, data = ask(sink, "/snapshot?view=fused")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), make_frame(7).image)
    assert re.search(
        r'attachment; filename="rtfusion-\d{8}-\d{6}-000007-fused.png"', answer.headers["Content-Disposition"]
    )


def test_the_next_picture_is_waited_for_and_is_the_newest(sink, make_frame):
    answers: list[str | None] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(sink, "/picture?after=7")[0].headers["X-Sequence"]))
    waiting.start()
    sink.write(make_frame(8))
    waiting.join(PATIENCE_S)
    assert answers == ["8"]
    assert ask(sink, "/picture?after=8")[0].status == 204


def test_before_the_first_frame_there_is_nothing_to_keep():
    with serving() as sink:
        assert ask(sink, "/snapshot")[0].status == 409
        assert ask(sink, "/picture")[0].status == 204
        assert state(sink)["frame"] is None


def test_one_picture_is_encoded_once(make_frame):
    pictures = latest.LatestFrameEncoder(palette="inferno", quality=80)
    frame = make_frame(0)
    first = pictures.jpeg(frame, latest.View.THERMAL)
    assert pictures.jpeg(frame, latest.View.THERMAL) is first
    pictures.palette = "white-hot"
    assert pictures.jpeg(frame, latest.View.THERMAL) != first


def test_large_pictures_are_scaled_down(make_frame):
    pictures = latest.LatestFrameEncoder(palette="inferno", quality=80)
    data = pictures.jpeg(make_frame(0, size_px=(1280, 512)), latest.View.SIDE_BY_SIDE)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (256, 1920, 3)


def test_a_stream_of_pictures(sink, make_frame):
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=PATIENCE_S)
    connection.request("GET", "/stream?view=fused")
    with contextlib.closing(connection), connection.getresponse() as lines:
        assert lines.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=rtfusion-frame"
        for sequence in (7, 8):
            sink.write(make_frame(sequence))
            assert lines.readline() == b"--rtfusion-frame\r\n"
            part = b"".join(iter(lines.readline, b"\r\n"))
            length = int(re.search(rb"Content-Length: (\d+)", part)[1])
            assert cv2.imdecode(np.frombuffer(lines.read(length), np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
            assert lines.readline() == b"\r\n"


# -- the page, the measurements ----------------------------------------------------------------------------------------


def test_the_page_is_whole_and_asks_nobody_else(sink):
    answer, page = ask(sink, "/")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    parts = re.findall(r'(?:src|href)="(/[^"]+)"', page.decode())
    assert {"/page.css", "/page.js", "/icon.svg"} <= set(parts)
    assert not re.search(r"https?://", page.decode())
    assert all(ask(sink, part)[0].status == 200 for part in set(parts) - {"/stream"})


def test_the_state_of_a_run(sink):
    told = state(sink)
    assert told["frame"]["skew_ms"] == 2.0
    assert told["frame"]["size_px"] == [64, 48]
    assert told["scalars"] == {"enhance": 0.5}
    assert told["palette"] == "ironbow"
    assert told["record"]["on"] is False
    assert told["age_ms"]["p95"] > 0


def test_prometheus_reads_the_measurements():
    telemetry = Telemetry()
    telemetry.pairs = 3
    for duration_ms in (2, 3, 300):
        telemetry.stage("fuse").record(duration_ms * MS)
    telemetry.drops = {"visible": {"unpaired": 2}, "thermal": {}, "sinks": {'images:"a"': {"slow": 1}}}
    with serving(snapshot=telemetry.snapshot, durations=telemetry.durations) as sink:
        answer, body = ask(sink, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    told = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert told["rtfusion_pairs_total",] == 3
    assert told["rtfusion_drops_total", ("cause", "unpaired"), ("place", "visible")] == 2
    assert told["rtfusion_sink_drops_total", ("cause", "slow"), ("sink", 'images:"a"')] == 1
    assert told["rtfusion_stage_seconds_sum", ("stage", "fuse")] == pytest.approx(0.305)
    within = {bound: told["rtfusion_stage_seconds_bucket", ("le", bound), ("stage", "fuse")] for bound in BOUNDS}
    assert within == {"0.001": 0, "0.004": 2, "0.512": 3, "+Inf": 3}
    about = next(dict(key[1:]) for key in told if key[0] == "rtfusion_build_info")
    assert about["version"] == rtfusion.__version__


def test_health(sink, monkeypatch):
    assert ask(sink, "/healthz")[1] == b"ok\n"
    monkeypatch.setattr("rtfusion.web.sink.STALE_S", 0.0)
    answer, body = ask(sink, "/healthz")
    assert answer.status == 503
    assert b"no frame for" in body


# -- what a person may change ------------------------------------------------------------------------------------------


def test_the_dial_and_the_palette_reach_the_run():
    control = Dials()
    with serving(control=control) as sink:
        assert post(sink, "/control", {"enhance": 0.9, "palette": "rainbow"})[0] == 200
        assert (control.inputs, control.palette) == ({"enhance": 0.9}, "rainbow")
        assert state(sink)["palette"] == "rainbow"


def test_rectangles_reach_the_run_and_come_back_with_the_state():
    control = Dials()
    half = {"left": 0.25, "top": 0.25, "right": 0.5, "bottom": 0.75}
    with serving(control=control) as sink:
        status, body = post(sink, "/control", {"regions": [half, {**half, "target": "dogs", "weight": 0.5}]})
        assert status == 200
        assert control.regions == [Box(target=MARKED, **half), Box(target="dogs", weight=0.5, **half)]
        assert json.loads(body)["regions"] == state(sink)["regions"] == [asdict(box) for box in control.regions]
        for wrong in (
            "all",
            [half] * 65,
            [[0, 0, 1, 1]],
            [{"left": 0}],
            [{**half, "depth": 1}],
            [{**half, "left": 0.9}],
        ):
            assert post(sink, "/control", {"regions": wrong})[0] in (413, 422)
        assert len(control.regions) == 2
        assert post(sink, "/control", {"regions": []})[0] == 200
        assert control.regions == []
    control.regions = None
    with serving(control=control) as sink:
        assert state(sink)["regions"] is None, "the page offers no rectangles"
    with serving() as sink:
        assert post(sink, "/control", {"regions": [half]})[0] == 409


def test_the_palette_of_a_running_overlay():
    fuser = host_fuser(
        "overlay", method=open_method("overlay", still=False, threshold=0.0, opacity=1.0),
    )  # fmt: skip
    sink = open_sink("web://127.0.0.1:0", context=context(control=fuser))
    assert isinstance(sink, WebSink)
    colors: list[tuple[int, ...]] = []

    class Watching:
        uri = "watch:"

        def write(self, frame) -> None:
            colors.append(tuple(frame.image[0, 0]))

        def close(self, *, aborted: bool) -> None:
            pass

    def turn() -> None:
        until(lambda: bool(colors))
        assert post(sink, "/control", {"palette": "white-hot"})[0] == 200

    visible = stream(Band.VISIBLE, range(0, 100, 33))
    Pipeline(
        pairs=PairStream(
            visible=ScriptedSource(Band.VISIBLE, [*visible[:-1], turn, visible[-1]]),
            thermal=ScriptedSource(Band.THERMAL, stream(Band.THERMAL, range(0, 100, 33))),
            read_ahead=True,
        ),
        fuser=fuser,
        sinks=[sink, Watching()],
    ).run()
    assert len(set(colors[0])) > 1
    assert colors[-1] == (100, 100, 100)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"enhanse": 1}, 422, "no dial 'enhanse'"),
        ({"calibration": 1}, 422, "no dial"),
        ({"palette": "pink"}, 422, "inferno"),
        ({"palette": ["inferno"]}, 422, "inferno"),
        ({"enhance": "1"}, 422, "should be a number"),
        ({"enhance": True}, 422, "should be a number"),
        (b'{"enhance": NaN}', 422, "should be a number"),
        (b'{"enhance": 1e400}', 422, "should be a number"),
        ({}, 400, "by name"),
        ([1], 400, "by name"),
        (b"enhance=1", 400, "not JSON"),
        (b"[" * 4000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
    ],
)
def test_wishes_that_make_no_sense(sink, body, status, says):
    got, text = post(sink, "/control", body)
    assert (got, says in text) == (status, True), text
    assert state(sink)["scalars"] == {"enhance": 0.5}


def test_a_recording_begins_and_ends_by_button(sink, tmp_path, make_frame):
    assert post(sink, "/record", {"on": True})[0] == 200
    for sequence in range(8, 20):
        sink.write(make_frame(sequence))
    status, text = post(sink, "/record", {"on": False})
    told = json.loads(text)
    assert (status, told["on"], told["frames"], told["dropped"], told["error"]) == (200, False, 12, 0, None)
    with av.open(tmp_path / told["file"]) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12


def test_the_end_of_the_run_finishes_a_recording(tmp_path, make_frame):
    with serving(f"?record={tmp_path / 'of' / 'today'}") as sink:
        assert post(sink, "/record", {"on": True})[0] == 200
        sink.write(make_frame(0))
    with av.open(next((tmp_path / "of" / "today").glob("*.mp4"))) as video:
        assert sum(1 for _ in video.decode(video=0)) == 1


def test_what_breaks_a_recording_does_not_break_the_run(sink, make_frame):
    assert post(sink, "/record", {"on": True})[0] == 200
    sink.write(make_frame(8))
    until(lambda: bool(sink.write(make_frame(9, size_px=(32, 32)))) or state(sink)["record"]["error"] is not None)
    told = state(sink)["record"]
    assert told["on"] is False
    assert "the frame size changed" in told["error"]
    assert post(sink, "/record", {"on": "yes"})[0] == 400


def test_a_disk_that_hangs_ends_the_recording_only(sink, tmp_path, make_frame, monkeypatch):
    monkeypatch.setattr(recorder, "PATIENCE_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr("rtfusion.sinks.video.VideoSink.write", lambda *_: gate.wait(PATIENCE_S))
    assert post(sink, "/record", {"on": True})[0] == 200
    for sequence in range(8, 16):
        sink.write(make_frame(sequence))
    gate.set()
    assert "took no frame" in state(sink)["record"]["error"]


def test_without_a_folder_nothing_is_recorded():
    with serving() as sink:
        status, text = post(sink, "/record", {"on": True})
        assert (status, "?record=FOLDER" in text) == (409, True)
        assert state(sink)["record"] is None


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])  # noqa: S104
def test_public_addresses_need_a_token(address, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=rf"only with a token: put one into {TOKEN_VARIABLE}"):
        open_sink(f"web://{address}:8080", context=context())


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("web:", "for example web://127.0.0.1:8080"),
        ("web://127.0.0.1", "expected an address and a port"),
        ("web:127.0.0.1:8080", "expected an address and a port"),
        ("web://127.0.0.1:99999", "expected an address and a port"),
        ("web://127.0.0.1:8080/x", "expected an address and a port"),
        ("web://user@127.0.0.1:8080", "expected an address and a port"),
        ("web://127.0.0.1:0?tokn=x", "did you mean token?"),
        ("web://127.0.0.1:0?record=/proc/nowhere/at/all", "No such file or directory"),
        ("web://127.0.0.1:0?token=short", "at least 16|16 to 256"),
        ("web://127.0.0.1:0?token=", "16 to 256"),
    ],
)
def test_refuses_at_the_start(uri, says):
    with pytest.raises(ConfigError) as caught:
        open_sink(uri, context=context())
    assert re.search(says, str(caught.value)), caught.value


def test_an_address_in_use(sink):
    with pytest.raises(ConfigError, match="Address already in use"):
        open_sink(f"web://127.0.0.1:{sink.port}", context=context())


def test_the_token_stays_out_of_names_messages_and_logs(caplog, monkeypatch):
    uri = f"web://127.0.0.1:0?token={TOKEN}"
    with caplog.at_level(logging.DEBUG), serving(f"?token={TOKEN}") as sink:
        assert TOKEN not in sink.uri
        for path in (f"/?token={TOKEN}", f"/nothing?token={TOKEN}", f"/{TOKEN} x"):
            raw(sink, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).close()
            assert TOKEN not in json.dumps(
                ask(sink, "/state", headers={"Authorization": f"Bearer {TOKEN}"})[1].decode()
            )
    assert TOKEN not in caplog.text
    for uris in ([f"{uri}&x=1"], [uri, uri], [f"{uri}&token={TOKEN}"], [f"{uri}&record=/proc/nowhere/at/all"]):
        with pytest.raises(ConfigError) as caught:
            open_sinks(uris, context=context())
        assert TOKEN not in str(caught.value)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert TOKEN not in str(load({}, file=None, environ={TOKEN_VARIABLE: TOKEN}))
    with serving() as sink:
        assert ask(sink, "/state")[0].status == 401


def test_only_who_knows_the_token_comes_in():
    with serving(f"?token={TOKEN}") as sink:
        assert ask(sink, "/healthz")[0].status == 200
        for path in ("/", "/state", "/picture", "/metrics", "/nothing", "/state?token=", f"/state?token={TOKEN}x"):
            assert ask(sink, path)[0].status == 401
        for headers in ({"Authorization": "Bearer x"}, {"Cookie": f"rtfusion-0=x{TOKEN}"}, {"Cookie": "=;=,\x01"}):
            assert ask(sink, "/state", headers=headers)[0].status == 401
        assert post(sink, "/control", {"enhance": 1})[0] == 401
        assert ask(sink, "/state", headers={"Authorization": f"Bearer {TOKEN}"})[0].status == 200
        answer, _ = ask(sink, f"/?token={TOKEN}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        assert ask(sink, "/", headers={"Cookie": cookie.partition(";")[0]})[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "a b"]
)
def test_names_that_are_not_this_machines_get_nothing(sink, host):
    assert ask(sink, "/state", headers={"Host": host})[0].status == 421


@pytest.mark.parametrize("host", ["localhost", "LocalHost:9000", "127.0.0.1:8080", "[::1]:8080"])
def test_a_tunnel_may_change_the_port(sink, host):
    assert ask(sink, "/state", headers={"Host": host})[0].status == 200


def test_a_name_of_ones_own():
    with serving("?name=rig.example.org") as sink:
        assert ask(sink, "/state", headers={"Host": "rig.example.org"})[0].status == 200


def test_other_sites_change_nothing_and_see_nothing(sink):
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert post(sink, "/control", {"enhance": 0.0}, Origin=origin, Host="localhost:8080")[0] == 403
    assert post(sink, "/control", {"enhance": 0.0}, Content_Type="text/plain")[0] == 415
    for path in ("/picture", "/state", "/stream"):
        assert ask(sink, path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0].status == 403
    assert state(sink)["scalars"] == {"enhance": 0.5}
    assert ask(sink, "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0].status == 200
    assert post(sink, "/control", {"enhance": 1}, Origin="http://localhost:8080", Host="localhost:8080")[0] == 200


# -- clients that do not mean well -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_text",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        f"GET /{'x' * 70_000} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 5000 + "\r\n",
        "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET //evil.example/state HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://[x/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
        "GET /picture?view=all HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /state?" + "a=1&" * 50 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /control HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /state HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n",
        "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /control HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_bad_requests_get_4xx(sink, request_text):
    with raw(sink) as connection:
        with contextlib.suppress(ConnectionError):  # it may hang up before it has everything
            connection.sendall(request_text.encode())
        with contextlib.suppress(ConnectionResetError):
            assert re.match(rb"HTTP/1.1 4\d\d ", connection.recv(4096))
    assert ask(sink, "/state")[0].status == 200


def test_half_a_request_is_given_up(sink, monkeypatch):
    monkeypatch.setattr(door, "REQUEST_S", 0.3)
    halves = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"]
    halves.append(
        b"POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    for half in halves:
        with raw(sink, half) as connection:
            assert re.match(rb"$|HTTP/1.1 408 ", connection.recv(4096))


def test_a_request_that_drips_is_given_up(sink, monkeypatch):
    monkeypatch.setattr(door, "REQUEST_S", 0.3)
    with raw(sink, b"GET / HTTP/1.1\r\n") as connection:
        connection.settimeout(0.02)
        data: bytes | None = None
        end_s = time.monotonic() + PATIENCE_S
        while data is None:
            assert time.monotonic() < end_s
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"X")
            try:
                data = connection.recv(1)
            except TimeoutError:
                continue
            except ConnectionError:
                data = b""
        assert data == b""


def test_clients_that_never_read_hold_up_nobody(sink, make_frame, monkeypatch):
    monkeypatch.setattr(door, "SEND_S", 0.3)
    monkeypatch.setattr(door, "SEND_BUFFER_BYTES", 4096)
    request = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(raw(sink, request, receive_bytes=2048)) for _ in range(STREAMS)]
        for stream in streams:  # each has its place once it is answered; it reads nothing more
            assert stream.recv(12) == b"HTTP/1.1 200"
        assert ask(sink, "/stream")[0].status == 503
        frame = make_frame(0, size_px=(640, 480))
        sequence = 8
        while sink._server.connections:  # they are cut, and every frame is taken meanwhile
            sequence += 1
            started_s = time.monotonic()
            sink.write(make_frame(sequence, image=frame.image))
            assert time.monotonic() - started_s < PATIENCE_S
            threading.Event().wait(0.02)
    assert state(sink)["frame"]["sequence"] == sequence


def test_a_thousand_guests(sink):
    with contextlib.ExitStack() as crowd:
        for _ in range(1000):
            crowd.enter_context(raw(sink))
        assert ask(sink, "/state")[0].status == 200
        until(lambda: sink._server.connections <= door.MAX_GUESTS + door.MAX_KNOWN)


def test_the_end_waits_for_nobody(make_frame):
    sink = open_sink("web://127.0.0.1:0", context=context())
    sink.write(make_frame(0))
    clients = [raw(sink), raw(sink, b"GET / HT"), raw(sink, b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")]
    clients.append(raw(sink, b"GET /picture?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    until(lambda: sink._server.connections == len(clients))
    started_s = time.monotonic()
    sink.close(aborted=False)
    sink.close(aborted=True)
    assert time.monotonic() - started_s < PATIENCE_S
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass
    with pytest.raises(ConnectionRefusedError):
        raw(sink)


# -- what the picture is to show --------------------------------------------------------------------------------------


def test_intents_are_asked_for_by_axis_by_text_and_in_a_sentence() -> None:
    control = Dials()
    with serving(control=control) as sink:
        assert post(sink, "/control", {"intents": {"people": 0.5, "color": -1}})[0] == 200
        assert post(sink, "/control", {"intents": {"people": 1}})[0] == 200
        assert control.intents == Intents(people=1.0, color=-1.0)
        status, text = post(sink, "/control", {"intents": "night-drive"})
        assert status == 200
        assert json.loads(text)["intents"]["axes"] == dict(PRESETS["night-drive"])
        assert set(json.loads(text)["intents"]["presets"]) == set(PRESETS)
        status, text = post(sink, "/say", {"text": "back to normal"})
        answer = json.loads(text)
        assert (status, answer["reset"], answer["refused"]) == (200, True, False)
        assert control.intents == Intents()
        changes = control.changes
        answer = json.loads(post(sink, "/say", {"text": "what time does the bakery open"})[1])
        assert answer["refused"]
        assert len(answer["nearest"]) == 3
        assert control.changes == changes


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/control", {"intents": {"peple": 1}}, 422, "did you mean people"),
        ("/control", {"intents": {"people": 2}}, 422, "expected -1 to 1"),
        ("/control", {"intents": {"people": "much"}}, 422, "should be a number"),
        ("/control", {"intents": [1]}, 422, "a text, or numbers by axis"),
        ("/control", {"intents": "nihgt-drive"}, 422, "there is no preset"),
        ("/say", {"text": 3}, 400, "expected"),
        ("/say", {"text": "brighter", "more": 1}, 400, "expected"),
        ("/say", {"text": "brighter " * 100}, 422, "500 at most"),
    ],
)
def test_a_wish_that_cannot_be_read_is_refused(path: str, body: object, status: int, words: str) -> None:
    fuser = host_fuser("pyramid")
    with serving(control=fuser) as sink:
        got, text = post(sink, path, body)
        assert got == status
        assert words in text
        assert fuser.intents == Intents()


def test_a_fuser_without_intents_has_none_on_the_page() -> None:
    with serving(control=host_fuser("overlay")) as sink:
        assert state(sink)["intents"] is None
        status, text = post(sink, "/say", {"text": "brighter"})
        assert (status, "takes no intents" in text) == (422, True)
        assert post(sink, "/control", {"intents": {"people": 1}})[0] == 422


def test_who_does_not_know_the_token_has_no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    control = Dials()
    with serving(control=control) as sink:
        assert post(sink, "/say", {"text": "brighter"})[0] == 401
        assert post(sink, "/control", {"intents": {"people": 1}})[0] == 401
        assert control.changes == 0
        assert post(sink, "/say", {"text": "brighter"}, Authorization=f"Bearer {TOKEN}")[0] == 200
        assert control.changes == 1


# -- what is changed while it runs, and the end ------------------------------------------------------------------------

SIZES_PX = {Band.VISIBLE: (64, 48), Band.THERMAL: (64, 48)}


def at_middle(control: RecordingControl) -> np.ndarray:
    assert control.calibration is not None
    moved = control.calibration.homography_px @ (31.5, 23.5, 1.0)
    return moved[:2] / moved[2]


def test_models_that_ship_and_the_one_of_the_beginning_are_offered_by_name_and_no_other_file_is_opened():
    control = Dials()
    control.model = Path("/models/own.onnx")
    with serving(control=control) as sink:
        told = state(sink)["model"]
        assert (told["used"], told["names"]) == ("own.onnx", ["own.onnx", "large", "small"])
        assert post(sink, "/control", {"model": "small"})[0] == 200
        assert control.model == Path("small")
        assert state(sink)["model"]["used"] == "small"
        assert post(sink, "/control", {"model": "own.onnx"})[0] == 200
        assert control.model == Path("/models/own.onnx")
        for wish in ("/etc/passwd", "../own.onnx", "/models/own.onnx", ["small"], 1):
            assert post(sink, "/control", {"model": wish})[0] == 422
        assert control.model == Path("/models/own.onnx")


def test_what_this_run_cannot_change_is_not_offered(sink):
    told = state(sink)
    assert (told["model"], told["look"], told["nudge"]) == (None, None, None)
    assert post(sink, "/control", {"nudge": {"right_px": 1}})[0] == 409
    assert post(sink, "/control", {"model": "small"})[0] == 422
    assert ask(sink, "/calibration")[0].status == 409


def test_with_parallax_no_nudge_is_offered():
    with serving(control=Dials(), sizes_px=SIZES_PX, settings={"parallax": "layers"}) as sink:
        assert state(sink)["nudge"] is None


def test_the_look_of_a_running_fuser():
    fuser = host_fuser("average")
    with contextlib.closing(fuser), serving(control=fuser) as sink:
        assert state(sink)["look"] == {"used": "eye", "names": ["eye", "detector"]}
        assert post(sink, "/control", {"look": "detector"})[0] == 200
        assert fuser.look == "detector"
        status, text = post(sink, "/control", {"look": "dog"})
        assert (status, "eye, detector" in text) == (422, True)
        assert fuser.look == "detector"


def test_nudges_add_up_and_the_beginning_comes_back():
    control = Dials()
    with serving(control=control, sizes_px=SIZES_PX) as sink:
        before = state(sink)["nudge"]["calibration"]
        assert post(sink, "/control", {"nudge": {"right_px": 2, "down_px": -1}})[0] == 200
        assert post(sink, "/control", {"nudge": {"right_px": 1, "turn_deg": 5, "scale": 1.1}})[0] == 200
        np.testing.assert_allclose(at_middle(control), (34.5, 22.5))
        answer, text = ask(sink, "/calibration")
        assert re.search(r'filename="calibration-\d{8}-\d{6}\.json"', answer.headers["Content-Disposition"])
        assert Calibration.from_json(text.decode()) == control.calibration
        assert post(sink, "/control", {"nudge": "back"})[0] == 200
        np.testing.assert_allclose(at_middle(control), (31.5, 23.5))
        assert state(sink)["nudge"]["calibration"] == before


@pytest.mark.parametrize(
    "nudge", ["forth", [], {}, {"left_px": 1}, {"right_px": "1"}, {"right_px": 1e6}, {"scale": 0}, {"turn_deg": 90}]
)
def test_nudges_that_make_no_sense_move_nothing(nudge):
    control = Dials()
    with serving(control=control, sizes_px=SIZES_PX) as sink:
        assert post(sink, "/control", {"nudge": nudge})[0] == 422
        assert control.changes == 0


def test_a_palette_turned_round(sink):
    assert post(sink, "/control", {"palette": "white-hot"})[0] == 200
    plain = cv2.imdecode(np.frombuffer(ask(sink, "/snapshot?view=thermal")[1], np.uint8), cv2.IMREAD_COLOR)
    assert post(sink, "/control", {"palette": "white-hot-reversed"})[0] == 200
    turned = cv2.imdecode(np.frombuffer(ask(sink, "/snapshot?view=thermal")[1], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(turned, 255 - plain)
    assert state(sink)["palette"] == "white-hot-reversed"
    assert post(sink, "/control", {"palette": "white-hot-reversed-reversed"})[0] == 422


def test_who_waits_for_a_picture_hears_that_the_run_is_over(sink):
    answers: list[tuple[int, bytes]] = []

    def wait() -> None:
        answer, body = ask(sink, "/picture?after=7")
        answers.append((answer.status, body))

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: sink._server.connections > 0)
    sink.close(aborted=False)
    waiting.join(PATIENCE_S)
    assert answers == [(410, b"the run has ended\n")]


@pytest.mark.parametrize("path", ["/", "/login", "/stream", "/snapshot", "/state"])
def test_a_person_gets_a_form_wherever_they_knock(path):
    with serving(f"?token={TOKEN}") as sink:
        answer, page = ask(sink, path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert (answer.status, b'action="/login"' in page) == (401, True)
        assert b"<form" not in ask(sink, path)[1]
