from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install 'rtfusion[train]'")

from trainer.config import Network  # noqa: E402
from trainer.student import BASE_CONTRAST, REACH_PX, STRIDE_PX, BlockPyramid, Student, blocks, macs_per_pixel  # noqa: E402


@pytest.fixture
def student():
    """A student with an opinion: the head of a fresh one is zero."""
    torch.manual_seed(0)
    made = Student(Network()).eval()
    torch.nn.init.normal_(made.head.weight, std=0.1)
    return made


def scene(height, width, *, seed=0):
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.random((height, width)).astype(np.float32), (0, 0), 1.5)
    return torch.from_numpy(cv2.normalize(noise, None, 0, 1, cv2.NORM_MINMAX))[None, None]


def fuse(student, visible, thermal, enhance=0.5, mean=0.5):
    with torch.no_grad():
        return student(visible, thermal, *(torch.full((1, 1, 1, 1), value) for value in (enhance, mean, mean)))


def test_levels_are_those_of_opencv_away_from_the_border():
    image = scene(96, 128)
    d0, d1, *coarse = BlockPyramid().split(blocks(image))
    plane = image[0, 0].numpy()
    g1 = cv2.pyrDown(plane)
    g2 = cv2.pyrDown(g1)
    fine = torch.nn.functional.pixel_shuffle(d0, 4)[0, 0].numpy()
    middle = torch.nn.functional.pixel_shuffle(d1, 2)[0, 0].numpy()
    np.testing.assert_allclose(fine[8:-8, 8:-8], (plane - cv2.pyrUp(g1))[8:-8, 8:-8], atol=1e-6)
    np.testing.assert_allclose(middle[8:-8, 8:-8], (g1 - cv2.pyrUp(g2))[8:-8, 8:-8], atol=1e-6)
    np.testing.assert_allclose(sum(coarse)[0, 0].numpy()[4:-4, 4:-4], g2[4:-4, 4:-4], atol=1e-6)


def test_joining_undoes_splitting_up_to_the_border():
    image = scene(64, 80)
    pyramid = BlockPyramid()
    torch.testing.assert_close(pyramid.join(pyramid.split(blocks(image))), image, atol=1e-6, rtol=0)


def test_two_equal_bands_come_out_as_they_are():
    image = scene(64, 64)
    fresh = Student(Network())
    torch.testing.assert_close(fuse(fresh, image, image, enhance=0.0), image, atol=1e-5, rtol=0)


def test_the_dial_raises_contrast_about_the_mean():
    fresh, scenes = Student(Network()), (scene(64, 64), scene(64, 64, seed=1))
    low, middle, high = (fuse(fresh, *scenes, enhance=enhance).std().item() for enhance in (0.0, 0.5, 1.0))
    assert low < middle < high
    flat = torch.full((1, 1, 64, 64), 0.7)
    assert fuse(fresh, flat, flat, enhance=1.0, mean=0.5).mean().item() == pytest.approx(
        0.5 + 0.2 * (1 + BASE_CONTRAST)
    )


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


def test_the_small_one_is_small(student):
    parameters = sum(parameter.numel() for parameter in student.parameters())
    assert parameters < 48_000
    assert macs_per_pixel(student.network) < 3_000
