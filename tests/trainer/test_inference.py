from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
onnx = pytest.importorskip("onnx", reason="export needs onnx: pip install -e '.[train]'")

from rtfusion_trainer.config import Network  # noqa: E402
from rtfusion_trainer.export import to_onnx  # noqa: E402
from rtfusion_trainer.inference import Inference, layers_of  # noqa: E402
from rtfusion_trainer.student import Student  # noqa: E402

from rtfusion.engines import open_engine  # noqa: E402
from rtfusion.engines.onnx_module import OPERATORS  # noqa: E402
from rtfusion.kernels.layers import CompiledLayers  # noqa: E402
from rtfusion.kernels.twin import TwinLayers  # noqa: E402
from rtfusion.models.spec import IMAGE_INPUTS  # noqa: E402
from tests.support import needs_kernels  # noqa: E402

BANDS = "visible", "thermal"

NETWORKS = {"small": Network(coring=3.0), "large": Network(name="large", width=64, depth=1, context=48)}
SIZES_PX = ((64, 48), (120, 104))


def trained(network):
    """A student whose heads, sides and offsets all say something."""
    torch.manual_seed(0)
    student = Student(network)
    with torch.no_grad():
        for head in student.heads():
            head.weight.mul_(20)
            head.bias.normal_(std=0.2)
        student.slope.add_(torch.tensor([0.3, -0.2, 0.5]))
    return student.eval()


def pictures(size_px, *, dial):
    width, height = size_px
    coarse = torch.rand(2, 1, height // 8, width // 8)
    scene = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    scene = (scene + 0.05 * torch.randn(scene.shape)).clamp(0, 1)
    scalars = {"enhance": dial, "visible_mean": 0.35, "thermal_mean": 0.6}
    tensors = {name: torch.full((1, 1, 1, 1), value) for name, value in scalars.items()}
    return {"visible_y": scene[:1].contiguous(), "thermal": scene[1:].contiguous(), **tensors}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dial", [0.0, 0.5, 0.85, 1.0])
def test_it_is_the_student_up_to_rounding(name, dial):
    student = trained(NETWORKS[name])
    inference = Inference(student).double()
    student = student.double()
    for size_px in SIZES_PX:
        inputs = {key: tensor.double() for key, tensor in pictures(size_px, dial=dial).items()}
        with torch.no_grad():
            raw, fused = student(**inputs), inference(**inputs)
        assert fused.shape == raw.shape
        assert (raw < 0).any(), "the clipping at 0 has something to do"
        torch.testing.assert_close(fused, raw.clamp(0, 1), rtol=0, atol=1e-6)


def test_one_band_that_is_flat_and_both_at_their_ends():
    student = trained(Network())
    inference = Inference(student)
    inputs = pictures((64, 48), dial=0.5)
    for visible, thermal in ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0)):
        inputs |= {"visible_y": torch.full((1, 1, 48, 64), visible), "thermal": torch.full((1, 1, 48, 64), thermal)}
        with torch.no_grad():
            torch.testing.assert_close(inference(**inputs), student(**inputs).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_engine_computes_its_graph(name, engine, tmp_path):
    if engine != "pytorch":
        pytest.importorskip(engine)
    student = trained(NETWORKS[name])
    model = to_onnx(student)
    assert {node.op_type for node in model.graph.node} <= OPERATORS.keys()
    assert model.opset_import[0].version == 17
    onnx.save(model, tmp_path / "model.onnx")
    for size_px in SIZES_PX:
        inputs = pictures(size_px, dial=0.5)
        with torch.no_grad():
            expected = student(**inputs).clamp(0, 1)
        opened = open_engine(engine, model=tmp_path / "model.onnx", size_px=size_px, threads=1)
        fused = opened.run(inputs={key: tensor.numpy() for key, tensor in inputs.items()})["fused_y"]
        torch.testing.assert_close(torch.from_numpy(fused), expected, rtol=0, atol=1e-5)
        opened.close()


# --- the fixed part, as a host computes it ---


def learned(inference, inputs):
    """What goes into the learned part of a student and comes out of it."""
    found = {}
    parts = {
        "seen": inference.trunk.enter,
        "visible": inference.fine_visible,
        "thermal": inference.fine_thermal,
        "heads": inference.heads,
    }
    for name, part in parts.items():
        part.register_forward_hook(lambda _part, given, made, name=name: found.update({name: (given[0], made)}))
    with torch.no_grad():
        fused = inference(**inputs)
    return found["seen"][0], [found[name][1] for name in ("visible", "thermal", "heads")], fused


@pytest.mark.parametrize("kind", [TwinLayers, pytest.param(CompiledLayers, marks=needs_kernels)])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dial", [0.5, 1.0])
def test_the_fixed_part_is_that_of_the_student(name, dial, kind):
    student = trained(NETWORKS[name])
    size_px = 120, 104
    inputs = pictures(size_px, dial=dial)
    for band in ("visible_y", "thermal"):
        inputs[band] = (255 * inputs[band]).round() / 255
    seen, (*gains, heads), fused = learned(Inference(student), inputs)
    layers = layers_of(student, [{key: tensor.numpy() for key, tensor in inputs.items()}])
    ends = [(float(gain.min()), float(gain.max())) for gain in gains]
    for measured, (low, high) in zip((layers.visible_gains, layers.thermal_gains), ends, strict=True):
        assert low <= measured[0] < measured[1] <= high
    layers = layers.model_copy(update={"visible_gains": ends[0], "thermal_gains": ends[1]})

    host = kind(layers, size_px=size_px, padded_px=size_px)
    got = np.zeros((1, *host.grid, 40), np.uint8)
    images = {
        band: (255 * inputs[key][0, 0]).round().byte().numpy() for band, key in zip(BANDS, IMAGE_INPUTS, strict=True)
    }
    means = float(inputs["visible_mean"]), float(inputs["thermal_mean"])
    host.split(**images, means=means, enhance=dial, seen=got)
    assert np.abs(got[0] - 255 * seen[0].permute(1, 2, 0).numpy()).max() <= 0.51

    levels = [(255 * (gain - low) / (high - low)).round() for gain, (low, high) in zip(gains, ends, strict=True)]
    said = heads.permute(0, 2, 3, 1).contiguous().numpy()
    said[..., [5, 7]] = 0  # the rests of what is rounded: nothing is
    made = np.zeros(size_px[::-1], np.uint8)
    host.join(gains=torch.cat(levels, 1).permute(0, 2, 3, 1).byte().contiguous().numpy(), heads=said, fused=made)
    apart = np.abs(made - 255 * fused[0, 0].numpy())
    # half a level of rounding, and the gains in 256 steps of at most 100 gray levels of detail
    steps = sum((high - low) / 255 for low, high in ends)
    assert apart.mean() < 0.5
    assert apart.max() < 0.6 + 0.5 * 100 * steps
