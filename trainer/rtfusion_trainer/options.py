"""What everybody says who has a network trained, a teacher or a student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """The options that ``rtfusion train teacher``, ``rtfusion train student`` and ``rtfusion distill`` share."""

    data: Path
    """Folders SET/vi and SET/ir."""
    out: Path
    """Folder of the checkpoint; where it holds one, training goes on."""
    preset: str
    """A preset by its name, or a TOML file by its path."""
    vgg_weights: Path | None = None
    """State dict of VGG-19, for the term that compares features."""
    with_features: bool = True
    """False leaves that term out."""
    steps: int | None = None
    """The number of steps, where it is not the preset's."""
    seed: int | None = None
    """The seed, where it is not the preset's."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: str = "f32"
    """One of `rtfusion_trainer.mixed.PRECISIONS`."""
    threads: int | None = None
    """Threads of PyTorch on the CPU."""
    overfit: bool = False
    """True trains on one batch, to see that it can be learned."""
    tensorboard: bool = False
    """True writes curves into ``out``."""
    stop: Callable[[], bool] = lambda: False
    """Asked between two steps; True ends the training, which the same options take up again."""

    @property
    def curves(self) -> Path | None:
        """The folder of TensorBoard's files, or None where no curves are wanted."""
        return self.out if self.tensorboard else None
