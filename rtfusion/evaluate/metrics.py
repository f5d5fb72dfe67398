"""The quality of a fused image in numbers: the field's image metrics, temporal stability, the halo around hot targets.

Pure functions of 8-bit gray images: (H, W) uint8, all of one size, passed by name. The image metrics compute in float64.
Implementations in the field differ by factors; the definitions here are those of Tang's evaluation code (Linfeng-Tang,
Evaluation-for-Image-Fusion) in floating point, without the 8-bit saturation that its older MATLAB version had in SD, MI
and VIF. Compare only values that came out of one implementation.

One rule for degenerate images: a ratio to the variation, the edges or the information of an image that has none is 0.
All functions raise ValueError for images of another type, dimension or size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import Image8

Array = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]

SSIM_WINDOW_PX = 11
VIF_SMALLEST_PX = 41  # in anything smaller the coarsest of its four scales is empty
FLOW_SMALLEST_PX = 16
FLOW_TOLERANCE_PX = 1.0
LEAK_DISTANCE_PX = 64
NOISE_SIGMA = 2.0
"""Gray levels of the sensor noise that the noise of a still scene is measured with."""


def image_metrics(*, fused: Image8, visible: Image8, thermal: Image8) -> dict[str, float]:
    """All twelve image metrics of one fused image, under the short names that the field prints.

    Higher is better but for Nabf. EN, SD, SF and AG see the fused image alone and rise with noise as well. The images
    are at least 41 px high and wide (VIF).

    Returns:
        EN (bits), SD, SF, AG (gray levels), MI (bits), SCD, VIF, Qabf, SSIM, CC, PSNR (dB), Nabf, in this order.
    """
    return {
        "EN": entropy(fused=fused),
        "SD": standard_deviation(fused=fused),
        "SF": spatial_frequency(fused=fused),
        "AG": average_gradient(fused=fused),
        "MI": mutual_information(fused=fused, visible=visible, thermal=thermal),
        "SCD": scd(fused=fused, visible=visible, thermal=thermal),
        "VIF": vif(fused=fused, visible=visible, thermal=thermal),
        "Qabf": qabf(fused=fused, visible=visible, thermal=thermal),
        "SSIM": ssim(fused=fused, visible=visible, thermal=thermal),
        "CC": correlation(fused=fused, visible=visible, thermal=thermal),
        "PSNR": psnr(fused=fused, visible=visible, thermal=thermal),
        "Nabf": nabf(fused=fused, visible=visible, thermal=thermal),
    }


def entropy(*, fused: Image8) -> float:
    """EN: Shannon entropy of the 256-bin histogram, -sum p log2 p, in bits, 0 to 8."""
    _check(fused=fused)
    return _entropy_bits(np.bincount(fused.ravel(), minlength=256))


def standard_deviation(*, fused: Image8) -> float:
    """SD: sqrt(mean (F - mean F)^2), in gray levels, 0 to 127.5."""
    _check(fused=fused)
    return float(fused.std(dtype=np.float64))


def spatial_frequency(*, fused: Image8) -> float:
    """SF: sqrt(mean dx^2 + mean dy^2) of the forward differences, in gray levels of 0 to 255 (Tang prints SF / 255)."""
    _check(smallest_px=2, fused=fused)
    image = fused.astype(np.float64)
    return math.sqrt(np.square(np.diff(image, axis=0)).mean() + np.square(np.diff(image, axis=1)).mean())


def average_gradient(*, fused: Image8) -> float:
    """AG: sum sqrt((gx^2 + gy^2) / 2) / ((H - 1)(W - 1)), in gray levels.

    gx and gy are MATLAB's `gradient`: central differences, one-sided at the borders. Other codes use forward
    differences and get higher values.
    """
    _check(smallest_px=2, fused=fused)
    gy, gx = np.gradient(fused.astype(np.float64))
    return float(np.sqrt((gx * gx + gy * gy) / 2).sum() / ((fused.shape[0] - 1) * (fused.shape[1] - 1)))


def mutual_information(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """MI: I(visible; fused) + I(thermal; fused) from 256 x 256 joint histograms, in bits (elsewhere nats: x 0.693)."""
    _check(fused=fused, visible=visible, thermal=thermal)
    return _mutual_bits(visible, fused) + _mutual_bits(thermal, fused)


def scd(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """SCD: corr(F - thermal, visible) + corr(F - visible, thermal), -2 to 2 (Aslantas and Bendes, 2015)."""
    _check(fused=fused, visible=visible, thermal=thermal)
    f, v, t = (image.astype(np.float64) for image in (fused, visible, thermal))
    return _correlation(f - t, v) + _correlation(f - v, t)


def correlation(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """CC: mean of corr(F, visible) and corr(F, thermal), -1 to 1."""
    _check(fused=fused, visible=visible, thermal=thermal)
    f, v, t = (image.astype(np.float64) for image in (fused, visible, thermal))
    return (_correlation(f, v) + _correlation(f, t)) / 2


def psnr(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """PSNR as fusion papers print it: 20 log10(255 / sqrt(MSE)) dB, inf where the three images are equal.

    MSE is taken on images scaled to [0, 1] and averaged over the two sources, so that values lie near 60 dB:
    48.13 dB above the ordinary peak signal-to-noise ratio.
    """
    _check(fused=fused, visible=visible, thermal=thermal)
    f, v, t = (image.astype(np.float64) for image in (fused, visible, thermal))
    mse = float((np.square(f - v) + np.square(f - t)).mean()) / 2 / 255**2
    return 20 * math.log10(255 / math.sqrt(mse)) if mse else math.inf


def ssim(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """SSIM: mean of SSIM(visible, F) and SSIM(thermal, F), -1 to 1 (others print the sum).

    Wang et al. 2004: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, valid region only.
    """
    _check(smallest_px=SSIM_WINDOW_PX, fused=fused, visible=visible, thermal=thermal)
    f, v, t = (image.astype(np.float64) for image in (fused, visible, thermal))
    return (_ssim(v, f) + _ssim(t, f)) / 2


def vif(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """VIF: VIFp(visible, F) + VIFp(thermal, F), mostly 0.5 to 1.1, 2 where all are equal (others print the mean).

    The pixel-domain version of Sheikh and Bovik (vifp_mscale): four scales, Gaussian window of N = 2^(5 - scale) + 1 px
    and sigma N / 5, noise variance 2, valid regions only.
    """
    _check(smallest_px=VIF_SMALLEST_PX, fused=fused, visible=visible, thermal=thermal)
    f, v, t = (image.astype(np.float64) for image in (fused, visible, thermal))
    return _vif(v, f) + _vif(t, f)


def qabf(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """Qabf: share of the sources' edges that the fused image keeps, 0 to 1 (Xydeas and Petrovic, 2000).

    sum(Q_vf g_v + Q_tf g_t) / sum(g_v + g_t) with g the Sobel magnitude (zero-padded: the rim of the image is an edge),
    Q = Qg Qa of Qg = 0.9994 / (1 + exp(-15 (G - 0.5))), G the smaller magnitude over the larger, and
    Qa = 0.9879 / (1 + exp(-22 (A - 0.8))), A = 1 - |angle difference| / (pi / 2). Where both magnitudes are equal the
    reference code takes G = g, and so does this one.
    """
    _check(fused=fused, visible=visible, thermal=thermal)
    magnitude_f, angle_f = _edges_zero_padded(fused)
    kept = total = 0.0
    for source in (visible, thermal):
        magnitude, angle = _edges_zero_padded(source)
        strength = np.where(magnitude == magnitude_f, magnitude, _smaller_over_larger(magnitude, magnitude_f))
        alignment = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        quality = _sigmoid(strength, top=0.9994, slope=15, middle=0.5)
        quality *= _sigmoid(alignment, top=0.9879, slope=22, middle=0.8)
        kept += float((quality * magnitude).sum())
        total += float(magnitude.sum())
    return kept / total if total else 0.0


def nabf(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """Nabf: share of edges that are in the fused image and in no source, 0 to 1; lower is better.

    Petrovic's fusion artifacts as modified by B. K. Shreyamsha Kumar (analysis_nabf.m), on gray levels of 0 to 255:
    sum over pixels with g_f > g_v and g_f > g_t of (1 - Q_vf) w_v + (1 - Q_tf) w_t, over sum(w_v + w_t). g is the
    Sobel magnitude / 8 with mirrored borders; w = g^1.5 where g >= 2, else 0.001; Q = sqrt(Qg Qa) of
    Qg = 0.9999 / (1 + exp(-19 (G - 0.5))), G the smaller magnitude over the larger, and
    Qa = 0.9995 / (1 + exp(-22 (A - 0.5))), A = ||angle difference| - pi / 2| / (pi / 2).
    """
    _check(fused=fused, visible=visible, thermal=thermal)
    magnitude_f, angle_f = _edges_mirrored(fused)
    new = np.full(fused.shape, True)
    artifacts = np.zeros(fused.shape)
    total = 0.0
    for source in (visible, thermal):
        magnitude, angle = _edges_mirrored(source)
        alignment = np.abs(np.abs(angle - angle_f) - np.pi / 2) / (np.pi / 2)
        quality = _sigmoid(_smaller_over_larger(magnitude, magnitude_f), top=0.9999, slope=19, middle=0.5)
        quality = np.sqrt(quality * _sigmoid(alignment, top=0.9995, slope=22, middle=0.5))
        weight = np.where(magnitude >= 2, magnitude**1.5, 0.001)
        artifacts += (1 - quality) * weight
        total += float(weight.sum())
        new &= magnitude_f > magnitude
    return float(artifacts[new].sum()) / total


def warp_error(*, previous_fused: Image8, fused: Image8, previous_visible: Image8, visible: Image8) -> float:
    """Flicker: what the fused image changes beyond motion, over its contrast; a ratio, 0 is still, lower is better.

    mean |F - warp(previous F)| / SD(F). Motion is DIS optical flow of the visible images; only pixels count whose
    forward and backward flow agree within 1 px and which lie inside the previous image. Dividing by the contrast takes
    the reward for blur and grayness away. Pass the visible images as the fused ones for the reference to stay below.

    Returns:
        The ratio; inf for a fused image without contrast, nan where the flow agrees nowhere (a cut).
    """
    images = {
        "previous_fused": previous_fused,
        "fused": fused,
        "previous_visible": previous_visible,
        "visible": visible,
    }
    _check(smallest_px=FLOW_SMALLEST_PX, **images)
    map_x, map_y, consistent = _backward_flow(previous=previous_visible, current=visible)
    if not consistent.any():
        return math.nan
    warped = cv2.remap(previous_fused.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR)
    error = float(np.abs(fused - warped)[consistent].mean(dtype=np.float64))
    contrast = standard_deviation(fused=fused)
    return error / contrast if contrast else math.inf


def leak(*, fuse: Callable[..., Image8], visible: Image8, thermal: Image8) -> float:
    """Measure how far one hot object re-tones the rest of the image: mean |change| in gray levels, 0 is right.

    The pair is fused twice, the second time with a saturated square (side: an eighth of the shorter side) in the top
    left corner of the thermal image; pixels more than 64 px from the square are compared.

    Args:
        fuse: called as ``fuse(visible=..., thermal=...)``, gives (H, W) uint8; must not remember the first call.
        visible: (H, W) uint8, large enough that some pixel is so far from the square.
        thermal: (H, W) uint8.
    """
    _check(visible=visible, thermal=thermal)
    side_px = min(thermal.shape) // 8
    heated = thermal.copy()
    heated[:side_px, :side_px] = 255
    elsewhere = np.full(thermal.shape, 255, np.uint8)
    elsewhere[:side_px, :side_px] = 0
    far = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > LEAK_DISTANCE_PX
    if not side_px or not far.any():
        raise ValueError(f"images are {thermal.shape}; expected pixels over {LEAK_DISTANCE_PX} px from the square")
    # A copy: a fuser may hand out the same buffer again.
    before = fuse(visible=visible, thermal=thermal).astype(np.float64)
    after = fuse(visible=visible, thermal=heated).astype(np.float64)
    return float(np.abs(after - before)[far].mean())


def still_scene_noise(frames: Iterable[Image8]) -> float:
    """Temporal noise of a scene in which nothing moves: per-pixel standard deviation over time, averaged; gray levels.

    Takes two or more (H, W) uint8 frames, reads them once, one at a time, and divides by their number less one.
    """
    # Sums of the differences to the first frame, integers all: exact in float64, without cancellation.
    count, first = 0, None
    total = total_squares = np.zeros(())
    for frame in frames:
        first = frame.copy() if first is None else first
        _check(first=first, frame=frame)
        difference = frame.astype(np.float64) - first
        total = total + difference
        total_squares = total_squares + difference * difference
        count += 1
    if count < 2:
        raise ValueError(f"{count} frame(s); expected two or more")
    variance = (total_squares - total * total / count) / (count - 1)
    return float(np.sqrt(np.maximum(variance, 0)).mean())


def with_noise(image: Image8, *, rng: np.random.Generator) -> Image8:
    """Add fresh sensor noise of `NOISE_SIGMA` gray levels to a picture, (H, W) uint8."""
    return np.rint(image + rng.normal(0, NOISE_SIGMA, image.shape)).clip(0, 255).astype(np.uint8)


def finite(values: Iterable[float]) -> list[float]:
    """The values that could be measured: a cut has no flow, a picture without a hot target no halo."""
    return [value for value in values if math.isfinite(value)]


def finite_mean(values: Iterable[float]) -> float | None:
    """The mean of what could be measured; None where nothing could."""
    measured = finite(values)
    return sum(measured) / len(measured) if measured else None


def halo(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """Dark seam around hot targets that neither band has, in gray levels; 0 is right, above 1 it shows.

    dip(x) = mean of x 16 to 30 px from the hot targets - mean of x 2 to 8 px from them, hot being thermal above its
    mean plus two standard deviations; halo = max(0, dip(fused) - max(dip(visible), dip(thermal))).

    Returns:
        Gray levels; nan where the thermal image has no hot target or leaves no room around it.
    """
    _check(fused=fused, visible=visible, thermal=thermal)
    cold = thermal <= thermal.mean() + 2 * thermal.std()
    distance_px = cv2.distanceTransform(cold.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = (distance_px >= 2) & (distance_px <= 8)
    around = (distance_px >= 16) & (distance_px <= 30)
    if not near.any() or not around.any():
        return math.nan
    dip_fused, dip_visible, dip_thermal = (float(x[around].mean() - x[near].mean()) for x in (fused, visible, thermal))
    return max(0.0, dip_fused - max(dip_visible, dip_thermal))


def _check(*, smallest_px: int = 1, **images: npt.NDArray[Any]) -> None:
    for name, image in images.items():
        if image.ndim != 2 or image.dtype != np.uint8 or min(image.shape) < smallest_px:
            expected = f"a gray image (H, W) uint8 of at least {smallest_px} px in height and width"
            raise ValueError(f"{name} is {image.shape} {image.dtype}; expected {expected}")
    if len({image.shape for image in images.values()}) > 1:
        shapes = ", ".join(f"{name} {image.shape}" for name, image in images.items())
        raise ValueError(f"images differ in shape: {shapes}; bring them to one size first")


def _entropy_bits(counts: npt.NDArray[np.int64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log2(1 / p)).sum())


def _mutual_bits(source: Image8, fused: Image8) -> float:
    """I(X; Y) = H(X) + H(Y) - H(X, Y)."""
    joint = np.bincount((source.astype(np.int64) * 256 + fused).ravel(), minlength=65536).reshape(256, 256)
    return _entropy_bits(joint.sum(axis=0)) + _entropy_bits(joint.sum(axis=1)) - _entropy_bits(joint)


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / norm if norm else 0.0


def _blur_valid(image: Array, *, window_px: int, sigma_px: float) -> Array:
    """Gaussian-weighted mean over each window that lies wholly inside the image."""
    kernel = cv2.getGaussianKernel(window_px, sigma_px, cv2.CV_64F)
    height, width = image.shape
    margin = window_px // 2
    blurred = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)[margin : height - margin, margin : width - margin]
    return blurred.astype(np.float64, copy=False)


def _local_moments(x: Array, y: Array, *, window_px: int, sigma_px: float) -> tuple[Array, Array, Array, Array, Array]:
    """Windowed mean x, mean y, variance x, variance y, covariance."""
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        _blur_valid(image, window_px=window_px, sigma_px=sigma_px) for image in (x, y, x * x, y * y, x * y)
    )
    return mean_x, mean_y, mean_xx - mean_x * mean_x, mean_yy - mean_y * mean_y, mean_xy - mean_x * mean_y


def ssim_map(image: Image8, other: Image8) -> Array:
    """SSIM place by place, for two (H, W) images: (H - 10, W - 10), of the windows that lie wholly inside."""
    return _ssim_map(image.astype(np.float64), other.astype(np.float64))


def _ssim(source: Array, fused: Array) -> float:
    return float(_ssim_map(source, fused).mean())


def _ssim_map(source: Array, fused: Array) -> Array:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_s, mean_f, var_s, var_f, covariance = _local_moments(source, fused, window_px=SSIM_WINDOW_PX, sigma_px=1.5)
    luminance = (2 * mean_s * mean_f + c1) / (mean_s * mean_s + mean_f * mean_f + c1)
    structure = (2 * covariance + c2) / (var_s + var_f + c2)
    return luminance * structure


def _vif(source: Array, fused: Array) -> float:
    noise, tiny = 2.0, 1e-10
    kept = total = 0.0
    for scale in (1, 2, 3, 4):
        window_px = 2 ** (5 - scale) + 1
        if scale > 1:
            source = _blur_valid(source, window_px=window_px, sigma_px=window_px / 5)[::2, ::2]
            fused = _blur_valid(fused, window_px=window_px, sigma_px=window_px / 5)[::2, ::2]
        _, _, var_s, var_f, covariance = _local_moments(source, fused, window_px=window_px, sigma_px=window_px / 5)
        var_s, var_f = np.maximum(var_s, 0), np.maximum(var_f, 0)
        gain = covariance / (var_s + tiny)
        residual = var_f - gain * covariance
        # The corner cases of the reference code, in its order: flat source, flat output, inverted structure.
        flat_s, flat_f = var_s < tiny, var_f < tiny
        gain[flat_s | flat_f] = 0
        residual[flat_s] = var_f[flat_s]
        var_s[flat_s] = 0
        residual[flat_f] = 0
        inverted = gain < 0
        residual[inverted] = var_f[inverted]
        gain[inverted] = 0
        kept += float(np.log2(1 + gain * gain * var_s / (np.maximum(residual, tiny) + noise)).sum())
        total += float(np.log2(1 + var_s / noise).sum())
    return kept / total if total else 0.0


def _edges_zero_padded(image: Image8) -> tuple[Array, Array]:
    """Sobel magnitude and angle in (-pi/2, pi/2], as MATLAB's conv2(..., 'same') gives them."""
    x = -cv2.Sobel(image, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    y = cv2.Sobel(image, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    vertical = x == 0
    angle = np.where(vertical, np.pi / 2, np.arctan(y / np.where(vertical, 1, x)))
    return np.sqrt(x * x + y * y), angle


def _edges_mirrored(image: Image8) -> tuple[Array, Array]:
    """Sobel magnitude / 8 and angle in [-pi/2, pi/2], 0 where there is no edge; the border row mirrors its neighbor."""
    x = cv2.Sobel(image, cv2.CV_64F, 1, 0, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REFLECT_101)
    y = cv2.Sobel(image, cv2.CV_64F, 0, 1, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REFLECT_101)
    level = y == 0
    angle = np.where(level, np.sign(x) * np.pi / 2, np.arctan(x / np.where(level, 1, y)))
    return np.sqrt(x * x + y * y), angle


def _smaller_over_larger(x: Array, y: Array) -> Array:
    larger = np.maximum(x, y)
    return np.minimum(x, y) / np.where(larger == 0, 1, larger)


def _sigmoid(x: Array, *, top: float, slope: float, middle: float) -> Array:
    return top / (1 + np.exp(-slope * (x - middle)))


def _backward_flow(*, previous: Image8, current: Image8) -> tuple[Map, Map, npt.NDArray[np.bool_]]:
    """Find where each current pixel was in the previous image (remap tables), and where that can be trusted."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    previous, current = np.ascontiguousarray(previous), np.ascontiguousarray(current)
    no_guess = np.zeros((1, 1, 2), np.float32)  # of the image's size it would be taken as a first guess
    backward, forward = dis.calc(current, previous, no_guess), dis.calc(previous, current, no_guess)
    height, width = current.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    map_x, map_y = columns + backward[..., 0], rows + backward[..., 1]
    inside = (map_x >= 0) & (map_x <= width - 1) & (map_y >= 0) & (map_y <= height - 1)
    round_trip = backward + cv2.remap(forward, map_x, map_y, cv2.INTER_LINEAR)
    agrees = np.hypot(round_trip[..., 0], round_trip[..., 1]) < FLOW_TOLERANCE_PX
    return map_x, map_y, inside & agrees
