"""``rtfusion calibrate export`` and ``import``: calibrations for and from OpenCV and ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.calibrate import DEFAULT_DISTANCE_M, DistanceM, File, Out, check_free
from rtfusion.cli.options import Debug, Overwrite

EXPORT_HELP = """Write a calibration for another program.

For OpenCV, one FileStorage (M1 D1 thermal, M2 D2 visible, R, T):
  rtfusion calibrate export rig.json --opencv rig.yml
For ROS, visible.yaml and thermal.yaml as camera_info:
  rtfusion calibrate export rig.json --ros rig/"""

IMPORT_HELP = """Make a calibration file from those of another program.

From OpenCV (camera 1 thermal, camera 2 visible; give the sizes where the file
does not hold them):
  rtfusion calibrate import --opencv rig.yml --out rig.json
From ROS, calibrated as a stereo pair:
  rtfusion calibrate import --ros-ir thermal.yaml --ros-vis visible.yaml \\
    --out rig.json"""


def export_calibration(
    calibration: File,
    *,
    opencv: Annotated[Path | None, typer.Option("--opencv", metavar="FILE", help="FileStorage to write.")] = None,
    ros: Annotated[Path | None, typer.Option("--ros", metavar="DIR", help="Folder for two camera_info files.")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write it in other forms."""
    from rtfusion_calibration.interop import write_opencv, write_ros

    from rtfusion.cli.console import say, show_text
    from rtfusion.errors import ConfigError
    from rtfusion.registration import Calibration

    if opencv is None and ros is None:
        raise ConfigError("name what to write: --opencv FILE, --ros DIR, or both")
    rig = Calibration.load(calibration)
    if rig.warning is not None:
        say(f"{calibration}: {rig.warning}", level="warning")
    if opencv is not None:
        check_free(opencv, overwrite=overwrite, inputs=(calibration,))
        write_opencv(opencv, rig)
        show_text(f"{opencv}\n")
    if ros is not None:
        if ros.is_dir():
            check_free(ros / "visible.yaml", ros / "thermal.yaml", overwrite=overwrite, inputs=(calibration,))
        show_text("".join(f"{path}\n" for path in write_ros(ros, rig)))


def import_calibration(
    *,
    out: Out,
    opencv: Annotated[Path | None, typer.Option("--opencv", metavar="FILE", help="FileStorage to read.")] = None,
    ros_ir: Annotated[Path | None, typer.Option("--ros-ir", metavar="FILE", help="camera_info, thermal.")] = None,
    ros_vis: Annotated[Path | None, typer.Option("--ros-vis", metavar="FILE", help="camera_info, visible.")] = None,
    visible_size: Annotated[str | None, typer.Option("--visible-size", metavar="WxH", help="Visible pictures.")] = None,
    thermal_size: Annotated[str | None, typer.Option("--thermal-size", metavar="WxH", help="Thermal pictures.")] = None,
    distance_m: DistanceM = DEFAULT_DISTANCE_M,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Read another form and write the calibration file."""
    from rtfusion_calibration.interop import read_opencv, read_ros

    from rtfusion.cli.console import show_text
    from rtfusion.errors import ConfigError
    from rtfusion.text import parse_size_px

    check_free(out, overwrite=overwrite, inputs=(opencv, ros_ir, ros_vis))
    if opencv is not None and ros_ir is None and ros_vis is None:
        given = ((visible_size, "--visible-size"), (thermal_size, "--thermal-size"))
        visible_px, thermal_px = (
            None if text is None else parse_size_px(text, option=option) for text, option in given
        )
        rig = read_opencv(opencv, distance_m=distance_m, visible_size_px=visible_px, thermal_size_px=thermal_px)
    elif opencv is None and ros_ir is not None and ros_vis is not None:
        rig = read_ros(visible=ros_vis, thermal=ros_ir, distance_m=distance_m)
    else:
        raise ConfigError("name what to read: --opencv FILE, or both --ros-ir FILE and --ros-vis FILE")
    rig.save(out)
    show_text(f"{out}\n")
