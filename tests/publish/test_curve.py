"""Keys, the list of clients, too many connections, and floods: what strangers cannot do to a publisher."""

from __future__ import annotations

import contextlib
import socket
import stat
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import zmq

import rtfusion
from rtfusion.errors import CaptureTimeout, ConfigError
from rtfusion.publish import publisher
from rtfusion.publish.keys import load_pair, load_public, make_keys
from rtfusion.publish.publisher import MAX_CONNECTIONS, ZapAuthenticator
from rtfusion.sinks import open_sink

PATIENCE_S = 30.0


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "allowed").mkdir()
    for name in ("camera", "allowed/friend", "stranger"):
        make_keys(tmp_path / name)
    return tmp_path


def test_a_secret_is_for_its_owner_alone(tmp_path):
    key_path, public_path = make_keys(tmp_path / "camera")
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    pair = load_pair(key_path)
    assert load_public(public_path) == load_public(pair.public) == load_public(key_path) == pair.public
    assert pair.secret not in public_path.read_text() + repr(pair)
    with pytest.raises(ConfigError, match="keys are never replaced"):
        make_keys(tmp_path / "camera")
    key_path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640\); run chmod 600"):
        load_pair(key_path)


@pytest.mark.parametrize("text", ["", "public = 3", 'public = "short"', "\x00", "x" * 5000, "public"])
def test_what_is_no_key_file(tmp_path, text):
    path = tmp_path / "bad.key"
    path.write_text(text)
    path.chmod(0o600)
    for load in (load_pair, load_public):
        with pytest.raises(ConfigError, match="make one with rtfusion keys"):
            load(path)


def test_keys_that_do_not_belong_together(keys):
    text = (
        (keys / "camera.key").read_text().replace(load_public(keys / "camera.pub"), load_public(keys / "stranger.pub"))
    )
    (keys / "camera.key").write_text(text)
    with pytest.raises(ConfigError, match="not that of the secret one"):
        load_pair(keys / "camera.key")


def test_only_those_on_the_list_may_watch(keys, make_context, make_frame):
    uri = f"zmq:tcp://0.0.0.0:*?keys={keys}/camera.key&clients={keys}/allowed"
    sink = open_sink(uri, context=make_context(live=True))
    url = sink.endpoint.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    server_key = keys / "camera.pub"
    with (
        rtfusion.subscribe(
            url, timeout_s=PATIENCE_S, server_key=server_key, keys=keys / "allowed/friend.key"
        ) as friend,
        rtfusion.subscribe(url, timeout_s=0.05, server_key=server_key, keys=keys / "stranger.key") as stranger,
        rtfusion.subscribe(url, timeout_s=0.05, server_key=server_key) as nobody,
        rtfusion.subscribe(url, timeout_s=0.05) as plain,
    ):
        until(sink.has_subscribers)
        until(lambda: sink.publisher.authenticator.refused >= 2)
        sink.write(make_frame(3))
        assert next(friend).sequence == 3
        with pytest.raises(CaptureTimeout, match="is this public key on its list"):
            next(stranger)
        for frames in (nobody, plain):
            with pytest.raises(CaptureTimeout):
                next(frames)
    sink.close(aborted=False)


def test_any_client_that_knows_the_publisher(keys, make_context, make_frame):
    sink = open_sink(f"zmq:tcp://127.0.0.1:*?keys={keys}/camera.key&clients=any", context=make_context(live=True))
    server_key = load_public(keys / "camera.pub")
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, server_key=server_key) as frames:
        until(sink.has_subscribers)
        sink.write(make_frame(1))
        assert next(frames).sequence == 1
    sink.close(aborted=False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("keys=camera.key", "clients=FOLDER"),
        ("clients=allowed", "keys=FILE.key"),
        ("keys=none.key&clients=any", "cannot read the key file"),
        ("keys=camera.key&clients=empty", "no public keys in this folder"),
        ("keys=camera.key&clients=gone.pub", "cannot read the key file"),
    ],
)
def test_half_a_lock_is_none(keys, make_context, monkeypatch, query, words):
    monkeypatch.chdir(keys)
    (keys / "empty").mkdir()
    with pytest.raises(ConfigError, match=words):
        open_sink(f"zmq:tcp://0.0.0.0:*?{query}", context=make_context(live=True))


def test_keys_without_the_publishers_key(keys):
    with pytest.raises(ConfigError, match="give server_key too"):
        rtfusion.subscribe("tcp://127.0.0.1:9", keys=keys / "stranger.key")


def test_too_many_connections_are_refused_and_make_room_when_they_end(make_context, make_frame):
    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    context = zmq.Context()
    crowd = [context.socket(zmq.SUB) for _ in range(MAX_CONNECTIONS + 5)]
    for one in crowd:
        one.setsockopt(zmq.SUBSCRIBE, b"elsewhere")
        one.setsockopt(zmq.RECONNECT_IVL, 20)
        one.connect(sink.endpoint)
    until(lambda: sink.publisher.authenticator.refused >= 5)
    for one in crowd:
        one.close(linger=0)
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        until(sink.has_subscribers)
        sink.write(make_frame(2))
        assert next(frames).sequence == 2
    sink.close(aborted=False)
    context.term()


@pytest.mark.parametrize("query", ["", "?keys={0}/camera.key&clients={0}/allowed"])
def test_connections_that_only_stand_there_take_nobodys_place(keys, make_context, make_frame, query, monkeypatch):
    monkeypatch.setattr("rtfusion.publish.publisher.HANDSHAKE_MS", 1000 * round(2 * PATIENCE_S))  # as if they came anew
    sink = open_sink(f"zmq:tcp://127.0.0.1:*{query.format(keys)}", context=make_context(live=True))
    host, _, port = sink.endpoint.removeprefix("tcp://").rpartition(":")
    known = {"server_key": keys / "camera.pub", "keys": keys / "allowed/friend.key"} if query else {}
    with contextlib.ExitStack() as crowd:
        for _ in range(2 * MAX_CONNECTIONS):
            crowd.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
        until(lambda: len(sink.publisher.authenticator._connections) >= 2 * MAX_CONNECTIONS)
        with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, **known) as frames:
            until(sink.has_subscribers)
            sink.write(make_frame(4))
            assert next(frames).sequence == 4
    sink.close(aborted=False)


def test_thousands_of_connections_leave_descriptors_and_listed_clients_alone(
    keys, make_context, make_frame, monkeypatch
):
    monkeypatch.setattr("rtfusion.publish.publisher.HANDSHAKE_MS", 1000)
    uri = f"zmq:tcp://127.0.0.1:*?keys={keys}/camera.key&clients={keys}/allowed"
    sink = open_sink(uri, context=make_context(live=True))
    host, _, port = sink.endpoint.removeprefix("tcp://").rpartition(":")
    known = {"server_key": keys / "camera.pub", "keys": keys / "allowed/friend.key"}
    taken = psutil.Process().num_fds
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, newest=False, **known) as frames:
        until(sink.has_subscribers)
        before, most, crowd = taken(), 0, []
        for _ in range(4 * publisher.MAX_STANDING):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((host, int(port)))
            crowd.append(one)
            most = max(most, taken() - len(crowd) - before)
        time.sleep(0.3)
        most = max(most, taken() - len(crowd) - before)
        for sequence in range(5):
            sink.write(make_frame(sequence))
            assert next(frames).sequence == sequence
        for one in crowd:
            one.close()
        assert most < 2 * publisher.MAX_STANDING
    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S, **known) as frames:
        until(lambda: (sink.write(make_frame(9)), len(frames._mailbox) > 0)[1])
        assert next(frames).sequence == 9
    sink.close(aborted=False)


def test_the_door_closes_while_connections_keep_coming(monkeypatch):
    """There is always one more to be counted, until nobody is heard any more."""

    class Crowd:
        """What the monitor tells of a flood: the end of the door is the end of it."""

        count = 0
        is_open = True

        def set_open(self, is_wanted: bool) -> bool:
            self.is_open = is_wanted
            return True

        def poll(self, timeout_ms: int) -> bool:
            return self.is_open and self.count < 20 * publisher.MAX_STANDING

        def recv_multipart(self) -> list[bytes]:
            self.count += 1
            return [struct.pack("=hi", zmq.EVENT_ACCEPTED, self.count), b"tcp://*"]

        def close(self, linger: int) -> None:
            pass

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    authenticator = ZapAuthenticator(context, allowed=None)
    crowd = Crowd()
    events, authenticator._events = authenticator._events, crowd
    authenticator._door = crowd
    monkeypatch.setattr(zmq, "Poller", lambda: SimpleNamespace(register=lambda *_: None, poll=lambda _: []))
    monkeypatch.setattr(authenticator, "_stop", SimpleNamespace(is_set=lambda: crowd.count > 0))
    authenticator._run()
    events.close()
    context.term()
    assert crowd.count == publisher.MAX_STANDING + 1


FLOODER = """
import sys, zmq
flooder = zmq.Context().socket(zmq.XSUB)
flooder.setsockopt(zmq.SNDHWM, 0)
flooder.setsockopt(zmq.RECONNECT_IVL, -1)
flooder.connect(sys.argv[1])
for number in range(3000):
    flooder.send(b"\\x01" + f"{number:08}".encode() * 100)
sys.stdin.read()
"""


def test_a_flood_of_subscriptions_is_shaken_off(make_context, make_frame, child_environment):
    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    arguments = [sys.executable, "-c", FLOODER, sink.endpoint]
    written = 0

    def write() -> None:
        nonlocal written
        sink.write(make_frame(written))
        written += 1

    with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
        until(sink.has_subscribers)
        before_bytes = psutil.Process().memory_info().rss
        with subprocess.Popen(arguments, env=child_environment, stdin=subprocess.PIPE) as flooder:
            until(lambda: (write(), sink.drops.get("flood", 0) > 0)[1])
            flooder.kill()
        flooded_at = written
        until(lambda: (write(), len(frames._mailbox) > 0 and next(frames).sequence >= flooded_at)[1])
        assert psutil.Process().memory_info().rss - before_bytes < 50_000_000
    sink.close(aborted=False)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200, b"", b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00"]
)
def test_bytes_that_are_not_zeromq(make_context, make_frame, garbage):
    import socket

    sink = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    host, port = sink.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(garbage)
        with rtfusion.subscribe(sink.endpoint, timeout_s=PATIENCE_S) as frames:
            until(sink.has_subscribers)
            sink.write(make_frame(1))
            assert next(frames).sequence == 1
    sink.close(aborted=True)
