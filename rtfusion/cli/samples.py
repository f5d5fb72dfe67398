"""``rtfusion samples``: small recordings of the project's own, in the forms in which people have theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rtfusion.cli.options import Debug

RATE_HZ = 30
IMAGES = 8
SIZE = "320x240"
CAMERAS = f"scene=smoke&size={SIZE}&thermal_size=160x120&misalign=10,-7,1.5,1.06"


def samples(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)] = Path(
        "rtfusion-samples"
    ),
    *,
    seconds: Annotated[int, typer.Option("--seconds", metavar="S", min=1, max=60, help="Length of the videos.")] = 4,
    debug: Debug = False,
) -> None:
    """Make small sample recordings of a synthetic street, and tell what to do with them.

      rtfusion samples
      rtfusion run --ir rtfusion-samples/thermal.mkv --vis rtfusion-samples/visible.mp4

    Two videos (thermal counts of 16 bits), two folders of images, and the calibration of both cameras, which do not have one
    view. What is there already is kept.
    """
    from rtfusion.cli.console import show_text
    from rtfusion.errors import ConfigError, SinkError
    from rtfusion.evaluate.clips import film_all
    from rtfusion.types import Band

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out}: {error.strerror}; name another one") from error
    frames = RATE_HZ * seconds
    scene = f"synthetic:?{CAMERAS}&bits=16&fps={RATE_HZ}&frames={frames}"
    wanted = {out / "visible.mp4": (scene, Band.VISIBLE), out / "thermal.mkv": (scene, Band.THERMAL)}
    missing = {path: source for path, source in wanted.items() if not path.exists()}
    if missing:
        film_all(missing, frames=frames, doing="filming a synthetic street, frames")
    try:
        _write_images(out, wanted, every=max(1, frames // IMAGES))
    except OSError as error:
        raise SinkError(
            f"cannot write the images into {out}: {error.strerror}; make room, or name another one"
        ) from error
    if not (out / "calibration.json").exists():
        _write_calibration(out / "calibration.json")
    show_text(_told(out))


def _write_images(out: Path, videos: dict[Path, Any], *, every: int) -> None:
    """Some pictures of both videos, at equal distances, with equal names."""
    from contextlib import closing
    from itertools import islice

    import cv2

    from rtfusion.capture import open_source
    from rtfusion.evaluate.moments import frames_of
    from rtfusion.files import write_whole

    for path, (_, band) in videos.items():
        folder = out / "images" / band.value
        folder.mkdir(parents=True, exist_ok=True)
        images = [folder / f"{number:02d}.png" for number in range(1, IMAGES + 1)]
        if all(image.exists() for image in images):
            continue
        with closing(open_source(str(path), band=band)) as source:
            for image, frame in zip(images, islice(frames_of(source), 0, None, every), strict=False):
                if not image.exists():
                    write_whole(image, cv2.imencode(".png", frame.image)[1].tobytes())


def _write_calibration(path: Path) -> None:
    from rtfusion.cli.demo import write_calibration
    from rtfusion.synthetic.source import SyntheticParameters

    write_calibration(path, SyntheticParameters.parse(CAMERAS), delay_ms=0)


def _told(out: Path) -> str:
    """The files, and what to do next."""
    return f"""\
{out / "visible.mp4"}, {out / "thermal.mkv"}   two recordings, the thermal one of 16-bit counts
{out / "images"}   the same as two folders of images
{out / "calibration.json"}   how the thermal picture lies in the visible one

rtfusion run --ir {out / "thermal.mkv"} --vis {out / "visible.mp4"} \\
  --calibration {out / "calibration.json"} --sink fused.mp4
rtfusion run --ir {out / "images" / "thermal"} --vis {out / "images" / "visible"} \\
  --calibration {out / "calibration.json"} --sink images:fused
"""
