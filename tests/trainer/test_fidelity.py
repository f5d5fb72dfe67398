from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.losses import fidelity  # noqa: E402

from rtfusion.evaluate import metrics  # noqa: E402

SIZE_PX = 128


def plane(seed, *, size_px=SIZE_PX, sigma_px=2.0):
    random = np.random.default_rng(seed)
    image = cv2.GaussianBlur(random.random((size_px, size_px)), (0, 0), sigma_px)
    return np.round(cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)).astype(np.uint8)


def tensor(image):
    return torch.from_numpy(image.astype(np.float32) / 255)[None, None]


@pytest.fixture
def images():
    visible, thermal = plane(0), plane(1, sigma_px=4.0)
    fused = np.round(0.6 * visible + 0.4 * thermal).astype(np.uint8)
    return {"fused": fused, "visible": visible, "thermal": thermal}


def tensors(images):
    return {name: tensor(image) for name, image in images.items()}


def test_gradient_of_a_ramp_is_its_slope():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) * 0.1
    x, y = fidelity.gradients(ramp)
    torch.testing.assert_close(x, torch.full((1, 1, 6, 6), 0.1))
    torch.testing.assert_close(y, torch.zeros(1, 1, 6, 6), atol=1e-6, rtol=0)


def test_gradient_loss_wants_the_longer_gradient_with_its_sign():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) * 0.1
    gain = torch.ones(1, 1, 1, 1)
    sources = {"visible": ramp * 0.5, "thermal": -ramp}
    assert fidelity.gradient_loss(-ramp, gain=gain, **sources).item() == pytest.approx(0, abs=1e-6)
    assert fidelity.gradient_loss(ramp, gain=gain, **sources).item() == pytest.approx(0.2, abs=1e-6)
    assert fidelity.gradient_loss(-1.5 * ramp, gain=1.5 * gain, **sources).item() == pytest.approx(0, abs=1e-6)


def test_edge_loss_is_near_the_metric(images):
    # The metric takes the rim of the picture for an edge, and angles of -89 and 89 degrees for far apart; the loss does not.
    assert 1 - fidelity.edge_loss(**tensors(images)).item() == pytest.approx(metrics.qabf(**images), abs=0.06)


def test_vif_loss_follows_the_metric(images):
    better = {**images, "fused": images["visible"]}
    worse = {**images, "fused": cv2.GaussianBlur(images["fused"], (0, 0), 3)}
    order = [fidelity.vif_loss(**tensors(case)).item() for case in (better, images, worse)]
    assert order == sorted(order)
    assert 2 - order[1] == pytest.approx(metrics.vif(**images), abs=0.2)


def test_ssim_loss_is_zero_for_three_equal_images(images):
    same = tensor(images["visible"])
    assert fidelity.ssim_loss(same, visible=same, thermal=same).item() == pytest.approx(0, abs=1e-4)


def test_correlation_and_scd_are_the_metrics(images):
    fused, *bands = (tensors(images)[name] for name in ("fused", "visible", "thermal"))
    correlations = [fidelity.correlation(fused, band).item() for band in bands]
    assert sum(correlations) / 2 == pytest.approx(metrics.correlation(**images), abs=1e-4)
    assert 2 - fidelity.scd_loss(**tensors(images)).item() == pytest.approx(metrics.scd(**images), abs=1e-3)


def test_source_loss_is_zero_for_the_average_and_grows_beside_it(images):
    bands = {name: tensors(images)[name] for name in ("visible", "thermal")}
    average = (bands["visible"] + bands["thermal"]) / 2
    assert fidelity.source_loss(average, **bands).item() == pytest.approx(0, abs=1e-6)
    assert fidelity.source_loss(average + 0.1, **bands).item() > 0.1


def test_contrast_stops_when_the_wanted_is_reached(images):
    bands = {name: tensors(images)[name] for name in ("visible", "thermal")}
    strong = bands["visible"] * 3
    assert fidelity.contrast_loss(strong, gain=torch.ones(1), **bands).item() == 0
    assert fidelity.contrast_loss(bands["visible"] * 0, gain=torch.ones(1), **bands).item() > 1


def person_with_a_dark_ring():
    thermal = np.full((SIZE_PX, SIZE_PX), 60, np.uint8)
    thermal[48:80, 56:72] = 230
    visible = np.full_like(thermal, 120)
    distance_px = cv2.distanceTransform((thermal < 200).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    fused = np.where(distance_px == 0, 220, 120).astype(np.uint8)
    ring = np.where((distance_px > 0) & (distance_px < 12), 100, fused).astype(np.uint8)
    return {"visible": visible, "thermal": thermal}, fused, ring, torch.from_numpy(distance_px)[None, None]


def test_halo_loss_is_the_metric():
    bands, clean, ring, distance_px = person_with_a_dark_ring()
    sources = {name: tensor(image) for name, image in bands.items()}
    assert fidelity.halo_loss(tensor(clean), distance_px=distance_px, **sources).item() == 0
    loss = fidelity.halo_loss(tensor(ring), distance_px=distance_px, **sources).item()
    assert loss * 255 == pytest.approx(metrics.halo(fused=ring, **bands), abs=0.01)
    assert loss * 255 == pytest.approx(20, abs=0.01)


def test_dip_and_seam_losses_see_the_ring():
    bands, clean, ring, distance_px = person_with_a_dark_ring()
    sources = {name: tensor(image) for name, image in bands.items()}
    dips = [fidelity.dip_loss(tensor(image), distance_px=distance_px, **sources).item() for image in (clean, ring)]
    assert dips[0] == pytest.approx(0, abs=1e-6)
    assert dips[1] > 0.5 / 255
    glow = np.where((ring == 100), 140, clean).astype(np.uint8)
    assert fidelity.dip_loss(tensor(glow), distance_px=distance_px, **sources).item() > 0
    seams = [fidelity.seam_loss(tensor(image), gain=1.0, **sources).item() for image in (clean, ring)]
    assert seams[1] > 2 * seams[0]


def test_steadiness_looks_only_where_it_may():
    fused, previous = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    valid = torch.zeros(1, 1, 4, 4)
    assert fidelity.steadiness_loss(fused, previous=previous, valid=valid).item() == 0
    valid[..., :2] = 1
    assert fidelity.steadiness_loss(fused, previous=previous, valid=valid).item() == pytest.approx(8 / 9)


def smooth_terms(bands, distance_px):
    gain, one = torch.full((1, 1, 48, 48), 1.1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return {
        "gradient": lambda f: fidelity.gradient_loss(f, gain=gain, **bands),
        "edges": lambda f: fidelity.edge_loss(f, **bands),
        "ssim": lambda f: fidelity.ssim_loss(f, **bands),
        "vif": lambda f: fidelity.vif_loss(f, **bands),
        "sources": lambda f: fidelity.source_loss(f, **bands),
        "scd": lambda f: fidelity.scd_loss(f, **bands),
        "contrast": lambda f: fidelity.contrast_loss(f, gain=2 * one, **bands),
        "seam": lambda f: fidelity.seam_loss(f, gain=0.5, **bands),
        "halo": lambda f: fidelity.halo_loss(f, distance_px=distance_px, **bands),
        "dip": lambda f: fidelity.dip_loss(f, distance_px=distance_px, **bands),
    }


NAMES = tuple(smooth_terms({}, None))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name):
    def image(seed):
        return tensor(plane(seed, size_px=48)).double()

    distance_px = torch.from_numpy(np.hypot(*np.mgrid[-8:40, -8:40]))[None, None]
    term = smooth_terms({"visible": image(1), "thermal": image(2)}, distance_px)[name]
    noise, direction = torch.from_numpy(np.random.default_rng(4).standard_normal((2, 1, 1, 48, 48)))
    fused = (0.5 * image(1) + 0.3 * image(2) + 0.05 * image(3) + 1e-3 * noise).requires_grad_()
    term(fused).sum().backward()
    step = 1e-6
    with torch.no_grad():
        slope = (term(fused + step * direction) - term(fused - step * direction)).sum().item() / (2 * step)
    assert math.isfinite(slope)
    assert (fused.grad * direction).sum().item() == pytest.approx(slope, rel=2e-3, abs=1e-6)
