"""Small encoded files for the tests of the sources, made where they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from rtfusion.capture.base import Source
from rtfusion.errors import EndOfStream
from rtfusion.types import Frame

RATE_HZ = 30


def patterns(count: int, *, width: int = 64, height: int = 48, channels: int = 3) -> list[npt.NDArray[np.uint8]]:
    """Smooth images, all different and with no symmetry: a ramp to the right and one downwards that slides."""
    columns = np.linspace(0, 200, width)[None, :]
    rows = np.linspace(0, 50, height)[:, None]
    gray = [columns + rows + 4 * (index % 2) for index in range(count)]
    if channels == 1:
        return [image.astype(np.uint8) for image in gray]
    return [np.dstack([image, image[::-1], image[:, ::-1]]).astype(np.uint8) for image in gray]


def write_clip(
    path: Path,
    images: Iterable[npt.NDArray[np.generic]],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    source_format: str | None = None,
    stamps: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE_HZ),
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    color_range: int = 0,
    colorspace: int = 2,
    gop: int | None = None,
) -> Path:
    """Encode images, which have ``source_format`` (bgr24 or gray by default), one frame each."""
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=RATE_HZ, options=dict(options or {}))
        stream.pix_fmt = pix_fmt
        stream.time_base = time_base
        stream.codec_context.time_base = time_base
        stream.codec_context.color_range = color_range
        stream.codec_context.colorspace = colorspace
        if gop is not None:
            stream.codec_context.gop_size = gop
        for index, image in enumerate(images):
            default = "bgr24" if image.ndim == 3 else "gray"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=source_format or default)
            if index == 0:
                stream.width, stream.height = frame.width, frame.height
            if frame.format.name != pix_fmt:
                full = pix_fmt.startswith("yuvj") or color_range == 2
                frame = frame.reformat(
                    format=pix_fmt,
                    src_color_range=2,
                    dst_color_range=2 if full else 1,
                    dst_colorspace=1 if colorspace == 1 else 5,
                )
            frame.color_range, frame.colorspace = color_range, colorspace
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_all(source: Source, *, timeout_s: float = 1.0) -> list[Frame]:
    """Every frame to the end."""
    frames = []
    try:
        while True:
            frames.append(source.read(timeout_s=timeout_s))
    except EndOfStream:
        return frames


def packets_of(path: Path) -> list[tuple[int, int]]:
    """(position, size) of every packet of the first video stream."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, packets: Iterable[tuple[int, int]]) -> None:
    """Destroy the contents of packets, keeping their size."""
    with path.open("r+b") as file:
        for position, size in packets:
            file.seek(position)
            file.write(b"\xff" * size)
