"""Topics become pairs, and the node fuses and publishes: with stand-ins for ROS's classes, and everything else real."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import standins
from rtfusion_ros import conversions as convert
from rtfusion_ros.parameters import parameters, settings_of
from rtfusion_ros.topics import NO_STAMP, RosTime, Topic, check_topics, open_topics

from rtfusion import Band, ConfigError, EndOfStream, Settings

PERIOD_NS = 40_000_000
START_NS = 1_764_000_000_000_000_000
VISIBLE = np.full((48, 64, 3), 90, np.uint8)
THERMAL = np.full((24, 32), 3000, np.uint16)


def visible_message(index: int, *, late_ns: int = 0) -> standins.Image:
    image = VISIBLE.copy()
    image[index % 48] = 200
    return standins.picture(image, encoding="bgr8", stamp_ns=START_NS + index * PERIOD_NS + late_ns, frame_id="left")


def thermal_message(index: int, *, late_ns: int = 2_000_000) -> standins.Image:
    image = THERMAL.copy()
    image[index % 24] = 4000
    return standins.picture(image, encoding="mono16", stamp_ns=START_NS + index * PERIOD_NS + late_ns, frame_id="heat")


def topic(band: Band, ros_time: RosTime) -> Topic:
    return Topic(f"{band.value}/image_raw", band=band, read=convert.read_image, ros_time=ros_time)


@contextmanager
def playing(send: Callable[[int], None]) -> Iterator[None]:
    """Sends message after message, as drivers do, until the block ends."""
    stop = threading.Event()

    def play() -> None:
        index = 0
        while not stop.wait(0.01):
            send(index)
            index += 1

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        stop.set()
        player.join()


def until(condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    deadline_s = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.02)
    return found


def test_stamps_lead_there_and_back_to_the_nanosecond() -> None:
    ros_time = RosTime(lambda: START_NS)
    assert ros_time.ros_ns(ros_time.monotonic_ns(START_NS + 7)) == START_NS + 7
    assert ros_time.monotonic_ns(START_NS + 9) - ros_time.monotonic_ns(START_NS) == 9


def test_a_topic_drops_and_counts_what_nobody_reads_and_what_cannot_be_read() -> None:
    one = topic(Band.VISIBLE, RosTime(lambda: START_NS))
    for index in range(6):
        one.receive(visible_message(index))
    assert one.dropped["queue_full"] == 2
    assert [frame.sequence for frame in iter(lambda: one.next(timeout_s=0.0), None)] == [0, 1, 2, 3]
    one.receive(standins.picture(THERMAL, encoding="mono16", stamp_ns=1))
    assert one.next(timeout_s=0.0) is None
    assert one.dropped["corrupt"] == 1
    assert one.notes == ["visible/image_raw: visible pictures of 16 bits (mono16) are not read; publish them in 8 bits"]


def test_a_message_without_a_stamp_is_of_its_arrival_and_it_is_said() -> None:
    one = topic(Band.VISIBLE, RosTime(lambda: START_NS))
    one.receive(standins.picture(VISIBLE, encoding="bgr8", stamp_ns=0))
    frame = one.next(timeout_s=0.0)
    assert frame is not None
    assert frame.timestamp_ns == frame.received_ns
    assert one.notes == [f"visible/image_raw: {NO_STAMP}"]


def test_two_topics_are_paired_by_their_stamps() -> None:
    ros_time = RosTime(lambda: START_NS)
    visible, thermal = (topic(band, ros_time) for band in (Band.VISIBLE, Band.THERMAL))

    def send(index: int) -> None:
        visible.receive(visible_message(index))
        thermal.receive(thermal_message(index))

    with (
        playing(send),
        open_topics(
            visible=visible, thermal=thermal, settings=Settings(), thermal_delay_ms=0.0, stop=threading.Event()
        ) as pairs,
    ):
        assert pairs.live
        assert pairs.visible.rate_hz == pytest.approx(25.0)
        for _ in range(5):
            pair = next(pairs)
            assert pair.skew_ns == 2_000_000
            assert (ros_time.ros_ns(pair.timestamp_ns) - START_NS) % PERIOD_NS == 0
    assert visible.frame_id == "left"


def test_waiting_for_topics_ends_when_asked_to() -> None:
    ros_time, stop = RosTime(lambda: START_NS), threading.Event()
    stop.set()
    visible, thermal = (topic(band, ros_time) for band in (Band.VISIBLE, Band.THERMAL))
    with pytest.raises(EndOfStream):
        open_topics(visible=visible, thermal=thermal, settings=Settings(), thermal_delay_ms=0.0, stop=stop)


def test_one_source_alone_is_no_pair() -> None:
    assert check_topics(Settings())
    assert not check_topics(Settings(ir="a.mp4", vis="b.mp4"))
    with pytest.raises(ConfigError, match=r"only ir is named \(a.mp4\); name both sources, or none"):
        check_topics(Settings(ir="a.mp4"))


def test_every_setting_is_a_parameter_and_parameters_make_the_settings(tmp_path: Path) -> None:
    values: dict[str, Any] = {parameter.name: parameter.default for parameter in parameters()}
    assert {*Settings.model_fields} < {*values}
    assert settings_of(values.__getitem__) == Settings()
    (tmp_path / "rtfusion.toml").write_text('tolerance_ms = 7.5\nfuser = "pyramid"\n')
    values |= {
        "config": str(tmp_path / "rtfusion.toml"),
        "sink": ["null:", "a.mp4"],
        "focus_head": False,
        "fuser": "average",
    }
    made = settings_of(values.__getitem__)
    assert (made.tolerance_ms, made.fuser, made.sink, made.focus_head) == (7.5, "average", ("null:", "a.mp4"), False)


@pytest.fixture
def launched(node_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts the node with parameters, and destroys it."""
    nodes: list[Any] = []

    def launch(**given: Any) -> Any:
        monkeypatch.setattr(standins.Node, "given", given)
        nodes.append(node_module.FusionNode())
        return nodes[-1]

    yield launch
    for node in nodes:
        node.destroy_node()
        assert node.is_destroyed
        assert not node._thread.is_alive()


def messages(node: Any, topic: str) -> list[Any]:
    found: list[Any] = node.published[topic].messages
    return found


def test_the_node_fuses_two_topics(launched: Callable[..., Any]) -> None:
    node = launched(fuser="average", denoise="off")
    for timer in node.timers:
        timer()
    (early,) = messages(node, "/diagnostics")
    assert (early.status[0].level, early.status[0].message) == (b"\x03", "waiting for both topics")
    given = standins.CameraInfo(width=64, height=48, distortion_model="plumb_bob", d=[0.1] * 5)
    node.subscribed["visible/camera_info"][1](given)

    def send(index: int) -> None:
        node.subscribed["visible/image_raw"][1](visible_message(index))
        node.subscribed["thermal/image_raw"][1](thermal_message(index))

    with playing(send):
        until(lambda: len(messages(node, "~/camera_info")) > 2)
        node.timers[0]()
    fused, compressed = messages(node, "~/fused")[0], messages(node, "~/fused/compressed")[0]
    assert (fused.width, fused.height, fused.encoding, fused.header.frame_id) == (64, 48, "bgr8", "left")
    assert (convert.stamp_ns(fused.header.stamp) - START_NS) % PERIOD_NS == 0
    assert convert.read_compressed(compressed, band=Band.VISIBLE).image.shape == (48, 64, 3)
    registered = messages(node, "~/thermal_registered")[0]
    assert (registered.width, registered.height, registered.encoding) == (64, 48, "mono8")
    assert messages(node, "~/camera_info")[0].d == given.d
    status = messages(node, "/diagnostics")[-1].status[0]
    assert status.level in (b"\x00", b"\x01")
    assert "frames/s" in {value.key for value in status.values}
    assert any("fusing by average" in text for _, text in node.logged)


def test_topics_that_nobody_hears_cost_nothing(launched: Callable[..., Any]) -> None:
    node = launched(fuser="average")
    for publisher in node.published.values():
        publisher.heard = 0
    node.published["~/thermal_registered"].heard = 1

    def send(index: int) -> None:
        node.subscribed["visible/image_raw"][1](visible_message(index))
        node.subscribed["thermal/image_raw"][1](thermal_message(index))

    with playing(send):
        until(lambda: messages(node, "~/thermal_registered"))
    assert messages(node, "~/fused") == messages(node, "~/camera_info") == []


def test_parameters_change_a_run_or_are_refused_with_the_reason(launched: Callable[..., Any]) -> None:
    node = launched(ir="synthetic:?size=64x48&live=true", vis="synthetic:?size=64x48&live=true")
    assert node.subscribed == {}
    until(lambda: messages(node, "~/fused"))

    def change(name: str, value: Any) -> Any:
        return node.on_parameters([standins.Parameter(name, value)])

    assert change("enhance", 0.9).successful
    assert change("intent", "people=0.8").successful
    assert change("say", "make people stand out").successful
    assert not change("say", "qqqq zzzz").successful
    assert "less than or equal to 1" in change("enhance", 7.0).reason
    assert change("grid", "thermal").reason == "grid holds from the start of the node; change it in its launch file"
    until(lambda: node._pipeline.telemetry.snapshot()["intents"].get("people"))
    assert messages(node, "~/fused")[0].header.frame_id == "rtfusion"


def test_the_node_ends_with_the_code_of_a_wrong_parameter(
    node_module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standins.Node, "given", {"thermal_transport": "theora"})
    assert node_module.main([]) == 2
    assert "thermal_transport is 'theora'; expected one of raw, compressed" in capsys.readouterr().err


def test_a_source_that_cannot_be_opened_is_tried_again_and_told(launched: Callable[..., Any], tmp_path: Path) -> None:
    node = launched(ir=str(tmp_path / "gone.mp4"), vis=str(tmp_path / "gone2.mp4"))
    until(lambda: node.logged)
    level, text = node.logged[0]
    assert level == "error" and "gone" in text and "fusing begins anew" in text
    node.timers[0]()
    assert "gone" in messages(node, "/diagnostics")[-1].status[0].message


def test_what_nobody_thought_of_is_told_and_fusing_begins_anew(
    launched: Callable[..., Any], node_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    as_it_is = node_module.build
    monkeypatch.setattr(node_module, "AGAIN_S", 0.01)
    monkeypatch.setattr(node_module, "build", fail)
    node = launched(ir="synthetic:?size=64x48&live=true", vis="synthetic:?size=64x48&live=true")
    until(lambda: node.logged)
    level, text = node.logged[0]
    assert level == "error" and "this is a bug in rtfusion: ZeroDivisionError" in text and "Traceback" in text
    node.timers[0]()
    assert "ZeroDivisionError" in messages(node, "/diagnostics")[-1].status[0].message
    monkeypatch.setattr(node_module, "build", as_it_is)
    until(lambda: messages(node, "~/fused"))
