"""The stream of pairs: all that goes in comes out as a pair or as a drop, and whatever ends it ends its threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtfusion
from rtfusion.clock import MONOTONIC
from rtfusion.config import Settings
from rtfusion.errors import CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.pairing import Pairer
from rtfusion.pairs import PairStream, open_pairs
from rtfusion.pipeline import build
from rtfusion.session.format import load_session
from rtfusion.types import Band, Degraded, Frame, FramePair
from tests.capture.clips import patterns, write_clip
from tests.capture.test_loss import Rig
from tests.capture.test_open import save_images
from tests.support import MS, ScriptedSource, make_frame, stream
from tests.test_pairing import jittery_stream, pair_recorded

CAMERA = "synthetic:?live=true&size=64x48&fps=60"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in threading.enumerate() if thread not in before and thread.is_alive()] == []


def scripted(visible_ms: list[float], thermal_ms: list[float], **options: object) -> PairStream:
    return PairStream(
        visible=ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, visible_ms)),
        thermal=ScriptedSource(Band.THERMAL, stream(Band.THERMAL, thermal_ms)),
        **options,  # type: ignore[arg-type]
    )


def grid(count: int, period_ms: float = 33.0) -> list[float]:
    return [i * period_ms for i in range(count)]


def numbers(pairs: list[FramePair]) -> list[tuple[int, int, int]]:
    return [(pair.sequence, pair.visible.sequence, pair.thermal.sequence) for pair in pairs]


class Camera(ScriptedSource):
    """Delivers a frame whenever it is asked, until it is closed."""

    def __init__(self, band: Band, *, delay_ms: float = 0.0) -> None:
        super().__init__(band, [], live=True, rate_hz=200.0)
        self._delay_ns = round(delay_ms * MS)
        self._number = 0

    def read(self, *, timeout_s: float) -> Frame:
        if self._closed.wait(0.005):
            raise EndOfStream("closed")
        self._number += 1
        return make_frame(self.info.band, MONOTONIC.now_ns() + self._delay_ns, sequence=self._number)


def cameras(**options: object) -> PairStream:
    return PairStream(visible=Camera(Band.VISIBLE), thermal=Camera(Band.THERMAL), **options)  # type: ignore[arg-type]


# -- the rule -----------------------------------------------------------------------------------------------------------


@given(jittery_stream(), jittery_stream(), st.floats(-100, 100), st.sampled_from(["once", "hold"]), st.booleans())
def test_a_stream_is_the_documented_rule_and_accounts_for_every_frame(
    visible_ms: list[float], thermal_ms: list[float], delay_ms: float, rule: str, read_ahead: bool
) -> None:
    thermal_ms = [stamp + delay_ms + 200 for stamp in thermal_ms]
    visible_ms = [stamp + 200 for stamp in visible_ms]
    pairer = Pairer(
        live=False,
        rate_hz={Band.VISIBLE: 30.0, Band.THERMAL: 30.0},
        thermal_delay_ns=round(delay_ms * MS),
        hold=rule == "hold",
    )
    expected = pair_recorded(stream(Band.VISIBLE, visible_ms), stream(Band.THERMAL, thermal_ms), pairer)
    with scripted(visible_ms, thermal_ms, pair=rule, thermal_delay_ms=delay_ms, read_ahead=read_ahead) as pairs:
        found = list(pairs)
    assert numbers(found) == numbers(expected)
    assert pairs.pairs == len(found)
    for band in Band:
        assert {cause: count for cause, count in pairs.drops[band].items() if count and cause != "left_over"} == {
            cause: count for cause, count in pairer.drops[band].items() if count
        }
        used = {id(pair.visible if band is Band.VISIBLE else pair.thermal) for pair in found}
        assert pairs.frames_read[band] == len(used) + sum(pairs.drops[band].values())


def test_ten_missing_frames_cost_only_their_partners() -> None:
    visible = grid(40)
    thermal = [stamp for index, stamp in enumerate(visible) if not 10 <= index < 20]
    with scripted(visible, thermal) as pairs:
        assert {pair.skew_ns for pair in pairs} == {0}
    assert pairs.pairs == 30
    assert pairs.drops[Band.VISIBLE]["no_partner"] == 10
    assert pairs.frames_read == {Band.VISIBLE: 40, Band.THERMAL: 30}


def test_a_live_stream_gives_pairs_of_one_moment_in_order() -> None:
    with cameras(thermal_delay_ms=40, tolerance_ms=4) as pairs:
        pairs._sources[Band.THERMAL]._delay_ns = 40 * MS  # type: ignore[attr-defined]
        found = list(islice(pairs, 20))
    assert [pair.sequence for pair in found] == list(range(20))
    assert all(abs(pair.skew_ns - 40 * MS) <= 4 * MS for pair in found)
    assert {pair.thermal_delay_ns for pair in found} == {40 * MS}, "what of the skew is known"
    assert (pairs.live, pairs.visible.band, pairs.thermal.band) == (True, Band.VISIBLE, Band.THERMAL)


# -- every kind of source -------------------------------------------------------------------------------------------------


def test_videos_and_folders_with_any_name(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", patterns(6)) for name in ("sichtbar Ä 1", "熱 #50%")]
    folders = [save_images(tmp_path / name, ["ä", "b", "ç"][first:]) for first, name in enumerate(("bild ö", "wärme"))]
    with open_pairs(vis=clips[0], ir=clips[1], loop=2) as pairs:
        assert [pair.skew_ns for pair in pairs] == [0] * 12
    with rtfusion.open_pairs(vis=folders[0], ir=folders[1]) as pairs:
        assert [(pair.visible.name, pair.thermal.name) for pair in pairs] == [("b", "b"), ("ç", "ç")]
    assert pairs.drops[Band.VISIBLE]["no_partner"] == 1
    assert any("stay unpaired" in note for note in pairs.notes)


def test_a_session_gives_the_pairs_that_were_recorded(tmp_path: Path) -> None:
    sink = f"record:{tmp_path}?reserve_mb=1"
    build(Settings(ir=f"{CAMERA}&drop=0.1", vis=CAMERA, sink=(sink,), max_frames=20, fuser="average")).run()
    (session,) = tmp_path.iterdir()
    recorded = list(load_session(session).pairs())
    with open_pairs(ir=f"session:{session}", vis=f"session:{session}") as pairs:
        found = list(pairs)
    assert [pair.sequence for pair in found] == [pair.sequence for pair in recorded]
    assert [pair.skew_ns for pair in found] == [
        pair.thermal.timestamp_ns - pair.visible.timestamp_ns for pair in recorded
    ]


def test_cameras_are_read_by_their_own_threads() -> None:
    with open_pairs(ir=CAMERA, vis=CAMERA) as pairs:
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture-")]
        next(pairs)
        names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("capture-"))
    assert names == ["capture-thermal", "capture-visible"]


def test_recordings_need_no_thread() -> None:
    pairs = scripted(grid(5), grid(5))
    before = threading.active_count()
    next(pairs)
    assert threading.active_count() == before
    assert pairs.frames_read == {Band.VISIBLE: 2, Band.THERMAL: 1}  # no more than the rule asked for
    pairs.close()


# -- the ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [cameras, lambda: scripted(grid(500), grid(500), read_ahead=True)])
def test_a_break_ends_every_thread(make: Callable[[], PairStream]) -> None:
    for pair in make():
        if pair.sequence == 3:
            break
    gc.collect()


def test_an_error_in_the_loop_ends_every_thread() -> None:
    with pytest.raises(RuntimeError, match="mine"), cameras() as pairs:
        for _ in pairs:
            raise RuntimeError("mine")
    assert pairs.closed


def test_a_stream_that_nobody_holds_ends_its_threads() -> None:
    pairs = cameras()
    next(pairs)
    captures = pairs._captures
    del pairs
    gc.collect()
    assert all(capture.join(timeout_s=10) for capture in captures)


def test_single_pairs_leave_it_open_and_a_loop_goes_on_from_there() -> None:
    with scripted(grid(5), grid(5)) as pairs:
        assert [next(pairs).sequence, next(pairs).sequence] == [0, 1]
        assert not pairs.closed
        assert [pair.sequence for pair in pairs] == [2, 3, 4]
        assert pairs.closed
        assert next(pairs, None) is None
        with pytest.raises(ConfigError, match=r"script:visible and script:thermal were closed; open them again"):
            iter(pairs)
    pairs.close()


@pytest.mark.parametrize("make", [cameras, lambda: scripted(grid(5), grid(5), read_ahead=True)])
def test_close_from_another_thread_ends_the_loop(make: Callable[[], PairStream]) -> None:
    pairs = make()
    count = 0
    for _ in pairs:
        count += 1
        closing = threading.Thread(target=pairs.close)
        closing.start()
        closing.join()
    assert count == 1


def test_stop_ends_the_loop_while_it_waits() -> None:
    stop = threading.Event()
    asked: list[bool] = []
    silent = ScriptedSource(Band.THERMAL, [lambda: asked.append(True)], live=True)
    pairs = PairStream(visible=Camera(Band.VISIBLE), thermal=silent, stop=stop)
    threading.Timer(0.05, stop.set).start()
    assert list(pairs) == []
    assert pairs.closed


def test_as_many_as_asked_for() -> None:
    assert len(list(scripted(grid(50), grid(50), max_pairs=7))) == 7
    pairs = cameras(max_pairs=3)
    assert len(list(pairs)) == 3
    assert pairs.pairs == 3


def test_a_paced_recording_is_waited_for() -> None:
    class Paced(ScriptedSource):
        def read(self, *, timeout_s: float) -> Frame:
            step = super().read(timeout_s=timeout_s)
            if step.sequence == 1 and not waited:
                waited.append(True)
                self._script = iter([step, *self._script])
                raise CaptureTimeout("not due")
            return step

    waited: list[bool] = []
    visible = Paced(Band.VISIBLE, stream(Band.VISIBLE, grid(3)))
    pairs = PairStream(visible=visible, thermal=ScriptedSource(Band.THERMAL, stream(Band.THERMAL, grid(3))))
    assert len(list(pairs)) == 3
    assert waited


@pytest.mark.parametrize("read_ahead", [False, True])
def test_what_breaks_a_source_is_raised_after_what_came_before(read_ahead: bool) -> None:
    found: list[int] = []
    pairs = PairStream(
        visible=ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(9))),
        thermal=ScriptedSource(Band.THERMAL, [*stream(Band.THERMAL, grid(5)), StreamLost("cable")]),
        read_ahead=read_ahead,
    )
    with pytest.raises(StreamLost, match="cable"):
        for pair in pairs:
            found.append(pair.sequence)
    assert found == [0, 1, 2, 3, 4]
    assert pairs.closed


# -- lost cameras ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "mark"), [("passthrough", Degraded.NO_THERMAL), ("hold", Degraded.HELD_THERMAL)])
def test_a_lost_camera_is_stood_in_for(policy: str, mark: Degraded) -> None:
    rig = Rig()
    found: list[FramePair] = []
    for pair in PairStream(
        visible=rig.sources[Band.VISIBLE], thermal=rig.sources[Band.THERMAL], tolerance_ms=50, on_loss=policy
    ):
        found.append(pair)
        if len(found) == 3:
            rig.unplug(Band.THERMAL)
        if pair.degraded is not None:
            break
    assert found[-1].degraded is mark
    assert [pair.sequence for pair in found] == list(range(len(found)))


def test_a_lost_camera_may_end_it() -> None:
    rig = Rig()
    pairs = PairStream(visible=rig.sources[Band.VISIBLE], thermal=rig.sources[Band.THERMAL], on_loss="stop")
    with pytest.raises(StreamLost, match="script:thermal: unplugged"):
        for _ in pairs:
            rig.unplug(Band.THERMAL)
    assert pairs.faults[Band.THERMAL]["unplugged"] == 1
    assert pairs.lost[Band.VISIBLE] is None
    assert "unplugged" in str(pairs.lost[Band.THERMAL])


# -- notes ----------------------------------------------------------------------------------------------------------------


def test_that_nothing_pairs_is_noted_and_logged_once_in_a_stretch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rtfusion.pairs.UNPAIRED_WARNING_S", 0.0)
    with PairStream(visible=Camera(Band.VISIBLE), thermal=Camera(Band.THERMAL, delay_ms=5000), tolerance_ms=1) as pairs:
        while pairs.frames_read[Band.THERMAL] < 20:
            assert pairs.poll(timeout_s=0.1) is None
    assert len([note for note in pairs.notes if "no pair for" in note and "thermal delay 0.0 ms" in note]) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == list(pairs.notes)


def test_a_recording_that_ended_beside_a_camera_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ended mailbox is always ready, so waiting for it as well would be no waiting: the loop would spin."""
    waited_for: list[int] = []

    def wait_any(*mailboxes: object, timeout_s: float) -> bool:
        waited_for.append(len(mailboxes))
        return real(*mailboxes, timeout_s=timeout_s)  # type: ignore[arg-type]

    real = rtfusion.pairs.wait_any  # type: ignore[attr-defined]
    monkeypatch.setattr("rtfusion.pairs.wait_any", wait_any)
    held = ScriptedSource(Band.THERMAL, [make_frame(Band.THERMAL, MONOTONIC.now_ns())])
    pairs = PairStream(visible=Camera(Band.VISIBLE), thermal=held, pair="hold", tolerance_ms=60_000)
    assert len(list(islice(pairs, 10))) == 10
    assert waited_for[-1] == 1


def test_a_recording_that_ended_beside_a_camera_that_is_past_it_ends_the_pairs() -> None:
    """Its times count from 0, those of the camera from the start of the machine."""
    pairs = PairStream(
        visible=Camera(Band.VISIBLE), thermal=ScriptedSource(Band.THERMAL, stream(Band.THERMAL, grid(30)))
    )
    assert list(pairs) == []
    assert (pairs.pairs, pairs.frames_read[Band.THERMAL]) == (0, 30)
    assert pairs.drops[Band.THERMAL]["other_ended"] > 0


@pytest.mark.parametrize("camera", ["ir", "vis"])
def test_a_recording_beside_a_camera_is_refused(camera: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", patterns(3))
    sources = {"ir": str(clip), "vis": str(clip)} | {camera: CAMERA}
    with pytest.raises(ConfigError, match=r"synthetic:\?live=true.* is a camera and .*clip\.mp4 a recording"):
        open_pairs(**sources)  # type: ignore[arg-type]


def test_nothing_that_pairs_is_explained() -> None:
    with scripted(grid(5), [stamp + 5000 for stamp in grid(5)]) as pairs:
        assert list(pairs) == []
    assert any(note.startswith("no pair was made: visible: last stamp") for note in pairs.notes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pair": "twice"}, r"pair is 'twice'; expected one of once, hold"),
        ({"on_loss": "cry"}, r"on_loss is 'cry'; expected one of passthrough, hold, stop"),
        ({"tolerance_ms": -1}, r"tolerance_ms is -1; expected 0 or more"),
        ({"thermal_delay_ms": float("nan")}, r"thermal_delay_ms is nan; expected a finite number"),
        ({"max_pairs": 0}, r"max_pairs is 0; expected 1 or more"),
        ({"loop": 0}, r"loop is 0; expected 1 or more"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_pairs(ir="synthetic:", vis="synthetic:", **options)  # type: ignore[arg-type]
