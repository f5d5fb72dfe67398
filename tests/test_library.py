"""rtfusion as a library: arrays, streams of arrays, two sources, and registration alone."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import rtfusion
from rtfusion import library
from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.pipeline import build
from rtfusion.synthetic import Scene
from rtfusion.types import Band, Image, Image8
from tests import onnx_models
from tests.registration.test_parallax import BASELINE_M, SIZE_PX
from tests.registration.test_parallax import rig as registered_rig
from tests.support import CollectingSink

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "library.ipynb"
STREET = "synthetic:?scene=day&size=128x96&thermal_size=64x48&frames=12"


def images(seed: int = 0, *, bits: int = 8) -> tuple[Image8, Image]:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    thermal = rng.integers(0, 256, (24, 32)).astype(np.uint8)
    return visible, thermal if bits == 8 else 7000 + 8 * thermal.astype(np.uint16)


def shifted(dx: float) -> rtfusion.Calibration:
    return rtfusion.Calibration.from_homography(
        visible_from_thermal_px=np.array([[2.0, 0.0, 0.5 + dx], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]),
        visible_size_px=(64, 48),
        thermal_size_px=(32, 24),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})


# --- fuse ---


@pytest.mark.parametrize("bits", [8, 16])
def test_two_arrays_become_one(bits: int) -> None:
    visible, thermal = images(bits=bits)
    fused = rtfusion.fuse(visible=visible, thermal=thermal)
    assert (fused.shape, fused.dtype) == ((48, 64, 3), np.uint8)
    again = rtfusion.fuse(visible=visible, thermal=thermal)
    np.testing.assert_array_equal(fused, again)
    fused[:] = 0
    assert rtfusion.fuse(visible=visible, thermal=thermal).any(), "the result is the caller's own"


def test_one_pair_does_not_remember_another() -> None:
    alone = rtfusion.fuse(visible=images(1)[0], thermal=images(1, bits=16)[1], fuser="pyramid")
    for seed in (2, 3, 1):
        visible, thermal = images(seed, bits=16)
        last = rtfusion.fuse(
            visible=visible, thermal=thermal // (1 + seed % 3) if seed != 1 else thermal, fuser="pyramid"
        )
    np.testing.assert_array_equal(alone, last)


def test_the_engine_is_kept_for_the_same_options(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(library, "_KEPT", library._KeptFusers())
    monkeypatch.setattr(library, "open_fuser", lambda *a, **k: opened.append(k) or open_fuser(*a, **k))
    open_fuser = rtfusion.fusion.fuser.open_fuser  # type: ignore[attr-defined]
    visible, thermal = images()
    for _ in range(3):
        rtfusion.fuse(visible=visible, thermal=thermal, model=model, trust=False, enhance=1.0)
    assert len(opened) == 1
    rtfusion.fuse(visible=visible, thermal=thermal, model=model, trust=False, enhance=0.0)
    assert len(opened) == 2
    before = rtfusion.fuse(visible=visible, thermal=thermal, model=model, trust=False)
    onnx_models.write(model, onnx_models.average())  # the same file, other contents
    after = rtfusion.fuse(visible=visible, thermal=thermal, model=model, trust=False)
    assert not np.array_equal(before, after)
    for number in range(library.KEPT_FUSERS + 1):
        rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", calibration=shifted(float(number)))
    assert len(library._KEPT._kept) == library.KEPT_FUSERS


def test_options_are_settings_by_name(model: Path, tmp_path: Path) -> None:
    visible, thermal = images()
    only_visible = rtfusion.fuse(
        visible=visible, thermal=thermal, model=str(model), trust=False, enhance=0.0, color="everywhere"
    )
    np.testing.assert_array_equal(only_visible, visible)
    shifted(30.0).save(tmp_path / "rig.json")
    by_file = rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", calibration=str(tmp_path / "rig.json"))
    by_value = rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", calibration=shifted(30.0))
    np.testing.assert_array_equal(by_file, by_value)
    np.testing.assert_array_equal(by_file[:, :29], visible[:, :29])
    assert rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", grid="thermal").shape == (24, 32, 3)


def test_what_is_wrong_is_said_in_a_sentence() -> None:
    visible, thermal = images()
    for message, given in {
        r"thermal is \(48, 64, 3\) uint8.*give one": {"thermal": visible},
        r"visible is \(24, 32\) uint16.*exchanged": {"visible": thermal.astype(np.uint16)},
        r"thermal is \(24, 32\) float64; expected": {"thermal": thermal / 255},
        r"visible is \(48, 64, 4\).*fourth channel": {"visible": np.zeros((48, 64, 4), np.uint8)},
        r"visible is \(0, 64, 3\)": {"visible": visible[:0]},
        "did you mean enhance": {"enhanse": 0.5},
        r"rtfusion\.build": {"sink": "out.mp4"},
        "there is no option 'frobnicate'": {"frobnicate": 1},
        "enhance is 2.0": {"enhance": 2.0},
        "distance_m needs a calibration": {"distance_m": 3.0},
        "units is celsius.*kelvin_per_count": {"units": "celsius", "thermal": images(bits=16)[1]},
    }.items():
        with pytest.raises(ConfigError, match=message):
            rtfusion.fuse(**{"visible": visible, "thermal": thermal, **given})
    with pytest.raises(CalibrationError, match="there is no such file; expected a calibration file"):
        rtfusion.fuse(visible=visible, thermal=thermal, calibration="no-such-file.json")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"visible": [[1, 2], [3]]}, "visible is no array"),
        ({"visible": np.ma.masked_array(images()[0])}, r"visible is a masked array.*image\.filled"),
        ({"thermal": np.zeros((1, 32_767), np.uint8)}, "at most 32766 pixels a side"),
        ({"calibration": 3}, "calibration is of type int; expected a path"),
        ({"calibration": "x" * 5000}, "cannot be read as a calibration file"),
        ({"calibration": "x\0y"}, "cannot be read as a calibration file"),
        ({"model": "x" * 5000 + ".onnx"}, "cannot read the model"),
        ({"model": "x\0y.onnx"}, "cannot read the model"),
        ({"kelvin_per_count": float("nan")}, "kelvin_per_count is nan; expected a number above 0"),
        ({"kelvin_per_count": "0.01"}, "kelvin_per_count is '0.01'"),
    ],
)
def test_no_error_of_another_kind_comes_out(call: dict[str, Any], sentence: str) -> None:
    visible, thermal = images()
    with pytest.raises(rtfusion.FusionError, match=sentence):
        rtfusion.fuse(**{"visible": visible, "thermal": thermal, **call})


def test_a_stamp_that_is_none_spoils_nothing() -> None:
    visible, thermal = images(bits=16)
    with rtfusion.Fuser(fuser="average") as fuser:
        for stamp in ("x", 1.5):
            with pytest.raises(ConfigError, match="expected nanoseconds"):
                fuser(visible=visible, thermal=thermal, timestamp_ns=cast(int, stamp))
        assert fuser.frame(visible=visible, thermal=thermal, timestamp_ns=cast(int, np.int64(5))).timestamp_ns == 5
        with pytest.raises(ConfigError, match="model is of type int"):
            fuser.change(model=cast(str, 3))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons warn where there are threads
def test_a_forked_process_waits_for_no_thread_of_its_parent() -> None:
    visible, thermal = images()
    rtfusion.fuse(visible=visible, thermal=thermal, fuser="average")
    with library._KEPT._lock:  # as a thread may hold it that the child does not have
        child = multiprocessing.get_context("fork").Process(
            target=rtfusion.fuse, kwargs={"visible": visible, "thermal": thermal, "fuser": "average"}
        )
        child.start()
    child.join(30)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_waits_for_no_engine_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "XDG_CACHE_HOME", str(tmp_path)
    )  # every precision is opened, measured and closed before the fork
    visible, thermal = images()
    rtfusion.fuse(visible=visible, thermal=thermal, enhance=0.123)
    child = multiprocessing.get_context("fork").Process(
        target=rtfusion.fuse, kwargs={"visible": visible, "thermal": thermal, "enhance": 0.123}
    )
    child.start()
    child.join(30)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0


def test_arrays_with_gaps_and_single_channels_are_taken() -> None:
    visible, thermal = images()
    plain = rtfusion.fuse(visible=visible, thermal=thermal, fuser="average")
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[:, ::2] = visible
    np.testing.assert_array_equal(
        rtfusion.fuse(visible=wide[:, ::2], thermal=thermal[..., None], fuser="average"), plain
    )
    read_only = visible.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(rtfusion.fuse(visible=read_only, thermal=thermal, fuser="average"), plain)


def test_threads_may_share_it() -> None:
    pairs = [images(seed) for seed in range(8)]
    expected = [rtfusion.fuse(visible=visible, thermal=thermal) for visible, thermal in pairs]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for step in range(16):
            index = (step + offset) % len(pairs)
            visible, thermal = pairs[index]
            if not np.array_equal(rtfusion.fuse(visible=visible, thermal=thermal), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_one_line_in_a_fresh_interpreter() -> None:
    program = (
        "import rtfusion, sys, numpy as np; heavy = {'cv2', 'openvino', 'pydantic', 'av'} & set(sys.modules); "
        "fused = rtfusion.fuse(visible=np.zeros((48, 64, 3), np.uint8), thermal=np.zeros((24, 32), np.uint16)); "
        "print(fused.shape, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(48, 64, 3) []"


# --- Fuser ---


def test_a_stream_of_arrays_is_fused_as_a_run_fuses_it() -> None:
    """With the same stamps, memory included."""
    settings = rtfusion.Settings(ir=STREET, vis=STREET, fuser="pyramid", sink="null:")
    sink = CollectingSink()
    pipeline = build(settings)
    pipeline._sinks[0]._sink = sink
    pipeline.run()
    assert len(sink.frames) == 12
    with rtfusion.open_pairs(ir=STREET, vis=STREET) as pairs, rtfusion.Fuser(fuser="pyramid") as fuser:
        for pair, expected in zip(pairs, sink.frames, strict=True):
            fused = fuser(
                visible=pair.visible.image, thermal=pair.thermal.image, timestamp_ns=pair.visible.timestamp_ns
            )
            np.testing.assert_array_equal(fused, expected.image)


def test_a_fuser_is_changed_between_two_pairs(model: Path) -> None:
    visible, thermal = images()
    with rtfusion.Fuser(model=model, trust=False, color="everywhere") as fuser:
        assert dict(fuser.inputs) == {"enhance": 0.25}
        fuser.change(enhance=0.0)
        np.testing.assert_array_equal(fuser(visible=visible, thermal=thermal), visible)
        fuser.change(calibration=shifted(30.0), enhance=1.0)
        frame = fuser.frame(visible=visible, thermal=thermal)
        assert (frame.sequence, frame.calibration_id) == (1, shifted(30.0).id)
        with pytest.raises(ConfigError, match="did you mean enhance"):
            fuser.change(enhanse=1.0)
    with pytest.raises(ConfigError, match="was closed"):
        fuser(visible=visible, thermal=thermal)
    fuser.close()


def test_what_was_assumed_is_said() -> None:
    visible, thermal = images()
    with rtfusion.Fuser(fuser="pyramid", intent="background=1", focus_head=False) as fuser:
        fuser(visible=visible, thermal=thermal)
        assert any("nothing here looks for people" in note for note in fuser.notes)
        assert any("what is warm counts as foreground" in note for note in fuser.notes)


def test_readings_of_a_radiometric_camera() -> None:
    visible, thermal = images(bits=16)
    thermal[:] = 30000
    with rtfusion.Fuser(fuser="average", units="kelvin", kelvin_per_count=0.01) as fuser:
        assert fuser.frame(visible=visible, thermal=thermal).thermal_state["spot"] == 300.0
    drawn = rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", units="kelvin", kelvin_per_count=0.01)
    assert (drawn != rtfusion.fuse(visible=visible, thermal=thermal, fuser="average")).any()


def test_inputs_of_a_model_may_be_given_at_the_start(tmp_path: Path) -> None:
    visible, thermal = images()
    model = onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    options: dict[str, Any] = {"model": model, "trust": False, "color": "everywhere"}
    with rtfusion.Fuser(**options, inputs={"enhance": 0.0}) as fuser:
        np.testing.assert_array_equal(fuser(visible=visible, thermal=thermal), visible)
    shown = rtfusion.fuse(visible=visible, thermal=thermal, **options, inputs={"enhance": 0.0})
    np.testing.assert_array_equal(shown, visible)
    assert (rtfusion.fuse(visible=visible, thermal=thermal, **options, inputs={"enhance": 1.0}) != visible).any()
    with pytest.raises(ConfigError, match="did you mean enhance"):
        rtfusion.fuse(visible=visible, thermal=thermal, model=model, trust=False, inputs={"enhanse": 1.0})


def test_gray_levels_have_no_units() -> None:
    visible, thermal = images()
    with pytest.raises(ConfigError, match="units is counts; thermal is uint8 gray levels"):
        rtfusion.fuse(visible=visible, thermal=thermal, fuser="average", units="counts")
    with rtfusion.Fuser(fuser="average", units="counts") as fuser, pytest.raises(ConfigError, match="give raw counts"):
        fuser(visible=visible, thermal=thermal)


def test_sources_that_are_no_texts_are_refused() -> None:
    for wrong in (3, b"clip.mp4", None):
        with pytest.raises(ConfigError, match="expected a path or a URI"):
            rtfusion.open_pairs(ir=wrong, vis=STREET)  # type: ignore[arg-type]


# --- open ---


def test_two_sources_are_iterated_and_a_break_ends_everything() -> None:
    before = threading.active_count()
    with rtfusion.open(ir=STREET, vis=STREET, fuser="average") as stream:
        frames = list(stream)
    assert [frame.sequence for frame in frames] == list(range(12))
    assert stream.pairs.telemetry.snapshot()["fused"] == 12
    for frame in rtfusion.open(ir=STREET, vis=STREET, fuser="average", max_frames=5):
        if frame.sequence == 2:
            break
    assert threading.active_count() == before
    with pytest.raises(ConfigError, match="closed"):
        next(iter(stream))


def test_a_stream_is_asked_as_a_fuser_is() -> None:
    door, dog = (rtfusion.Box(target=name, left=0.2, top=0.2, right=0.6, bottom=0.8) for name in ("door", "dog"))
    with rtfusion.open(ir=STREET, vis=STREET, fuser="pyramid") as stream:
        stream.change(regions=[door], intents={"detail": 0.5})
        assert not stream.say("less noise please").refused
        frames = iter(stream)
        stream.report([dog], timestamp_ns=next(frames).timestamp_ns)
        frame = next(frames)
    assert set(frame.targets) == {"door", "dog"}
    assert frame.intents.keys() >= {"detail", "denoise"}


def test_open_takes_a_calibration_and_refuses_outputs() -> None:
    with rtfusion.open(ir=STREET, vis=STREET, fuser="average", calibration=shifted(0.0)) as stream:
        assert next(iter(stream)).calibration_id is not None
    with pytest.raises(ConfigError, match=r"rtfusion\.build"):
        rtfusion.open(ir=STREET, vis=STREET, sink="out.mp4")
    with pytest.raises(rtfusion.CaptureError):
        rtfusion.open(ir="no-such.mp4", vis=STREET)


# --- register ---


@pytest.mark.parametrize("bits", [8, 16])
def test_registration_alone(bits: int) -> None:
    visible, thermal = images(bits=bits)
    warped, valid = rtfusion.register(visible=visible, thermal=thermal)
    assert (warped.shape, warped.dtype, valid.dtype) == ((48, 64), thermal.dtype, np.uint8)
    assert (valid == 255).all()
    warped, valid = rtfusion.register(visible=visible, thermal=thermal, calibration=shifted(20.0))
    assert not valid[:, :19].any()
    assert valid[:, 21:].all()
    same, _ = rtfusion.register(visible=visible[:24, :32], thermal=thermal)
    same[:] = 0
    assert thermal.any(), "the result is the caller's own"
    with pytest.raises(ConfigError, match="distance_m needs a calibration"):
        rtfusion.register(visible=visible, thermal=thermal, distance_m=2.0)


# --- what the page shows ---


@pytest.mark.parametrize("notebook", sorted(NOTEBOOK.parent.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(code):
        exec(compile(cell, f"cell {number}", "exec"), names)  # noqa: S102 - the project's own notebook


def test_every_snippet_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (NOTEBOOK.parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
    shifted(2.0).save(tmp_path / "rig.json")
    snippets = [block.split("```", 1)[0] for block in page.split("```python\n")[1:]]
    assert len(snippets) >= 4
    visible, thermal = images(bits=16)
    frames = [(visible, thermal, 33_000_000 * index) for index in range(3)]
    for snippet in snippets:
        program = snippet.replace('"/dev/video2"', repr(STREET)).replace('"/dev/video0"', repr(STREET))
        exec(compile(program, "docs/library.md", "exec"), {"bgr": visible, "counts": thermal, "frames": frames})  # noqa: S102


def test_a_calibration_that_must_not_be_used_is_told(tmp_path: Path) -> None:
    from rtfusion.registration import Quality
    from tests.calibration.rigs import make_rig

    rig = make_rig()
    bad = rig.model_copy(update={"quality": Quality(rms_px=0.2, views=2, do_not_use="it rests on 2 views")})
    bad.save(tmp_path / "rig.json")
    with rtfusion.Fuser(fuser="average", calibration=tmp_path / "rig.json", distance_m=5.0) as fuser:
        assert any(note.startswith("do not use this calibration") for note in fuser.notes)
        assert any("set for 5 m" in note for note in fuser.notes)
    with rtfusion.Fuser(fuser="average") as fuser:
        assert fuser.notes == ()
        fuser.change(calibration=bad)
        assert "it rests on 2 views" in fuser.notes[0]


def test_what_needs_a_calibration_is_there_where_one_is_given() -> None:
    scene, rig = Scene(visible_size_px=SIZE_PX, baseline_m=BASELINE_M, walkers_m=(5.0,)), registered_rig()
    pictures = [{band.value: scene.render(band, 1.6 + index / 30) for band in Band} for index in range(3)]
    with rtfusion.Fuser(calibration=rig, parallax="dense", fuser="pyramid") as fuser:
        frames = [fuser.frame(**one, timestamp_ns=index * 33_333_333) for index, one in enumerate(pictures)]
    assert frames[-1].displacement is not None
    assert frames[-1].displacement.direction == pytest.approx((-1.0, 0.0), abs=1e-6)
    with pytest.raises(ConfigError, match="knows the pose"):
        rtfusion.Fuser(parallax="dense", fuser="pyramid")
