"""People and vehicles in the fused stream of a run: boxes as JSON lines on stdout, and drawn, published again.

    rtfusion run ... --sink zmq:tcp://127.0.0.1:5555
    python examples/detect.py --weights yolox_nano.onnx
    rtfusion view tcp://127.0.0.1:5556

Needs ONNX Runtime (pip install -e '.[onnxruntime]' in the clone) and a YOLOX of COCO as ONNX, which you bring.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path

import cv2

import rtfusion
from rtfusion.evaluate.detector import Detector
from rtfusion.sinks import Sink, SinkContext

COLORS = {"person": (80, 220, 255), "vehicle": (255, 160, 60)}


def publisher(url: str, *, like: rtfusion.ReceivedFrame) -> Sink:
    """A stream that is as live as the one that it is made of: else the age of its frames would be counted from another clock."""
    # the rate is only a hint, which this kind of output does not use
    return rtfusion.open_sink(
        f"zmq:{url}", context=SinkContext(rate_hz=30.0, live=like.header.live, session="detector")
    )


def main() -> None:
    """Detect in the newest frame there is, for as long as frames come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="YOLOX of COCO as ONNX")
    parser.add_argument("--url", default="tcp://127.0.0.1:5555", help="where a run publishes")
    parser.add_argument("--out", default="tcp://127.0.0.1:5556", help="where to publish the drawn frames")
    parser.add_argument("--score", type=float, default=0.4, help="least score of a detection")
    options = parser.parse_args()

    detector = Detector(options.weights)
    drawn, live = None, False
    for frame in rtfusion.subscribe(options.url):
        if drawn is None or frame.header.live != live:  # the first frame, or one of a run of another kind
            if drawn is not None:
                drawn.close(aborted=False)
            drawn, live = publisher(options.out, like=frame), frame.header.live
        boxes = []
        for kind, found in detector(frame.image).items():
            for box, score in zip(*found, strict=True):
                if score >= options.score:
                    left, top, right, bottom = (round(float(side)) for side in box)
                    boxes.append({"kind": kind, "score": round(float(score), 3), "box": [left, top, right, bottom]})
                    cv2.rectangle(frame.image, (left, top), (right, bottom), COLORS[kind], 2)
        told = {"session": frame.session, "sequence": frame.sequence, "timestamp_ns": frame.timestamp_ns}
        print(json.dumps({**told, "boxes": boxes}), flush=True)
        drawn.write(frame.as_fused())


if __name__ == "__main__":
    try:
        with suppress(KeyboardInterrupt):
            main()
    except rtfusion.FusionError as error:
        sys.exit(f"detect.py: {error}")
