"""Completion, manual pages, a settings file to begin with, the list of sources, samples: made of what the commands declare."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from rtfusion.capture import images, parameters, video_parameters
from rtfusion.capture.catalog import IMAGES, NETWORK, SESSION, V4L2, VIDEO, catalog, table_of
from rtfusion.capture.uri import SourceUri, read_query
from rtfusion.cli.app import app
from rtfusion.cli.config import commented_file
from rtfusion.cli.tree import each_command, parameters_of, plain
from rtfusion.config import Settings, load
from rtfusion.errors import EXIT_BUG, ConfigError
from rtfusion.synthetic.parameters import SyntheticParameters

from .conftest import Cli, Main

ROOT = typer.main.get_command(app)
COMPLETE = """
source completion.bash
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_shtab_rtfusion rtfusion "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_options_values_and_files(main_here: Main, tmp_path: Path) -> None:
    code, script, _ = main_here("completion", "bash")
    assert code == 0
    (tmp_path / "completion.bash").write_text(script)
    (tmp_path / "stats.json").touch()

    def completed(words: str) -> str:
        shell = ["bash", "-c", COMPLETE.format(words=words)]
        return subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert completed("rtfusion ca") == "calibrate"
    assert completed("rtfusion calibrate s") == "scene"
    assert completed("rtfusion run --fus") == "--fuser"
    assert completed('rtfusion run --palette ""') == "inferno ironbow white-hot black-hot rainbow"
    assert completed("rtfusion report sta") == "stats.json"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command(shell: str, main_here: Main) -> None:
    code, script, _ = main_here("completion", shell)
    assert code == 0
    for words, _command in each_command(ROOT):
        assert words[-1] in script
    assert "--distance-m" in script or "-l distance-m" in script


def test_a_shell_that_is_not_known_is_refused(main_here: Main) -> None:
    code, _, err = main_here("completion", "bsh")
    assert code == 2
    assert "did you mean bash?" in err


def test_every_command_has_a_manual_page_with_its_options(main_here: Main, tmp_path: Path) -> None:
    code, out, _ = main_here("man", "pages")
    assert code == 0
    commands = dict(each_command(ROOT))
    assert out == f"{len(commands)} pages in pages\n"
    for words, command in commands.items():
        page = (tmp_path / "pages" / f"{'-'.join(words)}.1").read_text(encoding="utf-8")
        assert page.startswith(".TH")
        for parameter in parameters_of(command):
            named = parameter.opts if parameter.opts[0].startswith("-") else [parameter.metavar.strip("[]")]
            for option in named:
                assert option.replace("-", "\\-") in page or option in page, (words, option)


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_manual_pages_are_without_fault(main_here: Main, tmp_path: Path) -> None:
    assert main_here("man", "pages")[0] == 0
    for name in ("rtfusion.1", "rtfusion-run.1", "rtfusion-calibrate-board.1"):
        shown = subprocess.run(
            ["groff", "-man", "-Tascii", "-ww", str(tmp_path / "pages" / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line for line in shown.stderr.splitlines() if "cannot adjust" not in line and "break" not in line] == []


@pytest.mark.parametrize("words", ["--help", "run --help", "train --help", "calibrate scene --help"])
def test_no_help_shows_a_word_for_a_value_that_is_not_taken(words: str, main_here: Main) -> None:
    _, out, _ = main_here(*words.split())
    assert "--help" in out
    assert "bool" not in out.lower()


def test_no_switch_shows_its_type() -> None:
    for words, command in each_command(ROOT):
        for parameter in parameters_of(command):
            if getattr(parameter, "is_flag", False) and not parameter.hidden:
                assert parameter.metavar == "", (words, parameter.opts)


def test_help_is_plain_in_pages() -> None:
    assert plain("Give it the flags of [bold]run[/bold]") == "Give it the flags of run"


def test_a_settings_file_to_begin_with_holds_every_setting_and_says_nothing_else(
    main_here: Main, tmp_path: Path
) -> None:
    code, _, err = main_here("config", "init", "--ir", "a.mp4", "--vis", "b.mp4")
    assert code == 0, err
    path = tmp_path / "rtfusion.toml"
    made = load({}, file=path, environ={}).settings
    assert made == Settings(ir=str(tmp_path / "a.mp4"), vis=str(tmp_path / "b.mp4"))
    assert main_here("config", "init")[0] == 2, "it is there, and not replaced unasked"
    assert main_here("config", "init", "--overwrite")[0] == 0


def test_every_default_in_the_file_is_the_default(tmp_path: Path) -> None:
    text = commented_file({})
    lines = []
    for name, field in Settings.model_fields.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"# {name} = "))
        if field.default is not None:
            lines.append(line.removeprefix("# "))
    (tmp_path / "rtfusion.toml").write_text("\n".join(lines))
    assert load({}, file=tmp_path / "rtfusion.toml", environ={}).settings == Settings()


def test_every_parameter_of_a_source_is_listed() -> None:
    def names(rows: object) -> set[str]:
        return {row.name for row in rows}  # type: ignore[attr-defined]

    kinds = catalog()
    assert names(kinds["every"].parameters) == {*parameters.CONVERTERS}
    assert names(VIDEO) == {*video_parameters.CONVERTERS}
    assert names(IMAGES) == {*images.CONVERTERS}
    for row in kinds["synthetic"].parameters:
        assert SyntheticParameters.parse("") is not None
        with pytest.raises(ConfigError, match=row.name):
            SyntheticParameters.parse(f"{row.name}=nonsense")


def test_parameters_of_cameras_are_those_that_are_read() -> None:
    root = Path(parameters.__file__).parent
    for rows, file in ((V4L2, "v4l2.py"), (NETWORK, "network.py"), (SESSION, "../session/source.py")):
        source = (root / file).read_text(encoding="utf-8")
        for row in rows:
            assert f'"{row.name}"' in source, row


def test_every_example_is_understood() -> None:
    for name, kind in catalog().items():
        for row in kind.parameters:
            written = row.written
            if name in ("video", "images", "session") and not written.endswith("="):
                key, _, value = written.partition("=")
                assert read_query(SourceUri(scheme=name, target="x", text="x", query={key: value}), _converters(name))


def _converters(kind: str) -> dict[str, object]:
    from rtfusion.session import source as session

    known = {"video": video_parameters.CONVERTERS, "images": images.CONVERTERS}
    return dict(known.get(kind, {"strict": session._boolean}))  # type: ignore[arg-type]


def test_sources_are_listed_in_eighty_columns(main_here: Main) -> None:
    code, out, _ = main_here("sources")
    assert code == 0
    assert "synthetic:?scene=smoke" in out
    assert "zmq:tcp://127.0.0.1:5555" in out
    described = [line for line in out.splitlines() if line.startswith("  ")]
    assert max(map(len, described)) <= 80
    code, out, _ = main_here("sources", "synthetic")
    assert code == 0
    assert "?scene=" in out
    assert "rtsp" not in out
    code, _, err = main_here("sources", "sintetic")
    assert code == 2
    assert "did you mean synthetic?" in err


def test_a_table_of_a_docstring_has_rows_of_several_lines() -> None:
    text = "Title.\n\n=====  ====\n``a``  one\n       two ``x``\n``b``  three\n=====  ====\n\nmore\n"
    assert [tuple(row) for row in table_of(text)] == [("a", "one two x"), ("b", "three")]
    assert table_of(None) == ()


def test_samples_are_made_and_the_commands_that_are_told_work(cli: Cli, tmp_path: Path) -> None:
    made = cli("samples", "small", "--seconds", "1")
    assert made.returncode == 0, made.stderr
    commands = [line for line in made.stdout.replace("\\\n", " ").splitlines() if line.startswith("rtfusion run")]
    assert len(commands) == 2
    for command in commands:
        done = cli(*command.split()[1:], "--fuser", "average")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "fused.mp4").stat().st_size > 0
    assert len(list((tmp_path / "fused").iterdir())) == 8
    missing, mine = tmp_path / "small/images/thermal/05.png", tmp_path / "small/calibration.json"
    missing.unlink()
    mine.write_text("mine")
    again = cli("samples", "small", "--seconds", "1")
    assert again.returncode == 0, again.stderr
    assert missing.stat().st_size > 0, "what an earlier run did not come to is made"
    assert mine.read_text() == "mine", "what is there is kept"


def test_samples_that_cannot_be_written_are_said_to(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small/images").touch()
    made = cli("samples", "small", "--seconds", "1")
    assert made.returncode not in (0, EXIT_BUG)
    assert "cannot write the images into small" in made.stderr


def test_the_tree_is_that_of_the_commands() -> None:
    assert ("rtfusion", "calibrate", "scene") in dict(each_command(ROOT))
