from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.cli.job import run_job
from rtfusion.cli.report import report
from rtfusion.config import load
from rtfusion.errors import ConfigError
from rtfusion.evaluate.run_page import write_report
from tests.capture.clips import patterns, write_clip

VOID = {"meta", "img"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] == "p" and tag != "p":
            self.open.pop()
        assert self.open.pop() == tag


def run(tmp_path: Path, **flags: object) -> Path:
    stats = tmp_path / "run.json"
    given = {"ir": str(tmp_path / "ir.mp4"), "vis": str(tmp_path / "vi.mp4"), "stats_json": stats, **flags}
    assert run_job(load(given, file=Path("/dev/null"), environ={})) == 0
    return stats


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for band, channels in (("vi", 3), ("ir", 1)):
        write_clip(tmp_path / f"{band}.mp4", patterns(12, channels=channels))
    return tmp_path


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in found]


def test_a_run_with_a_video_shows_all_three(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats = run(clips, sink=(str(clips / "fused.mp4"),))
    capsys.readouterr()
    report(stats=stats, out=None, pictures=3)
    page = (clips / "run.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{clips / 'run.html'}\n"
    Balanced().feed(page)
    shown = pictures(page)
    assert [picture.shape for picture in shown] == [(48, 64, 3)] * 9
    fused = cv2.VideoCapture(str(clips / "fused.mp4"))
    frames = [fused.read()[1] for _ in range(12)]
    assert np.abs(shown[2].astype(int) - frames[3]).mean() < 6, "the fused picture of the same moment"
    assert "Qabf" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched from elsewhere"
    assert "12 frames" in page


def test_stills_are_matched_by_name(tmp_path: Path) -> None:
    for band, value in (("vi", 60), ("ir", 200)):
        (tmp_path / band).mkdir()
        for stem in ("a", "b", "c"):
            cv2.imwrite(str(tmp_path / band / f"{stem}.png"), np.full((48, 64), value + ord(stem) - 97, np.uint8))
    (tmp_path / "ir" / "a.png").unlink()
    sink = f"images:{tmp_path / 'fused'}"
    stats = run(tmp_path, ir=str(tmp_path / "ir"), vis=str(tmp_path / "vi"), sink=(sink,), fuser="average")
    write_report(stats, tmp_path / "r.html", pictures=5)
    shown = pictures((tmp_path / "r.html").read_text())
    assert [round(float(picture.mean())) for picture in shown] == [61, 201, 131, 62, 202, 132]


def test_what_was_not_kept_is_said(clips: Path) -> None:
    stats = run(clips, sink=("null:",))
    missing = write_report(stats, clips / "r.html", pictures=2)
    assert "the fused pictures are missing" in missing[0]
    page = (clips / "r.html").read_text()
    assert len(pictures(page)) == 4
    assert missing[0] in page
    (clips / "vi.mp4").unlink()
    assert write_report(stats, clips / "r.html", pictures=2)[0].startswith("No pictures:")


def test_text_from_outside_is_escaped(clips: Path) -> None:
    stats = run(clips, sink=("null:",))
    data = json.loads(stats.read_text())
    data["notes"] = ["<script>alert(1)</script>"]
    stats.write_text(json.dumps(data))
    write_report(stats, clips / "r.html", pictures=0)
    page = (clips / "r.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not the statistics of a run"):
        write_report(tmp_path / "x.json", tmp_path / "x.html")
    with pytest.raises(ConfigError, match="cannot read"):
        write_report(tmp_path / "none.json", tmp_path / "x.html")


# -- moments ------------------------------------------------------------------------------------------------------------

RATE_HZ = 30
LOSSLESS = {"codec": "ffv1", "pix_fmt": "gray"}


def level(stamp: int) -> int:
    """What a frame of a stamp shows, so that a picture tells its moment."""
    return 20 + 5 * stamp


def ramps(folder: Path, *, visible: list[int], thermal: list[int]) -> None:
    """Two clips with frames at these thirtieths of a second."""
    for name, stamps in (("vi", visible), ("ir", thermal)):
        flat = [np.full((48, 64), level(stamp), np.uint8) for stamp in stamps]
        write_clip(folder / f"{name}.mp4", flat, stamps=stamps, options={"qp": "0"})


def moments(page: str) -> list[tuple[float, float, float]]:
    """(visible, thermal, fused) of each row of pictures: the stamps that they show."""
    stamps = [(float(picture.mean()) - 20) / 5 for picture in pictures(page)]
    return list(zip(stamps[::3], stamps[1::3], stamps[2::3], strict=True))


@pytest.mark.parametrize(
    ("visible", "thermal", "settings", "count"),
    [
        (range(40), range(40), {"max_frames": 9}, 9),
        (range(40), [*range(10), *range(20, 40)], {}, 30),
        ([0, *range(5, 40)], range(40), {"max_frames": 20}, 20),
        (range(40), range(0, 40, 3), {"pair": "hold"}, 40),
        (range(40), range(0, 40, 3), {"pair": "hold", "max_frames": 11}, 11),
        (range(40), range(40), {"thermal_delay_ms": -200.0}, 34),
        (range(40), range(40), {"thermal_delay_ms": 100.0, "max_frames": 12}, 12),
        (range(20), range(20), {"loop": 2}, 40),
    ],
    ids=["ended early", "drops", "early drops", "hold", "hold, ended early", "delay", "late", "loop"],
)
@pytest.mark.parametrize("sink", ["video:fused.mkv?codec=ffv1", "video:fused.mp4?crf=1", "images:fused"])
def test_the_pictures_of_a_row_are_of_one_moment(
    tmp_path: Path, visible: list[int], thermal: list[int], settings: dict[str, object], count: int, sink: str
) -> None:
    ramps(tmp_path, visible=list(visible), thermal=list(thermal))
    kind, _, name = sink.rpartition(":")
    place = f"{kind}:{tmp_path / name}"
    stats = run(tmp_path, sink=(place,), fuser="average", **settings)
    assert write_report(stats, tmp_path / "r.html", pictures=5) == []
    rows = moments((tmp_path / "r.html").read_text())
    assert len(rows) == 5
    assert json.loads(stats.read_text())["fused"] == count
    delay = float(settings.get("thermal_delay_ms", 0)) * RATE_HZ / 1000  # type: ignore[arg-type]
    for seen, warm, fused in rows:
        assert fused == pytest.approx((seen + warm) / 2, abs=0.45)
        nearest = min(thermal, key=lambda stamp: abs(stamp - delay - seen)) if "loop" not in settings else seen
        assert warm == pytest.approx(nearest, abs=0.45)
    stamps = [seen for seen, _, _ in rows]
    assert stamps == sorted(stamps) or "loop" in settings
    assert len(set(map(round, stamps))) == 5


@pytest.mark.parametrize(("thermal", "told"), [(range(40), True), ([*range(0, 16, 2), *range(17, 40, 2)], False)])
def test_an_avi_tells_moments_only_where_every_frame_has_its_tick(
    tmp_path: Path, thermal: list[int], told: bool
) -> None:
    ramps(tmp_path, visible=list(range(40)), thermal=list(thermal))
    target = tmp_path / "fused.avi"
    stats = run(tmp_path, sink=(f"video:{target}?codec=ffv1",), fuser="average", max_frames=20)
    said = write_report(stats, tmp_path / "r.html", pictures=5)
    page = (tmp_path / "r.html").read_text()
    if told:
        assert said == []
        assert all(fused == pytest.approx((seen + warm) / 2, abs=0.45) for seen, warm, fused in moments(page))
    else:
        assert "an AVI file holds no times" in said[0]
        assert pictures(page) == []


def test_a_moment_that_the_output_lacks_is_said_and_not_shown(tmp_path: Path) -> None:
    ramps(tmp_path, visible=list(range(40)), thermal=list(range(40)))
    target = tmp_path / "fused.mkv"
    stats = run(tmp_path, sink=(f"video:{target}?codec=ffv1",), fuser="average")
    target.unlink()
    write_clip(target, [np.full((48, 64), level(stamp), np.uint8) for stamp in range(16)], **LOSSLESS)
    (said,) = write_report(stats, tmp_path / "r.html", pictures=3)
    page = (tmp_path / "r.html").read_text()
    assert said == f"video:{target} holds no fused picture of 0.67 s, 1.00 s: none of its frames is of that time."
    assert said in page
    assert len(pictures(page)) == 3 + 2 + 2
    assert page.count("<figcaption>fused: ") == 1, "no metric across moments"


def test_a_run_without_a_fused_frame_has_no_pictures(clips: Path) -> None:
    stats = run(clips, sink=("null:",))
    data = json.loads(stats.read_text())
    stats.write_text(json.dumps(data | {"fused": 0}))
    assert write_report(stats, clips / "r.html") == ["No frame was fused, so there are no pictures."]
