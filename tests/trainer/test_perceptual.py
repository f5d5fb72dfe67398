from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.losses.perceptual import Vgg19Features, load_vgg19, perceptual_loss  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402


def test_the_loss_compares_with_the_larger_features_by_hand() -> None:
    def features(*values: float) -> dict[str, Any]:
        return {
            "a": torch.tensor(values[:2], dtype=torch.float32).reshape(1, 1, 1, 2),
            "b": torch.tensor(values[2:], dtype=torch.float32).reshape(1, 1, 1, 1),
        }

    value = perceptual_loss(fused=features(1, 2, 3), visible=features(0, 4, 3), thermal=features(3, 1, 5))
    assert value.tolist() == [((1 - 3) ** 2 + (2 - 4) ** 2) / 2 + (3 - 5) ** 2]


def test_the_gradient_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    fused, visible, thermal = (torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    sources = {"visible": {"a": visible}, "thermal": {"a": thermal}}
    assert torch.autograd.gradcheck(lambda x: perceptual_loss(fused={"a": x}, **sources), (fused.requires_grad_(),))


def test_torchvision_weights_give_torchvision_features(tmp_path: Path) -> None:
    from rtfusion_trainer.torchvision_shim import ensure_torchvision

    if ensure_torchvision() == "absent":
        pytest.skip("torchvision is not installed: pip install -e '.[train]'")
    from torchvision.models import vgg

    torch.manual_seed(0)
    reference = vgg.make_layers(vgg.cfgs["E"][:13]).eval()  # up to conv4_2
    torch.save({f"features.{name}": value for name, value in reference.state_dict().items()}, tmp_path / "vgg19.pth")
    network = load_vgg19(tmp_path / "vgg19.pth", layers=("conv2_1", "conv3_1", "conv4_2"))
    image = torch.rand(1, 1, 35, 50)
    found = network(image)
    x = image.repeat(1, 3, 1, 1)
    after_relu = {6: "conv2_1", 11: "conv3_1", 22: "conv4_2"}
    with torch.no_grad():
        for index, layer in enumerate(reference):
            x = layer(x)
            if index in after_relu:
                assert torch.allclose(found.pop(after_relu[index]), x, atol=1e-6)
    assert not found


def test_gradients_reach_the_picture_and_no_weight() -> None:
    network = Vgg19Features(("conv1_2",))
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    network(image)["conv1_2"].sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_fitting_weights_the_error_says_what_to_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--vgg-weights FILE"):
        load_vgg19(None, layers=("conv2_1",))
    with pytest.raises(ConfigError, match="there is no file"):
        load_vgg19(tmp_path / "none.pth", layers=("conv2_1",))
    with pytest.raises(ConfigError, match="no layer conv9_1"):
        Vgg19Features(("conv9_1",))
    (tmp_path / "text.pth").write_text("not a state dict")
    with pytest.raises(ModelError, match="cannot read"):
        load_vgg19(tmp_path / "text.pth", layers=("conv2_1",))
    short = {f"features.0.{kind}": torch.zeros(shape) for kind, shape in (("weight", (64, 3, 3, 3)), ("bias", (64,)))}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(ModelError, match=r"has no 'features\.2\.weight', which conv1_2 needs"):
        load_vgg19(tmp_path / "short.pth", layers=("conv1_2",))
    torch.save({**short, "features.0.bias": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="is no VGG-19"):
        load_vgg19(tmp_path / "odd.pth", layers=("conv1_1",))


@pytest.mark.shared
def test_the_normalized_network_averages_to_one_and_ends_at_conv3_1(shared_data: Path) -> None:
    import cv2

    weights = shared_data.parent / "weights" / "vgg19_relu3_1" / "vgg_normalised_conv3_1.pth"
    network = load_vgg19(weights, layers=("conv1_1", "conv2_1", "conv3_1"))
    # 555,340 in the file, of which conv1_1 .. conv3_1 and the entrance: all
    assert sum(parameter.numel() for parameter in network.parameters()) == 555_340
    picture = cv2.imread(str(sorted((shared_data / "train" / "roadscene" / "vi").iterdir())[0]))[..., ::-1] / 255.0
    found = network(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    for features in found.values():
        assert 0.3 < features.mean().item() < 3  # scaled to average 1 over many pictures
    with pytest.raises(ModelError, match="take a deeper VGG-19"):
        load_vgg19(weights, layers=("conv4_2",))
