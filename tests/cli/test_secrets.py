"""Nothing that was typed as a secret is written, printed or served: a canary is planted, and everything is searched for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rtfusion.capture.network import open_network
from rtfusion.capture.uri import parse_source
from rtfusion.cli.config import settings_with_origins
from rtfusion.config import Settings, load
from rtfusion.errors import ConfigError, FusionError
from rtfusion.pipeline import build
from rtfusion.redaction import without_credentials
from rtfusion.sinks import KINDS
from rtfusion.types import Band
from rtfusion.web.sink import WebSink
from tests.capture.rtsp_server import RtspServer

from .conftest import Main

CANARY = "c4nary"
TOKEN = f"{CANARY}-correct-horse-battery"
ADDRESSES = (
    f"rtsp://admin:{CANARY}@127.0.0.1:9/x",
    f"rtsp://admin:p@ss#w/rd{CANARY}@127.0.0.1:9/x",
    f"rtsp://admin:100%{CANARY}@127.0.0.1:9/x",
    f"rtsp://{CANARY}@127.0.0.1:9/x",
    f"rtps://admin:{CANARY}@127.0.0.1/x",
    f"srt://admin:{CANARY}@127.0.0.1/x",
    f"http:/admin:{CANARY}@127.0.0.1:9/x",
    f"rtsp:admin:{CANARY}@127.0.0.1",
    f"admin:{CANARY}@127.0.0.1/x",
    f"http://127.0.0.1:9/x?passcode={CANARY}",
    f"http://127.0.0.1:9/x?loginuse=admin&loginpas={CANARY}",
    f"http://127.0.0.1:9/x?password=a/{CANARY}#b{CANARY}",
    f"http://127.0.0.1:9/x#{CANARY}",
    f"rtsp://127.0.0.1:9/user=admin_password={CANARY}_channel=1",
    f"rtsp://127.0.0.1:9/login/admin/{CANARY}/1",
    f"rtsp://127.0.0.1:9/admin:{CANARY}/1",
    f"udps://127.0.0.1:9?token={CANARY}",
    f"video:rtsp://admin:{CANARY}@127.0.0.1/x",
)
OUTPUTS = (
    f"webb://127.0.0.1:0?token={TOKEN}",
    f"web:/127.0.0.1:0?token={TOKEN}",
    f"web:127.0.0.1:0?token={TOKEN}",
    f"web://127.0.0.1:0?tokn={TOKEN}",
    f"web://127.0.0.1:0?token={TOKEN}&quality=900",
    f"web://0.0.0.1:0?token={TOKEN}",
    f"web://{TOKEN}@127.0.0.1:0",
    f"web://127.0.0.1:0?token={CANARY}",
    f"zmq:tcp://admin:{CANARY}@127.0.0.1:5555",
    f"zmq:tcp://192.0.2.1:5555?password={CANARY}",
    f"tcp://admin:{CANARY}@127.0.0.1:5555",
    f"https://admin:{CANARY}@host/out.mp4",
    f"video:https://admin:{CANARY}@host/out.mp4",
    f"record:smb://admin:{CANARY}@host/share",
)


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        yield path, str(path).encode() + (path.read_bytes() if path.is_file() else b"")


def assert_clean(folder: Path, *texts: str | bytes) -> None:
    for text in texts:
        assert CANARY not in (text.decode(errors="replace") if isinstance(text, bytes) else text)
    for path, content in written(folder):
        assert CANARY.encode() not in content, path


def settings_with_a_canary() -> list[tuple[str, str]]:
    """Every setting that takes a path or an address, with every address."""
    kinds = {name: setting.path for name, setting in Settings.declared().items() if setting.path is not None}
    sources = [(name, address) for name in kinds if name != "sink" for address in ADDRESSES]
    return [*sources, *(("sink", output) for output in OUTPUTS)]


def test_every_setting_that_may_hold_a_secret_is_planted() -> None:
    assert {name for name, _ in settings_with_a_canary()} >= {"ir", "vis", "sink", "calibration", "model", "stats_json"}


@pytest.mark.parametrize("origin", ["flag", "file", "environment"])
@pytest.mark.parametrize(("name", "value"), settings_with_a_canary())
def test_what_is_wrong_is_said_without_the_secret(tmp_path: Path, origin: str, name: str, value: str) -> None:
    given: dict[str, Any] = {"ir": "synthetic:?frames=1", "vis": "synthetic:?frames=1", "fuser": "average", name: value}
    environ = {"RTFUSION_SINK": shlex.quote(value)} if name == "sink" else {f"RTFUSION_{name.upper()}": value}
    (tmp_path / "settings").mkdir()
    file = tmp_path / "settings" / "run.toml"
    entry = [value] if name == "sink" else value
    file.write_text(f"{name} = {json.dumps(entry)}\n" if origin == "file" else "")
    if origin != "flag":
        del given[name]
    try:
        loaded = load(given, file=file, environ=environ if origin == "environment" else {})
        told = [repr(loaded), loaded.settings.model_dump_json(), json.dumps(settings_with_origins(loaded))]
        build(loaded.settings)
    except FusionError as error:
        told = traceback.format_exception(error)
        assert error.exit_code in (2, 3)
    else:
        pytest.fail("this is no setting of a run")
    file.unlink()
    assert_clean(tmp_path, *told)


@pytest.mark.parametrize(
    ("flag", "value"), [("--vis", ADDRESSES[1]), ("--sink", OUTPUTS[0]), ("--model", ADDRESSES[0])]
)
def test_what_is_wrong_is_printed_without_the_secret(main_here: Main, tmp_path: Path, flag: str, value: str) -> None:
    cameras = ("--ir=synthetic:?frames=1", "--vis=synthetic:?frames=1", "--fuser=average", "--stats-json=stats.json")
    for command in (("run", "--debug"), ("run", "--log-json"), ("record", "--out=sessions"), ("config", "show")):
        _, out, err = main_here(*command, *cameras, flag, value)
        assert_clean(tmp_path, out, err)


@pytest.mark.parametrize("address", ADDRESSES[:3])
def test_what_is_wrong_with_a_command_is_said_without_the_secret(main_here: Main, tmp_path: Path, address: str) -> None:
    for words in (("run", address), (address,), ("view", address), ("view", f"tcp://u:{CANARY}@127.0.0.1:9x")):
        code, out, err = main_here(*words)
        assert code != 0
        assert_clean(tmp_path, out, err)


def served(sink: WebSink) -> Iterator[bytes]:
    for path in ("/", "/state", "/metrics", "/healthz", "/picture", "/snapshot", "/nothing", "/?token=wrong"):
        for bearer in (TOKEN, "wrong"):
            connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=20)
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"Authorization": f"Bearer {bearer}"})
                answer = connection.getresponse()
                yield str(answer.headers).encode() + answer.read()


@pytest.mark.parametrize("password", [CANARY, f"p@ss#w/rd%-{CANARY}"])
def test_a_run_with_secrets_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture, password: str) -> None:
    """The camera is opened with the password, the page with the token; what is written and served has neither."""
    camera = RtspServer(credentials=f"admin:{password}")
    sinks = (f"record:{tmp_path}/sessions?reserve_mb=1", f"web://127.0.0.1:0?token={TOKEN}", "null:")
    flags: Mapping[str, Any] = {
        "ir": "synthetic:?live=true&fps=15&size=64x48&frames=0",
        "vis": f"rtsp://admin:{password}@{camera.address}",
        "sink": sinks, "fuser": "average", "max_frames": 8, "tolerance_ms": "500",
    }  # fmt: skip
    loaded = load(flags, file=Path(os.devnull), environ={})
    pages: list[bytes] = []
    try:
        pipeline = build(loaded.settings)
        (web,) = (thread._sink for thread in pipeline._sinks if isinstance(thread._sink, WebSink))
        pipeline.run(on_tick=lambda: pages.extend(served(web) if not pages else ()))
    finally:
        camera.close()
    assert pages
    assert loaded.settings.vis is not None
    assert CANARY in loaded.settings.vis
    assert (tmp_path / "sessions").is_dir()
    told = [json.dumps(pipeline.telemetry.snapshot(), default=str), repr(loaded), loaded.settings.model_dump_json()]
    assert_clean(tmp_path, caplog.text, *told, *pages)


def test_a_replay_asks_for_what_was_not_kept(main_here: Main, tmp_path: Path) -> None:
    cameras = "synthetic:?live=true&fps=15&size=64x48&frames=0"
    settings = Settings(ir=cameras, vis=cameras, sink=f"record:{tmp_path}?reserve_mb=1", fuser="average", max_frames=3)
    build(settings).run()
    (described,) = tmp_path.glob("*/session.json")
    values = json.loads(described.read_text())
    values["settings"]["palette"] = "***"
    described.write_text(json.dumps(values))
    code, _, err = main_here("replay", str(tmp_path), "--sink", "null:")
    assert (code, "palette was recorded as ***: its secret was not kept; give --palette" in err) == (2, True)
    assert main_here("replay", str(tmp_path), "--sink", "null:", "--palette", "inferno")[0] == 0


def test_what_a_person_has_to_see_is_shown() -> None:
    """No setting of an output is hidden but the token."""
    for scheme, kind in KINDS.items():
        for name in kind.options:
            uri = f"{scheme}://127.0.0.1:0?{name}=some/value"
            settings = Settings(sink=uri)
            shown = settings.model_dump(mode="json")["sink"][0]
            assert (shown == uri) is (name != "token")


@pytest.mark.parametrize("address", ["rtsp://127.0.0.1:9/x", "http://127.0.0.1:9/x", "udp://127.0.0.1:9"])
def test_what_a_person_has_to_see_of_a_camera_is_shown(address: str) -> None:
    """No parameter that rtfusion takes after the address of a camera is hidden."""
    with pytest.raises(ConfigError) as caught:
        open_network(parse_source(f"{address}#nothing=1"), band=Band.THERMAL)
    names = str(caught.value).partition("it takes ")[2].split(", ")
    assert {"crop", "palette"} <= set(names)
    for name in names:
        assert without_credentials(f"{address}#{name}=word") == f"{address}#{name}=word"


def test_an_address_is_no_path() -> None:
    with pytest.raises(FusionError, match=r"model is 'https:/\*\*\*@host/m.onnx'; it should be a path of"):
        Settings(model=Path(f"https://me:{CANARY}@host/m.onnx"))
