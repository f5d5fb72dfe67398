"""The end marker is true, one bad segment costs no other one, and a session that somebody made by hand gives typed errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rtfusion.config import Settings
from rtfusion.errors import CaptureError, FusionError
from rtfusion.pipeline import build
from rtfusion.session.format import FINISHED, load_session, video_path
from rtfusion.session.lossless import LosslessVideo
from rtfusion.session.record import RecordSink
from tests.cli.conftest import Main, environ, main_here  # noqa: F401 - fixtures

from .test_record import context, fused_of

SEGMENTS, FRAMES = 3, 90
SECOND = range(31, 62)
"""The pairs of the second segment."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments of a second each."""
    sink = RecordSink(tmp_path_factory.mktemp("sessions"), context=context(), segment_s=1, reserve_mb=1)
    for number in range(FRAMES):
        sink.write(fused_of(number))
    sink.close(aborted=False)
    return sink.folder


@pytest.fixture
def session(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "session"))


def replayed(folder: Path, **settings: object) -> list[int]:
    source = f"session:{folder}"
    pipeline = build(Settings(ir=source, vis=source, sink=f"images:{folder}/out", **{"fuser": "average", **settings}))
    try:
        pipeline.run()
    finally:
        notes.clear()
        notes.extend(pipeline.telemetry.notes)
    return [int(path.stem) for path in sorted((folder / "out").iterdir())]


notes: list[str] = []


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(byte ^ 0x55 for byte in data[middle : middle + 20_000])
    path.write_bytes(data)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replaced_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("harm", [cut, flip, zeros, replaced_by_pipe, replaced_by_device, Path.unlink])
@pytest.mark.parametrize("name", ["000001-visible.mkv", "000001-thermal.mkv", "000001.jsonl"])
def test_one_bad_segment_costs_one_segment(
    session: Path,
    harm: Callable[[Path], None],
    name: str,
    main_here: Main,  # noqa: F811
) -> None:
    harm(session / name)
    got = replayed(session)
    assert set(got) >= set(range(FRAMES)) - set(SECOND)
    assert set(got) < set(range(FRAMES))
    if harm is cut and name.endswith("jsonl"):
        return  # as a kill leaves it: no damage
    assert any("a damaged segment" in note for note in notes)
    code, _, err = main_here("replay", str(session), "--strict", "--sink", "null:", "--fuser", "average")
    assert (code in (3, 5), "000001" in err) == (True, True), err
    code, out, _ = main_here("replay", str(session), "--sink", "null:", "--fuser", "average")
    assert (code, "note: a damaged segment" in out) == (0, True), out


def test_a_session_of_nothing_but_damage_is_an_error(session: Path) -> None:
    for path in session.glob("*.jsonl"):
        path.write_text("{}\n")
    with pytest.raises(CaptureError, match=r"000000.jsonl, line 1: not a pair of a session"):
        list(load_session(session).segments())


def test_the_end_of_a_segment_is_told_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RecordSink(tmp_path, context=context(), reserve_mb=1)
    for number in range(5):
        sink.write(fused_of(number))
    whole = LosslessVideo.close

    def broken(self: LosslessVideo) -> None:
        self._file.error = OSError(errno.ENOSPC, "No space left on device")
        whole(self)

    monkeypatch.setattr(LosslessVideo, "close", broken)
    sink.close(aborted=False)
    assert not (sink.folder / "000000.jsonl").read_bytes().endswith(FINISHED)
    (segment,) = load_session(sink.folder).segments()
    assert [pair.sequence for pair in segment.pairs] == list(range(len(segment.pairs)))


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RecordSink(tmp_path, context=context(), reserve_mb=1)
    sink.write(fused_of(0))
    lines = sink._segment._lines  # type: ignore[union-attr]

    class Short:
        def __getattr__(self, name: str):
            return getattr(lines, name)

        def write(self, data) -> int:
            if len(data) < 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return lines.write(data[:50])

    sink._segment._lines = Short()  # type: ignore[union-attr, assignment]
    before = (sink.folder / "000000.jsonl").read_bytes()
    sink.write(fused_of(1))
    assert sink.drops == {"failed": 1}
    assert (sink.folder / "000000.jsonl").read_bytes() == before
    sink.write(fused_of(2))
    sink.close(aborted=False)


def test_the_zeros_of_a_power_cut_are_no_damage(session: Path) -> None:
    path = session / "000002.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][:50] + bytes(200))
    assert len(replayed(session)) == FRAMES - 2
    assert not any("damaged" in note for note in notes)
    path.write_bytes(b"".join(lines[:-2]) + bytes(200))
    assert not load_session(session, strict=True).damaged


def description(**stream: object) -> str:
    values = {"uri": "x", "rate_hz": 30.0, "continuous": True, **stream}
    return json.dumps({"schema": 1, "settings": {}, "streams": {"visible": values, "thermal": values}})


@pytest.mark.parametrize(
    "text",
    [
        description(rate_hz=float("inf")),
        description(rate_hz=1e300),
        description(rate_hz=float("nan")),
        description(uri=None),
        "[" * 100_000,
        '{"schema":' + "[" * 100_000,
        '{"schema":{"a":' * 50_000,
        '{"schema":"' + "x" * 10_000 + '"}',
        "\0" * 1000,
    ],
)
def test_a_hostile_description_is_a_capture_error(session: Path, text: str) -> None:
    (session / "session.json").write_text(text)
    with pytest.raises(CaptureError) as caught:
        load_session(session)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("harm", [replaced_by_pipe, replaced_by_device])
def test_a_description_that_never_ends_is_not_read(session: Path, harm: Callable[[Path], None]) -> None:
    harm(session / "session.json")
    with pytest.raises(CaptureError, match="no regular file"):
        load_session(session)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../out"},
        {"name": "/etc/passwd"},
        {"name": ""},
        {"name": "x" * 5000},
        {"name": "a\0b"},
        {"timestamp_ns": 10**40},
        {"timestamp_ns": -(10**40)},
        {"sequence": 10**40},
        {"index": 10**18},
        {"kelvin_per_count": 1e400},
    ],
)
def test_hostile_lines_are_damage(session: Path, change: dict[str, object]) -> None:
    path = session / "000001.jsonl"
    lines = path.read_text().splitlines()
    values = json.loads(lines[0])
    values["visible"] |= change
    path.write_text("\n".join([json.dumps(values), *lines[1:]]) + "\n")
    got = replayed(session)
    assert len(got) < FRAMES
    with pytest.raises(FusionError):
        replayed_strictly(session)


@pytest.mark.parametrize("intents", [{"of the future": 1.0}, {"people": 1.5}, {"people": float("nan")}, ["people"]])
def test_an_intent_that_there_is_not_costs_one_segment(session: Path, intents: object) -> None:
    path = session / "000001.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(lines[0]), "intents": intents}), *lines[1:]]) + "\n")
    assert 0 < len(replayed(session, fuser="pyramid")) < FRAMES
    with pytest.raises(FusionError):
        replayed_strictly(session)


def replayed_strictly(folder: Path) -> None:
    source = f"session:{folder}?strict=true"
    build(Settings(ir=source, vis=source, sink="null:", fuser="average")).run()


@pytest.mark.parametrize(
    "name", ["²²²²²².jsonl", "1.jsonl", "000001x.jsonl", "99999999999999999999.jsonl", "-00001.jsonl"]
)
def test_odd_names_are_no_segments(session: Path, name: str) -> None:
    shutil.copyfile(session / "000000.jsonl", session / name)
    assert [segment.number for segment in load_session(session).segments()] == list(range(SEGMENTS))


def test_a_whole_session_is_what_was_recorded(session: Path) -> None:
    assert replayed(session) == list(range(FRAMES))
    assert not any("damaged" in note for note in notes)
    assert all(video_path(session, number, "visible").exists() for number in range(SEGMENTS))
