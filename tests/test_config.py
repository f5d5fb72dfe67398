"""Settings: precedence, origins, suggestions, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.config import Loaded, Settings, load
from rtfusion.errors import ConfigError
from rtfusion.intents import PRESETS, Intents

LEGAL: Mapping[str, tuple[Any, ...]] = {
    "ir": ("/a.mp4", "synthetic:day", "/dev/video1"),
    "vis_options": ("rotate=180", "crop=0,0,64,48&flip=h"),
    "loop": (1, 2, 7),
    "pace": (True, False),
    "calibration": (Path("/a.json"), Path("/b.json")),
    "grid": ("visible", "thermal"),
    "fuser": ("average", "maximum", "pyramid", "overlay"),
    "threads": (1, 4),
    "look": ("eye",),
    "palette": ("inferno", "white-hot"),
    "opacity": (0.0, 0.25, 1.0),
    "pair": ("once", "hold"),
    "thermal_delay_ms": (-3.5, 0.0, 40.0),
    "sink": (("/a.mp4",), ("/a.mp4", "zmq:tcp://127.0.0.1:5555"), ("/with space.mp4",)),
    "max_frames": (1, 300),
}


def loaded(file: Path | None = None, environ: Mapping[str, str] | None = None, **flags: object) -> Loaded:
    return load(flags, file=file, environ=environ or {"XDG_CONFIG_HOME": "/nonexistent"})


def as_text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"'{item}'" for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@st.composite
def layers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Three layers, file, environment and flags, each of which sets some settings."""
    fields = st.sampled_from(sorted(LEGAL))
    names = [draw(st.lists(fields, unique=True)) for _ in range(3)]
    return [{name: draw(st.sampled_from(LEGAL[name])) for name in layer} for layer in names]


@given(layers())
def test_the_highest_layer_wins_and_says_so(given_layers: list[dict[str, Any]]) -> None:
    in_file, in_environment, in_flags = given_layers
    path = Path("settings.toml")
    path.write_text("".join(f"{name} = {as_toml(value)}\n" for name, value in in_file.items()))
    environ = {f"RTFUSION_{name.upper()}": as_text(value) for name, value in in_environment.items()}

    result = load(in_flags, file=path, environ=environ)

    for name, field in Settings.model_fields.items():
        expected, origin = field.default, "default"
        if name in in_file:
            expected, origin = in_file[name], "file settings.toml"
        if name in in_environment:
            expected, origin = in_environment[name], f"environment RTFUSION_{name.upper()}"
        if name in in_flags:
            expected, origin = in_flags[name], f"flag --{name.replace('_', '-')}"
        assert (getattr(result.settings, name), result.origins[name]) == (expected, origin)


@pytest.mark.parametrize("name", sorted(LEGAL))
def test_text_and_typed_values_of_flags_mean_the_same(name: str) -> None:
    for value in LEGAL[name]:
        text = value if isinstance(value, tuple) else as_text(value)
        assert getattr(loaded(**{name: text}).settings, name) == value
        assert getattr(loaded(**{name: value}).settings, name) == value


def test_every_setting_has_help() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "[" not in field.description, f"{name}: brackets are markup in help texts"


def test_a_flag_that_is_none_was_not_given() -> None:
    assert loaded(fuser=None).origins["fuser"] == "default"


def test_an_empty_variable_is_not_set() -> None:
    assert loaded(environ={"RTFUSION_FUSER": ""}).origins["fuser"] == "default"


# -- which file -------------------------------------------------------------------------------------------------------


def test_the_file_is_found_in_the_documented_order(empty_folder: Path) -> None:
    home = empty_folder / "xdg" / "rtfusion" / "config.toml"
    home.parent.mkdir(parents=True)
    environ = {"XDG_CONFIG_HOME": str(empty_folder / "xdg")}
    assert loaded(environ=environ).file is None

    home.write_text("loop = 2")
    assert loaded(environ=environ).settings.loop == 2
    Path("rtfusion.toml").write_text("loop = 3")
    assert loaded(environ=environ).origins["loop"] == "file rtfusion.toml"
    Path("named.toml").write_text("loop = 4")
    environ["RTFUSION_CONFIG"] = "named.toml"
    assert loaded(environ=environ).settings.loop == 4
    Path("flag.toml").write_text("loop = 5")
    assert loaded(file=Path("flag.toml"), environ=environ).settings.loop == 5


def test_without_xdg_the_home_folder_is_searched(empty_folder: Path) -> None:
    path = empty_folder / ".config" / "rtfusion" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("loop = 2")
    assert loaded(environ={"HOME": str(empty_folder)}).settings.loop == 2


def test_paths_in_a_file_are_relative_to_it(empty_folder: Path) -> None:
    folder = empty_folder / "rig"
    folder.mkdir()
    (folder / "rig.toml").write_text(
        """
        ir = "thermal.mp4"
        vis = "/dev/video0"
        calibration = "rig.json"
        stats_json = "../stats.json"
        sink = ["fused.mp4", "images:frames", "zmq:tcp://127.0.0.1:5555", "null:"]
        """
    )
    settings = loaded(file=folder / "rig.toml").settings
    assert settings.ir == str(folder / "thermal.mp4")
    assert settings.vis == "/dev/video0"
    assert settings.calibration == folder / "rig.json"
    assert settings.stats_json == folder / "../stats.json"
    assert settings.sink == (
        str(folder / "fused.mp4"),
        f"images:{folder / 'frames'}",
        "zmq:tcp://127.0.0.1:5555",
        "null:",
    )


def test_a_word_of_a_setting_is_no_path(empty_folder: Path) -> None:
    (empty_folder / "rtfusion.toml").write_text('fuser = "average"')
    assert loaded().settings.fuser == "average"


# -- what is wrong, said in one sentence ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fusr = 1", "the settings file rtfusion.toml has the unknown key fusr; did you mean fuser?"),
        ("max-frames = 1", "the settings file rtfusion.toml has the unknown key max-frames; did you mean max_frames?"),
        ("[run]", "the settings file rtfusion.toml has the unknown key run"),
        ('loop = "2"', "loop is '2' (file rtfusion.toml); it should be a whole number"),
        ("pace = 1", "pace is 1 (file rtfusion.toml); it should be true or false"),
        ("calibration = 1", "calibration is 1 (file rtfusion.toml); it should be a path"),
        ('sink = "a.mp4"', "sink is 'a.mp4' (file rtfusion.toml); it should be a list of texts"),
        ("ir = 0", "ir is 0 (file rtfusion.toml); it should be text"),
        ("fuser", "the settings file rtfusion.toml is not valid TOML: "),
    ],
)
def test_a_wrong_file(text: str, message: str) -> None:
    Path("rtfusion.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        loaded()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("RTFUSION_PAIRR", "once", "the environment variable RTFUSION_PAIRR is not a setting of rtfusion; did you mean RTFUSION_PAIR?"),  # noqa: E501
        ("RTFUSION_XYZZY", "1", "the environment variable RTFUSION_XYZZY is not a setting of rtfusion"),
        ("RTFUSION_LOOP", "0", "loop is '0' (environment RTFUSION_LOOP); it should be greater than or equal to 1"),
        ("RTFUSION_SINK", "'a.mp4", "cannot split the environment variable RTFUSION_SINK into outputs: No closing quotation"),
    ],
)  # fmt: skip
def test_a_wrong_environment(variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(environ={variable: text})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"fusr": "average"}, "unknown setting fusr; did you mean fuser?"),
        ({"pair": "onec"}, "pair is 'onec' (flag --pair); it should be once or hold; did you mean once?"),
        ({"threshold": "1.5"}, "threshold is '1.5' (flag --threshold); it should be less than or equal to 1"),
        ({"tolerance_ms": "nan"}, "tolerance_ms is 'nan' (flag --tolerance-ms); it should be a finite number"),
        ({"distance_m": "far"}, "distance_m is 'far' (flag --distance-m); it should be a number"),
        ({"max_frames": "1e3"}, "max_frames is '1e3' (flag --max-frames); it should be a whole number"),
    ],
)
def test_a_wrong_flag(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(**flags)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "huge"}, "no model named huge"),
        ({"fuser": "overlay", "look": "detector"}, "the look for detectors is without colors"),
        ({"fuser": "pyramid", "enhance": "0.5"}, "enhance is a dial of the learned fuser, and the fuser is pyramid"),
        ({"distance_m": "3"}, "distance_m needs a calibration"),
        ({"gain": "fixed", "gain_low": "1"}, "gain fixed needs both ends"),
        ({"gain": "fixed", "gain_low": "2", "gain_high": "2"}, "gain_low is 2 and gain_high 2"),
        ({"gain_high": "2"}, "gain_low and gain_high need gain fixed"),
    ],
)
def test_settings_that_do_not_go_together(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(**flags)
    assert str(caught.value).startswith(message)
    assert f"from flag --{next(iter(flags)).replace('_', '-')}" in str(caught.value)


def test_a_flag_may_turn_off_what_a_file_sets_up() -> None:
    Path("rtfusion.toml").write_text('gain = "fixed"\ngain_low = 1.0\ngain_high = 2.0\n')
    assert loaded(gain="percentile").settings.gain == "percentile"


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file nowhere\.toml: No such file"):
        loaded(file=Path("nowhere.toml"))


def test_variables_that_are_no_settings_are_left_alone() -> None:
    Path("x.toml").write_text("")
    environ = {"RTFUSION_SHARED": "/x", "RTFUSION_REQUIRE_CUDA": "1", "RTFUSION_CONFIG": "x.toml", "PATH": "/bin"}
    assert set(loaded(environ=environ).origins.values()) == {"default"}


def intents_of(text: str, folder: Path) -> Loaded:
    path = folder / "rtfusion.toml"
    path.write_text(text, encoding="utf-8")
    return load({}, file=path, environ={})


def test_axes_and_presets_stand_in_one_table_of_a_file(empty_folder: Path) -> None:
    text = '[intents]\npeople = 0.8\ncolor = -1\nfog = "clear_haze=1,thermal=0.4"\nharbor = {brighten = 0.5}\n'
    loaded = intents_of(text, empty_folder)
    assert loaded.settings.wish == Intents(people=0.8, color=-1.0)
    assert loaded.settings.presets["fog"] == Intents(clear_haze=1.0, thermal=0.4)
    assert loaded.settings.presets["harbor"] == Intents(brighten=0.5)
    assert set(loaded.settings.presets) > set(PRESETS)
    assert loaded.origins["intent"] == loaded.origins["preset"] == f"file {empty_folder / 'rtfusion.toml'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intents = 3", "has intents = 3; expected a table of axes and presets"),
        ("[intents]\npeople = 2", "[intents]: the intent people is 2; expected -1 to 1"),
        ("[intents]\npeple = 0.5", "[intents]: there is no intent 'peple'; did you mean people?"),
        ("[intents]\nfog = {haze = 1}", "[intents]: there is no intent 'haze'"),
        ('[intents]\npeople = "yes"', "the name people of a preset is taken"),
        ('[intents]\nsurveillance = "people=1"', "the name surveillance of a preset is taken"),
        ('intent = "people=1"\n[intents]\ncolor = 1', "has both intent and [intents]; write it in one place"),
    ],
)
def test_a_wrong_table_of_intents(text: str, message: str, empty_folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        intents_of(text, empty_folder)
    assert message in str(caught.value)


def test_intents_are_for_fusers_that_take_them() -> None:
    with pytest.raises(ConfigError, match="intents are for the fusers pyramid and learned, and the fuser is edges"):
        Settings(fuser="edges", intent="people=1")
    assert Settings(fuser="edges", intent="natural").wish == Intents()
    with pytest.raises(ConfigError, match="an intent is for engines of the CPU, and the engine is tensorrt"):
        Settings(engine="tensorrt", intent="people=1")
    own = Settings(preset=("fog: clear_haze=1", "smoke: fog,thermal=1"), intent="smoke")
    assert own.wish == Intents(clear_haze=1.0, thermal=1.0)
    for preset in ("clear_haze=1", ": fog", "a b: fog"):
        with pytest.raises(ConfigError, match="has no name; expected NAME"):
            Settings(preset=preset)
