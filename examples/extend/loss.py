"""A loss of your own: what is warm must stand out in the fused picture as much as it does in the thermal one. It trains.

    python examples/extend/loss.py --data train --steps 2000 --out run-warm
    rtfusion export --checkpoint run-warm/checkpoint.pt --out models --trained-on 'my pairs (CC0-1.0)' --license CC0-1.0

With ``--weight 0`` the new term counts nothing: train so too, into another folder, and compare the pictures of both.
Needs the extra `train`. ``--data`` holds SET/vi and SET/ir, registered, files of the same names.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from rtfusion_trainer.checkpoint import CHECKPOINT
from rtfusion_trainer.config import Network, Schedule, load_config
from rtfusion_trainer.data import Batch, make_batch
from rtfusion_trainer.distill import Run
from rtfusion_trainer.objective import objective
from rtfusion_trainer.pairs import load_pairs
from torch import Tensor
from torch.nn import functional

AROUND_PX = 17
SHARE = 0.8


def warm_loss(fused: Tensor, *, thermal: Tensor) -> Tensor:
    """What warm places lack of `SHARE` of their thermal contrast, as a part of it; images (N, 1, H, W), one value a picture."""

    def contrast(image: Tensor) -> Tensor:
        mean = functional.avg_pool2d(image, AROUND_PX, stride=1, padding=AROUND_PX // 2, count_include_pad=False)
        return image - mean

    wanted = contrast(thermal).clamp(min=0)
    lacking = (SHARE * wanted - contrast(fused)).clamp(min=0)
    return (lacking * wanted).sum(dim=(1, 2, 3)) / wanted.square().sum(dim=(1, 2, 3)).clamp(min=1e-6)


def main() -> None:
    """Train a small student on the project's objective and the new term; print how both fall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of SET/vi and SET/ir")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--weight", type=float, default=4.0, help="of the new term")
    parser.add_argument("--width", type=int, default=32, help="channels of the network")
    parser.add_argument("--crop-px", type=int, default=96)
    parser.add_argument("--name", default="warm", help="of the network, and of its file")
    parser.add_argument("--out", type=Path, help="folder for the checkpoint, which rtfusion export takes")
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = replace(
        load_config("small"),
        network=Network(name=options.name, width=options.width),
        schedule=Schedule(batch=4, crop_px=options.crop_px),
    )
    pairs = load_pairs(options.data)
    run = Run(config, device=torch.device("cpu"))
    student = run.student
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    for step in range(options.steps):
        batch: Batch = make_batch(pairs, config, step=step)
        fused = student(batch.visible, batch.thermal, batch.enhance, batch.means[:, :1], batch.means[:, 1:])
        loss, _ = objective(fused, batch, config.weights)
        warm = warm_loss(fused, thermal=batch.wanted_thermal).mean()
        optimizer.zero_grad()
        (loss + options.weight * warm).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0 or step == options.steps - 1:
            print(f"step {step}: objective {loss.item():.3f}, warm {warm.item():.3f}", flush=True)
    if options.out is not None:
        # what is exported is the average of the weights; one that so few steps are averaged over would lag behind
        run.average.load_state_dict(student.state_dict())
        run.finished_steps = options.steps
        run.save(options.out / CHECKPOINT)
        print(f"saved in {options.out / CHECKPOINT}")


if __name__ == "__main__":
    main()
