"""The options that the commands of the trainer share, and a clear word where PyTorch is missing."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from rtfusion.cli.options import Debug
from rtfusion.errors import ConfigError
from rtfusion.installing import install

PACKAGES = ("torch", "onnx")
DISTRIBUTED = "On several GPUs: torchrun --nproc-per-node N -m rtfusion ... (batches are those of one process)."

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Training pairs: folders SET/vi and SET/ir.")]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="A preset, or a TOML file.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The first N pairs of the data.")]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Steps, instead of the preset's.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed, instead of the preset's.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads on the CPU.")]
ClipWeights = Annotated[
    Path | None, typer.Option("--clip-weights", metavar="PATH", help="Checkpoint of CLIP, or an open_clip folder.")
]
ClipModel = Annotated[
    str | None, typer.Option("--clip-model", metavar="NAME", help="open_clip's name of the model in a bare file.")
]
NoClipTest = Annotated[
    bool, typer.Option("--no-clip-test", metavar="", help="Train, whatever the self-test of the encoder says.")
]
StandIn = Annotated[
    Path | None,
    typer.Option("--stand-in", metavar="FILE", help="Instead of CLIP: what [bold]rtfusion train encoder[/bold] made."),
]
Shifts = Annotated[
    str, typer.Option("--shifts", metavar="NAME", help="That a network is averaged over: few, full or none.")
]
RunFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="For checkpoint and file; where one is, training goes on.")
]
TrainedOn = Annotated[
    list[str], typer.Option("--trained-on", metavar="TEXT", help="A data set and its terms (repeatable).")
]
License = Annotated[str, typer.Option("--license", metavar="NAME", help="Of the weights.")]


def _shared(
    *,
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="For the checkpoint; where it holds one, training goes on.")
    ],
    preset: Preset,
    vgg_weights: Annotated[
        Path | None, typer.Option("--vgg-weights", metavar="FILE", help="State dict of VGG-19.")
    ] = None,
    no_features: Annotated[
        bool, typer.Option("--no-features", metavar="", help="Leave out the term that needs VGG-19, and its weights.")
    ] = False,
    limit: Limit = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="NAME", help="Of the forward pass: f32, bf16 or f16 (mixed precision)."),
    ] = "f32",
    threads: Threads = None,
    overfit: Annotated[
        bool, typer.Option("--overfit", metavar="", help="Train on one batch, to see that it can be learned.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", metavar="", help="Write curves for TensorBoard into --out.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List, by its signature alone, the options of every command that trains a network."""


def trains(*, preset: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command all options of training; its first argument becomes `TrainingOptions`, and Ctrl-C ends it well."""
    signature, hints = inspect.signature(_shared), get_type_hints(_shared, include_extras=True)
    shared = [parameter.replace(annotation=hints[name]) for name, parameter in signature.parameters.items()]
    shared = [option.replace(default=preset) if option.name == "preset" else option for option in shared]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def training(*, no_features: bool, debug: bool, **values: Any) -> None:
            require_trainer()
            from rtfusion_trainer.config import TrainingOptions

            from rtfusion.cli.stopping import Stopping

            names = TrainingOptions.__dataclass_fields__.keys() & values.keys()
            given = {name: values.pop(name) for name in names}
            with Stopping() as stopping:
                stop = stopping.event.is_set
                command(TrainingOptions(**given, with_features=not no_features, stop=stop), **values)
            sys.exit(stopping.exit_code)

        # the trainer is imported late, so its name means nothing yet
        own_hints = get_type_hints(command, include_extras=True, localns={"TrainingOptions": object})
        own = [
            parameter.replace(annotation=own_hints[name], kind=parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
            if name != "options"
        ]
        options = [*shared[:-1], *own, shared[-1]]
        training.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        training.__annotations__ = {option.name: option.annotation for option in options}
        return training

    return decorate


def require_trainer() -> None:
    """Say what to install where the trainer cannot be imported.

    Raises:
        ConfigError: a package of the extra is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the trainer needs {' and '.join(missing)}, which this installation lacks; run {install('train')}"
        )
