"""``rtfusion demo``: both cameras of a synthetic street, misregistered in a known way, filmed, fused and shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rtfusion.config import Loaded
    from rtfusion.synthetic.source import SyntheticParameters
    from rtfusion.types import Band, Image8

RATE_HZ = 30
DELAY_MS = 40
CAMERAS = f"size=640x480&thermal_size=320x256&bits=16&misalign=22,-14,2.5,1.12&delay_ms={DELAY_MS}"
MOMENTS = 3
COLUMNS = ("visible", "thermal, as its camera sees it", "fused")
FILES = {
    "fused.mp4": "the fused video",
    "contact-sheet.png": "visible, thermal and fused, at three moments",
    "calibration.json": "how the thermal picture lies in the visible one",
    "stats.json": "the figures of the table above, and the settings",
}


def demo(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the result.")] = Path("rtfusion-demo"),
    scene: Annotated[
        str, typer.Option("--scene", metavar="NAME", help="How the street is: smoke, night, day.")
    ] = "smoke",
    seconds: Annotated[int, typer.Option("--seconds", metavar="S", min=1, max=600, help="Length of the video.")] = 8,
    debug: Debug = False,
) -> None:
    """Film a synthetic street with both cameras, fuse the recordings, and leave a video and a contact sheet.

    The thermal camera has fewer pixels, 16 bits, a delay of 40 ms, and a view
    that is shifted, turned and scaled; the calibration file that says so is made
    on the way. Painting the street is not what rtfusion is for: it is done first,
    once, into two files, and then they are fused as [bold]rtfusion run[/bold] fuses any
    recording. The table is of the fusing alone.
    """
    from rtfusion.cli.console import say, show_text
    from rtfusion.cli.job import run_job
    from rtfusion.errors import ConfigError
    from rtfusion.evaluate.contact_sheet import save_contact_sheet
    from rtfusion.synthetic.source import SyntheticParameters

    query = f"scene={scene}&{CAMERAS}"
    parameters = SyntheticParameters.parse(query)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out}: {error.strerror}; name another one with --out") from error
    write_calibration(out / "calibration.json", parameters, delay_ms=DELAY_MS)
    recordings = _film(out, query, scene=scene, seconds=seconds)
    say("fusing the two recordings")
    exit_code = run_job(_settings(out, recordings))
    if exit_code == 0:
        save_contact_sheet(out / "contact-sheet.png", COLUMNS, _moments(out / "fused.mp4", recordings, seconds=seconds))
        show_text(_where(out, recordings))
    sys.exit(exit_code)


def _film(out: Path, query: str, *, scene: str, seconds: int) -> Mapping[Band, Path]:
    """Paint the street into a file for each camera, both at a time. Files of an earlier demo of the same street are taken."""
    from rtfusion.cli.console import say
    from rtfusion.evaluate.clips import film_all
    from rtfusion.types import Band

    paths = {
        Band.VISIBLE: out / f"visible-{scene}-{seconds}s.mp4",
        Band.THERMAL: out / f"thermal-{scene}-{seconds}s.mkv",
    }
    missing = {band: path for band, path in paths.items() if not path.exists()}
    if not missing:
        say(f"{seconds} s of a synthetic street ({scene}) were filmed before: {', '.join(map(str, paths.values()))}")
        return paths
    frames = RATE_HZ * seconds
    uri = f"synthetic:?{query}&fps={RATE_HZ}&frames={frames}"
    started_s = time.monotonic()
    uris = {path: (uri, band) for band, path in missing.items()}
    film_all(uris, frames=frames, doing=f"filming a synthetic street ({scene}), frames")
    say(f"filmed {seconds} s of a synthetic street ({scene}) with both cameras in {time.monotonic() - started_s:.1f} s")
    return paths


def write_calibration(path: Path, parameters: SyntheticParameters, *, delay_ms: int) -> None:
    """Write the file that a calibration of these two cameras would make."""
    from rtfusion.clock import NS_PER_MS
    from rtfusion.registration import Calibration
    from rtfusion.synthetic.source import visible_from_thermal_px
    from rtfusion.types import Band

    Calibration.from_homography(
        visible_from_thermal_px=visible_from_thermal_px(parameters),
        visible_size_px=parameters.size_of(Band.VISIBLE),
        thermal_size_px=parameters.size_of(Band.THERMAL),
        thermal_delay_ns=delay_ms * NS_PER_MS,
        provenance={"method": "known: the scene is synthetic"},
    ).save(path)


def _settings(out: Path, recordings: Mapping[Band, Path]) -> Loaded:
    """Make the settings of a run as flags do; no settings file and no variable gets into a demo."""
    from rtfusion.config import load
    from rtfusion.types import Band

    flags = {
        "ir": recordings[Band.THERMAL],
        "vis": recordings[Band.VISIBLE],
        "calibration": out / "calibration.json",
        "sink": (str(out / "fused.mp4"),),
        "overwrite": True,
        "stats_json": out / "stats.json",
    }
    return load(flags, file=Path(os.devnull), environ={})


def _moments(video: Path, recordings: Mapping[Band, Path], *, seconds: int) -> dict[str, Sequence[Image8]]:
    """Take pictures at equal distances from both recordings, and those of the fused video of the same moments, read back."""
    from rtfusion.capture import open_source
    from rtfusion.clock import NS_PER_S
    from rtfusion.evaluate.moments import frames_of, with_fused
    from rtfusion.fusion.tone import GainControl
    from rtfusion.pairs import open_pairs
    from rtfusion.types import Band

    every = round(RATE_HZ * seconds / (MOMENTS + 1))
    gain = GainControl()
    rows: dict[str, Sequence[Image8]] = {}
    with (
        closing(open_source(str(video), band=Band.VISIBLE)) as output,
        open_pairs(ir=recordings[Band.THERMAL], vis=recordings[Band.VISIBLE], thermal_delay_ms=DELAY_MS) as pairs,
    ):
        for pair, fused in with_fused(pairs, frames_of(output), info=output.info):
            number = pair.visible.sequence
            if fused is not None and number and number % every == 0 and len(rows) < MOMENTS:
                thermal = gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns)
                pictures = (pair.visible.image, thermal, fused.image)
                rows[f"{pair.timestamp_ns / NS_PER_S:.1f} s"] = [cast("Image8", picture) for picture in pictures]
    return rows


def _where(out: Path, recordings: Mapping[Band, Path]) -> str:
    """Tell where the files are and what is in them."""
    filmed = {path.name: f"what the {band.value} camera saw" for band, path in recordings.items()}
    files = {**FILES, **filmed}
    width = max(len(str(out / name)) for name in files) + 3
    return "\n" + "".join(f"{out / name!s:<{width}}{what}\n" for name, what in files.items())
