"""Are people found in fused frames? The suite of `rtfusion.evaluate.visibility`.

::

    python -m benchmarks.visibility --data DIR --detector yolox_nano.onnx [--fuser NAME ...] [--model FILE.onnx] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rtfusion.errors import FusionError
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.detector import SUPPRESS_IOU, Detector
from rtfusion.evaluate.matching import MATCH_IOU
from rtfusion.evaluate.visibility import FUSERS, LABELS, LEAST_SCORE, measure, methods, read_labels, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the result file where one is asked for; gives the exit code."""
    options = _arguments(arguments)
    conditions = Conditions()
    models = None if options.model is None else {options.model.stem: options.model}
    try:
        rows = measure(
            data=options.data,
            detector=Detector(options.detector),
            methods=methods(fusers=options.fuser, models=models, enhance=options.enhance),
            sets=read_labels(LABELS),
        )
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    settings = {
        "labels": _identity(LABELS),
        "detector": _identity(options.detector),
        "model": _identity(options.model) if options.model else None,
        "least_score": LEAST_SCORE,
        "match_iou": MATCH_IOU,
        "suppress_iou": SUPPRESS_IOU,
    }
    result = timing.result("visibility", settings=settings, rows=rows, conditions=conditions)
    print(table(result))
    if options.json is not None:
        timing.save(result, options.json)
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visibility", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the labeled recordings")
    parser.add_argument("--detector", type=Path, required=True, metavar="FILE.onnx", help="YOLOX of COCO's classes")
    parser.add_argument("--fuser", nargs="*", default=list(FUSERS), metavar="NAME", help="beside both bands")
    parser.add_argument("--model", type=Path, metavar="FILE.onnx", help="model; default: the shipped ones")
    parser.add_argument("--enhance", nargs="+", type=float, metavar="X", help="values of the models' dial")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    return parser.parse_args(arguments)


def _identity(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
