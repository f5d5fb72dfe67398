"""The kernels in NumPy: what layers.c computes, to the bit, in words that are easier to read. Slow; for tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rtfusion.models.layers import BLOCK_PX, Layers
from rtfusion.types import Image8

Plane = npt.NDArray[np.float32]
F = np.float32
OFFSETS = (np.arange(BLOCK_PX) - (BLOCK_PX - 1) / 2) / BLOCK_PX
"""Of the pixels of a block from its middle, in blocks."""


class TwinLayers:
    """As `rtfusion.kernels.layers.CompiledLayers`."""

    def __init__(self, layers: Layers, *, size_px: tuple[int, int], padded_px: tuple[int, int]) -> None:
        self._layers, self._size_px, self._padded_px = layers, size_px, padded_px
        columns, rows = (side // BLOCK_PX for side in padded_px)
        self.grid = rows, columns

    def split(
        self, *, visible: Image8, thermal: Image8, means: tuple[float, float], enhance: float, seen: Image8
    ) -> None:
        """Write what the network sees of both images into ``seen``."""
        layers = self._layers
        width, height = self._size_px
        below, right = self._padded_px[1] - height, self._padded_px[0] - width
        blocks = [_blocks(np.pad(image, ((0, below), (0, right)), mode="edge")) for image in (visible, thermal)]
        self._means = [pixels.sum(axis=2, dtype=np.int32).astype(F) * F(1 / 16) for pixels in blocks]
        self._fine = [pixels.astype(F) - _lifted(mean) for pixels, mean in zip(blocks, self._means, strict=True)]
        once = [_blurred(mean, apart=1) for mean in self._means]
        self._base = [_blurred(blurred, apart=2) for blurred in once]
        self._activity = [_activity(fine) for fine in self._fine]
        self._details = [
            [mean - blurred for mean, blurred in zip(self._means, once, strict=True)],
            [blurred - base for blurred, base in zip(once, self._base, strict=True)],
        ]
        self._distance = [np.abs(base - F(255 * mean)) for base, mean in zip(self._base, means, strict=True)]
        self._far = F(max(0.0, (enhance - layers.far_from) / (1 - layers.far_from)))
        strengths = [np.abs(detail) for both in self._details for detail in both]
        detail_scale = F(layers.detail_scale)
        seen[0, :, :, :32] = np.concatenate(blocks, axis=2)
        for channel, strength in enumerate(strengths):
            seen[0, :, :, 32 + channel] = _level(strength * detail_scale)
        for band in range(2):
            seen[0, :, :, 36 + band] = _level(self._distance[band] * F(layers.base_scale))
            seen[0, :, :, 38 + band] = _level(self._activity[band] * detail_scale)

    def join(self, *, gains: Image8, heads: Plane, fused: Image8) -> None:
        """Write the picture of the pair that was split last into ``fused``."""
        layers, smooth = self._layers, self._smooth(heads[0])
        judged = []
        for band, (low, high) in enumerate((layers.visible_gains, layers.thermal_gains)):
            gain = gains[0, :, :, 16 * band : 16 * band + 16].astype(F) * F((high - low) / 255) + F(low)
            judged.append(self._cored(gain, np.abs(self._fine[band])))
        visible, thermal = (
            fine * self._shown(activity)[..., None] for fine, activity in zip(self._fine, self._activity, strict=True)
        )
        lead = np.abs(self._fine[1]) - np.abs(self._fine[0])
        preferred = F(layers.pick_gain) / (F(1) + _exponential(lead * F(layers.slopes_per_gray[0])))
        value = judged[0] * visible + judged[1] * thermal
        value += preferred * (visible - thermal) + F(layers.pick_gain) * thermal
        value += _lifted(smooth)
        height, width = fused.shape
        fused[:] = _picture(_level(np.maximum(value, F(0))))[:height, :width]

    def _smooth(self, heads: Plane) -> Plane:
        """What is shown of d1, d2 and the base, and the offset, (rows, columns)."""
        layers = self._layers
        gain = F(1) + F(layers.far_gain) * self._far
        full = F(layers.pick_gain) * gain
        smooth = np.zeros(self.grid, F)
        for layer, (visible, thermal) in enumerate(self._details):
            strength_v, strength_t = np.abs(visible), np.abs(thermal)
            picked = full / (F(1) + _exponential((strength_t - strength_v) * F(layers.slopes_per_gray[1 + layer])))
            said = heads[..., 2 * layer] * gain, heads[..., 2 * layer + 1] * gain
            smooth += (picked + self._cored(said[0], strength_v)) * visible
            smooth += ((full - picked) + self._cored(said[1], strength_t)) * thermal
        mine = self._distance[0] + F(layers.floor_gray)
        other = (self._distance[1] + F(layers.floor_gray)) * _exponential(heads[..., 4] + heads[..., 5])
        smooth += self._base[1] + mine / (mine + other) * (self._base[0] - self._base[1])
        offset = F(layers.offset_gray)
        shift: Plane = smooth + (F(2) * offset / (F(1) + _exponential(heads[..., 6] + heads[..., 7])) - offset)
        return shift

    def _cored(self, gain: Plane, strength: Plane) -> Plane:
        """What amplifies counts less for details of few gray levels."""
        coring = self._layers.coring_gray
        if not coring:
            return gain
        counted: Plane = np.minimum(gain, gain * np.minimum(strength * F(1 / coring), F(1)))
        return counted

    def _shown(self, activity: Plane) -> Plane:
        """How much of d0 a block shows."""
        layers = self._layers
        clear = (activity - F(layers.faint_gray)) * F(1 / (layers.clear_gray - layers.faint_gray))
        shown: Plane = F(1) - self._far * (F(1) - np.clip(clear, F(0), F(1)))
        return shown


def _blocks(image: Image8) -> Image8:
    """(H, W) to (rows, columns, 16)."""
    height, width = image.shape
    cut = image.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    blocks: Image8 = cut.transpose(0, 2, 1, 3).reshape(height // BLOCK_PX, width // BLOCK_PX, BLOCK_PX**2)
    return blocks


def _picture(blocks: Image8) -> Image8:
    """(rows, columns, 16) to (H, W)."""
    rows, columns, _ = blocks.shape
    cut = blocks.reshape(rows, columns, BLOCK_PX, BLOCK_PX).transpose(0, 2, 1, 3)
    picture: Image8 = cut.reshape(rows * BLOCK_PX, columns * BLOCK_PX)
    return picture


def _lifted(plane: Plane) -> Plane:
    """Interpolate (rows, columns) to the pixels of blocks, (rows, columns, 16): first down, then across."""
    near = [F(1 - abs(offset)) for offset in OFFSETS]
    far = [F(abs(offset)) for offset in OFFSETS]
    extended = np.pad(plane, 1, mode="edge")
    pixels = []
    for y, down in enumerate(OFFSETS):
        other = extended[:-2] if down < 0 else extended[2:]
        line = near[y] * extended[1:-1] + far[y] * other
        for x, across in enumerate(OFFSETS):
            pixels.append(near[x] * line[:, 1:-1] + far[x] * (line[:, :-2] if across < 0 else line[:, 2:]))
    return np.stack(pixels, axis=2)


def _activity(fine: Plane) -> Plane:
    """Mean of the strengths of a block, summed row by row."""
    rows = np.abs(fine).reshape(*fine.shape[:2], BLOCK_PX, BLOCK_PX)
    activity = np.zeros(fine.shape[:2], F)
    for y in range(BLOCK_PX):
        row = np.zeros(fine.shape[:2], F)
        for x in range(BLOCK_PX):
            row += rows[:, :, y, x]
        activity += row * F(1 / 16)
    return activity


def _blurred(plane: Plane, *, apart: int) -> Plane:
    """The binomial blur, its taps so many blocks apart: first down, then across."""
    for axis in (0, 1):
        extended = np.pad(plane, [(2 * apart, 2 * apart) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        taps = [np.take(extended, np.arange(tap * apart, tap * apart + plane.shape[axis]), axis) for tap in range(5)]
        plane = (taps[0] + taps[4]) * F(1 / 16) + (taps[1] + taps[3]) * F(1 / 4) + taps[2] * F(3 / 8)
    return plane


def _level(value: Plane) -> Image8:
    """Round half up what is not negative."""
    return (np.minimum(value, F(255)) + F(0.5)).astype(np.uint8)


def _exponential(x: Plane) -> Plane:
    """exp(x) to a ten-thousandth, of what is in -80 to 80."""
    exponent = np.clip(x, F(-80), F(80)) * F(1.44269504)
    whole = (exponent + F(12582912)) - F(12582912)
    f = exponent - whole
    value = ((F(5.517166e-2) * f + F(2.4261112e-1)) * f + F(6.9326099e-1)) * f + F(9.9992807e-1)
    scale = ((whole.astype(np.int32) + 127) << 23).view(F)
    power: Plane = value * scale
    return power
