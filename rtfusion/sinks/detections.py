"""Boxes of a detector in the fused pictures, as one file of COCO's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.errors import SinkError
from rtfusion.focus.detector import LEAST_SCORE, Yolox, read_detector_spec
from rtfusion.types import FusedFrame


class DetectionsSink:
    """Looks for every class of a detector in fused pictures and writes what it finds: images, categories and annotations of COCO.

    ``bbox`` is left, top, width and height in pixels of the fused picture, ``score`` from `LEAST_SCORE` on. Images have the
    stamp of their frame, in seconds of the recording, and its number in the fused video, from 0.

    Args:
        path: the file; it is whole once this is closed.
        model: a YOLOX in an ONNX file (`rtfusion.focus.yolox`).
        file_name: what images are called; ``{name}`` in it stands for the name of the frame, or its number with six digits.
        hz: pictures of a second that are looked at, the first of each part of it; None for all.
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engine.

    Raises:
        ModelError, EngineUnavailable, EngineError: the detector cannot be used.
        SinkError: the file cannot be written.
    """

    keeps_all = True

    def __init__(
        self,
        path: Path,
        *,
        model: Path,
        file_name: str = "{name}",
        hz: int | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.uri = str(path)
        spec = read_detector_spec(model)
        self._file_name = file_name
        self._hz = hz
        self._turn: int | None = None
        self._frames = 0
        self._classes = {name: (index,) for index, name in enumerate(spec.classes)}
        self._numbers = {name: index + 1 for index, name in enumerate(spec.classes)}
        self._network = Yolox(model, spec=spec, engine=engine, threads=threads)
        try:
            self._file = _CocoFile(path, info=_info(model.name), categories=_categories(spec.classes))
        except BaseException:
            self._network.close()
            raise

    def write(self, frame: FusedFrame) -> None:
        """Look at one frame, where its turn has come.

        Raises:
            EngineError: the network failed.
            SinkError: the disk is full.
        """
        index, self._frames = self._frames, self._frames + 1
        if not self._is_due(frame.timestamp_ns):
            return
        image = frame.image if frame.image.ndim == 3 else cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR)
        found = self._network(np.asarray(image, np.uint8), classes=self._classes)
        boxes = [
            (self._numbers[name], corners, score)
            for name, (every, scores) in found.items()
            for corners, score in zip(every.tolist(), scores.tolist(), strict=True)
        ]
        self._file.add(
            {
                "file_name": self._file_name.format(name=frame.name or f"{frame.sequence:06d}"),
                "width": frame.width_px,
                "height": frame.height_px,
                "frame": index,
                "time_s": round(frame.timestamp_ns / NS_PER_S, 6),
            },
            [_annotation(number, corners, score) for number, corners, score in boxes],
        )

    def close(self, *, aborted: bool) -> None:
        """Finish the file and release the network. Idempotent.

        Raises:
            SinkError: it could not be finished.
        """
        self._network.close()
        self._file.close()

    def _is_due(self, timestamp_ns: int) -> bool:
        if self._hz is None:
            return True
        last, self._turn = self._turn, timestamp_ns * self._hz // NS_PER_S
        return last != self._turn


def join_detections(parts: Sequence[Path], to: Path, *, frames: Sequence[int]) -> None:
    """Write what `DetectionsSink` wrote of pieces of one recording as one file.

    Args:
        parts: in the order of time; their stamps are those of the whole recording.
        to: the file.
        frames: number of frames of every piece.

    Raises:
        SinkError: one of them cannot be read, or the disk is full.
    """
    joined: _CocoFile | None = None
    before = 0
    for part, count in zip(parts, frames, strict=True):
        try:
            said = json.loads(part.read_bytes())
        except (OSError, ValueError) as error:
            raise SinkError(f"{part}: the detections of a piece cannot be read: {error}") from error
        joined = joined or _CocoFile(to, info=said["info"], categories=said["categories"])
        found: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in said["images"]}
        for annotation in said["annotations"]:
            found[annotation["image_id"]].append(annotation)
        for image in said["images"]:
            joined.add({**image, "frame": image["frame"] + before}, found[image["id"]])
        before += count
    if joined is not None:
        joined.close()


class _CocoFile:
    """A file of COCO's that is written as it grows: annotations first, which are many, and images at the end."""

    def __init__(self, path: Path, *, info: Mapping[str, Any], categories: Sequence[Mapping[str, Any]]) -> None:
        self._path = path
        self._images: list[str] = []
        self._annotations = 0
        self._is_closed = False
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._broken(error) from error
        self._write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n"annotations": [')

    def add(self, image: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]) -> None:
        """Add a picture with what was found in it; both are numbered here."""
        number = len(self._images) + 1
        self._images.append(json.dumps({**image, "id": number}))
        for annotation in annotations:
            comma = "," if self._annotations else ""
            self._annotations += 1
            self._write(f"{comma}\n{json.dumps({**annotation, 'id': self._annotations, 'image_id': number})}")

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        images = ",\n".join(self._images)
        try:
            self._write(f'],\n"images": [\n{images}]}}\n')
        finally:
            try:
                self._file.close()
            except OSError as error:
                raise self._broken(error) from error

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> SinkError:
        return SinkError(f"{self._path}: {error.strerror}; make room, or write elsewhere")


def _info(detector: str) -> dict[str, Any]:
    return {"description": "found in fused pictures", "detector": detector, "least_score": LEAST_SCORE}


def _categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": index + 1, "name": name} for index, name in enumerate(classes)]


def _annotation(category: int, corners: Sequence[float], score: float) -> dict[str, Any]:
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    return {
        "category_id": category,
        "bbox": [round(one, 2) for one in (left, top, width, height)],
        "area": round(width * height, 2),
        "score": round(score, 4),
        "iscrowd": 0,
    }
