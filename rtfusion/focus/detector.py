"""An object detector beside the frames: any YOLOX in an ONNX file, on a thread of its own, newest picture wins."""

from __future__ import annotations

import ast
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rtfusion.clock import NS_PER_MS
from rtfusion.engines import Engine, open_engine_for
from rtfusion.errors import EndOfStream, ModelError
from rtfusion.focus.base import Maps
from rtfusion.focus.boxes import MAX_BOXES, Box
from rtfusion.focus.given import Fading, Found
from rtfusion.focus.overlap import Floats, suppress
from rtfusion.focus.yolox import COCO_NAMES, GROUPS, SUPPRESS_IOU, classes_of, decode, letterbox
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.models import onnx_file
from rtfusion.models.spec import Shape
from rtfusion.registration import RegisteredPair
from rtfusion.types import Image8

OLDEST_NS = 500 * NS_PER_MS
"""Of slow streams it gets more: unless told otherwise, one at least as often as this."""
EVERY = 8
"""It is given every so-many-th frame to look at, unless it is still at one."""
LEAST_SCORE, SURE_SCORE = 0.2, 0.4
"""A detection counts from the first score on, and in full from the second one on."""
NAMES_KEY = "names"
"""The metadata entry in which a file may say its classes: a list, or a map from numbers, as JSON or as Python writes it."""
GRACE_NS = 200 * NS_PER_MS
"""Longer than from one look to the next by so much, and boxes begin to fade."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A tensor of one shape."""

    dims: Shape

    def shape(self, size_px: tuple[int, int]) -> Shape:
        """The shape, whatever the size of the picture."""
        return self.dims


class DetectorSpec(NamedTuple):
    """What a YOLOX file takes and gives."""

    inputs: Mapping[str, _Fixed]
    outputs: Mapping[str, _Fixed]
    side_px: int
    classes: tuple[str, ...]


def read_detector_spec(path: Path) -> DetectorSpec:
    """Read what a YOLOX file takes, gives and names.

    Raises:
        ModelError: there is no such file, it is no ONNX model, or none of this layout.
    """
    inputs, outputs = onnx_file.declared_ports(path)
    takes = next(iter(inputs.values()), ()) if len(inputs) == 1 else ()
    gives = next(iter(outputs.values()), ()) if len(outputs) == 1 else ()
    side_px = takes[-1] if len(takes) == 4 else None
    cells = 0 if side_px is None else sum((side_px // stride) ** 2 for stride in (8, 16, 32))
    fits = side_px is not None and takes[1:] == (3, side_px, side_px) and len(gives) == 3
    if not fits or gives[1] not in (cells, None) or gives[2] is None or gives[2] < 6 or side_px is None:
        raise ModelError(
            f"{path} takes {_told(inputs)} and gives {_told(outputs)}; expected a YOLOX of fixed size: (1, 3, S, S) in, "
            "(1, anchors, 5 + classes) out, anchors of the strides 8, 16 and 32"
        )
    return DetectorSpec(
        inputs={name: _Fixed((1, 3, side_px, side_px)) for name in inputs},
        outputs={name: _Fixed((1, cells, gives[2])) for name in outputs},
        side_px=side_px,
        classes=_names(path, count=gives[2] - 5),
    )


def _told(ports: Mapping[str, tuple[int | None, ...]]) -> str:
    return ", ".join(f"{name} {tuple('?' if dim is None else dim for dim in dims)}" for name, dims in ports.items())


def _names(path: Path, *, count: int) -> tuple[str, ...]:
    """The classes of a file: what it says itself, else COCO's where there are as many."""
    text = onnx_file.load(path).metadata.get(NAMES_KEY)
    if text is None:
        if count != len(COCO_NAMES):
            raise ModelError(
                f"{path} has {count} classes and does not say which; write their names into its metadata, as JSON under "
                f"the key {NAMES_KEY}"
            )
        return COCO_NAMES
    try:
        said = json.loads(text)
    except ValueError:
        try:
            said = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            said = None
    listed = list(said.values()) if isinstance(said, dict) else said
    if not isinstance(listed, list) or len(listed) != count or not all(isinstance(name, str) for name in listed):
        raise ModelError(f"{path} has {count} classes, and the metadata {NAMES_KEY} names others: {text[:80]}")
    return tuple(name.strip().lower().replace(" ", "_") for name in listed)


class Yolox:
    """A YOLOX in an ONNX file: what it finds in single pictures.

    Args:
        model: the file.
        spec: what was read of it.
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engine.
        least_score: what is found with less is left out.

    Raises:
        ModelError, EngineUnavailable, EngineError: the file cannot be used.
    """

    def __init__(
        self,
        model: Path,
        *,
        spec: DetectorSpec,
        engine: str = "auto",
        threads: int | None = None,
        least_score: float = LEAST_SCORE,
    ) -> None:
        self._least_score = least_score
        self._side_px = spec.side_px
        self._engine: Engine = open_engine_for(
            engine, model=model, contract=spec, size_px=(spec.side_px,) * 2, threads=threads
        )
        self._tensor = {name: np.zeros(port.dims, np.float32) for name, port in spec.inputs.items()}

    def __call__(self, image: Image8, *, classes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Floats, Floats]]:
        """Find every kind in (H, W, 3) BGR: boxes (n, 4) in pixels and scores (n,).

        A kind is named in ``classes`` with the indices that it stands for (`rtfusion.focus.yolox.decode`).
        """
        side_px, (name,) = self._side_px, self._tensor
        tensor, scale = letterbox(image, side_px=side_px)
        np.copyto(self._tensor[name], tensor)
        (raw,) = self._engine.run(inputs=self._tensor).values()
        size_px = image.shape[1], image.shape[0]
        return decode(
            raw[0], side_px=side_px, scale=scale, size_px=size_px, classes=classes, least_score=self._least_score
        )

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._engine.close()


class _Look(NamedTuple):
    """A picture to look at, in both bands."""

    visible: Image8
    thermal: Image8
    timestamp_ns: int


class Detector:
    """Boxes of a YOLOX, found in both bands every few frames.

    Live, it looks on a thread of its own: a frame is never held up, and what it is given while it is busy replaces what waits.
    Elsewhere it looks at once, so that the same recording gives the same frames.

    Args:
        model: ONNX file of the layout of `rtfusion.focus.yolox`.
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engine.
        every: frames from one look to the next; None for `EVERY`, or fewer, as `OLDEST_NS` says.
        classes: names of classes to find beside people and vehicles.
        live: look on a thread of its own.

    Raises:
        ConfigError: it has no such class.
        ModelError, EngineUnavailable, EngineError: the file cannot be used.
    """

    name = "detector"

    def __init__(
        self,
        model: Path,
        *,
        engine: str = "auto",
        threads: int | None = None,
        every: int | None = None,
        classes: Sequence[str] = (),
        live: bool = False,
    ) -> None:
        spec = read_detector_spec(model)
        known = [group for group in GROUPS if not set(GROUPS[group]).isdisjoint(spec.classes)]
        self._sought = {name: classes_of(name, names=spec.classes) for name in (*known, *classes)}
        self.targets = tuple(self._sought)
        self.runs = 0
        self._every = EVERY if every is None else every
        self._oldest_ns = OLDEST_NS if every is None else math.inf
        self._network = Yolox(model, spec=spec, engine=engine, threads=threads)
        self._found: Found | None = None
        self._fading = Fading()
        self._last_ns = 0
        self._waited = self._every
        self._offered_ns = 0
        self._looks: Mailbox[_Look] = Mailbox(capacity=1, policy=Policy.LATEST)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="focus-detector", daemon=True) if live else None
        if self._thread is not None:
            self._thread.start()

    @property
    def age_ns(self) -> int | None:
        """See `rtfusion.focus.base.FocusProvider`."""
        return self._fading.age_ns

    @property
    def skipped(self) -> int:
        """Pictures that were replaced by newer ones before it looked at them."""
        return self._looks.dropped

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Have nothing to make ready: the network is open, for a square of its own."""

    def maps(self, registered: RegisteredPair) -> Maps:
        """See `rtfusion.focus.base.FocusProvider`."""
        timestamp_ns = registered.pair.timestamp_ns
        step_ns, self._last_ns = timestamp_ns - self._last_ns, timestamp_ns
        self._waited += 1
        is_late = timestamp_ns - self._offered_ns >= self._oldest_ns
        if self._waited >= self._every or is_late or step_ns < 0:
            self._waited, self._offered_ns = 0, timestamp_ns
            self._offer(_Look(registered.visible, registered.thermal, timestamp_ns))
        if self._error is not None:
            raise self._error
        # a slow stream is looked at more seldom than boxes would fade
        return self._fading.maps(self._found, registered, fresh_ns=step_ns * self._every + GRACE_NS)

    def close(self) -> None:
        """End the thread and release the network. Idempotent."""
        self._looks.close()
        if self._thread is not None:
            self._thread.join()
        self._network.close()

    def _offer(self, look: _Look) -> None:
        if self._thread is None:
            self._look(look)
        else:
            self._looks.put(look)

    def _run(self) -> None:
        """Look at what comes, until closed; the body of the thread."""
        try:
            while True:
                look = self._looks.get()
                if look is not None:
                    self._look(look)
        except (Closed, EndOfStream):
            pass
        except Exception as error:  # noqa: BLE001 - raised by `maps`, in the thread that fuses
            self._error = error

    def _look(self, look: _Look) -> None:
        thermal = cv2.cvtColor(look.thermal, cv2.COLOR_GRAY2BGR)
        visible = look.visible if look.visible.ndim == 3 else cv2.cvtColor(look.visible, cv2.COLOR_GRAY2BGR)
        seen = [self._network(np.asarray(image, np.uint8), classes=self._sought) for image in (visible, thermal)]
        height, width = look.thermal.shape
        boxes: list[Box] = []
        for target in self._sought:
            every, scores = (np.concatenate([one[target][part] for one in seen]) for part in (0, 1))
            kept = suppress(every, scores, iou=SUPPRESS_IOU)
            boxes += _boxes(target, every[kept] / ((width, height) * 2), scores[kept])
        sure = sorted(boxes, key=lambda box: -box.weight)[:MAX_BOXES]
        self._found = Found(tuple(sure), look.timestamp_ns)
        self.runs += 1


def _boxes(target: str, corners: Floats, scores: Floats) -> list[Box]:
    """What was found as boxes; the surer, the more they count."""
    weights = np.clip((scores - LEAST_SCORE) / (SURE_SCORE - LEAST_SCORE), 0, 1)
    return [
        Box(target=target, left=left, top=top, right=right, bottom=bottom, weight=weight)
        for (left, top, right, bottom), weight in zip(corners.clip(0, 1).tolist(), weights.tolist(), strict=True)
        if left < right and top < bottom and weight > 0
    ]
