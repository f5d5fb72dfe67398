"""The generated scene as a source: parameters, stamps, losses, live cameras."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.capture.uri import parse_source
from rtfusion.clock import NS_PER_MS, NS_PER_S, FakeClock
from rtfusion.errors import CaptureTimeout, ConfigError, EndOfStream
from rtfusion.synthetic import COUNTS_PER_LEVEL, Scene
from rtfusion.synthetic.source import (
    SyntheticParameters,
    SyntheticSource,
    _Timing,
    open_synthetic,
    visible_from_thermal_px,
)
from rtfusion.types import Band, Frame, PixelFormat

SMALL = "size=64x48&noise=0"
PERIOD_NS = NS_PER_S / 30


def opened(query: str, band: Band = Band.VISIBLE, **options: object) -> SyntheticSource:
    return open_synthetic(parse_source(f"synthetic:?{query}"), band=band, **options)  # type: ignore[arg-type]


def read_all(source: SyntheticSource) -> list[Frame]:
    frames = []
    try:
        while True:
            frames.append(source.read(timeout_s=1.0))
    except EndOfStream:
        return frames


# Parameters


def test_every_key_is_read() -> None:
    assert SyntheticParameters.parse("") == SyntheticParameters()
    parameters = SyntheticParameters.parse(
        "scene=smoke&fps=25&frames=10&size=320x240&seed=9&bits=16&noise=1.5&delay_ms=-40&jitter_ms=2&drop=0.1&live=true"
        "&misalign=4,-3,1.5,1.1&thermal_size=160x120&thermal_fps=9&prerender=5"
    )
    assert parameters == SyntheticParameters(
        scene="smoke",
        fps=25.0,
        frames=10,
        size_px=(320, 240),
        seed=9,
        bits=16,
        noise=1.5,
        delay_ms=-40.0,
        jitter_ms=2.0,
        drop=0.1,
        live=True,
        misalign=(4.0, -3.0, 1.5, 1.1),
        thermal_size_px=(160, 120),
        thermal_fps=9.0,
        prerender=5,
    )
    assert SyntheticParameters.parse("homography=2,0,0.5,0,2,0.5,0,0,2").homography == (2, 0, 0.5, 0, 2, 0.5, 0, 0, 2)


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown parameter 'jiter_ms'; did you mean jitter_ms\?"):
        SyntheticParameters.parse("jiter_ms=3")


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        ("scene=dusk", "day, night or smoke"),
        ("fps=0", "above 0"),
        ("fps=fast", "above 0"),
        ("thermal_fps=2000", "up to 1000"),
        ("frames=-1", "0 is endless"),
        ("frames=1.5", "0 is endless"),
        ("size=640", "640x480"),
        ("size=8x8", "32 to 4096"),
        ("thermal_size=axb", "640x480"),
        ("seed=-3", "0 to 4294967295"),
        ("bits=12", "8 (gray levels) or 16"),
        ("noise=-1", "0 to 64"),
        ("noise=nan", "0 to 64"),
        ("delay_ms=5000", "-1000 to 1000"),
        ("jitter_ms=-1", "0 to 1000"),
        ("drop=1", "below 1"),
        ("live=yes", "true or false"),
        ("misalign=1,2,3", "DX,DY,ROT_DEG,SCALE"),
        ("misalign=1,2,3,0", "0.1 to 10"),
        ("homography=1,0,0,0,1,0,0,0", "nine numbers"),
        ("homography=1,0,0,0,1,0,0,0,0", "h33 not 0"),
        ("homography=1,0,0,1,0,0,0,0,1", "invertible"),
        ("homography=1,0,0,0,1,0,-0.01,0,1", "before the camera"),
        ("prerender=-2", "0 to 2000"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_is_legal(text: str, legal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SyntheticParameters.parse(text)
    key, _, value = text.partition("=")
    message = str(caught.value)
    assert f"{key}=" in message
    assert value.split(",")[0] in message
    assert legal in message


def test_what_is_set_in_python_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"drop=2: expected a probability from 0 to below 1"):
        SyntheticParameters(drop=2)


def test_two_truths_and_paths_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one"):
        SyntheticParameters.parse("misalign=1,0,0,1&homography=1,0,0,0,1,0,0,0,1")
    with pytest.raises(ConfigError, match="without a path"):
        open_synthetic(parse_source("synthetic:street?seed=3"), band=Band.VISIBLE)
    with pytest.raises(ConfigError, match="given twice"):
        SyntheticParameters.parse("seed=3&seed=4")


def test_sizes_are_scaled_about_pixel_corners() -> None:
    matrix = visible_from_thermal_px(SyntheticParameters(size_px=(640, 480), thermal_size_px=(160, 240)))
    np.testing.assert_allclose(matrix, [[4, 0, 1.5], [0, 2, 0.5], [0, 0, 1]])


def test_misalign_scales_and_turns_about_the_middle_then_shifts() -> None:
    matrix = visible_from_thermal_px(SyntheticParameters(size_px=(641, 481), misalign=(12, -5, 90, 2)))
    np.testing.assert_allclose(matrix @ [320, 240, 1], [332, 235, 1], atol=1e-9)
    np.testing.assert_allclose(matrix @ [330, 240, 1], [332, 255, 1], atol=1e-9)  # right becomes down: clockwise


def test_a_homography_is_taken_as_it_is_up_to_its_scale() -> None:
    numbers = (2.0, 0.02, 6.0, -0.04, 2.2, 8.0, 2e-5, 0.0, 2.0)
    matrix = visible_from_thermal_px(SyntheticParameters(homography=numbers))
    np.testing.assert_allclose(matrix, np.reshape(numbers, (3, 3)) / 2)


# Recordings


def test_a_recording_has_exact_stamps_and_ends() -> None:
    source = opened(f"{SMALL}&frames=7&seed=5")
    info = source.info
    assert (info.width_px, info.height_px, info.pixel_format) == (64, 48, PixelFormat.BGR8)
    assert (info.rate_hz, info.live, info.frame_count, info.band) == (30.0, False, 7, Band.VISIBLE)
    frames = read_all(source)
    assert [frame.sequence for frame in frames] == list(range(7))
    assert [frame.timestamp_ns for frame in frames] == [round(index * PERIOD_NS) for index in range(7)]
    assert source.drops == {"driver": 0}
    with pytest.raises(EndOfStream):
        source.read(timeout_s=1.0)


def test_loop_multiplies_the_frames_and_zero_is_endless() -> None:
    looped = opened(f"{SMALL}&frames=3", loop=4)
    assert looped.info.frame_count == 12
    assert len(read_all(looped)) == 12
    assert opened(f"{SMALL}&frames=0").info.frame_count is None


def test_both_cameras_run_equally_long_at_their_own_rates() -> None:
    thermal = opened(f"{SMALL}&frames=60&thermal_fps=9&thermal_size=48x36", Band.THERMAL)
    frames = read_all(thermal)
    assert thermal.info.frame_count == len(frames) == 18
    assert frames[9].timestamp_ns == NS_PER_S
    assert frames[0].image.shape == (36, 48)


def test_the_formats_of_the_bands() -> None:
    formats = {
        (band, bits): opened(f"{SMALL}&frames=1&bits={bits}", band).read(timeout_s=1.0).pixel_format
        for band in Band
        for bits in (8, 16)
    }
    assert formats == {
        (Band.VISIBLE, 8): PixelFormat.BGR8,
        (Band.VISIBLE, 16): PixelFormat.BGR8,
        (Band.THERMAL, 8): PixelFormat.GRAY8,
        (Band.THERMAL, 16): PixelFormat.GRAY16,
    }


def test_same_parameters_same_frames() -> None:
    query = "size=64x48&frames=12&jitter_ms=3&drop=0.2&seed=4&bits=16"
    for band in Band:
        first, second = read_all(opened(query, band)), read_all(opened(query, band))
        assert [frame.timestamp_ns for frame in first] == [frame.timestamp_ns for frame in second]
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.image, other.image)


def test_a_delayed_thermal_stamp_shows_the_past() -> None:
    prompt = read_all(opened(f"{SMALL}&frames=8", Band.THERMAL))
    late = read_all(opened(f"{SMALL}&frames=8&delay_ms=100", Band.THERMAL))
    for index in range(3, 8):  # 100 ms are three periods
        np.testing.assert_array_equal(late[index].image, prompt[index - 3].image)
    assert np.any(late[7].image != prompt[7].image)
    visible = [read_all(opened(f"{SMALL}&frames=2{delay}"))[1].image for delay in ("", "&delay_ms=100")]
    np.testing.assert_array_equal(*visible)


def test_a_jittered_frame_shows_the_moment_of_its_stamp() -> None:
    scene = Scene(visible_size_px=(64, 48))
    frames = read_all(opened(f"{SMALL}&frames=6&jitter_ms=8"))
    for frame in frames:
        np.testing.assert_array_equal(frame.image, scene.render(Band.VISIBLE, frame.timestamp_ns / NS_PER_S))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), jitter_ms=st.floats(0, 1000), fps=st.sampled_from([0.5, 9, 30, 30000 / 1001, 240])
)
def test_moments_of_capture_increase_whatever_the_jitter(seed: int, jitter_ms: float, fps: float) -> None:
    timing = _Timing(SyntheticParameters(seed=seed, jitter_ms=jitter_ms, fps=fps), Band.THERMAL)
    indices = np.arange(1000, 1060)  # across the border of two blocks of dice
    moments = np.array([timing.captured_ns(int(index)) for index in indices])
    assert (np.diff(moments) > 0).all()
    assert np.abs(moments - indices * NS_PER_S / fps).max() <= 0.45 * NS_PER_S / fps + 1


def test_jitter_has_the_deviation_asked_for_and_differs_between_bands() -> None:
    shifts = []
    for band in Band:
        frames = read_all(opened("size=32x32&frames=3000&jitter_ms=2&prerender=1", band))
        stamps = np.array([frame.timestamp_ns for frame in frames])
        shifts.append(stamps - np.arange(3000) * PERIOD_NS)
        assert stamps[0] >= 0
        assert np.std(shifts[-1]) == pytest.approx(2 * NS_PER_MS, rel=0.05)
    assert abs(np.corrcoef(*shifts)[0, 1]) < 0.1


def test_dropped_frames_leave_gaps_at_the_rate_asked_for() -> None:
    kept = {}
    for band in Band:
        source = opened("size=32x32&frames=3000&drop=0.1&prerender=1", band)
        kept[band] = {frame.sequence for frame in read_all(source)}
        assert source.info.frame_count == len(kept[band])
        assert source.drops == {"driver": 3000 - len(kept[band])}
        assert source.drops["driver"] == pytest.approx(300, abs=60)
    lost_by_both = 3000 - len(kept[Band.VISIBLE] | kept[Band.THERMAL])
    assert lost_by_both == pytest.approx(30, abs=20)  # independent: 1 in 100


@pytest.mark.parametrize(("band", "bits"), [(Band.VISIBLE, 8), (Band.THERMAL, 8), (Band.THERMAL, 16)])
def test_noise_has_the_deviation_asked_for(band: Band, bits: int) -> None:
    query = f"size=160x120&frames=3&bits={bits}&scene=night"
    clean = read_all(opened(f"{query}&noise=0", band))
    noisy = read_all(opened(f"{query}&noise=3", band))
    unit = COUNTS_PER_LEVEL if bits == 16 else 1.0
    noise = []
    for one, other in zip(noisy, clean, strict=True):
        unclipped = (other.image > 20 * unit) & (other.image < 235 * unit if bits == 8 else True)
        difference = one.image.astype(float) - other.image
        assert difference[unclipped].std() == pytest.approx(3 * unit, rel=0.04)
        assert abs(difference[unclipped].mean()) < 0.1 * unit
        noise.append(np.where(unclipped, difference, 0).ravel())
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.05


def test_prerendered_frames_are_cycled_with_stamps_that_go_on() -> None:
    query = "size=64x48&frames=9&jitter_ms=1"
    frames = read_all(opened(f"{query}&prerender=4"))
    assert [frame.sequence for frame in frames] == list(range(9))
    assert (np.diff([frame.timestamp_ns for frame in frames]) > 0).all()
    assert frames[5].image is frames[1].image
    assert not frames[0].image.flags.writeable
    rendered = read_all(opened("size=64x48&frames=4"))
    for index in range(4):
        np.testing.assert_array_equal(frames[index].image, rendered[index].image)


def test_prerendered_bands_of_unequal_rates_show_the_same_scene() -> None:
    query = "size=64x48&noise=0&frames=60&thermal_fps=10&prerender=6&delay_ms=25"
    plain = read_all(opened("size=64x48&noise=0&frames=60&thermal_fps=10&delay_ms=25", Band.THERMAL))
    cycled = read_all(opened(query, Band.THERMAL))
    for index, frame in enumerate(cycled):  # 6 visible frames last 0.2 s: 2 thermal ones
        np.testing.assert_array_equal(frame.image, plain[index % 2].image)


def test_a_paced_recording_takes_its_time() -> None:
    clock = FakeClock(start_ns=5 * NS_PER_S)
    source = opened(f"{SMALL}&frames=10", pace=True, clock=clock)
    frames = read_all(source)
    assert clock.now_ns() == 5 * NS_PER_S + frames[-1].timestamp_ns == 5 * NS_PER_S + 300 * NS_PER_MS


# Live cameras


def test_a_live_source_keeps_to_the_clock() -> None:
    clock = FakeClock(start_ns=1_000 * NS_PER_S)
    source = opened(f"{SMALL}&live=true&frames=5", clock=clock)
    assert source.info.live
    assert source.info.frame_count is None
    frames = read_all(source)
    assert [frame.timestamp_ns - 1_000 * NS_PER_S for frame in frames] == [round(k * PERIOD_NS) for k in range(5)]
    assert all(frame.received_ns >= frame.timestamp_ns for frame in frames)


def test_live_bands_share_the_scene_by_their_stamps_alone() -> None:
    scene = Scene(visible_size_px=(64, 48))
    for band, start_ns in ((Band.VISIBLE, 9_000_123_456_789), (Band.THERMAL, 9_000_133_000_000)):
        source = opened(f"{SMALL}&live=true&delay_ms=50&jitter_ms=4", band, clock=FakeClock(start_ns))
        delay_ns = 50 * NS_PER_MS if band is Band.THERMAL else 0
        for _ in range(4):
            frame = source.read(timeout_s=1.0)
            time_s = (frame.timestamp_ns - delay_ns) % (3600 * NS_PER_S) / NS_PER_S
            np.testing.assert_array_equal(frame.image, scene.render(band, time_s))


def test_a_late_reader_gets_the_newest_frame_and_the_overtaken_ones_are_counted() -> None:
    clock = FakeClock()
    source = opened(f"{SMALL}&live=true", clock=clock)
    assert source.read(timeout_s=1.0).sequence == 0
    clock.advance_ns(round(10.5 * PERIOD_NS))
    late = source.read(timeout_s=1.0)
    assert late.sequence == 10
    assert late.timestamp_ns == round(10 * PERIOD_NS)
    assert source.drops == {"driver": 9}
    assert source.read(timeout_s=1.0).sequence == 11
    assert source.drops == {"driver": 9}


def test_a_live_stream_ends_with_its_last_frame_for_a_reader_who_missed_the_end() -> None:
    clock = FakeClock()
    source = opened(f"{SMALL}&live=true&frames=4", clock=clock)
    source.read(timeout_s=1.0)
    clock.advance_ns(NS_PER_S)
    assert source.read(timeout_s=1.0).sequence == 3
    with pytest.raises(EndOfStream, match="all frames were read"):
        source.read(timeout_s=1.0)
    assert source.drops == {"driver": 2}


def test_a_live_camera_loses_frames_by_chance_too() -> None:
    source = opened(f"{SMALL}&live=true&frames=200&drop=0.25&prerender=1", clock=FakeClock())
    kept = [frame.sequence for frame in read_all(source)]
    assert source.drops == {"driver": 200 - len(kept)}
    assert source.drops["driver"] == pytest.approx(50, abs=25)


@pytest.mark.parametrize("query", [f"{SMALL}&live=true&fps=2", f"{SMALL}&fps=2"])
def test_a_frame_that_is_not_due_in_time_is_not_lost(query: str) -> None:
    clock = FakeClock()
    source = opened(query, pace=True, clock=clock)
    source.read(timeout_s=0.1)
    with pytest.raises(CaptureTimeout, match=r"no frame within 0\.2 s"):
        source.read(timeout_s=0.2)
    assert clock.now_ns() == 200 * NS_PER_MS
    assert source.read(timeout_s=0.5).sequence == 1
    assert source.drops == {"driver": 0}


@pytest.mark.parametrize("query", [f"{SMALL}&live=true&fps=0.05", f"{SMALL}&fps=0.05"])
def test_closing_wakes_a_read_that_waits(query: str) -> None:
    source = opened(query, pace=True)
    source.read(timeout_s=1.0)
    ended = threading.Event()

    def wait_for_the_next_frame() -> None:
        with pytest.raises(EndOfStream):
            source.read(timeout_s=30.0)
        ended.set()

    reader = threading.Thread(target=wait_for_the_next_frame)
    reader.start()
    source.close()
    reader.join(timeout=10.0)
    assert ended.is_set()
    source.close()
    with pytest.raises(EndOfStream):
        source.read(timeout_s=1.0)
