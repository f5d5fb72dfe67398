"""The student as engines run it: the same function of the same weights, in fewer and larger steps.

`Student` is the definition, and what is trained. Engines lose more time between small tensors than in them, so here

- the six coarse planes of both bands, d1, d2 and base, stand in one tensor of eight channels, from two depthwise convolutions;
- everything that is said of a block (four gains, which base, the offset) is one gate for each of these channels::

      fused block = sum_c f_c (a_c u_c / (u_c + t_c exp(e_c)) + cored h_c) plane_c

  with u = 1, t = 1 and e the negative logit it is a sigmoid; with u and t how far both bases stand out, the weight of a base;
  f is 1, and grows for details at the far end of the dial.
  The planes' seventh channel is 1 and carries the offset, as tanh(x / 4) = 2 sigmoid(x / 2) - 1;
- all of that is judged by one convolution; gains of pixels and their products are one expression without branches;
- blocks are joined by transpositions that leave rows of pixels together, where a pixel-shuffle moves single ones;
- relu(x + s) is written max(x, -s) + s, which engines compute in one pass with what follows it.

Measured in docs/experiments.md; equal to `Student` in float64 up to rounding (tests/trainer/test_inference.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion.models.layers import Layers, Range
from rtfusion_trainer.student import (
    BASE_SCALE,
    BLOCK_PX,
    CLEAR,
    DETAIL_SCALE,
    FAINT,
    FAR_FROM,
    FAR_GAIN,
    OFFSET_RANGE,
    PICK_GAIN,
    SALIENCY_FLOOR,
    Student,
    Trunk,
    bias_of,
    cored,
    extend,
    far_end,
    fixed,
    shown,
)

_PLANES = 8
"""d1 visible, d1 thermal, d2 visible, d2 thermal, base visible, base thermal, one, nothing."""


def _of_planes(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, _PLANES, 1, 1)


_VISIBLE = _of_planes(1, 0, 1, 0, 1, 0, 0, 0)
_THERMAL = _of_planes(0, 1, 0, 1, 0, 1, 0, 0)
_DETAILS = _of_planes(1, 1, 1, 1, 0, 0, 0, 0)
_BASES = _of_planes(0, 0, 0, 0, 1, 1, 0, 0)
_ONE = _of_planes(0, 0, 0, 0, 0, 0, 1, 0)
_FLOOR = _of_planes(1, 1, 1, 1, SALIENCY_FLOOR, SALIENCY_FLOOR, 1, 1)
_HEIGHT = _of_planes(*[PICK_GAIN] * 4, 1, 1, 2 * OFFSET_RANGE, 0)
_SEEN = _of_planes(*[DETAIL_SCALE] * 4, BASE_SCALE, BASE_SCALE, 0, 0)
_SEEN_VISIBLE = _of_planes(0, 0, 0, 0, 0, 0, 1, 0)
_SEEN_THERMAL = _of_planes(0, 0, 0, 0, 0, 0, 0, 1)
"""Scales of the planes as the network sees them, and the places of the activity of d0 of either band."""


_WHITE = 255
_TAIL_PERCENT = 0.01
"""So much of the gains of pixels, at either end, may be cut off when they are told apart in 8 bits."""


def layers_of(student: Student, calibration: Sequence[Mapping[str, npt.NDArray[np.float32]]]) -> Layers:
    """The constants by which a host computes the fixed part itself; gains are measured on these inputs of the student."""
    visible_gains, thermal_gains = _gain_ranges(student, calibration)
    one, two, three = (float(slope) / _WHITE for slope in student.slope.detach().exp())
    return Layers(
        slopes_per_gray=(one, two, three),
        coring_gray=student.network.coring,
        pick_gain=PICK_GAIN,
        detail_scale=DETAIL_SCALE,
        base_scale=BASE_SCALE,
        floor_gray=SALIENCY_FLOOR * _WHITE,
        offset_gray=OFFSET_RANGE * _WHITE,
        faint_gray=FAINT * _WHITE,
        clear_gray=CLEAR * _WHITE,
        far_from=FAR_FROM,
        far_gain=FAR_GAIN,
        visible_gains=visible_gains,
        thermal_gains=thermal_gains,
    )


def _gain_ranges(student: Student, calibration: Sequence[Mapping[str, npt.NDArray[np.float32]]]) -> tuple[Range, Range]:
    """Between which values all but a few of the gains of visible and of thermal pixels are."""
    seen: dict[nn.Module, list[npt.NDArray[np.float32]]] = {student.fine_visible: [], student.fine_thermal: []}
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, gains: seen[layer].append(gains.numpy().ravel()))
        for layer in seen
    ]
    with torch.no_grad():
        for inputs in calibration:
            student(**{name: torch.from_numpy(values) for name, values in inputs.items()})
    for hook in hooks:
        hook.remove()
    return _between(seen[student.fine_visible]), _between(seen[student.fine_thermal])


def _between(gains: Sequence[npt.NDArray[np.float32]]) -> Range:
    low, high = np.percentile(np.concatenate(gains), (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    return float(low), max(float(high), float(low) + 0.01)  # 256 levels need some room, even where all are the same


class Inference(nn.Module):
    """A trained student for one pair of pictures, (1, 1, H, W), clipped to [0, 1]; see `Student`."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        layers = student.layers
        self.slope = float(student.slope.detach()[0].exp())
        self.coring = student.network.coring
        self.trunk = _Trunk(student.trunk)
        self.fine_visible, self.fine_thermal = student.fine_visible, student.fine_thermal
        self.heads = _heads(student)
        blur, identity, nothing = layers.blur[0, 0], torch.zeros(5, 5), torch.zeros(5, 5)
        identity[2, 2] = 1
        rest = identity - blur
        self.cut, self.mean, self.rise = fixed(layers.cut), fixed(layers.mean), fixed(layers.rise)
        self.activity, self.fall = fixed(DETAIL_SCALE * layers.mean), fixed(-layers.rise)
        once = torch.stack((rest, rest, blur, blur, blur, blur, nothing, nothing))
        twice = torch.stack((identity, identity, rest, rest, blur, blur, nothing, nothing))
        self.once, self.twice = fixed(once[:, None]), fixed(twice[:, None])
        self.of_base = fixed(torch.eye(_PLANES)[:, 4:6, None, None])
        self.compare = fixed(_comparison(student))

    def forward(
        self, visible_y: Tensor, thermal: Tensor, enhance: Tensor, visible_mean: Tensor, thermal_mean: Tensor
    ) -> Tensor:
        """Fuse, as `Student.forward` does."""
        visible, thermal = (functional.conv2d(image, self.cut, stride=BLOCK_PX) for image in (visible_y, thermal))
        mean_v, mean_t = functional.conv2d(visible, self.mean), functional.conv2d(thermal, self.mean)
        fine_v = visible + functional.conv2d(extend(mean_v, 1), self.fall)
        fine_t = thermal + functional.conv2d(extend(mean_t, 1), self.fall)
        planes = self._planes(mean_v, mean_t)
        means = torch.cat((visible_mean, thermal_mean), dim=1)
        expected = functional.conv2d(means, self.of_base)
        strength = torch.maximum(planes - expected, expected - planes)
        activity_v, activity_t = (functional.conv2d(fine.abs(), self.activity) for fine in (fine_v, fine_t))
        activity = (strength * _SEEN + activity_v * _SEEN_VISIBLE + activity_t * _SEEN_THERMAL).clamp(max=1)
        scalars = torch.cat((means, enhance), dim=1)
        features = self.trunk(torch.cat((visible, thermal, activity), dim=1), scalars)

        preferred = torch.sigmoid(self.slope * (fine_v.abs() - fine_t.abs()))
        gain_v, gain_t = self.fine_visible(features), self.fine_thermal(features)
        far = far_end(enhance)
        shown_v, shown_t = shown(activity_v, far) * fine_v, shown(activity_t, far) * fine_t
        fine = cored(gain_v, fine_v.abs(), self.coring) * shown_v + cored(gain_t, fine_t.abs(), self.coring) * shown_t
        fine = fine + (preferred * (PICK_GAIN * (shown_v - shown_t)) + PICK_GAIN * shown_t)
        gates = self._gates(strength, self.heads(features), 1 + FAR_GAIN * far * _DETAILS)
        smooth = (gates * (planes + _ONE)).sum(dim=1, keepdim=True)
        smooth = functional.conv2d(extend(smooth, 1), self.rise)
        return _join((torch.maximum(fine, -smooth) + smooth).clamp(max=1), BLOCK_PX, 1)

    def _planes(self, mean_v: Tensor, mean_t: Tensor) -> Tensor:
        """Block means of both bands to the planes, (1, 8, H / 4, W / 4), the one not yet among them."""
        means = mean_v * _VISIBLE + mean_t * _THERMAL
        once = functional.conv2d(extend(means, 2), self.once, groups=_PLANES)
        return functional.conv2d(extend(once, 4), self.twice, dilation=2, groups=_PLANES)

    def _gates(self, strength: Tensor, heads: Tensor, gain: Tensor) -> Tensor:
        """Weight of each plane; ``gain`` (1, 8, 1, 1) is that of the planes at this setting of the dial."""
        compared = functional.conv2d(strength, self.compare)
        mine = strength * _BASES + _FLOOR
        other = (compared * _BASES + _FLOOR) * torch.exp(compared * _DETAILS + heads * (_BASES + _ONE))
        judged = cored(heads * (gain * _DETAILS), strength, self.coring)
        return mine / (mine + other) * (gain * _HEIGHT) + (judged - OFFSET_RANGE * _ONE)


class _Trunk(nn.Module):
    """`Trunk`, which sees the activity in the order of the planes."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        seen = trunk.enter.in_channels - _PLANES
        order = [*range(seen), *range(seen + 2, seen + _PLANES), seen, seen + 1]
        self.enter = _convolution(trunk.enter.weight[:, order], trunk.enter.bias, padding=1)
        # a block's four pixels one after the other, each with all its channels
        order = torch.arange(trunk.up.out_channels).reshape(-1, 4).T.flatten().tolist()
        self.up = _convolution(trunk.up.weight[order], bias_of(trunk.up)[order])
        self.scene_before, self.scene_after = trunk.scene_before, trunk.scene_after
        self.body, self.down, self.middle, self.merge = trunk.body, trunk.down, trunk.middle, trunk.merge

    def forward(self, seen: Tensor, scalars: Tensor) -> Tensor:
        before, after = self.scene_before(scalars), self.scene_after(scalars)
        fine = torch.maximum(self.enter(seen), -before) + before
        for layer in self.body:
            fine = functional.relu(fine + layer(fine))
        context = functional.relu(self.down(fine))
        for layer in self.middle:
            context = functional.relu(context + layer(context))
        merged: Tensor = self.merge(fine + _join(self.up(context), 2, self.merge.in_channels))
        return torch.maximum(merged, -after) + after


class _Join(torch.autograd.Function):
    """(1, size^2 C, h, w), channels in the order row, column, C, to (1, C, size h, size w)."""

    @staticmethod
    def forward(ctx: Any, blocks: Tensor, size: int, channels: int) -> Tensor:
        height, width = blocks.shape[2:]
        rows = blocks.reshape(size, size, channels, height, width).permute(2, 3, 0, 4, 1)
        return rows.reshape(1, channels, size * height, size * width)

    @staticmethod
    def symbolic(graph: Any, blocks: Any, size: int, channels: int) -> Any:
        def shaped(value: Any, *shape: int) -> Any:
            return graph.op("Reshape", value, graph.op("Constant", value_t=torch.tensor(shape)))

        rows = graph.op("Transpose", blocks, perm_i=[0, 2, 3, 1])  # no work, as engines keep channels last
        rows = graph.op("Squeeze", rows, graph.op("Constant", value_t=torch.tensor([0])))
        rows = graph.op("Transpose", shaped(rows, 0, 0, size, -1), perm_i=[0, 2, 1, 3])
        if channels == 1:
            return shaped(shaped(rows, 0, 0, 1, -1), 1, 1, -1, 0)
        return graph.op("Transpose", shaped(shaped(rows, 0, 0, -1, channels), 1, -1, 0, 0), perm_i=[0, 3, 1, 2])


def _join(blocks: Tensor, size: int, channels: int) -> Tensor:
    joined: Tensor = _Join.apply(blocks, size, channels)  # type: ignore[no-untyped-call]
    return joined


def _heads(student: Student) -> nn.Conv2d:
    """One convolution for all heads of a block: four gains, the negative logits of either base and of the offset."""
    signs = ((student.coarse, 1.0), (student.side, -1.0), (student.side, 1.0), (student.offset, -0.5))
    weights, biases = [], []
    for layer, sign in signs:
        weights.append(sign * layer.weight)
        biases.append(sign * bias_of(layer))
    none = _PLANES - sum(len(bias) for bias in biases)
    weight, bias = functional.pad(torch.cat(weights), (0, 0, 0, 0, 0, 0, 0, none)), torch.cat(biases)
    return _convolution(weight, functional.pad(bias, (0, none)))


def _comparison(student: Student) -> Tensor:
    """Strengths to negative logits of d1 and d2, and to how far the other band's base stands out."""
    one, two = (float(slope) for slope in student.slope.detach().exp()[1:])
    kernel = torch.zeros(_PLANES, _PLANES)
    kernel[:4, :4] = -student.layers.difference[..., 0, 0] * torch.tensor([one, one, two, two])[:, None]
    kernel[4, 5] = kernel[5, 4] = 1
    return kernel[..., None, None]


def _convolution(weight: Tensor, bias: Tensor | None, *, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=padding, bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
    return layer
