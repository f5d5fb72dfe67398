"""What the commands of the trainer share: their options, and a clear word where PyTorch is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.errors import ConfigError

PACKAGES = ("torch", "onnx")
INSTALL = "pip install 'rtfusion[train]'"
DISTRIBUTED = "On several GPUs: torchrun --nproc-per-node N -m rtfusion ... (batches are those of one process)."

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Training pairs: folders SET/vi and SET/ir.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="For the checkpoint; where it holds one, training goes on.")
]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="A preset, or a TOML file.")]
Init = Annotated[
    Path | None, typer.Option("--init", metavar="FILE", help="Checkpoint to begin with; a smaller student is widened.")
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Steps, instead of the preset's.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed, instead of the preset's.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="Of the forward pass: f32, bf16 or f16 (mixed precision).")
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads on the CPU.")]
Overfit = Annotated[
    bool, typer.Option("--overfit", metavar="", help="Train on one batch, to see that it can be learned.")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", metavar="", help="Write curves for TensorBoard into --out.")
]
VggWeights = Annotated[Path | None, typer.Option("--vgg-weights", metavar="FILE", help="State dict of VGG-19.")]
NoFeatures = Annotated[
    bool, typer.Option("--no-features", metavar="", help="Leave out the term that needs VGG-19, and its weights.")
]


def require_trainer() -> None:
    """Say what to install where the trainer cannot be imported.

    Raises:
        ConfigError: a package of the extra is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the trainer needs {' and '.join(missing)}, which this installation lacks; run {INSTALL}")
