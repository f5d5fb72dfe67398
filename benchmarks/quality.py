"""Image quality of a folder of fused images: the table of means over all metrics of `rtfusion.metrics`.

::

    python -m benchmarks.quality --ir DIR --vis DIR --fused DIR [--json FILE]

Any method's output can be measured: files are matched by stem, everything is 8-bit gray (color by OpenCV's BGR2GRAY,
0.299 R + 0.587 G + 0.114 B), and the three images of a stem have one size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtfusion.errors import ConfigError, FusionError
from rtfusion.metrics import image_metrics
from rtfusion.types import Image8

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def evaluate(*, ir: Path, vis: Path, fused: Path) -> dict[str, Any]:
    """Measure every stem that all three folders hold.

    Returns:
        ``{"schema": 1, "folders", "count", "mean", "standard_error", "images", "left_out"}``: ``images`` maps a stem to
        its metrics, ``left_out`` a folder's role to the stems that the others lack. A value that is not finite (PSNR of
        equal images, the standard error of a single image) is None.

    Raises:
        ConfigError: a folder or an image cannot be read, no stem is in all three, or sizes differ.
    """
    folders = {"ir": ir, "vis": vis, "fused": fused}
    files = {role: _images_by_stem(folder) for role, folder in folders.items()}
    stems = sorted(set.intersection(*(set(found) for found in files.values())))
    if not stems:
        counts = ", ".join(f"{len(found)} in {folders[role]}" for role, found in files.items())
        raise ConfigError(f"no file name is in all three folders (images: {counts}); name matching files alike")
    images = {stem: _measure({role: found[stem] for role, found in files.items()}) for stem in stems}
    table = np.array([list(row.values()) for row in images.values()])
    with np.errstate(invalid="ignore"):  # PSNR may be infinite
        spread = table.std(axis=0, ddof=1) if len(stems) > 1 else np.full(table.shape[1], math.nan)
    names = list(images[stems[0]])
    return {
        "schema": 1,
        "folders": {role: str(folder) for role, folder in folders.items()},
        "count": len(stems),
        "mean": _finite(dict(zip(names, table.mean(axis=0).tolist(), strict=True))),
        "standard_error": _finite(dict(zip(names, (spread / math.sqrt(len(stems))).tolist(), strict=True))),
        "images": {stem: _finite(row) for stem, row in images.items()},
        "left_out": {role: sorted(set(found) - set(stems)) for role, found in files.items()},
    }


def format_table(result: Mapping[str, Any]) -> str:
    """The means with their standard errors as text, one metric a line, and what was left out."""
    lines = [f"{result['count']} images of {result['folders']['fused']}", "", f"{'':6}{'mean':>10}{'+-':>10}"]
    for name, mean in result["mean"].items():
        error = result["standard_error"][name]
        lines.append(f"{name:6}{_number(mean):>10}{_number(error):>10}")
    for role, stems in result["left_out"].items():
        if stems:
            some = ", ".join(stems[:5]) + (", ..." if len(stems) > 5 else "")
            lines.append(f"left out of --{role}, not in all three folders: {len(stems)} ({some})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--ir", type=Path, required=True, metavar="DIR", help="thermal images")
    parser.add_argument("--vis", type=Path, required=True, metavar="DIR", help="visible images")
    parser.add_argument("--fused", type=Path, required=True, metavar="DIR", help="fused images of any method")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values, per image too")
    options = parser.parse_args(arguments)
    try:
        if options.json is not None and not options.json.parent.is_dir():
            raise ConfigError(f"--json {options.json}: there is no folder {options.json.parent}; make it first")
        result = evaluate(ir=options.ir, vis=options.vis, fused=options.fused)
        if options.json is not None:
            _write(options.json, text=json.dumps(result, indent=1, allow_nan=False) + "\n")
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(format_table(result))
    return 0


def _images_by_stem(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise ConfigError(f"cannot read the folder {folder}: {error.strerror}") from error
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise ConfigError(f"{folder} holds {found[path.stem].name} and {path.name}; leave one file of each stem")
        found[path.stem] = path
    return found


def _measure(files: Mapping[str, Path]) -> dict[str, float]:
    visible, thermal, fused = (_gray(files[role]) for role in ("vis", "ir", "fused"))
    try:
        return image_metrics(fused=fused, visible=visible, thermal=thermal)
    except ValueError as error:
        raise ConfigError(f"cannot measure {files['fused']}: {error}") from error


def _gray(path: Path) -> Image8:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image; expected one of {', '.join(sorted(SUFFIXES))}")
    if image.dtype != np.uint8:
        raise ConfigError(f"{path} has {image.dtype} pixels; the metrics are defined on 8 bit: convert it first")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    return image.astype(np.uint8, copy=False)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _write(path: Path, *, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
