"""Differentiable terms for the fidelity of a fused picture to its two sources, each a pure function.

Images are (N, 1, H, W) in [0, 1]; a term gives one value per picture, shape (N,), 0 is best unless said. Windows are boxes
evaluated on a grid, not at every pixel: an 11 x 11 Gaussian at every pixel would take most of a training step on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

GRAY_LEVEL = 1 / 255
AROUND_PX = 40
"""What `dip_loss` compares with; pictures are of this side or larger."""


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives / 8 in x and y over the valid region, (N, 1, H - 2, W - 2)."""
    smooth_y = image[:, :, :-2] + 2 * image[:, :, 1:-1] + image[:, :, 2:]
    smooth_x = image[:, :, :, :-2] + 2 * image[:, :, :, 1:-1] + image[:, :, :, 2:]
    return (smooth_y[..., 2:] - smooth_y[..., :-2]) / 8, (smooth_x[:, :, 2:] - smooth_x[:, :, :-2]) / 8


def gradient_power(*, visible: Tensor, thermal: Tensor) -> Tensor:
    """Squared length of the longer of the two bands' gradients, (N, 1, H, W); the border repeats the nearest inner value."""
    power = torch.stack([torch.stack(gradients(band)).square().sum(dim=0) for band in (visible, thermal)])
    return functional.pad(power.amax(dim=0), (1, 1, 1, 1), mode="replicate")


def gradient_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, gain: Tensor) -> Tensor:
    """Mean |grad F - gain g| with g, at each pixel, the longer of the two sources' gradients, sign included.

    ``gain`` is (N, 1, H, W) or broadcasts to it: 1 keeps the sources' contrast.
    """
    fx, fy = gradients(fused)
    gx, gy = _longer(gradients(visible), gradients(thermal))
    if gain.shape[-1] > 1:
        gain = gain[:, :, 1:-1, 1:-1]
    return ((fx - gain * gx).abs() + (fy - gain * gy).abs()).mean(dim=(1, 2, 3))


def edge_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """1 - Qabf (Xydeas and Petrovic; see `rtfusion.evaluate.metrics.qabf`), without the rim of the picture, angles modulo pi."""
    kept = total = torch.zeros((), device=fused.device)
    fx, fy = gradients(fused)
    magnitude_f = _length(fx, fy)
    for source in (visible, thermal):
        sx, sy = gradients(source)
        magnitude = _length(sx, sy)
        strength = torch.minimum(magnitude, magnitude_f) / torch.maximum(magnitude, magnitude_f)
        cosine = ((fx * sx + fy * sy).abs() / (magnitude * magnitude_f)).clamp(max=0.999)
        alignment = 1 - torch.acos(cosine) / (math.pi / 2)
        quality = 0.9994 * torch.sigmoid(15 * (strength - 0.5)) * 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
        kept = kept + (quality * magnitude).sum(dim=(1, 2, 3))
        total = total + magnitude.sum(dim=(1, 2, 3))
    return 1 - kept / total


def ssim_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """1 - mean of w SSIM(visible, F) + (1 - w) SSIM(thermal, F) over windows of 7 px, every 3 px.

    w lies half way between 1/2, as the metric has it, and a / (a + b), the share of the local variances.
    """
    c1, c2, window_px, step_px = 0.01**2, 0.03**2, 7, 3
    mean_f, var_f = local_moments(fused, window_px=window_px, step_px=step_px)
    values, activity = [], []
    for source in (visible, thermal):
        mean_s, var_s = local_moments(source, window_px=window_px, step_px=step_px)
        product = functional.avg_pool2d(source * fused, window_px, step_px)
        covariance = product - mean_s * mean_f
        luminance = (2 * mean_s * mean_f + c1) / (mean_s**2 + mean_f**2 + c1)
        values.append(luminance * (2 * covariance + c2) / (var_s + var_f + c2))
        activity.append(var_s + 1e-4)
    weight = 0.25 + 0.5 * activity[0] / (activity[0] + activity[1])
    return 1 - (weight * values[0] + (1 - weight) * values[1]).mean(dim=(1, 2, 3))


def vif_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """2 - VIF with box windows of 9, 7, 5 and 3 px at four scales (see `rtfusion.evaluate.metrics.vif`)."""
    loss = torch.full((), 2.0, device=fused.device)
    for source in (visible, thermal):
        loss = loss - _information_kept(source * 255, fused * 255)
    return loss


def _information_kept(source: Tensor, fused: Tensor) -> Tensor:
    noise = 2.0
    kept = total = torch.zeros((), device=fused.device)
    for window_px in (9, 7, 5, 3):
        step_px = 4 if window_px == 9 else 2
        mean_s, var_s = local_moments(source, window_px=window_px, step_px=step_px)
        mean_f, var_f = local_moments(fused, window_px=window_px, step_px=step_px)
        covariance = functional.avg_pool2d(source * fused, window_px, step_px) - mean_s * mean_f
        gain = (covariance / (var_s + 0.1)).clamp(min=0)
        residual = (var_f - gain * covariance).clamp(min=0)
        area = step_px**2
        kept = kept + area * torch.log2(1 + gain**2 * var_s / (residual + noise)).sum(dim=(1, 2, 3))
        total = total + area * torch.log2(1 + var_s / noise).sum(dim=(1, 2, 3))
        source, fused = functional.avg_pool2d(source, 2), functional.avg_pool2d(fused, 2)
    return kept / (total + 1e-3)


def source_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """Natural logarithm of the mean squared error to both sources, over that of their average: 0 for the average."""
    error = ((fused - visible) ** 2 + (fused - thermal) ** 2).mean(dim=(1, 2, 3))
    least = ((visible - thermal) ** 2).mean(dim=(1, 2, 3)) / 2
    return torch.log((error + 1e-3) / (least + 1e-3))


def scd_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """2 - SCD: correlations of F - thermal with the visible and of F - visible with the thermal band."""
    return 2 - correlation(fused - thermal, visible) - correlation(fused - visible, thermal)


def contrast_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, gain: Tensor) -> Tensor:
    """Amount by which log SD(F) stays below the logarithm of ``gain`` (N,) times the root of the sources' summed variances."""
    deviation = (fused.var(dim=(1, 2, 3)) + 1e-5).sqrt()
    reference = (visible.var(dim=(1, 2, 3)) + thermal.var(dim=(1, 2, 3)) + 1e-5).sqrt()
    return functional.relu(torch.log(gain * reference) - torch.log(deviation))


def seam_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, gain: float) -> Tensor:
    """Amount by which coarse gradients (cells of 4, 8, 16 px) exceed ``gain`` times those of both bands: seams are new edges."""
    loss = torch.zeros((), device=fused.device)
    for cell_px in (4, 8, 16):
        lengths = []
        for image in (fused, visible, thermal):
            cells = functional.avg_pool2d(image, cell_px)
            lengths.append(
                _length(cells[:, :, :-1, 1:] - cells[:, :, :-1, :-1], cells[:, :, 1:, :-1] - cells[:, :, :-1, :-1])
            )
        loss = loss + functional.relu(lengths[0] - gain * torch.maximum(lengths[1], lengths[2])).mean(dim=(1, 2, 3))
    return loss


def outside_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, margin: float) -> Tensor:
    """Distance by which local means (8 px) leave the range of the two bands' local means, beyond a margin."""
    f, v, t = (functional.avg_pool2d(image, 8, 4) for image in (fused, visible, thermal))
    below, above = functional.relu(torch.minimum(v, t) - f - margin), functional.relu(f - torch.maximum(v, t) - margin)
    return (below + above).mean(dim=(1, 2, 3))


def clipping_loss(fused: Tensor) -> Tensor:
    """Mean distance by which pixels leave [0, 1]."""
    return (functional.relu(fused - 1) + functional.relu(-fused)).mean(dim=(1, 2, 3))


def halo_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, distance_px: Tensor) -> Tensor:
    """`rtfusion.evaluate.metrics.halo` / 255: the dip around hot targets beyond the larger dip of the two bands.

    ``distance_px`` (N, 1, H, W): how far every pixel is from the nearest hot one. 0 where there is no room to measure.
    """
    near = ((distance_px >= 2) & (distance_px <= 8)).to(fused.dtype)
    around = ((distance_px >= 16) & (distance_px <= 30)).to(fused.dtype)
    enough = (near.sum(dim=(1, 2, 3)) >= 50) & (around.sum(dim=(1, 2, 3)) >= 50)

    def dip(image: Tensor) -> Tensor:
        return _masked_mean(image, around) - _masked_mean(image, near)

    return functional.relu(dip(fused) - torch.maximum(dip(visible), dip(thermal))) * enough


def dip_loss(fused: Tensor, *, visible: Tensor, thermal: Tensor, distance_px: Tensor) -> Tensor:
    """Dark seams and bright glow at every place near hot targets (2 to 12 px from one), on average.

    With D(x) = mean of x over 8 px - mean of x over 40 px about the same place, it is the mean of how far D(F) leaves the
    interval of D(V) and D(T).
    """
    differences = []
    for image in (fused, visible, thermal):
        near = functional.avg_pool2d(image, 8, 4)[:, :, 4:-4, 4:-4]
        differences.append(near - functional.avg_pool2d(image, AROUND_PX, 4))
    around_hot = ((distance_px >= 2) & (distance_px <= 12)).to(fused.dtype)
    weight = functional.avg_pool2d(around_hot, 8, 4)[:, :, 4:-4, 4:-4]
    low, high = torch.minimum(differences[1], differences[2]), torch.maximum(differences[1], differences[2])
    outside = functional.relu(low - differences[0]) + functional.relu(differences[0] - high)
    return (outside * weight).sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) + 1)


def steadiness_loss(fused: Tensor, *, previous: Tensor, valid: Tensor) -> Tensor:
    """Mean |F - previous F|, the latter brought to the present view, where ``valid`` (1 or 0) says it can be compared."""
    return ((fused - previous).abs() * valid).sum(dim=(1, 2, 3)) / (valid.sum(dim=(1, 2, 3)) + 1)


def local_moments(image: Tensor, *, window_px: int, step_px: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of windows of ``window_px``, every ``step_px``."""
    mean = functional.avg_pool2d(image, window_px, step_px)
    return mean, (functional.avg_pool2d(image**2, window_px, step_px) - mean**2).clamp(min=0)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's, per picture; 0 where one has no variation."""
    x, y = x - x.mean(dim=(1, 2, 3), keepdim=True), y - y.mean(dim=(1, 2, 3), keepdim=True)
    norm = (x**2).mean(dim=(1, 2, 3)) * (y**2).mean(dim=(1, 2, 3))
    return (x * y).mean(dim=(1, 2, 3)) / (norm + 1e-8).sqrt()


def _masked_mean(image: Tensor, mask: Tensor) -> Tensor:
    return (image * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1)


def _length(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + y**2 + (0.1 * GRAY_LEVEL) ** 2).sqrt()


def _longer(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    chosen = a[0] ** 2 + a[1] ** 2 >= b[0] ** 2 + b[1] ** 2
    return torch.where(chosen, a[0], b[0]), torch.where(chosen, a[1], b[1])
