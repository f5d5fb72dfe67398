"""The seam of a recording in pieces at the default settings, denoising included: how far it is from the whole, in gray levels.

``python -m pytest -m slow -s tests/batch/test_seams.py`` prints the figures.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtfusion.batch.pieces import Piece
from rtfusion.clock import NS_PER_S
from rtfusion.config import Settings
from rtfusion.pipeline import build
from rtfusion.sinks.joined import PieceSink, join_videos
from rtfusion.types import FusedFrame, Image8
from tests.capture.clips import write_clip

RATE_HZ = 15
SECONDS = 44
SIZE_PX = 160, 120
PIECE = Piece(index=1, count=2, begin_s=36, end_s=40)
"""It begins to read at 20 s."""


class Kept:
    """A sink that keeps every frame."""

    uri = "kept"

    def __init__(self) -> None:
        self.images: dict[int, Image8] = {}

    def write(self, frame: FusedFrame) -> None:
        self.images[frame.timestamp_ns] = frame.image.copy()

    def close(self, *, aborted: bool) -> None:
        pass


def scene(index: int) -> tuple[Image8, Image8]:
    """Gray levels of both bands of a still place with noise, in which something warm walks to and fro."""
    rng = np.random.default_rng(index)
    columns, rows = np.meshgrid(np.arange(SIZE_PX[0]), np.arange(SIZE_PX[1]))
    texture = np.sin(columns / 9) + np.cos(rows / 7) + np.sin(columns * rows / 300)
    walker = np.exp(-(((columns - 80 - 60 * np.sin(index / RATE_HZ / 3)) / 8) ** 2) - ((rows - 60) / 20) ** 2)
    visible = 110 + 25 * texture - 30 * walker + rng.normal(0, 3.0, columns.shape)
    thermal = 90 - 15 * texture + 100 * walker + rng.normal(0, 3.0, columns.shape)
    made = [np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (visible, thermal)]
    return made[0], made[1]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The two files of a recording, without loss."""
    folder = tmp_path_factory.mktemp("recording")
    pairs = [scene(index) for index in range(SECONDS * RATE_HZ)]
    for name, images in (("vi", [visible for visible, _ in pairs]), ("ir", [thermal for _, thermal in pairs])):
        write_clip(
            folder / f"{name}.avi", images, codec="ffv1", pix_fmt="gray", source_format="gray",
            time_base=Fraction(1, RATE_HZ),
        )  # fmt: skip
    return {"vis": folder / "vi.avi", "ir": folder / "ir.avi"}


def fused(settings: dict[str, Any], piece: Piece, video: Path, *, rate_hz: int) -> dict[int, Image8]:
    """Fused images by their stamps in the recording; the piece of them is written as a video."""
    options = {"vis_options": piece.options, "ir_options": piece.options}
    shift_ns = piece.read_from_s * NS_PER_S
    end_ns = None if piece.end_s is None else piece.end_s * NS_PER_S
    sink = PieceSink(video, shift_ns=shift_ns, begin_ns=piece.begin_s * NS_PER_S, end_ns=end_ns, threads=1)
    sink.begin(rate_hz=rate_hz)
    kept = Kept()
    build(Settings(**settings, **options), sinks=[kept, sink]).run()
    return {stamp_ns + shift_ns: image for stamp_ns, image in kept.images.items()}


def decoded(video: Path) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]


def key_frames(video: Path) -> list[int]:
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [index for index, packet in enumerate(packets) if packet.is_keyframe]


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A real recording, played to and fro, without loss."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("vi", "ir"):
        with av.open(str(shared_data / "video" / "m3svd_0113_1714" / f"{name}.mp4")) as container:
            images = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
        to_and_fro = itertools.islice(itertools.cycle([*images, *reversed(images)]), 42 * 30)
        write_clip(folder / f"{name}.avi", to_and_fro, codec="ffv1", source_format="yuv420p")
    return {"vis": folder / "vi.avi", "ir": folder / "ir.avi"}


@pytest.mark.parametrize("fuser", ["pyramid", pytest.param("learned", marks=pytest.mark.slow)])
def test_a_piece_is_the_whole_within_a_gray_level_and_coded_as_it_is(
    recording: dict[str, Any], tmp_path: Path, fuser: str
) -> None:
    before, after = differences({"fuser": fuser, **recording}, tmp_path, rate_hz=RATE_HZ)
    assert max(before) <= (0.1 if fuser == "pyramid" else 0.4)  # a network answers wherever one pixel differs
    # where it answers to noise of 3 gray levels, two codings differ by what each of them loses
    assert max(after) <= (1.0 if fuser == "pyramid" else 1.3)


@pytest.mark.shared
@pytest.mark.slow  # fuses 84 s of video; what is by noise is tested above
@pytest.mark.timeout(600)
def test_a_piece_of_a_real_recording_is_the_whole_within_a_gray_level(real: dict[str, Any], tmp_path: Path) -> None:
    _, after = differences({"fuser": "learned", **real}, tmp_path, rate_hz=30)
    assert max(after) <= 1.0


def differences(settings: dict[str, Any], tmp_path: Path, *, rate_hz: int) -> tuple[list[float], list[float]]:
    """Mean differences of a recording in pieces to the whole, in gray levels, before the encoder and decoded, of each frame."""
    until = Piece(index=0, count=2, begin_s=0, end_s=PIECE.begin_s)
    whole = fused(settings, Piece(index=0, count=1, begin_s=0, end_s=None), tmp_path / "whole.mp4", rate_hz=rate_hz)
    fused(settings, until, tmp_path / "first.mp4", rate_hz=rate_hz)
    part = fused(settings, PIECE, tmp_path / "second.mp4", rate_hz=rate_hz)
    stamps_ns = [stamp for stamp in sorted(whole) if PIECE.begin_s <= stamp / NS_PER_S < (PIECE.end_s or 0)]
    before = [float(np.abs(part[stamp].astype(int) - whole[stamp]).mean()) for stamp in stamps_ns]
    join_videos([tmp_path / "first.mp4", tmp_path / "second.mp4"], tmp_path / "joined.mp4")
    joined, unsplit = decoded(tmp_path / "joined.mp4"), decoded(tmp_path / "whole.mp4")
    assert len(joined) == (PIECE.end_s or 0) * rate_hz
    after = [float(np.abs(one - other).mean()) for one, other in zip(joined, unsplit, strict=False)]
    seam = PIECE.begin_s * rate_hz
    print(  # noqa: T201 — the figures are what it is run for
        f"\n{settings['fuser']}: before the encoder {np.mean(before):.3f} gray levels a frame, {max(before):.3f} in the worst; "
        f"after it {np.mean(after[seam:]):.3f}, {max(after[seam:]):.3f}"
    )
    assert max(after[:seam]) == 0.0
    places = [index for index in key_frames(tmp_path / "whole.mp4") if index < len(joined)]
    assert key_frames(tmp_path / "joined.mp4") == places
    return before, after[seam:]
