from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Network  # noqa: E402
from rtfusion_trainer.student import BLOCK_PX, REACH_PX, STRIDE_PX, Layers, Student, cored  # noqa: E402

SMALL = Network()
LARGE = Network(name="large", width=64, depth=1, context=48)


@pytest.fixture
def student():
    """A student with an opinion: a fresh one hardly has any."""
    torch.manual_seed(0)
    made = Student(SMALL).eval()
    for head in made.heads():
        torch.nn.init.normal_(head.weight, std=0.1)
    return made


def scene(height, width, *, seed=0):
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.random((height, width)).astype(np.float32), (0, 0), 1.5)
    return torch.from_numpy(cv2.normalize(noise, None, 0, 1, cv2.NORM_MINMAX))[None, None]


def fuse(student, visible, thermal, enhance=0.5, mean=0.5):
    with torch.no_grad():
        return student(visible, thermal, *(torch.full((1, 1, 1, 1), value) for value in (enhance, mean, mean)))


def layers_of(image):
    """d0, and the sum of d1, d2 and base, of a band that is given twice."""
    layers = Layers()
    band = layers.blocks(image)
    fine, _, coarse, base = layers.split(band, band)
    return fine, coarse[:, ::2], base[:, :1]


def joined(fine, smooth):
    return torch.nn.functional.pixel_shuffle(fine + Layers().interpolate(smooth), BLOCK_PX)


def test_the_layers_of_a_band_add_up_to_it():
    image = scene(64, 80)
    fine, coarse, base = layers_of(image)
    torch.testing.assert_close(joined(fine, coarse.sum(dim=1, keepdim=True) + base), image, atol=1e-6, rtol=0)


def test_blocks_are_pixel_unshuffle():
    image = scene(16, 24)
    torch.testing.assert_close(Layers().blocks(image), torch.nn.functional.pixel_unshuffle(image, BLOCK_PX))


def test_a_ramp_has_no_detail_away_from_the_border():
    ramp = torch.linspace(0, 1, 160).expand(1, 1, 160, 160)
    fine, coarse, base = layers_of(ramp)
    assert fine[..., 8:-8, 8:-8].abs().max() < 1e-6
    assert coarse[..., 8:-8, 8:-8].abs().max() < 1e-6
    means = torch.nn.functional.avg_pool2d(ramp, BLOCK_PX)
    torch.testing.assert_close(base[..., 8:-8, 8:-8], means[..., 8:-8, 8:-8], atol=1e-6, rtol=0)


def test_without_an_opinion_two_equal_bands_keep_their_base_and_gain_detail():
    """Details are shown PICK_GAIN-fold, the base as it is; see the formula of `rtfusion_trainer.student`."""
    fresh, image = Student(SMALL), scene(64, 64)
    for head in fresh.heads():
        torch.nn.init.zeros_(head.weight)
    fine, coarse, base = layers_of(image)
    wanted = joined(1.2 * fine, 1.2 * coarse.sum(dim=1, keepdim=True) + base)
    torch.testing.assert_close(fuse(fresh, image, image), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (8, 200), (64, 72), (136, 104)])
def test_output_has_the_size_of_the_input(student, size):
    assert fuse(student, scene(*size), scene(*size, seed=1)).shape == (1, 1, *size)


def test_the_picture_moves_with_the_scene(student):
    visible, thermal = scene(256, 256), scene(256, 256, seed=1)
    whole = fuse(student, visible, thermal)
    part = fuse(student, visible[..., STRIDE_PX:, STRIDE_PX:], thermal[..., STRIDE_PX:, STRIDE_PX:])
    inside = slice(REACH_PX, -REACH_PX)
    torch.testing.assert_close(
        part[..., inside, inside], whole[..., STRIDE_PX:, STRIDE_PX:][..., inside, inside], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("enhance", [0.0, 0.5, 1.0])
def test_what_happens_out_of_reach_changes_nothing(student, enhance):
    visible, thermal = scene(240, 240), scene(240, 240, seed=1)
    heated = thermal.clone()
    heated[..., :32, :32] = 1
    difference = (fuse(student, visible, heated, enhance) - fuse(student, visible, thermal, enhance)).abs()
    assert difference[..., :32, :32].max() > 0
    assert difference[..., 32 + REACH_PX :, :].max() == 0
    assert difference[..., :, 32 + REACH_PX :].max() == 0


def macs_per_pixel(network: Network) -> float:
    """Multiplications of the trained convolutions for each pixel of the picture, counted while it is fused."""
    counts = []

    def count(layer, inputs, output):
        counts.append(output[0].numel() * layer.weight[0].numel())

    made, image = Student(network), torch.zeros(1, 1, 64, 64)
    for layer in made.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    fuse(made, image, image)
    return sum(counts) / image.numel()


@pytest.mark.parametrize(("network", "parameters", "macs"), [(SMALL, 57_000, 3_000), (LARGE, 220_000, 12_000)])
def test_both_sizes_keep_their_budget(network, parameters, macs):
    assert sum(parameter.numel() for parameter in Student(network).parameters()) < parameters
    assert macs_per_pixel(network) < macs


@pytest.mark.parametrize(("step_levels", "least", "most"), [(1, 0.0, 0.3), (40, 0.8, 1.1)])
def test_a_gain_is_for_what_stands_out_of_noise_and_of_the_steps_of_8_bits(step_levels, least, most):
    """With gains of 8, a step of one gray level must not become a contour, while one of 40 is amplified as it would be."""
    thermal = torch.full((1, 1, 96, 96), 30 / 255)
    thermal[..., 48:] += step_levels / 255
    spans = {}
    for coring in (0.0, 3.0):
        made = Student(Network(coring=coring)).eval()
        for head in made.heads():
            torch.nn.init.zeros_(head.weight)
        for head in (made.fine_thermal, made.coarse):
            torch.nn.init.constant_(head.bias, 8.0)
        fused = fuse(made, torch.full_like(thermal, 0.4), thermal)
        spans[coring] = float(fused.max() - fused.min())
    assert spans[0.0] * 255 > 3 * step_levels
    assert least < spans[3.0] / spans[0.0] < most


@pytest.mark.parametrize(("enhance", "least", "most"), [(0.7, 0.95, 1.05), (0.85, 0.5, 0.75), (1.0, 0.0, 0.45)])
def test_noise_is_left_out_at_the_far_end_of_the_dial(enhance, least, most):
    """Against the same network that the dial says nothing to."""
    torch.manual_seed(0)
    made = Student(Network()).eval()
    with torch.no_grad():
        for layer in (made.trunk.scene_before, made.trunk.scene_after):
            layer.weight[:, 2] = 0
    noise = 0.5 + torch.randn(2, 1, 96, 96) * (2 / 255)
    passed = [float(fuse(made, noise[:1], noise[1:], dial).std()) for dial in (enhance, 0.0)]
    assert least < passed[0] / passed[1] < most


def test_an_edge_is_as_sharp_at_the_far_end_of_the_dial():
    made = Student(Network()).eval()
    visible = torch.full((1, 1, 96, 96), 0.4)
    thermal = visible.clone()
    thermal[..., 46:] += 60 / 255  # not at the rim of a block
    steps = [fuse(made, visible, thermal, dial).diff(dim=3).abs().max() for dial in (0.0, 1.0)]
    assert steps[1] > 0.95 * steps[0]


def test_what_attenuates_is_not_cored():
    gains, strength = torch.tensor([-1.0, -1.0, 2.0, 2.0]), torch.tensor([1.0, 30.0, 1.0, 30.0]) / 255
    torch.testing.assert_close(cored(gains, strength, 4.0), torch.tensor([-1.0, -1.0, 0.5, 2.0]))
    assert cored(gains, strength, 0.0) is gains
