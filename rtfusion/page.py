"""HTML pages that are one file: a Jinja template that escapes every text, with the pictures inside."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.files import write_whole
from rtfusion.fusion.color import as_bgr
from rtfusion.types import Image8

JPEG_QUALITY = 87


def write_page(path: Path, *, template: Path, **values: object) -> None:
    """Fill ``template`` with ``values`` (`filled`) and write the page to ``path``, complete or not at all.

    Raises:
        ConfigError: the page cannot be written.
    """
    page = filled(template, **values)
    try:
        write_whole(path, page)
    except OSError as error:
        raise ConfigError(f"cannot write the report {path}: {error.strerror}") from error


def filled(template: Path, **values: object) -> str:
    """Fill ``template`` with ``values``: the page.

    The template shows an image, (H, W) or (H, W, 3) BGR uint8, by the filter ``jpeg`` (`jpeg_uri`), and a value of settings by
    the filter ``json``. A value that it names and that is not given is an error, so nothing is left out silently.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"jpeg": jpeg_uri, "json": json.dumps}
    return environment.get_template(template.name).render(values)


def jpeg_uri(image: Image8, *, height_px: int | None = None) -> str:
    """Encode an image as a ``data:`` URI, for the ``src`` of an ``img``; made smaller where it is higher than ``height_px``."""
    height, width = image.shape[:2]
    if height_px is not None and height > height_px:
        size_px = round(width * height_px / height), height_px
        image = cv2.resize(image, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    data = cv2.imencode(".jpg", as_bgr(image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
