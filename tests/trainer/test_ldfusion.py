from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.teachers.ldfusion import (  # noqa: E402
    AdaptiveInstanceNorm,
    LdFusion,
    PictureNorm,
    ldfusion_teacher,
    load_strictly,
)

from rtfusion.errors import ConfigError, ModelError  # noqa: E402


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_parameter_counts_are_the_published_ones() -> None:
    network = LdFusion()
    assert count(network) == 5_776_977
    assert count(network.encoder) == 1_742_736
    assert count(network.decoder) == 4_034_241
    assert count(network.decoder.mlp) == 596_480


Shapes = dict[str, tuple[int, ...]]


def layer(name: str, *shape: int, bias: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": (bias,)}


def published_encoder() -> Shapes:
    """Names and shapes of Enc_final.pt, written down from the published description."""
    shapes: Shapes = {}
    for band in "12":
        content, style = f"content_encoder{band}.model", f"style_encoder{band}.model"
        for kind in (content, style):
            shapes |= layer(f"{kind}.1", 16, 1, 7, 7, bias=16)
        for index, width in ((4, 32), (7, 64), (10, 128)):
            shapes |= layer(f"{content}.{index}", width, width // 2, 4, 4, bias=width)
        for index in ("13.block.1", "13.block.5", "14.block.1", "14.block.5"):
            shapes |= layer(f"{content}.{index}", 128, 128, 3, 3, bias=128)
        for index, outputs, inputs in ((3, 32, 16), (5, 64, 32), (7, 64, 64)):
            shapes |= layer(f"{style}.{index}", outputs, inputs, 4, 4, bias=outputs)
        shapes |= layer(f"{style}.10", 8, 64, 1, 1, bias=8)
    return shapes


def published_decoder() -> Shapes:
    """Names and shapes of Dec_final.pt."""
    shapes: Shapes = {}
    for block in ("model_local.0.block", "model_local.1.block"):
        for convolution, norm in ((1, 2), (5, 6)):
            shapes |= layer(f"{block}.{convolution}", 256, 256, 3, 3, bias=256)
            shapes |= {f"{block}.{norm}.running_mean": (256,), f"{block}.{norm}.running_var": (256,)}
    for index, width in ((0, 256), (3, 128), (6, 64)):
        shapes |= layer(f"model_up.{index}", width, width // 2, 5, 5, bias=width // 2)
        shapes |= {f"model_up.{index + 1}.gamma": (width // 2,), f"model_up.{index + 1}.beta": (width // 2,)}
    shapes |= layer("model_up.10", 1, 32, 7, 7, bias=1)
    for index, outputs, inputs in ((0, 256, 16), (2, 256, 256), (4, 2048, 256)):
        shapes |= layer(f"mlp.model.{index}", outputs, inputs, bias=outputs)
    return shapes


def random_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_state_dicts_of_the_published_layout_load_strictly(tmp_path: Path) -> None:
    encoder, decoder = (random_state(shapes()) for shapes in (published_encoder, published_decoder))
    torch.save(encoder, tmp_path / "Enc_final.pt")
    torch.save(decoder, tmp_path / "Dec_final.pt")
    network = LdFusion()
    load_strictly(network.decoder, tmp_path / "Dec_final.pt", what="LDFusion decoder")
    assert torch.equal(network.decoder.mlp.model[4].weight, decoder["mlp.model.4.weight"])
    teacher = ldfusion_teacher(tmp_path)
    image = np.arange(40 * 52, dtype=np.uint8).reshape(40, 52)
    fused = teacher(visible=image, thermal=image[::-1].copy())
    assert fused.shape == (40, 52)
    assert fused.dtype == np.float32


def test_anything_missing_or_more_is_refused(tmp_path: Path) -> None:
    encoder, decoder = (random_state(shapes()) for shapes in (published_encoder, published_decoder))
    torch.save(encoder, tmp_path / "Enc_final.pt")
    with pytest.raises(ConfigError, match="there is no LDFusion decoder"):
        ldfusion_teacher(tmp_path)
    for changed in ({**decoder, "extra": torch.zeros(1)}, {k: v for k, v in decoder.items() if "beta" not in k}):
        torch.save(changed, tmp_path / "Dec_final.pt")
        with pytest.raises(ModelError, match="is no LDFusion decoder"):
            ldfusion_teacher(tmp_path)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (40, 64)])
def test_the_output_has_the_size_of_the_input_and_its_range(size: tuple[int, int]) -> None:
    network = LdFusion()
    with torch.no_grad():
        fused = network(visible=torch.rand(2, 1, *size), thermal=torch.rand(2, 1, *size))
    assert fused.shape == (2, 1, *size)
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_adaptive_normalization_sets_mean_and_deviation() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    shift, scale = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[0.5, 1, 2], [3, 4, 5]])
    y = AdaptiveInstanceNorm(3)(x, shift=shift, scale=scale)
    assert torch.allclose(y.mean(dim=(2, 3)), shift, atol=1e-5)
    assert torch.allclose(y.var(dim=(2, 3), unbiased=False).sqrt(), scale, rtol=1e-4)


def test_picture_normalization_by_hand() -> None:
    norm = PictureNorm(2)
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor([1.0, 2.0]))
        norm.beta.copy_(torch.tensor([0.0, 10.0]))
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 1, 2)
    deviation = (5 / 3) ** 0.5  # with N - 1
    expected = [-1.5 / deviation, -0.5 / deviation, 10 + 1 / deviation, 10 + 3 / deviation]
    assert norm(x).flatten().tolist() == pytest.approx(expected, abs=1e-3)


def test_forward_changes_no_state_and_each_picture_has_its_own_style() -> None:
    network = LdFusion().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    visible, thermal = (torch.rand(2, 1, 24, 24, generator=generator) for _ in range(2))
    with torch.no_grad():
        both = network(visible=visible, thermal=thermal)
        alone = network(visible=visible[1:], thermal=thermal[1:])
    assert torch.allclose(both[1:], alone, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
