"""Settings as people write them in Python, and as they are handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rtfusion import ConfigError, Settings

STRANGE: tuple[Any, ...] = (None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**400, "", "\udc80", "?", "a\0b", b"x",
                            [], (), {}, [1], ("a", 2), Path("a"), [Path("a")], object(), Settings)  # fmt: skip


def test_values_may_be_written_as_people_write_them() -> None:
    settings = Settings(calibration="rig.json", sink="out.mp4", model="large", ir="a.mp4", vis="b.mp4", threshold=1)
    assert (settings.calibration, settings.sink, settings.model) == (Path("rig.json"), ("out.mp4",), Path("large"))
    assert (settings.ir, settings.vis) == ("a.mp4", "b.mp4")
    assert type(settings.threshold) is float


def test_paths_may_be_given_for_sources_and_outputs() -> None:
    settings = Settings(ir=Path("a.mp4"), vis=Path("b"), sink=[Path("out.mp4"), "null:"], stats_json=Path("stats.json"))
    assert (settings.ir, settings.vis, settings.sink) == ("a.mp4", "b", ("out.mp4", "null:"))
    assert Settings(sink=Path("out.mp4")).sink == ("out.mp4",)


def test_the_home_folder_is_found_as_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(calibration="~/rig.json", model="~/m.onnx", ir="images:~/ir", vis="~/vis.mp4", sink="~/out.mp4")
    assert (settings.calibration, settings.model) == (tmp_path / "rig.json", tmp_path / "m.onnx")
    assert (settings.ir, settings.vis) == (f"images:{tmp_path}/ir", f"{tmp_path}/vis.mp4")
    assert settings.sink == (f"{tmp_path}/out.mp4",)


def test_a_source_stays_as_it_was_written() -> None:
    for uri in ("./a.mp4", "images:frames/?fps=25", "rtsp://camera/~me", "synthetic:?scene=day"):
        assert Settings(ir=uri).ir == uri


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fusr": "average"}, "unknown setting fusr; did you mean fuser?"),
        ({"pair": "onec"}, "pair is 'onec'; it should be once or hold; did you mean once?"),
        ({"loop": "2"}, "loop is '2'; it should be a whole number"),
        ({"loop": 0}, "loop is 0; it should be greater than or equal to 1"),
        ({"pace": 1}, "pace is 1; it should be true or false"),
        ({"enhance": 1.5}, "enhance is 1.5; it should be less than or equal to 1"),
        ({"distance_m": float("nan")}, "distance_m is nan; it should be a finite number"),
        ({"calibration": 3}, "calibration is 3; it should be a path"),
        ({"ir": 0}, "ir is 0; it should be text"),
        ({"sink": 3}, "sink is 3; it should be a list of texts"),
        ({"loop": None}, "loop is None; it should be a whole number"),
        ({"model": "huge"}, "no model named huge comes with rtfusion (there is: large, small); a file is named"),
        ({"distance_m": 3}, "distance_m needs a calibration to apply to; name one with --calibration"),
        (
            {"engine": "tensorrt", "grid": "thermal"},
            "grid thermal is for engines of the CPU, and the engine is tensorrt",
        ),
        (
            {"engine": "tensorrt", "look": "detector"},
            "look detector is for engines of the CPU, and the engine is tensorrt",
        ),
        (
            {"engine": "pytorch:cuda", "refine": True},
            "refine is for engines of the CPU, and the engine is pytorch:cuda",
        ),
        ({"engine": "tensorrt", "precision": "bf16"}, "precision bf16 is for engines of the CPU"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_value_raises_anything_but_a_sentence(name: str) -> None:
    for value in STRANGE:
        try:
            Settings(**{name: value})
        except ConfigError as error:
            assert "\n" not in str(error)


def test_every_setting_says_who_takes_it() -> None:
    settings = Settings(gain="fixed", gain_low=1, gain_high=2, polarity="black-hot")
    assert settings.arguments("gain") == {"mode": "fixed", "low_counts": 1.0, "high_counts": 2.0, "black_hot": True}
    taken = [settings.arguments(taker) for taker in {setting.taker for setting in settings.declared().values()}]
    assert sum(map(len, taken)) == len(Settings.model_fields)
