from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtfusion.errors import ConfigError
from rtfusion.publish.sink import ZmqSink
from rtfusion.sinks import open_sink, open_sinks
from rtfusion.sinks.base import SinkContext
from rtfusion.sinks.images import ImagesSink
from rtfusion.sinks.null import NullSink
from rtfusion.sinks.video import VideoSink


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("{tmp}/out.mp4", VideoSink),
        ("{tmp}/out.MKV", VideoSink),
        ("{tmp}/with:colon.mov", VideoSink),
        ("video:{tmp}/out.avi", VideoSink),
        ("video:{tmp}/out.mkv?codec=ffv1", VideoSink),
        ("video:{tmp}/out.mp4?codec=h264&crf=23&preset=superfast", VideoSink),
        ("images:{tmp}/frames", ImagesSink),
        ("images:{tmp}/frames?format=jpg&quality=80", ImagesSink),
        ("zmq:tcp://127.0.0.1:*?encoding=jpeg&quality=70&topic=left&hwm=4", ZmqSink),
        ("zmq:ipc://{tmp}/socket", ZmqSink),
        ("null:", NullSink),
    ],
)
def test_opens_the_sink_the_uri_names_and_keeps_the_uri(uri, kind, tmp_path, make_context):
    uri = uri.format(tmp=tmp_path)
    sink = open_sink(uri, context=make_context())
    sink.close(aborted=True)
    assert isinstance(sink, kind)
    assert sink.uri == uri


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("vdeo:out.mp4", "did you mean video:?"),
        ("image:frames", "did you mean images:?"),
        ("rtsp://host/x", "unknown scheme 'rtsp'"),
        ("clip:1.mp4", "./clip:1.mp4"),
        ("tcp://127.0.0.1:5555", "did you mean zmq:tcp://127.0.0.1:5555?"),
        ("window", "did you mean window:?"),
        ("out.mp5", "did you mean .mp4?"),
        ("out.webm", "expected one of .mp4 .mkv .mov .avi"),
        ("frames", "images:DIR"),
        ("", "names no target"),
        ("out.mp4?crf=20", "did you mean video:out.mp4?crf=20?"),
        ("video:", "expected for example video:out.mp4"),
        ("images:", "expected for example images:frames"),
        ("null:x", "takes nothing after the colon"),
        ("null:?x=1", "null: has none"),
        ("video:out.mp4?crv=20", "did you mean crf?"),
        ("video:out.mp4?crf=52", "expected a whole number from 0 to 51"),
        ("video:out.mp4?crf=2²", "expected a whole number from 0 to 51"),
        ("video:out.mp4?crf=-1", "expected a whole number from 0 to 51"),
        ("video:out.mp4?crf", "not of the form name=value"),
        ("video:out.mp4?crf=20&crf=21", "given twice"),
        ("video:out.mp4?codec=h265", "did you mean h264?"),
        ("video:out.mp4?preset=veryfats", "did you mean veryfast?"),
        ("video:out.mkv?codec=ffv1&crf=3", "FFV1 is lossless"),
        ("video:out.mp4?codec=ffv1", "write .mkv"),
        ("video:out.mp4?joinable=true&crf=20", "a quality of its own"),
        ("video:out.mkv?joinable=true&codec=ffv1", "a quality of its own"),
        ("images:frames?format=tiff", "expected one of png, jpg"),
        ("images:frames?quality=90", "quality belongs to format=jpg"),
        ("zmq:127.0.0.1:5555", "expected tcp://127.0.0.1:5555"),
        ("zmq:tcp://127.0.0.1:99999", "is not an address"),
        ("zmq:tcp://127.0.0.1:5555?quality=90", "quality belongs to encoding=jpeg"),
        ("zmq:tcp://127.0.0.1:5555?insecure=yes", "expected one of true, false"),
        ("zmq:tcp://127.0.0.1:5555?topic=", "printable ASCII"),
        ("zmq:tcp://127.0.0.1:5555?hwm=0", "from 1 to 1000"),
    ],
)
def test_refuses_with_a_suggestion(uri, says, tmp_path, make_context, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        open_sink(uri, context=make_context())
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing(make_context):
    with pytest.raises(ConfigError, match="no files can be made in /proc"):
        open_sink("/proc/out.mp4", context=make_context())


@pytest.mark.parametrize("uri", ["{tmp}/out.mp4", "images:{tmp}/frames"])
def test_missing_folder_above_the_target(uri, tmp_path, make_context):
    with pytest.raises(ConfigError, match="does not exist; make it first"):
        open_sink(uri.format(tmp=tmp_path / "missing"), context=make_context())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["{tmp}/file/out.mp4", "images:{tmp}/file/frames"])
def test_place_that_cannot_be_written(uri, tmp_path, make_context):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Not a directory; choose a place that can"):
        open_sink(uri.format(tmp=tmp_path), context=make_context())


def test_existing_targets_are_kept_unless_overwriting(tmp_path, make_context):
    video, folder = tmp_path / "out.mp4", tmp_path / "frames"
    video.write_bytes(b"precious")
    folder.mkdir()
    (folder / "000000.png").write_bytes(b"precious")
    for uri in (str(video), f"images:{folder}"):
        with pytest.raises(ConfigError, match="--overwrite"):
            open_sink(uri, context=make_context())
        open_sink(uri, context=make_context(overwrite=True)).close(aborted=True)
    assert video.read_bytes() == (folder / "000000.png").read_bytes() == b"precious"


def test_targets_of_the_wrong_kind(tmp_path, make_context):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a regular file"):
        open_sink(f"{tmp_path}/folder.mp4", context=make_context(overwrite=True))
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        open_sink(f"images:{tmp_path}/file", context=make_context(overwrite=True))


def test_home_is_understood_in_uris(tmp_path, make_context, make_frame, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    open_sink("images:~/frames", context=make_context()).close(aborted=False)
    sink = open_sink("video:~/out.mkv", context=make_context())
    sink.write(make_frame(0))
    sink.close(aborted=False)
    assert (tmp_path / "out.mkv").exists()


def test_null_counts(make_context, make_frame):
    sink = open_sink("null:", context=make_context())
    for sequence in range(3):
        sink.write(make_frame(sequence))
    assert isinstance(sink, NullSink)
    assert sink.frames == 3


def test_importing_the_package_loads_nothing_heavy(child_environment):
    code = "import rtfusion.sinks, sys; print(sorted({'av', 'cv2', 'zmq'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("uris", "reason"),
    [
        (["a.mp4", "video:./a.mp4?crf=20"], "named twice"),
        (["images:frames", "images:frames/"], "named twice"),
        (["in.mp4"], "input of this run"),
        (["images:folder"], "input of this run"),
    ],
)
def test_outputs_have_places_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uris: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.mp4").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    context = SinkContext(rate_hz=30.0, live=False, session="s", overwrite=True)
    with pytest.raises(ConfigError, match=reason):
        open_sinks(uris, context=context, inputs=[Path("in.mp4"), Path("folder")])
    assert (tmp_path / "in.mp4").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in.mp4"]


def test_when_one_of_several_outputs_fails_the_others_are_closed(tmp_path: Path) -> None:
    context = SinkContext(rate_hz=30.0, live=False, session="s")
    with pytest.raises(ConfigError, match="does not exist"):
        open_sinks([str(tmp_path / "a.mp4"), str(tmp_path / "missing" / "b.mp4")], context=context)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_refused_leaves_no_empty_recording(tmp_path, make_context, monkeypatch):
    monkeypatch.delenv("RTFUSION_WEB_TOKEN", raising=False)
    uris = [f"record:{tmp_path}/sessions?reserve_mb=1", f"{tmp_path}/out.mp4", "web://0.0.0.0:0"]
    with pytest.raises(ConfigError, match="others than this machine may look only with a token"):
        open_sinks(uris, context=make_context())
    assert list(tmp_path.iterdir()) == []


def test_outputs_come_in_the_order_in_which_they_are_named(tmp_path, make_context):
    uris = [f"record:{tmp_path}/sessions?reserve_mb=1", f"{tmp_path}/out.mp4", "null:"]
    sinks = open_sinks(uris, context=make_context())
    for sink in sinks:
        sink.close(aborted=True)
    assert [sink.uri for sink in sinks] == uris
