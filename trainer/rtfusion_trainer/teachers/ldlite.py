"""LD-Lite, the published and pruned student of LDFusion, as a teacher of what it sees.

Half of LDFusion's content path, without styles: width 8 instead of 16, a sigmoid at the end; 652,385 parameters. It sees through
smoke and darkness, amplifies noise and prints a grid of 8 px, so use it averaged over shifts (`rtfusion_trainer.teachers.shift`).
Weights: ``weight/final.pt`` of the repository wyhlaowang/LD-Lite (Apache-2.0).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from rtfusion_trainer.teachers.ldfusion import HALVINGS, content_encoder, load_strictly, upsampling
from rtfusion_trainer.teachers.network import NetworkTeacher

WIDTH = 8
STRIDE_PX = 8


class LdLite(nn.Module):
    """Fuses luminance and thermal (N, 1, H, W) in [0, 1] to (N, 1, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({f"content_encoder{band}": content_encoder(WIDTH) for band in (1, 2)})
        self.decoder = nn.ModuleDict({"model_up": nn.Sequential(*upsampling(2 * WIDTH * 2**HALVINGS), nn.Sigmoid())})

    def forward(self, *, visible: Tensor, thermal: Tensor) -> Tensor:
        """The decoder's picture is 14 to 21 px larger than the input; its top left part is the result."""
        contents = (self.encoder["content_encoder1"](visible), self.encoder["content_encoder2"](thermal))
        picture: Tensor = self.decoder["model_up"](torch.cat(contents, dim=1))
        return picture[..., : visible.shape[-2], : visible.shape[-1]]


def ldlite_teacher(weights: Path, *, device: torch.device | None = None) -> NetworkTeacher:
    """LD-Lite with its published weights; `rtfusion_trainer.teachers.shift` takes its grid away.

    Raises:
        ConfigError: there is no file ``weights``.
        ModelError: it is not LD-Lite's.
    """
    network = LdLite()
    load_strictly(network, weights, what="LD-Lite")
    return NetworkTeacher(network, name="ldlite", weights=[weights], device=device)
