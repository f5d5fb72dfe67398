"""From a pair to a fused frame."""

from __future__ import annotations

from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Control, LuminanceFuser
from rtfusion.fusion.painting import Edges, Overlay, Painter

FUSERS = ("average", "maximum", "pyramid", "overlay", "edges", "learned")

__all__ = ["FUSERS", "Control", "LuminanceFuser", "Painter", "open_method"]


def open_method(
    name: str,
    *,
    still: bool,
    palette: str = "inferno",
    threshold: float = 0.6,
    opacity: float = 0.7,
    model: Path | None = None,
    precision: str = "auto",
    enhance: float | None = None,
    engine: str = "auto",
    threads: int | None = None,
    kernels: bool = True,
    trust: bool = True,
) -> LuminanceFuser | Painter:
    """The way of fusing that bears ``name``; ``still`` for unrelated images, which must not remember one another.

    ``model`` is a file, or the name of a model that comes with the package, in ``precision``: see `rtfusion.engines.model_file`.
    ``trust`` has the learned fuser show the other band where one is blank or burnt out.

    Raises:
        ConfigError: no fuser of that name, or `learned` without a model or with one that is not there.
    """
    from rtfusion.fusion import classical

    if name == "overlay":
        return Overlay(palette=palette, threshold=threshold, opacity=opacity)
    if name == "edges":
        return Edges(palette=palette, still=still)
    if name == "learned":
        if model is None:
            raise ConfigError("the learned fuser needs a model: add --model small, large or FILE.onnx")
        from rtfusion.fusion.learned import LearnedLuminance

        inputs = {} if enhance is None else {"enhance": enhance}
        return LearnedLuminance(
            model=model,
            precision=precision,
            engine=engine,
            threads=threads,
            kernels=kernels,
            inputs=inputs,
            still=still,
            trust=trust,
        )
    if name == "pyramid":
        return classical.Pyramid(still=still)
    if name in {"average", "maximum"}:
        return classical.Average() if name == "average" else classical.Maximum()
    raise ConfigError(f"no fuser {name!r}; there are {', '.join(FUSERS)}")
