"""Sources as a user names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfusion.capture.uri import parse_source, rate_hz, read_query, same_place
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.redaction import without_credentials


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a clip, a picture and a folder of frames."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    (tmp_path / "still.PNG").write_bytes(b"x")
    (tmp_path / "frames").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "scheme", "target", "query"),
    [
        ("clip.mp4", "video", "clip.mp4", {}),
        ("file:clip.mp4", "video", "clip.mp4", {}),
        ("video:clip.mp4", "video", "clip.mp4", {}),
        ("frames", "images", "frames", {}),
        ("file:frames", "images", "frames", {}),
        ("frames?fps=25", "images", "frames", {"fps": "25"}),
        ("images:frames?fps=30000/1001", "images", "frames", {"fps": "30000/1001"}),
        ("images:frames?fps=30000%2F1001", "images", "frames", {"fps": "30000/1001"}),
        ("still.PNG", "images", "still.PNG", {}),
        ("/dev/video7", "v4l2", "/dev/video7", {}),
        ("/dev/v4l/by-id/usb-cam", "v4l2", "/dev/v4l/by-id/usb-cam", {}),
        (
            "v4l2:/dev/video0?size=640x480&fps=30&format=y16",
            "v4l2",
            "/dev/video0",
            {"size": "640x480", "fps": "30", "format": "y16"},
        ),
        ("synthetic:", "synthetic", "", {}),
        ("synthetic:?scene=night&seed=3", "synthetic", "", {"scene": "night", "seed": "3"}),
        ("SYNTHETIC:", "synthetic", "", {}),
        ("usb:0bda:5830", "v4l2", "usb:0bda:5830", {}),
        ("usb:0bda:5830:A1?profile=p2pro", "v4l2", "usb:0bda:5830:A1", {"profile": "p2pro"}),
        ("rtsp://camera:554/1?channel=2", "network", "rtsp://camera:554/1?channel=2", {}),
        ("http://camera/a.mjpg", "network", "http://camera/a.mjpg", {}),
        ("udp://@:5000", "network", "udp://@:5000", {}),
    ],
)
def test_a_source_is_taken_apart(folder: Path, text: str, scheme: str, target: str, query: dict[str, str]) -> None:
    uri = parse_source(text)
    assert (uri.scheme, uri.target, dict(uri.query), uri.text) == (scheme, target, query, text)


def test_a_file_url_is_a_path(folder: Path) -> None:
    (folder / "a clip.mp4").write_bytes(b"x")
    uri = parse_source(f"file://{folder}/a%20clip.mp4")
    assert (uri.scheme, uri.path) == ("video", folder / "a clip.mp4")


@pytest.mark.parametrize("name", ["what?.mp4", "a?b=c.mp4", "http:clip.mp4", "sythetic:"])
def test_a_name_that_exists_is_taken_as_it_is(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    uri = parse_source(name)
    assert (uri.scheme, uri.target, dict(uri.query)) == ("video", name, {})


def test_a_question_mark_in_a_name_and_a_query_after_it(folder: Path) -> None:
    (folder / "what?").mkdir()
    uri = parse_source("images:what??fps=9")
    assert (uri.target, dict(uri.query)) == ("what?", {"fps": "9"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sythetic:?seed=1", "did you mean synthetic:"),
        ("image:frames", "did you mean images:"),
        ("gopher:clip", "expected file:, video:, images:, v4l2:, usb:, synthetic:"),
        ("srt://camera/1", "of the kind srt: are not read; expected rtsp://, rtsps://, http://, https://, udp://"),
        ("rtsp:camera", "not an address; expected rtsp://HOST:PORT/PATH"),
        ("http://", "not an address; expected http://HOST:PORT/PATH"),
        ("rtsp://camera/1#transport", "'transport' is not a parameter"),
        ("images:", "names nothing to open"),
        ("v4l2:?fps=3", "names nothing to open"),
        ("", "names nothing to open"),
        ("images:frames?fps", "'fps' is not a parameter; expected key=value"),
        ("images:frames?=3", "'=3' is not a parameter"),
        ("images:frames?fps=1&fps=2", "fps is given twice"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_source(text)


@pytest.mark.parametrize("text", ["missing.mp4", "file:missing.mp4", "x" * 5000])
def test_a_path_that_is_not_there(folder: Path, text: str) -> None:
    with pytest.raises(CaptureError, match="no such file or folder"):
        parse_source(text)


@pytest.mark.parametrize("text", ["frames/*.png", "frames/%04d.png"])
def test_a_pattern_of_images_is_that_of_a_folder(folder: Path, text: str) -> None:
    with pytest.raises(CaptureError, match=r"images are named by their folder, frames\?match=\*.png"):
        parse_source(text)


def test_a_scheme_without_its_colon_is_recognized(folder: Path) -> None:
    with pytest.raises(CaptureError, match=r"did you mean synthetic: \?"):
        parse_source("synthetic")


def test_a_query_is_converted(folder: Path) -> None:
    uri = parse_source("synthetic:?rate=30&name=day")
    assert read_query(uri, {"rate": rate_hz, "name": str}) == {"rate": 30.0, "name": "day"}


def test_an_unknown_key_gets_a_suggestion(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="unknown parameter 'fsp'; did you mean fps\\? it takes crop, flip, fps, half"
    ):
        read_query(parse_source("images:frames?fsp=3"), {"fps": rate_hz, "size": str})
    with pytest.raises(ConfigError, match="it takes crop, flip, half, mask, rotate, shift_ms"):
        read_query(parse_source("clip.mp4?fps=3"), {})


@pytest.mark.parametrize("value", ["0", "-1", "fast", "nan", "inf", "1/0", ""])
def test_a_rate_that_is_none(folder: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=f"fps={value}: expected frames per second above 0"):
        read_query(parse_source(f"images:frames?fps={value}"), {"fps": rate_hz})


def test_a_rate_may_be_a_fraction() -> None:
    assert rate_hz("30000/1001") == pytest.approx(29.97, abs=0.001)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:pass@host/1", "rtsp://***@host/1"),
        ("rtsp://me:p@ss/w@host/1", "rtsp://***@host/1"),
        ("http://host/x?token=abc&fps=3", "http://host/x?token=***&fps=3"),
        ("http://host/x?a=1&PASSWORD=abc", "http://host/x?a=1&PASSWORD=***"),
        ("rtsp://host/user=admin_password=abc_channel=1", "rtsp://host/user=***"),
        ("rtsp://host/user=admin&password=abc&channel=1.sdp", "rtsp://host/user=***&password=***&channel=1.sdp"),
        ("rtsp://me:p@ss#w/rd@host:554/1#transport=udp", "rtsp://***@host:554/1#transport=udp"),
        ("rtsp://me:a b@host/1", "rtsp://***@host/1"),
        ("rtsp://me:pass%40host/1", "rtsp://***/1"),
        ("http:/me:pass@host/1", "http:/***@host/1"),
        ("rtsp:me:pass@host", "rtsp:***@host"),
        ("me:pass@host/1", "***@host/1"),
        ("video:rtsp://me:pass@host/1", "video:rtsp://***@host/1"),
        ("rtsp://host/live/me:pass/1", "rtsp://host/live/***/1"),
        ("rtsp://host/user/me/password/pass/1", "rtsp://host/user/***/***/***/***"),
        ("rtsps://host:7441/Xk3vQ9wTz2LmB7?enableSrtp", "rtsps://host:7441/***?enableSrtp"),
        (
            "http://host/x?passcode=abc&loginpas=abc&p=abc&u=123456",
            "http://host/x?passcode=***&loginpas=***&p=***&u=***",
        ),
        ("http://host/x?password=a/b#c&d", "http://host/x?password=***#***&***"),
        ("rtsp://host/h264Preview_01_main", "rtsp://host/h264Preview_01_main"),
        ("rtsp://host/cam/realmonitor?channel=1&subtype=0", "rtsp://host/cam/realmonitor?channel=1&subtype=0"),
        ("webb://127.0.0.1:8080?tokn=abc", "webb://127.0.0.1:8080?tokn=***"),
        ("web://127.0.0.1:8080?record=a/b&token=abc", "web://127.0.0.1:8080?record=a/b&token=***"),
        ("zmq:tcp://127.0.0.1:5555?keys=a/b.key&clients=any", "zmq:tcp://127.0.0.1:5555?keys=a/b.key&clients=any"),
        ("zmq:ipc:///tmp/frames", "zmq:ipc:///tmp/frames"),
        ("zmq:ipc:///tmp/usersA1234567/op99/fused?quality=80", "zmq:ipc:///tmp/usersA1234567/op99/fused?quality=80"),
        ("zmq:ipc://me:secret@host/x?token=abc", "zmq:ipc://***@host/x?token=***"),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234"),
        ("record:/data/x?segment_s=5&password=abc", "record:/data/x?segment_s=5&password=***"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("token=abc&rotate=90", "token=***&rotate=90"),
        ("file:///home/me@work/clip.mp4", "file:///home/me@work/clip.mp4"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_credentials_do_not_reach_a_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_source("srt://me:secret@camera/1")
    assert "secret" not in str(caught.value)
    uri = parse_source("rtsp://me:secret@camera/1#transport=udp")
    assert (uri.target, dict(uri.query)) == ("rtsp://me:secret@camera/1", {"transport": "udp"})
    assert "secret" not in repr(uri)
    assert uri.text == "rtsp://***@camera/1"


@pytest.mark.parametrize(
    ("text", "target", "query"),
    [
        ("rtsp://me:p@ss#w/rd%@camera/1#transport=udp", "rtsp://me:p%40ss%23w%2Frd%25@camera/1", {"transport": "udp"}),
        ("rtsp://me:p%40ss@camera/1", "rtsp://me:p%40ss@camera/1", {}),
        ("http://camera:80/1?mail=a@b", "http://camera:80/1?mail=a@b", {}),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234", {}),
    ],
)
def test_a_password_may_hold_any_sign(text: str, target: str, query: dict[str, str]) -> None:
    uri = parse_source(text)
    assert (uri.target, dict(uri.query)) == (target, query)


def test_links_lead_to_one_place(folder: Path) -> None:
    (folder / "link.mp4").symlink_to("clip.mp4")
    (folder / "gone").symlink_to("/dev/video63")
    assert same_place(parse_source("clip.mp4"), parse_source("link.mp4"))
    assert same_place(parse_source("v4l2:gone"), parse_source("/dev/video63"))
    assert same_place(parse_source("frames?fps=3"), parse_source("images:./frames"))
    assert not same_place(parse_source("clip.mp4"), parse_source("still.PNG"))
    assert not same_place(parse_source("synthetic:"), parse_source("synthetic:"))
    assert same_place(parse_source("http://camera/1"), parse_source("http://camera/1"))
    assert not same_place(parse_source("http://camera/1"), parse_source("http://camera/2"))


def test_a_name_that_no_file_can_have_is_not_found() -> None:
    with pytest.raises(CaptureError, match="no such file"):
        parse_source("a\0b")
